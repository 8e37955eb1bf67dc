"""All decoder layers of one step as one kernel.

A step reads every weight once, and takes about as long as this reading. Returning to Python and waking threads between
operations would add much to that, so the threads synchronise inside the kernel. If b answers are generated at once,
the weights are read once for all of them.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable

from ...ragged import Array, Ints, States
from ..interface import SequenceLayout
from .absorbed_attention import AbsorbedScratch, absorbed_scratch, attend_absorbed, packed_memory
from .cross_attention import (  # fmt: skip
    CROSS_K,
    CROSS_OUT,
    CROSS_Q,
    CROSS_V,
    OUT,
    WI_0,
    WI_1,
    WO,
    PackedMemory,
    Prepared,
    Q,
    V,
    project,
    projected_phase,
)
from .encoder_fused import by_head, cost, prepare_phase, prepared, product_phase, ready_phase, result_buffers
from .kernels.attention import attend_past, row_of
from .kernels.descriptors import Rows, Tile
from .kernels.epilogue import ADD, GATE, RELU, STORE
from .kernels.gemm import PAIR, attended_in, pack
from .kernels.llvm_ir import LANES
from .kernels.memory import address, copy, scratch
from .runtime.allocator import aligned, plain
from .runtime.compile_cache import Kernel
from .runtime.thread_pool import barrier, finish_task, next_task, run_phased

PHASES = 20  # maximum number of phases of a layer
GROWTH = 32  # minimum number of tokens by which the capacity of a buffer grows


class KVBuffer:
    """A buffer for the keys and values of self-attention: [layers 2 b capacity hc].

    It holds the keys and values of the first `read` [b] tokens of each sequence. A step writes those of the new tokens
    behind them. A step from an older state of the cache gets a copy first.
    """

    def __init__(self, numbers: Array, read: Ints) -> None:
        self.numbers, self.read = numbers, read

    def __getitem__(self, layer: int) -> Array:
        """The keys and values of a layer: [2 b capacity hc]."""
        return self.numbers[layer]

    def behind(self, before: Ints, longest: int) -> Array:
        """The buffer itself if it holds `before` tokens of each sequence and has room for `longest`; else a copy."""
        layers, two, b, capacity, hc = self.numbers.shape
        if longest <= capacity and (self.read == before).all():
            return self.numbers
        numbers = aligned(layers, two, b, max(longest + GROWTH, 2 * capacity), hc)
        numbers[:, :, :, :capacity] = self.numbers
        return numbers


class Layers(NamedTuple):
    """All layers: weights [layers 11] WEIGHT, gains [layers 3 d], epsilon of the norms, mode (GATE or RELU)."""

    weights: Any
    gains: Any
    eps: float
    mode: int


class NewTokens(NamedTuple):
    """The new tokens' operands of self-attention.

    Args:
        cache: [layers 2 b capacity hc] keys and values of the earlier tokens. Those of the new tokens are added.
        bias: [h 2D+1+16] the result of `by_head`.
        positions: [N] positions of the new tokens.
    """

    cache: Any
    bias: Any
    positions: Any


class StepScratch(NamedTuple):
    """Buffers for the intermediate results of a step.

    Args:
        xs: [4 N d] the input of a layer, the states after its two attentions, and its output.
        ready, scales: rows prepared as left operands of a product, and their int8 scales.
        qkv: [3 N hc] queries, keys and values.
        mixed, mixed_ready: [N hc] the results of attention, and their rows prepared as left operands.
        hidden, hidden_ready: [1 N f] the hidden layer of the feed-forward, and its rows prepared as left operands.
    """

    xs: Any
    ready: Any
    scales: Any
    qkv: Any
    mixed: Any
    mixed_ready: Any
    hidden: Any
    hidden_ready: Any


@register_jitable
def self_attention_phase(
    counters: Any, phase: int, cache: Any, qkv: Any, new: NewTokens, owner: Any, heads: int, out: Any
) -> Any:
    """Copies the new tokens' keys and values into the cache [2 b capacity hc], then computes their attention.

    A task is one head. `owner` [N] is the sequence of each row. The result for a row does not depend on other rows.
    """
    scores, bias, positions = scratch(row_of(cache.shape[2])), new.bias, new.positions
    c, reach, row = qkv.shape[2] // heads, (bias.shape[1] - LANES - 1) // 2, 4 * cache.shape[3]
    head = next_task(counters, phase)
    while head < heads:
        here = 4 * head * c
        for i in range(len(owner)):
            for n in range(2):
                copy(address(qkv[n + 1, i]) + here, c, address(cache[n, owner[i], positions[i]]) + here)
        for i in range(len(owner)):
            keys, values = address(cache[0, owner[i]]) + here, address(cache[1, owner[i]]) + here
            biases = address(bias[head]) + 4 * (reach - positions[i])
            attend_past(
                address(qkv[0, i]) + here, keys, values, row, positions[i] + 1, c, biases, scores,
                address(out[i]) + here,
            )  # fmt: skip
        finish_task(counters, phase)
        head = next_task(counters, phase)
    barrier(counters, phase, heads)


@Kernel
def decoder_kernel(
    counters: Any, threads: int, tile: Tile, absorbed: bool, heads: int, layers: Layers, new: NewTokens,
    memory: PackedMemory, buffers: StepScratch, cross: AbsorbedScratch,
) -> None:  # fmt: skip
    """Runs all decoder layers on the new tokens."""
    weights, gains, eps, owner, cache = layers.weights, layers.gains, layers.eps, memory.owner, new.cache
    xs, scales, qkv, mixed, hidden = buffers.xs, buffers.scales, buffers.qkv, buffers.mixed, buffers.hidden
    n, d, terms, ready = xs.shape[1], xs.shape[2], weights[0, 0].terms, buffers.ready
    a = Rows(address(ready), ready.shape[1])
    for layer in range(len(weights)):
        w, p, x = weights[layer], layer * PHASES, xs[0 if layer == 0 else 3]
        prepare_phase(counters, p, x, gains[layer, 0], eps, terms, ready, scales)
        product_phase(counters, p + 1, threads, STORE, w[Q : V + 1], a, scales, n, x, qkv)
        self_attention_phase(counters, p + 2, cache[layer], qkv, new, owner, heads, mixed)
        left = ready_phase(counters, p + 3, terms, mixed, buffers.mixed_ready, scales)
        product_phase(counters, p + 4, threads, ADD, w[OUT : OUT + 1], left, scales, n, x, xs[1:2])
        prepare_phase(counters, p + 5, xs[1], gains[layer, 1], eps, terms, ready, scales)
        product_phase(counters, p + 6, threads, STORE, w[CROSS_Q : CROSS_Q + 1], a, scales, n, x, qkv)
        if absorbed:
            attend_absorbed(counters, p + 7, tile, w[CROSS_K], w[CROSS_V], qkv[0], memory, heads, d, cross, mixed)
        else:
            projected_phase(counters, p + 7, tile, qkv[0], memory, layer, heads, mixed)
        left = ready_phase(counters, p + 13, terms, mixed, buffers.mixed_ready, scales)
        product_phase(counters, p + 14, threads, ADD, w[CROSS_OUT : CROSS_OUT + 1], left, scales, n, xs[1], xs[2:3])
        prepare_phase(counters, p + 15, xs[2], gains[layer, 2], eps, terms, ready, scales)
        inner = w[WI_0 : WI_1 + 1] if layers.mode == GATE else w[WI_0 : WI_0 + 1]
        product_phase(counters, p + 16, threads, layers.mode, inner, a, scales, n, xs[2], hidden)
        left = ready_phase(counters, p + 17, terms, hidden[0], buffers.hidden_ready, scales)
        product_phase(counters, p + 18, threads, ADD, w[WO : WO + 1], left, scales, n, xs[2], xs[3:4])


def step_scratch(x: Array, layer: Any) -> StepScratch:
    """Buffers for a step with the rows x. A copy of x is the input of the first layer."""
    attn, ff, rows = layer.self_attention, layer.feed_forward, len(x)
    xs = aligned(4, *x.shape)
    xs[0] = x
    hidden, hidden_ready = result_buffers(rows, ff.wi_0.columns, ff.wo)
    return StepScratch(
        xs, *prepared(x, x.shape[1], attn.q), aligned(3, rows, attn.q.columns),
        *result_buffers(rows, attn.q.columns, attn.o), hidden.reshape(1, *hidden.shape), hidden_ready,
    )  # fmt: skip


def decoder_layers(t5: Any, w: Any, x: Array, bias: Array, layout: SequenceLayout, past: Any, cross: Any) -> Any:
    """All layers on new tokens, with packed weights: [N d] -> [N d], and the buffer with all keys and values."""
    ready, lengths = cross.ready, layout.key_lengths
    if not isinstance(ready, Prepared) or not (past.keys is None or isinstance(past.keys, KVBuffer)):
        return NotImplemented
    first, before, longest = w.layers[0], lengths - layout.query_lengths, int(cross.lengths.max())
    hc, heads, rows = first.self_attention.q.columns, t5.num_heads, len(x)
    empty = KVBuffer(np.zeros((len(w.layers), 2, len(lengths), 0, hc), np.float32), before)
    room = (empty if past.keys is None else past.keys).behind(before, int(lengths.max()))
    ff, attn = first.feed_forward, first.self_attention
    products = [attn.q, attn.k, attn.v, attn.o, attn.q, attn.o, ff.wi_0, ff.wo]
    products += [ff.wi_1] if ff.wi_1 is not None else []
    layers_cost = len(w.layers) * (cost(rows, *products) + int((longest * rows * hc) // 4))
    step, absorbed = step_scratch(x, first), rows if ready.absorbed else 0
    run_phased(
        decoder_kernel, PHASES * len(w.layers), layers_cost, attended_in(attn.q.precision), ready.absorbed, heads,
        Layers(ready.weights, ready.gains, float(t5.layer_norm_epsilon), RELU if ff.wi_1 is None else GATE),
        NewTokens(room, by_head(bias, heads), plain(layout.query_positions, np.int64)),
        packed_memory(ready, cross.lengths, layout.query_lengths), step,
        absorbed_scratch(absorbed, heads, longest, first.cross_attention.v),
    )  # fmt: skip
    after = KVBuffer(room, lengths)
    return step.xs[3], after, after


def warm_up() -> None:
    """Runs each kernel once, on one token and a memory of one token."""
    x, one, start = np.ones((1, PAIR), np.float32), np.ones(1, np.int64), np.zeros(1, np.int32)
    w = pack(np.ones((PAIR, PAIR), np.float32), "float32")
    block = SimpleNamespace(norm=x[0], q=w, k=w, v=w, o=w, wi_0=w, wi_1=w, wo=w)
    decoder = SimpleNamespace(
        layers=(SimpleNamespace(self_attention=block, cross_attention=block, feed_forward=block),)
    )
    t5 = SimpleNamespace(num_heads=1, layer_norm_epsilon=1e-6)
    for steps in (1, 1 + PAIR):  # the absorbed form, then the projected form
        past = SimpleNamespace(keys=None, capacity=steps)
        cross = SimpleNamespace(ready=project(t5, decoder, States(x, one, start), past), lengths=one)
        decoder_layers(t5, decoder, x, x[:, :1], SequenceLayout(one, one, start, start), past, cross)
