"""PAPER.md and the docstrings tell the same."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import glimmer_ref

PACKAGE = Path(glimmer_ref.__file__).parent


def documented() -> dict[str, list[str]]:
    """Each `Paper:` label in a docstring, with the places where it stands."""
    found: dict[str, list[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                for label in re.findall(r"^\s*Paper: (.+)$", ast.get_docstring(node) or "", re.MULTILINE):
                    place = f"`{path.relative_to(PACKAGE).as_posix()}` `{getattr(node, 'name', '')}`"
                    found.setdefault(label, []).append(place)
    return found


def test_every_label_is_in_one_docstring_and_in_the_concordance() -> None:
    rows = re.findall(
        r"^\| (\S.*?) \| .* \| (`\S+` `\w+`) \|$", (PACKAGE / "PAPER.md").read_text("utf-8"), re.MULTILINE
    )
    assert len(rows) > 10
    assert documented() == {label: [place] for label, place in rows}


def test_every_decision_is_listed_once() -> None:
    text = (PACKAGE / "PAPER.md").read_text("utf-8")
    listed = []
    for first, last in re.findall(r"^\| D(\d+)(?:-D(\d+))? \|", text, re.MULTILINE):
        listed += range(int(first), int(last or first) + 1)
    assert listed == list(range(1, 20))


def test_every_file_says_what_it_is_for() -> None:
    silent = [p.name for p in PACKAGE.rglob("*.py") if not ast.get_docstring(ast.parse(p.read_text("utf-8")))]
    assert not silent
