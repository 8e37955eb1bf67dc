"""The second backend: the same operations in fused, compiled loops, for float32 and float64.

Read it beside `numpy_backend`: same functions, same order. Its loops are in `kernels.elementwise`; `spread`
gives each thread its own tasks, so the number of threads changes no bit. Float32 weights are packed for
`kernels.gemm`, and whole blocks have kernels in `encoder_fused`, whose parts in `attention_unfused` give the same bits;
products with plain weights, and backward those in float64, are NumPy's BLAS. What only moves numbers, or touches each
once, is NumPy as well. Attention and ragged moves are told in `cpu.attention_ops` and `cpu.ragged_ops`. Backward
kernels are compiled when first called.
"""

from __future__ import annotations

import functools
from itertools import pairwise

import numpy as np

from ...errors import InputError
from ...ragged import Array, Ints, check, offsets
from ..interface import Factors, SequenceLayout
from . import absorbed_attention, cross_attention, decoder_fused
from . import attention_unfused as singles
from . import encoder_fused as blocks
from .attention_ops import attention as attention
from .attention_ops import attention_backward as attention_backward
from .attention_ops import attention_probs as attention_probs
from .encoder_fused import plain as _plain
from .executed_macs import decoder_macs as decoder_macs
from .kernels import elementwise as kernels
from .kernels import elementwise_backward as learning
from .kernels import gemm
from .kernels import gemm_backward as products
from .kernels.gemm import Packed
from .ragged_ops import first_token as first_token
from .ragged_ops import first_token_backward as first_token_backward
from .ragged_ops import gather_sequences as gather_sequences
from .ragged_ops import gather_sequences_backward as gather_sequences_backward
from .ragged_ops import interleave_concat as interleave_concat
from .ragged_ops import interleave_concat_backward as interleave_concat_backward
from .ragged_ops import mean as mean
from .ragged_ops import mean_backward as mean_backward
from .runtime.compile_cache import ready as _ready
from .runtime.thread_pool import limit as limit
from .runtime.thread_pool import spread as _spread

attention_block, feed_forward_block = blocks.attention_block, blocks.feed_forward_block
project, decoder_layers = cross_attention.project, decoder_fused.decoder_layers
attend_memory = absorbed_attention.attend_memory


def to_device(x: Array) -> Array:
    """x in contiguous writable memory: itself if it lies so already.

    Raises:
        InputError: neither float32 nor float64.
    """
    x = np.asarray(x)
    if x.dtype not in (np.float32, np.float64):
        raise InputError("to_device", "float32 or float64", str(x.dtype), "convert it first")
    return _plain(x, x.dtype)


def to_host(x: Array | Packed) -> Array:
    return x.source if isinstance(x, Packed) else np.asarray(x)


def pack(w: Array, precision: str) -> Array | Packed:
    """A float32 weight in panels, see `cpu.kernels.gemm`; one in float64 as it is.

    Raises:
        InputError: neither float32 nor float64; an unknown precision, or a lower one for float64.
    """
    if w.dtype == np.float32:
        return gemm.pack(w, precision)
    w = to_device(w)
    if precision != "float32":
        raise InputError("precision", "float64 weights computed with as they are", repr(precision), "use dtype float32")
    return w


def pack_table(table: Array, precision: str) -> Array | Packed:
    """A float32 table in panels, its rows kept for `embed`; one in float64 as it is.

    Raises:
        InputError: as `pack`.
    """
    packed = pack(table.T, precision)
    return gemm.as_table(packed, table) if isinstance(packed, Packed) else to_device(table)


def embed(table: Array, ids: Ints) -> Array:
    return np.take(table.source if isinstance(table, Packed) else table, ids, axis=0)


def embed_backward(dy: Array, table: Array, ids: Ints) -> tuple[Array]:
    """Parallel over ids: whose rows come more than once, they are added up in order.

    Raises:
        InputError: a row for another number of ids, or of another width.
    """
    check(dy, "N d", "embed dy", N=ids.size, d=table.shape[1])
    ids = np.arange(len(table))[ids]  # NumPy refuses an id outside the table
    order = np.argsort(ids, kind="stable")
    some, starts = np.unique(ids[order], return_index=True)
    bounds, dtable = np.append(starts, ids.size), np.zeros(table.shape, table.dtype)
    cost = dy.size // max(len(some), 1)
    _spread(learning.embed_backward, len(some), cost, _plain(dy, table.dtype), order, bounds, some, dtable)
    return (dtable,)


def lm_head_logits(table: Array, x: Array) -> Array:
    return singles.linear(x, table) if isinstance(table, Packed) else x @ table.T


def lm_head_logits_backward(dy: Array, table: Array, x: Array) -> tuple[Array, Array]:
    """See `cpu.kernels.gemm_backward`; in float64 NumPy's BLAS."""
    return products.lm_head_logits_backward(dy, table, x) if x.dtype == np.float32 else (dy.T @ x, dy @ to_host(table))


def linear(x: Array, w: Array) -> Array:
    """Rows are shared out, and columns where rows are few. Each sum is made from its first term to its last.

    Raises:
        InputError: shapes that do not fit.
    """
    if not isinstance(w, Packed):
        return x @ w
    check(x, "N a", "linear x", a=w.shape[0])
    return singles.linear(x, w)


def linear_backward(dy: Array, x: Array, w: Array) -> tuple[Array, Array]:
    """See `cpu.kernels.gemm_backward`; in float64 NumPy's BLAS."""
    return products.linear_backward(dy, x, w) if x.dtype == np.float32 else (dy @ to_host(w).T, x.T @ dy)


def dot(x: Array, w: Array) -> Array:
    """Each row is multiplied and summed by itself, so that equal rows give equal bits."""
    return (x * w[:, 0]).sum(axis=-1)


def dot_backward(dy: Array, x: Array, w: Array) -> tuple[Array, Array]:
    return dy[:, None] * w[:, 0], (dy[:, None] * x).sum(axis=0)[:, None]


def add(x: Array, y: Array) -> Array:
    return x + y


def add_backward(dy: Array, x: Array, y: Array) -> tuple[Array, Array]:
    return dy, dy


def scale(x: Array, factor: float) -> Array:
    return x * float(factor)


def scale_backward(dy: Array, x: Array, factor: float) -> tuple[Array]:
    return (dy * float(factor),)


def multiply(x: Array, factors: Factors) -> Array:
    return x * factors


def multiply_backward(dy: Array, x: Array, factors: Factors) -> tuple[Array]:
    return (dy * factors,)


def rms_norm(x: Array, gain: Array, eps: float, precision: str | None = None) -> Array:
    """Parallel over rows. The mean of squares is made in float64, or in float32 as blocks do it for their products.

    Raises:
        InputError: shapes that do not fit.
    """
    check(gain, "d", "rms_norm gain", d=check(x, "N d", "rms_norm x")["d"])
    if precision is not None and x.dtype == np.float32:
        return singles.rms_norm(x, gain, eps)
    out = np.empty(x.shape, x.dtype)
    _spread(kernels.rms_norm, len(x), 10 * x.shape[1], _plain(x, x.dtype), _plain(gain, x.dtype), float(eps), out)
    return out


def rms_norm_backward(
    dy: Array, x: Array, gain: Array, eps: float, precision: str | None = None
) -> tuple[Array, Array]:
    """Parallel over runs of rows, whose dgains are added up in order. Sums in the dtype of x.

    Raises:
        InputError: shapes that do not fit.
    """
    sizes = check(x, "N d", "rms_norm x")
    check(gain, "d", "rms_norm gain", d=sizes["d"])
    check(dy, "N d", "rms_norm dy", **sizes)
    runs, d, dtype = -(-len(x) // learning.RUN), x.shape[1], x.dtype
    dx, dgains = np.empty(x.shape, dtype), np.empty((runs, d), dtype)
    operands = [_plain(a, dtype) for a in (dy, x, gain)]
    _spread(learning.rms_norm_backward, runs, 20 * learning.RUN * d, *operands, float(eps), dx, dgains)
    return dx, dgains.sum(axis=0)


def gated_gelu(a: Array, b: Array) -> Array:
    """Parallel over rows, one pass over a and b.

    Raises:
        InputError: shapes that do not fit.
    """
    check(b, "N f", "gated_gelu b", **check(a, "N f", "gated_gelu a"))
    if a.dtype == np.float32:
        return singles.gated_gelu(a, b)
    out = np.empty(a.shape, a.dtype)
    _spread(kernels.gated_gelu, len(a), 30 * a.shape[1], _plain(a, a.dtype), _plain(b, a.dtype), out)
    return out


def gated_gelu_backward(dy: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """Parallel over rows, one pass over dy, a and b.

    Raises:
        InputError: shapes that do not fit.
    """
    sizes = check(a, "N f", "gated_gelu a")
    check(b, "N f", "gated_gelu b", **sizes)
    check(dy, "N f", "gated_gelu dy", **sizes)
    da, db = np.empty(a.shape, a.dtype), np.empty(a.shape, a.dtype)
    operands = [_plain(x, a.dtype) for x in (dy, a, b)]
    _spread(learning.gated_gelu_backward, len(a), 40 * a.shape[1], *operands, da, db)
    return da, db


def relu(a: Array) -> Array:
    return np.maximum(a, 0)


def relu_backward(dy: Array, a: Array) -> tuple[Array]:
    return (dy * (a > 0),)


def argmax(x: Array) -> Ints:
    return np.argmax(x, axis=-1)


def log_likelihood(logits: Array, targets: Ints, lengths: Ints) -> Array:
    """Parallel over rows. Sums in the dtype of the logits."""
    chosen = logits[np.arange(targets.size), targets]  # NumPy refuses a target outside the vocabulary
    log_probs = np.empty(chosen.shape, logits.dtype)
    _spread(kernels.log_probs, len(logits), 30 * logits.shape[1], _plain(logits, logits.dtype), chosen, log_probs)
    return np.array([log_probs[a:b].sum() for a, b in pairwise(offsets(lengths))], logits.dtype)


def log_likelihood_backward(dy: Array, logits: Array, targets: Ints, lengths: Ints) -> tuple[Array]:
    """Parallel over rows, each in its own place: what is returned is the only array of the size of the logits.

    Raises:
        InputError: shapes that do not fit.
    """
    check(logits, "N v", "log_likelihood logits", N=targets.size)
    check(dy, "b", "log_likelihood dy", b=len(lengths))
    targets = np.arange(logits.shape[1])[targets]  # NumPy refuses a target outside the vocabulary
    out, rows = np.empty(logits.shape, logits.dtype), np.repeat(dy, lengths).astype(logits.dtype, copy=False)
    check(rows, "N", "log_likelihood lengths", N=targets.size)
    x = _plain(logits, logits.dtype)
    _spread(learning.log_likelihood_backward, len(logits), 30 * logits.shape[1], rows, x, targets, out)
    return (out,)


def _log_shares(x: Array, counts: Ints) -> Array:
    """log softmax over each question's passages: [K] -> [K]."""
    starts = offsets(counts)[:-1]
    shifted = x - np.repeat(np.maximum.reduceat(x, starts), counts)
    return shifted - np.repeat(np.log(np.add.reduceat(np.exp(shifted), starts)), counts)


def rank_kl(scores: Array, log_p_lm: Array, counts: Ints, tau: float, direction: str) -> Array:
    """A few numbers a question: NumPy, all questions at once."""
    log_p, log_q = (_log_shares(x / float(tau), counts) for x in (scores, log_p_lm))
    if direction == "reverse":
        log_p, log_q = log_q, log_p
    return np.add.reduceat(np.exp(log_p) * (log_p - log_q), offsets(counts)[:-1])


def rank_kl_backward(
    dy: Array, scores: Array, log_p_lm: Array, counts: Ints, tau: float, direction: str
) -> tuple[Array, Array]:
    """NumPy as well: from the shares that the forward made."""
    log_p, log_q = (_log_shares(x / float(tau), counts) for x in (scores, log_p_lm))
    if direction == "reverse":
        log_p, log_q = log_q, log_p
    p, apart, each = np.exp(log_p), log_p - log_q, np.repeat(dy / float(tau), counts)
    kl = np.repeat(np.add.reduceat(p * apart, offsets(counts)[:-1]), counts)
    dp, dq = each * p * (apart - kl), each * (np.exp(log_q) - p)
    return (dq, dp) if direction == "reverse" else (dp, dq)


@functools.cache
def warm_up() -> None:
    """Every kernel run once on one number, so that none is compiled in the middle of an answer."""
    x, one = np.ones((1, 1), np.float32), np.ones(1, np.int64)

    def run() -> None:
        rms_norm(x, x[0], 1e-6)
        gated_gelu(x, x)
        attention(x, x, x, x, SequenceLayout(one, one, one, one), heads=1, causal=False)
        log_likelihood(x, one - 1, one)
        linear(x, pack(x, "float32"))
        blocks.warm_up()
        decoder_fused.warm_up()

    _ready(run)
