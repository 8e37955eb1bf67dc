"""Attention of one head of one sequence: a tile of queries at a time, whose scores stay in the first cache.

Operands are addresses: slices of arrays count references, which took a tenth of the time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from .numba_code import BYTES, LANES
from .numba_gemm import PAIR, address, floats
from .numba_tiles import ROWS, call_tile
from .numba_vectors import LOG2_E, scaled_lines, softmax_row, transpose


@register_jitable
def pack_keys(k: int, row: int, count: int, c: int, out: int) -> Any:
    """`count` keys [c], `row` bytes apart, as panels of 16 keys: [count/16 c 16]."""
    for p in range(-(-count // LANES)):
        rows, keys, panel = min(LANES, count - LANES * p), k + LANES * p * row, out + p * c * BYTES
        whole = c // LANES * LANES
        for e in range(0, whole, LANES):
            transpose(keys + 4 * e, row, rows, panel + e * BYTES)
        for j in range(rows if whole < c else 0):
            key, to = floats(keys + j * row, c), floats(panel, c * LANES)
            for e in range(whole, c):
                to[e * LANES + j] = key[e]


@register_jitable
def pack_values(v: int, row: int, count: int, c: int, out: int) -> Any:
    """`count` values [c] as panels of 16 columns: [c/16 count 16], zeros behind the last column."""
    for p in range(-(-c // LANES)):
        width, panel = min(LANES, c - LANES * p), out + p * count * BYTES
        if width == LANES:
            scaled_lines(v + p * BYTES, row, count, np.float32(1), panel, BYTES)
        for j in range(count if width < LANES else 0):
            value, to = floats(v + j * row + p * BYTES, LANES), floats(panel + j * BYTES, LANES)
            for e in range(LANES):
                to[e] = value[e] if e < width else np.float32(0)


@register_jitable
def scaled_rows(x: int, row: int, rows: int, c: int, out: int, out_row: int) -> Any:
    """Queries [c] times 1/ln 2, for `softmax_row`."""
    whole, factor = c // LANES * LANES, np.float32(LOG2_E)
    for e in range(0, whole, LANES):
        scaled_lines(x + 4 * e, row, rows, factor, out + 4 * e, out_row)
    for r in range(rows if whole < c else 0):
        query, to = floats(x + r * row, c), floats(out + r * out_row, c)
        for e in range(whole, c):
            to[e] = query[e] * factor


@register_jitable
def consecutive(at: Any, j0: int, j1: int) -> Any:
    """Do the positions rise by one from each to the next?"""
    for j in range(j0 + 1, j1):
        if at[j] != at[j - 1] + 1:
            return False
    return True


@register_jitable
def fill_biases(table: Any, reach: int, k_at: Any, j0: int, j1: int, place: int, causal: bool, out: Any) -> Any:
    """out_j = table[D + distance], 0 without a table, and -inf where a causal query may not look."""
    for j in range(j0, j1):
        distance = k_at[j] - place
        out[j - j0] = table[reach + distance] if reach >= 0 else np.float32(0)
        if causal and distance > 0:
            out[j - j0] = -np.float32(np.inf)
    for j in range(j1 - j0, -(-(j1 - j0) // LANES) * LANES):
        out[j] = 0


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
def attend_tile(
    tile: int, rows: int, q: int, q_row: int, keys: int, values: int, count: int, c: int, biases: int, bias_row: int,
    scores: int, mixed: Any, out: int, out_row: int,
) -> Any:  # fmt: skip
    """softmax(q k^T + bias) v for at most ROWS queries and packed keys and values.

    Args:
        q: address of queries times 1/ln 2.
        biases, bias_row: address of the first query's biases, and how much further those of the next begin.
    """
    row, panels, columns = 4 * row_of(count), -(-count // LANES), -(-c // LANES)
    for p in range(0, panels, 2):
        b0 = keys + p * c * BYTES
        b1 = b0 + c * BYTES if p + 1 < panels else b0  # behind an odd last panel, its twin: not looked at
        call_tile(tile, rows, q, q_row, b0, b1, c, scores + p * BYTES, row)
    for r in range(rows):
        mixed[r, PAIR] = np.float32(1) / softmax_row(scores + r * row, biases + r * bias_row, count)
    for p in range(0, columns, 2):
        b0 = values + p * count * BYTES
        b1 = b0 + count * BYTES if p + 1 < columns else b0
        call_tile(tile, rows, scores, row, b0, b1, count, address(mixed), 4 * mixed.shape[1])
        width = min(PAIR, c - p * LANES)
        for r in range(rows):
            to = floats(out + r * out_row + p * BYTES, width)
            if width == PAIR:
                for e in range(PAIR):
                    to[e] = mixed[r, e] * mixed[r, PAIR]
            else:
                for e in range(width):
                    to[e] = mixed[r, e] * mixed[r, PAIR]


@register_jitable
def attend_head(
    tile: int, q: Any, k: Any, v: Any, table: Any, reach: int, q_at: Any, k_at: Any, i0: int, i1: int, j0: int, j1: int,
    at: int, c: int, causal: bool, packed: Any, scores: Any, biases: Any, mixed: Any, out: Any,
) -> Any:  # fmt: skip
    """out = softmax(q k^T + bias) v for queries i0 .. i1-1 and keys j0 .. j1-1, in columns at .. at+c-1.

    Args:
        tile: address of the float32 tile.
        table, reach: [2D+1+16] the head's bias by distance, times 1/ln 2, and D; -1 for none.
        packed, scores, biases: of the thread's own, see `room`.
        mixed: [ROWS 48] of the thread's own.
    """
    count, k_row, q_row, out_row = j1 - j0, 4 * k.shape[1], 4 * q.shape[1], 4 * out.shape[1]
    keys = address(packed)
    values = keys + -(-count // PAIR) * PAIR * c * 4
    pack_keys(address(k) + j0 * k_row + 4 * at, k_row, count, c, keys)
    pack_values(address(v) + j0 * k_row + 4 * at, k_row, count, c, values)
    straight = reach >= 0 and not causal and consecutive(k_at, j0, j1)
    tiles = -(-(i1 - i0) // ROWS)
    for t in range(tiles):
        first, last = i0 + (i1 - i0) * t // tiles, i0 + (i1 - i0) * (t + 1) // tiles
        left, there = address(q) + first * q_row + 4 * at, address(out) + first * out_row + 4 * at
        queries = address(scores) + ROWS * row_of(count) * 4
        scaled_rows(left, q_row, last - first, c, queries, 4 * row_of(c))
        bias, bias_row = address(table) + 4 * (reach + k_at[j0] - q_at[first]), -4
        if not (straight and consecutive(q_at, first, last)):
            bias, bias_row = address(biases), 4 * row_of(count)
            for i in range(first, last):
                fill_biases(table, reach, k_at, j0, j1, q_at[i], causal, biases[(i - first) * row_of(count) :])
        attend_tile(
            tile, last - first, queries, 4 * row_of(c), keys, values, count, c, bias, bias_row, address(scores), mixed,
            there, out_row,
        )  # fmt: skip
