// GLIMMER, stage by stage: fill in a stage, run this file on a case, and see whether the stage is right.
//
//     node implementation.mjs CASE_DIR OUT.safetensors
//     python check.py CASE_DIR OUT.safetensors
//
// A stage returns {name: {shape, x}} with x a Float32Array or an Int32Array, or null as long as it is not implemented.
//{about}

import {readFileSync, writeFileSync} from "node:fs";
import {join} from "node:path";
import {read_tensors, write_tensors} from "./safetensors.mjs";

//{stages}

// Each stage, and the beginnings of the names of its results. A stage is skipped if the case has no such names.
const STAGES = [
//{table}
];

/** Runs every stage in order, and returns the results with names of the case. */
function run(folder) {
  const about = JSON.parse(readFileSync(join(folder, "case.json"), "utf8"));
  const read = part => read_tensors(readFileSync(join(folder, `${part}.safetensors`)));
  const weights = read("weights"), inputs = read("inputs"), before = read("expected"), outputs = {};
  const names = new Set(about.tensors.map(({name}) => name));
  for (const [stage, begins] of about.kind === "ops" ? [[operations, [""]]] : STAGES) {
    if (![...names].some(name => begins.some(begin => name.startsWith(begin)))) continue;
    const result = stage(about.config, weights, inputs, before);
    console.log(`${stage.name.padEnd(16)}${result ? "run" : "not written"}`);
    for (const [name, tensor] of Object.entries(result ?? {})) {
      before[name] = tensor;
      if (names.has(name.replace(/\.(mask|lengths)$/, ""))) outputs[name] = tensor;
    }
  }
  return outputs;
}

const [folder, out] = process.argv.slice(2);
if (!out) {
  console.error("usage: node implementation.mjs CASE_DIR OUT.safetensors");
  process.exit(2);
}
writeFileSync(out, write_tensors(run(folder)));
