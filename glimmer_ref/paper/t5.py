"""The layers of T5.1.1 (and T5 1.0), written once against the operations, without masks.

Source: Raffel et al. 2020; the layer norm without mean or bias, the missing 1/sqrt(d_kv), and the
bucket formula were verified against transformers' T5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..config import T5Config
from ..ops import Ops, SequenceLayout, fusable, precision_of
from ..params.model import Attention, Decoder, EncoderLayer, FeedForward, Stack
from ..ragged import Array, Ints, States, Tokens, token_positions


def relative_buckets(distance: Ints, bidirectional: bool, num_buckets: int, max_distance: int) -> Ints:
    """Which of T5's buckets a distance (key position - query position) falls into.

    Small distances have a bucket each; larger ones share logarithmically wider buckets up to
    max_distance, beyond which all share the last. An encoder keeps half of the buckets for keys
    ahead; a decoder, which sees none, uses all of them for keys behind.

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


def attend(
    ops: Ops,
    t5: T5Config,
    w: Attention,
    x: Array,
    n: Array,
    k: Array,
    v: Array,
    bias: Array | None,
    layout: SequenceLayout,
    causal: bool,
) -> Array:
    """x + o(attention(q n, k, v)), self-attention in both stacks: [Nq d], [Nk hc] -> [Nq d]."""
    q = ops.mark("q", ops.linear(n, w.q), layout.query_lengths)
    mixed = ops.attention(q, k, v, bias, layout, t5.num_heads, causal, None, precision_of(w.q))
    return leave(ops, w, x, mixed, layout)


def leave(ops: Ops, w: Attention, x: Array, mixed: Array, layout: SequenceLayout) -> Array:
    """x + o(mixed), how attention of either kind ends: [Nq d], [Nq hc] -> [Nq d]."""
    rows = layout.query_lengths
    ops.mark("mixed", mixed, rows)
    return ops.mark("out", ops.add(x, ops.dropout(ops.linear(mixed, w.o))), rows)


@fusable
def attention_block(ops: Ops, t5: T5Config, w: Attention, x: Array, bias: Array, layout: SequenceLayout) -> Array:
    """Self-attention of an encoder, n = norm(x) being queries, keys and values: [N d] -> [N d]."""
    n = ops.rms_norm(x, w.norm, t5.layer_norm_epsilon, precision_of(w.q))
    k = ops.mark("k", ops.linear(n, w.k), layout.key_lengths)
    v = ops.mark("v", ops.linear(n, w.v), layout.key_lengths)
    return attend(ops, t5, w, x, n, k, v, bias, layout, causal=False)


@fusable
def feed_forward_block(ops: Ops, t5: T5Config, w: FeedForward, x: Array, lengths: Ints) -> Array:
    """x + wo(gelu(wi_0 n) * (wi_1 n)), or x + wo(relu(wi_0 n)) in T5 1.0, n = norm(x): [N d] -> [N d]."""
    n = ops.rms_norm(x, w.norm, t5.layer_norm_epsilon, precision_of(w.wi_0))
    if w.wi_1 is None:
        hidden = ops.relu(ops.linear(n, w.wi_0))
    else:
        hidden = ops.gated_gelu(ops.linear(n, w.wi_0), ops.linear(n, w.wi_1))
    ops.mark("hidden", hidden, lengths)
    return ops.mark("out", ops.add(x, ops.dropout(ops.linear(ops.dropout(hidden), w.wo))), lengths)


def encoder_layer(ops: Ops, t5: T5Config, w: EncoderLayer, x: Array, bias: Array, layout: SequenceLayout) -> Array:
    """Attention, then feed-forward, each with its residual: [N d] -> [N d]."""
    x = attention_block(ops.at("attention"), t5, w.attention, x, bias, layout)
    return feed_forward_block(ops.at("feed_forward"), t5, w.feed_forward, x, layout.query_lengths)


def encode(ops: Ops, t5: T5Config, stack: Stack, x: States, start: int = 0, stop: int | None = None) -> States:
    """Layers start .. stop of a stack, every sequence by itself, without the final norm."""
    layout = SequenceLayout(x.lengths, x.lengths, x.positions, x.positions)
    bias = position_bias(ops, t5, stack.relative_attention_bias, layout, bidirectional=True)
    states = x.states
    for i in range(start, len(stack.layers) if stop is None else stop):
        states = encoder_layer(ops.at(f"layer_{i}"), t5, stack.layers[i], states, bias, layout)
    return replace(x, states=states)


@dataclass(frozen=True)
class EncoderKV:
    """What a decoder attends to, made ready once.

    Args:
        ready: what a backend's `project` made of the memory for all layers; None if it has none.
        keys, values: [N hc] of each layer; none where `ready` stands for them and nobody listens.
        lengths: [b] tokens of each sequence's memory.
    """

    ready: Any
    keys: tuple[Array, ...]
    values: tuple[Array, ...]
    lengths: Ints
    positions: Ints


@dataclass(frozen=True)
class KVCache:
    """What a decoder has read so far: keys and values [N hc] of each layer's self-attention.

    Args:
        keys, values: one of each a layer, or whatever a backend's `decoder_layers` made of them.
        lengths: [b] tokens read by each sequence.
    """

    keys: Any
    values: Any
    lengths: Ints


@fusable
def project(ops: Ops, t5: T5Config, w: Decoder, memory: States, steps: int) -> Any:
    """What a backend likes to attend to instead of keys and values, in about `steps` steps: None of itself."""
    return None


def cross_keys_values(ops: Ops, t5: T5Config, w: Decoder, memory: States, steps: int) -> EncoderKV:
    """What the decoder attends to, made from the encoder's output, to be read in about `steps` steps."""

    def product(name: str, i: int, weight: Array) -> Array:
        return ops.at(f"layer_{i}").mark(name, ops.linear(memory.states, weight), memory.lengths)

    ready, cross = project(ops, t5, w, memory, steps), [layer.cross_attention for layer in w.layers]
    if ready is not None and not ops.observed:
        return EncoderKV(ready, (), (), memory.lengths, memory.positions)
    keys = tuple(product("k", i, layer.k) for i, layer in enumerate(cross))
    values = tuple(product("v", i, layer.v) for i, layer in enumerate(cross))
    return EncoderKV(ready, keys, values, memory.lengths, memory.positions)


def causal_attention_block(
    ops: Ops,
    t5: T5Config,
    w: Attention,
    x: Array,
    past: tuple[Array, Array] | None,
    bias: Array,
    layout: SequenceLayout,
) -> tuple[Array, Array, Array]:
    """Self-attention of a decoder, over the keys and values of the past and of x: [N d] -> [N d], k, v."""
    n = ops.rms_norm(x, w.norm, t5.layer_norm_epsilon, precision_of(w.q))
    k, v = ops.linear(n, w.k), ops.linear(n, w.v)
    if past is not None:
        read = layout.key_lengths - layout.query_lengths
        k = ops.interleave_concat(past[0], read, k, layout.query_lengths)
        v = ops.interleave_concat(past[1], read, v, layout.query_lengths)
    ops.mark("k", k, layout.key_lengths)
    ops.mark("v", v, layout.key_lengths)
    return attend(ops, t5, w, x, n, k, v, bias, layout, causal=True), k, v


@fusable
def attend_memory(
    ops: Ops, t5: T5Config, w: Attention, q: Array, cross: EncoderKV, layer: int, layout: SequenceLayout
) -> Any:
    """Attention to what a backend made ready, where that is not a layer's keys and values: None of itself."""
    return None


def cross_attention_block(
    ops: Ops, t5: T5Config, w: Attention, x: Array, cross: EncoderKV, layer: int, layout: SequenceLayout
) -> Array:
    """Attention to the encoder's output, with no position bias: [N d] -> [N d].

    Where a backend has a form of its own, its result counts; keys and values are attended to for who listens.
    """
    n = ops.rms_norm(x, w.norm, t5.layer_norm_epsilon, precision_of(w.q))
    q = ops.mark("q", ops.linear(n, w.q), layout.query_lengths)
    k, v = cross.keys[layer], cross.values[layer]
    observed = ops.attention(q, k, v, None, layout, t5.num_heads, False, None, precision_of(w.q))
    own = attend_memory(ops, t5, w, q, cross, layer, layout)
    return leave(ops, w, x, observed if own is None else own, layout)


@fusable
def decoder_layers(
    ops: Ops,
    t5: T5Config,
    w: Decoder,
    x: Array,
    bias: Array,
    layout: SequenceLayout,
    past: KVCache | None,
    cross: EncoderKV,
) -> tuple[Array, Any, Any]:
    """All layers over the new tokens: [N d] -> [N d], and every layer's keys and values with theirs."""
    across = SequenceLayout(layout.query_lengths, cross.lengths, layout.query_positions, cross.positions)
    keys, values = [], []
    for i, layer in enumerate(w.layers):
        here = ops.at(f"layer_{i}")
        before = None if past is None else (past.keys[i], past.values[i])
        x, k, v = causal_attention_block(here.at("self_attention"), t5, layer.self_attention, x, before, bias, layout)
        x = cross_attention_block(here.at("cross_attention"), t5, layer.cross_attention, x, cross, i, across)
        x = feed_forward_block(here.at("feed_forward"), t5, layer.feed_forward, x, layout.query_lengths)
        keys.append(k)
        values.append(v)
    return x, tuple(keys), tuple(values)


def decode(
    ops: Ops, t5: T5Config, embedding: Array, w: Decoder, tokens: Tokens, past: KVCache | None, cross: EncoderKV
) -> tuple[Array, KVCache]:
    """Logits after each new token, given what was read before: one token a step, or a whole answer.

    Args:
        tokens: the new tokens [N] of b sequences.
        past: what these sequences have read, None at their start.
        cross: the b memories to attend to.

    Returns:
        Logits [N v], and the past with the new tokens in it.
    """
    read = past.lengths if past is not None else np.zeros_like(tokens.lengths)
    lengths = read + tokens.lengths
    layout = SequenceLayout(
        tokens.lengths, lengths, token_positions(tokens.lengths, start=read), token_positions(lengths)
    )
    bias = position_bias(ops, t5, w.relative_attention_bias, layout, bidirectional=False)
    x = ops.dropout(ops.embed(embedding, tokens.ids))
    x, keys, values = decoder_layers(ops, t5, w, x, bias, layout, past, cross)
    return logits(ops, t5, embedding, w, x, tokens.lengths), KVCache(keys, values, lengths)


def logits(ops: Ops, t5: T5Config, embedding: Array, w: Decoder, x: Array, rows: Ints) -> Array:
    """head(norm(x)), the head being its own table or the embedding, scaled where T5 does (D18): [N d] -> [N v]."""
    x = ops.dropout(ops.rms_norm(x, w.final_norm, t5.layer_norm_epsilon))
    tied = w.lm_head is None
    if tied if t5.scale_decoder_outputs is None else t5.scale_decoder_outputs:
        x = ops.scale(x, t5.d_model**-0.5)
    return ops.mark("logits", ops.lm_head_logits(embedding if tied else w.lm_head, x), rows)
