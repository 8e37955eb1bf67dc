"""Cross-attention in its absorbed form, without keys and values: the queries attend to the memory itself.

`cross_attention` explains the form. The phases here are part of the kernel of a decoder step. `attend_memory` runs them
alone when an instrument observes each operation.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable

from ...ragged import Array, Ints, offsets
from ..interface import SequenceLayout
from .cross_attention import PackedMemory, Prepared
from .encoder_fused import cost, ready_phase, result_buffers
from .kernels.attention import mix_panels, row_of, score_panels, softmax_operand
from .kernels.bfloat16 import across, left_row
from .kernels.descriptors import Block, Panels, Rows, Tile
from .kernels.epilogue import STORE
from .kernels.gemm import PAIR, Packed, attended_in, descriptors, product
from .kernels.llvm_ir import BYTES, LANES
from .kernels.memory import address, floats, scratch
from .kernels.microkernel import ROWS
from .kernels.simd import LOG2_E
from .runtime.allocator import aligned, plain
from .runtime.compile_cache import Kernel
from .runtime.thread_pool import barrier, finish_task, next_task, run_phased


class AbsorbedScratch(NamedTuple):
    """Buffers for the intermediate results of absorbed attention.

    Args:
        queries: [N h d'] q W_k^T as left operands.
        scores, totals: [N h s] and [N h], the scores and the sum of each softmax.
        sums: [h N d] weighted sums of the memory's tokens.
        ready, scales: the rows of `sums` prepared as left operands for W_v, and their int8 scales.
    """

    queries: Any
    scores: Any
    totals: Any
    sums: Any
    ready: Any
    scales: Any


@register_jitable
def absorb_phase(counters: Any, phase: int, terms: int, w: Any, q: Any, heads: int, d: int, out: Any) -> Any:
    """out [N h d] = q W_k^T, head by head, as left operands with `terms` terms per lane. A task is one head."""
    c, panel = q.shape[1] // heads, w.steps * BYTES
    part = scratch(c)
    head = next_task(counters, phase)
    while head < heads:
        for i in range(len(q)):
            row, to = q[i], out[i, head]
            for e in range(c):
                part[e] = row[head * c + e] * np.float32(LOG2_E)
            if w.terms == 4:
                scales = floats(w.scales + 4 * head * c, c)
                for e in range(c):
                    part[e] *= scales[e]
            first = w.panels + head * c // LANES * panel
            across(w.terms, address(part), first, panel, c // LANES, w.steps, address(to))
            for e in range(d, len(to)):
                to[e] = 0
            if terms == 2:
                left_row(address(to), -(-d // LANES), address(to))
        finish_task(counters, phase)
        head = next_task(counters, phase)
    barrier(counters, phase, heads)


@register_jitable
def absorbed_phases(
    counters: Any, phase: int, tile: Tile, memory: PackedMemory, d: int, absorbed: AbsorbedScratch
) -> Any:
    """sums [h N d] = softmax(queries m^T) m, in three phases. The rows of a tile are heads.

    A task of the first phase computes the scores of 256 tokens, one of the second phase the softmax of a row, and one
    of the third phase the weighted sums in 64 columns.
    """
    keys, values, lengths, owner, zeros = (
        memory.keys[0], memory.values[0], memory.lengths, memory.owner, address(memory.zeros)
    )  # fmt: skip
    queries, scores, totals, out = absorbed.queries, absorbed.scores, absorbed.totals, absorbed.sums
    heads, groups = queries.shape[1], -(-queries.shape[1] // ROWS)
    mixed = scratch(ROWS * PAIR).reshape(ROWS, PAIR)
    u_row, s_row, out_row = 4 * queries.shape[2], 4 * scores.shape[2], 4 * out.shape[1] * out.shape[2]
    for part in range(2):
        chunk, most = (16, -(-lengths.max() // LANES)) if part == 0 else (4, -(-d // LANES))
        pieces = -(-most // chunk)
        tasks = len(owner) * groups * pieces
        here = phase + 2 * part
        task = next_task(counters, here)
        while task < tasks:
            i, g, piece = task // (groups * pieces), task // pieces % groups, task % pieces
            h0, h1 = heads * g // groups, heads * (g + 1) // groups
            panels = Panels(keys[owner[i]], values[owner[i]], lengths[owner[i]], d)
            s, q, to = Rows(address(scores[i, h0]), s_row), Rows(address(queries[i, h0]), u_row), address(out[h0, i])
            p0, p1 = piece * chunk, min((piece + 1) * chunk, -(-panels.tokens // LANES) if part == 0 else most)
            if part == 0:
                score_panels(tile, h1 - h0, q, panels, s, p0, p1)
            else:
                mix_panels(tile, h1 - h0, s, panels, mixed, totals[i, h0:], Rows(to, out_row), p0, p1)
            finish_task(counters, here)
            task = next_task(counters, here)
        barrier(counters, here, tasks)
        if part == 0:
            task = next_task(counters, phase + 1)
            while task < len(owner) * heads:
                i, h = task // heads, task % heads
                totals[i, h] = softmax_operand(tile.terms, address(scores[i, h]), zeros, lengths[owner[i]])
                finish_task(counters, phase + 1)
                task = next_task(counters, phase + 1)
            barrier(counters, phase + 1, len(owner) * heads)


@register_jitable
def value_phase(counters: Any, phase: int, w: Any, y: Rows, scales: Any, n: int, heads: int, out: Any) -> Any:
    """out [N hc] = y W_v: the rows of y [h N d] of each head times the panels of this head. A task is one head."""
    tile, c = scratch(ROWS * PAIR).reshape(ROWS, PAIR), w.columns // heads
    head = next_task(counters, phase)
    while head < heads:
        left = Rows(y.start + head * n * y.stride, y.stride)
        product(
            STORE, w, w, left, scales[head * n :], Block(0, n, head * c // PAIR, (head + 1) * c // PAIR), tile, out, out
        )
        finish_task(counters, phase)
        head = next_task(counters, phase)
    barrier(counters, phase, heads)


@register_jitable
def attend_absorbed(
    counters: Any, phase: int, tile: Tile, w_k: Any, w_v: Any, q: Any, memory: PackedMemory, heads: int, d: int,
    absorbed: AbsorbedScratch, out: Any,
) -> Any:  # fmt: skip
    """out [N hc] = softmax(q (m W_k)^T) (m W_v) for the memory m [s d], in six phases."""
    n, sums, scales = len(q), absorbed.sums, absorbed.scales
    absorb_phase(counters, phase, tile.terms, w_k, q, heads, d, absorbed.queries)
    absorbed_phases(counters, phase + 1, tile, memory, d, absorbed)
    flat = sums.reshape(heads * n, sums.shape[2])
    left = ready_phase(counters, phase + 4, w_k.terms, flat, absorbed.ready, scales)
    value_phase(counters, phase + 5, w_v, left, scales, n, heads, out)


@Kernel
def absorbed_kernel(
    counters: Any, threads: int, tile: Tile, ws: Any, q: Any, memory: PackedMemory, heads: int, d: int,
    absorbed: AbsorbedScratch, out: Any,
) -> None:  # fmt: skip
    """out = attention(q, m W_k, m W_v) in one layer. `ws` [2] are the descriptors of W_k and W_v."""
    attend_absorbed(counters, 0, tile, ws[0], ws[1], q, memory, heads, d, absorbed, out)


def absorbed_scratch(rows: int, heads: int, longest: int, values: Packed) -> AbsorbedScratch:
    """Empty buffers for `rows` queries and sequences of at most `longest` tokens."""
    d = values.shape[0]
    sums, ready = result_buffers(rows * heads, d, values)
    return AbsorbedScratch(
        aligned(rows, heads, row_of(d)), aligned(rows, heads, row_of(longest)), aligned(rows, heads),
        sums.reshape(heads, rows, sums.shape[1]), ready, aligned(rows * heads if values.group == 4 else 0),
    )  # fmt: skip


def packed_memory(ready: Prepared, lengths: Ints, query_lengths: Ints) -> PackedMemory:
    """The operand `PackedMemory` for a step with `query_lengths` [b] queries for each sequence."""
    owner, zeros = np.repeat(np.arange(len(lengths)), query_lengths), np.zeros(row_of(int(lengths.max())), np.float32)
    return PackedMemory(ready.keys, ready.values, plain(lengths, np.int64), offsets(query_lengths), owner, zeros)


def attend_memory(t5: Any, w: Any, q: Array, cross: Any, layer: int, layout: SequenceLayout) -> Any:
    """softmax(q (m W_k)^T) (m W_v), computed as in a step of the absorbed form: [N hc] -> [N hc].

    The projected form needs no such function, because `attention` rounds in the same way as a step.
    """
    ready = cross.ready
    if not isinstance(ready, Prepared) or not ready.absorbed:
        return NotImplemented
    q, heads, out, longest = plain(q), t5.num_heads, aligned(*q.shape), int(cross.lengths.max())
    run_phased(
        absorbed_kernel, 6, cost(len(q), w.k, w.v) + longest * q.size // 4, attended_in(w.k.precision),
        descriptors(w.k, w.v), q, packed_memory(ready, cross.lengths, layout.query_lengths), heads, w.k.shape[0],
        absorbed_scratch(len(q), heads, longest, w.v), out,
    )  # fmt: skip
    return out
