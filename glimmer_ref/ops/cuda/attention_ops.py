"""Attention of the CUDA backend: tiles of queries, a separate kernel for one query per sequence, and probabilities."""

from __future__ import annotations

import numpy as np

from ...errors import InputError
from ...ragged import Array, Ints, offsets
from ..checks import check_attention, check_dropout_mask
from ..interface import Factors, SequenceLayout
from .kernels.attention import WIDTHS, smaller
from .matmul_ops import on_gpu
from .runtime.device import device


def _tiles(layout: SequenceLayout, heads: int, queries: int) -> Ints:
    """The table [B 6] of the blocks for `attention`, each with at most `queries` queries of one sequence."""
    rows, i0, j0, first = [], 0, 0, 0
    for i, j in zip(layout.query_lengths.tolist(), layout.key_lengths.tolist(), strict=True):
        rows += [
            (i0 + start, min(queries, i - start), j0, j, first + start * j, i * j) for start in range(0, i, queries)
        ]
        i0, j0, first = i0 + i, j0 + j, first + heads * i * j
    return np.array(rows, np.int64).reshape(-1, 6)


def _operands(q: Array, k: Array, v: Array, bias: Array | None, layout: SequenceLayout, heads: int) -> Array:
    """Checks the operands, and returns the bias; an array without rows if it is None."""
    for x, name in ((q, "q"), (k, "k"), (v, "v")):
        on_gpu(x, f"attention {name}")
    check_attention(q, k, v, bias if bias is None else on_gpu(bias, "attention bias"), layout, heads)
    return device().empty((0, heads), q.dtype) if bias is None else bias


def attention(
    q: Array,
    k: Array,
    v: Array,
    bias: Array | None,
    layout: SequenceLayout,
    heads: int,
    causal: bool,
    dropout_mask: Factors | None = None,
    precision: str | None = None,
) -> Array:
    """Online softmax over tiles of keys. Products and sums are in the dtype of the operands, whatever the precision.

    Raises:
        InputError: shapes, layout and bias do not fit each other, or heads have more than 128 columns.
    """
    bias = _operands(q, k, v, bias, layout, heads)
    c = q.shape[1] // heads
    width = next((w for w in WIDTHS if c <= w), None)
    if width is None:
        raise InputError("attention", f"heads of at most {max(WIDTHS)} columns with ops=cuda", str(c))
    one_query = c <= device().sizes[q.dtype.name].one_query and (np.asarray(layout.query_lengths) == 1).all()
    if dropout_mask is None and one_query:
        return _one_query(q, k, v, bias, layout, heads, causal)
    suffix, factors = "", q.reshape(q.size)
    if dropout_mask is not None:
        check_dropout_mask(dropout_mask, layout, heads)
        suffix, factors = "_masked", on_gpu(dropout_mask, "attention dropout_mask")
    out, sizes = device().empty(q.shape, q.dtype), smaller(device().sizes[q.dtype.name], width)
    table = _tiles(layout, heads, sizes.queries)
    positions = [device().table(x) for x in (layout.query_positions, layout.key_positions)]
    device().run(
        q.dtype, f"attention_{width}{suffix}", (len(table), heads), q, k, v, bias, *positions,
        device().table(table), heads, int(causal), factors, out,
    )  # fmt: skip
    return out


def _one_query(q: Array, k: Array, v: Array, bias: Array, layout: SequenceLayout, heads: int, causal: bool) -> Array:
    """Attention with one query per sequence, whose keys are divided among several blocks."""
    sizes, c = device().sizes[q.dtype.name], q.shape[1] // heads
    runs = max(1, min(sizes.splits, -(-int(layout.key_lengths.max(initial=1)) // sizes.one_query)))
    parts, out = device().empty((q.shape[0] * heads * runs, c + 2), q.dtype), device().empty(q.shape, q.dtype)
    tables = [device().table(x) for x in (layout.query_positions, layout.key_positions, offsets(layout.key_lengths))]
    grid = (q.shape[0], heads, runs)
    device().run(q.dtype, "attend_one", grid, q, k, v, bias, *tables, heads, int(causal), parts)
    device().run(q.dtype, "merge", (q.shape[0], heads), parts, heads, runs, out)
    return out


def attention_probs(
    q: Array,
    k: Array,
    bias: Array | None,
    layout: SequenceLayout,
    heads: int,
    causal: bool,
    precision: str | None = None,
) -> list[Array]:
    """A separate kernel, launched once for each sequence, for traces and lessons.

    Raises:
        InputError: as `attention`.
    """
    bias = _operands(q, k, k, bias, layout, heads)
    positions = [device().table(x) for x in (layout.query_positions, layout.key_positions)]
    result, starts, key_starts = [], offsets(layout.query_lengths), offsets(layout.key_lengths)
    for s, (i, j) in enumerate(zip(layout.query_lengths.tolist(), layout.key_lengths.tolist(), strict=True)):
        out = device().empty((heads * i, j), q.dtype)
        first = int(starts[s]), int(key_starts[s])
        device().run(
            q.dtype, "attention_probs", (i, heads), q, k, bias, *positions, *first, heads, int(causal), out
        )  # fmt: skip
        result.append(out.reshape(heads, i, j))
    return result
