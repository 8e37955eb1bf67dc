// What the page draws of an answer, up to live-A: each function fills one stage. charts.js has the other stages.

export const $ = id => document.getElementById(id);
export const escaped = text => String(text).replace(/[&<>"']/g, c => `&#${c.charCodeAt(0)};`);
export const NAMES = {glimmer: "GLIMMER", lumen: "LUMEN", fid: "FiD"};
export const percent = p => (p < 0.0005 ? "< 0.1 %" : `${(100 * p).toFixed(p < 0.0995 ? 1 : 0)} %`);
export const count = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;
export const fixed = (x, digits) => x.toFixed(digits).replace(/^-(0(?:\.0+)?)$/, "$1"); // no "-0.0"
export const milliseconds = ms => `${ms >= 100 ? ms.toFixed(0) : ms.toPrecision(2)} ms`;

function unit(x, units, step) {
  let i = 0;
  while (x >= step && i + 1 < units.length) {
    x /= step;
    i++;
  }
  return `${x >= 100 || i === 0 ? x.toFixed(0) : x.toPrecision(3)} ${units[i]}`;
}
export const bytes = x => unit(x, ["B", "KiB", "MiB", "GiB"], 1024);
export const macs = x => unit(x, ["", "thousand", "million", "billion"], 1000);

/** A stage's background by a share of attention: more attention, more colour. */
export const shade = share => `background: color-mix(in srgb, var(--glimmer) ${Math.round(72 * share)}%, var(--card))`;

/** The place of a passage among those that the decoder reads, from 0; -1 if it reads it not. */
const place = (answer, passage) => answer.selected.indexOf(passage);

export function draw_question(answer) {
  const {tokenizer, substituted} = answer.reading,
    pieces = tokenizer.pieces(answer.question_ids);
  $("question").innerHTML = `<div class="tokens">${answer.question_ids
    .map((id, i) => {
      const unknown = id === tokenizer.unknown_id,
        stands = substituted.get(pieces[i]);
      const title = unknown ? "not in the vocabulary" : `token ${id}${stands ? `, read as ${stands}` : ""}`;
      const text = stands ? `${pieces[i]} → ${stands}` : pieces[i];
      return `<span class="${unknown ? "unknown" : "q"}" title="${escaped(title)}">${escaped(text)}</span>`;
    })
    .join("")}</div>`;
}

/** A text with the words that the question has too. */
function marked(text, shared) {
  const mark = (part, i) => (i % 2 && shared.has(part.toLowerCase()) ? `<mark>${escaped(part)}</mark>` : escaped(part));
  return text
    .split(/([\p{L}\p{M}\p{N}_]+)/u)
    .map(mark)
    .join("");
}

/** A passage as a row with a number before and behind it. shared: words to mark, or null. */
export function row(answer, state, gold, passage, first, last, shared) {
  const {title, text, id} = answer.passages[passage],
    star = gold.has(id) ? " ★" : "";
  const dropped = answer.scores !== null && place(answer, passage) < 0 && shared === null;
  const [head, said] = [title, text].map(some => (shared === null ? escaped(some) : marked(some, shared)));
  return (
    `<li><button data-passage="${passage}" aria-pressed="${passage === state.passage}"` +
    ` class="${dropped ? "dropped" : ""}"><span class="number">${first}</span>` +
    `<span><b>${head}${star}</b> ${said}</span><span class="number">${last}</span></button></li>`
  );
}

export function draw_retrieval(answer, state, source, gold, words) {
  const k = answer.passages.length,
    n = source.passages.length,
    scores = source.index.scores(answer.question);
  const shared = new Set(words(answer.question));
  const star = gold.size ? " A star marks a passage that is needed for the answer." : "";
  $("retrieval_text").textContent =
    k === n
      ? `All ${count(n, "passage")} are read, in the given order.${star}`
      : `BM25 compares words only. It found ${k} of ${count(n, "passage")} in ` +
        `${milliseconds(answer.clock.ms.retrieval)}.${star}`;
  $("retrieval").innerHTML = answer.rows
    .map((source_row, i) => row(answer, state, gold, i, i + 1, (scores[source_row] / 2 ** 24).toFixed(2), shared))
    .join("");
}

export function draw_memory(answer, source, d, built) {
  const k = answer.passages.length,
    lengths = answer.passage_ids.map(ids => ids.length);
  if (answer.system === "fid") {
    $("memory_text").textContent = "FiD stores nothing. It encodes the text of every pair when the question comes.";
    $("memory").innerHTML = "";
    return;
  }
  const total = lengths.reduce((a, b) => a + b, 0),
    store = [...source.memory.values()].reduce((n, x) => n + 4 * x.length, 0);
  const now = answer.encoded
    ? `${answer.encoded} of them had no memory yet, and were encoded in ${milliseconds(answer.clock.ms.memory)}, once.`
    : "All of them were there before the question.";
  $("memory_text").textContent =
    `The memory encoder reads a passage alone, so it needs no question. ${built} The store holds ` +
    `${count(source.memory.size, "passage")}, ${bytes(store)}. This question reads ${k} of them: ${total} states of ` +
    `${d} numbers, ${bytes(4 * d * total)}, in ${milliseconds(answer.clock.ms.read)}. ${now}`;
  const norms = answer.passage_ids.map(ids => {
    const x = source.memory.get(ids.join());
    return ids.map((_, i) => Math.hypot(...x.subarray(i * d, (i + 1) * d)));
  });
  const flat = norms.flat(),
    low = Math.min(...flat),
    high = Math.max(...flat),
    longest = Math.max(...lengths);
  const width = $("memory").clientWidth,
    step = Math.min(24, width / longest),
    tall = k > 30 ? 6 : 9;
  $("memory").innerHTML =
    `<svg height="${k * tall}" viewBox="0 0 ${width} ${k * tall}" role="img" aria-label="${k} stored ` +
    `passages, a cell for each token; a darker cell is a longer state">${norms
      .map((some, r) =>
        some
          .map(
            (norm, i) =>
              `<rect x="${(i * step).toFixed(1)}" y="${r * tall}" width="${(step - 1).toFixed(1)}" ` +
              `height="${tall - 2}" fill="var(--accent)" ` +
              `opacity="${(0.15 + (0.85 * (norm - low)) / (high - low || 1)).toFixed(2)}"/>`,
          )
          .join(""),
      )
      .join("")}</svg>`;
}

const LAYER_TITLES = {live_a: "live-A", live: "live encoder", "encoder.memory": "encoder", "encoder.live": "encoder"};

/** The layers whose attention over the pairs was kept, in order. */
export function pair_layers(answer) {
  const pattern = /^(live_a|live|encoder\.memory|encoder\.live)\.layer_\d+(?=\.attention\.probs\.0$)/;
  return Object.keys(answer.arrays)
    .map(name => pattern.exec(name)?.[0])
    .filter(name => name);
}

export function draw_pair(answer, state, heads) {
  const titles = {
    glimmer: [
      "live-A reads the question with each passage",
      "H'_i = LiveEncA(H_i),  H_i = [MemEnc(Q); MemEnc(Passage_i)]",
    ],
    lumen: [
      "The live encoder reads the question with each passage",
      "LiveEnc(H_i),  H_i = [MemEnc(Q); MemEnc(Passage_i)]",
    ],
    fid: ["The encoder reads the question with each passage", "Enc(Q; Passage_i)"],
  };
  [$("live_a_title").textContent, $("live_a_symbol").textContent] = titles[answer.system];
  $("live_a_text").textContent =
    "The question's tokens, underlined, stand before those of the passage. Point at a token, or choose it " +
    "with the arrow keys: the colour shows where it looks." +
    (answer.system === "glimmer" ? " The score is read from the first token." : "");
  const options = (names, chosen) =>
    names.map((name, i) => `<option value="${i}"${i === chosen ? " selected" : ""}>${escaped(name)}</option>`).join("");
  const layers = pair_layers(answer),
    {tokenizer} = answer.reading;
  const named = layers.map(
    (name, i) => `${LAYER_TITLES[name.replace(/\.layer_\d+$/, "")]}, ${i + 1} of ${layers.length}`,
  );
  $("passage").innerHTML = options(
    answer.passages.map(({title, text}, i) => `${i + 1}. ${title || text.slice(0, 30)}`),
    state.passage,
  );
  $("layer").innerHTML = options(named, state.layer);
  $("head").innerHTML = options(["mean of all", ...Array.from({length: heads}, (_, h) => `${h + 1}`)], state.head);
  const question = tokenizer.pieces(answer.question_ids),
    passage = tokenizer.pieces(answer.passage_ids[state.passage]);
  $("pair").innerHTML = [...question, ...passage]
    .map(
      (piece, i) =>
        `<button type="button" data-token="${i}" class="${i < question.length ? "q" : ""}"` +
        ` tabindex="${i === state.token ? 0 : -1}">` +
        `${escaped(piece)}</button>`,
    )
    .join("");
}

/** Colours the pair's tokens by the attention of the chosen one. */
export function draw_attention(answer, state) {
  const {
    x: probs,
    shape: [heads, n],
  } = answer.arrays[`${pair_layers(answer)[state.layer]}.attention.probs.${state.passage}`];
  const chosen = state.head ? [state.head - 1] : Array.from({length: heads}, (_, h) => h),
    i = state.token;
  const shares = Array.from(
    {length: n},
    (_, j) => chosen.reduce((total, h) => total + probs[(h * n + i) * n + j], 0) / chosen.length,
  );
  const most = Math.max(...shares),
    buttons = [...$("pair").children],
    n_q = answer.question_ids.length;
  buttons.forEach((button, j) => {
    button.style = shade(shares[j] / most);
    button.title = percent(shares[j]);
    button.tabIndex = j === i ? 0 : -1;
    button.classList.toggle("now", j === i);
  });
  const best = shares
    .map((share, j) => [share, j])
    .sort((a, b) => b[0] - a[0])
    .slice(0, 3);
  const looked = best.map(([share, j]) => `“${buttons[j].textContent}” ${percent(share)}`).join(", ");
  const passage = shares.slice(n_q).reduce((a, b) => a + b, 0);
  $("attention").textContent =
    `“${buttons[i].textContent}” looks most at ${looked}; at the passage with ${percent(passage)} in all.`;
}
