// Mistakes that a second implementation may make, each planted from outside: `golden check` must find them.
//
// A mistake has one or more of these parts:
//     operations(model, inputs): operations that replace those of operations.js; `this.path` is the scope
//     change(model): a changed model
//     memory(ops, model, passages): replaces `encode_passages`
// Their names are those of the known mistakes of the golden cases (`golden/generate/mutations.py`).

import {encode_passages, final_norm} from "./model.js";
import * as right from "./operations.js";

const operations = replaced => ({operations: () => replaced});
const config = (model, changes) => ({...model, config: {...model.config, ...changes}});

export const MISTAKES = {
  divided_by_sqrt_d_kv: operations({
    attention(q, k, v, bias, layout, heads, ...rest) {
      const c = q.length / layout.query_positions.length / heads;
      return right.attention(right.scale(q, c ** -0.5), k, v, bias, layout, heads, ...rest);
    },
  }),
  not_causal: operations({
    attention(q, k, v, bias, layout, heads, causal, seen) {
      return right.attention(q, k, v, bias, layout, heads, false, seen);
    },
  }),
  bias_in_first_layer_only: operations({
    attention(q, k, v, bias, ...rest) {
      return right.attention(q, k, v, /layer_[1-9]/.test(this.path) ? null : bias, ...rest);
    },
  }),
  gate_and_value_swapped: operations({gated_gelu: (a, b) => right.gated_gelu(b, a)}),
  "eps_1e-5": operations({rms_norm: (x, gain) => right.rms_norm(x, gain, 1e-5)}),
  memory_normed: {
    memory: (ops, model, passages) => {
      const x = final_norm(ops, model, encode_passages(ops, model, passages));
      ops.scope("memory").record("out", x.states, x.lengths);
      return x;
    },
  },
  places_restarted: {
    operations: (model, {question}) => ({
      attention(q, k, v, bias, layout, ...rest) {
        const at = layout.key_positions.map(p => p < question.length ? p : p - question.length);
        const restarted = {...layout, query_positions: at, key_positions: at};
        return right.attention(q, k, v, bias, this.path.startsWith("live") ? restarted : layout, ...rest);
      },
    }),
  },
  score_of_last_token: operations({
    first_token(x, lengths, d) {
      const ends = right.offsets(lengths).slice(1);
      return right.concatenate(ends.map(end => x.subarray((end - 1) * d, end * d)));
    },
  }),
  worst_first: operations({best_first: scores => right.best_first(scores.map(x => -x))}),
  start_id: {change: model => config(model, {decoder_start_token_id: 7})},
  no_decoder_norm: {
    operations: model => ({
      rms_norm: (x, gain, eps) => gain === model.decoder.final_norm ? x : right.rms_norm(x, gain, eps),
    }),
  },
};
