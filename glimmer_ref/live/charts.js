// The charts of the page: the scores, what live-B reads, what the decoder writes, and the cost.

import {$, NAMES, escaped, fixed, macs, milliseconds, percent, row, shade} from "./views.js";

export function draw_scores(answer, state, gold) {
  const k = answer.passages.length,
    {scores, selected} = answer,
    m = selected.length;
  $("scores_title").textContent = scores === null ? "Nothing is ranked" : "The scores, and the line for m";
  $("scores_symbol").textContent = scores === null ? "" : "Score(H'_i), R_1 .. R_m";
  if (scores === null) {
    $("scores_text").textContent =
      `${NAMES[answer.system]} has no score. ` +
      `Its decoder reads all ${k} passages, in the order in which they were found.`;
    $("scores").innerHTML = "";
    $("ranked").innerHTML = answer.passages.map((_, i) => row(answer, state, gold, i, i + 1, "-", null)).join("");
    return;
  }
  const dropped = [...scores.keys()].filter(i => !selected.includes(i)).sort((a, b) => scores[b] - scores[a]);
  const order = [...selected, ...dropped],
    width = $("scores").clientWidth,
    height = 170,
    left = 40,
    top = 12;
  const low = Math.min(...scores),
    high = Math.max(...scores),
    step = (width - left - 10) / k;
  const x = rank => left + (rank + 0.5) * step,
    y = score => top + ((high - score) / (high - low || 1)) * (height - top - 26);
  const line = left + m * step,
    value = score =>
      `<text class="soft" x="${left - 6}" y="${y(score) + 4}" text-anchor="end">${fixed(score, 1)}</text>`;
  const points = order
    .map(
      (i, rank) =>
        `<g class="fades ${rank < m ? "" : "dropped"}">` +
        `<circle cx="${x(rank)}" cy="${y(scores[i])}" r="${Math.min(5, step / 2)}" fill="var(--glimmer)"/>` +
        (gold.has(answer.passages[i].id)
          ? `<text x="${x(rank)}" y="${y(scores[i]) + (y(scores[i]) > 40 ? -9 : 20)}" text-anchor="middle">★</text>`
          : "") +
        `<title>${escaped(answer.passages[i].title)}: ${fixed(scores[i], 3)}</title></g>`,
    )
    .join("");
  $("scores_text").textContent =
    "A linear layer makes a score from the first token of each pair. The best m go on. Drag the line, " +
    "or use the arrow keys on it: passages behind it fade.";
  $("scores").innerHTML =
    `<svg height="${height}" viewBox="0 0 ${width} ${height}"><g aria-hidden="true">` +
    `<path d="M${left} ${top - 6} V${height - 18} H${width - 4}" fill="none" stroke="var(--line)"/>` +
    `${value(high)}${high > low ? value(low) : ""}` +
    `${points}<text class="soft" x="${width - 6}" y="${height - 4}" text-anchor="end">rank, 1 to ${k}</text></g>` +
    `<g id="line" role="slider" tabindex="0" aria-label="m, passages that the decoder reads" ` +
    `aria-valuemin="1" aria-valuemax="${k}" aria-valuenow="${m}">` +
    `<rect x="${line - 14}" y="0" width="28" height="${height - 18}" fill="transparent"/>` +
    `<line x1="${line}" x2="${line}" y1="2" y2="${height - 18}" stroke="var(--accent)" stroke-width="3"/>` +
    `<text x="${line + (m > k / 2 ? -6 : 6)}" y="12" text-anchor="${m > k / 2 ? "end" : "start"}">m = ${m}</text>` +
    "</g></svg>";
  Object.assign($("scores").dataset, {left, step, k});
  $("ranked").innerHTML = order
    .map((i, rank) => row(answer, state, gold, i, rank + 1, fixed(scores[i], 2), null))
    .join("");
}

export function draw_live_b(answer) {
  const k = answer.passages.length,
    n_q = answer.question_ids.length,
    m = answer.selected.length;
  const rest = [...Array(k).keys()].filter(i => !answer.selected.includes(i));
  const tokens = i => n_q + answer.passage_ids[i].length,
    total = some => some.reduce((n, i) => n + tokens(i), 0);
  const all = total([...answer.selected, ...rest]),
    width = $("live_b").clientWidth;
  const kept = total(answer.selected),
    glimmer = answer.system === "glimmer";
  $("live_b_title").textContent = glimmer ? "live-B reads the best m pairs" : "All pairs go to the decoder";
  $("live_b_symbol").textContent = glimmer
    ? "LiveEncB(R_j)"
    : answer.system === "lumen"
      ? "LiveEnc(H_i)"
      : "Enc(Q; Passage_i)";
  $("live_b_text").textContent = glimmer
    ? `The remaining layers see ${m} of ${k} pairs, ${kept} of ${all} tokens. The others end here.`
    : `${NAMES[answer.system]} selects nothing: the decoder reads the ${all} tokens of all ${k} pairs.`;
  let x = 0;
  $("live_b").innerHTML =
    `<svg height="30" viewBox="0 0 ${width} 30" role="img" aria-label="${kept} of ${all} tokens go on">` +
    [...answer.selected, ...rest]
      .map((i, rank) => {
        const wide = (tokens(i) / all) * width,
          at = x;
        x += wide;
        return (
          `<g class="fades ${rank < m ? "" : "dropped"}"><rect x="${at.toFixed(1)}" y="2" ` +
          `width="${Math.max(wide - 2, 1).toFixed(1)}" height="26" rx="3" ` +
          `fill="${rank < m ? "var(--glimmer)" : "var(--line)"}">` +
          `<title>${escaped(answer.passages[i].title)}: ${tokens(i)} tokens</title></rect></g>`
        );
      })
      .join("") +
    "</svg>";
}

const share_colour = (i, n) =>
  i === 0
    ? "var(--question)"
    : `color-mix(in srgb, var(--glimmer) ${100 - (75 * (i - 1)) / Math.max(n - 1, 1)}%, var(--card))`;

export function draw_decoder(answer, state) {
  const symbols = {
    glimmer: "Dec[Q; LiveEncB(R_1); .. LiveEncB(R_m)]",
    lumen: "Dec[Q; LiveEnc(H_1); .. LiveEnc(H_k)]",
    fid: "Dec[Enc(Q; Passage_1); .. Enc(Q; Passage_k)]",
  };
  $("decoder_symbol").textContent = symbols[answer.system];
  const n = answer.selected.length,
    owner = i => (i === 0 ? "the question" : answer.passages[answer.selected[i - 1]].title || `pair ${i}`);
  $("decoder").innerHTML = answer.steps
    .map(
      ({likeliest: [best, ...others], shares}, i) =>
        `<button class="step" data-step="${i}" aria-pressed="${i === state.step}"><b>${escaped(best.piece)}</b>` +
        `<span class="number">${escaped(percent(best.p))}</span>` +
        `<span class="bar ${n <= 10 ? "few" : ""}" aria-hidden="true">${shares
          .map(
            (share, j) =>
              `<i style="width:${(100 * share).toFixed(2)}%; background:${share_colour(j, n)}" ` +
              `title="${escaped(owner(j))}: ${escaped(percent(share))}"></i>`,
          )
          .join("")}</span>` +
        `<small>next: ${others.map(({piece, p}) => escaped(`${piece} ${percent(p)}`)).join(", ")}</small></button>`,
    )
    .join("");
  const own_question = answer.steps[0].starts[1] > 0; // FiD's decoder reads pairs only
  $("decoder_legend").innerHTML =
    (own_question ? `<span><i style="background:${share_colour(0, n)}"></i>the question</span>` : "") +
    `<span><i style="background:${share_colour(1, n)}"></i>first pair</span>` +
    `<span><i style="background:${share_colour(n, n)}"></i>last pair</span>`;
  const {shares, tokens, starts} = answer.steps[state.step],
    {tokenizer} = answer.reading,
    most = Math.max(...tokens);
  const shown = shares
    .map((share, i) => [share, i])
    .filter(([, i]) => i > 0)
    .sort((a, b) => b[0] - a[0])
    .slice(0, 5);
  const piece = answer.steps[state.step].likeliest[0].piece;
  $("looks").innerHTML =
    `<p class="passage">Where it looks while it writes “${escaped(piece)}”: ` +
    `${n > 5 ? `the five of ${n} pairs at which it looks most` : "all pairs"}, most attention first. ` +
    `${own_question ? `It gives ${escaped(percent(shares[0]))} to its own copy of the question.` : ""}</p>` +
    shown
      .map(([share, i]) => {
        const passage = answer.selected[i - 1],
          ids = [...answer.question_ids, ...answer.passage_ids[passage]],
          from = starts[i];
        return `<p class="passage">${escaped(owner(i))}, ${escaped(percent(share))}</p><div class="tokens">${tokenizer
          .pieces(ids)
          .map(
            (token, j) =>
              `<span class="${j < answer.question_ids.length ? "q" : ""}" style="${shade(tokens[from + j] / most)}"` +
              ` title="${escaped(percent(tokens[from + j]))}">${escaped(token)}</span>`,
          )
          .join("")}</div>`;
      })
      .join("");
}

// Lightness falls from stage to stage, so that the order survives greyscale.
const STAGES = {
  question: ["question", "#f3d9a4"],
  encoder: ["encoder", "#7fb2d6"],
  live: ["live encoder", "#7fb2d6"],
  live_a: ["live-A", "#9fd3c7"],
  score: ["score", "#000000"],
  live_b: ["live-B", "#3f8f83"],
  cross: ["cross keys and values", "#b5651d"],
  decoder: ["decoder", "#7a2e3a"],
  head: ["logits", "#9aa0a6"],
};

/** The cost of each system that has answered. measured: system -> {best: Clock, runs}. */
export function draw_cost(measured, m) {
  const clocks = Object.fromEntries(Object.entries(measured).map(([name, {best}]) => [name, best]));
  const names = Object.keys(NAMES).filter(name => clocks[name]),
    used = Object.keys(STAGES).filter(s => names.some(name => clocks[name].macs[s]));
  const total = table => used.reduce((sum, stage) => sum + (table[stage] ?? 0), 0);
  $("cost_text").textContent =
    "Multiply-adds are counted while the model runs; milliseconds are those of this device, the faster of two runs. " +
    "Stored memory and the search for passages are in no bar." +
    (names.some(name => measured[name].runs < 2) || names.length < 3 ? " The systems are being measured." : "");
  const width = $("cost").clientWidth,
    step = 44;
  const bars = (title, of, text) => {
    const most = Math.max(...names.map(name => total(of(clocks[name]))));
    return (
      `<svg height="${names.length * step + 22}" viewBox="0 0 ${width} ${names.length * step + 22}" role="img" ` +
      `aria-label="${title}">` +
      `<text class="soft" x="0" y="14">${title}</text>${names
        .map((name, r) => {
          let x = 0;
          const y = r * step + 40,
            all = total(of(clocks[name]));
          return (
            `<text x="0" y="${y - 5}">${NAMES[name]}</text>` +
            `<text class="soft" x="${width}" y="${y - 5}" text-anchor="end">${text(all)}</text>` +
            used
              .map(stage => {
                const value = of(clocks[name])[stage] ?? 0,
                  wide = (value / most) * width,
                  at = x;
                x += wide;
                const [named, fill] = STAGES[stage];
                return (
                  `<rect x="${at.toFixed(1)}" y="${y}" width="${wide.toFixed(1)}" height="20" fill="${fill}">` +
                  `<title>${named}: ${text(value)}</title></rect>`
                );
              })
              .join("")
          );
        })
        .join("")}</svg>`
    );
  };
  $("cost").innerHTML =
    bars("multiply-adds", clock => clock.macs, macs) + bars("milliseconds, measured", clock => clock.ms, milliseconds);
  $("cost_legend").innerHTML = used
    .filter(stage => stage !== "score")
    .map(stage => `<span><i style="background:${STAGES[stage][1]}"></i>${STAGES[stage][0]}</span>`)
    .join("");
  const cells = stage =>
    names
      .map(name =>
        stage in clocks[name].macs
          ? `<td>${clocks[name].macs[stage].toLocaleString("en")}</td><td>${clocks[name].ms[stage].toFixed(2)}</td>`
          : "<td>-</td><td>-</td>",
      )
      .join("");
  const titled = name => `${NAMES[name]}${name === "glimmer" ? `, m = ${m}` : ""}`;
  $("numbers").innerHTML =
    `<tr><th>stage</th>${names.map(name => `<th>${titled(name)}</th><th>ms</th>`).join("")}</tr>` +
    used.map(stage => `<tr><td>${STAGES[stage][0]}</td>${cells(stage)}</tr>`).join("") +
    `<tr><td><b>sum</b></td>${names
      .map(
        name =>
          `<td><b>${total(clocks[name].macs).toLocaleString("en")}</b></td>` +
          `<td><b>${total(clocks[name].ms).toFixed(1)}</b></td>`,
      )
      .join("")}</tr>`;
}
