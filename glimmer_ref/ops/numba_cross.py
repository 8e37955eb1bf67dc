"""What a decoder attends to, made ready once a question: keys and values projected, or the memory itself.

*Projected*: every layer's keys and values, packed for tiles, are read again at each step. *Absorbed*: since
q k^T = q (W_k^T m) and p v = (p m) W_v, the memory m itself, which is small enough to stay in cache, is packed once
for all layers and never projected. For n tokens, projecting costs 2 n d hc multiply-adds a layer, and a step of
the absorbed form 2 n d h instead of 2 n hc: it pays for at least hc / h = d_kv steps. See `absorbs`. Each form's
phases of a decoder's step stand here too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from ..arrays import Array, Ints, States, check, offsets
from .buffers import aligned
from .kernel_cache import Kernel
from .numba_attention import (
    attend_tile,
    mix_panels,
    pack_keys,
    pack_values,
    row_of,
    scaled_rows,
    score_panels,
    weigh_row,
)
from .numba_blocks import cost, facts, plain, prepare_phase, prepared, product_phase
from .numba_code import BYTES, LANES
from .numba_gemm import PAIR, PANELS, SCALES, STEPS, TERMS, Packed, address, floats, product, scratch
from .numba_halves import across, halve_row
from .numba_tiles import ROWS
from .numba_vectors import LOG2_E, STORE
from .threads import done, run, take, wait

# A layer's weights in the order of its facts.
Q, K, V, OUT, CROSS_Q, CROSS_K, CROSS_V, CROSS_OUT, WI_0, WI_1, WO = range(11)


class Prepared:
    """What decoder layers attend to, with what a step needs to know of their weights.

    Args:
        absorbed: the memory itself is attended to.
        memory: packed keys and values.
        keys, values: [layers b] addresses of each sequence's in `memory`; [1 b] absorbed.
        weights: [layers 11 8] facts, in the order of Q .. WO; gains: [layers 3 d].
    """

    def __init__(self, absorbed: bool, memory: Array, keys: Ints, values: Ints, weights: Ints, gains: Array) -> None:
        self.absorbed, self.memory, self.keys, self.values = absorbed, memory, keys, values
        self.weights, self.gains = weights, gains


def absorbs(heads: int, columns: int, steps: int) -> bool:
    """Is it cheaper to attend to the memory itself, if there are to be so many steps?

    A head's columns must fill whole tiles, or its part of W_v is no run of panels.
    """
    d_kv = columns // heads
    return d_kv % PAIR == 0 and steps <= d_kv


@Kernel
def absorb_kernel(counters: Any, threads: int, terms: int, memory: Any, bounds: Any, keys: Any, values: Any) -> None:
    """The memory's tokens as panels of keys and of values: a task is one of the two of a sequence."""
    row, d, tasks = 4 * memory.shape[1], memory.shape[1], 2 * len(keys)
    task = take(counters, 0)
    while task < tasks:
        s = task // 2
        first, n = address(memory) + bounds[s] * row, bounds[s + 1] - bounds[s]
        if task % 2 == 0:
            pack_keys(terms, first, row, n, d, keys[s])
        else:
            pack_values(terms, first, row, n, d, values[s])
        done(counters, 0)
        task = take(counters, 0)
    wait(counters, 0, tasks)


@Kernel
def project_kernel(
    counters: Any, threads: int, ws: Any, memory: Any, bounds: Any, heads: int, ready: Any, scales: Any, kv: Any,
    keys: Any, values: Any,
) -> None:  # fmt: skip
    """Keys and values of every layer, head by head, as panels; ws [layers 2 8] facts, kv [2 N hc] for one layer."""
    terms, c, row = ws[0, 0, TERMS], kv.shape[2] // heads, 4 * kv.shape[2]
    halves, tasks = min(2, terms), heads * (len(bounds) - 1)
    prepare_phase(counters, 0, memory, memory[0, :0], 0.0, terms, ready, scales)
    for layer in range(len(ws)):
        here = 2 * layer + 1
        product_phase(
            counters, here, threads, STORE, ws[layer], address(ready), ready.shape[1], scales, len(memory), memory, kv
        )
        task = take(counters, here + 1)
        while task < tasks:
            head, s = task % heads, task // heads
            n, at = bounds[s + 1] - bounds[s], bounds[s] * row + 4 * head * c
            k, v = -(-n // LANES) * -(-c // halves) * BYTES, -(-c // LANES) * -(-n // halves) * BYTES
            pack_keys(halves, address(kv[0]) + at, row, n, c, keys[layer, s] + head * k)
            pack_values(halves, address(kv[1]) + at, row, n, c, values[layer, s] + head * v)
            done(counters, here + 1)
            task = take(counters, here + 1)
        wait(counters, here + 1, tasks)


@register_jitable
def projected_phase(
    counters: Any, phase: int, tile: int, terms: int, q: Any, keys: Any, values: Any, lengths: Any, queries: Any,
    heads: int, c: int, zeros: Any, out: Any,
) -> Any:  # fmt: skip
    """A task is a head of a sequence, over its packed keys and values; queries [b+1] bound the sequences' rows."""
    scores, mixed, totals = scratch(ROWS * (row_of(lengths.max()) + row_of(c))), scratch(ROWS * PAIR), scratch(ROWS)
    mixed = mixed.reshape(ROWS, PAIR)
    tasks, q_row, out_row = heads * len(lengths), 4 * q.shape[1], 4 * out.shape[1]
    task = take(counters, phase)
    while task < tasks:
        head, s = task % heads, task // heads
        n, left = lengths[s], address(scores) + 4 * ROWS * row_of(lengths[s])
        k = keys[s] + head * -(-n // LANES) * -(-c // terms) * BYTES
        v = values[s] + head * -(-c // LANES) * -(-n // terms) * BYTES
        for first in range(queries[s], queries[s + 1], ROWS):
            rows = min(ROWS, queries[s + 1] - first)
            scaled_rows(terms, address(q[first]) + 4 * head * c, q_row, rows, c, left, 4 * row_of(c))
            attend_tile(
                tile, terms, rows, left, 4 * row_of(c), k, v, n, c, address(zeros), 0, address(scores), mixed, totals,
                address(out[first]) + 4 * head * c, out_row,
            )  # fmt: skip
        done(counters, phase)
        task = take(counters, phase)
    wait(counters, phase, tasks)


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


def layer_facts(layers: Any) -> tuple[Ints, Array]:
    """[layers 11 8] facts and [layers 3 d] gains; without a gate wi_0 stands for it."""
    weights, gains = [], []
    for w in layers:
        own, cross, ff = w.self_attention, w.cross_attention, w.feed_forward
        several = [a for x in (own, cross) for a in (x.q, x.k, x.v, x.o)]
        weights.append(facts(*several, ff.wi_0, ff.wi_0 if ff.wi_1 is None else ff.wi_1, ff.wo))
        gains.append(np.stack([own.norm, cross.norm, ff.norm]))
    return np.stack(weights), np.stack(gains)


def project(t5: Any, w: Any, memory: States, steps: int) -> Any:
    """Keys and values of every layer, or the memory itself, packed: the same object twice."""
    if not w.layers or not isinstance(w.layers[0].cross_attention.k, Packed):
        return NotImplemented
    weights, gains = layer_facts(w.layers)
    check(memory.states, "N d", "project memory", N=int(memory.lengths.sum()))
    k, heads, x = w.layers[0].cross_attention.k, t5.num_heads, plain(memory.states)
    absorbed, terms, n = absorbs(heads, k.columns, steps), min(2, k.group), memory.lengths
    copies, parts, c = (1, 1, x.shape[1]) if absorbed else (len(w.layers), heads, k.columns // heads)
    sizes = BYTES * parts * np.stack([-(-n // LANES) * -(-c // terms), -(-c // LANES) * -(-n // terms)])
    packed = aligned(copies * int(sizes.sum()), dtype=np.uint8)
    starts = packed.ctypes.data + offsets(np.tile(sizes.ravel(), copies))[:-1].reshape(copies, 2, len(n))
    keys, values = (np.ascontiguousarray(starts[:, i]) for i in (0, 1))
    if absorbed:
        run(absorb_kernel, 1, x.size, terms, x, offsets(n), keys[0], values[0])
    else:
        ready, scales = prepared(x, x.shape[1], k)
        kv, several = aligned(2, len(x), k.columns), np.ascontiguousarray(weights[:, CROSS_K : CROSS_V + 1])
        work = len(w.layers) * cost(len(x), k, k)
        run(project_kernel, 1 + 2 * len(w.layers), work, several, x, offsets(n), heads, ready, scales, kv, keys, values)
    result = Prepared(absorbed, packed, keys, values, weights, gains)
    return result, result
