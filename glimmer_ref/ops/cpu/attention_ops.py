"""Attention as `cpu.ops` tells it: what a kernel is given, and what is refused before it could read elsewhere."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np

from ...errors import InputError
from ...ragged import Array, Ints, check, offsets
from ..checks import check_attention
from ..interface import PRECISIONS, Factors, SequenceLayout
from . import attention_unfused as singles
from .encoder_fused import bounds, by_head, plain
from .kernels import attention_backward as learning
from .kernels import elementwise as kernels
from .kernels.gemm import attended_in, tile_address
from .kernels.llvm_ir import LANES
from .runtime.allocator import aligned
from .runtime.thread_pool import run, spread


def _blocks(layout: SequenceLayout, heads: int) -> Ints:
    """What the kernel calls blocks: at most ROWS queries of one sequence each, about equally many, [B 6]."""
    rows, i0, j0, place = [], 0, 0, 0
    for i, j in zip(layout.query_lengths.tolist(), layout.key_lengths.tolist(), strict=True):
        parts = -(-i // kernels.ROWS)
        for n in range(parts):
            start, stop = i * n // parts, i * (n + 1) // parts
            rows.append((i0 + start, stop - start, j0, j, place + start * j, i * j))
        i0, j0, place = i0 + i, j0 + j, place + heads * i * j
    return np.array(rows, np.int64).reshape(-1, 6)


def _attend(
    q: Array,
    k: Array,
    v: Array,
    bias: Array | None,
    layout: SequenceLayout,
    heads: int,
    causal: bool,
    out: Array,
    probs: Array,
) -> None:
    """Runs the kernel on its own layout: heads an axis, the bias by head, positions in int64."""
    blocks, dtype, (n, columns) = _blocks(layout, heads), q.dtype, q.shape
    operands = [plain(x, dtype).reshape(len(x), heads, columns // heads) for x in (q, k, v)]
    table = np.empty((heads, 0), dtype) if bias is None else plain(bias.T, dtype)
    at = [plain(x, np.int64) for x in (layout.query_positions, layout.key_positions)]
    if n:
        area = int((layout.query_lengths * layout.key_lengths).sum())  # pairs of query and key
        cost = (area * (2 * columns + 30 * heads) + 20 * k.size) // (heads * len(blocks))
        spread(kernels.attention, heads * len(blocks), cost, *operands, table, blocks, *at, bool(causal), out, probs)


def _attend_kept(
    q: Array, k: Array, v: Array, bias: Array | None, layout: SequenceLayout, heads: int, causal: bool, keep: Array
) -> Array:
    """The same with `keep`, in float32, for a kernel that makes scores some queries at a time."""
    out, at = aligned(*q.shape), [plain(x, np.int64) for x in (layout.query_positions, layout.key_positions)]
    if len(q):
        run(
            learning.kept_attention_kernel, 1, _cost(layout, heads, q, 2), tile_address("float32"), q, k, v,
            by_head(bias, heads), _heads(layout, heads, q), *at, q.shape[1] // heads, bool(causal), keep, out,
        )  # fmt: skip
    return out


def _known(precision: str | None) -> None:
    if precision not in (None, *PRECISIONS):
        raise InputError("attention", f"a precision of {', '.join(PRECISIONS)}", repr(precision))


def _cost(layout: SequenceLayout, heads: int, q: Array, products: int) -> int:
    """About how many additions' time so many products of queries and keys take, with their softmax."""
    area = int((layout.query_lengths * layout.key_lengths).sum())
    return area * (products * q.shape[1] + 16 * heads) // LANES


def _heads(layout: SequenceLayout, heads: int, q: Array) -> Ints:
    """What each head of each sequence is, as the kernels want it: [b h 6]."""
    each = np.empty((len(layout.query_lengths), heads, 6), np.int64)
    each[:, :, :4] = bounds(layout)[:, None]
    each[:, :, learning.COLUMN] = np.arange(heads) * (q.shape[1] // heads)
    areas = layout.query_lengths * layout.key_lengths
    each[:, :, learning.PLACE] = heads * offsets(areas)[:-1, None] + np.arange(heads) * areas[:, None]
    return each


def _mixed(probs: list[Array], keep: Factors, v: Array, layout: SequenceLayout) -> Array:
    """keep * probs times v for every sequence and head: b arrays [h i j], [sum of h*i*j], [Nk hc] -> [Nq hc]."""
    out, i0, j0, place = np.empty((int(layout.query_lengths.sum()), v.shape[1]), v.dtype), 0, 0, 0
    for p in probs:
        heads, i, j = p.shape
        weights = p * keep[place : place + p.size].reshape(p.shape)
        mixed = weights @ v[j0 : j0 + j].reshape(j, heads, -1).transpose(1, 0, 2)
        out[i0 : i0 + i] = mixed.transpose(1, 0, 2).reshape(i, -1)
        i0, j0, place = i0 + i, j0 + j, place + p.size
    return out


def attention(
    q: Array,
    k: Array,
    v: Array,
    bias: Array | None,
    layout: SequenceLayout,
    heads: int,
    causal: bool,
    keep: Factors | None = None,
    precision: str | None = None,
) -> Array:
    """Parallel over heads and blocks of queries. Sums in the dtype of the operands. In float64, BLAS mixes with `keep`.

    Below float32 its products are bfloat16's, but where there is `keep`, or a decoder looks back on its own few tokens.

    Raises:
        InputError: shapes, spans and bias that do not fit each other; an unknown precision.
    """
    check_attention(q, k, v, bias, layout, heads)
    _known(precision)
    if keep is not None:
        check(keep, "hij", "attention keep", hij=heads * int((layout.query_lengths * layout.key_lengths).sum()))
        if q.dtype == np.float32:
            return _attend_kept(plain(q), plain(k), plain(v), bias, layout, heads, causal, plain(keep))
        return _mixed(attention_probs(q, k, bias, layout, heads, causal), keep, v, layout)
    if q.dtype == np.float32:
        return singles.attention(q, k, v, bias, layout, heads, causal, precision)
    out = np.empty((len(q), heads, q.shape[1] // heads), q.dtype)
    _attend(q, k, v, bias, layout, heads, causal, out, out[:0].reshape(-1))
    return out.reshape(q.shape)


def attention_backward(
    dy: Array,
    q: Array,
    k: Array,
    v: Array,
    bias: Array | None,
    layout: SequenceLayout,
    heads: int,
    causal: bool,
    keep: Factors | None = None,
    precision: str | None = None,
) -> tuple[Array, Array, Array, Array | None]:
    """Parallel over heads and runs of sequences, whose dbias are added up in order. In float64, products are BLAS.

    Raises:
        InputError: as `attention`.
    """
    check_attention(q, k, v, bias, layout, heads)
    check(dy, "Nq hc", "attention dy", Nq=q.shape[0], hc=q.shape[1])
    if keep is not None:
        check(keep, "hij", "attention keep", hij=heads * int((layout.query_lengths * layout.key_lengths).sum()))
    dy, q, k, v = (plain(x, q.dtype) for x in (dy, q, k, v))
    if q.dtype != np.float32:
        return _backward64(dy, q, k, v, bias, layout, heads, causal, keep)
    dq, dk, dv = aligned(*q.shape), aligned(*k.shape), aligned(*v.shape)
    if layout.query_lengths.min(initial=1) < 1:  # nobody looks at such a sequence's keys
        dk[:], dv[:] = 0, 0
    runs = min(learning.SUMS, len(layout.query_lengths))
    starts = np.arange(runs + 1) * len(layout.query_lengths) // max(runs, 1)
    dbias = np.empty((runs, heads, 0 if bias is None else len(bias)), np.float32)
    at = [plain(x, np.int64) for x in (layout.query_positions, layout.key_positions)]
    if len(q):
        run(
            learning.attention_backward_kernel, 1, _cost(layout, heads, q, 5), tile_address("float32"), dy, q, k, v,
            by_head(bias, heads), _heads(layout, heads, q), starts, *at, q.shape[1] // heads, bool(causal),
            q[0, :0] if keep is None else plain(keep), dq, dk, dv, dbias,
        )  # fmt: skip
    else:
        dbias[:] = 0
    return dq, dk, dv, None if bias is None else dbias.sum(axis=0).T


def _backward64(
    dy: Array,
    q: Array,
    k: Array,
    v: Array,
    bias: Array | None,
    layout: SequenceLayout,
    heads: int,
    causal: bool,
    keep: Any,
) -> tuple[Array, Array, Array, Array | None]:
    """The formulas one after the other, in float64: what gradients are tested in."""
    dq, dk, dv, place = np.empty_like(q), np.empty_like(k), np.empty_like(v), 0
    dbias, ends = None if bias is None else np.zeros_like(bias), bounds(layout)
    for (i0, i1, j0, j1), p in zip(ends, attention_probs(q, k, bias, layout, heads, causal), strict=True):
        dys, qs, ks, vs = (
            x[a:b].reshape(b - a, heads, q.shape[1] // heads).transpose(1, 0, 2)
            for x, a, b in ((dy, i0, i1), (q, i0, i1), (k, j0, j1), (v, j0, j1))
        )
        factors = 1.0 if keep is None else keep[place : place + p.size].reshape(p.shape)
        dp = dys @ vs.transpose(0, 2, 1) * factors
        ds = p * (dp - (p * dp).sum(axis=2, keepdims=True))
        products = ((dq, i0, i1, ds @ ks), (dk, j0, j1, _turned(ds) @ qs), (dv, j0, j1, _turned(p * factors) @ dys))
        for out, a, b, y in products:
            out[a:b] = y.transpose(1, 0, 2).reshape(b - a, q.shape[1])
        if dbias is not None:
            distance = layout.key_positions[j0:j1] - layout.query_positions[i0:i1, None]
            np.add.at(dbias, distance + len(dbias) // 2, ds.transpose(1, 2, 0))
        place += p.size
    return dq, dk, dv, dbias


def _turned(x: Array) -> Array:
    return x.transpose(0, 2, 1)


def attention_probs(
    q: Array,
    k: Array,
    bias: Array | None,
    layout: SequenceLayout,
    heads: int,
    causal: bool,
    precision: str | None = None,
) -> list[Array]:
    """Without a precision from a kernel that is exact far below the top; with one as blocks make them, before v.

    Raises:
        InputError: as `attention`.
    """
    check_attention(q, k, k, bias, layout, heads)
    _known(precision)
    shapes = [(heads, int(i), int(j)) for i, j in zip(layout.query_lengths, layout.key_lengths, strict=True)]
    ends = offsets(np.array([math.prod(shape) for shape in shapes], np.int64))
    probs = np.zeros(ends[-1], q.dtype)
    if precision is None or q.dtype != np.float32:
        none = np.empty((0, heads, q.shape[1] // heads), q.dtype)
        _attend(q, k, none, bias, layout, heads, causal, none, probs)
    elif len(q):
        kind = None if singles.looks_back(bias, layout, causal) else precision
        at = [plain(x, np.int64) for x in (layout.query_positions, layout.key_positions)]
        run(
            singles.probs_kernel, 1, _cost(layout, heads, q, 1), *attended_in(kind), plain(q), plain(k),
            by_head(bias, heads), _heads(layout, heads, q), *at, q.shape[1] // heads, bool(causal), probs,
        )  # fmt: skip
    return [probs[a:b].reshape(shape) for shape, (a, b) in zip(shapes, pairwise(ends), strict=True)]
