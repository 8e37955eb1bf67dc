"""Attention in training: attention with dropout, and the backward of attention, one head of a sequence at a time.

Scores, probabilities and their cotangents are recomputed for some queries at a time, with all their keys, and stay in
cache. The five products use the tile.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable

from ..runtime.compile_cache import Kernel
from ..runtime.thread_pool import barrier, finish_task, next_task
from .attention import (
    consecutive,
    fill_biases,
    longest_keys,
    mix_panels,
    pack_keys,
    pack_values,
    reach_of,
    row_of,
    scaled_rows,
    score_panels,
    straight_biases,
)
from .descriptors import Layout, Panels, Rows, Tile
from .gemm import PAIR
from .llvm_ir import BYTES, LANES
from .memory import address, floats, scratch
from .microkernel import ROWS, call_tile
from .simd import dot, scaled_lines, softmax_row, transpose

QUERIES = 64  # queries whose scores are held at once: with about 350 keys, these buffers fill 360 KiB
SUMS = 16  # maximum number of runs of sequences; each run has its own sum of dbias


class Operands(NamedTuple):
    """The operands of the backward of attention: dy [Nq hc], q, k, v, and `dropout_mask`, which may be empty."""

    dy: Any
    q: Any
    k: Any
    v: Any
    dropout_mask: Any


class Gradients(NamedTuple):
    """dq, dk, dv, and dbias [runs h 2D+1]."""

    dq: Any
    dk: Any
    dv: Any
    dbias: Any


class ScoreScratch(NamedTuple):
    """A thread's buffers for `exp_scores`: queries as left operands, one query's biases, the sums of all queries."""

    left: Any
    biases: Any
    totals: Any


class BackwardScratch(NamedTuple):
    """A thread's buffers for `head_backward`.

    Args:
        keys, values, key_columns, lines: panels of keys, of values, of keys by columns, of rows of q or dy.
        scores, dscores, transposed: [queries longest], and one of them transposed.
        scored: ScoreScratch.
        mixed: [ROWS 32]; square: [16 16].
    """

    keys: Any
    values: Any
    key_columns: Any
    lines: Any
    scores: Any
    dscores: Any
    transposed: Any
    scored: Any
    mixed: Any
    square: Any


@register_jitable
def panels_of(count: int, c: int) -> Any:
    """The number of float32 numbers in the panels of `count` keys or values [c]."""
    return -(-count // PAIR) * PAIR * -(-c // PAIR) * PAIR


@register_jitable
def bias_of(layout: Layout, table: Any, head: Any, position: int, straight: bool, buffer: int) -> Any:
    """The address of the biases of one query: in the table if it is `straight`, otherwise `buffer`, which is filled."""
    if straight:
        return address(table) + 4 * (reach_of(table) + layout.key_positions[head.j0] - position)
    if len(table) == 0 and not layout.causal:
        return buffer  # zeros
    fill_biases(layout, table, head, position, buffer)
    return buffer


@register_jitable
def score_scratch(longest: int, c: int, queries: int) -> Any:
    """The buffers for up to `longest` keys [c] and so many queries."""
    buffers = ScoreScratch(scratch(ROWS * row_of(c)), scratch(row_of(longest)), scratch(queries))
    buffers.biases[:] = 0
    return buffers


@register_jitable
def exp_scores(
    tile: Tile, q: Any, panels: Panels, layout: Layout, table: Any, head: Any, first: int, last: int, straight: bool,
    buffers: Any, scores: int,
) -> Any:  # fmt: skip
    """Writes 2^(score - top) of the queries first .. last-1 to rows of `scores`, and their sums to `buffers.totals`."""
    totals, biases, query_positions = buffers.totals, address(buffers.biases), layout.query_positions
    row, left = 4 * row_of(panels.tokens), Rows(address(buffers.left), 4 * row_of(panels.c))
    for i in range(first, last, ROWS):
        rows = min(ROWS, last - i)
        start = address(q[i]) + 4 * head.column
        scaled_rows(tile.terms, start, 4 * q.shape[1], rows, panels.c, left.start, left.stride)
        here = scores + (i - first) * row
        score_panels(tile, rows, left, panels, Rows(here, row), 0, -(-panels.tokens // LANES))
        for r in range(rows):
            bias = bias_of(layout, table, head, query_positions[i + r], straight, biases)
            totals[i - first + r] = softmax_row(here + r * row, bias, panels.tokens)


@register_jitable
def multiply_row(x: int, factors: Any, start: int, count: int) -> Any:
    """x *= factors[place ..]"""
    numbers = floats(x, count)
    for j in range(count):
        numbers[j] *= factors[start + j]


@Kernel
def dropout_attention_kernel(
    counters: Any, threads: int, tile: Tile, q: Any, k: Any, v: Any, layout: Layout, dropout_mask: Any, out: Any
) -> None:
    """out = (dropout_mask * softmax(q k^T + bias)) v. A task is one head of one sequence."""
    heads_at, bias, c, row = layout.heads, layout.bias, layout.c, 4 * q.shape[1]
    heads, longest = heads_at.shape[1], longest_keys(heads_at)
    keys, values = scratch(panels_of(longest, c)), scratch(panels_of(longest, c))
    scores, buffers = scratch(ROWS * row_of(longest)), score_scratch(longest, c, ROWS)
    mixed = scratch(ROWS * PAIR).reshape(ROWS, PAIR)
    task = next_task(counters, 0)
    while task < heads_at.size:
        head, table = heads_at[task // heads, task % heads], bias[task % heads]
        count, straight, column = head.j1 - head.j0, straight_biases(layout, head), 4 * head.column
        panels, line = Panels(address(keys), address(values), count, c), Rows(address(scores), 4 * row_of(count))
        pack_keys(1, address(k) + head.j0 * row + column, row, count, c, panels.keys)
        pack_values(1, address(v) + head.j0 * row + column, row, count, c, panels.values)
        for i in range(head.i0, head.i1, ROWS):
            rows = min(ROWS, head.i1 - i)
            exp_scores(tile, q, panels, layout, table, head, i, i + rows, straight, buffers, line.start)
            for r in range(rows):
                start = head.probs_start + (i + r - head.i0) * count
                multiply_row(line.start + r * line.stride, dropout_mask, start, count)
            to = Rows(address(out[i]) + column, row)
            mix_panels(tile, rows, line, panels, mixed, buffers.totals, to, 0, -(-c // LANES))
        finish_task(counters, 0)
        task = next_task(counters, 0)
    barrier(counters, 0, heads_at.size)


@register_jitable
def times(tile: Tile, rows: int, a: Rows, panels: int, steps: int, c: int, mixed: Any, more: bool, out: Rows) -> Any:
    """out [rows c] = a [rows steps] times panels of columns; with `more` the product is added to out."""
    for p in range(0, -(-c // LANES), 2):
        b0, width = panels + p * steps * BYTES, min(PAIR, c - p * LANES)
        b1 = b0 + steps * BYTES if (p + 1) * LANES < c else b0
        for i in range(0, rows, ROWS):
            some = min(ROWS, rows - i)
            call_tile(tile.address, some, a.start + i * a.stride, a.stride, b0, b1, steps, address(mixed), 4 * PAIR)
            for r in range(some):
                to = floats(out.start + (i + r) * out.stride + p * BYTES, width)
                for e in range(width):
                    to[e] = mixed[r, e] + to[e] if more else mixed[r, e]


@register_jitable
def transpose_rows(x: int, row: int, rows: int, columns: int, square: int, out: int, out_row: int) -> Any:
    """Writes the rows of x as columns of out, 16 x 16 at a time. Numbers behind the last row or column are invalid."""
    for i in range(0, rows, LANES):
        for j in range(0, columns, LANES):
            transpose(x + i * row + 4 * j, row, min(LANES, rows - i), square)
            scaled_lines(square, BYTES, LANES, np.float32(1), out + j * out_row + 4 * i, out_row)


@register_jitable
def softmax_backward(scores: int, dprobs: int, total: Any, dropout_mask: Any, start: int, count: int) -> Any:
    """Replaces scores by dropout_mask * probs, and dprobs by dscores = probs * (dprobs - sum_j probs dprobs)."""
    vectors, factor = -(-count // LANES), np.float32(1) / total
    if len(dropout_mask):
        multiply_row(dprobs, dropout_mask, start, count)
    p, dp = floats(scores, vectors * LANES), floats(dprobs, vectors * LANES)
    for j in range(count, len(dp)):
        dp[j] = 0  # scores are 0 there as well
    mean = dot(scores, dprobs, vectors) * factor
    for j in range(len(p)):
        p[j] *= factor
        dp[j] = p[j] * (dp[j] - mean)
    if len(dropout_mask):
        multiply_row(scores, dropout_mask, start, count)


@register_jitable
def gather_biases(dscores: int, key_positions: Any, start: int, straight: bool, dbias: Any) -> Any:
    """dbias[start + key position] += dscores for one query and all its keys."""
    numbers = floats(dscores, len(key_positions))
    if straight:
        to = dbias[start + key_positions[0] : start + key_positions[0] + len(key_positions)]
        for j in range(len(to)):
            to[j] += numbers[j]
    else:
        for j in range(len(key_positions)):
            dbias[start + key_positions[j]] += numbers[j]


@register_jitable
def backward_scratch(longest: int, queries: int, c: int) -> Any:
    """The buffers for up to `longest` keys [c], and so many queries at once."""
    row, transposed_rows = row_of(longest), -(-longest // LANES) * LANES
    return BackwardScratch(
        scratch(panels_of(longest, c)), scratch(panels_of(longest, c)), scratch(panels_of(longest, c)),
        scratch(panels_of(queries, c)), scratch(queries * row), scratch(queries * row),
        scratch(transposed_rows * row_of(queries)), score_scratch(longest, c, queries),
        scratch(ROWS * PAIR).reshape(ROWS, PAIR), scratch(LANES * LANES),
    )  # fmt: skip


@register_jitable
def head_backward(
    tile: Tile, x: Operands, layout: Layout, head: Any, table: Any, buffers: Any, grads: Gradients, dbias: Any
) -> Any:
    """Computes dq, dk and dv of one head of a sequence, and adds its dbias to `dbias` [2D+1]."""
    dy, q, k, v, dropout_mask, dq = x.dy, x.q, x.k, x.v, x.dropout_mask, grads.dq
    i0, i1, j0, at, c = head.i0, head.i1, head.j0, 4 * head.column, layout.c
    count, row, key_positions = head.j1 - j0, 4 * q.shape[1], layout.key_positions[j0 : head.j1]
    line = 4 * row_of(count)
    query_positions, reach, key_rows = layout.query_positions, reach_of(table), j0 * row + at
    rising, straight = consecutive(layout.key_positions, j0, head.j1), straight_biases(layout, head)
    panels, value_panels = (
        Panels(address(buffers.keys), address(buffers.key_columns), count, c),
        Panels(address(buffers.values), address(buffers.values), count, c),
    )
    scores, dscores, lines = address(buffers.scores), address(buffers.dscores), address(buffers.lines)
    transposed, square, mixed = address(buffers.transposed), address(buffers.square), buffers.mixed
    pack_keys(1, address(k) + key_rows, row, count, c, panels.keys)
    pack_keys(1, address(v) + key_rows, row, count, c, value_panels.keys)
    pack_values(1, address(k) + key_rows, row, count, c, panels.values)
    for first in range(i0, i1, QUERIES):
        rows, more, query_rows = min(QUERIES, i1 - first), first > i0, first * row + at
        across = 4 * row_of(rows)
        exp_scores(tile, q, panels, layout, table, head, first, first + rows, straight, buffers.scored, scores)
        for i in range(0, rows, ROWS):
            left, to = Rows(address(dy) + query_rows + i * row, row), Rows(dscores + i * line, line)
            score_panels(tile, min(ROWS, rows - i), left, value_panels, to, 0, -(-count // LANES))
        for i in range(rows):
            probs_start, here = head.probs_start + (first + i - i0) * count, dscores + i * line
            softmax_backward(scores + i * line, here, buffers.scored.totals[i], dropout_mask, probs_start, count)
            if reach >= 0:
                gather_biases(here, key_positions, reach - query_positions[first + i], rising, dbias)
        to = Rows(address(dq) + query_rows, row)
        times(tile, rows, Rows(dscores, line), panels.values, count, c, mixed, False, to)
        for weights, y, out in ((dscores, q, grads.dk), (scores, dy, grads.dv)):
            transpose_rows(weights, line, rows, count, square, transposed, across)
            pack_values(1, address(y) + query_rows, row, rows, c, lines)
            to = Rows(address(out) + key_rows, row)
            times(tile, count, Rows(transposed, across), lines, rows, c, mixed, more, to)


@Kernel
def attention_backward_kernel(
    counters: Any, threads: int, tile: Tile, operands: Operands, layout: Layout, runs: Any, grads: Gradients
) -> None:
    """The backward of attention. A task is one head in a run of sequences, and has its own row of dbias.

    Args:
        runs: [r+1] the first sequence of each run, and the number of sequences.
    """
    heads_at, bias, dbias = layout.heads, layout.bias, grads.dbias
    heads, tasks, most = heads_at.shape[1], heads_at.shape[1] * (len(runs) - 1), 0
    for s in range(len(heads_at)):
        most = max(most, heads_at[s, 0].i1 - heads_at[s, 0].i0)
    buffers = backward_scratch(longest_keys(heads_at), min(QUERIES, most), layout.c)
    task = next_task(counters, 0)
    while task < tasks:
        run, h = task // heads, task % heads
        dbias[run, h] = 0
        for s in range(runs[run], runs[run + 1]):
            head_backward(tile, operands, layout, heads_at[s, h], bias[h], buffers, grads, dbias[run, h])
        finish_task(counters, 0)
        task = next_task(counters, 0)
    barrier(counters, 0, tasks)
