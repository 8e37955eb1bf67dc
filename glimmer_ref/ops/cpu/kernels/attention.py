"""Attention of one head of one sequence: a tile of queries at a time, whose scores stay in the first cache.

Operands are addresses: slices of arrays count references, which costs time in loops as short as these.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from .bfloat16 import halve_row, pair_lines
from .gemm import PAIR
from .llvm_ir import BYTES, LANES
from .memory import address, copy, floats
from .microkernel import ROWS, call_tile
from .simd import LOG2_E, ask_for, dot, scaled_lines, softmax_row, transpose

AHEAD = 2 * LANES  # rows that are asked for before they are read


@register_jitable
def pack_keys(terms: int, k: int, row: int, count: int, c: int, out: int) -> Any:
    """`count` keys [c], `row` bytes apart, as panels of 16 keys: [count/16 c 16], or [count/16 c/2 16 2]."""
    steps = -(-c // terms)
    whole = c // (LANES * terms) * LANES  # lanes that are turned 16 at a time
    halves, line = np.empty((LANES, -(-c // PAIR) * LANES), np.float32), np.zeros(-(-c // PAIR) * PAIR, np.float32)
    for p in range(-(-count // LANES)):
        rows, keys, from_row, panel = min(LANES, count - LANES * p), k + LANES * p * row, row, out + p * steps * BYTES
        ask_for(keys + AHEAD * row, row, max(0, min(LANES, count - LANES * p - AHEAD)), 4 * c)
        for r in range(rows if terms == 2 else 0):
            copy(keys + r * row, c, address(line))
            halve_row(address(line), len(line) // LANES, address(halves[r]))
        if terms == 2:
            keys, from_row = address(halves), 4 * halves.shape[1]
        for e in range(0, whole, LANES):
            transpose(keys + 4 * e, from_row, rows, panel + e * BYTES)
        for j in range(rows if whole < steps else 0):
            key, to = floats(keys + j * from_row, steps), floats(panel, steps * LANES)
            for e in range(whole, steps):
                to[e * LANES + j] = key[e]


@register_jitable
def pack_values(terms: int, v: int, row: int, count: int, c: int, out: int) -> Any:
    """`count` values [c] as panels of 16 columns: [c/16 count 16], or [c/16 count/2 16 2]; zeros behind the last."""
    steps = -(-count // terms)
    narrow = np.zeros((LANES, LANES), np.float32)
    for j in range(0, count, LANES):
        rows, ahead = min(LANES, count - j), v + (j + AHEAD) * row
        ask_for(ahead, row, max(0, min(LANES, count - j - AHEAD)), 4 * c)
        for p in range(-(-c // LANES)):
            width, panel = min(LANES, c - LANES * p), out + (p * steps + j // terms) * BYTES
            values, from_row = v + j * row + p * BYTES, row
            if width < LANES:
                for r in range(rows):
                    copy(values + r * row, width, address(narrow) + r * BYTES)
                values, from_row = address(narrow), BYTES
            if terms == 2:
                pair_lines(values, from_row, rows, panel)
            else:
                scaled_lines(values, from_row, rows, np.float32(1), panel, BYTES)


@register_jitable
def scaled_rows(terms: int, x: int, row: int, rows: int, c: int, out: int, out_row: int) -> Any:
    """Queries [c] times 1/ln 2, for `softmax_row`, as left operands."""
    whole, factor = c // LANES * LANES, np.float32(LOG2_E)
    for e in range(0, whole, LANES):
        scaled_lines(x + 4 * e, row, rows, factor, out + 4 * e, out_row)
    for r in range(rows if whole < c else 0):
        query, to = floats(x + r * row, c), floats(out + r * out_row, c)
        for e in range(whole, c):
            to[e] = query[e] * factor
    for r in range(rows if terms == 2 else 0):
        tail = floats(out + r * out_row, row_of(c))
        for e in range(c, -(-c // LANES) * LANES):
            tail[e] = 0
        halve_row(out + r * out_row, -(-c // LANES), out + r * out_row)


@register_jitable
def consecutive(at: Any, j0: int, j1: int) -> Any:
    """Do the positions rise by one from each to the next?"""
    for j in range(j0 + 1, j1):  # noqa: SIM110 - numba has no all(..)
        if at[j] != at[j - 1] + 1:
            return False
    return True


@register_jitable
def fill_biases(table: Any, reach: int, k_at: Any, j0: int, j1: int, place: int, causal: bool, out: int) -> Any:
    """out_j = table[D + distance], 0 without a table, and -inf where a causal query may not look."""
    to = floats(out, -(-(j1 - j0) // LANES) * LANES)
    for j in range(j0, j1):
        distance = k_at[j] - place
        to[j - j0] = table[reach + distance] if reach >= 0 else np.float32(0)
        if causal and distance > 0:
            to[j - j0] = -np.float32(np.inf)
    for j in range(j1 - j0, len(to)):
        to[j] = 0


@register_jitable
def row_of(count: int) -> int:
    """float32 numbers from one row of scores to the next: an odd number of cache lines, as in `apart`."""
    return (-(-count // PAIR) * PAIR // LANES | 1) * LANES


@register_jitable
def room(longest: int, c: int) -> Any:
    """float32 numbers that `attend_head` needs for up to `longest` keys: packed keys and values, then the others."""
    keys = -(-longest // PAIR) * PAIR
    return (
        keys * c + longest * (-(-c // PAIR) * PAIR),
        ROWS * (row_of(longest) + row_of(c)),
        (ROWS + 1) * row_of(longest),
    )


@register_jitable
def score_panels(
    tile: int, terms: int, rows: int, q: int, q_row: int, keys: int, count: int, c: int, scores: int, row: int, p0: int,
    p1: int,
) -> Any:  # fmt: skip
    """scores = q k^T for the panels p0 .. p1-1 of 16 keys, p0 even."""
    steps = -(-c // terms)
    for p in range(p0, p1, 2):
        b0 = keys + p * steps * BYTES
        b1 = b0 + steps * BYTES if (p + 1) * LANES < count else b0  # behind an odd last panel: not looked at
        call_tile(tile, rows, q, q_row, b0, b1, steps, scores + p * BYTES, row)


@register_jitable
def mix_panels(
    tile: int, terms: int, rows: int, scores: int, row: int, values: int, count: int, c: int, mixed: Any, totals: Any,
    out: int, out_row: int, p0: int, p1: int,
) -> Any:  # fmt: skip
    """out = scores v / totals for the panels p0 .. p1-1 of 16 columns, p0 even."""
    steps = -(-count // terms)
    for p in range(p0, p1, 2):
        b0 = values + p * steps * BYTES
        b1 = b0 + steps * BYTES if (p + 1) * LANES < c else b0
        call_tile(tile, rows, scores, row, b0, b1, steps, address(mixed), 4 * PAIR)
        width = min(PAIR, c - p * LANES)
        for r in range(rows):
            factor, to = np.float32(1) / totals[r], floats(out + r * out_row + p * BYTES, width)
            if width == PAIR:
                for e in range(PAIR):
                    to[e] = mixed[r, e] * factor
            else:
                for e in range(width):
                    to[e] = mixed[r, e] * factor


@register_jitable
def weigh_row(terms: int, scores: int, biases: int, count: int) -> Any:
    """softmax of a row, not yet divided by the sum that is returned; as a left operand, in its own place."""
    total = softmax_row(scores, biases, count)
    if terms == 2:
        halve_row(scores, -(-count // LANES), scores)
    return total


@register_jitable
def attend_tile(
    tile: int, terms: int, rows: int, q: int, q_row: int, keys: int, values: int, count: int, c: int, biases: int,
    bias_row: int, scores: int, mixed: Any, totals: Any, out: int, out_row: int,
) -> Any:  # fmt: skip
    """softmax(q k^T + bias) v for at most ROWS queries and packed keys and values.

    Args:
        q: address of queries times 1/ln 2.
        biases, bias_row: address of the first query's biases, and how much further those of the next begin.
    """
    row = 4 * row_of(count)
    score_panels(tile, terms, rows, q, q_row, keys, count, c, scores, row, 0, -(-count // LANES))
    for r in range(rows):
        totals[r] = weigh_row(terms, scores + r * row, biases + r * bias_row, count)
    mix_panels(tile, terms, rows, scores, row, values, count, c, mixed, totals, out, out_row, 0, -(-c // LANES))


@register_jitable
def look_back(
    q: int, keys: int, values: int, row: int, count: int, c: int, biases: int, scores: Any, out: int
) -> Any:  # fmt: skip
    """softmax(q k^T + bias) v of one query, in float32: for a decoder's few keys, `row` bytes apart, as they lie.

    Args:
        q, keys, values, biases, out: addresses of the head's part of each.
        scores: of the thread's own.
    """
    whole, factor = c // LANES, np.float32(LOG2_E)
    for j in range(count):
        score = dot(q, keys + j * row, whole) if whole else np.float32(0)
        x, y = floats(q, c), floats(keys + j * row, c)
        for e in range(whole * LANES, c):
            score += x[e] * y[e]
        scores[j] = score * factor
    total = softmax_row(address(scores), biases, count)
    to = floats(out, c)
    for e in range(c):
        to[e] = 0
    for j in range(count):
        v, weight = floats(values + j * row, c), scores[j] / total
        for e in range(c):
            to[e] += weight * v[e]


@register_jitable
def attend_head(
    tile: int, terms: int, q: Any, k: Any, v: Any, table: Any, reach: int, q_at: Any, k_at: Any, span: Any, at: int,
    next_at: int, c: int, causal: bool, packed: Any, scores: Any, biases: Any, mixed: Any, totals: Any, out: Any,
) -> Any:  # fmt: skip
    """out = softmax(q k^T + bias) v for the queries and keys of a span, in columns at .. at+c-1.

    Args:
        tile, terms: address of the float32 or bfloat16 tile, and its terms in a lane.
        next_at: first column of the head that is likely to be attended after this one.
        table, reach: [2D+1+16] the head's bias by distance, times 1/ln 2, and D; -1 for none.
        span: [4] first query, end, first key, end.
        packed, scores, biases: of the thread's own, see `room`; mixed [ROWS 32] and totals [ROWS] too.
    """
    i0, i1, j0, j1 = span[0], span[1], span[2], span[3]
    count, k_row, q_row, out_row = j1 - j0, 4 * k.shape[1], 4 * q.shape[1], 4 * out.shape[1]
    keys = address(packed)
    values = keys + -(-count // PAIR) * PAIR * -(-c // terms) * 4
    k_start, v_start = address(k) + j0 * k_row, address(v) + j0 * k_row
    pack_keys(terms, k_start + 4 * at, k_row, count, c, keys)
    pack_values(terms, v_start + 4 * at, k_row, count, c, values)
    straight = reach >= 0 and not causal and consecutive(k_at, j0, j1)
    queries, query_row = address(scores) + ROWS * row_of(count) * 4, 4 * row_of(c)
    tiles = -(-(i1 - i0) // ROWS)
    for t in range(tiles):
        first, last = i0 + (i1 - i0) * t // tiles, i0 + (i1 - i0) * (t + 1) // tiles
        left, there = address(q) + first * q_row + 4 * at, address(out) + first * out_row + 4 * at
        scaled_rows(terms, left, q_row, last - first, c, queries, query_row)
        # Rows far apart are slow to come: those of the next tile, and of the next head, are asked for now.
        ask_for(left + (last - first) * q_row, q_row, last - first, 4 * c)
        ask_for(there + (last - first) * out_row, out_row, last - first, 4 * c)
        for start in (k_start, v_start):
            part = count * t // tiles
            ask_for(start + part * k_row + 4 * next_at, k_row, count * (t + 1) // tiles - part, 4 * c)
        bias, bias_row = address(table) + 4 * (reach + k_at[j0] - q_at[first]), -4
        if not (straight and consecutive(q_at, first, last)):
            bias, bias_row = address(biases), 4 * row_of(count)
            for i in range(first, last):
                fill_biases(table, reach, k_at, j0, j1, q_at[i], causal, bias + (i - first) * bias_row)
        attend_tile(
            tile, terms, last - first, queries, query_row, keys, values, count, c, bias, bias_row, address(scores),
            mixed, totals, there, out_row,
        )  # fmt: skip
