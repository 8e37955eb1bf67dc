"""Cross-attention in its absorbed form, see `cross_attention`: to the memory itself, its keys and values never made.

The phases are a decoder step's; `attend_memory` runs them alone, where an instrument hears each operation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from ...ragged import Array
from ..interface import SequenceLayout
from .cross_attention import Prepared
from .encoder_fused import between, cost, facts, ready_phase
from .kernels.attention import mix_panels, row_of, score_panels, weigh_row
from .kernels.bfloat16 import across, halve_row
from .kernels.epilogue import STORE
from .kernels.gemm import PAIR, PANELS, SCALES, STEPS, TERMS, Packed, attended_in, product
from .kernels.llvm_ir import BYTES, LANES
from .kernels.memory import address, floats, scratch
from .kernels.microkernel import ROWS
from .kernels.simd import LOG2_E
from .runtime.allocator import aligned, plain
from .runtime.compile_cache import Kernel
from .runtime.thread_pool import done, run, take, wait


@register_jitable
def absorb_phase(counters: Any, phase: int, terms: int, w: Any, q: Any, heads: int, c: int, d: int, out: Any) -> Any:
    """out [N h d] = q W_k^T, head by head, as left operands of `terms` terms a lane: a task is a head."""
    part, panel = scratch(c), w[STEPS] * BYTES
    head = take(counters, phase)
    while head < heads:
        for i in range(len(q)):
            row, to = q[i], out[i, head]
            for e in range(c):
                part[e] = row[head * c + e] * np.float32(LOG2_E)
            if w[TERMS] == 4:
                scales = floats(w[SCALES] + 4 * head * c, c)
                for e in range(c):
                    part[e] *= scales[e]
            first = w[PANELS] + head * c // LANES * panel
            across(w[TERMS], address(part), first, panel, c // LANES, w[STEPS], address(to))
            for e in range(d, len(to)):
                to[e] = 0
            if terms == 2:
                halve_row(address(to), -(-d // LANES), address(to))
        done(counters, phase)
        head = take(counters, phase)
    wait(counters, phase, heads)


@register_jitable
def absorbed_phases(
    counters: Any, phase: int, tile: int, terms: int, absorbed: Any, keys: Any, values: Any, lengths: Any, owner: Any,
    d: int, scores: Any, totals: Any, zeros: Any, out: Any,
) -> Any:  # fmt: skip
    """out [h N d] = softmax(absorbed m^T) m: heads are the rows of a tile, tokens and then columns its columns.

    Phase by phase: scores of 256 tokens a task, softmax of a row, sums of 64 columns.
    """
    heads, groups = absorbed.shape[1], -(-absorbed.shape[1] // ROWS)
    mixed = scratch(ROWS * PAIR).reshape(ROWS, PAIR)
    u_row, s_row, out_row = 4 * absorbed.shape[2], 4 * scores.shape[2], 4 * out.shape[1] * out.shape[2]
    for part in range(2):
        chunk, most = (16, -(-lengths.max() // LANES)) if part == 0 else (4, -(-d // LANES))
        pieces = -(-most // chunk)
        tasks = len(owner) * groups * pieces
        here = phase + 2 * part
        task = take(counters, here)
        while task < tasks:
            i, g, piece = task // (groups * pieces), task // pieces % groups, task % pieces
            h0, h1 = heads * g // groups, heads * (g + 1) // groups
            n, s = lengths[owner[i]], address(scores[i, h0])
            p0, p1 = piece * chunk, min((piece + 1) * chunk, -(-n // LANES) if part == 0 else most)
            if part == 0:
                score_panels(
                    tile, terms, h1 - h0, address(absorbed[i, h0]), u_row, keys[owner[i]], n, d, s, s_row, p0, p1
                )
            else:
                mix_panels(
                    tile, terms, h1 - h0, s, s_row, values[owner[i]], n, d, mixed, totals[i, h0:], address(out[h0, i]),
                    out_row, p0, p1,
                )  # fmt: skip
            done(counters, here)
            task = take(counters, here)
        wait(counters, here, tasks)
        if part == 0:
            task = take(counters, phase + 1)
            while task < len(owner) * heads:
                i, h = task // heads, task % heads
                totals[i, h] = weigh_row(terms, address(scores[i, h]), address(zeros), lengths[owner[i]])
                done(counters, phase + 1)
                task = take(counters, phase + 1)
            wait(counters, phase + 1, len(owner) * heads)


@register_jitable
def value_phase(
    counters: Any, phase: int, w: Any, y: int, y_row: int, scales: Any, n: int, heads: int, c: int, out: Any
) -> Any:
    """out [N hc] = y W_v, a head's rows of y [h N d] times the head's panels: a task is a head."""
    tile = scratch(ROWS * PAIR).reshape(ROWS, PAIR)
    head = take(counters, phase)
    while head < heads:
        first, last = head * c // PAIR, (head + 1) * c // PAIR
        product(STORE, w, w, y + head * n * y_row, y_row, scales[head * n :], 0, n, first, last, tile, out, out)
        done(counters, phase)
        head = take(counters, phase)
    wait(counters, phase, heads)


@Kernel
def absorbed_kernel(
    counters: Any, threads: int, tile: int, ws: Any, q: Any, keys: Any, values: Any, lengths: Any, owner: Any,
    heads: int, d: int, u: Any, scores: Any, totals: Any, y: Any, y_ready: Any, y_scales: Any, zeros: Any, out: Any,
) -> None:  # fmt: skip
    """out = attention(q, m W_k, m W_v) of one layer; ws [2 8] facts of W_k and W_v."""
    n, c, terms = len(q), q.shape[1] // heads, ws[0, TERMS]
    halves = min(2, terms)
    absorb_phase(counters, 0, halves, ws[0], q, heads, c, d, u)
    absorbed_phases(counters, 1, tile, halves, u, keys, values, lengths, owner, d, scores, totals, zeros, y)
    left, row = ready_phase(counters, 4, terms, y.reshape(heads * n, y.shape[2]), y_ready, y_scales)
    value_phase(counters, 5, ws[1], left, row, y_scales, n, heads, c, out)


def absorbed_room(rows: int, heads: int, longest: int, values: Packed) -> dict[str, Array]:
    """Empty room for what is made on the way from so many queries to what W_v makes of their sums."""
    d = values.shape[0]
    y, y_ready = between(rows * heads, d, values)
    return {
        "u": aligned(rows, heads, row_of(d)),
        "scores": aligned(rows, heads, row_of(longest)),
        "totals": aligned(rows, heads),
        "y": y.reshape(heads, rows, y.shape[1]),
        "y_ready": y_ready,
        "y_scales": aligned(rows * heads if values.group == 4 else 0),
        "zeros": np.zeros(row_of(longest), np.float32),
    }


def attend_memory(t5: Any, w: Any, q: Array, cross: Any, layer: int, layout: SequenceLayout) -> Any:
    """softmax(q (m W_k)^T) (m W_v) as an absorbed step makes it: [N hc] -> [N hc].

    Projected keys and values need nothing of their own: `attention` rounds as a step does.
    """
    ready = cross.ready
    if not isinstance(ready, Prepared) or not ready.absorbed:
        return NotImplemented
    q, heads, out, longest = plain(q), t5.num_heads, aligned(*q.shape), int(cross.lengths.max())
    owner = np.repeat(np.arange(len(cross.lengths)), layout.query_lengths)
    run(
        absorbed_kernel, 6, cost(len(q), w.k, w.v) + longest * q.size // 4, attended_in(w.k.precision)[0],
        facts(w.k, w.v), q, ready.keys[0], ready.values[0], plain(cross.lengths, np.int64), owner, heads,
        w.k.shape[0], *absorbed_room(len(q), heads, longest, w.v).values(), out,
    )  # fmt: skip
    return out
