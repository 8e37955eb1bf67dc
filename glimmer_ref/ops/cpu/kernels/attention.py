"""Attention for one head of one sequence, a tile of queries at a time. Its scores stay in the first-level cache.

Operands are addresses, because a slice of an array counts references, which costs time in such short loops.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable

from .bfloat16 import halve_row, left_row, pair_lines
from .descriptors import Layout, Panels, Rows, Tile
from .gemm import PAIR
from .llvm_ir import BYTES, LANES
from .memory import address, copy, floats, scratch
from .microkernel import ROWS, call_tile
from .simd import LOG2_E, divided_lines, dot, prefetch_rows, scaled_lines, softmax_row, transpose

AHEAD = 2 * LANES  # rows are prefetched so many rows before they are read


class HeadScratch(NamedTuple):
    """A thread's buffers for `attend_head`: packed keys and values, scores of ROWS queries, their biases."""

    packed: Any
    scores: Any
    biases: Any
    mixed: Any
    totals: Any


@register_jitable
def pack_keys(terms: int, k: int, row: int, count: int, c: int, out: int) -> Any:
    """`count` keys [c], `row` bytes apart, as panels of 16 keys: [count/16 c 16], or [count/16 c/2 16 2]."""
    steps = -(-c // terms)
    whole = c // (LANES * terms) * LANES  # lanes that are transposed 16 at a time
    narrow, line = np.empty((LANES, -(-c // PAIR) * LANES), np.float32), np.zeros(-(-c // PAIR) * PAIR, np.float32)
    for p in range(-(-count // LANES)):
        rows, keys, from_row, panel = min(LANES, count - LANES * p), k + LANES * p * row, row, out + p * steps * BYTES
        prefetch_rows(keys + AHEAD * row, row, max(0, min(LANES, count - LANES * p - AHEAD)), 4 * c)
        for r in range(rows if terms == 2 else 0):
            copy(keys + r * row, c, address(line))
            halve_row(address(line), len(line) // LANES, address(narrow[r]))
        if terms == 2:
            keys, from_row = address(narrow), 4 * narrow.shape[1]
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
        prefetch_rows(ahead, row, max(0, min(LANES, count - j - AHEAD)), 4 * c)
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
    """Prepares queries [c] as left operands, multiplied by 1/ln 2 for `softmax_row`."""
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
        left_row(out + r * out_row, -(-c // LANES), out + r * out_row)


@register_jitable
def consecutive(at: Any, j0: int, j1: int) -> Any:
    """Whether each position is one more than the position before."""
    for j in range(j0 + 1, j1):  # noqa: SIM110 - numba has no all(..)
        if at[j] != at[j - 1] + 1:
            return False
    return True


@register_jitable
def reach_of(table: Any) -> int:
    """The largest distance, in either direction, for which a head has biases; -1 if it has none."""
    return (len(table) - LANES - 1) // 2 if len(table) else -1


@register_jitable
def straight_biases(layout: Layout, head: Any) -> Any:
    """Whether the biases of every query are consecutive numbers of the table."""
    biased = layout.bias.shape[1] > 0 and not layout.causal
    return biased and consecutive(layout.key_positions, head.j0, head.j1)


@register_jitable
def fill_biases(layout: Layout, table: Any, head: Any, position: int, out: int) -> Any:
    """out_j = table[D + distance]; 0 without a table; -inf if attention is causal and key j is ahead of the query."""
    j0, j1, reach, key_positions = head.j0, head.j1, reach_of(table), layout.key_positions
    to = floats(out, -(-(j1 - j0) // LANES) * LANES)
    for j in range(j0, j1):
        distance = key_positions[j] - position
        to[j - j0] = table[reach + distance] if reach >= 0 else np.float32(0)
        if layout.causal and distance > 0:
            to[j - j0] = -np.float32(np.inf)
    for j in range(j1 - j0, len(to)):
        to[j] = 0


@register_jitable
def row_of(count: int) -> int:
    """Distance of two rows of scores in float32 numbers: an odd number of cache lines, as in `row_stride`."""
    return (-(-count // PAIR) * PAIR // LANES | 1) * LANES


@register_jitable
def longest_keys(heads: Any) -> Any:
    """The maximum number of keys to which any head of `heads` [b h] attends."""
    longest = 0
    for s in range(len(heads)):
        longest = max(longest, heads[s, 0].j1 - heads[s, 0].j0)
    return longest


@register_jitable
def head_scratch(longest: int, c: int) -> Any:
    """The buffers for heads of c columns and up to `longest` keys."""
    keys = -(-longest // PAIR) * PAIR
    packed = scratch(keys * c + longest * (-(-c // PAIR) * PAIR))
    scores, biases = scratch(ROWS * (row_of(longest) + row_of(c))), scratch((ROWS + 1) * row_of(longest))
    return HeadScratch(packed, scores, biases, scratch(ROWS * PAIR).reshape(ROWS, PAIR), scratch(ROWS))


@register_jitable
def score_panels(tile: Tile, rows: int, q: Rows, panels: Panels, scores: Rows, p0: int, p1: int) -> Any:
    """scores = q k^T for the panels p0 .. p1-1 of 16 keys; p0 is even."""
    steps = -(-panels.c // tile.terms)
    for p in range(p0, p1, 2):
        b0 = panels.keys + p * steps * BYTES
        b1 = b0 + steps * BYTES if (p + 1) * LANES < panels.tokens else b0  # none behind an odd last
        call_tile(tile.address, rows, q.start, q.stride, b0, b1, steps, scores.start + p * BYTES, scores.stride)


@register_jitable
def mix_panels(
    tile: Tile, rows: int, scores: Rows, panels: Panels, mixed: Any, totals: Any, out: Rows, p0: int, p1: int
) -> Any:
    """out = scores v / totals for the panels p0 .. p1-1 of 16 columns; p0 is even."""
    steps = -(-panels.tokens // tile.terms)
    for p in range(p0, p1, 2):
        b0 = panels.values + p * steps * BYTES
        b1 = b0 + steps * BYTES if (p + 1) * LANES < panels.c else b0
        call_tile(tile.address, rows, scores.start, scores.stride, b0, b1, steps, address(mixed), 4 * PAIR)
        width = min(PAIR, panels.c - p * LANES)
        if width == PAIR:
            divided_lines(address(mixed), address(totals), rows, out.start + p * BYTES, out.stride)
            continue
        for r in range(rows):
            factor, to = np.float32(1) / totals[r], floats(out.start + r * out.stride + p * BYTES, width)
            for e in range(width):
                to[e] = mixed[r, e] * factor


@register_jitable
def softmax_operand(terms: int, scores: int, biases: int, count: int) -> Any:
    """Replaces a row of scores by its softmax before division, as a left operand; returns the sum to divide by."""
    total = softmax_row(scores, biases, count)
    if terms == 2:
        left_row(scores, -(-count // LANES), scores)
    return total


@register_jitable
def attend_tile(
    tile: Tile, rows: int, q: Rows, panels: Panels, biases: Rows, scores: int, mixed: Any, totals: Any, out: Rows
) -> Any:
    """softmax(q k^T + bias) v for packed keys and values and at most ROWS queries, already multiplied by 1/ln 2."""
    row, count = 4 * row_of(panels.tokens), panels.tokens
    score_panels(tile, rows, q, panels, Rows(scores, row), 0, -(-count // LANES))
    for r in range(rows):
        totals[r] = softmax_operand(tile.terms, scores + r * row, biases.start + r * biases.stride, count)
    mix_panels(tile, rows, Rows(scores, row), panels, mixed, totals, out, 0, -(-panels.c // LANES))


@register_jitable
def attend_past(
    q: int, keys: int, values: int, row: int, count: int, c: int, biases: int, scores: Any, out: int
) -> Any:  # fmt: skip
    """softmax(q k^T + bias) v for one query of a decoder, in float32. Its keys are few, so they are not packed.

    Args:
        q, keys, values, biases, out: addresses of the head's part of each.
        row: distance of two keys, and of two values, in bytes.
        scores: a buffer of the thread.
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
    tile: Tile, q: Any, k: Any, v: Any, layout: Layout, head: Any, table: Any, next_column: int, buffers: Any, out: Any
) -> Any:
    """out = softmax(q k^T + bias) v for the queries and keys of a head, in the columns of this head.

    Args:
        table: [2D+1+16] the head's biases; empty if there are none.
        next_column: first column of the head that the thread is likely to compute next.
        buffers: the thread's HeadScratch.
    """
    i0, i1, j0, at, c = head.i0, head.i1, head.j0, head.column, layout.c
    count, k_row, q_row, out_row = head.j1 - j0, 4 * k.shape[1], 4 * q.shape[1], 4 * out.shape[1]
    scores, biases, mixed, totals = buffers.scores, buffers.biases, buffers.mixed, buffers.totals
    query_positions, first_key = layout.query_positions, layout.key_positions[j0]
    keys = address(buffers.packed)
    panels = Panels(keys, keys + -(-count // PAIR) * PAIR * -(-c // tile.terms) * 4, count, c)
    k_start, v_start = address(k) + j0 * k_row, address(v) + j0 * k_row
    pack_keys(tile.terms, k_start + 4 * at, k_row, count, c, panels.keys)
    pack_values(tile.terms, v_start + 4 * at, k_row, count, c, panels.values)
    straight, reach = straight_biases(layout, head), reach_of(table)
    queries = Rows(address(scores) + ROWS * row_of(count) * 4, 4 * row_of(c))
    tiles = -(-(i1 - i0) // ROWS)
    for t in range(tiles):
        first, last = i0 + (i1 - i0) * t // tiles, i0 + (i1 - i0) * (t + 1) // tiles
        left, out_start = address(q) + first * q_row + 4 * at, address(out) + first * out_row + 4 * at
        scaled_rows(tile.terms, left, q_row, last - first, c, queries.start, queries.stride)
        # Rows that are far apart take long to load, so those of the next tile and of the next head are prefetched now.
        prefetch_rows(left + (last - first) * q_row, q_row, last - first, 4 * c)
        prefetch_rows(out_start + (last - first) * out_row, out_row, last - first, 4 * c)
        for start in (k_start, v_start):
            part = count * t // tiles
            prefetch_rows(start + part * k_row + 4 * next_column, k_row, count * (t + 1) // tiles - part, 4 * c)
        bias, bias_row = address(table) + 4 * (reach + first_key - query_positions[first]), -4
        if not (straight and consecutive(query_positions, first, last)):
            bias, bias_row = address(biases), 4 * row_of(count)
            for i in range(first, last):
                fill_biases(layout, table, head, query_positions[i], bias + (i - first) * bias_row)
        attend_tile(
            tile, last - first, queries, panels, Rows(bias, bias_row), address(scores), mixed, totals,
            Rows(out_start, out_row),
        )  # fmt: skip
