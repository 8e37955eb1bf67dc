// Questions and passages as strings, and answers with their reasons, as in `inference/reader.py`.

import {BM25} from "./bm25.js";
import {build_model, encode_passages, fid, greedy, lumen, rank, read_selected, top_m} from "./model.js";
import {NameSubstituter} from "./names.js";
import {bind, concatenate, offsets, profiled, token_positions} from "./operations.js";
import {Tokenizer} from "./tokenizer.js";

// Shorter texts are read as a whole by `text/truncate.py` too. Longer ones are refused.
const MOST_QUESTION = 1024, MOST_PASSAGE = 4864;

function refuse(what, expected, got) {
  throw new RangeError(`${what}: expected ${expected}; got ${got}`);
}

/** Title and text as one string, by the config's passage_format. */
function passage_text(config, {title, text}) {
  const values = {"{title}": title, "{text}": text, "{{": "{", "}}": "}"};
  return title ? config.glimmer.passage_format.replace(/\{\{|\}\}|\{title\}|\{text\}/g, part => values[part]) : text;
}

/** The first `limit` tokens; if there is an end of sequence, it is the last of them (D13). */
const close = (ids, limit, eos) => eos === null ? ids.slice(0, limit) : [...ids.slice(0, limit - 1), eos];

/** Passages, their word index, and the memory of those that have been encoded. */
export class Source {
  constructor(passages) {
    if (!passages.length) refuse("passages", "at least one", "none");
    passages.forEach(({text}, i) => {
      if (!text.trim()) refuse(`passage ${i + 1}`, "some text", "none");
      if (text.length > MOST_PASSAGE) refuse(`passage ${i + 1}`, `at most ${MOST_PASSAGE} characters`, text.length);
    });
    this.passages = passages;
    this.index = new BM25(passages);
    this.memory = new Map();  // ids of a passage, as text -> MemEnc(Passage_i), [n d]
  }
}

export class Reader {
  /** config, tokenizer, groups: contents of config.json, tokenizer.json and groups.json; weights: name -> array. */
  constructor({config, tokenizer, groups}, weights) {
    this.config = config;
    this.model = build_model(config, weights);
    this.tokenizer = new Tokenizer(tokenizer);
    this.substituter = new NameSubstituter(this.tokenizer, groups);
  }

  passage_ids(tokenizer, passage) {
    const {passage_tokens, passage_eos} = this.config.glimmer, eos = passage_eos ? this.config.eos_token_id : null;
    const ids = close(tokenizer.encode(passage_text(this.config, passage)), passage_tokens, eos);
    return ids.length ? ids : refuse("passage", "a text that gives at least one token", "none");
  }

  /** MemEnc of those passages of a source that have none yet, at most `limit`: how many were encoded. */
  memorize(source, passage_ids, limit = Infinity) {
    const missing = [...new Map(passage_ids.map(ids => [ids.join(), ids]))].filter(([key]) => !source.memory.has(key));
    const some = missing.slice(0, limit), lengths = some.map(([, ids]) => ids.length), starts = offsets(lengths);
    if (!some.length) return 0;
    const tokens = {ids: some.flatMap(([, ids]) => ids), lengths}, d = this.config.d_model;
    const x = encode_passages(bind(), this.model, tokens);
    some.forEach(([key], i) => source.memory.set(key, x.states.slice(starts[i] * d, starts[i + 1] * d)));
    return some.length;
  }

  /** The memory of some passages, [N d], as `glimmer` and `lumen` take it. */
  read(source, passage_ids) {
    const lengths = passage_ids.map(ids => ids.length), states = passage_ids.map(ids => source.memory.get(ids.join()));
    return {states: concatenate(states), lengths, positions: token_positions(lengths)};
  }

  /**
   * Everything up to the scores: the question's tokens, the k passages, and for GLIMMER H'_i and Score(H'_i).
   * `finish` goes on with it for any m. What is measured: multiply-adds and milliseconds by stage.
   */
  begin(question, source, {system = "glimmer", k = null} = {}) {
    const total = source.passages.length, limit = this.config.glimmer.question_tokens;
    const eos = this.config.glimmer.question_eos ? this.config.eos_token_id : null;
    k ??= Math.min(this.config.glimmer.k, total);
    if (!(k >= 1 && k <= total)) refuse("k", `at least 1 and at most ${total}, the number of passages`, k);
    if (!question.trim()) refuse("question", "some text", "none");
    if (question.length > MOST_QUESTION) refuse("question", `at most ${MOST_QUESTION} characters`, question.length);
    const clock = new Clock();
    const rows = clock.during("retrieval", () => k === total ? [...Array(k).keys()] : source.index.rank(question, k));
    const passages = rows.map(row => source.passages[row]);
    const [reading, question_ids, passage_ids] = clock.during("text", () => {
      const texts = passages.map(passage => passage_text(this.config, passage));
      const reading = this.substituter.read(question, texts);
      const ids = close(reading.tokenizer.encode(question), limit, eos);
      return [reading, ids, passages.map(passage => this.passage_ids(reading.tokenizer, passage))];
    });
    const encoded = system === "fid" ? 0 : clock.during("memory", () => this.memorize(source, passage_ids));
    const arrays = {}, ops = bind((name, x, lengths, shape) => { arrays[name] = {x, shape}; }, profiled(clock));
    const tokens = {ids: question_ids, lengths: [question_ids.length]};
    const memory = system === "fid" ? null : clock.during("read", () => this.read(source, passage_ids));
    const ranked = system === "glimmer" ? clock.rest(() => rank(ops, this.model, tokens, memory)) : null;
    const retrieval = k === total ? "given order" : "lexical score (BM25)";
    return {
      question, system, retrieval, rows, passages, reading, question_ids, passage_ids, encoded, tokens, memory, ranked,
      arrays, clock,
    };
  }

  /** The answer, after `begin`. m: the passages that GLIMMER's decoder reads; other systems read all. */
  finish(begun, m = null) {
    const {system, ranked, tokens, memory, passage_ids, reading, question_ids} = begun, clock = begun.clock.copy();
    const arrays = {...begun.arrays}, k = passage_ids.length;
    const ops = bind((name, x, lengths, shape) => { arrays[name] = {x, shape}; }, profiled(clock));
    const got = clock.rest(() => {
      if (system === "lumen") return lumen(ops, this.model, tokens, memory);
      if (system === "fid")
        return fid(ops, this.model, tokens, {ids: passage_ids.flat(), lengths: passage_ids.map(ids => ids.length)});
      const selected = top_m(ops, ranked.scores, m ?? Math.min(this.config.glimmer.m, k));
      return {memory: read_selected(ops, this.model, ranked, selected), scores: ranked.scores, selected};
    });
    const [answer] = clock.rest(() => greedy(ops, this.model, got.memory, this.config.glimmer.answer_tokens));
    if (!Number.isFinite(answer.log_probability)) refuse("log-probability of the answer", "a finite number", "another");
    const {scores, selected} = got;
    const undecided = scores !== null && selected.length < k && scores.every(x => x === scores[0]);
    return {
      ...begun, clock, arrays, scores, selected, undecided, ids: answer.ids, log_probability: answer.log_probability,
      text: reading.tokenizer.decode(answer.ids), pieces: reading.tokenizer.pieces(answer.ids),
      steps: this.steps(arrays, got, question_ids.length, passage_ids, reading.tokenizer),
    };
  }

  ask(question, source, {system = "glimmer", k = null, m = null} = {}) {
    return this.finish(this.begin(question, source, {system, k}), m);
  }

  /**
   * Each decoder step: its likeliest tokens, and the share of attention, mean over layers and heads, that goes to the
   * decoder's own question and to each selected pair (`attention_shares` in inference/tracing.py), and to their tokens.
   */
  steps(arrays, {memory, selected}, n_q, passage_ids, tokenizer) {
    const pairs = selected.map(i => n_q + passage_ids[i].length);
    const starts = offsets([memory.lengths[0] - pairs.reduce((a, b) => a + b, 0), ...pairs]);
    const result = [];
    for (let step = 0; `decoder.step_${step}.logits` in arrays; step++) {
      const layers = Array.from({length: this.config.num_decoder_layers}, (_, i) =>
        arrays[`decoder.step_${step}.layer_${i}.cross_attention.probs.0`]);
      const [heads, , n] = layers[0].shape, tokens = new Float64Array(n);
      for (const {x} of layers) x.forEach((p, at) => { tokens[at % n] += p / heads / layers.length; });
      const shares = starts.slice(1).map((end, i) => tokens.subarray(starts[i], end).reduce((a, b) => a + b, 0));
      const logits = arrays[`decoder.step_${step}.logits`].x, most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
      const total = logits.reduce((sum, x) => sum + Math.exp(x - most), 0);
      const best = Array.from(logits.keys()).sort((i, j) => logits[j] - logits[i]).slice(0, 4);
      const likeliest = best.map(id => ({piece: tokenizer.pieces([id])[0], p: Math.exp(logits[id] - most) / total}));
      result.push({likeliest, shares, tokens, starts});
    }
    return result;
  }
}

/** Milliseconds and multiply-adds by stage. "memory" is what is stored; it is in no sum. */
export class Clock {
  ms = {};
  macs = {};

  copy() {
    return Object.assign(new Clock(), {ms: {...this.ms}, macs: {...this.macs}});
  }

  /** Milliseconds of all stages but the memory. */
  total() {
    return Object.entries(this.ms).reduce((sum, [stage, ms]) => stage === "memory" ? sum : sum + ms, 0);
  }

  add(stage, ms, macs = 0) {
    this.ms[stage] = (this.ms[stage] ?? 0) + ms;
    if (macs) this.macs[stage] = (this.macs[stage] ?? 0) + macs;
  }

  during(stage, run) {
    const begin = performance.now(), result = run();
    this.add(stage, performance.now() - begin);
    return result;
  }

  /** Runs stages that are measured by their operations; what is between the operations is "other". */
  rest(run) {
    const total = () => Object.values(this.ms).reduce((a, b) => a + b, 0);
    const before = total(), begin = performance.now(), result = run();
    this.add("other", performance.now() - begin - (total() - before));
    return result;
  }
}
