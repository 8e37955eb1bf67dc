// The page: what is asked and shown is one state, which the fragment of the address holds too.

import {words} from "./bm25.js";
import {Reader, Source} from "./reader.js";
import {read_tensors} from "./safetensors.js";
import {TOUR} from "./tour.js";
import {$, NAMES, draw_attention, draw_memory, draw_pair, draw_question, draw_retrieval} from "./views.js";
import {escaped, fixed, pair_layers} from "./views.js";
import {draw_cost, draw_decoder, draw_live_b, draw_scores} from "./charts.js";

const CHUNK = 12; // passages that are encoded at a time while the page is idle, in some 20 ms
const DATA = JSON.parse($("data").textContent);
const BYTES = Uint8Array.from(atob($("weights").textContent), c => c.charCodeAt(0));
export const reader = new Reader(DATA, read_tensors(BYTES));
export const corpus = new Source(DATA.passages);
const CONFIG = DATA.config.glimmer,
  HEADS = DATA.config.num_heads;
const FIRST = {
  text: DATA.first,
  own: "",
  system: "glimmer",
  k: CONFIG.k,
  m: CONFIG.m,
  passage: -1,
  layer: 1,
  head: 0,
  token: 0,
  step: 0,
  tour: -1,
}; // passage -1: the first that the decoder reads

let state = {...FIRST},
  source = corpus,
  begun = null,
  answer = null,
  clocks = {},
  previous = null,
  others = 0,
  built = "";

/** The bundled question with the text of the state, if there is one. It has answers and needed passages. */
const bundled = () => (state.own ? undefined : DATA.questions.find(question => question.text === state.text));

// The state and the fragment -----------------------------------------------------------------------------------------

const changed = () => Object.entries(state).filter(([key, value]) => value !== FIRST[key]);
const fragment = (more = {}) => `#${new URLSearchParams(Object.entries({...Object.fromEntries(changed()), ...more}))}`;

/** The state that a fragment describes. Words and numbers that are not possible are left out. */
function from_fragment() {
  const given = {...FIRST};
  for (const [key, value] of new URLSearchParams(location.hash.slice(1))) {
    if (typeof FIRST[key] === "number" && /^-?\d{1,4}$/.test(value)) given[key] = Number(value);
    else if (key === "system" ? value in NAMES : typeof FIRST[key] === "string") given[key] = value;
  }
  return given;
}

/** Passages of one's own: one a line, with a title before a colon. */
function own_passages(text) {
  return text
    .split("\n")
    .filter(line => line.trim())
    .map((line, i) => {
      const [, title, rest] = /^(?:([^:]{1,80}):\s+)?(.*)$/.exec(line.trim());
      return {id: `own-${i + 1}`, title: title ?? "", text: rest};
    });
}

export const within = (x, low, high) => Math.min(Math.max(x, low), high);
export const k_now = () => within(state.k, 1, Math.min(50, source.passages.length)); // state.k and state.m are wishes
export const m_now = () => within(state.m, 1, k_now());

/** Goes to another state: computes what depends on the changes, and draws. */
export function update(changes) {
  const before = state;
  state = {...state, ...changes};
  const differs = (...keys) => begun === null || keys.some(key => state[key] !== before[key]);
  try {
    if (differs("own")) source = state.own.trim() ? new Source(own_passages(state.own)) : corpus;
    const asks = differs("text", "own", "system", "k");
    if (asks) {
      begun = null;
      begun = reader.begin(state.text, source, {system: state.system, k: k_now()});
    }
    if (asks || answer === null || differs("m")) {
      if (answer) previous = {text: answer.text, question: answer.question, setting: setting_of(answer)};
      answer = reader.finish(begun, state.system === "glimmer" ? m_now() : null);
      if (asks && differs("text", "own", "k")) clocks = {};
      if (differs("m")) delete clocks.glimmer;
      measured(state.system, answer.clock);
      measure_others();
    }
    document.body.classList.remove("stale");
    draw();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    begun = null;
    document.body.classList.add("stale"); // the stages still show the question before
    controls();
    $("answer").innerHTML = `<p class="alert" role="alert">${escaped(error.message)}</p>`;
  }
  history.replaceState(null, "", changed().length ? fragment() : "#");
}

const setting_of = ({system, passages, selected}) =>
  `${NAMES[system]}, k = ${passages.length}${system === "glimmer" ? `, m = ${selected.length}` : ""}`;

/** Keeps the faster of two runs of a system: the first one is slow, as the browser still compiles it. */
function measured(system, clock) {
  const {best, runs} = clocks[system] ?? {best: clock, runs: 0};
  clocks[system] = {best: clock.total() < best.total() ? clock : best, runs: runs + 1};
}

/** Asks each system the same until it has run twice, once the user rests. */
function measure_others() {
  clearTimeout(others);
  const system = Object.keys(NAMES).find(name => (clocks[name]?.runs ?? 0) < 2);
  if (!system) return;
  others = setTimeout(() => {
    measured(
      system,
      reader.ask(state.text, source, {system, k: k_now(), m: system === "glimmer" ? m_now() : null}).clock,
    );
    draw_cost(clocks, m_now());
    measure_others();
  }, 500);
}

/** Encodes the passages of the model's world while the page is idle. */
export function build(limit = CHUNK) {
  const began = performance.now(),
    ids = (build.ids ??= DATA.passages.map(passage => reader.passage_ids(reader.tokenizer, passage)));
  const encoded = reader.memorize(corpus, ids, limit);
  build.ms = (build.ms ?? 0) + performance.now() - began;
  if (encoded) {
    const left = ids.length - corpus.memory.size;
    built = "This page is encoding its passages since it was opened.";
    setTimeout(build, 15);
    if (left > limit) return;
  }
  built = `This page encoded its passages when it was opened, in ${(build.ms / 1000).toFixed(1)} s of work.`;
  if (answer) draw_memory(answer, source, DATA.config.d_model, source === corpus ? built : "");
}

// Drawing ------------------------------------------------------------------------------------------------------------

function controls() {
  const most = Math.min(50, source.passages.length),
    question = bundled();
  Object.assign($("k"), {max: most, value: k_now()});
  Object.assign($("m"), {max: k_now(), value: m_now(), disabled: state.system !== "glimmer"});
  $("k_text").value = k_now();
  $("m_text").value = state.system === "glimmer" ? m_now() : "all";
  if ($("text").value !== state.text) $("text").value = state.text;
  if ($("own").value !== state.own) $("own").value = state.own;
  if (state.own) $("own_part").open = true;
  if (question) $("kind").value = question.task;
  $("before").disabled = $("after").disabled = Boolean(state.own);
  document.querySelector(`[name=system][value=${state.system}]`).checked = true;
}

/** The answer with what `glimmer-ref ask` says about it. */
function draw_answer() {
  const question = bundled(),
    {substituted, unknown} = answer.reading,
    notes = [];
  if (substituted.size)
    notes.push(
      `The vocabulary does not contain these names, so others replace them: ${[...substituted.keys()].join(", ")}.`,
    );
  if (unknown.length)
    notes.push(
      `The vocabulary does not contain these words, so the model cannot tell them apart: ${unknown.join(", ")}.`,
    );
  if (CONFIG.no_answer && answer.text === CONFIG.no_answer)
    notes.push("The model found the answer in none of the passages.");
  if (answer.undecided)
    notes.push(`All ${answer.passages.length} passages have the same score: the order of retrieval decided.`);
  const found = new Set(answer.passages.map(({id}) => id));
  if (question?.gold.some(id => !found.has(id)))
    notes.push("The index did not find every passage that is needed, so the model cannot know the answer.");
  const trained = CONFIG.trained_as ?? "all";
  if (trained !== "all" && trained !== state.system)
    notes.push(`The weights were trained as ${NAMES[trained]}'s, not as ${NAMES[state.system]}'s.`);
  const right = question && question.answers.includes(answer.text),
    expected = question && question.answers.join(" or ");
  const verdict = question
    ? right
      ? "This is right."
      : `This is wrong: right is ${expected}.`
    : "Nobody has checked this answer.";
  const same = previous && previous.question === answer.question && previous.setting !== setting_of(answer);
  const change = !same
    ? ""
    : previous.text === answer.text
      ? `Unchanged from ${previous.setting}.`
      : `It was “${previous.text}” with ${previous.setting}.`;
  $("answer").innerHTML =
    `<strong>${escaped(answer.text) || "(no word)"}</strong><p>log p ${fixed(answer.log_probability, 3)}; ` +
    `${setting_of(answer)}; ${answer.clock.total().toFixed(0)} ms</p>` +
    `<p class="${question && !right ? "alert" : ""}">${escaped(verdict)} ${escaped(change)}</p>` +
    notes.map(note => `<p>${escaped(note)}</p>`).join("");
}

/** The state with a passage, a layer, a head, a token and a step that the answer has. */
function view() {
  const passage = state.passage < 0 ? answer.selected[0] : within(state.passage, 0, k_now() - 1);
  const tokens = answer.question_ids.length + answer.passage_ids[passage].length;
  return {
    passage,
    layer: within(state.layer, 0, pair_layers(answer).length - 1),
    head: within(state.head, 0, HEADS),
    token: within(state.token, 0, tokens - 1),
    step: within(state.step, 0, answer.steps.length - 1),
  };
}

/** Fills all stages. */
export function draw() {
  const gold = new Set(bundled()?.gold),
    shown = view();
  controls();
  draw_answer();
  draw_question(answer);
  draw_retrieval(answer, shown, source, gold, words);
  draw_memory(answer, source, DATA.config.d_model, source === corpus ? built : "");
  draw_pair(answer, shown, HEADS);
  draw_attention(answer, shown);
  draw_scores(answer, shown, gold);
  draw_live_b(answer);
  draw_decoder(answer, shown);
  draw_cost(clocks, m_now());
  draw_tour();
}

function draw_tour(scroll = false) {
  const step = TOUR[state.tour];
  $("tour").hidden = !step;
  document.body.classList.toggle("touring", Boolean(step));
  for (const section of document.querySelectorAll("section")) section.classList.remove("lit");
  if (!step) return;
  const target = step.stage === "answer" ? document.querySelector(".side") : $(`s_${step.stage}`);
  target.classList.add("lit");
  $("tour_text").innerHTML =
    `${state.tour + 1} of ${TOUR.length} <span class="symbol">${escaped(step.symbol)}</span> ${escaped(step.says)}`;
  $("back").disabled = state.tour === 0;
  $("next").disabled = state.tour === TOUR.length - 1;
  $("link").href = fragment();
  if (!scroll) return;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  (step.stage === "answer" ? $("answer") : target).scrollIntoView({behavior: calm ? "auto" : "smooth", block: "start"});
}

/** Goes to a step of the tour; -1 ends it. */
export function go(step) {
  state.tour = within(step, -1, TOUR.length - 1);
  draw_tour(true);
  history.replaceState(null, "", fragment());
}

// What the controls do ------------------------------------------------------------------------------------------------

/** Goes to another bundled question of the chosen kind, `by` places further. */
export function another(by) {
  const some = DATA.questions.filter(question => question.task === $("kind").value);
  const at = some.findIndex(question => question.text === state.text);
  ask(some[(at < 0 ? 0 : at + by + some.length) % some.length].text, "");
}

/** Asks a question, about passages of one's own unless `own` is empty. */
export function ask(text, own = state.own) {
  previous = null;
  update({text, own, passage: -1, token: 0, step: 0});
}

/** Shows where another token of the pair looks. */
export function choose_token(token) {
  state.token = within(token, 0, $("pair").children.length - 1);
  draw_attention(answer, view());
  history.replaceState(null, "", fragment());
}

/** The state as it is, and whether there is an answer to draw. */
export const current = () => ({...state, answered: answer !== null});

/** Goes to the state of the address's fragment. */
export function open() {
  begun = previous = null;
  update(from_fragment());
  draw_tour(true);
}
