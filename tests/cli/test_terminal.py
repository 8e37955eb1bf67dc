"""What people read: nothing that a terminal obeys, nothing that a stream cannot take, each line on its own stream."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glimmer_ref import tables, terminal
from glimmer_ref.cli import COMMANDS, main
from glimmer_ref.disk.write import write_text
from glimmer_ref.errors import InputError
from glimmer_ref.inference import reader
from glimmer_ref.params.safetensors_io import map_tensors, write_tensors

PACKAGE = Path(terminal.__file__).parent
EVIL = "a\x1b[31m\x07\0\u202e\x9bb"
QUESTION = "Who wrote Zoë?"


class Ascii(io.TextIOWrapper):
    """A strict stream of ASCII."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), "ascii", newline="")

    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode()  # type: ignore[attr-defined]


@pytest.fixture
def facts(tmp_path: Path) -> str:
    """Passages whose titles and ids a terminal would obey."""
    rows = [
        {"id": EVIL, "title": "Zoë\n" + EVIL, "text": "Zoë was written by Jorian Nettleworth."},
        {"id": "b\nkept", "title": "", "text": "A sailor."},
    ]
    write_text(tmp_path / "facts.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / "facts.jsonl")


def test_lines_are_escaped_and_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = Ascii(), Ascii()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    terminal.say("Zoë", f"{EVIL}\n{EVIL}")
    terminal.note("\ud800")
    assert out.text().splitlines() == [r"Zo\xeb", r"a\x1b[31m\x07\x00\u202e\x9bb\na\x1b[31m\x07\x00\u202e\x9bb"]
    assert err.text() == "\\ud800\n"
    assert tables.text([["a\n\x1bb"]], ["x"]) == ["x       ", r"a\n\x1bb"]


@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "latin-1"])
def test_json_stays_json(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding))
    data = {"title": f"Zoë 東京 {EVIL}\n\ud800", "score": np.float32(0.5), "ids": np.arange(2)}
    terminal.say_json(data)
    text = raw.getvalue().decode()
    assert json.loads(text) == {"title": f"Zoë 東京 {EVIL}\n\ud800", "score": 0.5, "ids": [0, 1]}
    assert text.replace("\n", "").isprintable()
    assert ("Zoë" in text) == (encoding == "utf-8")
    for wrong in (np.nan, np.float64(np.inf)):
        with pytest.raises(InputError, match="NaN"):
            terminal.say_json({"x": wrong})


def test_a_row_is_a_line() -> None:
    assert tables.csv([{"a": "x\ny\x1b,", "b": 1}]) == ["a,b", '"x\\ny\\x1b,",1']
    assert tables.markdown([["x\n|", ""]], ["a", "b"]) == ["| a | b |", "|---|---|", "| x\\n\\| | |"]


def test_nothing_prints_past_it() -> None:
    """Only files that can be run alone print by themselves, and the worker's protocol."""
    alone = {"terminal.py", "golden/check.py", "golden/template.py", "bench/process.py"}
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).as_posix() not in alone:
            assert " print(" not in path.read_text("utf-8"), path
            assert "sys.stdout" not in path.read_text("utf-8"), path


@pytest.mark.parametrize("more", [(), ("--explain",), ("--json",)])
def test_names_of_others_do_not_reach_a_terminal(run: Any, facts: str, more: tuple[str, ...]) -> None:
    code, out, err = run("ask", QUESTION, "--passages", facts, "--ops", "numpy", *more)
    assert code == 0
    assert (out + err).replace("\n", "").isprintable()
    if "--json" in more:
        assert json.loads(out)["passages"][0]["id"] == EVIL
    elif more:
        assert sum(line.startswith(("kept", "dropped")) for line in out.splitlines()) == 2


def test_usage_errors_are_a_line_with_what_was_typed_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    typed = (["ask", "x", EVIL], [EVIL], ["memory", EVIL], ["ask", "--ops", EVIL], ["ask", "--k", "\x1b[31m"], [])
    for words in (*typed, ["trace"]):
        with pytest.raises(SystemExit, match="2"):
            main(words)
        usage, *more, line = capsys.readouterr().err.splitlines()
        assert line.isprintable() and line.startswith("glimmer-ref") and "error: " in line
        assert usage.startswith("usage: glimmer-ref") and all(text.isprintable() for text in more)


@pytest.mark.parametrize(
    ("words", "usage", "said"),
    [
        (["flops", "latency", "--pirce-per-hour", "3"], "glimmer-ref flops latency", "did you mean --price-per-hour?"),
        (["flops", "--sise=xl"], "glimmer-ref flops", "unknown: --sise=xl; did you mean --size?"),
        (["flops", "serv"], "glimmer-ref flops", "'serv'; did you mean serve?"),
        (["memory", "plan", "--count", "3"], "glimmer-ref memory plan", "unknown: --count; glimmer-ref"),
        (["evaluat"], "glimmer-ref", "'evaluat'; did you mean evaluate?"),
        (["ask", "x", "--sistem", "fid"], "glimmer-ref ask", "did you mean --system?"),
        (["ask", "x", "--system", "lumem"], "glimmer-ref ask", "'lumem'; did you mean lumen?"),
    ],
)
def test_a_wrong_word_shows_the_usage_of_its_command_and_the_nearest_one(
    words: list[str], usage: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"usage: {usage} [") and lines[-1].startswith(f"{usage}: error: ")
    assert said in lines[-1]


def program(facts: str, shell: str, **env: str) -> subprocess.CompletedProcess[str]:
    """`glimmer-ref ask` about the facts, by a shell that closes or leads streams elsewhere."""
    command = f'"$0" -m glimmer_ref ask "{QUESTION}" --passages "$1" --ops numpy {shell}'
    return subprocess.run(
        ["sh", "-c", command, sys.executable, facts], env={**os.environ, **env}, capture_output=True, timeout=120,
        encoding="utf-8",
    )  # fmt: skip


@pytest.mark.skipif(os.name != "posix", reason="by a POSIX shell")
def test_streams_that_are_closed_full_or_of_ascii(facts: str) -> None:
    done = program(facts, "--explain", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and r"Zo\xeb a\x1b[31m" in done.stdout
    done = program(facts, "--json 2>&-")
    assert json.loads(done.stdout)["unknown"] == ["Zoë"] or json.loads(done.stdout)["borrowed"]
    assert (done.returncode, done.stderr) == (0, "")
    done = program(facts, ">&-")
    assert done.returncode == 0 and "Traceback" not in done.stderr
    if os.path.exists("/dev/full"):
        done = program(facts, "> /dev/full")
        assert (done.returncode, done.stderr.splitlines()[-1]) == (
            2,
            "glimmer-ref: error: stdout: expected a place that can be written; got No space left on device",
        )
        assert "Exception ignored" not in done.stderr
        done = program(facts, "2> /dev/full")
        assert (done.returncode, done.stdout) == (0, "unanswerable\n")


@pytest.mark.skipif(os.name != "posix", reason="by a POSIX shell")
@pytest.mark.parametrize("more", ["--explain", "--json"])
def test_a_picture_is_written_though_nobody_reads_the_answer(facts: str, tmp_path: Path, more: str) -> None:
    """As with `| head` that has seen enough: by a pipe whose reader has gone before the first line."""
    path = tmp_path / "why.png"
    reader, writer = os.pipe()
    os.close(reader)
    words = ["ask", QUESTION, "--passages", facts, "--ops", "numpy", more, "--plot", str(path)]
    done = subprocess.run(
        [sys.executable, "-m", "glimmer_ref", *words], stdout=writer, stderr=subprocess.PIPE, timeout=120, text=True
    )
    os.close(writer)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert path.read_bytes().startswith(b"\x89PNG") and f"wrote {path}" in done.stderr


EMPTY = {
    "ask": ["ask", "x", "--passages", ""], "memory": ["ask", "x", "--memory", ""],
    "weights": ["ask", "x", "--weights", ""], "plot": ["ask", "x", "--plot", ""],
    "index": ["retrieve", "x", "--index", ""], "out": ["train", "mini", "--out", ""],
    "task": ["evaluate", "--task", "q.jsonl", ""], "questions": ["evaluate", ""], "chunks": ["chunks", "", "out"],
    "folder": ["memory", "build", "p.jsonl", ""], "gtr": ["index", "build", "p", "q", "--gtr", ""],
    "t5": ["convert", "", "out"], "inputs": ["trace", "--inputs", "", "--out", "x"], "world": ["world", ""],
    "config": ["flops", "--config", ""], "page": ["flops", "page", ""], "explore": ["explore", ""],
    "junit": ["golden", "check", "fid", "x", "--junit", ""], "threads": ["bench", "--threads", ""],
}  # fmt: skip


@pytest.mark.parametrize("name", EMPTY)
def test_an_option_that_is_empty_is_refused(run: Any, name: str) -> None:
    code, out, err = run(*EMPTY[name])
    assert (code, out) == (2, "")
    assert "a value; got an empty one; perhaps a shell variable is not set" in err


def test_every_command_is_among_them() -> None:
    assert {words[0] for words in EMPTY.values()} == set(COMMANDS)


@pytest.fixture
def unsound(tmp_path: Path) -> Any:
    """A copy of the bundled model with some weights multiplied: finite, which their products need not be."""

    def make(factor: float, *names: str) -> str:
        folder = tmp_path / "model"
        folder.mkdir()
        for name in ("config.json", "tokenizer.json"):
            write_text(folder / name, (reader.bundled() / name).read_text("utf-8"))
        arrays = {name: x.decode() for name, x in map_tensors(reader.bundled() / "model.safetensors").items()}
        write_tensors(
            folder / "model.safetensors",
            {n: x * np.float32(factor) if not names or n in names else x for n, x in arrays.items()},
        )
        return str(folder)

    return make


@pytest.mark.parametrize("system", ["glimmer", "lumen", "fid"])
def test_logits_that_are_no_numbers_are_no_answer(run: Any, facts: str, unsound: Any, system: str) -> None:
    words = (
        "--passages",
        facts,
        "--weights",
        unsound(1e25, "decoder.final_norm", "decoder.lm_head"),
        "--ops",
        "numpy",
        "--system",
        system,
    )
    code, out, err = run("ask", QUESTION, *words, "--json")
    assert (code, out) == (2, "")
    assert "log-probability of the answer: expected finite numbers; got NaN" in err
    questions = str(Path(facts).with_name("q.jsonl"))
    write_text(questions, json.dumps({"input": QUESTION, "output": ["x"]}) + "\n")
    assert run("evaluate", questions, *words)[:2] == (2, "")


def test_scores_that_say_nothing_are_said(run: Any, facts: str, unsound: Any) -> None:
    words = ("--passages", facts, "--weights", unsound(0), "--ops", "numpy", "--m", "1")
    code, _, err = run("ask", QUESTION, *words)
    assert code == 0
    assert "all 2 passages have the same score: the order of retrieval decided" in err
    questions = str(Path(facts).with_name("q.jsonl"))
    write_text(questions, json.dumps({"input": QUESTION, "output": ["x"]}) + "\n")
    code, out, err = run("evaluate", questions, *words, "--json")
    assert (code, json.loads(out)["undecided"]) == (0, 1)
    assert "1 of 1 questions (k=2), all passages have the same score" in err
    assert run("ask", QUESTION, *words[:-2])[2].count("same score") == 0  # all are read


def test_trace_shows_what_is_not_finite_and_says_so(run: Any, tmp_path: Path, unsound: Any) -> None:
    write_text(tmp_path / "ids.json", json.dumps({"question": [5, 1], "passages": [[7, 1], [8, 1]]}))
    words = ("--inputs", tmp_path / "ids.json", "--out", tmp_path / "t.safetensors", "--ops", "numpy")
    code, _, err = run("trace", *words, "--weights", unsound(1e25, "decoder.final_norm", "decoder.lm_head"))
    assert code == 0
    assert "some values are NaN or infinite, first in decoder.step_0.logits" in err
