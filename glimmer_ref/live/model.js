// GLIMMER, LUMEN and FiD for one question, as in the folder `paper/`: the same functions with the same names.
//
// ops: `bind()` of operations.js. States are {states: [N d], lengths: [b], positions: [N]}.
// Tokens are {ids: [N], lengths: [b]}.
// Weights are Float32Arrays [in out], in the tree that `build_model` makes. config is the content of config.json.

import {offsets, sum, token_positions} from "./operations.js";
import {cross_keys_values, decode, encode} from "./t5.js";

function refuse(what, expected, got) {
  throw new RangeError(`${what}: expected ${expected}; got ${got}`);
}

// params/model.py: the tree of weights -------------------------------------------------------------------------------

const OPTIONAL = ["wi_1", "score.norm", "decoder.lm_head"];  // T5 1.0 has no gate; `score_norm`; a tied head

/** The tree of weights. named: name -> Float32Array. A part of the model may be missing, but not a weight of a part. */
export function build_model(config, named) {
  const {num_memory_layers, num_live_layers, num_rerank_layers, k, m, score_norm} = config.glimmer;
  if (num_memory_layers + num_live_layers !== config.num_layers)
    refuse("config: layers", `num_layers = ${config.num_layers}`, `${num_memory_layers} + ${num_live_layers}`);
  if (num_rerank_layers > num_live_layers) refuse("num_rerank_layers", `at most ${num_live_layers}`, num_rerank_layers);
  if (m > k) refuse("config: m", `at most k=${k}`, m);
  const has = part => Object.keys(named).some(name => name.startsWith(`${part}.`));
  const weight = name => named[name] ??
    (OPTIONAL.some(end => name.endsWith(end)) ? null : refuse(`weights: ${name}`, "an array", "none"));
  const group = (at, names) => Object.fromEntries(names.map(name => [name, weight(`${at}.${name}`)]));
  const attention = at => group(at, ["norm", "q", "k", "v", "o"]);
  const feed_forward = at => group(at, ["norm", "wi_0", "wi_1", "wo"]);
  const layers = (at, count, parts) => Array.from({length: count}, (_, i) =>
    Object.fromEntries(Object.entries(parts).map(([name, build]) => [name, build(`${at}.layer_${i}.${name}`)])));
  const stack = (at, count) =>
    ({...group(at, ["relative_attention_bias"]), layers: layers(at, count, {attention, feed_forward})});
  const decoder_parts = {self_attention: attention, cross_attention: attention, feed_forward};
  return {
    config,
    embedding: weight("embedding"),
    memory: has("memory") ? stack("memory", num_memory_layers) : null,
    live: has("live") ? stack("live", num_live_layers) : null,
    question: config.glimmer.question_encoder === "separate" ? stack("question", num_memory_layers) : null,
    reranker: config.glimmer.reranker === "separate" ? stack("reranker", num_rerank_layers) : null,
    final_norm: has("memory") ? weight("final_norm") : null,
    score: has("score") ? {weight: weight("score.weight"), norm: score_norm ? weight("score.norm") : null} : null,
    decoder: has("decoder") ? {
      ...group("decoder", ["relative_attention_bias", "final_norm", "lm_head"]),
      layers: layers("decoder", config.num_decoder_layers, decoder_parts),
    } : null,
  };
}

/** Checks ids, [N] and [b]: at least one sequence, none of them empty, all ids in the vocabulary. */
export function check_tokens(what, tokens, config) {
  if (!tokens.lengths.length) refuse(what, "at least one", "none");
  tokens.lengths.forEach((n, i) => { if (n < 1) refuse(`${what}[${i}]`, "at least one token id", "none"); });
  for (const id of tokens.ids)
    if (!(id >= 0 && id < config.vocab_size)) refuse(what, `ids from 0 to ${config.vocab_size - 1}`, id);
  return tokens;
}

// paper/fid.py: section 2.1 ------------------------------------------------------------------------------------------

/** Positions of the tokens of [Q; P_i]. P_i follows Q or starts at a fixed position (D2): [k] -> [N]. */
function pair_positions(model, n_q, passage_lengths) {
  const offset = model.config.glimmer.positions;
  const start = offset === undefined || offset === "packed" ? n_q : offset;
  if (n_q > start) refuse("join", `questions of at most ${start} tokens`, n_q);
  return token_positions(passage_lengths.flatMap(n => [n_q, n]), passage_lengths.flatMap(() => [0, start]));
}

/** The encoder's final RMSNorm, once, after its last layer (D1): [N d] -> [N d]. */
export function final_norm(ops, model, x) {
  return {...x, states: ops.rms_norm(x.states, model.final_norm, model.config.layer_norm_epsilon)};
}

/** Enc(Q; Passage_i): all layers of the encoder over the text of each pair: [N d]. */
export function encode_pairs(ops, model, question, passages) {
  const n_q = question.ids.length, starts = offsets(passages.lengths), t5 = model.config;
  const ids = passages.lengths.flatMap((_, i) => [...question.ids, ...passages.ids.slice(starts[i], starts[i + 1])]);
  const lengths = passages.lengths.map(n => n_q + n), positions = pair_positions(model, n_q, passages.lengths);
  let x = {states: ops.embed(model.embedding, ids, t5.d_model), lengths, positions};
  for (const name of ["memory", "live"]) x = encode(ops.scope(name), t5, model[name], x);
  x = final_norm(ops, model, x);
  ops.record("out", x.states, x.lengths);
  return x;
}

/** [pair_1; .. pair_k]: all pairs as one sequence. No data moves, as pairs are stored end to end. */
const fuse = pairs => ({...pairs, lengths: [sum(pairs.lengths)]});

/** [Enc(Q; Passage_1); .. Enc(Q; Passage_k)], the states that the decoder attends to: [N d]. passages: their tokens. */
export function fid(ops, model, question, passages) {
  const memory = fuse(encode_pairs(ops.scope("encoder"), model, question, passages));
  ops.record("decoder.memory", memory.states, memory.lengths);
  return {memory, scores: null, selected: [...passages.lengths.keys()]};
}

// paper/lumen.py: section 2.2 ----------------------------------------------------------------------------------------

/** MemEnc(.): the first 1 - alpha of the layers, over each sequence alone, without the final norm (D1): [N d]. */
function memory_encode(ops, model, stack, tokens) {
  const states = ops.embed(model.embedding, tokens.ids, model.config.d_model);
  const positions = token_positions(tokens.lengths);
  const x = encode(ops, model.config, stack, {states, lengths: tokens.lengths, positions});
  ops.record("out", x.states, x.lengths);
  return x;
}

/** MemEnc(Passage_i), the memory, which is computed once and can be stored: [N d]. */
export const encode_passages = (ops, model, passages) =>
  memory_encode(ops.scope("memory"), model, model.memory, passages);

/** MemEnc(Q), from the memory encoder, or from a separate question encoder if the model has one (Table 3): [N d]. */
export const encode_question = (ops, model, question) =>
  memory_encode(ops.scope("question"), model, model.question ?? model.memory, question);

/** H_i = [MemEnc(Q); MemEnc(Passage_i)] for every passage: [N d]. */
export function join(ops, model, question, passages) {
  const owner = passages.lengths.map(() => 0);
  const repeated = ops.gather_sequences(question.states, question.lengths, owner);
  const n_q = question.lengths[0], lengths = passages.lengths.map(n => n_q + n);
  const states = ops.interleave_concat(repeated, owner.map(() => n_q), passages.states, passages.lengths);
  ops.record("pairs", states, lengths);
  return {states, lengths, positions: pair_positions(model, n_q, passages.lengths)};
}

/** LiveEnc(H_i): the last alpha of the layers, then the encoder's final norm: [N d] -> [N d]. */
export function live_encode(ops, model, pairs) {
  const x = final_norm(ops, model, encode(ops, model.config, model.live, pairs));
  ops.record("out", x.states, x.lengths);
  return x;
}

/** [Q; pair_1; .. pair_m], the states that the decoder attends to: [N d]. Q is MemEnc(Q) after the final norm (D4). */
export function decoder_memory(ops, model, question, pairs) {
  let memory = fuse(pairs);
  if (model.config.glimmer.decoder_question) {
    const q = final_norm(ops.scope("question"), model, question), lengths = [q.lengths[0] + memory.lengths[0]];
    const states = ops.interleave_concat(q.states, q.lengths, memory.states, memory.lengths);
    memory = {states, lengths, positions: token_positions(lengths)};
  }
  ops.record("decoder.memory", memory.states, memory.lengths);
  return memory;
}

/** [Q; LiveEnc(H_1); .. LiveEnc(H_k)]. passages: their memory, from `encode_passages`. */
export function lumen(ops, model, question, passages) {
  const q = encode_question(ops, model, question);
  const pairs = live_encode(ops.scope("live"), model, join(ops, model, q, passages));
  return {memory: decoder_memory(ops, model, q, pairs), scores: null, selected: [...passages.lengths.keys()]};
}

// paper/glimmer.py: section 3.1 --------------------------------------------------------------------------------------

/** H'_i = LiveEncA(H_i), the first beta of the live layers: [N d] -> [N d]. */
export function live_a(ops, model, pairs) {
  const x = encode(ops, model.config, model.live, pairs, 0, model.config.glimmer.num_rerank_layers);
  ops.record("out", x.states, x.lengths);
  return x;
}

/** Score(H'_i): one linear layer on the pair's first token, or on its mean (D5): [N d] -> [k]. */
export function score(ops, model, pairs) {
  const pool = {first: "first_token", mean: "mean"}[model.config.glimmer.pool], d = model.config.d_model;
  let x = ops[pool](pairs.states, pairs.lengths, d);
  if (model.score.norm !== null) x = ops.rms_norm(x, model.score.norm, model.config.layer_norm_epsilon);
  return ops.dot(x, model.score.weight, d);
}

/** The indices of the m best scores, best first, ties to the lower index (D6): [k] -> [m]. */
export function top_m(ops, scores, m) {
  if (!(m >= 1 && m <= scores.length)) refuse("top_m", `m at least 1 and at most k=${scores.length}`, m);
  if (!scores.every(Number.isFinite)) refuse("top_m", "finite scores", "others");
  return ops.best_first(scores).slice(0, m);
}

/** The sequences with the indices `index`, in that order. */
function gather(ops, x, index) {
  const starts = offsets(x.lengths), lengths = index.map(i => x.lengths[i]);
  const positions = Int32Array.from(index.flatMap(i => [...x.positions.subarray(starts[i], starts[i + 1])]));
  return {states: ops.gather_sequences(x.states, x.lengths, index), lengths, positions};
}

/** LiveEncB(R_j): the remaining live layers, then the encoder's final norm: [N d] -> [N d]. */
export function live_b(ops, model, selected) {
  const from = model.config.glimmer.num_rerank_layers;
  const x = final_norm(ops, model, encode(ops, model.config, model.live, selected, from));
  ops.record("out", x.states, x.lengths);
  return x;
}

/** MemEnc(Q), the pairs H'_i, and Score(H'_i) of every passage. A separate reranker leaves the pairs H_i (Table 1). */
export function rank(ops, model, question, passages) {
  const q = encode_question(ops, model, question), pairs = join(ops, model, q, passages);
  const ranked = model.reranker === null ? live_a(ops.scope("live_a"), model, pairs)
    : encode(ops.scope("reranker"), model.config, model.reranker, pairs);
  const scores = ops.record("scores", score(ops.scope("score"), model, ranked));
  return {question: q, pairs: model.reranker === null ? ranked : pairs, scores};
}

/** [Q; LiveEncB(R_1); .. LiveEncB(R_m)], where the R_j are the selected pairs: [N d]. */
export function read_selected(ops, model, ranked, selected) {
  const chosen = gather(ops, ranked.pairs, selected);
  const best = model.reranker === null ? live_b(ops.scope("live_b"), model, chosen)
    : live_encode(ops.scope("live"), model, chosen);
  return decoder_memory(ops, model, ranked.question, best);
}

/** [Q; LiveEncB(R_1); .. LiveEncB(R_m)], with the scores and the selected passages. passages: their memory. */
export function glimmer(ops, model, question, passages, m) {
  const ranked = rank(ops, model, question, passages);  // H'_i and Score(H'_i)
  const selected = top_m(ops, ranked.scores, m);  // which H'_i are R_1 .. R_m
  ops.record("selected", Int32Array.from(selected));
  return {memory: read_selected(ops, model, ranked, selected), scores: ranked.scores, selected};
}

// paper/decoding.py: section 4.1, and paper/systems.py ---------------------------------------------------------------

/** Dec[memory], the likeliest token at each step until EOS or `limit` tokens (D14), for each of b memories. */
export function greedy(ops, model, memory, limit) {
  const t5 = model.config, b = memory.lengths.length, one = memory.lengths.map(() => 1);
  const cross = cross_keys_values(ops.scope("cross"), t5, model.decoder, memory);
  const answers = one.map(() => ({ids: [], log_probability: 0, done: false}));
  let ids = new Int32Array(b).fill(t5.decoder_start_token_id), cache = {kv: null, lengths: one.map(() => 0)}, row;
  for (let step = 0; step < limit && !answers.every(answer => answer.done); step++) {
    [row, cache] = decode(ops.scope("decoder").scope(`step_${step}`), model, {ids, lengths: one}, cache, cross);
    ids = ops.argmax(row, b);
    const log_p = ops.log_likelihood(row, ids, one);
    answers.forEach((answer, s) => {
      if (answer.done) return;
      answer.log_probability += log_p[s];
      answer.done = ids[s] === t5.eos_token_id;
      if (!answer.done) answer.ids.push(ids[s]);
    });
  }
  return answers;
}

/** log p(target | memory), summed over its tokens, teacher-forced: [b]. */
export function log_likelihood(ops, model, memory, target) {
  const starts = offsets(target.lengths), shifted = Int32Array.from(target.ids);
  shifted.set(target.ids.slice(0, -1), 1);
  for (const at of starts.slice(0, -1)) shifted[at] = model.config.decoder_start_token_id;
  const cross = cross_keys_values(ops.scope("cross"), model.config, model.decoder, memory);
  const tokens = {ids: shifted, lengths: target.lengths}, empty = {kv: null, lengths: target.lengths.map(() => 0)};
  const [rows] = decode(ops.scope("decoder"), model, tokens, empty, cross);
  return ops.log_likelihood(rows, target.ids, target.lengths);
}

export const SYSTEMS = {glimmer, lumen, fid};
export const FROM_TEXT = ["fid"];  // these systems take passages as tokens; the others take the memory of the passages
