"""The reference backend: every operation as its formula in plain NumPy, followed by its backward function.

It computes in float32 or float64. Sums have the dtype of the operands. Weights are plain arrays, so there is no lower
precision. Constants come from `math`, because a float64 scalar of NumPy would turn float32 arrays into float64.
"""

from __future__ import annotations

import math

import numpy as np

from ..errors import InputError
from ..ragged import Array, Ints, offsets
from .interface import Factors, SequenceLayout


def to_device(x: Array) -> Array:
    return np.ascontiguousarray(x)


def to_host(x: Array) -> Array:
    return np.asarray(x)


def pack(w: Array, precision: str) -> Array:
    """The weight unchanged: the reference backend computes in the dtype of the weights and in no lower precision.

    Raises:
        InputError: `precision` is lower than that of the weights.
    """
    if precision != "float32":
        raise InputError("precision", "none below that of the weights with ops=numpy", repr(precision), "use ops=numba")
    return to_device(w)


def pack_table(table: Array, precision: str) -> Array:
    return pack(table, precision)


def embed(table: Array, ids: Ints) -> Array:
    return table[ids]


def embed_backward(dy: Array, table: Array, ids: Ints) -> tuple[Array]:
    dtable = np.zeros_like(table)
    np.add.at(dtable, ids, dy)
    return (dtable,)


def lm_head_logits(table: Array, x: Array) -> Array:
    return x @ table.T


def lm_head_logits_backward(dy: Array, table: Array, x: Array) -> tuple[Array, Array]:
    return dy.T @ x, dy @ table


def linear(x: Array, w: Array) -> Array:
    return x @ w


def linear_backward(dy: Array, x: Array, w: Array) -> tuple[Array, Array]:
    return dy @ w.T, x.T @ dy


def dot(x: Array, w: Array) -> Array:
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


def rms_norm(x: Array, gain: Array, eps: float) -> Array:
    mean_square = np.mean(x * x, axis=-1, keepdims=True)
    return x / np.sqrt(mean_square + eps) * gain


def rms_norm_backward(dy: Array, x: Array, gain: Array, eps: float) -> tuple[Array, Array]:
    r = 1 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps)  # x / sqrt(mean_square + eps) is x r
    g = dy * gain
    dx = r * (g - x * r * r * np.mean(g * x, axis=-1, keepdims=True))
    return dx, (dy * x * r).sum(axis=0)


def gated_gelu(a: Array, b: Array) -> Array:
    gelu = 0.5 * a * (1 + np.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a * a * a)))
    return gelu * b


def gated_gelu_backward(dy: Array, a: Array, b: Array) -> tuple[Array, Array]:
    t = np.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a * a * a))  # gelu = a/2 (1 + t)
    slope = 0.5 * (1 + t) + 0.5 * a * (1 - t * t) * (math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * a * a))
    return dy * b * slope, dy * (0.5 * a * (1 + t))


def relu(a: Array) -> Array:
    return np.maximum(a, 0)


def relu_backward(dy: Array, a: Array) -> tuple[Array]:
    return (dy * (a > 0),)


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
    out = np.empty_like(q)
    queries, keys, start = offsets(layout.query_lengths), offsets(layout.key_lengths), 0
    for s, probs in enumerate(attention_probs(q, k, bias, layout, heads, causal)):
        values = v[keys[s] : keys[s + 1]].reshape(-1, heads, q.shape[1] // heads)
        if dropout_mask is not None:
            probs = probs * dropout_mask[start : start + probs.size].reshape(probs.shape)
        mixed = np.einsum("hij,jhc->ihc", probs, values)
        out[queries[s] : queries[s + 1]] = mixed.reshape(mixed.shape[0], q.shape[1])
        start += probs.size
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
    queries, keys, result = offsets(layout.query_lengths), offsets(layout.key_lengths), []
    for s in range(len(layout.query_lengths)):
        rows, columns = slice(queries[s], queries[s + 1]), slice(keys[s], keys[s + 1])
        qs, ks = q[rows].reshape(-1, heads, q.shape[1] // heads), k[columns].reshape(-1, heads, k.shape[1] // heads)
        scores = np.einsum("ihc,jhc->hij", qs, ks)  # T5 does not divide by sqrt(c)
        distance = layout.key_positions[columns][None, :] - layout.query_positions[rows][:, None]
        if bias is not None:
            scores += bias[distance + bias.shape[0] // 2].transpose(2, 0, 1)
        if causal:
            scores[:, distance > 0] = -np.inf
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        result.append(weights / weights.sum(axis=-1, keepdims=True))
    return result


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
    dq, dk, dv, start = np.empty_like(q), np.empty_like(k), np.empty_like(v), 0
    dbias = None if bias is None else np.zeros_like(bias)
    queries, keys = offsets(layout.query_lengths), offsets(layout.key_lengths)
    for s, probs in enumerate(attention_probs(q, k, bias, layout, heads, causal)):
        rows, columns = slice(queries[s], queries[s + 1]), slice(keys[s], keys[s + 1])
        dys, qs, ks, vs = (
            x.reshape(len(x), heads, x.shape[1] // heads) for x in (dy[rows], q[rows], k[columns], v[columns])
        )
        dprobs, kept = np.einsum("ihc,jhc->hij", dys, vs), probs  # mixed = kept v
        if dropout_mask is not None:
            factors = dropout_mask[start : start + probs.size].reshape(probs.shape)
            dprobs, kept = dprobs * factors, probs * factors
        dscores = probs * (dprobs - (probs * dprobs).sum(axis=-1, keepdims=True))  # probs = softmax(scores)
        dq[rows] = np.einsum("hij,jhc->ihc", dscores, ks).reshape(dq[rows].shape)  # scores = q k + bias
        dk[columns] = np.einsum("hij,ihc->jhc", dscores, qs).reshape(dk[columns].shape)
        dv[columns] = np.einsum("hij,ihc->jhc", kept, dys).reshape(dv[columns].shape)
        if dbias is not None:
            distance = layout.key_positions[columns][None, :] - layout.query_positions[rows][:, None]
            np.add.at(dbias, distance + len(dbias) // 2, dscores.transpose(1, 2, 0))
        start += probs.size
    return dq, dk, dv, dbias


def interleave_concat(x: Array, x_lengths: Ints, y: Array, y_lengths: Ints) -> Array:
    parts = []
    for xi, yi in zip(np.split(x, offsets(x_lengths)[1:-1]), np.split(y, offsets(y_lengths)[1:-1]), strict=True):
        parts += [xi, yi]
    return np.concatenate(parts)


def interleave_concat_backward(dy: Array, x: Array, x_lengths: Ints, y: Array, y_lengths: Ints) -> tuple[Array, Array]:
    from_x = np.repeat(np.tile([True, False], len(x_lengths)), np.stack([x_lengths, y_lengths], axis=1).ravel())
    return dy[from_x], dy[~from_x]


def gather_sequences(x: Array, lengths: Ints, index: Ints) -> Array:
    starts = offsets(lengths)
    return np.concatenate([x[:0], *(x[starts[i] : starts[i + 1]] for i in index)])


def gather_sequences_backward(dy: Array, x: Array, lengths: Ints, index: Ints) -> tuple[Array]:
    dx, starts = np.zeros_like(x), offsets(lengths)
    for i, part in zip(index, np.split(dy, offsets(lengths[index])[1:-1]), strict=False):
        dx[starts[i] : starts[i + 1]] += part
    return (dx,)


def first_token(x: Array, lengths: Ints) -> Array:
    return x[offsets(lengths)[:-1]]


def first_token_backward(dy: Array, x: Array, lengths: Ints) -> tuple[Array]:
    dx = np.zeros_like(x)
    dx[offsets(lengths)[:-1]] = dy
    return (dx,)


def mean(x: Array, lengths: Ints) -> Array:
    return np.stack([part.mean(axis=0) for part in np.split(x, offsets(lengths)[1:-1])])


def mean_backward(dy: Array, x: Array, lengths: Ints) -> tuple[Array]:
    return (np.repeat(dy / lengths[:, None].astype(dy.dtype), lengths, axis=0),)


def argmax(x: Array) -> Ints:
    return np.argmax(x, axis=-1)


def log_likelihood(logits: Array, targets: Ints, lengths: Ints) -> Array:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_probs = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    chosen = log_probs[np.arange(targets.size), targets]
    return np.array([part.sum() for part in np.split(chosen, offsets(lengths)[1:-1])], logits.dtype)


def log_likelihood_backward(dy: Array, logits: Array, targets: Ints, lengths: Ints) -> tuple[Array]:
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    rows = np.repeat(dy, lengths)[:, None]
    dlogits = weights * (-rows / weights.sum(axis=-1, keepdims=True))
    dlogits[np.arange(targets.size), targets] += rows[:, 0]
    return (dlogits,)


def _log_softmax(x: Array) -> Array:
    shifted = x - x.max()
    return shifted - np.log(np.exp(shifted).sum())


def rank_kl(scores: Array, log_p_lm: Array, counts: Ints, tau: float, direction: str) -> Array:
    p, q = (log_p_lm, scores) if direction == "reverse" else (scores, log_p_lm)
    kls = []
    for part in np.split(np.arange(len(scores)), offsets(counts)[1:-1]):
        log_p, log_q = _log_softmax(p[part] / float(tau)), _log_softmax(q[part] / float(tau))
        kls.append((np.exp(log_p) * (log_p - log_q)).sum())
    return np.array(kls, scores.dtype)


def rank_kl_backward(
    dy: Array, scores: Array, log_p_lm: Array, counts: Ints, tau: float, direction: str
) -> tuple[Array, Array]:
    p, q = (log_p_lm, scores) if direction == "reverse" else (scores, log_p_lm)
    dp, dq = np.empty_like(p), np.empty_like(q)
    for dkl, part in zip(dy, np.split(np.arange(len(scores)), offsets(counts)[1:-1]), strict=True):
        log_p, log_q = _log_softmax(p[part] / float(tau)), _log_softmax(q[part] / float(tau))
        log_ratio = log_p - log_q
        kl = (np.exp(log_p) * log_ratio).sum()
        dp[part] = dkl * np.exp(log_p) * (log_ratio - kl) / float(tau)
        dq[part] = dkl * (np.exp(log_q) - np.exp(log_p)) / float(tau)
    return (dq, dp) if direction == "reverse" else (dp, dq)
