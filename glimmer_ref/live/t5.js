// The layers of T5.1.1 and T5 1.0, as in `paper/t5.py`: the same functions with the same names, and no padding.
//
// ops: `bind()` of operations.js. States are {states: [N d], lengths: [b], positions: [N]}. t5 is a config.json.

import {token_positions} from "./operations.js";

/** The bucket of each distance (key position - query position): [n] -> [n]. */
export function relative_buckets(distances, bidirectional, num_buckets, max_distance) {
  const half = bidirectional ? num_buckets / 2 : num_buckets, exact = half / 2;
  return distances.map(distance => {
    const ahead = bidirectional && distance > 0 ? half : 0;
    const behind = bidirectional ? Math.abs(distance) : Math.max(-distance, 0);
    // In float64, as in NumPy. In float32 the logarithms of some distances would fall into the bucket before.
    const growth = Math.log(Math.max(behind, exact) / exact) / Math.log(max_distance / exact);
    const far = Math.min(exact + Math.trunc(growth * (half - exact)), half - 1);
    return ahead + (behind < exact ? behind : far);
  });
}

/** The bias of every distance that occurs: [buckets h] -> [2D+1 h], distance 0 in the middle row. */
export function position_bias(ops, t5, table, layout, bidirectional) {
  const reach = [...layout.query_positions, ...layout.key_positions].reduce((a, b) => Math.max(a, b), 0);
  const distances = Array.from({length: 2 * reach + 1}, (_, i) => i - reach);
  const {relative_attention_num_buckets, relative_attention_max_distance} = t5;
  const buckets = [distances, bidirectional, relative_attention_num_buckets, relative_attention_max_distance];
  return ops.embed(table, relative_buckets(...buckets), t5.num_heads);
}

/** softmax(q k^T + bias) v, head by head and without 1/sqrt(d_kv): [Nq hc], [Nk hc] -> [Nq hc]. */
function attend(ops, t5, q, kv, {layout, bias, causal}) {
  const seen = ops.observed ? (s, probs, shape) => ops.record(`probs.${s}`, probs, null, shape) : null;
  return ops.attention(q, kv.k, kv.v, bias, layout, t5.num_heads, causal, seen);
}

/** q = n W_q: [Nq d] -> [Nq hc]. */
function queries(ops, t5, w, n, layout) {
  return ops.record("q", ops.linear(n, w.q, t5.d_model), layout.query_lengths);
}

/** x + context W_o: [Nq d], [Nq hc] -> [Nq d]. */
function attention_output(ops, t5, w, x, context, layout) {
  ops.record("mixed", context, layout.query_lengths);
  return ops.record("out", ops.add(x, ops.linear(context, w.o, t5.num_heads * t5.d_kv)), layout.query_lengths);
}

/** x + attend(n W_q, n W_k, n W_v) W_o with n = norm(x), in an encoder: [N d] -> [N d]. */
function attention_block(ops, t5, w, x, bias, layout) {
  const n = ops.rms_norm(x, w.norm, t5.layer_norm_epsilon);
  const k = ops.record("k", ops.linear(n, w.k, t5.d_model), layout.key_lengths);
  const v = ops.record("v", ops.linear(n, w.v, t5.d_model), layout.key_lengths);
  const q = queries(ops, t5, w, n, layout);
  return attention_output(ops, t5, w, x, attend(ops, t5, q, {k, v}, {layout, bias, causal: false}), layout);
}

/** x + wo(gelu(wi_0 n) * (wi_1 n)), or x + wo(relu(wi_0 n)) in T5 1.0, with n = norm(x): [N d] -> [N d]. */
function feed_forward_block(ops, t5, w, x, lengths) {
  const n = ops.rms_norm(x, w.norm, t5.layer_norm_epsilon), first = ops.linear(n, w.wi_0, t5.d_model);
  const hidden = w.wi_1 === null ? ops.relu(first) : ops.gated_gelu(first, ops.linear(n, w.wi_1, t5.d_model));
  ops.record("hidden", hidden, lengths);
  return ops.record("out", ops.add(x, ops.linear(hidden, w.wo, t5.d_ff)), lengths);
}

/** Attention, then feed-forward, each with a residual connection: [N d] -> [N d]. */
function encoder_layer(ops, t5, w, x, bias, layout) {
  x = attention_block(ops.scope("attention"), t5, w.attention, x, bias, layout);
  return feed_forward_block(ops.scope("feed_forward"), t5, w.feed_forward, x, layout.query_lengths);
}

/** The same sequences as queries and as keys. */
function same_layout({lengths, positions}) {
  return {query_lengths: lengths, key_lengths: lengths, query_positions: positions, key_positions: positions};
}

/** Layers start .. stop - 1 of a stack, over each sequence alone, without the final norm: [N d] -> [N d]. */
export function encode(ops, t5, stack, x, start = 0, stop = stack.layers.length) {
  const layout = same_layout(x), bias = position_bias(ops, t5, stack.relative_attention_bias, layout, true);
  let states = x.states;
  for (let i = start; i < stop; i++)
    states = encoder_layer(ops.scope(`layer_${i}`), t5, stack.layers[i], states, bias, layout);
  return {...x, states};
}

/** k = memory W_k and v = memory W_v for the cross-attention of every layer, computed once: [N d] -> [N hc]. */
export function cross_keys_values(ops, t5, w, memory) {
  const product = (name, i, weight) =>
    ops.scope(`layer_${i}`).record(name, ops.linear(memory.states, weight, t5.d_model), memory.lengths);
  const keys = w.layers.map((layer, i) => product("k", i, layer.cross_attention.k));
  const values = w.layers.map((layer, i) => product("v", i, layer.cross_attention.v));
  return {keys, values, lengths: memory.lengths, positions: memory.positions};
}

/** Decoder self-attention over the past tokens and x: [N d] -> [N d], and all keys and values, past and new. */
function causal_attention_block(ops, t5, w, x, past, bias, layout) {
  const n = ops.rms_norm(x, w.norm, t5.layer_norm_epsilon);
  let k = ops.linear(n, w.k, t5.d_model), v = ops.linear(n, w.v, t5.d_model);
  if (past) {
    const read = layout.key_lengths.map((all, s) => all - layout.query_lengths[s]);
    k = ops.interleave_concat(past.k, read, k, layout.query_lengths);
    v = ops.interleave_concat(past.v, read, v, layout.query_lengths);
  }
  const kv = {k: ops.record("k", k, layout.key_lengths), v: ops.record("v", v, layout.key_lengths)};
  const context = attend(ops, t5, queries(ops, t5, w, n, layout), kv, {layout, bias, causal: true});
  return [attention_output(ops, t5, w, x, context, layout), kv];
}

/** x + attend(n W_q, memory W_k, memory W_v) W_o without position bias, with n = norm(x): [N d] -> [N d]. */
function cross_attention_block(ops, t5, w, x, cross, layer, layout) {
  const n = ops.rms_norm(x, w.norm, t5.layer_norm_epsilon), kv = {k: cross.keys[layer], v: cross.values[layer]};
  const context = attend(ops, t5, queries(ops, t5, w, n, layout), kv, {layout, bias: null, causal: false});
  return attention_output(ops, t5, w, x, context, layout);
}

/**
 * The logits after each new token, [N v], and the cache including the new tokens. The new tokens are one token of each
 * sequence, or whole answers at once. cache: {kv: of each layer, lengths: [b] tokens read before}.
 */
export function decode(ops, model, tokens, cache, cross) {
  const t5 = model.config, w = model.decoder, read = cache.lengths, lengths = read.map((n, s) => n + tokens.lengths[s]);
  const layout = {
    query_lengths: tokens.lengths, query_positions: token_positions(tokens.lengths, read),
    key_lengths: lengths, key_positions: token_positions(lengths),
  };
  const across = {...layout, key_lengths: cross.lengths, key_positions: cross.positions}, kv = [];
  const bias = position_bias(ops, t5, w.relative_attention_bias, layout, false);
  let x = ops.embed(model.embedding, tokens.ids, t5.d_model);
  w.layers.forEach((layer, i) => {
    const here = ops.scope(`layer_${i}`), past = cache.kv && cache.kv[i];
    [x, kv[i]] = causal_attention_block(here.scope("self_attention"), t5, layer.self_attention, x, past, bias, layout);
    x = cross_attention_block(here.scope("cross_attention"), t5, layer.cross_attention, x, cross, i, across);
    x = feed_forward_block(here.scope("feed_forward"), t5, layer.feed_forward, x, tokens.lengths);
  });
  return [logits(ops, model, x, tokens.lengths), {kv, lengths}];
}

/** head(norm(x)): [N d] -> [N v]. The head is a table of its own or the embedding. Its input may be scaled (D18). */
function logits(ops, model, x, rows) {
  const t5 = model.config, tied = model.decoder.lm_head === null;
  x = ops.rms_norm(x, model.decoder.final_norm, t5.layer_norm_epsilon);
  if (t5.scale_decoder_outputs ?? tied) x = ops.scale(x, t5.d_model ** -0.5);
  return ops.record("logits", ops.lm_head_logits(tied ? model.embedding : model.decoder.lm_head, x, t5.d_model), rows);
}
