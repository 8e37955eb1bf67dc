"""The third backend: the same operations as kernels on a GPU, forward only, for float32 and float64.

Read it beside `numpy_backend`: same functions and order. What `to_device` made stays on the GPU, results too; to the
host come only `to_host`'s arrays and `argmax`'s places. Its kernels are in `kernels.rowwise`, `kernels.matmul` and
`kernels.attention`; each is compiled when first run. Sums are in the dtype of the operands. Attention and whole blocks
are told in `attention_ops` and `fused`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import numpy as np

from ...errors import InputError
from ...ragged import Array, Ints, check, offsets
from ..interface import Factors
from .attention_ops import attention as attention
from .attention_ops import attention_probs as attention_probs
from .fused import attention_block as attention_block
from .fused import feed_forward_block as feed_forward_block
from .matmul_ops import Halves
from .matmul_ops import halves as _halves
from .matmul_ops import here as _here
from .matmul_ops import product as _product
from .runtime.device import device as _device

TAKEN = "float32 or bfloat16 with ops=cuda"


def to_device(x: Array) -> Array:
    """x copied to the GPU; what is there already, as it is.

    Raises:
        InputError: neither float32 nor float64, or no room.
    """
    if not isinstance(x, np.ndarray) and hasattr(x, "copy_to_host"):
        return x
    x = np.asarray(x)
    if x.dtype not in (np.float32, np.float64):
        raise InputError("to_device", "float32 or float64", str(x.dtype), "convert it first")
    return _device().put(x)


def to_host(x: Array | Halves) -> Array:
    if isinstance(x, Halves):
        return x.get()
    return x if isinstance(x, np.ndarray) else x.copy_to_host()


def pack(w: Array, precision: str) -> Array | Halves:
    """A weight on the GPU, with "bfloat16" as pairs of them for the tensor cores.

    Raises:
        InputError: another precision, a lower one for float64, or no room.
    """
    if precision == "float32":
        return to_device(w)
    if precision != "bfloat16":
        raise InputError("precision", TAKEN, repr(precision))
    return _halves(np.asarray(w).T, None)


def pack_table(table: Array, precision: str) -> Array | Halves:
    """A table on the GPU, with "bfloat16" also as pairs of them; `embed` reads it as it was.

    Raises:
        InputError: as `pack`.
    """
    if precision == "float32":
        return to_device(table)
    if precision != "bfloat16":
        raise InputError("precision", TAKEN, repr(precision))
    return _halves(table, to_device(table))


def _whole(numbers: Ints, below: int, what: str) -> Ints:
    """Whole numbers that a kernel may use as places: it would not notice leaving its arrays."""
    numbers = np.asarray(numbers)
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < below:
        raise InputError(what, f"whole numbers from 0 to {below - 1}", str(sorted({numbers.min(), numbers.max()})))
    return numbers


def _flat(name: str, x: Array, *others: Array | float) -> Array:
    """An elementwise kernel on arrays of one shape."""
    _here(x, name)
    for other in others:
        if not isinstance(other, float) and _here(other, name).shape != x.shape:
            raise InputError(name, f"shape {list(x.shape)}", f"{list(other.shape)}")
    out = _device().empty(x.shape, x.dtype)
    threads = _device().sizes[x.dtype.name].threads
    blocks = min(-(-x.size // (4 * threads)), 1 << 16)
    operands = [other if isinstance(other, float) else other.reshape(other.size) for other in (x, *others)]
    _device().run(x.dtype, name, blocks, *operands, out.reshape(out.size))
    return out


def _rows(x: Array, y: Array, index: Ints) -> Array:
    """Rows of x, and of y where an index is -1 minus its place."""
    out = _device().empty((len(index), x.shape[1]), x.dtype)
    _device().run(x.dtype, "rows", len(index), x, y, _device().table(index), out)
    return out


def _by_row(name: str, x: Array, *args: Array) -> None:
    _device().run(x.dtype, name, x.shape[0], x, *args)


def embed(table: Array | Halves, ids: Ints) -> Array:
    """
    Raises:
        InputError: an id outside the table.
    """
    source = _here(table.source if isinstance(table, Halves) else table, "embed table")
    return _rows(source, source, _whole(ids, source.shape[0], "embed ids"))


def lm_head_logits(table: Array | Halves, x: Array) -> Array:
    """See `linear`; the table lies the other way."""
    check(_here(x, "lm_head_logits x"), "N d", "lm_head_logits x", d=table.shape[1])
    return _product(x, table, turned=True)


def linear(x: Array, w: Array | Halves) -> Array:
    """Register tiles in float32, a kernel of its own for few rows; tensor cores for weights packed in bfloat16.

    Raises:
        InputError: shapes that do not fit, or an array of the host.
    """
    check(_here(x, "linear x"), "N a", "linear x", a=w.shape[0])
    return _product(x, w)


def dot(x: Array, w: Array) -> Array:
    """A block is a row, each summed in the same order, so that equal rows give equal bits."""
    check(_here(w, "dot w"), "d 1", "dot w", d=check(_here(x, "dot x"), "N d", "dot x")["d"])
    out = _device().empty((x.shape[0],), x.dtype)
    _by_row("dot", x, w, out)
    return out


def add(x: Array, y: Array) -> Array:
    return _flat("add", x, y)


def scale(x: Array, factor: float) -> Array:
    return _flat("scale", x, float(factor))


def multiply(x: Array, factors: Factors) -> Array:
    return _flat("multiply", x, factors)


def rms_norm(x: Array, gain: Array, eps: float, precision: str | None = None) -> Array:
    """A block is a row. The mean of squares is made in the dtype of x.

    Raises:
        InputError: shapes that do not fit.
    """
    check(_here(gain, "rms_norm gain"), "d", "rms_norm gain", d=check(_here(x, "rms_norm x"), "N d", "rms_norm x")["d"])
    out = _device().empty(x.shape, x.dtype)
    _by_row("rms_norm", x, gain, float(eps), out)
    return out


def gated_gelu(a: Array, b: Array) -> Array:
    return _flat("gated_gelu", a, b)


def relu(a: Array) -> Array:
    return _flat("relu", a, 0.0)


def interleave_concat(x: Array, x_lengths: Ints, y: Array, y_lengths: Ints) -> Array:
    """
    Raises:
        InputError: lengths that do not fit.
    """
    check(_here(x, "join x"), "Nx d", "join x", Nx=int(np.sum(x_lengths)))
    check(_here(y, "join y"), "Ny d", "join y", Ny=int(np.sum(y_lengths)), d=x.shape[1])
    xs, ys, index = offsets(x_lengths), offsets(y_lengths), []
    for i in range(len(x_lengths)):
        index += [np.arange(xs[i], xs[i + 1]), -1 - np.arange(ys[i], ys[i + 1])]
    return _rows(x, y, np.concatenate(index))


def gather_sequences(x: Array, lengths: Ints, index: Ints) -> Array:
    """
    Raises:
        InputError: an index without a sequence.
    """
    check(_here(x, "take x"), "N d", "take x", N=int(np.sum(lengths)))
    starts = offsets(lengths)
    parts = [np.arange(starts[i], starts[i + 1]) for i in _whole(index, len(lengths), "take index")]
    return _rows(x, x, np.concatenate([starts[:0], *parts]))


def first_token(x: Array, lengths: Ints) -> Array:
    check(_here(x, "first x"), "N d", "first x", N=int(np.sum(lengths)))
    return _rows(x, x, offsets(lengths)[:-1])


def mean(x: Array, lengths: Ints) -> Array:
    """A block is a sequence, a thread a column."""
    check(_here(x, "mean x"), "N d", "mean x", N=int(np.sum(lengths)))
    out = _device().empty((len(lengths), x.shape[1]), x.dtype)
    _device().run(x.dtype, "mean", len(lengths), x, _device().table(offsets(lengths)), out)
    return out


def argmax(x: Array) -> Ints:
    """Found on the GPU: one whole number a row comes back."""
    check(_here(x, "argmax x"), "N v", "argmax x")
    out = _device().empty((x.shape[0],), np.int64)
    _by_row("argmax", x, out)
    return out.copy_to_host()


def log_likelihood(logits: Array, targets: Ints, lengths: Ints) -> Array:
    """A block is a row of logits, a thread then a sequence.

    Raises:
        InputError: a target outside the vocabulary, or another number of them.
    """
    check(_here(logits, "log_likelihood logits"), "N v", "log_likelihood logits", N=int(np.sum(lengths)))
    check(_whole(targets, logits.shape[1], "log_likelihood targets"), "N", "log_likelihood targets", N=logits.shape[0])
    log_probs = _device().empty((logits.shape[0],), logits.dtype)
    _by_row("log_probs", logits, _device().table(targets), log_probs)
    out = _device().empty((len(lengths),), logits.dtype)
    _by_sequence("sums", out, log_probs, _device().table(offsets(lengths)))
    return out


def rank_kl(scores: Array, log_p_lm: Array, counts: Ints, tau: float, direction: str) -> Array:
    """A thread is a question."""
    p, q = (log_p_lm, scores) if direction == "reverse" else (scores, log_p_lm)
    for x in (p, q):
        check(_here(x, "rank_kl"), "K", "rank_kl", K=int(np.sum(counts)))
    out = _device().empty((len(counts),), scores.dtype)
    _by_sequence("rank_kl", out, p, q, _device().table(offsets(counts)), float(tau))
    return out


def _by_sequence(name: str, out: Array, *args: Array) -> None:
    threads = _device().sizes[out.dtype.name].moving
    _device().run(out.dtype, name, -(-out.size // threads), *args, out)


def limit(threads: int | None) -> AbstractContextManager[None]:
    """Nothing to limit.

    Raises:
        InputError: a number of threads.
    """
    if threads is not None:
        raise InputError("threads", "none with ops=cuda, whose threads are the GPU's", str(threads))
    return nullcontext()


def warm_up() -> None:
    """Opens the GPU, or says in one line why there is none.

    Raises:
        InputError: see `device`.
    """
    _device()
