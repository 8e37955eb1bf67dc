"""Completion in the shell: what argcomplete gets when it asks as a shell does."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from paths import ROOT

from glimmer_ref import cli

needs_argcomplete = pytest.mark.skipif(find_spec("argcomplete") is None, reason="needs the extra completion")


def completed(line: str, folder: Path, without: str = "") -> tuple[int, list[str]]:
    """Exit code, and the words with which a line may go on, as a shell asks for them."""
    out = folder / "completions"
    out.write_text("", "utf-8")
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_SHELL": "bash", "COMP_LINE": line}
    asked |= {"COMP_POINT": str(len(line)), "_ARGCOMPLETE_STDOUT_FILENAME": str(out), "PYTHONPATH": str(ROOT)}
    script = f"import sys; {without}\nfrom glimmer_ref.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=os.environ | asked, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "" and "Traceback" not in done.stderr
    return done.returncode, out.read_text("utf-8").split()


@needs_argcomplete
@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("glimmer-ref ", {*cli.COMMANDS}),
        ("glimmer-ref me", {"memory"}),
        ("glimmer-ref memory ", {"build", "plan", "info"}),
        ("glimmer-ref memory build --sch", {"--scheduler"}),
        ("glimmer-ref ask --system ", {"glimmer", "lumen", "fid"}),
        ("glimmer-ref ask 'Who?' --ops nu", {"numpy", "numba"}),
        ("glimmer-ref flops se", {"serve"}),
        ("glimmer-ref ask --weights ", {"models/"}),
    ],
)
def test_a_line_goes_on(line: str, some: set[str], tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    code, words = completed(line, tmp_path)
    assert code == 0 and some <= {*words}
    start = line.rpartition(" ")[2]
    assert all(word.startswith(start) for word in words)


def test_without_argcomplete_nothing_runs(tmp_path: Path) -> None:
    assert completed("glimmer-ref me", tmp_path, "sys.modules['argcomplete'] = None") == (1, [])


def test_the_shell_finds_the_mark() -> None:
    """argcomplete looks for it in the first 1,024 bytes, if completion was activated for all programs."""
    assert b"PYTHON_ARGCOMPLETE_OK" in Path(cli.__file__).read_bytes()[:1024]
