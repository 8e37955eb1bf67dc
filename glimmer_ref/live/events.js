// The page's controls, and what each does.

import {another, ask, build, choose_token, current, draw, go, k_now, m_now, open, update, within} from "./explore.js";
import {$, NAMES} from "./views.js";

const KINDS = {
  "nq-like": "one fact",
  "tqa-like": "two clues",
  "hotpot-like": "two passages",
  "fever-like": "true or false",
  "zsre-like": "an entity and a relation",
  "trex-like": "an entity and an inverse relation",
};
const EXAMPLE = {
  text: "Where was Zaphod Beeblebrox born?",
  own:
    "Zaphod Beeblebrox: Zaphod Beeblebrox was born in Betelgeuse. He plays the banjo.\n" +
    "Betelgeuse: Betelgeuse stands on the Gargle River. It is governed by Tricia McMillan.",
};

/** Moves the line for m to where a pointer is. */
function drag(event) {
  const {left, step, k} = $("scores").dataset,
    x = event.clientX - $("scores").getBoundingClientRect().left;
  const m = within(Math.round((x - left) / step), 1, Number(k));
  if (m !== m_now()) update({m});
}

/** The change of a number by a key: arrows, Home and End. */
function moved(event, x, low, high) {
  const to = {ArrowLeft: x - 1, ArrowDown: x - 1, ArrowRight: x + 1, ArrowUp: x + 1, Home: low, End: high}[event.key];
  if (to === undefined) return null;
  event.preventDefault();
  return within(to, low, high);
}

/** Fills the menus, listens, and opens the state of the address. */
export function start() {
  $("kind").innerHTML = Object.entries(KINDS)
    .map(([kind, title]) => `<option value="${kind}">${title}</option>`)
    .join("");
  $("system").insertAdjacentHTML(
    "beforeend",
    Object.entries(NAMES)
      .map(([system, name]) => `<label><input type="radio" name="system" value="${system}">${name}</label>`)
      .join(""),
  );
  $("form").addEventListener("submit", event => {
    event.preventDefault();
    ask($("text").value.trim(), $("own").value.trim());
  });
  $("text").addEventListener("keydown", event => {
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    $("form").requestSubmit();
  });
  $("kind").addEventListener("change", () => another(0));
  $("before").addEventListener("click", () => another(-1));
  $("after").addEventListener("click", () => another(1));
  $("example").addEventListener("click", () => ask(EXAMPLE.text, EXAMPLE.own));
  $("system").addEventListener("change", event => update({system: event.target.value, layer: 1}));
  for (const id of ["k", "m"]) $(id).addEventListener("input", () => update({[id]: Number($(id).value)}));
  for (const id of ["passage", "layer", "head"])
    $(id).addEventListener("change", () =>
      update({[id]: Number($(id).value), ...(id === "passage" ? {token: 0} : {})}),
    );
  for (const id of ["retrieval", "ranked"])
    $(id).addEventListener("click", event => {
      const button = event.target.closest("[data-passage]");
      if (!button) return;
      const {scrollTop} = $(id);
      update({passage: Number(button.dataset.passage), token: 0});
      $(id).scrollTop = scrollTop;
      $(id).querySelector("[aria-pressed=true]").focus({preventScroll: true});
    });
  for (const name of ["mouseover", "focusin", "click"])
    $("pair").addEventListener(name, event => {
      const button = event.target.closest("[data-token]");
      if (button && Number(button.dataset.token) !== current().token) choose_token(Number(button.dataset.token));
    });
  $("pair").addEventListener("keydown", event => {
    const token = moved(event, current().token, 0, $("pair").children.length - 1);
    if (token !== null) $("pair").children[token].focus();
  });
  $("decoder").addEventListener("click", event => {
    const button = event.target.closest("[data-step]");
    if (!button) return;
    update({step: Number(button.dataset.step)});
    $("decoder").querySelector("[aria-pressed=true]").focus();
  });
  $("scores").addEventListener("pointerdown", event => {
    if (!event.target.closest("#line")) return;
    event.preventDefault();
    const end = () => {
      removeEventListener("pointermove", drag);
      removeEventListener("pointerup", end);
    };
    addEventListener("pointermove", drag);
    addEventListener("pointerup", end);
  });
  $("scores").addEventListener("keydown", event => {
    const m = event.target.closest("#line") && moved(event, m_now(), 1, k_now());
    if (m) {
      update({m});
      $("line").focus();
    }
  });
  $("start").addEventListener("click", () => {
    go(0);
    $("next").focus({preventScroll: true});
  });
  $("stop").addEventListener("click", () => {
    go(-1);
    $("start").focus();
  });
  $("back").addEventListener("click", () => go(current().tour - 1));
  $("next").addEventListener("click", () => go(current().tour + 1));
  addEventListener("keydown", event => {
    const {tour} = current(),
      elsewhere = event.target.closest?.("input, textarea, select, #pair, #line");
    if (tour < 0 || elsewhere) return;
    if (event.key === "ArrowRight") go(tour + 1);
    if (event.key === "ArrowLeft" && tour > 0) go(tour - 1);
    if (event.key === "Escape") go(-1);
  });
  addEventListener("hashchange", open);
  addEventListener("resize", () => current().answered && draw());
  open();
  build();
}
