"""The second telling: the same operations in fused, compiled loops, for float32 and float64.

Read it beside `numpy_ops`: same functions, same order. Its loops are in `numba_kernels`; `spread`
gives each thread its own tasks, so the number of threads changes no bit. Float32 weights are packed for
`numba_gemm`, and whole blocks have kernels in `numba_blocks`; in float64, products are NumPy's BLAS. What only
moves numbers, or touches each once, is NumPy as well.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from ..arrays import Array, Ints, check, offsets
from ..errors import Refused
from . import numba_blocks as blocks
from . import numba_cross, numba_decode
from . import numba_gemm as gemm
from . import numba_kernels as kernels
from .contract import Spans
from .kernel_cache import ready
from .numba_gemm import Packed
from .threads import limit as limit
from .threads import spread

attention_block, feed_forward_block = blocks.attention_block, blocks.feed_forward_block
project, decoder_layers = numba_cross.project, numba_decode.decoder_layers


def _plain(x: Array, dtype: Any) -> Array:
    """x, or a copy that kernels can take: they are compiled for contiguous writable arrays only."""
    if x.flags.carray and x.dtype == dtype:
        return x
    return np.require(x, dtype, ["C", "A", "W"])


def put(x: Array) -> Array:
    """x in contiguous writable memory: itself if it lies so already.

    Raises:
        Refused: neither float32 nor float64.
    """
    x = np.asarray(x)
    if x.dtype not in (np.float32, np.float64):
        raise Refused("put", "float32 or float64", str(x.dtype), "convert it first")
    return _plain(x, x.dtype)


def get(x: Array | Packed) -> Array:
    return x.source if isinstance(x, Packed) else np.asarray(x)


def pack(w: Array, precision: str) -> Array | Packed:
    """A float32 weight in panels, see `numba_gemm`; one in float64 as it is.

    Raises:
        Refused: neither float32 nor float64; an unknown precision, or a lower one for float64.
    """
    if w.dtype == np.float32:
        return gemm.pack(w, precision)
    w = put(w)
    if precision != "float32":
        raise Refused("precision", "float64 weights computed with as they are", repr(precision), "use dtype float32")
    return w


def pack_table(table: Array, precision: str) -> Array | Packed:
    """A float32 table in panels, its rows kept for `embed`; one in float64 as it is.

    Raises:
        Refused: as `pack`.
    """
    packed = pack(table.T, precision)
    return gemm.as_table(packed, table) if isinstance(packed, Packed) else put(table)


def embed(table: Array, ids: Ints) -> Array:
    return np.take(table.source if isinstance(table, Packed) else table, ids, axis=0)


def unembed(table: Array, x: Array) -> Array:
    return blocks.linear(x, table) if isinstance(table, Packed) else x @ table.T


def linear(x: Array, w: Array) -> Array:
    """Rows are shared out, and columns where rows are few. Each sum is made from its first term to its last.

    Raises:
        Refused: shapes that do not fit.
    """
    if not isinstance(w, Packed):
        return x @ w
    check(x, "N a", "linear x", a=w.shape[0])
    return blocks.linear(x, w)


def dot(x: Array, w: Array) -> Array:
    """Each row is multiplied and summed by itself, so that equal rows give equal bits."""
    return (x * w[:, 0]).sum(axis=-1)


def add(x: Array, y: Array) -> Array:
    return x + y


def scale(x: Array, factor: float) -> Array:
    return x * float(factor)


def rms_norm(x: Array, gain: Array, eps: float) -> Array:
    """Parallel over rows. The mean of squares is made in float64.

    Raises:
        Refused: shapes that do not fit.
    """
    check(gain, "d", "rms_norm gain", d=check(x, "N d", "rms_norm x")["d"])
    out = np.empty(x.shape, x.dtype)
    spread(kernels.rms_norm, len(x), 10 * x.shape[1], _plain(x, x.dtype), _plain(gain, x.dtype), float(eps), out)
    return out


def gated_gelu(a: Array, b: Array) -> Array:
    """Parallel over rows, one pass over a and b.

    Raises:
        Refused: shapes that do not fit.
    """
    check(b, "N f", "gated_gelu b", **check(a, "N f", "gated_gelu a"))
    out = np.empty(a.shape, a.dtype)
    spread(kernels.gated_gelu, len(a), 30 * a.shape[1], _plain(a, a.dtype), _plain(b, a.dtype), out)
    return out


def relu(a: Array) -> Array:
    return np.maximum(a, 0)


def _reach(spans: Spans) -> int:
    """The largest distance, either way, between a query and a key of its sequence."""
    some = spans.query_lengths > 0
    q_from, k_from = offsets(spans.query_lengths)[:-1][some], offsets(spans.key_lengths)[:-1]
    most, least = np.maximum.reduceat, np.minimum.reduceat
    ahead = most(spans.key_positions, k_from)[some] - least(spans.query_positions, q_from)
    behind = most(spans.query_positions, q_from) - least(spans.key_positions, k_from)[some]
    return int(max(ahead.max(), behind.max()))


def _fits(q: Array, k: Array, v: Array, bias: Array | None, spans: Spans, heads: int) -> None:
    """Refuses what would make the kernel read outside its arrays, where NumPy's own indexing stops."""
    sizes = check(q, "Nq hc", "attention q", Nq=int(spans.query_lengths.sum()))
    check(spans.query_positions, "Nq", "query positions", Nq=sizes["Nq"])
    sizes = check(k, "Nk hc", "attention k", Nk=int(spans.key_lengths.sum()), hc=sizes["hc"])
    check(spans.key_positions, "Nk", "key positions", Nk=sizes["Nk"])
    check(v, "Nk hc", "attention v", **sizes)
    if sizes["hc"] % heads:
        raise Refused("attention", f"columns for {heads} heads", str(sizes["hc"]))
    if spans.key_lengths.min(initial=1) < 1:
        raise Refused("attention", "at least one key in every sequence", "none")
    if bias is not None:
        check(bias, "2D+1 h", "attention bias", h=heads)
        if len(q) and _reach(spans) > bias.shape[0] // 2:
            raise Refused("attention bias", f"a row for distance {_reach(spans)}", f"shape {list(bias.shape)}")


def _blocks(spans: Spans, heads: int) -> Ints:
    """What the kernel calls blocks: at most ROWS queries of one sequence each, about equally many, [B 6]."""
    rows, i0, j0, place = [], 0, 0, 0
    for i, j in zip(spans.query_lengths.tolist(), spans.key_lengths.tolist(), strict=True):
        parts = -(-i // kernels.ROWS)
        for n in range(parts):
            start, stop = i * n // parts, i * (n + 1) // parts
            rows.append((i0 + start, stop - start, j0, j, place + start * j, i * j))
        i0, j0, place = i0 + i, j0 + j, place + heads * i * j
    return np.array(rows, np.int64).reshape(-1, 6)


def _attend(
    q: Array, k: Array, v: Array, bias: Array | None, spans: Spans, heads: int, causal: bool, out: Array, probs: Array
) -> None:
    """Runs the kernel on its own layout: heads an axis, the bias by head, positions in int64."""
    blocks, dtype, (n, columns) = _blocks(spans, heads), q.dtype, q.shape
    operands = [_plain(x, dtype).reshape(len(x), heads, columns // heads) for x in (q, k, v)]
    table = np.empty((heads, 0), dtype) if bias is None else _plain(bias.T, dtype)
    at = [_plain(x, np.int64) for x in (spans.query_positions, spans.key_positions)]
    if n:
        area = int((spans.query_lengths * spans.key_lengths).sum())  # pairs of query and key
        cost = (area * (2 * columns + 30 * heads) + 20 * k.size) // (heads * len(blocks))
        spread(kernels.attention, heads * len(blocks), cost, *operands, table, blocks, *at, bool(causal), out, probs)


def attention(q: Array, k: Array, v: Array, bias: Array | None, spans: Spans, heads: int, causal: bool) -> Array:
    """Parallel over heads and blocks of queries. Sums in the dtype of the operands.

    Raises:
        Refused: shapes, spans and bias that do not fit each other.
    """
    _fits(q, k, v, bias, spans, heads)
    if q.dtype == np.float32:
        return blocks.attention(q, k, v, bias, spans, heads, causal)
    out = np.empty((len(q), heads, q.shape[1] // heads), q.dtype)
    _attend(q, k, v, bias, spans, heads, causal, out, out[:0].reshape(-1))
    return out.reshape(q.shape)


def attention_probs(q: Array, k: Array, bias: Array | None, spans: Spans, heads: int, causal: bool) -> list[Array]:
    """The same kernel, stopped before v.

    Raises:
        Refused: as `attention`.
    """
    _fits(q, k, k, bias, spans, heads)
    shapes = [(heads, int(i), int(j)) for i, j in zip(spans.query_lengths, spans.key_lengths, strict=True)]
    bounds = offsets(np.array([math.prod(shape) for shape in shapes], np.int64))
    probs = np.zeros(bounds[-1], q.dtype)
    none = np.empty((0, heads, q.shape[1] // heads), q.dtype)
    _attend(q, k, none, bias, spans, heads, causal, none, probs)
    return [probs[a:b].reshape(shape) for shape, (a, b) in zip(shapes, pairwise(bounds), strict=True)]


def join(x: Array, x_lengths: Ints, y: Array, y_lengths: Ints) -> Array:
    parts, xs, ys = [], offsets(x_lengths), offsets(y_lengths)
    for i in range(len(x_lengths)):
        parts += [x[xs[i] : xs[i + 1]], y[ys[i] : ys[i + 1]]]
    return np.concatenate(parts)


def take(x: Array, lengths: Ints, index: Ints) -> Array:
    starts = offsets(lengths)
    return np.concatenate([x[:0], *(x[starts[i] : starts[i] + lengths[i]] for i in index)])


def first(x: Array, lengths: Ints) -> Array:
    return np.take(x, offsets(lengths)[:-1], axis=0)


def mean(x: Array, lengths: Ints) -> Array:
    return np.array([x[a:b].mean(axis=0) for a, b in pairwise(offsets(lengths))])


def argmax(x: Array) -> Ints:
    return np.argmax(x, axis=-1)


def log_likelihood(logits: Array, targets: Ints, lengths: Ints) -> Array:
    """Parallel over rows. Sums in the dtype of the logits."""
    chosen = logits[np.arange(targets.size), targets]  # NumPy refuses a target outside the vocabulary
    log_probs = np.empty(chosen.shape, logits.dtype)
    spread(kernels.log_probs, len(logits), 30 * logits.shape[1], _plain(logits, logits.dtype), chosen, log_probs)
    return np.array([log_probs[a:b].sum() for a, b in pairwise(offsets(lengths))], logits.dtype)


@cache
def warm_up(dtype: str = "float32") -> None:
    """Every kernel run once on one number, so that none is compiled in the middle of an answer."""
    x, one = np.ones((1, 1), dtype), np.ones(1, np.int64)

    def run() -> None:
        rms_norm(x, x[0], 1e-6)
        gated_gelu(x, x)
        attention(x, x, x, x, Spans(one, one, one, one), heads=1, causal=False)
        log_likelihood(x, one - 1, one)
        if dtype == "float32":
            blocks.warm_up()
            numba_decode.warm_up()

    ready(run)
