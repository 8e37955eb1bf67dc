"""The CPU backend: compiled kernels for float32, the reference backend for float64.

Weights are packed for `kernels.gemm`. The kernels of fused blocks are in `encoder_fused` and `decoder_fused`. A single
operation runs parts of the same kernels, and rounds in the same way. Threads share the tasks of a kernel. No sum
crosses tasks, so the number of threads changes no bit. Products with weights that are not packed use NumPy's BLAS.
Operations that only move numbers, or touch each number once, are those of the reference backend. The kernels of the
backward are compiled when they are first called.
"""

from __future__ import annotations

import functools
from itertools import pairwise

import numpy as np

from ...errors import InputError
from ...ragged import Array, Ints, check, offsets
from .. import numpy_backend as reference
from ..interface import SequenceLayout
from . import absorbed_attention, attention_ops, cross_attention, decoder_fused, executed_macs
from . import encoder_fused as blocks
from .attention_unfused import linear as _linear
from .float64 import in_float64 as _in_float64
from .kernels import elementwise as kernels
from .kernels import elementwise_backward as backward
from .kernels import gemm
from .kernels import gemm_backward as products
from .kernels.gemm import Packed
from .runtime import thread_pool
from .runtime.allocator import aligned as _aligned
from .runtime.allocator import plain as _plain
from .runtime.compile_cache import ready as _ready
from .runtime.thread_pool import parallel_for as _parallel_for

attention, attention_backward = attention_ops.attention, attention_ops.attention_backward
attention_probs = attention_ops.attention_probs
attention_block, feed_forward_block = blocks.attention_block, blocks.feed_forward_block
project, decoder_layers = cross_attention.project, decoder_fused.decoder_layers
attend_memory = absorbed_attention.attend_memory
limit, decoder_macs = thread_pool.limit, executed_macs.decoder_macs

dot, dot_backward = reference.dot, reference.dot_backward
add, add_backward = reference.add, reference.add_backward
scale, scale_backward = reference.scale, reference.scale_backward
multiply, multiply_backward = reference.multiply, reference.multiply_backward
relu, relu_backward = reference.relu, reference.relu_backward
argmax = reference.argmax
interleave_concat, interleave_concat_backward = reference.interleave_concat, reference.interleave_concat_backward
gather_sequences, gather_sequences_backward = reference.gather_sequences, reference.gather_sequences_backward
first_token, first_token_backward = reference.first_token, reference.first_token_backward
mean, mean_backward = reference.mean, reference.mean_backward
rank_kl, rank_kl_backward = reference.rank_kl, reference.rank_kl_backward


def to_device(x: Array) -> Array:
    """x itself if its memory is contiguous and writable, otherwise a copy.

    Raises:
        InputError: x is neither float32 nor float64.
    """
    x = np.asarray(x)
    if x.dtype not in (np.float32, np.float64):
        raise InputError("to_device", "float32 or float64", str(x.dtype), "convert it first")
    return _plain(x, x.dtype)


def to_host(x: Array | Packed) -> Array:
    return x.source if isinstance(x, Packed) else np.asarray(x)


def pack(w: Array, precision: str) -> Array | Packed:
    """A float32 weight in panels, see `cpu.kernels.gemm`; a float64 weight unchanged.

    Raises:
        InputError: the weight is neither float32 nor float64, the precision is unknown, or float64 with a lower one.
    """
    if w.dtype == np.float32:
        return gemm.pack(w, precision)
    w = to_device(w)
    if precision != "float32":
        raise InputError("precision", "none below float64 with float64 weights", repr(precision), "use dtype float32")
    return w


def pack_table(table: Array, precision: str) -> Array | Packed:
    """A float32 table in panels, with the original rows for `embed`; a float64 table unchanged.

    Raises:
        InputError: as `pack`.
    """
    packed = pack(table.T, precision)
    return gemm.as_table(packed, table) if isinstance(packed, Packed) else to_device(table)


def embed(table: Array, ids: Ints) -> Array:
    return np.take(table.source if isinstance(table, Packed) else table, ids, axis=0)


def embed_backward(dy: Array, table: Array, ids: Ints) -> tuple[Array]:
    """Parallel over ids. The rows of dy for an id that occurs more than once are added up in order.

    Raises:
        InputError: dy does not fit the ids or the table.
    """
    check(dy, "N d", "embed dy", N=ids.size, d=table.shape[1])
    if table.dtype != np.float32:
        return _in_float64(reference.embed_backward, dy, table, ids)
    ids = np.arange(len(table))[ids]  # NumPy refuses an id outside the table
    order = np.argsort(ids, kind="stable")
    some, starts = np.unique(ids[order], return_index=True)
    bounds, dtable = np.append(starts, ids.size), np.zeros(table.shape, table.dtype)
    cost = dy.size // max(len(some), 1)
    _parallel_for(backward.embed_backward, len(some), cost, _plain(dy), order, bounds, some, dtable)
    return (dtable,)


def lm_head_logits(table: Array, x: Array) -> Array:
    return _linear(x, table) if isinstance(table, Packed) else x @ table.T


def lm_head_logits_backward(dy: Array, table: Array, x: Array) -> tuple[Array, Array]:
    """See `cpu.kernels.gemm_backward`."""
    backend = products if x.dtype == np.float32 else reference
    return backend.lm_head_logits_backward(dy, table, x)


def linear(x: Array, w: Array) -> Array:
    """Parallel over rows, and over columns if there are few rows. Each sum is added from its first term to its last.

    Raises:
        InputError: shapes do not fit.
    """
    if not isinstance(w, Packed):
        return x @ w
    check(x, "N a", "linear x", a=w.shape[0])
    return _linear(x, w)


def linear_backward(dy: Array, x: Array, w: Array) -> tuple[Array, Array]:
    """See `cpu.kernels.gemm_backward`."""
    backend = products if x.dtype == np.float32 else reference
    return backend.linear_backward(dy, x, w)


def rms_norm(x: Array, gain: Array, eps: float) -> Array:
    """Parallel over rows. The sum is made in float32, in 16 lanes that are then added up, as in the fused blocks.

    Raises:
        InputError: shapes that do not fit.
    """
    check(gain, "d", "rms_norm gain", d=check(x, "N d", "rms_norm x")["d"])
    if x.dtype != np.float32:
        return _in_float64(reference.rms_norm, x, gain, eps)
    out = np.empty(x.shape, np.float32)
    _parallel_for(kernels.rms_norm, len(x), 2 * x.shape[1], _plain(x), _plain(gain), float(eps), out)
    return out


def rms_norm_backward(dy: Array, x: Array, gain: Array, eps: float) -> tuple[Array, Array]:
    """Parallel over runs of rows. The dgains of the runs are added up in order.

    Raises:
        InputError: shapes that do not fit.
    """
    sizes = check(x, "N d", "rms_norm x")
    check(gain, "d", "rms_norm gain", d=sizes["d"])
    check(dy, "N d", "rms_norm dy", **sizes)
    if x.dtype != np.float32:
        return _in_float64(reference.rms_norm_backward, dy, x, gain, eps)
    runs, d = -(-len(x) // backward.RUN), x.shape[1]
    dx, dgains = _aligned(*x.shape), _aligned(runs, d)
    operands = [_plain(a) for a in (dy, x, gain)]
    _parallel_for(backward.rms_norm_backward, runs, 20 * backward.RUN * d, *operands, float(eps), dx, dgains)
    return dx, dgains.sum(axis=0)


def gated_gelu(a: Array, b: Array) -> Array:
    """Parallel over rows. It reads a and b once.

    Raises:
        InputError: shapes that do not fit.
    """
    check(b, "N f", "gated_gelu b", **check(a, "N f", "gated_gelu a"))
    if a.dtype != np.float32:
        return _in_float64(reference.gated_gelu, a, b)
    out = _aligned(*a.shape)
    _parallel_for(kernels.gated_gelu, len(a), a.shape[1], _plain(a), _plain(b), out)
    return out


def gated_gelu_backward(dy: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """Parallel over rows.

    Raises:
        InputError: shapes that do not fit.
    """
    sizes = check(a, "N f", "gated_gelu a")
    check(b, "N f", "gated_gelu b", **sizes)
    check(dy, "N f", "gated_gelu dy", **sizes)
    if a.dtype != np.float32:
        return _in_float64(reference.gated_gelu_backward, dy, a, b)
    da, db = _aligned(*a.shape), _aligned(*a.shape)
    _parallel_for(backward.gated_gelu_backward, len(a), 10 * a.shape[1], *(_plain(x) for x in (dy, a, b)), da, db)
    return da, db


def log_likelihood(logits: Array, targets: Ints, lengths: Ints) -> Array:
    """Parallel over rows."""
    if logits.dtype != np.float32:
        return _in_float64(reference.log_likelihood, logits, targets, lengths)
    chosen = logits[np.arange(targets.size), targets]  # NumPy refuses a target outside the vocabulary
    log_probs = np.empty(chosen.shape, np.float32)
    _parallel_for(kernels.log_probs, len(logits), 4 * logits.shape[1], _plain(logits), chosen, log_probs)
    return np.array([log_probs[a:b].sum() for a, b in pairwise(offsets(lengths))], np.float32)


def log_likelihood_backward(dy: Array, logits: Array, targets: Ints, lengths: Ints) -> tuple[Array]:
    """Parallel over rows. No array of the size of the logits is needed except the result.

    Raises:
        InputError: shapes that do not fit.
    """
    check(logits, "N v", "log_likelihood logits", N=targets.size)
    check(dy, "b", "log_likelihood dy", b=len(lengths))
    targets = np.arange(logits.shape[1])[targets]  # NumPy refuses a target outside the vocabulary
    check(rows := np.repeat(dy, lengths), "N", "log_likelihood lengths", N=targets.size)
    if logits.dtype != np.float32:
        return _in_float64(reference.log_likelihood_backward, dy, logits, targets, lengths)
    out = _aligned(*logits.shape)
    _parallel_for(
        backward.log_likelihood_backward,
        len(logits),
        5 * logits.shape[1],
        _plain(rows),
        _plain(logits),
        targets,
        out,
    )
    return (out,)


def _warm_up_encoder() -> None:
    """Runs every kernel but the decoder's once on one number."""
    x, one = np.ones((1, 1), np.float32), np.ones(1, np.int64)
    rms_norm(x, x[0], 1e-6)
    gated_gelu(x, x)
    attention(x, x, x, x, SequenceLayout(one, one, one, one), heads=1, causal=False)
    log_likelihood(x, one - 1, one)
    linear(x, pack(x, "float32"))
    blocks.warm_up()


def _warm_up_decoder() -> None:
    """Runs every kernel of the decoder once."""
    decoder_fused.warm_up()


@functools.cache
def warm_up() -> None:
    """Runs every kernel once, so that none is compiled while an answer is generated."""

    def run() -> None:
        _warm_up_encoder()
        _warm_up_decoder()

    _ready(run, __name__, (_warm_up_encoder.__name__, _warm_up_decoder.__name__))
