"""Attention of `cpu.ops`. It checks the operands before it calls kernels, which do no bounds checks."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from ...errors import InputError
from ...ragged import Array, check, offsets
from .. import numpy_backend
from ..checks import check_attention, check_dropout_mask
from ..interface import PRECISIONS, Factors, SequenceLayout
from . import attention_unfused as unfused
from .encoder_fused import attention_layout
from .float64 import in_float64
from .kernels import attention_backward as backward
from .kernels.gemm import attended_in
from .kernels.llvm_ir import LANES
from .runtime.allocator import aligned, plain
from .runtime.thread_pool import run_phased


def _attend_with_dropout(
    q: Array, k: Array, v: Array, bias: Array | None, layout: SequenceLayout, heads: int, causal: bool, mask: Array
) -> Array:
    """Attention with a dropout mask [sum of h*i*j] of factors."""
    out = aligned(*q.shape)
    if len(q):
        kernel_layout = attention_layout(layout, bias, heads, q.shape[1], causal)
        cost, kernel = _cost(layout, heads, q, 2), backward.dropout_attention_kernel
        run_phased(kernel, 1, cost, attended_in(None), q, k, v, kernel_layout, mask, out)
    return out


def _check_precision(precision: str | None) -> None:
    if precision not in (None, *PRECISIONS):
        raise InputError("attention", f"a precision of {', '.join(PRECISIONS)}", repr(precision))


def _cost(layout: SequenceLayout, heads: int, q: Array, products: int) -> int:
    """The approximate time, in additions, of `products` matrix products of queries and keys, and of the softmax."""
    area = int((layout.query_lengths * layout.key_lengths).sum())
    return area * (products * q.shape[1] + 16 * heads) // LANES


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
    """Parallel over heads and sequences.

    If the precision is lower than float32, products are in bfloat16, except with `dropout_mask` and in a decoder's
    self-attention.

    Raises:
        InputError: shapes, layout and bias do not fit each other, or the precision is unknown.
    """
    check_attention(q, k, v, bias, layout, heads)
    _check_precision(precision)
    if dropout_mask is not None:
        check_dropout_mask(dropout_mask, layout, heads)
    if q.dtype != np.float32:
        return in_float64(numpy_backend.attention, q, k, v, bias, layout, heads, causal, dropout_mask)
    if dropout_mask is not None:
        return _attend_with_dropout(plain(q), plain(k), plain(v), bias, layout, heads, causal, plain(dropout_mask))
    return unfused.attention(q, k, v, bias, layout, heads, causal, precision)


def attention_backward(
    dy: Array,
    q: Array,
    k: Array,
    v: Array,
    bias: Array | None,
    layout: SequenceLayout,
    heads: int,
    causal: bool,
    dropout_mask: Factors | None = None,
    precision: str | None = None,
) -> tuple[Array, Array, Array, Array | None]:
    """Parallel over heads and runs of sequences. The dbias of the runs are added up in order.

    Raises:
        InputError: as `attention`.
    """
    check_attention(q, k, v, bias, layout, heads)
    check(dy, "Nq hc", "attention dy", Nq=q.shape[0], hc=q.shape[1])
    if dropout_mask is not None:
        check_dropout_mask(dropout_mask, layout, heads)
    if q.dtype != np.float32:
        return in_float64(numpy_backend.attention_backward, dy, q, k, v, bias, layout, heads, causal, dropout_mask)
    dy, q, k, v = (plain(x) for x in (dy, q, k, v))
    dq, dk, dv = aligned(*q.shape), aligned(*k.shape), aligned(*v.shape)
    if layout.query_lengths.min(initial=1) < 1:  # no query attends to the keys of such a sequence
        dk[:], dv[:] = 0, 0
    runs = min(backward.SUMS, len(layout.query_lengths))
    starts = np.arange(runs + 1) * len(layout.query_lengths) // max(runs, 1)
    dbias = np.empty((runs, heads, 0 if bias is None else len(bias)), np.float32)
    if len(q):
        operands = backward.Operands(dy, q, k, v, q[0, :0] if dropout_mask is None else plain(dropout_mask))
        kernel_layout = attention_layout(layout, bias, heads, q.shape[1], causal)
        run_phased(
            backward.attention_backward_kernel, 1, _cost(layout, heads, q, 5), attended_in(None), operands,
            kernel_layout, starts, backward.Gradients(dq, dk, dv, dbias),
        )  # fmt: skip
    else:
        dbias[:] = 0
    return dq, dk, dv, None if bias is None else dbias.sum(axis=0).T


def attention_probs(
    q: Array,
    k: Array,
    bias: Array | None,
    layout: SequenceLayout,
    heads: int,
    causal: bool,
    precision: str | None = None,
) -> list[Array]:
    """With a precision, the probabilities as the fused blocks compute them; without one, as the reference backend does.

    The latter are also accurate for scores far below the largest.

    Raises:
        InputError: as `attention`.
    """
    check_attention(q, k, k, bias, layout, heads)
    _check_precision(precision)
    if precision is None or q.dtype != np.float32:
        return in_float64(numpy_backend.attention_probs, q, k, bias, layout, heads, causal)
    shapes = [(heads, int(i), int(j)) for i, j in zip(layout.query_lengths, layout.key_lengths, strict=True)]
    ends = offsets(np.array([math.prod(shape) for shape in shapes], np.int64))
    probs = np.zeros(ends[-1], np.float32)
    if len(q):
        kind = None if unfused.is_decoder_step(bias, layout, causal) else precision
        kernel_layout = attention_layout(layout, bias, heads, q.shape[1], causal)
        cost = _cost(layout, heads, q, 1)
        run_phased(unfused.probs_kernel, 1, cost, attended_in(kind), plain(q), plain(k), kernel_layout, probs)
    return [probs[a:b].reshape(shape) for shape, (a, b) in zip(shapes, pairwise(ends), strict=True)]
