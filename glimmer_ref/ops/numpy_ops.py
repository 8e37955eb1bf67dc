"""The oracle: every operation as its formula, in plain NumPy, for float32 and float64.

Sums are made in the dtype of the operands. Constants come from `math`: a NumPy float64 scalar
would silently promote float32 arrays.
"""

from __future__ import annotations

import math

import numpy as np

from ..arrays import Array, Ints, offsets
from ..errors import Refused
from .contract import Spans


def put(x: Array) -> Array:
    return np.ascontiguousarray(x)


def get(x: Array) -> Array:
    return np.asarray(x)


def pack(w: Array, precision: str) -> Array:
    """As it is: the oracle computes in the dtype of the weights, and with nothing less.

    Raises:
        Refused: a lower precision.
    """
    if precision != "float32":
        raise Refused("precision", "the weights' own dtype with ops=numpy", repr(precision), "use ops=numba")
    return put(w)


def pack_table(table: Array, precision: str) -> Array:
    return pack(table, precision)


def embed(table: Array, ids: Ints) -> Array:
    return table[ids]


def unembed(table: Array, x: Array) -> Array:
    return x @ table.T


def linear(x: Array, w: Array) -> Array:
    return x @ w


def dot(x: Array, w: Array) -> Array:
    return (x * w[:, 0]).sum(axis=-1)


def add(x: Array, y: Array) -> Array:
    return x + y


def scale(x: Array, factor: float) -> Array:
    return x * float(factor)


def rms_norm(x: Array, gain: Array, eps: float) -> Array:
    mean_square = np.mean(x * x, axis=-1, keepdims=True)
    return x / np.sqrt(mean_square + eps) * gain


def gated_gelu(a: Array, b: Array) -> Array:
    gelu = 0.5 * a * (1 + np.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a * a * a)))
    return gelu * b


def relu(a: Array) -> Array:
    return np.maximum(a, 0)


def attention(q: Array, k: Array, v: Array, bias: Array | None, spans: Spans, heads: int, causal: bool) -> Array:
    out = np.empty_like(q)
    queries, keys = offsets(spans.query_lengths), offsets(spans.key_lengths)
    for s, probs in enumerate(attention_probs(q, k, bias, spans, heads, causal)):
        values = v[keys[s] : keys[s + 1]].reshape(-1, heads, q.shape[1] // heads)
        mixed = np.einsum("hij,jhc->ihc", probs, values)
        out[queries[s] : queries[s + 1]] = mixed.reshape(mixed.shape[0], -1)
    return out


def attention_probs(q: Array, k: Array, bias: Array | None, spans: Spans, heads: int, causal: bool) -> list[Array]:
    queries, keys, result = offsets(spans.query_lengths), offsets(spans.key_lengths), []
    for s in range(len(spans.query_lengths)):
        rows, columns = slice(queries[s], queries[s + 1]), slice(keys[s], keys[s + 1])
        qs, ks = q[rows].reshape(-1, heads, q.shape[1] // heads), k[columns].reshape(-1, heads, k.shape[1] // heads)
        scores = np.einsum("ihc,jhc->hij", qs, ks)  # T5 does not divide by sqrt(c)
        distance = spans.key_positions[columns][None, :] - spans.query_positions[rows][:, None]
        if bias is not None:
            scores += bias[distance + bias.shape[0] // 2].transpose(2, 0, 1)
        if causal:
            scores[:, distance > 0] = -np.inf
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        result.append(weights / weights.sum(axis=-1, keepdims=True))
    return result


def join(x: Array, x_lengths: Ints, y: Array, y_lengths: Ints) -> Array:
    parts = []
    for xi, yi in zip(np.split(x, offsets(x_lengths)[1:-1]), np.split(y, offsets(y_lengths)[1:-1]), strict=True):
        parts += [xi, yi]
    return np.concatenate(parts)


def take(x: Array, lengths: Ints, index: Ints) -> Array:
    starts = offsets(lengths)
    return np.concatenate([x[:0], *(x[starts[i] : starts[i + 1]] for i in index)])


def first(x: Array, lengths: Ints) -> Array:
    return x[offsets(lengths)[:-1]]


def mean(x: Array, lengths: Ints) -> Array:
    return np.stack([part.mean(axis=0) for part in np.split(x, offsets(lengths)[1:-1])])


def argmax(x: Array) -> Ints:
    return np.argmax(x, axis=-1)


def log_likelihood(logits: Array, targets: Ints, lengths: Ints) -> Array:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_probs = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    chosen = log_probs[np.arange(targets.size), targets]
    return np.array([part.sum() for part in np.split(chosen, offsets(lengths)[1:-1])], logits.dtype)
