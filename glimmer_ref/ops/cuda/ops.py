"""The CUDA backend: the operations as kernels on a GPU, forward only, for float32 and float64.

It has the same functions in the same order as `numpy_backend`. Arrays from `to_device` and all results stay on the GPU;
only `to_host` and `argmax` copy to the host. The kernels are in `kernels`; each is compiled when it is first launched.
Sums are in the dtype of the operands. Products are in `matmul_ops`, attention in `attention_ops`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from ...errors import InputError
from ...ragged import Array, Ints, check, offsets
from ..interface import Factors, SequenceLayout
from .attention_ops import attention as attention
from .attention_ops import attention_probs as attention_probs
from .matmul_ops import SKINNY, Bfloat16Weight
from .matmul_ops import gated as _gated
from .matmul_ops import loads_four as _loads_four
from .matmul_ops import on_gpu as _on_gpu
from .matmul_ops import pack_bfloat16 as _pack_bfloat16
from .matmul_ops import product as _product
from .runtime.device import device as _device


def to_device(x: Array) -> Array:
    """x copied to the GPU, or x itself if it is there already.

    Raises:
        InputError: x is neither float32 nor float64, or does not fit into memory.
    """
    if not isinstance(x, np.ndarray) and hasattr(x, "copy_to_host"):
        return x
    x = np.asarray(x)
    if x.dtype not in (np.float32, np.float64):
        raise InputError("to_device", "float32 or float64", str(x.dtype), "convert it first")
    return _device().to_device(x)


def to_host(x: Array | Bfloat16Weight) -> Array:
    if isinstance(x, Bfloat16Weight):
        return x.to_host()
    return x if isinstance(x, np.ndarray) else x.copy_to_host()


def _is_bfloat16(precision: str) -> bool:
    if precision not in ("float32", "bfloat16"):
        raise InputError("precision", "float32 or bfloat16 with ops=cuda", repr(precision))
    return precision == "bfloat16"


def pack(w: Array, precision: str) -> Array | Bfloat16Weight:
    """A weight on the GPU; with "bfloat16" rounded, as pairs for the tensor cores.

    Raises:
        InputError: the backend does not have the precision, or not for float64, or the weight does not fit into memory.
    """
    return _pack_bfloat16(np.asarray(w).T, None) if _is_bfloat16(precision) else to_device(w)


def pack_table(table: Array, precision: str) -> Array | Bfloat16Weight:
    """A table on the GPU; with "bfloat16" also rounded, as pairs. `embed` reads the table before rounding.

    Raises:
        InputError: see `pack`.
    """
    return _pack_bfloat16(table, to_device(table)) if _is_bfloat16(precision) else to_device(table)


def _check_indices(numbers: Ints, below: int, what: str) -> Ints:
    """The indices, all from 0 to `below` - 1: kernels do no bounds checks."""
    numbers = np.asarray(numbers)
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < below:
        raise InputError(what, f"whole numbers from 0 to {below - 1}", f"{numbers.min()} to {numbers.max()}")
    return numbers


def _elementwise(name: str, x: Array, *others: Array | float) -> Array:
    """Runs an elementwise kernel on arrays of one shape."""
    _on_gpu(x, name)
    for other in others:
        if not isinstance(other, float) and _on_gpu(other, name).shape != x.shape:
            raise InputError(name, f"shape {list(x.shape)}", f"{list(other.shape)}")
    out = _device().empty(x.shape, x.dtype)
    threads = _device().sizes[x.dtype.name].threads
    blocks = min(-(-x.size // (4 * threads)), 1 << 16)
    operands = [other if isinstance(other, float) else other.reshape(other.size) for other in (x, *others)]
    _device().run(x.dtype, name, blocks, *operands, out.reshape(out.size))
    return out


def _copy_rows(x: Array, y: Array, index: Ints) -> Array:
    """The rows of x with these indices; index -1 - i stands for row i of y."""
    out = _device().empty((len(index), x.shape[1]), x.dtype)
    _device().run(x.dtype, "rows", len(index), x, y, _device().table(index), out)
    return out


def _by_row(name: str, x: Array, *args: Array) -> None:
    _device().run(x.dtype, name, x.shape[0], x, *args)


def embed(table: Array | Bfloat16Weight, ids: Ints) -> Array:
    """Copies rows.

    Raises:
        InputError: an id is outside the table.
    """
    source = _on_gpu(table.source if isinstance(table, Bfloat16Weight) else table, "embed table")
    return _copy_rows(source, source, _check_indices(ids, source.shape[0], "embed ids"))


def lm_head_logits(table: Array | Bfloat16Weight, x: Array) -> Array:
    """Like `linear`, with the transposed table."""
    check(_on_gpu(x, "lm_head_logits x"), "N d", "lm_head_logits x", d=table.shape[1])
    return _product(x, table, transposed=True)


def linear(x: Array, w: Array | Bfloat16Weight) -> Array:
    """Register tiles in float32, a separate kernel for few rows, and tensor cores for weights packed in bfloat16.

    Raises:
        InputError: shapes do not fit, or an array is on the host.
    """
    check(_on_gpu(x, "linear x"), "N a", "linear x", a=w.shape[0])
    return _product(x, w)


def dot(x: Array, w: Array) -> Array:
    """One block per row. All rows are summed in the same order, so equal rows give equal bits."""
    check(_on_gpu(w, "dot w"), "d 1", "dot w", d=check(_on_gpu(x, "dot x"), "N d", "dot x")["d"])
    out = _device().empty((x.shape[0],), x.dtype)
    _by_row("dot", x, w, out)
    return out


def add(x: Array, y: Array) -> Array:
    return _elementwise("add", x, y)


def scale(x: Array, factor: float) -> Array:
    return _elementwise("scale", x, float(factor))


def multiply(x: Array, factors: Factors) -> Array:
    return _elementwise("multiply", x, factors)


def rms_norm(x: Array, gain: Array, eps: float) -> Array:
    """One block per row. The mean of squares is computed in the dtype of x.

    Raises:
        InputError: shapes do not fit.
    """
    d = check(_on_gpu(x, "rms_norm x"), "N d", "rms_norm x")["d"]
    check(_on_gpu(gain, "rms_norm gain"), "d", "rms_norm gain", d=d)
    out = _device().empty(x.shape, x.dtype)
    _by_row("rms_norm", x, gain, float(eps), out)
    return out


def gated_gelu(a: Array, b: Array) -> Array:
    return _elementwise("gated_gelu", a, b)


def relu(a: Array) -> Array:
    return _elementwise("relu", a, 0.0)


def interleave_concat(x: Array, x_lengths: Ints, y: Array, y_lengths: Ints) -> Array:
    """Copies rows.

    Raises:
        InputError: lengths do not fit.
    """
    check(_on_gpu(x, "interleave_concat x"), "Nx d", "interleave_concat x", Nx=int(np.sum(x_lengths)))
    check(
        _on_gpu(y, "interleave_concat y"),
        "Ny d",
        "interleave_concat y",
        Ny=int(np.sum(y_lengths)),
        d=x.shape[1],
    )
    xs, ys, index = offsets(x_lengths), offsets(y_lengths), []
    for i in range(len(x_lengths)):
        index += [np.arange(xs[i], xs[i + 1]), -1 - np.arange(ys[i], ys[i + 1])]
    return _copy_rows(x, y, np.concatenate(index))


def gather_sequences(x: Array, lengths: Ints, index: Ints) -> Array:
    """Copies rows.

    Raises:
        InputError: no sequence has such an index.
    """
    check(_on_gpu(x, "gather_sequences x"), "N d", "gather_sequences x", N=int(np.sum(lengths)))
    starts = offsets(lengths)
    parts = [np.arange(starts[i], starts[i + 1]) for i in _check_indices(index, len(lengths), "gather_sequences index")]
    return _copy_rows(x, x, np.concatenate([starts[:0], *parts]))


def first_token(x: Array, lengths: Ints) -> Array:
    check(_on_gpu(x, "first_token x"), "N d", "first_token x", N=int(np.sum(lengths)))
    return _copy_rows(x, x, offsets(lengths)[:-1])


def mean(x: Array, lengths: Ints) -> Array:
    """One block per sequence, one thread per column."""
    check(_on_gpu(x, "mean x"), "N d", "mean x", N=int(np.sum(lengths)))
    out = _device().empty((len(lengths), x.shape[1]), x.dtype)
    _device().run(x.dtype, "mean", len(lengths), x, _device().table(offsets(lengths)), out)
    return out


def argmax(x: Array) -> Ints:
    """Computed on the GPU; one integer per row is copied to the host."""
    check(_on_gpu(x, "argmax x"), "N v", "argmax x")
    out = _device().empty((x.shape[0],), np.int64)
    _by_row("argmax", x, out)
    return out.copy_to_host()


def log_likelihood(logits: Array, targets: Ints, lengths: Ints) -> Array:
    """One block per row of logits, then one thread per sequence.

    Raises:
        InputError: a target is outside the vocabulary, or their number does not fit.
    """
    check(_on_gpu(logits, "log_likelihood logits"), "N v", "log_likelihood logits", N=int(np.sum(lengths)))
    check(
        _check_indices(targets, logits.shape[1], "log_likelihood targets"),
        "N",
        "log_likelihood targets",
        N=logits.shape[0],
    )
    log_probs = _device().empty((logits.shape[0],), logits.dtype)
    _by_row("log_probs", logits, _device().table(targets), log_probs)
    out = _device().empty((len(lengths),), logits.dtype)
    _by_sequence("sums", out, log_probs, _device().table(offsets(lengths)))
    return out


def rank_kl(scores: Array, log_p_lm: Array, counts: Ints, tau: float, direction: str) -> Array:
    """One thread per question."""
    p, q = (log_p_lm, scores) if direction == "reverse" else (scores, log_p_lm)
    for x in (p, q):
        check(_on_gpu(x, "rank_kl"), "K", "rank_kl", K=int(np.sum(counts)))
    out = _device().empty((len(counts),), scores.dtype)
    _by_sequence("rank_kl", out, p, q, _device().table(offsets(counts)), float(tau))
    return out


def _by_sequence(name: str, out: Array, *args: Array) -> None:
    threads = _device().sizes[out.dtype.name].small_block
    _device().run(out.dtype, name, -(-out.size // threads), *args, out)


def attention_block(t5: Any, w: Any, x: Array, bias: Array, layout: SequenceLayout) -> Array:
    """Fused: the last product adds x to its tiles in registers."""
    n = rms_norm(x, w.norm, t5.layer_norm_epsilon)
    q, k, v = _product(n, w.q), _product(n, w.k), _product(n, w.v)
    return _product(attention(q, k, v, bias, layout, t5.num_heads, False), w.o, residual=x)


def feed_forward_block(t5: Any, w: Any, x: Array, lengths: Ints) -> Array:
    """Fused: the first product applies the gate, and the last adds x, to tiles in registers.

    Returns NotImplemented for relu, few rows, weights in bfloat16, and sizes that are not multiples of four.
    """
    d, f = w.wi_0.shape
    packed = isinstance(w.wi_0, Bfloat16Weight)
    if w.wi_1 is None or packed or x.shape[0] <= SKINNY or not _loads_four(x.dtype, d, f):
        return NotImplemented
    n = rms_norm(x, w.norm, t5.layer_norm_epsilon)
    return _product(_gated(n, w.wi_0, w.wi_1), w.wo, residual=x)


def limit(threads: int | None) -> AbstractContextManager[None]:
    """A context without effect.

    Raises:
        InputError: `threads` is not None.
    """
    if threads is not None:
        raise InputError("threads", "none with ops=cuda, whose threads are the GPU's", str(threads))
    return nullcontext()


def warm_up() -> None:
    """Opens the GPU.

    Raises:
        InputError: there is none; see `device`.
    """
    _device()
