"""The operations of the fused blocks, one at a time. They give exactly the same bits as inside the fused kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ragged import Array, token_positions
from ..interface import SequenceLayout
from .encoder_fused import (
    NO_GAIN,
    BlockScratch,
    Inputs,
    attention_block_kernel,
    attention_layout,
    cost,
    feed_forward_kernel,
    prepared,
)
from .kernels.attention import attend_past, longest_keys, pack_keys, row_of, straight_biases
from .kernels.attention_backward import exp_scores, panels_of, score_scratch
from .kernels.descriptors import Layout, Panels, Tile
from .kernels.epilogue import STORE
from .kernels.gemm import Packed, attended_in, descriptors
from .kernels.llvm_ir import LANES
from .kernels.memory import address, scratch
from .kernels.microkernel import ROWS
from .runtime.allocator import aligned, plain
from .runtime.compile_cache import Kernel
from .runtime.thread_pool import barrier, finish_task, next_task, run_phased

NOTHING, NO_PANELS = np.zeros(0, np.float32), np.zeros((0, 1), np.uint8)


def linear(x: Array, w: Packed) -> Array:
    """x w: [N a], [a o] -> [N o]."""
    x, out = plain(x), aligned(1, len(x), w.columns)
    inputs, buffers = Inputs(x, NO_GAIN, 0.0, descriptors(w)), BlockScratch(*prepared(x, x.shape[1], w), out, NO_PANELS)
    run_phased(feed_forward_kernel, 2, cost(len(x), w), STORE, inputs, buffers, out[0])
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
    if precision is not None and is_decoder_step(bias, layout, causal):
        return _attend_past(plain(q), plain(k), plain(v), bias, layout, heads)
    out, (q, k, v) = aligned(*q.shape), (plain(x) for x in (q, k, v))
    area = int((layout.query_lengths * layout.key_lengths).sum())
    run_phased(
        attention_block_kernel, 3, area * (2 * q.shape[1] + 16 * heads) // LANES, attended_in(precision),
        Inputs(q, NO_GAIN, 0.0, descriptors()), q, k, v, attention_layout(layout, bias, heads, q.shape[1], causal),
        BlockScratch(NO_PANELS, NOTHING, q[np.newaxis, :0], NO_PANELS), out, out,
    )  # fmt: skip
    return out


def is_decoder_step(bias: Array | None, layout: SequenceLayout, causal: bool) -> bool:
    """Whether this is a decoder's self-attention: the last tokens of each sequence attend to all its tokens so far.

    It is computed in float32 whatever the precision.
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
def attend_past_kernel(counters: Any, threads: int, q: Any, k: Any, v: Any, layout: Layout, out: Any) -> None:
    """A decoder's self-attention. A task is one head of one sequence."""
    heads_at, bias, c, row = layout.heads, layout.bias, layout.c, 4 * q.shape[1]
    heads, reach, scores = heads_at.shape[1], (bias.shape[1] - LANES - 1) // 2, scratch(row_of(longest_keys(heads_at)))
    task = next_task(counters, 0)
    while task < heads_at.size:
        head, table = heads_at[task // heads, task % heads], bias[task % heads]
        here, keys = 4 * head.column, head.j0 * row
        for i in range(head.i0, head.i1):
            count = head.j1 - head.j0 - (head.i1 - head.i0) + i - head.i0 + 1
            attend_past(
                address(q) + i * row + here, address(k) + keys + here, address(v) + keys + here, row, count, c,
                address(table) + 4 * (reach - count + 1), scores, address(out) + i * row + here,
            )  # fmt: skip
        finish_task(counters, 0)
        task = next_task(counters, 0)
    barrier(counters, 0, heads_at.size)


def _attend_past(q: Array, k: Array, v: Array, bias: Any, layout: SequenceLayout, heads: int) -> Array:
    """Attention of a decoder's tokens to themselves and to earlier tokens, computed as in a decoder step."""
    out, area = aligned(*q.shape), int((layout.query_lengths * layout.key_lengths).sum())
    kernel_layout = attention_layout(layout, bias, heads, q.shape[1], causal=True)
    run_phased(attend_past_kernel, 1, area * q.shape[1] // 4, q, k, v, kernel_layout, out)
    return out


@Kernel
def probs_kernel(counters: Any, threads: int, tile: Tile, q: Any, k: Any, layout: Layout, out: Any) -> None:
    """The softmax of the scores. A head's probabilities begin at `head.probs_start`. A task is a head of a sequence."""
    heads_at, bias, c, row = layout.heads, layout.bias, layout.c, 4 * q.shape[1]
    heads, longest = heads_at.shape[1], longest_keys(heads_at)
    keys, scores = scratch(panels_of(longest, c)), scratch(ROWS * row_of(longest))
    buffers = score_scratch(longest, c, ROWS)
    task = next_task(counters, 0)
    while task < heads_at.size:
        head, table = heads_at[task // heads, task % heads], bias[task % heads]
        count, straight, at = head.j1 - head.j0, straight_biases(layout, head), address(keys)
        pack_keys(tile.terms, address(k) + head.j0 * row + 4 * head.column, row, count, c, at)
        for i in range(head.i0, head.i1, ROWS):
            last = min(i + ROWS, head.i1)
            panels = Panels(at, at, count, c)
            exp_scores(tile, q, panels, layout, table, head, i, last, straight, buffers, address(scores))
            for r in range(last - i):
                start = head.probs_start + (i + r - head.i0) * count
                for j in range(count):
                    out[start + j] = scores[r * row_of(count) + j] / buffers.totals[r]
        finish_task(counters, 0)
        task = next_task(counters, 0)
    barrier(counters, 0, heads_at.size)
