"""Attention as `cuda.ops` tells it: tiles of queries, a kernel of its own for one query each, and the probabilities."""

from __future__ import annotations

import numpy as np

from ...errors import InputError
from ...ragged import Array, Ints, offsets
from ..checks import fits, mask_fits
from ..interface import Factors, SequenceLayout
from .kernels.attention import WIDTHS, smaller
from .matmul_ops import here
from .runtime.device import device


def _tiles(layout: SequenceLayout, heads: int, queries: int) -> Ints:
    """What `attention`'s blocks are: at most so many queries of one sequence each, [B 6]."""
    rows, i0, j0, place = [], 0, 0, 0
    for i, j in zip(layout.query_lengths.tolist(), layout.key_lengths.tolist(), strict=True):
        rows += [
            (i0 + start, min(queries, i - start), j0, j, place + start * j, i * j) for start in range(0, i, queries)
        ]
        i0, j0, place = i0 + i, j0 + j, place + heads * i * j
    return np.array(rows, np.int64).reshape(-1, 6)


def _operands(q: Array, k: Array, v: Array, bias: Array | None, layout: SequenceLayout, heads: int) -> Array:
    """The bias, or one of no rows, when all that the kernels read has been looked at."""
    for x, name in ((q, "q"), (k, "k"), (v, "v")):
        here(x, f"attention {name}")
    fits(q, k, v, bias if bias is None else here(bias, "attention bias"), layout, heads)
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
    """Online softmax over tiles of keys. Sums, and products whatever the precision, in the dtype of the operands.

    Raises:
        InputError: shapes, spans and bias that do not fit each other; heads of over 128 columns.
    """
    bias = _operands(q, k, v, bias, layout, heads)
    c = q.shape[1] // heads
    width = next((w for w in WIDTHS if c <= w), None)
    if width is None:
        raise InputError("attention", f"heads of at most {max(WIDTHS)} columns with ops=cuda", str(c))
    if dropout_mask is None and c <= device().sizes[q.dtype.name].one and (np.asarray(layout.query_lengths) == 1).all():
        return _one_each(q, k, v, bias, layout, heads, causal)
    suffix, factors = "", q.reshape(q.size)
    if dropout_mask is not None:
        mask_fits(dropout_mask, layout, heads)
        suffix, factors = "_kept", here(dropout_mask, "attention dropout_mask")
    out, sizes = device().empty(q.shape, q.dtype), smaller(device().sizes[q.dtype.name], width)
    table = _tiles(layout, heads, sizes.queries)
    at = [device().table(x) for x in (layout.query_positions, layout.key_positions)]
    device().run(
        q.dtype, f"attention_{width}{suffix}", (len(table), heads), q, k, v, bias, *at,
        device().table(table), heads, int(causal), factors, out,
    )  # fmt: skip
    return out


def _one_each(q: Array, k: Array, v: Array, bias: Array, layout: SequenceLayout, heads: int, causal: bool) -> Array:
    """One query a sequence: its keys in runs that many blocks go through at once."""
    sizes, c = device().sizes[q.dtype.name], q.shape[1] // heads
    runs = max(1, min(sizes.splits, -(-int(layout.key_lengths.max(initial=1)) // sizes.one)))
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
    """A kernel of its own, a launch a sequence: for traces and lessons.

    Raises:
        InputError: as `attention`.
    """
    bias = _operands(q, k, k, bias, layout, heads)
    at = [device().table(x) for x in (layout.query_positions, layout.key_positions)]
    result, starts, key_starts = [], offsets(layout.query_lengths), offsets(layout.key_lengths)
    for s, (i, j) in enumerate(zip(layout.query_lengths.tolist(), layout.key_lengths.tolist(), strict=True)):
        out = device().empty((heads * i, j), q.dtype)
        first = int(starts[s]), int(key_starts[s])
        device().run(
            q.dtype, "attention_probs", (i, heads), q, k, bias, *at, *first, heads, int(causal), out
        )  # fmt: skip
        result.append(out.reshape(heads, i, j))
    return result
