"""PAPER.md and the docstrings name the same equations, and each function of `paper/` names its own."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import glimmer_ref

PACKAGE = Path(glimmer_ref.__file__).parent


def labels(node: ast.AST, key: str) -> list[str]:
    """What the docstring of a function, class or module has behind `key`."""
    if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
        return []
    return re.findall(rf"^\s*{key}: (.+)$", ast.get_docstring(node) or "", re.MULTILINE)


def documented() -> dict[str, list[str]]:
    """Each `Paper:` label in a docstring, with the places where it stands."""
    found: dict[str, list[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for label in labels(node, "Paper"):
                place = f"`{path.relative_to(PACKAGE).as_posix()}` `{getattr(node, 'name', '')}`"
                found.setdefault(label, []).append(place)
    return found


def test_every_label_is_in_one_docstring_and_in_the_concordance() -> None:
    rows = re.findall(
        r"^\| (\S.*?) \| .* \| (`\S+` `\w+`) \|$", (PACKAGE / "PAPER.md").read_text("utf-8"), re.MULTILINE
    )
    assert len(rows) > 10
    assert documented() == {label: [place] for label, place in rows}


def test_each_function_of_the_paper_names_its_equation() -> None:
    known, nameless = documented(), []
    for path in (PACKAGE / "paper").glob("*.py"):
        if path.name == "t5.py":  # which is not of this paper, and names its own source
            continue
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                named = labels(node, "Paper") + labels(node, "Part of")
                nameless += [f"{path.name} {node.name}"] if len(named) != 1 or named[0] not in known else []
    assert not nameless


def test_every_decision_is_listed_once() -> None:
    text = (PACKAGE / "PAPER.md").read_text("utf-8")
    listed = []
    for first, last in re.findall(r"^\| D(\d+)(?:-D(\d+))? \|", text, re.MULTILINE):
        listed += range(int(first), int(last or first) + 1)
    assert listed == list(range(1, 20))


def test_every_file_says_what_it_is_for() -> None:
    silent = [p.name for p in PACKAGE.rglob("*.py") if not ast.get_docstring(ast.parse(p.read_text("utf-8")))]
    assert not silent
