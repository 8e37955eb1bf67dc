"""The decoder's cross-attention: its memory is packed once per question, in one of two forms.

*Projected*: the keys and values of every layer are computed and packed for tiles. Each step reads them again.
*Absorbed*: the memory m itself is packed, once for all layers, and never projected, since q k^T = (q W_k^T) m^T and
p v = (p m) W_v. The memory is small enough to stay in cache.

For n tokens and each layer, the projection costs 2 n d hc multiply-adds once. Then a step reads 2 n hc numbers of main
memory. In the absorbed form a step reads the weights, 2 d hc numbers, and needs 2 n d h multiply-adds. So the absorbed
form is faster for few steps and a long memory, see `absorbs`. This file also has the phase of a decoder step in the
projected form; `absorbed_attention` has those of the absorbed form.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable

from ...ragged import Array, Ints, States, check, offsets
from .encoder_fused import NO_GAIN, BlockScratch, Inputs, cost, prepare_phase, prepared, product_phase
from .kernels.attention import attend_tile, pack_keys, pack_values, row_of, scaled_rows
from .kernels.descriptors import Panels, Rows, Tile
from .kernels.epilogue import STORE
from .kernels.gemm import PAIR, Packed, descriptors
from .kernels.llvm_ir import BYTES, LANES
from .kernels.memory import address, scratch
from .kernels.microkernel import ROWS
from .runtime.allocator import aligned, plain
from .runtime.compile_cache import Kernel
from .runtime.thread_pool import barrier, finish_task, next_task, run_phased

# A layer's weights in the order of their descriptors.
Q, K, V, OUT, CROSS_Q, CROSS_K, CROSS_V, CROSS_OUT, WI_0, WI_1, WO = range(11)
# Measured on one thread of a Zen 4: 58e9 float32 multiply-adds and 31e9 bytes a second. AVX2 has the same ratio.
MACS_PER_BYTE = 1.9
CACHE_BYTES = 1 << 25  # size of a last-level cache that a process is likely to have


class Prepared:
    """The packed memory of a decoder, and the descriptors of the decoder's weights.

    Args:
        absorbed: whether the decoder attends to the memory itself, without projection.
        memory: packed keys and values.
        keys, values: [layers b] the addresses in `memory` of each sequence's keys and values; [1 b] if absorbed.
        weights: [layers 11] WEIGHT, in the order of Q .. WO.
        gains: [layers 3 d] gains of the norms.
    """

    def __init__(self, absorbed: bool, memory: Array, keys: Ints, values: Ints, weights: Array, gains: Array) -> None:
        self.absorbed, self.memory, self.keys, self.values = absorbed, memory, keys, values
        self.weights, self.gains = weights, gains


def fits_cache(layers: Any) -> bool:
    """Whether the weights of all decoder layers fit in a last-level cache."""
    parts = [part for w in layers[:1] for part in (w.self_attention, w.cross_attention, w.feed_forward)]
    weights = [x for part in parts for x in vars(part).values() if isinstance(x, Packed)]
    return len(layers) * sum(x.panels.nbytes for x in weights) < CACHE_BYTES


def absorbs(layers: Any, heads: int, tokens: int, steps: int) -> bool:
    """Whether the absorbed form is faster for `steps` steps with a memory of so many tokens, and possible.

    If the weights stay in a cache, the multiply-adds decide: 2 n d hc once, or 2 n d h in each step. Otherwise the two
    forms are compared by the bytes that memory delivers in the same time.

    Measured at T5.1.1-base on one thread of a Zen 4, with 1760 tokens: 27.5 ms for a float32 step in the absorbed form,
    22.3 ms in the projected form, and 470 ms to project. So the forms are equally fast at 90 steps, at 76 in bfloat16
    and at 55 in int8; the estimates are 100, 100 and 63. With 60 tokens and 32 steps, the projected form takes .93 of
    the time in float32 and .86 in int8. With 880 tokens it takes 1.17 and 1.06.

    Prefetching the next weights while the absorbed form multiplies was tried. It brought 1 % in float32 and 4 % in
    int8, since reading them again from the last-level cache takes most of the time saved.

    The columns of a head must fill whole tiles. Otherwise the head's part of W_v does not consist of whole panels.
    """
    k = layers[0].cross_attention.k
    (d, hc), terms, d_kv = k.shape, min(2, k.group), k.columns // heads
    if d_kv % PAIR:
        return False
    if fits_cache(layers):
        return steps <= d_kv
    once = 2 * tokens * d * hc / (MACS_PER_BYTE * k.group)
    absorbed = 2 * d * hc * 4 / k.group + 2 * tokens * d * heads / (MACS_PER_BYTE * terms)
    projected = 2 * tokens * hc * 4 / terms
    return bool(steps * (absorbed - projected) <= once)


class PackedMemory(NamedTuple):
    """The packed memory as an operand of a step's kernel.

    Args:
        keys, values: [layers b] addresses of panels; [1 b] in the absorbed form.
        lengths: [b] number of tokens of each sequence's memory.
        queries: [b+1] the row at which each sequence's queries begin, and the total number of rows.
        owner: [N] the sequence to which each row belongs.
        zeros: the bias of the scores of the longest sequence; cross-attention has none.
    """

    keys: Any
    values: Any
    lengths: Any
    queries: Any
    owner: Any
    zeros: Any


@Kernel
def absorb_kernel(counters: Any, threads: int, terms: int, memory: Any, bounds: Any, keys: Any, values: Any) -> None:
    """Packs the memory's tokens as panels of keys and as panels of values. A task is one of the two for a sequence."""
    row, d, tasks = 4 * memory.shape[1], memory.shape[1], 2 * len(keys)
    task = next_task(counters, 0)
    while task < tasks:
        s = task // 2
        first, n = address(memory) + bounds[s] * row, bounds[s + 1] - bounds[s]
        if task % 2 == 0:
            pack_keys(terms, first, row, n, d, keys[s])
        else:
            pack_values(terms, first, row, n, d, values[s])
        finish_task(counters, 0)
        task = next_task(counters, 0)
    barrier(counters, 0, tasks)


@Kernel
def project_kernel(
    counters: Any, threads: int, inputs: Inputs, bounds: Any, heads: int, buffers: BlockScratch, keys: Any, values: Any
) -> None:
    """Computes the keys and values of every layer, and packs them head by head as panels.

    Args:
        inputs: the memory, without a gain, and the weights [layers 2] of keys and values.
        buffers: its `products` [2 N hc] are the keys and values of one layer at a time.
    """
    memory, ws, scales, kv = inputs.x, inputs.weights, buffers.scales, buffers.products
    terms, c, row = ws[0, 0].terms, kv.shape[2] // heads, 4 * kv.shape[2]
    lane_terms, tasks = min(2, terms), heads * (len(bounds) - 1)
    prepare_phase(counters, 0, memory, inputs.gain, inputs.eps, terms, buffers.prepared, scales)
    a = Rows(address(buffers.prepared), buffers.prepared.shape[1])
    for layer in range(len(ws)):
        here = 2 * layer + 1
        product_phase(counters, here, threads, STORE, ws[layer], a, scales, len(memory), memory, kv)
        task = next_task(counters, here + 1)
        while task < tasks:
            head, s = task % heads, task // heads
            n, at = bounds[s + 1] - bounds[s], bounds[s] * row + 4 * head * c
            panels = head_panels(lane_terms, keys[layer, s], values[layer, s], head, n, c)
            pack_keys(lane_terms, address(kv[0]) + at, row, n, c, panels.keys)
            pack_values(lane_terms, address(kv[1]) + at, row, n, c, panels.values)
            finish_task(counters, here + 1)
            task = next_task(counters, here + 1)
        barrier(counters, here + 1, tasks)


@register_jitable
def head_panels(terms: int, keys: int, values: int, head: int, n: int, c: int) -> Any:
    """The panels of one head, from the addresses of the panels of all heads of a sequence of n tokens."""
    k, v = -(-n // LANES) * -(-c // terms) * BYTES, -(-c // LANES) * -(-n // terms) * BYTES
    return Panels(keys + head * k, values + head * v, n, c)


@register_jitable
def projected_phase(
    counters: Any, phase: int, tile: Tile, q: Any, memory: PackedMemory, layer: int, heads: int, out: Any
) -> Any:
    """Attention to projected keys and values. A task is one head of one sequence."""
    keys, values, lengths, queries = memory.keys[layer], memory.values[layer], memory.lengths, memory.queries
    c, longest, zeros = q.shape[1] // heads, lengths.max(), Rows(address(memory.zeros), 0 * heads)
    scores, mixed, totals = scratch(ROWS * (row_of(longest) + row_of(c))), scratch(ROWS * PAIR), scratch(ROWS)
    mixed = mixed.reshape(ROWS, PAIR)
    tasks, q_row, out_row = heads * len(lengths), 4 * q.shape[1], 4 * out.shape[1]
    task = next_task(counters, phase)
    while task < tasks:
        head, s = task % heads, task // heads
        left = Rows(address(scores) + 4 * ROWS * row_of(lengths[s]), 4 * row_of(c))
        panels = head_panels(tile.terms, keys[s], values[s], head, lengths[s], c)
        for first in range(queries[s], queries[s + 1], ROWS):
            rows = min(ROWS, queries[s + 1] - first)
            scaled_rows(tile.terms, address(q[first]) + 4 * head * c, q_row, rows, c, left.start, left.stride)
            to = Rows(address(out[first]) + 4 * head * c, out_row)
            attend_tile(tile, rows, left, panels, zeros, address(scores), mixed, totals, to)
        finish_task(counters, phase)
        task = next_task(counters, phase)
    barrier(counters, phase, tasks)


def layer_descriptors(layers: Any) -> tuple[Array, Array]:
    """[layers 11] WEIGHT and [layers 3 d] gains. If there is no gate, wi_0 takes the place of wi_1."""
    weights, gains = [], []
    for w in layers:
        attn, cross, ff = w.self_attention, w.cross_attention, w.feed_forward
        several = [a for x in (attn, cross) for a in (x.q, x.k, x.v, x.o)]
        weights.append(descriptors(*several, ff.wi_0, ff.wi_0 if ff.wi_1 is None else ff.wi_1, ff.wo))
        gains.append(np.stack([attn.norm, cross.norm, ff.norm]))
    return np.stack(weights), np.stack(gains)


def project(t5: Any, w: Any, memory: States, cache: Any) -> Any:
    """The packed keys and values of every layer, or the packed memory itself: see `absorbs`."""
    if not w.layers or not isinstance(w.layers[0].cross_attention.k, Packed):
        return NotImplemented
    weights, gains = layer_descriptors(w.layers)
    check(memory.states, "N d", "project memory", N=int(memory.lengths.sum()))
    k, heads, x = w.layers[0].cross_attention.k, t5.num_heads, plain(memory.states)
    absorbed, terms, n = absorbs(w.layers, heads, len(x), cache.capacity), min(2, k.group), memory.lengths
    copies, parts, c = (1, 1, x.shape[1]) if absorbed else (len(w.layers), heads, k.columns // heads)
    sizes = BYTES * parts * np.stack([-(-n // LANES) * -(-c // terms), -(-c // LANES) * -(-n // terms)])
    packed = aligned(copies * int(sizes.sum()), dtype=np.uint8)
    starts = packed.ctypes.data + offsets(np.tile(sizes.ravel(), copies))[:-1].reshape(copies, 2, len(n))
    keys, values = (np.ascontiguousarray(starts[:, i]) for i in (0, 1))
    if absorbed:
        run_phased(absorb_kernel, 1, x.size, terms, x, offsets(n), keys[0], values[0])
    else:
        kv, several = aligned(2, len(x), k.columns), np.ascontiguousarray(weights[:, CROSS_K : CROSS_V + 1])
        inputs = Inputs(x, NO_GAIN, 0.0, several)
        buffers = BlockScratch(*prepared(x, x.shape[1], k), kv, aligned(0, 1, dtype=np.uint8))
        layers_cost = len(w.layers) * cost(len(x), k, k)
        run_phased(project_kernel, 1 + 2 * len(w.layers), layers_cost, inputs, offsets(n), heads, buffers, keys, values)
    return Prepared(absorbed, packed, keys, values, weights, gains)
