"""ask without a question: on a terminal it asks for questions, one after another."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

from glimmer_ref.cli import ask as ask_command
from glimmer_ref.cli import main
from glimmer_ref.errors import InputError
from glimmer_ref.inference import reader
from glimmer_ref.inference.reader import Reader

pty = pytest.importorskip("pty", reason="needs a POSIX terminal")
FIRST, SECOND = "Who wrote The Crooked Sailor?", "Who wrote The Forgotten Lantern?"
ANSWERS = "Jorian Nettleworth", "Joradric Brambleby"
UP, END = "\x1b[A", "\x04"  # the key for the line before, and Ctrl-D
SECONDS = 120


class Terminal:
    """A terminal in which a command runs, and everything that it has shown."""

    def __init__(self, *words: str) -> None:
        self.ours, theirs = pty.openpty()
        self.shown, self.seen = "", 0
        command = [sys.executable, "-m", "glimmer_ref", "ask", "--ops", "numpy", *words]
        env = {**os.environ, "TERM": "xterm", "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, close_fds=True)
        os.close(theirs)

    def type(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def until(self, text: str) -> str:
        """What is shown up to the next place of a text, which must come."""
        end = time.monotonic() + SECONDS
        while (place := self.shown.find(text, self.seen)) < 0:
            assert time.monotonic() < end and self._read(), f"no {text!r} in {self.shown!r}"
        before, self.seen = self.shown[self.seen : place], place + len(text)
        return before

    def _read(self) -> bool:
        """Wait for more to be shown; false after the end."""
        if select.select([self.ours], [], [], 1)[0]:
            with suppress(OSError):  # Linux's way to say that the command has ended
                more = os.read(self.ours, 65536).decode()
                self.shown += re.sub(r"\x1b\[\?\d+[hl]|\r", "", more)  # marks of pasted text, and line ends
                return more != ""
            return False
        return True

    def rest(self) -> str:
        """What is shown to the end, at which the command must have succeeded."""
        while self._read():
            pass
        assert self.process.wait(SECONDS) == 0
        return self.shown[self.seen :]


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*words: str) -> Terminal:
        opened.append(Terminal(*words))
        return opened[-1]

    yield start
    for one in opened:
        one.process.kill()
        one.process.wait()
        os.close(one.ours)


@pytest.mark.parametrize("end", ["\n", END, "  \n"])
def test_questions_one_after_another(terminal: Callable[..., Terminal], end: str) -> None:
    it = terminal()
    it.until("an empty line or Ctrl-D ends\n> ")
    for question, answer in zip((FIRST, SECOND), ANSWERS, strict=True):
        it.type(question + "\n")
        assert it.until("\n> ").split("\n")[1:] == [answer]
    it.type(end)
    assert it.rest().strip() == ""


def test_each_answer_has_its_notes(terminal: Callable[..., Terminal]) -> None:
    it = terminal("--explain")
    it.until("\n> ")
    it.type("who wrote Xanadu ?\n")
    said = it.until("\n> ")
    assert "note: " in said and "Xanadu" in said and "share of fid" in said
    it.type(FIRST + "\n")
    said = it.until("\n> ")
    assert f"\n{ANSWERS[0]}\n" in said and "note: " not in said and "* Its author is Jorian Nettleworth." in said
    it.type(END)
    it.rest()


def test_a_bad_question_ends_nothing_and_the_model_is_loaded_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, loaded = iter([FIRST, "bad", SECOND]), []
    answer, load = Reader.ask, reader.load

    def ask(self: Reader, question: str, *more: Any, **named: Any) -> Any:
        if question == "bad":
            raise InputError("question", "a good one", question)
        return answer(self, question, *more, **named)

    def typed(prompt: str) -> str:
        if (line := next(lines, None)) is None:
            raise EOFError
        return line

    monkeypatch.setattr(ask_command, "interactive", lambda: True)
    monkeypatch.setattr("builtins.input", typed)
    monkeypatch.setattr(Reader, "ask", ask)
    monkeypatch.setattr(reader, "load", lambda *some: loaded.append(load(*some)) or loaded[-1])
    assert main(["ask", "--ops", "numpy"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{ANSWERS[0]}\n{ANSWERS[1]}\n\n" and len(loaded) == 1
    assert err.splitlines()[1:] == ["glimmer-ref: error: question: expected a good one; got bad"]


def test_the_line_before_comes_back(terminal: Callable[..., Terminal]) -> None:
    pytest.importorskip("readline")
    it = terminal()
    it.until("\n> ")
    it.type(FIRST + "\n")
    it.until("\n> ")
    it.type(UP + "\n")
    assert f"{FIRST}\n{ANSWERS[0]}" in it.until("\n> ")
    it.type("\n")
    it.rest()


def test_without_a_terminal_a_question_is_needed(tmp_path: Path) -> None:
    """Also if only one of stdin and stdout is a terminal: a prompt must not get into a file."""
    ours, theirs = pty.openpty()
    for stdin in (subprocess.DEVNULL, theirs):
        done = subprocess.run(
            [sys.executable, "-m", "glimmer_ref", "ask"], stdin=stdin, capture_output=True, text=True, timeout=SECONDS
        )
        assert (done.returncode, done.stdout) == (2, "") and "a QUESTION" in done.stderr
    os.close(ours)
    os.close(theirs)
