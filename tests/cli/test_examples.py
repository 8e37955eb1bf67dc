"""ask --examples: what it shows can be pasted, and what docs/commands.md shows is what is printed."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

from glimmer_ref.cli import examples, main
from glimmer_ref.data.inputs import read_passages, read_questions
from glimmer_ref.inference.reader import bundled

PAGE = ROOT / "docs" / "commands.md"
FACTS = "```json\n"
COMMAND = "```console\n$ "


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*words: str) -> str:
        assert main(["ask", "--examples", *words]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    return call


def asked(out: str) -> list[str]:
    """The questions of the commands shown, but for the last, which asks about facts of one's own."""
    return [shlex.split(line)[2] for line in out.splitlines() if line.startswith("glimmer-ref ask")][:-1]


def test_on_windows_a_command_is_quoted_as_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "WINDOWS", True)
    assert examples.command("Who's there?", "C:\\w x") == 'glimmer-ref ask "Who\'s there?" --weights "C:\\w x"'


def test_examples_are_the_models_own_questions(show: Any) -> None:
    known = {q.text: q for q in read_questions(bundled() / "questions.jsonl")}
    shown = asked(show())
    assert [known[text].task for text in shown] == list(dict.fromkeys(q.task for q in known.values()))
    assert len(asked(show("2"))) == 2 * len(shown)
    assert len(set(asked(show("100000")))) == len(known), "all there are"


def test_examples_are_the_same_for_a_seed(show: Any) -> None:
    assert show() == show("--seed", "0")
    assert asked(show()) != asked(show("--seed", "1"))


def test_answers_are_shown_when_asked_for(show: Any) -> None:
    known = {q.text: q.answers for q in read_questions(bundled() / "questions.jsonl")}
    hidden, shown = show(), show("--explain")
    assert asked(hidden) == asked(shown)
    answers = [line[4:] for line in shown.splitlines() if line.startswith("#   ")]
    assert answers == [" | ".join(known[text]) for text in asked(shown)]
    assert "#   " not in hidden


def test_examples_as_json(show: Any, tmp_path: Path) -> None:
    data = json.loads(show("--json"))
    assert [q["question"] for q in data["questions"]] == asked(show())
    assert all(shlex.split(q["command"])[2] == q["question"] and q["answers"] for q in data["questions"])
    path = tmp_path / "facts.jsonl"
    path.write_text("\n".join(data["own"]["facts"]), "utf-8")
    assert len(list(read_passages(path))) == 2
    words = shlex.split(data["own"]["command"].replace("facts.jsonl", str(path)))
    assert words[0] == "glimmer-ref" and main([*words[1:], "--ops", "numpy"]) == 0


def test_weights_are_named_in_the_commands(show: Any, tmp_path: Path) -> None:
    folder = tmp_path / "a model"
    folder.mkdir()
    (folder / "questions.jsonl").write_text('{"input": "it\'s who?"}\n', "utf-8")
    out = show("--weights", str(folder), "--explain")
    first = next(line for line in out.splitlines() if line.startswith("glimmer-ref"))
    assert shlex.split(first) == ["glimmer-ref", "ask", "it's who?", "--weights", str(folder)]
    assert "answer not known" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "either a QUESTION or --examples; got neither"),
        (["who?", "--examples"], "got both"),
        (["--examples", "0"], "at least 1"),
        (["--examples", "--seed", "-1"], "0 or more"),
        (["--examples", "--weights", "."], "questions.jsonl"),
    ],
)
def test_bad_examples_are_refused_in_a_line(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["ask", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("glimmer-ref: error: ") and err.count("\n") == 1 and said in err


def test_no_questions_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "questions.jsonl").write_text("\n", "utf-8")
    assert main(["ask", "--examples", "--weights", str(tmp_path)]) == 2
    assert "at least one question" in capsys.readouterr().err


def page(folder: Path) -> tuple[str, str]:
    """What docs/commands.md shows below its example of facts, and what the command prints: notes first."""
    text = PAGE.read_text("utf-8")
    facts = text.split(FACTS)[1].split("```")[0]
    command, shown = text.split(COMMAND)[1].split("```")[0].split("\n", 1)
    (folder / "facts.jsonl").write_text(facts, "utf-8")
    words = [sys.executable, "-m", "glimmer_ref", *shlex.split(command)[1:], "--ops", "numpy"]
    got = subprocess.run(words, cwd=folder, timeout=60, capture_output=True, text=True, check=True)
    return shown, got.stderr + got.stdout


def test_the_page_shows_what_is_printed(tmp_path: Path) -> None:
    shown, printed = page(tmp_path)
    assert shown == printed, "to refresh it: PYTHONPATH=tests/helpers python tests/cli/test_examples.py"


if __name__ == "__main__":
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as some:
        old, new = page(Path(some))
    head, tail = PAGE.read_text("utf-8").split(COMMAND)
    PAGE.write_text(COMMAND.join((head, tail.replace(old, new, 1))), "utf-8")
