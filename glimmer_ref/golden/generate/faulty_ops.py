"""Common mistakes in implementations: each is one faulty operation, or one faulty stage."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ...ops import Instrument, Ops, SequenceLayout
from ...paper import fid, glimmer, lumen
from ...paper.t5 import encode, relative_buckets
from ...params.model import Attention, Model
from ...ragged import Array, Ints, States, Tokens, offsets, token_positions
from ..case import Case
from .run_case import Arrays

Faulty = dict[str, Callable[..., Any]]


class FaultyOps(Instrument):
    """Replaces some operations by faulty ones: `faulty[name](self, *arguments)` runs instead of the operation.

    Args:
        case, model, named: the case, its weights and its inputs, for mistakes that need them.
        faulty: the faulty operations by name; `<name>_backward` replaces a backward function.
    """

    elementary = True

    def __init__(self, ops: Ops, case: Case, model: Model, named: Arrays, faulty: Faulty) -> None:
        self.case, self.model, self.named, self.faulty = case, model, named, faulty
        super().__init__(ops)

    def observe(self, name: str, operation: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        return self.faulty[name](self, *args) if name in self.faulty else operation(*args)

    def record(self, name: str, x: Array, lengths: Ints | None = None) -> Array:
        return self.observe("record", self.ops.record, (name, x, lengths))

    @property
    def backward(self) -> dict[str, Callable[..., Any]]:
        faulty = {name.removesuffix("_backward"): f for name, f in self.faulty.items() if name.endswith("_backward")}
        return self.ops.backward | {name: partial(function, self) for name, function in faulty.items()}

    def buckets(self, reach: int, bidirectional: bool) -> Ints:
        """The bucket of every distance up to `reach` in either direction."""
        t5 = self.model.config.t5
        sizes = t5.relative_attention_num_buckets, t5.relative_attention_max_distance
        return relative_buckets(np.arange(-reach, reach + 1), bidirectional, *sizes)


# Attention. Its arguments are q, k, v, bias, layout, heads, causal.


def divided(self: FaultyOps, q: Array, *rest: Any) -> Array:
    heads = rest[4]
    return self.ops.attention(q / math.sqrt(q.shape[1] // heads), *rest)


def not_causal(
    self: FaultyOps, q: Array, k: Array, v: Array, bias: Array | None, layout: SequenceLayout, heads: int, *_: Any
) -> Array:
    return self.ops.attention(q, k, v, bias, layout, heads, causal=False)


def with_padding(
    self: FaultyOps,
    q: Array,
    k: Array,
    v: Array,
    bias: Array | None,
    layout: SequenceLayout,
    heads: int,
    causal: bool,
    *_: Any,
) -> Array:
    """Keys and values padded with zeros to the longest sequence, and no mask."""
    if causal:
        return self.ops.attention(q, k, v, bias, layout, heads, causal)
    longest, far = int(layout.key_lengths.max()), int(layout.key_positions.max())

    def padded(x: Array, beyond: Callable[[Array, int], Array]) -> Array:
        parts = np.split(x, offsets(layout.key_lengths)[1:-1])
        return np.concatenate([part for x in parts for part in (x, beyond(x, longest - len(x)))])

    def zeros(x: Array, n: int) -> Array:
        return np.zeros((n, x.shape[1]), x.dtype)

    at = padded(layout.key_positions, lambda x, n: np.minimum(x[-1] + 1 + np.arange(n), far))
    wide = layout._replace(key_lengths=np.full_like(layout.key_lengths, longest), key_positions=at)
    return self.ops.attention(q, padded(k, zeros), padded(v, zeros), bias, wide, heads, causal)


def swapped(self: FaultyOps, q: Array, k: Array, v: Array, *rest: Any) -> Array:
    return self.ops.attention(q, v, k, *rest)


def swap_keys_and_values(*parts: str) -> Callable[[Model], Model]:
    """Exchanges W_k and W_v in every attention, or in those that are the given parts of a layer."""

    def swap(x: Any, name: str = "") -> Any:
        if isinstance(x, Attention):
            return replace(x, k=x.v, v=x.k) if not parts or name in parts else x
        if isinstance(x, tuple):
            return tuple(swap(each) for each in x)
        if is_dataclass(x) and not isinstance(x, type):
            return replace(x, **{f.name: swap(getattr(x, f.name), f.name) for f in fields(x) if f.init})
        return x

    return swap


# The other operations of a layer.


def embedding_scaled(self: FaultyOps, table: Array, ids: Ints) -> Array:
    tokens = len(table) == self.model.config.t5.vocab_size
    return self.ops.embed(table, ids) * (math.sqrt(table.shape[1]) if tokens else 1.0)


def unshifted(self: FaultyOps, table: Array, ids: Ints) -> Array:
    tokens = self.path == "decoder." and len(table) == self.model.config.t5.vocab_size
    return self.ops.embed(table, self.named["target"] if tokens else ids)


def exact_gelu(self: FaultyOps, a: Array, b: Array) -> Array:
    erf = np.frompyfunc(math.erf, 1, 1)(a / math.sqrt(2)).astype(a.dtype)
    return a / 2 * (1 + erf) * b


def gate_and_value_swapped(self: FaultyOps, a: Array, b: Array) -> Array:
    return self.ops.gated_gelu(b, a)


def larger_eps(self: FaultyOps, x: Array, gain: Array, eps: float) -> Array:
    return self.ops.rms_norm(x, gain, 1e-5)


def eps_outside(self: FaultyOps, x: Array, gain: Array, eps: float) -> Array:
    return x / (np.sqrt(np.mean(x * x, axis=1, keepdims=True)) + eps) * gain


def mean_subtracted(self: FaultyOps, x: Array, gain: Array, eps: float) -> Array:
    return self.ops.rms_norm(x - x.mean(axis=1, keepdims=True), gain, eps)


def gain_plus_one(self: FaultyOps, x: Array, gain: Array, eps: float) -> Array:
    return self.ops.rms_norm(x, 1 + gain, eps)


def unnormed(gain: Callable[[Model], Array], *paths: str) -> Faulty:
    """Leaves out the norms with this gain, in scopes that begin with one of `paths`."""

    def skipped(self: FaultyOps, x: Array, g: Array, eps: float) -> Array:
        mine = g is gain(self.model) and self.path.startswith(paths)
        return np.array(x) if mine else self.ops.rms_norm(x, g, eps)

    return {"rms_norm": skipped}


def averaged(self: FaultyOps, logits: Array, targets: Ints, lengths: Ints) -> Array:
    return self.ops.log_likelihood(logits, targets, lengths) / lengths


# Backwards. Their first argument is the cotangent of the result.


def overwritten(self: FaultyOps, dy: Array, table: Array, ids: Ints) -> tuple[Array]:
    dtable = np.zeros_like(table)
    dtable[ids] = dy
    return (dtable,)


def constant_norm(self: FaultyOps, dy: Array, x: Array, gain: Array, eps: float) -> tuple[Array, Array]:
    _, dgain = self.ops.backward["rms_norm"](dy, x, gain, eps)
    return dy * gain / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps), dgain


def scores_as_constants(self: FaultyOps, dy: Array, scores: Array, log_p: Array, *rest: Any) -> tuple[Array, Array]:
    return np.zeros_like(scores), self.ops.backward["rank_kl"](dy, scores, log_p, *rest)[1]


def states_as_constants(self: FaultyOps, dy: Array, x: Array, *_: Any) -> tuple[Array]:
    return (np.zeros_like(x),)


def last_argmax(self: FaultyOps, x: Array) -> Ints:
    return x.shape[1] - 1 - np.argmax(x[:, ::-1], axis=1)


# Ranking.


def last(self: FaultyOps, x: Array, lengths: Ints) -> Array:
    return x[offsets(lengths)[1:] - 1]


def mean(self: FaultyOps, x: Array, lengths: Ints) -> Array:
    return self.ops.mean(x, lengths)


def first_token(self: FaultyOps, x: Array, lengths: Ints) -> Array:
    return self.ops.first_token(x, lengths)


def ranked(order_of: Callable[[np.ndarray, int], np.ndarray]) -> Faulty:
    """Selects the passages that `order_of(scores, m)` puts first; the recorded scores stay right."""

    def record(self: FaultyOps, name: str, x: Array, lengths: Ints | None = None) -> Array:
        x = self.ops.record(name, x, lengths)
        if name != "scores":
            return x
        order = order_of(np.asarray(x), self.case.m)
        rank = np.empty_like(x)
        rank[order] = np.arange(len(order))
        return -rank

    return {"record": record}


def best_first(scores: np.ndarray, m: int) -> np.ndarray:
    return np.argsort(-scores, kind="stable")


def as_passages_come(scores: np.ndarray, m: int) -> np.ndarray:
    order = best_first(scores, m)
    return np.concatenate([np.sort(order[:m]), order[m:]])


def ties_to_the_higher(scores: np.ndarray, m: int) -> np.ndarray:
    return np.argsort(scores, kind="stable")[::-1]


# Stages.


def passage_before_question(self: FaultyOps, x: Array, x_lengths: Ints, y: Array, y_lengths: Ints) -> Array:
    if self.path or len(x_lengths) == 1:  # a decoder's cache, and the decoder's own question
        return self.ops.interleave_concat(x, x_lengths, y, y_lengths)
    return self.ops.interleave_concat(y, y_lengths, x, x_lengths)


def normed_memory(ops: Ops, model: Model, question: Tokens, passages: Tokens) -> States:
    scoped = ops.scope("memory")
    x = States(ops.embed(model.embedding, passages.ids), passages.lengths, token_positions(passages.lengths))
    x = fid.final_norm(scoped, model, encode(scoped, model.config.t5, model.memory, x))
    scoped.record("out", x.states, x.lengths)
    return x


def memory_of_pairs(ops: Ops, model: Model, question: Tokens, passages: Tokens) -> States:
    """Encodes each passage behind the question, as in FiD, and keeps the passage's tokens."""
    scoped, counts = ops.scope("memory"), np.array([len(passages)])
    pairs, at = fid.pair_tokens(model, question, passages, counts)
    x = encode(scoped, model.config.t5, model.memory, States(ops.embed(model.embedding, pairs.ids), pairs.lengths, at))
    begins = offsets(pairs.lengths)[:-1] + question.lengths[0] - offsets(passages.lengths)[:-1]
    states = x.states[np.arange(len(passages.ids)) + np.repeat(begins, passages.lengths)]
    scoped.record("out", states, passages.lengths)
    return States(states, passages.lengths, token_positions(passages.lengths))


def no_question(ops: Ops, model: Model, question: Tokens, passages: Any, counts: Ints, m: int) -> Any:
    """Leaves the question out of the pairs: [MemEnc(P_i)] instead of [MemEnc(Q); MemEnc(P_i)]."""
    none = np.zeros(len(counts), np.int64)
    q = lumen.encode_question(ops, model, question)
    pairs = lumen.join(ops, model, States(q.states[:0], none, q.positions[:0]), passages, counts)
    return ranked_pairs(ops, model, q, pairs, pairs, counts, m)


def fid_without_question(ops: Ops, model: Model, question: Tokens, passages: Tokens, counts: Ints, m: int) -> Any:
    """Leaves the question out of the pairs."""
    none = Tokens(question.ids[:0], np.zeros(len(counts), np.int64))
    return glimmer.DecoderInput(fid.fid(ops, model, none, passages, counts), None, [])


def live_b_on_pairs(ops: Ops, model: Model, question: Tokens, passages: States, counts: Ints, m: int) -> Any:
    """Live-B reads the selected H_i instead of the selected H'_i."""
    q = lumen.encode_question(ops, model, question)
    pairs = lumen.join(ops, model, q, passages, counts)
    return ranked_pairs(ops, model, q, pairs, None, counts, m)


def ranked_pairs(
    ops: Ops, model: Model, q: States, pairs: States, ranked: States | None, counts: Ints, m: int
) -> glimmer.DecoderInput:
    """GLIMMER, beginning with its pairs. Without `ranked`, live-B reads the input of live-A."""
    after = glimmer.live_a(ops.scope("live_a"), model, pairs)
    scores, selected = glimmer.select(ops, glimmer.score(ops.scope("score"), model, after), m, counts)
    index = np.concatenate([s + first for s, first in zip(selected, offsets(counts), strict=False)])
    best = glimmer.live_b(ops.scope("live_b"), model, glimmer.gather(ops, pairs if ranked is None else after, index))
    return glimmer.DecoderInput(lumen.decoder_memory(ops, model, q, best, np.full(len(counts), m)), scores, selected)
