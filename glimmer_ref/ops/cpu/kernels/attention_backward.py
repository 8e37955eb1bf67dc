"""Attention that learns: with factors on its probabilities, and its backward, a head of a sequence at a time.

Scores, probabilities and their cotangents are made again for some queries at a time, all their keys side by side,
and stay in cache; the five products use the tile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from ..runtime.compile_cache import Kernel
from ..runtime.thread_pool import done, take, wait
from .attention import consecutive, fill_biases, mix_panels, pack_keys, pack_values, row_of, scaled_rows, score_panels
from .gemm import PAIR
from .llvm_ir import BYTES, LANES
from .memory import address, floats, scratch
from .microkernel import ROWS, call_tile
from .simd import dot, scaled_lines, softmax_row, transpose

QUERIES = 64  # of which scores are held at once: with some 350 keys they and their like fill 360 KiB
SUMS = 16  # runs of sequences whose dbias is added up by itself, at most

# What a head of a sequence is: first query, end, first key, end; its first column; where `keep` takes it.
I0, I1, J0, J1, COLUMN, PLACE = range(6)


@register_jitable
def panels_of(count: int, c: int) -> Any:
    """float32 numbers that `count` rows [c] take as panels of keys or of values."""
    return -(-count // PAIR) * PAIR * -(-c // PAIR) * PAIR


@register_jitable
def bias_of(
    table: Any, reach: int, k_at: Any, j0: int, j1: int, place: int, causal: bool, straight: bool, own: int
) -> Any:
    """Address of the biases of one query: a stretch of the table, or written to `own`."""
    if straight:
        return address(table) + 4 * (reach + k_at[j0] - place)
    if reach < 0 and not causal:
        return own  # zeros
    fill_biases(table, reach, k_at, j0, j1, place, causal, own)
    return own


@register_jitable
def weigh(
    tile: int, terms: int, q: Any, keys: int, table: Any, reach: int, q_at: Any, k_at: Any, head: Any, first: int,
    last: int, c: int, causal: bool, straight: bool, left: int, own: int, scores: int, totals: Any,
) -> Any:  # fmt: skip
    """Rows of scores become 2^(score - top), and totals their sums, for the queries first .. last-1."""
    count, row, left_row = head[J1] - head[J0], 4 * row_of(head[J1] - head[J0]), 4 * row_of(c)
    for i in range(first, last, ROWS):
        rows = min(ROWS, last - i)
        scaled_rows(terms, address(q[i]) + 4 * head[COLUMN], 4 * q.shape[1], rows, c, left, left_row)
        here = scores + (i - first) * row
        score_panels(tile, terms, rows, left, left_row, keys, count, c, here, row, 0, -(-count // LANES))
        for r in range(rows):
            bias = bias_of(table, reach, k_at, head[J0], head[J1], q_at[i + r], causal, straight, own)
            totals[i - first + r] = softmax_row(here + r * row, bias, count)


@register_jitable
def multiply_row(x: int, factors: Any, place: int, count: int) -> Any:
    """x *= factors[place ..]"""
    numbers = floats(x, count)
    for j in range(count):
        numbers[j] *= factors[place + j]


@Kernel
def kept_attention_kernel(
    counters: Any, threads: int, tile: int, q: Any, k: Any, v: Any, bias: Any, heads_at: Any, q_at: Any, k_at: Any,
    c: int, causal: bool, keep: Any, out: Any,
) -> None:  # fmt: skip
    """out = (keep * softmax(q k^T + bias)) v; a task is a row of heads_at [b h 6]."""
    heads, tasks = heads_at.shape[1], heads_at.shape[0] * heads_at.shape[1]
    longest = np.max(heads_at[:, :, J1] - heads_at[:, :, J0])
    keys, values, scores = (
        scratch(panels_of(longest, c)),
        scratch(panels_of(longest, c)),
        scratch(ROWS * row_of(longest)),
    )
    left, own, totals = scratch(ROWS * row_of(c)), scratch(row_of(longest)), scratch(ROWS)
    mixed, reach = scratch(ROWS * PAIR).reshape(ROWS, PAIR), (bias.shape[1] - LANES - 1) // 2 if bias.shape[1] else -1
    own[:] = 0
    row = 4 * q.shape[1]
    task = take(counters, 0)
    while task < tasks:
        head, table = heads_at[task // heads, task % heads], bias[task % heads]
        count, straight = head[J1] - head[J0], reach >= 0 and not causal and consecutive(k_at, head[J0], head[J1])
        line = 4 * row_of(count)
        pack_keys(1, address(k) + head[J0] * row + 4 * head[COLUMN], row, count, c, address(keys))
        pack_values(1, address(v) + head[J0] * row + 4 * head[COLUMN], row, count, c, address(values))
        for i in range(head[I0], head[I1], ROWS):
            rows = min(ROWS, head[I1] - i)
            weigh(
                tile, 1, q, address(keys), table, reach, q_at, k_at, head, i, i + rows, c, causal, straight,
                address(left), address(own), address(scores), totals,
            )  # fmt: skip
            for r in range(rows):
                place = head[PLACE] + (i + r - head[I0]) * count
                multiply_row(address(scores) + r * line, keep, place, count)
            mix_panels(
                tile, 1, rows, address(scores), line, address(values), count, c, mixed, totals,
                address(out[i]) + 4 * head[COLUMN], row, 0, -(-c // LANES),
            )  # fmt: skip
        done(counters, 0)
        task = take(counters, 0)
    wait(counters, 0, tasks)


@register_jitable
def times(
    tile: int, rows: int, a: int, a_row: int, panels: int, steps: int, c: int, mixed: Any, more: bool, out: int,
    out_row: int,
) -> Any:  # fmt: skip
    """out [rows c] = a [rows steps] times panels of columns; added to it, if there is `more`."""
    for p in range(0, -(-c // LANES), 2):
        b0, width = panels + p * steps * BYTES, min(PAIR, c - p * LANES)
        b1 = b0 + steps * BYTES if (p + 1) * LANES < c else b0
        for i in range(0, rows, ROWS):
            some = min(ROWS, rows - i)
            call_tile(tile, some, a + i * a_row, a_row, b0, b1, steps, address(mixed), 4 * PAIR)
            for r in range(some):
                to = floats(out + (i + r) * out_row + p * BYTES, width)
                for e in range(width):
                    to[e] = mixed[r, e] + to[e] if more else mixed[r, e]


@register_jitable
def turned(x: int, row: int, rows: int, columns: int, square: int, out: int, out_row: int) -> Any:
    """The rows of x as columns of out, 16 x 16 at a time; what lies behind the last of either is not meant."""
    for i in range(0, rows, LANES):
        for j in range(0, columns, LANES):
            transpose(x + i * row + 4 * j, row, min(LANES, rows - i), square)
            scaled_lines(square, BYTES, LANES, np.float32(1), out + j * out_row + 4 * i, out_row)


@register_jitable
def softmax_backward(scores: int, dprobs: int, total: Any, keep: Any, place: int, count: int) -> Any:
    """A row of keep * probs in place of scores, and of dscores = probs * (dprobs - sum_j probs dprobs) of dprobs."""
    vectors, factor = -(-count // LANES), np.float32(1) / total
    if len(keep):
        multiply_row(dprobs, keep, place, count)
    p, dp = floats(scores, vectors * LANES), floats(dprobs, vectors * LANES)
    for j in range(count, len(dp)):
        dp[j] = 0  # scores are 0 there as well
    mean = dot(scores, dprobs, vectors) * factor
    for j in range(len(p)):
        p[j] *= factor
        dp[j] = p[j] * (dp[j] - mean)
    if len(keep):
        multiply_row(scores, keep, place, count)


@register_jitable
def gather_biases(dscores: int, k_at: Any, j0: int, j1: int, start: int, straight: bool, dbias: Any) -> Any:
    """dbias[start + key position] += dscores, for one query."""
    numbers = floats(dscores, j1 - j0)
    if straight:
        to = dbias[start + k_at[j0] : start + k_at[j0] + j1 - j0]
        for j in range(len(to)):
            to[j] += numbers[j]
    else:
        for j in range(j0, j1):
            dbias[start + k_at[j]] += numbers[j - j0]


@register_jitable
def scratches(longest: int, queries: int, c: int) -> Any:
    """Room of a thread's own for `head_backward`: panels of keys, values, and rows; then scores and the like."""
    row, turned_rows = row_of(longest), -(-longest // LANES) * LANES
    return (
        scratch(panels_of(longest, c)), scratch(panels_of(longest, c)), scratch(panels_of(longest, c)),
        scratch(panels_of(queries, c)), scratch(queries * row), scratch(queries * row),
        scratch(turned_rows * row_of(queries)), scratch(ROWS * row_of(c)), scratch(row), scratch(queries),
        scratch(ROWS * PAIR).reshape(ROWS, PAIR), scratch(LANES * LANES),
    )  # fmt: skip


@register_jitable
def head_backward(
    tile: int, dy: Any, q: Any, k: Any, v: Any, table: Any, reach: int, head: Any, q_at: Any, k_at: Any, c: int,
    causal: bool, keep: Any, room: Any, dq: Any, dk: Any, dv: Any, dbias: Any,
) -> Any:  # fmt: skip
    """dq, dk, dv of one head of a sequence; its dbias is added."""
    keys, values, columns, lines, scores, dscores, over, left, own, totals, mixed, square = room
    i0, i1, j0, j1, at = head[I0], head[I1], head[J0], head[J1], 4 * head[COLUMN]
    count, row, rising = j1 - j0, 4 * q.shape[1], consecutive(k_at, j0, j1)
    line, straight, key_rows = 4 * row_of(count), reach >= 0 and not causal and rising, j0 * row + at
    pack_keys(1, address(k) + key_rows, row, count, c, address(keys))
    pack_keys(1, address(v) + key_rows, row, count, c, address(values))
    pack_values(1, address(k) + key_rows, row, count, c, address(columns))
    for first in range(i0, i1, QUERIES):
        rows, more, there = min(QUERIES, i1 - first), first > i0, first * row + at
        over_row = 4 * row_of(rows)
        weigh(
            tile, 1, q, address(keys), table, reach, q_at, k_at, head, first, first + rows, c, causal, straight,
            address(left), address(own), address(scores), totals,
        )  # fmt: skip
        for i in range(0, rows, ROWS):
            score_panels(
                tile, 1, min(ROWS, rows - i), address(dy) + there + i * row, row, address(values), count, c,
                address(dscores) + i * line, line, 0, -(-count // LANES),
            )  # fmt: skip
        for i in range(rows):
            place, here = head[PLACE] + (first + i - i0) * count, address(dscores) + i * line
            softmax_backward(address(scores) + i * line, here, totals[i], keep, place, count)
            if reach >= 0:
                gather_biases(here, k_at, j0, j1, reach - q_at[first + i], rising, dbias)
        times(tile, rows, address(dscores), line, address(columns), count, c, mixed, False, address(dq) + there, row)
        for x, y, out in ((dscores, q, dk), (scores, dy, dv)):
            turned(address(x), line, rows, count, address(square), address(over), over_row)
            pack_values(1, address(y) + there, row, rows, c, address(lines))
            times(
                tile, count, address(over), over_row, address(lines), rows, c, mixed, more, address(out) + key_rows, row
            )


@Kernel
def attention_backward_kernel(
    counters: Any, threads: int, tile: int, dy: Any, q: Any, k: Any, v: Any, bias: Any, heads_at: Any, runs: Any,
    q_at: Any, k_at: Any, c: int, causal: bool, keep: Any, dq: Any, dk: Any, dv: Any, dbias: Any,
) -> None:  # fmt: skip
    """A task is a head of a run of sequences, with a row of dbias [runs h 2D+1] for its sum.

    Args:
        heads_at: [b h 6] what each head of each sequence is.
        runs: [r+1] the first sequence of each run.
    """
    heads, tasks = heads_at.shape[1], heads_at.shape[1] * (len(runs) - 1)
    longest, most = np.max(heads_at[:, :, J1] - heads_at[:, :, J0]), np.max(heads_at[:, :, I1] - heads_at[:, :, I0])
    room, reach = scratches(longest, min(QUERIES, most), c), (bias.shape[1] - LANES - 1) // 2 if bias.shape[1] else -1
    room[8][:] = 0
    task = take(counters, 0)
    while task < tasks:
        run, h = task // heads, task % heads
        dbias[run, h] = 0
        for s in range(runs[run], runs[run + 1]):
            head_backward(
                tile, dy, q, k, v, bias[h], reach, heads_at[s, h], q_at, k_at, c, causal, keep, room, dq, dk, dv,
                dbias[run, h],
            )  # fmt: skip
        done(counters, 0)
        task = take(counters, 0)
    wait(counters, 0, tasks)
