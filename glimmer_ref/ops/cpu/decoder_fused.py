"""All decoder layers of one step as one kernel.

A step reads every weight once, so its time is that of reading memory, and what costs is to go back to Python and to
wake threads: here they meet in the kernel. b answers at once read the weights once for all of them.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numba.extending import register_jitable

from ...ragged import Array, Ints, States, offsets
from ..interface import SequenceLayout
from .absorbed_attention import absorb_phase, absorbed_phases, absorbed_room, value_phase
from .cross_attention import (  # fmt: skip
    CROSS_K,
    CROSS_OUT,
    CROSS_Q,
    CROSS_V,
    OUT,
    WI_0,
    WI_1,
    WO,
    Prepared,
    Q,
    V,
    project,
    projected_phase,
)
from .encoder_fused import between, by_head, cost, prepare_phase, prepared, product_phase, ready_phase
from .kernels.attention import look_back, row_of
from .kernels.epilogue import ADD, GATE, RELU, STORE
from .kernels.gemm import PAIR, TERMS, attended_in, pack
from .kernels.llvm_ir import LANES
from .kernels.memory import address, copy, scratch
from .runtime.allocator import aligned, plain
from .runtime.compile_cache import Kernel
from .runtime.thread_pool import done, run, take, wait

PHASES = 20  # of a layer, at most
GROWTH = 32  # tokens by which the past's room grows at least


class KVBuffer:
    """The past's keys and values [layers 2 b capacity hc]; `read` tokens of each sequence are in it.

    A step writes behind what was read. Whoever steps again from an older past gets a copy first.
    """

    def __init__(self, numbers: Array, read: Ints) -> None:
        self.numbers, self.read = numbers, read

    def __getitem__(self, layer: int) -> Array:
        """A layer's part."""
        return self.numbers[layer]

    def behind(self, before: Ints, longest: int) -> Array:
        """The numbers, if the room was left at `before` and is long enough; else a longer copy of them."""
        layers, two, b, capacity, hc = self.numbers.shape
        if longest <= capacity and (self.read == before).all():
            return self.numbers
        numbers = aligned(layers, two, b, max(longest + GROWTH, 2 * capacity), hc)
        numbers[:, :, :, :capacity] = self.numbers
        return numbers


@register_jitable
def _self_attend(room: Any, qkv: Any, bias: Any, at: Any, owner: Any, head: int, c: int, scores: Any, out: Any) -> Any:
    """One head of every new token: its key and value go into the room [2 b capacity hc], then it looks back.

    `owner` [N] says whose token a row is, `at` [N] at which place; a row's sum does not depend on other rows.
    """
    reach, row, here = (bias.shape[1] - LANES - 1) // 2, 4 * room.shape[3], 4 * head * c
    for i in range(len(owner)):
        for n in range(2):
            copy(address(qkv[n + 1, i]) + here, c, address(room[n, owner[i], at[i]]) + here)
    for i in range(len(owner)):
        look_back(
            address(qkv[0, i]) + here, address(room[0, owner[i]]) + here, address(room[1, owner[i]]) + here, row,
            at[i] + 1, c, address(bias[head]) + 4 * (reach - at[i]), scores, address(out[i]) + here,
        )  # fmt: skip


@register_jitable
def self_attention_phase(
    counters: Any, phase: int, room: Any, qkv: Any, bias: Any, at: Any, owner: Any, heads: int, c: int, out: Any
) -> Any:
    """A task is a head."""
    scores = scratch(row_of(room.shape[2]))
    head = take(counters, phase)
    while head < heads:
        _self_attend(room, qkv, bias, at, owner, head, c, scores, out)
        done(counters, phase)
        head = take(counters, phase)
    wait(counters, phase, heads)


@Kernel
def decoder_kernel(
    counters: Any, threads: int, tile: int, absorbed: bool, mode: int, weights: Any, gains: Any, eps: float, room: Any,
    bias: Any, at: Any, owner: Any, queries: Any, keys: Any, values: Any, lengths: Any, heads: int, c: int, xs: Any,
    ready: Any, scales: Any, qkv: Any, mixed: Any, mixed_ready: Any, hidden: Any, hidden_ready: Any, u: Any,
    scores: Any, totals: Any, y: Any, y_ready: Any, y_scales: Any, zeros: Any,
) -> None:  # fmt: skip
    """Every decoder layer over the new rows: xs [4 N d], the first is what comes in, the last what goes out."""
    n, d, terms = xs.shape[1], xs.shape[2], weights[0, 0, TERMS]
    halves, a, a_row = min(2, terms), address(ready), ready.shape[1]
    for layer in range(len(weights)):
        w, p, x = weights[layer], layer * PHASES, xs[0 if layer == 0 else 3]
        cross = 0 if absorbed else layer
        prepare_phase(counters, p, x, gains[layer, 0], eps, terms, ready, scales)
        product_phase(counters, p + 1, threads, STORE, w[Q : V + 1], a, a_row, scales, n, x, qkv)
        self_attention_phase(counters, p + 2, room[layer], qkv, bias, at, owner, heads, c, mixed)
        left, row = ready_phase(counters, p + 3, terms, mixed, mixed_ready, scales)
        product_phase(counters, p + 4, threads, ADD, w[OUT : OUT + 1], left, row, scales, n, x, xs[1:2])
        prepare_phase(counters, p + 5, xs[1], gains[layer, 1], eps, terms, ready, scales)
        product_phase(counters, p + 6, threads, STORE, w[CROSS_Q : CROSS_Q + 1], a, a_row, scales, n, x, qkv)
        if absorbed:
            absorb_phase(counters, p + 7, halves, w[CROSS_K], qkv[0], heads, c, d, u)
            absorbed_phases(
                counters, p + 8, tile, halves, u, keys[0], values[0], lengths, owner, d, scores, totals, zeros, y
            )
            flat = y.reshape(heads * n, y.shape[2])
            left, row = ready_phase(counters, p + 11, terms, flat, y_ready, y_scales)
            value_phase(counters, p + 12, w[CROSS_V], left, row, y_scales, n, heads, c, mixed)
        else:
            projected_phase(
                counters,
                p + 7,
                tile,
                halves,
                qkv[0],
                keys[cross],
                values[cross],
                lengths,
                queries,
                heads,
                c,
                zeros,
                mixed,
            )
        left, row = ready_phase(counters, p + 13, terms, mixed, mixed_ready, scales)
        product_phase(
            counters, p + 14, threads, ADD, w[CROSS_OUT : CROSS_OUT + 1], left, row, scales, n, xs[1], xs[2:3]
        )
        prepare_phase(counters, p + 15, xs[2], gains[layer, 2], eps, terms, ready, scales)
        inner = w[WI_0 : WI_1 + 1] if mode == GATE else w[WI_0 : WI_0 + 1]
        product_phase(counters, p + 16, threads, mode, inner, a, a_row, scales, n, xs[2], hidden)
        left, row = ready_phase(counters, p + 17, terms, hidden[0], hidden_ready, scales)
        product_phase(counters, p + 18, threads, ADD, w[WO : WO + 1], left, row, scales, n, xs[2], xs[3:4])


def _work(t5: Any, rows: int, weights: Any, prepared_for: Prepared, longest: int) -> dict[str, Array]:
    """Empty room for all that a step makes on its way."""
    own, ff = weights.self_attention, weights.feed_forward
    d, heads, hc, f = own.q.shape[0], t5.num_heads, own.q.columns, ff.wi_0.columns
    ready, scales = prepared(np.empty((rows, 0)), max(d, 1), own.q)
    mixed, mixed_ready = between(rows, hc, own.o)
    hidden, hidden_ready = between(rows, f, ff.wo)
    return {
        "ready": ready,
        "scales": scales,
        "qkv": aligned(3, rows, hc),
        "mixed": mixed,
        "mixed_ready": mixed_ready,
        "hidden": hidden.reshape(1, *hidden.shape),
        "hidden_ready": hidden_ready,
        **absorbed_room(rows if prepared_for.absorbed else 0, heads, longest, weights.cross_attention.v),
    }


def decoder_layers(t5: Any, w: Any, x: Array, bias: Array, layout: SequenceLayout, past: Any, cross: Any) -> Any:
    """All layers over new tokens, in packed weights: [N d] -> [N d], and the room with their keys and values."""
    ready, lengths = cross.ready, layout.key_lengths
    if not isinstance(ready, Prepared) or not (past is None or isinstance(past.keys, KVBuffer)):
        return NotImplemented
    first, before, longest = w.layers[0], lengths - layout.query_lengths, int(cross.lengths.max())
    hc, heads, rows = first.self_attention.q.columns, t5.num_heads, len(x)
    empty = KVBuffer(np.zeros((len(w.layers), 2, len(lengths), 0, hc), np.float32), before)
    room = (past.keys if past is not None else empty).behind(before, int(lengths.max()))
    xs = aligned(4, *x.shape)
    xs[0] = x
    owner = np.repeat(np.arange(len(lengths)), layout.query_lengths)
    ff, own = first.feed_forward, first.self_attention
    products = [own.q, own.k, own.v, own.o, own.q, own.o, ff.wi_0, ff.wo] + ([ff.wi_1] if ff.wi_1 is not None else [])
    work = len(w.layers) * (cost(rows, *products) + int((longest * rows * hc) // 4))
    run(
        decoder_kernel, PHASES * len(w.layers), work, attended_in(own.q.precision)[0], ready.absorbed,
        RELU if ff.wi_1 is None else GATE, ready.weights, ready.gains, float(t5.layer_norm_epsilon), room,
        by_head(bias, heads), plain(layout.query_positions, np.int64), owner, offsets(layout.query_lengths), ready.keys,
        ready.values, plain(cross.lengths, np.int64), heads, hc // heads, xs,
        *_work(t5, rows, first, ready, longest).values(),
    )  # fmt: skip
    after = KVBuffer(room, lengths)
    return xs[3], after, after


def warm_up() -> None:
    """Each kernel run once, over one token and a memory of one."""
    x, one, start = np.ones((1, PAIR), np.float32), np.ones(1, np.int64), np.zeros(1, np.int32)
    w = pack(np.ones((PAIR, PAIR), np.float32), "float32")
    block = SimpleNamespace(norm=x[0], q=w, k=w, v=w, o=w, wi_0=w, wi_1=w, wo=w)
    decoder = SimpleNamespace(
        layers=(SimpleNamespace(self_attention=block, cross_attention=block, feed_forward=block),)
    )
    t5 = SimpleNamespace(num_heads=1, layer_norm_epsilon=1e-6)
    for steps in (1, 1 + PAIR):  # absorbed, and projected
        cross = SimpleNamespace(ready=project(t5, decoder, States(x, one, start), steps), lengths=one)
        decoder_layers(t5, decoder, x, x[:, :1], SequenceLayout(one, one, start, start), None, cross)
