"""The command line: what it prints, and that bad input is one line on stderr with exit code 2."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gtr_folder import VOCABULARY
from paths import ROOT

from glimmer_ref.cli import main
from glimmer_ref.inference.reader import bundled
from glimmer_ref.params.safetensors_io import map_tensors, write_tensors

QUESTION = "Who wrote The Crooked Sailor?"
MINI = bundled()
TIMES = (ROOT / "docs" / "commands.md").read_text("utf-8").split("\n## How long commands take\n")[1].split("\n## ")[0]
Run = Any


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command, on the reference backend unless it names one; returns exit code, stdout, stderr."""

    def call(*words: str) -> tuple[int, str, str]:
        reads = words[0] in ("ask", "evaluate", "trace") and "--ops" not in words
        code = main([*words, "--ops", "numpy"] if reads else words)
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The bundled model where a test may break it."""
    return Path(shutil.copytree(MINI, tmp_path / "model"))


def lines(path: Path, *rows: Any) -> str:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), "utf-8")
    return str(path)


def refused(result: tuple[int, str, str], said: str) -> None:
    code, out, err = result
    assert (code, out) == (2, "")
    assert err.startswith("glimmer-ref: error: ")
    assert err.count("\n") == 1
    assert said in err


def test_ask(run: Run) -> None:
    assert run("ask", QUESTION) == (0, "Jorian Nettleworth\n", "")


def test_ask_explain_fits_the_terminal(run: Run) -> None:
    code, out, _ = run("ask", QUESTION, "--explain")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    kept = [row for row in out.splitlines() if row.startswith("kept")]
    assert len(kept) == 5 and "test-1677" in kept[0]
    said = ("live-A", "score", "live-B", "share of fid", "lexical", "passages (encoded)", "were they stored", "other")
    for word in said:
        assert word in out


@pytest.mark.parametrize("system", ["glimmer", "lumen", "fid"])
def test_ask_json(run: Run, system: str) -> None:
    code, out, _ = run("ask", QUESTION, "--json", "--system", system, "--k", "6")
    data = json.loads(out)
    assert code == 0
    assert data["ids"] and data["answer"]
    assert len(data["passages"]) == 6
    kept = [p for p in data["passages"] if p["kept"]]
    assert len(kept) == (5 if system == "glimmer" else 6)
    assert all(isinstance(p["score"], float) == (system == "glimmer") for p in data["passages"])
    assert all(p["tokens"] > 0 for p in data["passages"]) and data["question_tokens"] > 0
    assert data["macs_done"] == data["macs"] and data["stored"] is False, "the reference, which has encoded them now"
    assert ("memory" in data["macs"]) == ("memory" in data["seconds"]) == (system != "fid")
    assert "" not in data["seconds"] and {"retrieval", "text", "other"} < set(data["seconds"])


def test_ask_plot(run: Run, tmp_path: Path) -> None:
    picture = tmp_path / "why.png"
    assert run("ask", QUESTION, "--plot", str(picture)) == (
        0,
        "Jorian Nettleworth\n",
        f"glimmer-ref: wrote {picture}\n",
    )
    assert picture.read_bytes()[:4] == b"\x89PNG"
    for name in ("why.xyz", "no/why.png"):  # refused before the work
        code, out, err = run("ask", QUESTION, "--plot", str(tmp_path / name))
        assert (code, out) == (2, "")
        assert name.split("/")[-1] in err and err.count("\n") == 1


def test_ask_names_unknown_words(run: Run) -> None:
    code, _, err = run("ask", "who wrote Xanadu ?")
    assert code == 0 and "Xanadu" in err


def test_memory_is_built_used_and_held_to_its_weights(run: Run, tmp_path: Path, copy: Path) -> None:
    some = (MINI / "passages.jsonl").read_text("utf-8").splitlines()[1660:1690]
    passages, folder = lines(tmp_path / "p.jsonl", *some), str(tmp_path / "memory")
    assert main(["memory", "build", passages, folder, "--ops", "numpy"]) == 0
    _, out, _ = run("memory", "info", folder, "--json", "--verify")
    assert json.loads(out[out.index("{") :])["passages"] == 30
    assert run("ask", QUESTION, "--memory", folder)[1] == "Jorian Nettleworth\n"
    assert run("memory", "build", passages, folder + "8", "--ops", "numpy", "--store", "int8")[0] == 0
    assert json.loads(run("memory", "info", folder + "8", "--json")[1])["dtype"] == "int8"
    _, out, _ = run("ask", QUESTION, "--memory", folder + "8", "--explain")
    assert out.startswith("Jorian Nettleworth\n") and "\nwaited for memory " in out
    assert "\npassages (stored) " in out and "Stored passages are in no sum." in out and "were they" not in out
    tensors: dict[str, Any] = {name: t.decode() for name, t in map_tensors(copy / "model.safetensors").items()}
    tensors["memory.layer_0.attention.q"] = tensors["memory.layer_0.attention.q"] * np.float32(1.001)
    write_tensors(copy / "model.safetensors", tensors)
    refused(run("ask", QUESTION, "--memory", folder, "--weights", str(copy)), "memory")
    refused(run("ask", QUESTION, "--memory", str(tmp_path / "nowhere")), "nowhere")


def test_evaluate(run: Run, tmp_path: Path) -> None:
    some = (MINI / "questions.jsonl").read_text("utf-8").splitlines()[::200]
    questions, kept = lines(tmp_path / "q.jsonl", *some), tmp_path / "kept"
    code, out, _ = run("evaluate", questions, "--json", "--out", str(kept), "--ops", "numba")
    data = json.loads(out)
    assert code == 0
    assert data["exact_match"] > 60 and data["recall_at_m"] > 60 and data["samples_per_tflop"] > 100
    assert {"exact_match", "recall_at_m", "questions"} <= set(data["tasks"]["nq-like"])
    assert (data["tasks"]["nq-like"]["measure"], data["tasks"]["trex-like"]["measure"]) == ("exact match", "accuracy")
    assert len((kept / "k25-m5.jsonl").read_text("utf-8").splitlines()) == 12
    assert max(map(len, run("evaluate", questions, "--ops", "numba")[1].splitlines())) <= 80


@pytest.mark.parametrize("system", ["glimmer", "lumen", "fid"])
def test_trace(run: Run, tmp_path: Path, system: str) -> None:
    inputs = tmp_path / "ids.json"
    out = str(tmp_path / "trace.safetensors")
    inputs.write_text(json.dumps({"question": [5, 9, 1], "passages": [[7, 8], [6], [11, 12, 13]], "target": [9, 1]}))
    options = ("--system", system, "--dtype", "float64", *(("--m", "2") if system == "glimmer" else ()))
    assert run("trace", "--inputs", str(inputs), "--out", out, *options)[0] == 0
    arrays = {name: t.raw for name, t in map_tensors(out).items()}
    assert arrays["decoder.logits"].shape == (2, VOCABULARY)
    if system == "glimmer":
        assert {"scores", "selected", "live_a.out", "live_b.out", "decoder.memory"} <= set(arrays)
        assert list(arrays["selected"]) == list(np.argsort(-arrays["scores"], kind="stable")[:2])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("{", "ids.json"),
        ({"question": [5], "passages": []}, "at least one"),
        ({"question": [], "passages": [[5]]}, "question"),
        ({"question": [5], "passages": [[5], []]}, "passages[1]"),
        ({"question": [5], "passages": [[99999]]}, "99999"),
        ({"question": [-1], "passages": [[5]]}, "-1"),
        ({"question": [5.5], "passages": [[5]]}, "question"),
        ({"question": [5], "passages": [[True]]}, "whole numbers"),
        ({"question": [5], "passages": [[5]], "answer": [5]}, "answer"),
        ([], "got []"),
    ],
)
def test_trace_refuses(run: Run, tmp_path: Path, data: Any, said: str) -> None:
    inputs = lines(tmp_path / "ids.json", data)
    refused(run("trace", "--inputs", inputs, "--out", str(tmp_path / "t.safetensors")), said)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (['{"text": "ok ."}', "{broken"], "line 2"),
        (['{"text": "ok ."}', '["no object"]'], "line 2"),
        (['{"text": "ok ."}', "", '{"title": "no text"}'], "line 3"),
        (['{"text": "  "}'], "line 1"),
        (['{"id": "a", "text": "x"}', '{"id": "a", "text": "y"}'], "line 2"),
        ([], "at least one passage"),
    ],
)
def test_broken_passages_are_named_by_line(run: Run, tmp_path: Path, rows: list[str], said: str) -> None:
    refused(run("ask", QUESTION, "--passages", lines(tmp_path / "p.jsonl", *rows)), said)


def test_passages_that_are_no_text_or_not_there(run: Run, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_bytes(b'{"text": "\xff\xfe"}\n')
    refused(run("ask", QUESTION, "--passages", str(tmp_path / "p.jsonl")), "line 1")
    refused(run("ask", QUESTION, "--passages", str(tmp_path / "none.jsonl")), "none.jsonl")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--m", "26"), "k=25, m=26"),
        (("--k", "3", "--m", "4"), "k=3, m=4"),
        (("--k", "0"), "k:"),
        (("--k", "100000"), "2000"),
        (("--system", "fid", "--m", "3"), "m:"),
        (("--weights", "/no/such/folder"), "/no/such/folder"),
    ],
)
def test_numbers_that_do_not_fit(run: Run, options: tuple[str, ...], said: str) -> None:
    refused(run("ask", QUESTION, *options), said)


@pytest.mark.parametrize("question", ["", "   "])
def test_an_empty_question(run: Run, question: str) -> None:
    refused(run("ask", question), "question")


def broken_config(folder: Path, change: Any) -> None:
    path = folder / "config.json"
    data = json.loads(path.read_text("utf-8"))
    change(data)
    path.write_text(json.dumps(data), "utf-8")


def broken_tensors(folder: Path, change: Any) -> None:
    tensors: dict[str, Any] = {n: t.decode() for n, t in map_tensors(folder / "model.safetensors").items()}
    change(tensors)
    write_tensors(folder / "model.safetensors", tensors)


BREAKS = {
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors"),
    "truncated weights": (lambda f: _truncate(f / "model.safetensors", 100_000), "model.safetensors"),
    "truncated header": (lambda f: _truncate(f / "model.safetensors", 100), "model.safetensors"),
    "empty weights": (lambda f: _truncate(f / "model.safetensors", 0), "model.safetensors"),
    "no config": (lambda f: (f / "config.json").unlink(), "config.json"),
    "config is no json": (lambda f: (f / "config.json").write_text("{"), "config.json"),
    "config is a list": (lambda f: (f / "config.json").write_text("[]"), "config.json"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json"),
    "broken tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json"),
    "another width": (lambda f: broken_config(f, lambda c: c.update(d_model=95)), "shape"),
    "layers that do not add up": (
        lambda f: broken_config(f, lambda c: c["glimmer"].update(num_live_layers=c["num_layers"])),
        "layers",
    ),
    "unknown key": (lambda f: broken_config(f, lambda c: c["glimmer"].update(gamma=1)), "gamma"),
    "trained as something else": (lambda f: broken_config(f, lambda c: c["glimmer"].update(trained_as="t5")), "fid"),
    "no heads": (lambda f: broken_config(f, lambda c: c.pop("num_heads")), "num_heads"),
    "text for a number": (lambda f: broken_config(f, lambda c: c.update(num_heads="3")), "num_heads"),
    "plain T5": (lambda f: broken_config(f, lambda c: c.pop("glimmer")), "convert"),
    "unknown tensor": (lambda f: broken_tensors(f, lambda t: t.update(extra=np.zeros(3, np.float32))), "extra"),
    "missing tensor": (lambda f: broken_tensors(f, lambda t: t.pop("score.weight")), "score.weight"),
    "wrong shape": (
        lambda f: broken_tensors(f, lambda t: t.update({"final_norm": np.ones(95, np.float32)})),
        "final_norm",
    ),
    "not finite": (lambda f: broken_tensors(f, lambda t: t["final_norm"].__setitem__(3, np.nan)), "final_norm"),
}


def _truncate(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize("name", sorted(BREAKS))
def test_a_broken_model_folder(run: Run, copy: Path, name: str) -> None:
    break_it, said = BREAKS[name]
    break_it(copy)
    refused(run("ask", QUESTION, "--weights", str(copy)), said)


LONG = {
    "memory build": "about two seconds on two idle cores",
    "index build": "less than a second",
    "train": "about an hour on two cores",
    "evaluate": "about ten seconds on two idle cores",
    "bench": "a few minutes",
    "world": "about 15 seconds on an idle core",
}


@pytest.mark.parametrize("name", LONG)
def test_the_help_of_a_long_command_says_how_long_it_takes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In the words of docs/commands.md."""
    with pytest.raises(SystemExit):
        main([*name.split(), "--help"])
    assert LONG[name] in " ".join(capsys.readouterr().out.split())
    assert f"`{name}" in TIMES and LONG[name] in TIMES


@pytest.mark.parametrize("command", ["ask", pytest.param("evaluate", marks=pytest.mark.slow)])
@pytest.mark.parametrize("system", ["glimmer", "lumen", "fid"])
def test_weights_of_another_system_are_noted(run: Run, tmp_path: Path, copy: Path, command: str, system: str) -> None:
    some = (MINI / "questions.jsonl").read_text("utf-8").splitlines()[:1]
    words = [QUESTION] if command == "ask" else [lines(tmp_path / "q.jsonl", *some)]
    said = f"glimmer-ref: note: the weights were trained as glimmer, so this does not show how good {system} is\n"
    code, _, err = run(command, *words, "--system", system, "--k", "6")
    assert (code, err) == (0, ""), "the bundled weights are for all systems"
    broken_config(copy, lambda c: c["glimmer"].update(trained_as="glimmer"))
    code, _, err = run(command, *words, "--system", system, "--k", "6", "--weights", str(copy))
    assert (code, err) == (0, "" if system == "glimmer" else said)
    broken_config(copy, lambda c: c["glimmer"].pop("trained_as"))
    code, _, err = run(command, *words, "--system", system, "--k", "6", "--weights", str(copy))
    assert (code, err) == (0, ""), "a folder that does not say it"
    broken_config(copy, lambda c: c["glimmer"].update(trained_as="all"))
    code, _, err = run(command, *words, "--system", system, "--k", "6", "--weights", str(copy))
    assert (code, err) == (0, ""), "weights for all systems"


def test_no_answer_is_told_from_an_answer(run: Run, copy: Path) -> None:
    """A model that has learnt to say no: its word for it comes with a note, and for machines with a flag."""
    said = "glimmer-ref: note: the model found the answer in none of the passages\n"
    _, answer, _ = run("ask", QUESTION)
    for no_answer, answered in (("", True), ("unanswerable", True), (answer.strip(), False)):
        broken_config(copy, lambda c, word=no_answer: c["glimmer"].update(no_answer=word))
        code, out, err = run("ask", QUESTION, "--weights", str(copy), "--json")
        assert (code, err) == (0, "" if answered else said)
        assert (json.loads(out)["answer"], json.loads(out)["answered"]) == (answer.strip(), answered)


def test_as_a_program(tmp_path: Path) -> None:
    """From another folder, through the installed entry point's module, with a pipe that closes early."""
    done = subprocess.run(
        [sys.executable, "-m", "glimmer_ref", "ask", QUESTION, "--ops", "numpy"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "Jorian Nettleworth\n", "")
    done = subprocess.run([sys.executable, "-m", "glimmer_ref", "ask"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
