"""A backend that computes only shapes: every result is zero, and takes neither time nor memory.

With `MacCounter` it gives the cost of a run for models of any size, without weights. All scores are equal, so the first
m passages are selected, and the likeliest token is always 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ragged import Array, Ints, zeros
from .interface import Factors, SequenceLayout


def to_device(x: Any) -> Array:
    return zeros(*x.shape)


def to_host(x: Array) -> Any:
    return x


def pack(w: Array, precision: str) -> Array:
    return to_device(w)


def pack_table(table: Array, precision: str) -> Array:
    return to_device(table)


def embed(table: Array, ids: Ints) -> Array:
    return zeros(len(ids), table.shape[1])


def lm_head_logits(table: Array, x: Array) -> Array:
    return zeros(x.shape[0], table.shape[0])


def linear(x: Array, w: Array) -> Array:
    return zeros(x.shape[0], w.shape[1])


def dot(x: Array, w: Array) -> Array:
    return zeros(x.shape[0])


def add(x: Array, y: Array) -> Array:
    return zeros(*x.shape)


def scale(x: Array, factor: float) -> Array:
    return zeros(*x.shape)


def multiply(x: Array, factors: Factors) -> Array:
    return zeros(*x.shape)


def rms_norm(x: Array, gain: Array, eps: float) -> Array:
    return zeros(*x.shape)


def gated_gelu(a: Array, b: Array) -> Array:
    return zeros(*a.shape)


def relu(a: Array) -> Array:
    return zeros(*a.shape)


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
    return zeros(*q.shape)


def attention_probs(
    q: Array,
    k: Array,
    bias: Array | None,
    layout: SequenceLayout,
    heads: int,
    causal: bool,
    precision: str | None = None,
) -> list[Array]:
    return [zeros(heads, i, j) for i, j in zip(layout.query_lengths, layout.key_lengths, strict=True)]


def interleave_concat(x: Array, x_lengths: Ints, y: Array, y_lengths: Ints) -> Array:
    return zeros(x.shape[0] + y.shape[0], x.shape[1])


def gather_sequences(x: Array, lengths: Ints, index: Ints) -> Array:
    return zeros(int(lengths[index].sum()), x.shape[1])


def first_token(x: Array, lengths: Ints) -> Array:
    return zeros(len(lengths), x.shape[1])


def mean(x: Array, lengths: Ints) -> Array:
    return zeros(len(lengths), x.shape[1])


def argmax(x: Array) -> Ints:
    return np.zeros(x.shape[0], np.int64)


def log_likelihood(logits: Array, targets: Ints, lengths: Ints) -> Array:
    return zeros(len(lengths))


def rank_kl(scores: Array, log_p_lm: Array, counts: Ints, tau: float, direction: str) -> Array:
    return zeros(len(counts))
