"""The page of the bundled model: it answers, ranks and scores as Python does, and its controls do what they say."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from javascript import LIVE, NODE, needs_node

from glimmer_ref.config import GlimmerConfig
from glimmer_ref.data.inputs import Question, read_passages, read_questions
from glimmer_ref.inference.reader import Reader, bundled
from glimmer_ref.live import page
from glimmer_ref.params.checkpoint import load
from glimmer_ref.params.model import map_named
from glimmer_ref.ragged import bfloat16
from glimmer_ref.retrieval.bm25 import BM25
from glimmer_ref.text.tokenizer import Tokenizer
from glimmer_ref.world.name_substitution import name_substituter

pytestmark = pytest.mark.once
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, to open the page")
QUIET = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync", "--dump-dom"]
MOST_BYTES = 6_000_000

# In the page and in node: what `reader` says to some questions. `source` holds the bundled passages.
ANSWERS = """
const said = asked.map(({text, system, k, m}) => {
  const a = reader.ask(text, source, {system, k, m});
  return {ids: a.ids, text: a.text, log_p: a.log_probability, selected: a.selected, rows: a.rows, macs: a.clock.macs,
    scores: a.scores && [...a.scores], shares: a.steps.map(step => step.shares), unknown: a.reading.unknown,
    substituted: [...a.reading.substituted]};
});
"""
IN_NODE = """
import {readFileSync} from "node:fs";
import {Reader, Source} from "FOLDER/reader.js";
import {read_tensors} from "FOLDER/safetensors.js";
const {data, weights, asked} = JSON.parse(readFileSync(0, "utf8"));
const reader = new Reader(data, read_tensors(new Uint8Array(Buffer.from(weights, "base64"))));
const source = new Source(data.passages);
ANSWERS
process.stdout.write(JSON.stringify(said));
"""


@cache
def document() -> str:
    return page.page()


@cache
def python_reader() -> Reader:
    """The bundled model with weights rounded to bfloat16, as in the page, in float32."""
    folder = bundled()
    model = map_named(lambda _, x: (bfloat16(x).astype(np.uint32) << 16).view(np.float32), load(folder))
    tokenizer = Tokenizer(folder / "tokenizer.json")
    return Reader(model, tokenizer, adapter=name_substituter(folder, tokenizer))


@cache
def corpus() -> Any:
    passages = list(read_passages(bundled() / "passages.jsonl"))
    return passages, BM25(passages), python_reader().memorize(passages)


@cache
def questions() -> dict[str, list[Question]]:
    """The bundled questions by task."""
    found: dict[str, list[Question]] = {}
    for question in read_questions(bundled() / "questions.jsonl"):
        found.setdefault(question.task, []).append(question)
    return found


def asked_of(text: str, system: str = "glimmer", k: int = 25, m: int = 5) -> dict[str, Any]:
    return {"text": text, "system": system, "k": k, "m": m}


def sample(every: int = 150) -> list[dict[str, Any]]:
    """Some questions of each kind, other k and m, the other systems, and words that are not in the vocabulary."""
    some = [asked_of(q.text) for task in questions().values() for q in task[3::every]]
    texts = [task[7].text for task in questions().values()]
    some += [asked_of(text, system) for text in texts[:2] for system in ("lumen", "fid")]
    some += [asked_of(texts[0], k=10, m=1), asked_of(texts[2], k=40, m=40), asked_of(texts[3], k=3, m=2)]
    return [*some, asked_of("Who employed Zaphod Umberby?"), asked_of("where blorp Yarosta?")]


def check(asked: list[dict[str, Any]], said: list[dict[str, Any]]) -> None:
    """Compares what JavaScript said with what Python says."""
    reader, (passages, index, memory) = python_reader(), corpus()
    for one, mine in zip(asked, said, strict=True):
        rows = index.rank(one["text"], one["k"])
        assert mine["rows"] == rows.tolist(), one
        m = one["m"] if one["system"] == "glimmer" else None
        known = passages if one["system"] == "fid" else memory
        (answer,) = reader.ask_many([one["text"]], known, [rows], one["system"], m, attention=True)
        assert (mine["ids"], mine["selected"]) == (answer.ids, answer.selected), one
        assert mine["text"] == answer.text, one
        assert mine["log_p"] == pytest.approx(answer.log_probability, abs=1e-3)
        assert mine["unknown"] == answer.unknown
        assert mine["substituted"] == [list(item) for item in answer.substituted.items()]
        if answer.scores is not None:
            assert np.abs(np.array(mine["scores"]) - answer.scores).max() < 1e-3
        assert answer.attention is not None
        assert np.abs(np.array(mine["shares"]) - answer.attention).max() < 1e-4
        whole: dict[str, int] = {}
        for name, macs in answer.macs.items():
            if (stage := name.split(".")[0]) != "memory":
                whole[stage] = whole.get(stage, 0) + macs
        assert mine["macs"] == whole, one


def browse(tmp_path: Path, script: str, width: int = 1280, fragment: str = "", limit: int = 120) -> Any:
    """The value that a script in the page assigns to `result`.

    The page is in a frame, since a window cannot be so narrow as a telephone. The frame sends the value to its parent.
    """
    program = "{let result; const $ = id => document.getElementById(id); SCRIPT; parent.postMessage(result, '*');}"
    script = f"<script>{program.replace('SCRIPT', script)}</script></body>"
    (tmp_path / "page.html").write_text(document().replace("</body>", script), encoding="utf-8")
    frame = (
        "<pre id=result></pre><script>addEventListener('message', event => "
        "{document.getElementById('result').textContent = JSON.stringify(event.data);});</script>"
        f'<iframe style="width:{width}px; height:900px; border:0" src="page.html{html.escape(fragment)}"></iframe>'
    )
    (tmp_path / "frame.html").write_text(frame, encoding="utf-8")
    assert CHROMIUM
    words = [CHROMIUM, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,1000"]
    url = (tmp_path / "frame.html").as_uri()
    done = subprocess.run([*words, url], capture_output=True, text=True, timeout=limit)
    found = re.search(r'<pre id="result">(.+?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    return json.loads(html.unescape(found.group(1)))


def in_page(tmp_path: Path, asked: list[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    begin = f"const {{reader, corpus: source}} = explore_js, asked = {json.dumps(asked)};"
    return browse(tmp_path, f"{begin} {ANSWERS} result = said", limit=limit)  # type: ignore[no-any-return]


def test_the_page_is_one_small_file_that_loads_nothing(run: Any, tmp_path: Path) -> None:
    out = tmp_path / "explore.html"
    code, said, _ = run("explore", out)
    text = out.read_text(encoding="utf-8")
    assert code == 0
    assert said == f"{out}: {len(text.encode()):,} bytes; open it in a browser\n"
    assert json.loads(run("explore", out, "--json")[1]) == {"file": str(out), "bytes": len(text.encode())}
    assert len(text.encode()) < MOST_BYTES
    assert text == document()
    assert re.findall(r"https?:|<link|@import|\bimport\b.*from|\bfetch\(|\bsrc=", text) == []


def test_every_module_is_bundled_after_those_that_it_imports() -> None:
    for i, name in enumerate(page.MODULES):
        source = (LIVE / f"{name}.js").read_text(encoding="utf-8")
        assert set(re.findall(r'from "\./(\w+)\.js"', source)) <= set(page.MODULES[:i])
    scripts = {path.stem for path in LIVE.glob("*.js")}
    assert scripts - set(page.MODULES) == {"mistakes", "run_case"}


@needs_node
@pytest.mark.parametrize("every", [400, pytest.param(150, marks=pytest.mark.slow)])
def test_in_node_answers_selections_and_scores_are_those_of_python(every: int) -> None:
    asked = sample(every)
    given = {"data": page.data(bundled()), "asked": asked}
    weights = re.search(r'id="weights">([^<]+)<', document())
    assert weights
    program = IN_NODE.replace("FOLDER", LIVE.as_uri()).replace("ANSWERS", ANSWERS)
    done = subprocess.run(
        [str(NODE), "--input-type=module", "-e", program],
        input=json.dumps({**given, "weights": weights[1]}).encode(),
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    check(asked, json.loads(done.stdout))


@needs_chromium
def test_in_the_page_answers_selections_and_scores_are_those_of_python(tmp_path: Path) -> None:
    some = sample()[::3]
    check(some, in_page(tmp_path, some, limit=240))


TASKS = [f"{name}-like" for name in ("nq", "tqa", "hotpot", "fever", "zsre", "trex")]


@needs_chromium
@pytest.mark.slow
def test_in_the_page_questions_of_every_task_are_answered_as_by_python(tmp_path: Path) -> None:
    some = [asked_of(q.text) for task in TASKS for q in questions()[task][::10]]
    check(some, in_page(tmp_path, some, limit=1200))


@needs_chromium
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("task", TASKS)
def test_in_the_page_all_bundled_questions_are_answered_as_by_python(tmp_path: Path, task: str) -> None:
    some = [asked_of(q.text) for q in questions()[task]]
    check(some, in_page(tmp_path, some, limit=1200))


CONTROLS = """
const at = id => $(id), send = (id, type, more = {}) => at(id).dispatchEvent(new (more.key ? KeyboardEvent
  : more.clientX === undefined ? Event : PointerEvent)(type, {bubbles: true, ...more}));
const seen = () => ({m: at("m_text").value, k: at("k_text").value, line: at("line")?.getAttribute("aria-valuenow"),
  dropped: at("ranked").querySelectorAll(".dropped").length, rows: at("ranked").children.length,
  answer: at("answer").querySelector("strong")?.textContent, said: at("answer").textContent,
  hash: location.hash, token: [...at("pair").children].findIndex(b => b.classList.contains("now")),
  tabs: at("pair").querySelectorAll("[tabindex='0']").length,
  tour: at("tour").hidden ? "" : at("tour_text").textContent,
  lit: [...document.querySelectorAll(".lit")].map(x => x.id), steps: at("decoder").children.length,
  scroll: document.documentElement.scrollWidth, room: innerWidth, title: at("live_a_title").textContent});
result = {opened: seen()};
at("stop").click();
at("m").value = 1; send("m", "input"); result.m_1 = seen();
send("line", "keydown", {key: "ArrowRight"}); result.key = seen();
send("line", "pointerdown", {clientX: 1});
const box = at("scores").getBoundingClientRect(), {left, step} = at("scores").dataset;
dispatchEvent(new PointerEvent("pointermove", {clientX: box.left + Number(left) + 6.2 * step}));
dispatchEvent(new PointerEvent("pointerup", {})); result.dragged = seen();
dispatchEvent(new PointerEvent("pointermove", {clientX: 0})); result.released = seen();
at("pair").children[2].focus(); result.focused = seen();
at("pair").children[2].dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight", bubbles: true}));
result.arrow = seen();
document.querySelector("[value=lumen]").click(); result.lumen = seen();
document.querySelector("[value=fid]").click(); result.fid = seen();
document.querySelector("[value=glimmer]").click();
at("example").click(); result.own = seen();
at("own").value = "<img src=x id=evil>: The <b id=evil>town</b> &amp; more."; at("text").value = "Who is <i id=evil>?";
at("form").requestSubmit(); result.hostile = {...seen(), evil: document.querySelectorAll("#evil").length};
at("text").value = " "; at("form").requestSubmit(); result.empty = {said: at("answer").textContent};
at("own").value = ""; at("text").value = "Who employed Yarosta Umberby?"; at("form").requestSubmit();
at("after").click(); result.next = seen();
at("start").click(); result.tour = [seen()];
for (let i = 0; i < 12; i++) { at("next").click(); result.tour.push(seen()); }
"""


@needs_chromium
@pytest.mark.parametrize("width", [400, pytest.param(1280, marks=pytest.mark.slow)])
def test_the_controls_the_keys_and_the_tour(tmp_path: Path, width: int) -> None:
    got = browse(tmp_path, CONTROLS, width, "#m=3&tour=6&token=2&k=12", limit=240)
    opened = got["opened"]
    assert (opened["m"], opened["k"], opened["line"], opened["token"]) == ("3", "12", "3", 2)
    assert opened["tour"].startswith("7 of 11") and opened["lit"] == ["s_scores"]
    assert opened["answer"] == "Mottow Brothers" and "This is right." in opened["said"]
    for name, m in (("m_1", 1), ("key", 2), ("dragged", 6), ("released", 6)):
        assert (got[name]["line"], got[name]["m"]) == (str(m), str(m)), name
        assert (got[name]["rows"], got[name]["dropped"]) == (12, 12 - m)
        assert f"m={m}" in got[name]["hash"]
    assert (got["focused"]["token"], got["arrow"]["token"]) == (2, 3)
    assert all(got[name]["tabs"] == 1 for name in ("opened", "focused", "arrow"))
    assert [got[name]["dropped"] for name in ("lumen", "fid")] == [0, 0]
    assert (got["lumen"]["m"], got["lumen"].get("line")) == ("all", None)
    own = got["own"]
    assert own["answer"] == "Betelgeuse" and own["rows"] == 2
    names = "Zaphod, Beeblebrox, Betelgeuse, Gargle, Tricia, McMillan"
    assert f"others replace them: {names}." in own["said"]
    assert got["hostile"]["evil"] == 0 and "cannot tell them apart" in got["hostile"]["said"]
    assert got["empty"]["said"] == "question: expected some text; got none"
    assert got["next"]["answer"] == "weasel"
    steps = [seen["tour"].split(" ")[0] for seen in got["tour"]]
    assert steps == [*map(str, range(1, 12)), "11", "11"]
    assert all(len(seen["lit"]) == 1 for seen in got["tour"])
    widest = max(seen["scroll"] - seen["room"] for seen in [*got["tour"], opened, own, got["fid"], got["hostile"]])
    assert widest <= 0
    assert opened["room"] == width


def test_the_first_question_is_one_of_the_bundled_ones() -> None:
    assert page.FIRST in {q.text for task in questions().values() for q in task}
    config = json.loads((bundled() / "config.json").read_text())
    assert GlimmerConfig.from_json(config).question_prefixes == ()  # reader.js adds none
