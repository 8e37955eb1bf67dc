"""What blocks are made of, one operation at a time: the same numbers as in the kernels of whole blocks, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ragged import Array, token_positions
from ..interface import SequenceLayout
from .encoder_fused import (
    attention_block_kernel,
    bounds,
    by_head,
    cost,
    facts,
    feed_forward_kernel,
    prepared,
)
from .kernels.attention import look_back, pack_keys, row_of
from .kernels.attention_backward import COLUMN, I0, I1, J0, J1, PLACE, consecutive, panels_of, weigh
from .kernels.epilogue import STORE
from .kernels.gemm import Packed, attended_in
from .kernels.llvm_ir import LANES
from .kernels.memory import address, scratch
from .kernels.microkernel import ROWS
from .runtime.allocator import aligned, plain
from .runtime.compile_cache import Kernel
from .runtime.thread_pool import done, run, take, wait

NO_GAIN, NOTHING = np.zeros(0, np.float32), np.zeros((0, 1), np.uint8)


def linear(x: Array, w: Packed) -> Array:
    """x w: [N a], [a o] -> [N o]."""
    x = plain(x)
    rows, scales = prepared(x, x.shape[1], w)
    out = aligned(1, len(x), w.columns)
    run(
        feed_forward_kernel, 2, cost(len(x), w), STORE, x, NO_GAIN, 0.0, facts(w), rows, scales, out, rows, out[0]
    )  # fmt: skip
    return out[0]


def attention(
    q: Array,
    k: Array,
    v: Array,
    bias: Array | None,
    layout: SequenceLayout,
    heads: int,
    causal: bool,
    precision: str | None,
) -> Array:
    """softmax(q k^T + bias) v per sequence and head: [Nq hc], [Nk hc] -> [Nq hc]."""
    if precision is not None and looks_back(bias, layout, causal):
        return _look_back(plain(q), plain(k), plain(v), bias, layout, heads)
    out = aligned(*q.shape)
    area = int((layout.query_lengths * layout.key_lengths).sum())
    at = [plain(x, np.int64) for x in (layout.query_positions, layout.key_positions)]
    q, k, v = plain(q), plain(k), plain(v)
    run(
        attention_block_kernel, 3, area * (2 * q.shape[1] + 16 * heads) // LANES, *attended_in(precision), q, NO_GAIN,
        0.0, np.zeros((0, 8), np.int64), NOTHING, NO_GAIN, q[np.newaxis, :0], q, k, v, by_head(bias, heads),
        bounds(layout), *at, heads, bool(causal), out, NOTHING, out,
    )  # fmt: skip
    return out


def looks_back(bias: Array | None, layout: SequenceLayout, causal: bool) -> bool:
    """Is it a decoder's self-attention: each sequence's last tokens among all of its own, from its start on?

    It is in float32 whatever the precision.
    """
    ends = layout.key_lengths - layout.query_lengths
    return bool(
        causal
        and bias is not None
        and (ends >= 0).all()
        and np.array_equal(layout.key_positions, token_positions(layout.key_lengths))
        and np.array_equal(layout.query_positions, token_positions(layout.query_lengths, start=ends))
    )


@Kernel
def look_back_kernel(
    counters: Any, threads: int, q: Any, k: Any, v: Any, bias: Any, layout: Any, heads: int, out: Any
) -> None:
    """A task is a head of a sequence; spans as in `bounds`."""
    longest, c, row, reach = 0, q.shape[1] // heads, 4 * q.shape[1], (bias.shape[1] - LANES - 1) // 2
    for s in range(len(layout)):
        longest = max(longest, layout[s, 3] - layout[s, 2])
    scores = scratch(row_of(longest))
    tasks = heads * len(layout)
    task = take(counters, 0)
    while task < tasks:
        head, span = task % heads, layout[task // heads]
        here, keys = 4 * (task % heads) * c, span[2] * row
        for i in range(span[0], span[1]):
            count = span[3] - span[2] - (span[1] - span[0]) + i - span[0] + 1
            look_back(
                address(q) + i * row + here, address(k) + keys + here, address(v) + keys + here, row, count, c,
                address(bias[head]) + 4 * (reach - count + 1), scores, address(out) + i * row + here,
            )  # fmt: skip
        done(counters, 0)
        task = take(counters, 0)
    wait(counters, 0, tasks)


def _look_back(q: Array, k: Array, v: Array, bias: Any, layout: SequenceLayout, heads: int) -> Array:
    """Attention of a decoder's tokens to themselves and those before, as its step makes it."""
    out, area = aligned(*q.shape), int((layout.query_lengths * layout.key_lengths).sum())
    run(look_back_kernel, 1, area * q.shape[1] // 4, q, k, v, by_head(bias, heads), bounds(layout), heads, out)
    return out


@Kernel
def probs_kernel(
    counters: Any, threads: int, tile: int, terms: int, q: Any, k: Any, bias: Any, heads_at: Any, q_at: Any, k_at: Any,
    c: int, causal: bool, out: Any,
) -> None:  # fmt: skip
    """Softmax of the scores; a task is a row of heads_at [b h 6], see `cpu.kernels.attention_backward`."""
    heads, tasks = heads_at.shape[1], heads_at.shape[0] * heads_at.shape[1]
    longest = np.max(heads_at[:, :, J1] - heads_at[:, :, J0])
    keys, scores, left = scratch(panels_of(longest, c)), scratch(ROWS * row_of(longest)), scratch(ROWS * row_of(c))
    own, totals, reach = scratch(row_of(longest)), scratch(ROWS), -1
    if bias.shape[1]:
        reach = (bias.shape[1] - LANES - 1) // 2
    own[:] = 0
    row = 4 * q.shape[1]
    task = take(counters, 0)
    while task < tasks:
        head, table = heads_at[task // heads, task % heads], bias[task % heads]
        count, straight = head[J1] - head[J0], reach >= 0 and not causal and consecutive(k_at, head[J0], head[J1])
        pack_keys(terms, address(k) + head[J0] * row + 4 * head[COLUMN], row, count, c, address(keys))
        for i in range(head[I0], head[I1], ROWS):
            last = min(i + ROWS, head[I1])
            weigh(
                tile, terms, q, address(keys), table, reach, q_at, k_at, head, i, last, c, causal, straight,
                address(left), address(own), address(scores), totals,
            )  # fmt: skip
            for r in range(last - i):
                place = head[PLACE] + (i + r - head[I0]) * count
                for j in range(count):
                    out[place + j] = scores[r * row_of(count) + j] / totals[r]
        done(counters, 0)
        task = take(counters, 0)
    wait(counters, 0, tasks)
