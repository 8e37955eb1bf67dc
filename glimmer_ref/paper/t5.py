"""The layers of T5.1.1 and T5 1.0, written with the operations of `ops.interface`. No masks: sequences are not padded.

Source: Raffel et al. 2020; the layer norm without mean or bias, the missing 1/sqrt(d_kv), and the
bucket formula were verified against transformers' T5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ..config import T5Config
from ..ops import Ops, SequenceLayout, fusable, precision_of
from ..params.model import Attention, Decoder, EncoderLayer, FeedForward, Stack
from ..ragged import Array, Ints, States, Tokens, token_positions


def relative_buckets(distance: Ints, bidirectional: bool, num_buckets: int, max_distance: int) -> Ints:
    """The bucket of each distance (key position - query position), which selects the position bias.

    Each small distance has its own bucket. Larger distances share buckets that grow wider logarithmically up to
    max_distance, and all distances beyond it share the last bucket. An encoder uses half of the buckets for keys ahead
    of the query. A decoder sees no keys ahead, and uses all buckets for keys behind the query.

    Args:
        distance: [n] whole numbers.

    Returns:
        [n] bucket numbers, 0 .. num_buckets - 1.
    """
    ahead = np.zeros_like(distance)
    if bidirectional:
        num_buckets //= 2
        ahead = np.where(distance > 0, num_buckets, 0)
        behind = np.abs(distance)
    else:
        behind = np.maximum(-distance, 0)
    exact = num_buckets // 2
    growth = np.log(np.maximum(behind, exact) / exact) / math.log(max_distance / exact)
    far = np.minimum(exact + (growth * (num_buckets - exact)).astype(np.int64), num_buckets - 1)
    return ahead + np.where(behind < exact, behind, far)


def position_bias(ops: Ops, t5: T5Config, table: Array, layout: SequenceLayout, bidirectional: bool) -> Array:
    """The bias of every distance that occurs: [buckets h] -> [2D+1 h], distance 0 in the middle row."""
    reach = int(max(layout.query_positions.max(initial=0), layout.key_positions.max(initial=0)))
    buckets = relative_buckets(
        np.arange(-reach, reach + 1),
        bidirectional,
        t5.relative_attention_num_buckets,
        t5.relative_attention_max_distance,
    )
    return ops.embed(table, buckets)


class KeysValues(NamedTuple):
    """The keys and values to which queries attend.

    Args:
        k, v: [Nk hc], of one layer.
    """

    k: Array
    v: Array


class AttentionPattern(NamedTuple):
    """Which keys each query sees, and the bias for each distance.

    Args:
        layout: the sequences of queries and of keys.
        bias: [2D+1 h], see `position_bias`; None means no bias.
        causal: if true, a query sees no key ahead of it.
    """

    layout: SequenceLayout
    bias: Array | None
    causal: bool


def attend(ops: Ops, t5: T5Config, w: Attention, q: Array, kv: KeysValues, pattern: AttentionPattern) -> Array:
    """softmax(q k^T + bias) v, head by head and without 1/sqrt(d_kv): [Nq hc], [Nk hc] -> [Nq hc]."""
    layout, bias, causal = pattern
    return ops.attention(q, kv.k, kv.v, bias, layout, t5.num_heads, causal, None, precision_of(w.q))


def queries(ops: Ops, w: Attention, n: Array, layout: SequenceLayout) -> Array:
    """q = n W_q: [Nq d] -> [Nq hc]."""
    return ops.record("q", ops.linear(n, w.q), layout.query_lengths)


def attention_output(ops: Ops, w: Attention, x: Array, context: Array, layout: SequenceLayout) -> Array:
    """x + context W_o, the last step of self-attention and cross-attention: [Nq d], [Nq hc] -> [Nq d]."""
    rows = layout.query_lengths
    ops.record("mixed", context, rows)
    return ops.record("out", ops.add(x, ops.dropout(ops.linear(context, w.o))), rows)


@fusable
def attention_block(ops: Ops, t5: T5Config, w: Attention, x: Array, bias: Array, layout: SequenceLayout) -> Array:
    """x + attend(n W_q, n W_k, n W_v) W_o with n = norm(x), in an encoder: [N d] -> [N d]."""
    n = ops.rms_norm(x, w.norm, t5.layer_norm_epsilon)
    k = ops.record("k", ops.linear(n, w.k), layout.key_lengths)
    v = ops.record("v", ops.linear(n, w.v), layout.key_lengths)
    q = queries(ops, w, n, layout)
    context = attend(ops, t5, w, q, KeysValues(k, v), AttentionPattern(layout, bias, causal=False))
    return attention_output(ops, w, x, context, layout)


@fusable
def feed_forward_block(ops: Ops, t5: T5Config, w: FeedForward, x: Array, lengths: Ints) -> Array:
    """x + wo(gelu(wi_0 n) * (wi_1 n)), or x + wo(relu(wi_0 n)) in T5 1.0, with n = norm(x): [N d] -> [N d]."""
    n = ops.rms_norm(x, w.norm, t5.layer_norm_epsilon)
    if w.wi_1 is None:
        hidden = ops.relu(ops.linear(n, w.wi_0))
    else:
        hidden = ops.gated_gelu(ops.linear(n, w.wi_0), ops.linear(n, w.wi_1))
    ops.record("hidden", hidden, lengths)
    return ops.record("out", ops.add(x, ops.dropout(ops.linear(ops.dropout(hidden), w.wo))), lengths)


def encoder_layer(ops: Ops, t5: T5Config, w: EncoderLayer, x: Array, bias: Array, layout: SequenceLayout) -> Array:
    """Attention, then feed-forward, each with a residual connection: [N d] -> [N d]."""
    x = attention_block(ops.scope("attention"), t5, w.attention, x, bias, layout)
    return feed_forward_block(ops.scope("feed_forward"), t5, w.feed_forward, x, layout.query_lengths)


def encode(ops: Ops, t5: T5Config, stack: Stack, x: States, start: int = 0, stop: int | None = None) -> States:
    """Layers start .. stop - 1 of a stack, over each sequence alone, without the final norm: [N d] -> [N d]."""
    layout = SequenceLayout(x.lengths, x.lengths, x.positions, x.positions)
    bias = position_bias(ops, t5, stack.relative_attention_bias, layout, bidirectional=True)
    states = x.states
    for i in range(start, len(stack.layers) if stop is None else stop):
        states = encoder_layer(ops.scope(f"layer_{i}"), t5, stack.layers[i], states, bias, layout)
    return replace(x, states=states)


@dataclass(frozen=True)
class KVCache:
    """The self-attention keys and values of the tokens that a decoder has read so far.

    Args:
        keys, values: one array [N hc] for each layer, or the own form of a backend's `decoder_layers`; None before
            the first token.
        lengths: [b] tokens read so far in each sequence.
        capacity: roughly the most tokens that a sequence will have. A backend may choose its form by this number.
    """

    keys: Any
    values: Any
    lengths: Ints
    capacity: int

    @classmethod
    def empty(cls, sequences: int, capacity: int) -> KVCache:
        """The cache of b decoders before their first token."""
        return cls(None, None, np.zeros(sequences, np.int64), capacity)


@dataclass(frozen=True)
class EncoderKV:
    """The cross-attention keys and values of a decoder, computed once before its first step.

    Args:
        ready: a backend's own form of them for all layers, from its `project`; None if the backend has no such form.
        keys, values: [N hc] for each layer. Both are empty if `ready` replaces them and no instrument observes them.
        lengths: [b] tokens of each sequence's memory.
        positions: [N] positions of the memory's tokens.
    """

    ready: Any
    keys: tuple[Array, ...]
    values: tuple[Array, ...]
    lengths: Ints
    positions: Ints


@fusable
def project(ops: Ops, t5: T5Config, w: Decoder, memory: States, cache: KVCache) -> Any:
    """A backend's own form of the cross-attention keys and values of all layers. This default has none."""
    return None


def cross_keys_values(ops: Ops, t5: T5Config, w: Decoder, memory: States, cache: KVCache) -> EncoderKV:
    """k = memory W_k and v = memory W_v for the cross-attention of every layer.

    Args:
        memory: the states that the decoder attends to, b sequences.
        cache: the empty cache of the decoder that will use them.
    """

    def product(name: str, i: int, weight: Array) -> Array:
        return ops.scope(f"layer_{i}").record(name, ops.linear(memory.states, weight), memory.lengths)

    ready, cross = project(ops, t5, w, memory, cache), [layer.cross_attention for layer in w.layers]
    if ready is not None and not ops.observed:
        return EncoderKV(ready, (), (), memory.lengths, memory.positions)
    keys = tuple(product("k", i, layer.k) for i, layer in enumerate(cross))
    values = tuple(product("v", i, layer.v) for i, layer in enumerate(cross))
    return EncoderKV(ready, keys, values, memory.lengths, memory.positions)


def causal_attention_block(
    ops: Ops, t5: T5Config, w: Attention, x: Array, past: KeysValues | None, bias: Array, layout: SequenceLayout
) -> tuple[Array, KeysValues]:
    """Decoder self-attention over the past tokens and x: [N d] -> [N d], and all keys and values, past and new."""
    n = ops.rms_norm(x, w.norm, t5.layer_norm_epsilon)
    k, v = ops.linear(n, w.k), ops.linear(n, w.v)
    if past is not None:
        read = layout.key_lengths - layout.query_lengths
        k = ops.interleave_concat(past.k, read, k, layout.query_lengths)
        v = ops.interleave_concat(past.v, read, v, layout.query_lengths)
    kv = KeysValues(ops.record("k", k, layout.key_lengths), ops.record("v", v, layout.key_lengths))
    q = queries(ops, w, n, layout)
    context = attend(ops, t5, w, q, kv, AttentionPattern(layout, bias, causal=True))
    return attention_output(ops, w, x, context, layout), kv


@fusable
def attend_memory(
    ops: Ops, t5: T5Config, w: Attention, q: Array, cross: EncoderKV, layer: int, layout: SequenceLayout
) -> Any:
    """Attention to `cross.ready`, a backend's own form of the memory. This default has no such form."""
    return None


def cross_attention_block(
    ops: Ops, t5: T5Config, w: Attention, x: Array, cross: EncoderKV, layer: int, layout: SequenceLayout
) -> Array:
    """x + attend(n W_q, memory W_k, memory W_v) W_o without position bias, with n = norm(x): [N d] -> [N d].

    If a backend has its own form of the memory, the result comes from it. `attend` then only serves the instruments.
    """
    n = ops.rms_norm(x, w.norm, t5.layer_norm_epsilon)
    q, kv = queries(ops, w, n, layout), KeysValues(cross.keys[layer], cross.values[layer])
    context = attend(ops, t5, w, q, kv, AttentionPattern(layout, None, causal=False))
    attended = attend_memory(ops, t5, w, q, cross, layer, layout)
    return attention_output(ops, w, x, context if attended is None else attended, layout)


@fusable
def decoder_layers(
    ops: Ops,
    t5: T5Config,
    w: Decoder,
    x: Array,
    bias: Array,
    layout: SequenceLayout,
    past: KVCache,
    cross: EncoderKV,
) -> tuple[Array, Any, Any]:
    """All layers over the new tokens: [N d] -> [N d], and the keys and values of every layer, past and new."""
    across = SequenceLayout(layout.query_lengths, cross.lengths, layout.query_positions, cross.positions)
    keys, values = [], []
    for i, layer in enumerate(w.layers):
        here = ops.scope(f"layer_{i}")
        before = None if past.keys is None else KeysValues(past.keys[i], past.values[i])
        x, kv = causal_attention_block(here.scope("self_attention"), t5, layer.self_attention, x, before, bias, layout)
        x = cross_attention_block(here.scope("cross_attention"), t5, layer.cross_attention, x, cross, i, across)
        x = feed_forward_block(here.scope("feed_forward"), t5, layer.feed_forward, x, layout.query_lengths)
        keys.append(kv.k)
        values.append(kv.v)
    return x, tuple(keys), tuple(values)


def decode(
    ops: Ops, t5: T5Config, embedding: Array, w: Decoder, tokens: Tokens, cache: KVCache, cross: EncoderKV
) -> tuple[Array, KVCache]:
    """The logits after each new token. The new tokens are one token of each sequence, or whole answers at once.

    Args:
        tokens: the new tokens [N] of b sequences.
        cache: the keys and values of the tokens that these sequences have read before.
        cross: keys and values of the b memories to attend to.

    Returns:
        Logits [N v], and the cache including the new tokens.
    """
    read = cache.lengths
    lengths = read + tokens.lengths
    layout = SequenceLayout(
        tokens.lengths, lengths, token_positions(tokens.lengths, start=read), token_positions(lengths)
    )
    bias = position_bias(ops, t5, w.relative_attention_bias, layout, bidirectional=False)
    x = ops.dropout(ops.embed(embedding, tokens.ids))
    x, keys, values = decoder_layers(ops, t5, w, x, bias, layout, cache, cross)
    cache = replace(cache, keys=keys, values=values, lengths=lengths)
    return logits(ops, t5, embedding, w, x, tokens.lengths), cache


def logits(ops: Ops, t5: T5Config, embedding: Array, w: Decoder, x: Array, rows: Ints) -> Array:
    """head(norm(x)): [N d] -> [N v]. The head is a table of its own or the embedding. Its input may be scaled (D18)."""
    x = ops.dropout(ops.rms_norm(x, w.final_norm, t5.layer_norm_epsilon))
    tied = w.lm_head is None
    if tied if t5.scale_decoder_outputs is None else t5.scale_decoder_outputs:
        x = ops.scale(x, t5.d_model**-0.5)
    return ops.record("logits", ops.lm_head_logits(embedding if tied else w.lm_head, x), rows)
