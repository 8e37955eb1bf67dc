// The operations of a model on plain typed arrays. The formulas are those of `ops/numpy_backend.py`.
//
// Arrays are Float32Arrays in C order without a shape of their own: [N d] has N d numbers, and d follows from a weight
// or from the lengths. Sequences lie end to end and are not padded. The letters are those of `ragged.py`: N tokens, b
// sequences, d = d_model, h heads, c = d_kv, v vocabulary, k passages.
//
// Precision: a JavaScript number is a float64. Each function computes and sums in float64 and rounds once, to float32,
// when it stores its result. So results are at least as exact as those of float32 arithmetic.

export const sum = numbers => numbers.reduce((a, b) => a + b, 0);

/** Where each sequence starts, and the end of the last: [b] -> [b+1]. */
export function offsets(lengths) {
  const starts = [0];
  for (const n of lengths) starts.push(starts.at(-1) + n);
  return starts;
}

/** 0, 1, 2 .. within each sequence, counted from its `start`: [b], [b] -> [N]. */
export function token_positions(lengths, start = null) {
  return Int32Array.from(lengths.flatMap((n, i) => Array.from({length: n}, (_, at) => (start ? start[i] : 0) + at)));
}

/** Parts [N_i ..] end to end. */
export function concatenate(parts) {
  const x = new Float32Array(sum(parts.map(part => part.length)));
  parts.reduce((at, part) => (x.set(part, at), at + part.length), 0);
  return x;
}

/** Rows of a table: [v d], [N] -> [N d]. */
export function embed(table, ids, d) {
  return concatenate(Array.from(ids, i => table.subarray(i * d, (i + 1) * d)));
}

/** x w: [N d], [d out] -> [N out]. Four rows and two columns at a time, which keeps eight sums in registers. */
export function linear(x, w, d) {
  const rows = x.length / d, out = w.length / d, y = new Float32Array(rows * out);
  const whole = out % 2 ? 0 : rows - rows % 4;
  for (let i = 0; i < whole; i += 4) {
    const r0 = i * d, r1 = r0 + d, r2 = r1 + d, r3 = r2 + d;
    for (let j = 0; j < out; j += 2) {
      let a0 = 0, a1 = 0, b0 = 0, b1 = 0, c0 = 0, c1 = 0, d0 = 0, d1 = 0;
      for (let a = 0, at = j; a < d; a++, at += out) {
        const w0 = w[at], w1 = w[at + 1], x0 = x[r0 + a], x1 = x[r1 + a], x2 = x[r2 + a], x3 = x[r3 + a];
        a0 += x0 * w0; a1 += x0 * w1; b0 += x1 * w0; b1 += x1 * w1;
        c0 += x2 * w0; c1 += x2 * w1; d0 += x3 * w0; d1 += x3 * w1;
      }
      let at = i * out + j;
      y[at] = a0; y[at + 1] = a1; at += out;
      y[at] = b0; y[at + 1] = b1; at += out;
      y[at] = c0; y[at + 1] = c1; at += out;
      y[at] = d0; y[at + 1] = d1;
    }
  }
  const row = new Float64Array(out);
  for (let i = whole; i < rows; i++) {
    row.fill(0);
    for (let a = 0; a < d; a++) {
      const xa = x[i * d + a], at = a * out;
      for (let j = 0; j < out; j++) row[j] += xa * w[at + j];
    }
    y.set(row, i * out);
  }
  return y;
}

/** x table^T: [N d], [v d] -> [N v]. */
export function lm_head_logits(table, x, d) {
  const rows = x.length / d, v = table.length / d, y = new Float32Array(rows * v);
  for (let i = 0; i < rows; i++)
    for (let j = 0; j < v; j++) y[i * v + j] = inner(x, i * d, table, j * d, d);
  return y;
}

/** x w for one column: [k d], [d 1] -> [k]. */
export const dot = (x, w, d) => Float32Array.from({length: x.length / d}, (_, i) => inner(x, i * d, w, 0, d));

function inner(x, x_at, y, y_at, n) {
  let total = 0;
  for (let a = 0; a < n; a++) total += x[x_at + a] * y[y_at + a];
  return total;
}

export const add = (x, y) => x.map((value, i) => value + y[i]);
export const scale = (x, factor) => x.map(value => value * factor);

/** x / sqrt(mean(x^2) + eps) * gain: [N d], [d] -> [N d]. */
export function rms_norm(x, gain, eps) {
  const d = gain.length, y = new Float32Array(x.length);
  for (let at = 0; at < x.length; at += d) {
    const root = Math.sqrt(inner(x, at, x, at, d) / d + eps);
    for (let a = 0; a < d; a++) y[at + a] = x[at + a] / root * gain[a];
  }
  return y;
}

/** gelu(a) * b with gelu's tanh form: [N f], [N f] -> [N f]. */
export function gated_gelu(a, b) {
  const y = new Float32Array(a.length), factor = Math.sqrt(2 / Math.PI);
  for (let i = 0; i < y.length; i++) {
    const x = a[i];
    y[i] = 0.5 * x * (1 + Math.tanh(factor * (x + 0.044715 * x * x * x))) * b[i];
  }
  return y;
}

export const relu = a => a.map(x => Math.max(x, 0));

/**
 * softmax(q k^T + bias) v in each head, over each sequence alone: [Nq hc], [Nk hc], [Nk hc] -> [Nq hc].
 * bias is [2D+1 h], distance 0 in the middle row, or null. seen(s, probs, [h i j]) observes the softmax of sequence s.
 */
export function attention(q, k, v, bias, layout, heads, causal, seen = null) {
  const {query_lengths, key_lengths, query_positions, key_positions} = layout;
  const hc = q.length / query_positions.length, c = hc / heads, middle = bias ? (bias.length / heads - 1) / 2 : 0;
  const q_starts = offsets(query_lengths), k_starts = offsets(key_lengths), out = new Float32Array(q.length);
  const mixed = new Float64Array(c);
  query_lengths.forEach((ni, s) => {
    const nj = key_lengths[s], row = new Float64Array(nj), probs = seen && new Float32Array(heads * ni * nj);
    for (let h = 0; h < heads; h++) {
      for (let i = 0; i < ni; i++) {
        const at = (q_starts[s] + i) * hc + h * c, here = query_positions[q_starts[s] + i];
        let most = -Infinity, total = 0;
        for (let j = 0; j < nj; j++) {  // T5 does not divide by sqrt(c)
          const distance = key_positions[k_starts[s] + j] - here;
          const x = inner(q, at, k, (k_starts[s] + j) * hc + h * c, c);
          row[j] = causal && distance > 0 ? -Infinity : bias ? x + bias[(distance + middle) * heads + h] : x;
          if (row[j] > most) most = row[j];
        }
        for (let j = 0; j < nj; j++) total += row[j] = Math.exp(row[j] - most);
        mixed.fill(0);
        for (let j = 0; j < nj; j++) {
          const p = row[j] / total, from = (k_starts[s] + j) * hc + h * c;
          if (probs) probs[(h * ni + i) * nj + j] = p;
          for (let a = 0; a < c; a++) mixed[a] += p * v[from + a];
        }
        out.set(mixed, at);
      }
    }
    if (seen) seen(s, probs, [heads, ni, nj]);
  });
  return out;
}

/** The rows of sequence s of an array [N ..]. */
function sequence(x, lengths, s) {
  const starts = offsets(lengths), width = x.length / starts.at(-1);
  return x.subarray(starts[s] * width, starts[s + 1] * width);
}

/** [x_1; y_1; x_2; y_2; ..]: [Nx ..], [Ny ..] -> [Nx+Ny ..]. */
export function interleave_concat(x, x_lengths, y, y_lengths) {
  return concatenate(x_lengths.flatMap((_, s) => [sequence(x, x_lengths, s), sequence(y, y_lengths, s)]));
}

/** The sequences with the indices `index`, in that order: [N ..] -> [N' ..]. */
export function gather_sequences(x, lengths, index) {
  return concatenate(Array.from(index, s => sequence(x, lengths, s)));
}

/** The first row of each sequence: [N d] -> [b d]. */
export function first_token(x, lengths, d) {
  return concatenate(lengths.map((_, s) => sequence(x, lengths, s).subarray(0, d)));
}

/** The mean row of each sequence: [N d] -> [b d]. */
export function mean(x, lengths, d) {
  const rows = lengths.map((n, s) => {
    const total = new Float64Array(d);
    sequence(x, lengths, s).forEach((value, at) => { total[at % d] += value / n; });
    return Float32Array.from(total);
  });
  return concatenate(rows);
}

/** The indices of scores, highest first; equal scores keep their order: [k] -> [k]. */
export const best_first = scores => Array.from(scores.keys()).sort((i, j) => scores[j] - scores[i]);

/** The likeliest id of each row, ties to the lower: [N v] -> [N]. */
export function argmax(x, rows) {
  const v = x.length / rows;
  return Int32Array.from({length: rows}, (_, i) => {
    let best = 0;
    for (let j = 1; j < v; j++) if (x[i * v + j] > x[i * v + best]) best = j;
    return best;
  });
}

/** The sum over each sequence of log softmax(logits_t)[target_t]: [N v], [N] -> [b]. */
export function log_likelihood(logits, targets, lengths) {
  const v = logits.length / targets.length, starts = offsets(lengths);
  const log_p = Array.from(targets, (target, i) => {
    const row = logits.subarray(i * v, (i + 1) * v), most = row.reduce((a, b) => Math.max(a, b), -Infinity);
    return row[target] - most - Math.log(row.reduce((total, x) => total + Math.exp(x - most), 0));
  });
  return Float32Array.from(lengths, (n, s) => sum(log_p.slice(starts[s], starts[s] + n)));
}

const OPERATIONS = {
  embed, linear, lm_head_logits, dot, add, scale, rms_norm, gated_gelu, relu, attention, interleave_concat,
  gather_sequences, first_token, mean, best_first, argmax, log_likelihood,
};

/** How many multiply-adds an operation makes, by its arguments, as `instruments/mac_counter.py` counts them. */
const MACS = {
  linear: (x, w, d) => x.length * w.length / d,
  lm_head_logits: (table, x, d) => x.length * table.length / d,
  dot: x => x.length,
  attention: (q, k, v, bias, {query_lengths, key_lengths, query_positions}) =>
    2 * q.length / query_positions.length * sum(query_lengths.map((n, s) => n * key_lengths[s])),
};

/** Operations that replace those of `bind`, and add their time and multiply-adds to the stage in whose scope they run. */
export function profiled(clock) {
  const timed = (name, operation) => function (...args) {
    const begin = performance.now(), result = operation(...args);
    const stage = name === "lm_head_logits" ? "head" : this.path.split(".")[0] || "other";
    clock.add(stage, performance.now() - begin, name in MACS ? MACS[name](...args) : 0);
    return result;
  };
  return Object.fromEntries(Object.entries(OPERATIONS).map(([name, operation]) => [name, timed(name, operation)]));
}

/**
 * The operations with a scope and an observer, like `Ops` in `ops/bound.py`.
 * seen(name, x, lengths, shape) gets every named array: [N ..] with lengths [b], or any shape without lengths.
 * Functions in `replaced` replace operations; `this` is then the scope, and `this.path` its name.
 */
export function bind(seen = null, replaced = {}, path = "") {
  return {
    ...OPERATIONS,
    ...replaced,
    path,
    observed: seen !== null,
    scope: name => bind(seen, replaced, `${path}${name}.`),
    record(name, x, lengths = null, shape = null) {
      const rows = lengths ? sum(lengths) : x.length;
      if (seen) seen(path + name, x, lengths, shape ?? (lengths ? [rows, x.length / rows] : [rows]));
      return x;
    },
  };
}
