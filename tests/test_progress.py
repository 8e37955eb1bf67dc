"""The progress bar: drawn on a terminal, silent elsewhere, and never in the way of the items."""

from __future__ import annotations

import io
import sys
import threading

import pytest

from glimmer_ref.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_how_much_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr, before = Terminal(), set(threading.enumerate())  # other libraries' bars may have left a thread
    monkeypatch.setattr(sys, "stderr", stderr)
    assert list(progress(range(3), 5, "memory", 2, lambda: 1234, "tokens")) == [0, 1, 2]
    last = stderr.getvalue().split("\r")[-1]
    assert last.startswith("memory: 100%") and "5/5" in last and "1,234 tokens" in last and last.endswith("\n")
    assert not any("tqdm" in type(thread).__module__ for thread in {*threading.enumerate()} - before)


def test_elsewhere_it_is_silent(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(progress("abc", 3, "letters")) == [*"abc"]
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys, "stderr", None)
    assert list(progress("abc", 3, "letters")) == [*"abc"]


def test_a_bar_that_is_left_ends_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    bar = progress(range(9), 9, "passages")
    next(bar)
    bar.close()
    assert stderr.getvalue().endswith("\n")
