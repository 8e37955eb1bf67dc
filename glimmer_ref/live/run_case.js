// Runs a golden case of kind "model" or "refuse" with this implementation:
//
//     node run_case.js CASE_DIR OUT.safetensors [MISTAKE]
//     glimmer-ref golden check CASE --run 'node run_case.js {case} {out}'
//
// MISTAKE is a name in mistakes.js: the run then makes this mistake, which the check must find.

import {readFileSync, writeFileSync} from "node:fs";
import {join} from "node:path";
import {pathToFileURL} from "node:url";
import {MISTAKES} from "./mistakes.js";
import {FROM_TEXT, SYSTEMS, build_model, check_tokens, encode_passages, final_norm} from "./model.js";
import {greedy, log_likelihood} from "./model.js";
import {bind, token_positions} from "./operations.js";
import {read_tensors, write_tensors} from "./safetensors.js";

/** The tensors of a run by name: {x, shape}, with the lengths of ragged arrays beside them. */
class Trace {
  arrays = {};

  seen = (name, x, lengths, shape) => {
    this.arrays[name] = {x, shape};
    if (lengths) this.arrays[`${name}.lengths`] = {x: Int32Array.from(lengths), shape: [lengths.length]};
  };
}

/** One of the inputs as sequences. An input without lengths is one sequence. */
function tokens(inputs, name, config) {
  const ids = inputs[name], lengths = inputs[`${name}.lengths`];
  return check_tokens(name, {ids, lengths: lengths ? [...lengths] : [ids.length]}, config);
}

/** Everything before the decoder: its memory, or null if the case has no decoder. */
function decoder_reads(ops, about, model, inputs, mistake) {
  if (about.system === "decoder") {
    const lengths = [...inputs["memory.lengths"]];
    return {states: inputs.memory, lengths, positions: token_positions(lengths)};
  }
  const passages = tokens(inputs, "passages", model.config);
  const memorize = mistake.memory ?? encode_passages;
  if (about.system === "encoder") {
    const x = final_norm(ops, model, memorize(ops, model, passages));
    ops.scope("encoder").record("out", x.states, x.lengths);
    return null;
  }
  const question = tokens(inputs, "question", model.config);
  const read = FROM_TEXT.includes(about.system) ? passages : memorize(ops, model, passages);
  return SYSTEMS[about.system](ops, model, question, read, model.config.glimmer.m).memory;
}

/** All tensors of one run. mistake: see mistakes.js; {} makes none. */
export function run(about, config, weights, inputs, mistake = {}) {
  const trace = new Trace();
  const model = (mistake.change ?? (model => model))(build_model(config, weights));
  const ops = bind(trace.seen, mistake.operations ? mistake.operations(model, inputs) : {});
  const memory = decoder_reads(ops, about, model, inputs, mistake);
  if (memory === null || about.kind !== "model") return trace.arrays;
  const target = tokens(inputs, "target", config);
  ops.record("decoder.log_likelihood", log_likelihood(ops, model, memory, target));
  const answers = greedy(ops, model, memory, config.glimmer.answer_tokens);
  const ids = Int32Array.from(answers.flatMap(answer => answer.ids));
  ops.record("decoder.ids", ids, answers.map(answer => answer.ids.length), [ids.length]);
  return trace.arrays;
}

const is_object = x => x !== null && typeof x === "object" && !Array.isArray(x);

function merged(old, changes) {
  const values = Object.entries(changes).map(([key, x]) => [key, is_object(x) ? merged(old[key], x) : x]);
  return {...old, ...Object.fromEntries(values)};
}

/** Whether the run with the `change` of a refusal ends in an error. */
function refuses(about, weights, inputs, change) {
  const config = merged(merged(about.config, change.config ?? {}), "m" in change ? {glimmer: {m: change.m}} : {});
  const other = {...weights}, given = {...inputs};
  for (const [name, value] of Object.entries(change.weights ?? {}))
    if (value === null) delete other[name];
    else other[name] = other[name].map(() => ({nan: NaN, inf: Infinity})[value]);
  for (const [name, list] of Object.entries(change.inputs ?? {})) given[name] = Int32Array.from(list);
  try {
    run(about, config, other, given);
    return false;
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;  // our own errors are RangeErrors
    return true;
  }
}

function main([folder, out, name]) {
  if (!out) throw new Error("usage: node run_case.js CASE_DIR OUT.safetensors [MISTAKE]");
  if (name && !MISTAKES[name]) throw new Error(`a mistake is one of ${Object.keys(MISTAKES).join(", ")}; got ${name}`);
  const about = JSON.parse(readFileSync(join(folder, "case.json"), "utf8"));
  if (!["model", "refuse"].includes(about.kind)) throw new Error(`${about.case}: kind ${about.kind} is not run here`);
  const read = part => read_tensors(readFileSync(join(folder, `${part}.safetensors`)));
  const weights = read("weights"), inputs = read("inputs");
  const arrays = run(about, about.config, weights, inputs, MISTAKES[name]);
  const names = about.tensors.flatMap(({name}) => [name, `${name}.lengths`]).filter(name => name in arrays);
  const outputs = Object.fromEntries(names.map(name => [name, arrays[name]]));
  for (const refusal of about.refusals ?? [])
    outputs[`refused.${refusal.name}`] =
      {x: Int32Array.of(refuses(about, weights, inputs, refusal.change) ? 1 : 0), shape: [1]};
  writeFileSync(out, write_tensors(outputs));
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) main(process.argv.slice(2));
