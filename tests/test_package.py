"""What the package shows of itself: public names, types for its users, and what a wheel of it declares."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from paths import ROOT

import glimmer_ref

PACKAGE = Path(glimmer_ref.__file__).parent
CASES_LICENCE = "glimmer_ref/golden/cases/LICENSE"
needs_mypy = pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="needs mypy, from the dev extra")
# What a user writes, and what mypy is to say of it: in comments, on the lines themselves.
USER = """\
from typing import assert_type
import glimmer_ref
from glimmer_ref import Answer, Memory, Passage, Reader, load
from glimmer_ref.ragged import Floats

assert_type(load(), Reader)
assert_type(load().memorize(["a", Passage("b", "", "c")]), Memory)
answer = glimmer_ref.load().ask("a?", ["b"], k=1)
assert_type(answer, Answer)
assert_type(answer.scores, Floats | None)
assert_type(answer.selected, list[int])
answer.scores.argmax()  # error: union-attr
answer.score  # error: attr-defined
load().ask(3, ["b"])  # error: arg-type
glimmer_ref.lode()  # error: attr-defined
"""


def test_dir_shows_the_public_names() -> None:
    """In a new interpreter, for what other tests import would be there anyway."""
    script = "import glimmer_ref; print(*dir(glimmer_ref))"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert shown == sorted(set(shown)) and {"__version__", *glimmer_ref.__all__} <= set(shown)
    assert dir(glimmer_ref) == sorted(dir(glimmer_ref))


def test_every_public_name_is_there_and_no_other() -> None:
    for name in glimmer_ref.__all__:
        assert getattr(glimmer_ref, name).__name__ == name
    assert glimmer_ref.__all__ == sorted(glimmer_ref.__all__)
    with pytest.raises(AttributeError, match="'glimmer_ref' has no attribute 'lode'"):
        _ = glimmer_ref.lode  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("__init__.py")), ids=lambda path: path.parent.name)
def test_dir_shows_what_a_folder_says_it_has(path: Path) -> None:
    name = ".".join(["glimmer_ref", *path.parent.relative_to(PACKAGE).parts])
    module = import_module(name)
    public = getattr(module, "__all__", [])
    assert set(public) <= set(dir(module)) and all(hasattr(module, x) for x in public)


@needs_mypy
def test_a_users_mypy_sees_types(tmp_path: Path) -> None:
    """Strict, in a folder of the user's own: what is right passes, and each mistake is found on its line."""
    script = tmp_path / "script.py"
    script.write_text(USER, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context", script.name]
    command += ["--cache-dir", str(tmp_path / "cache"), "--config-file", os.devnull]
    environment = {**os.environ, "MYPYPATH": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    found = [line for line in done.stdout.splitlines() if ": error: " in line]
    expected = [
        (number, line.partition("# error: ")[2])
        for number, line in enumerate(USER.splitlines(), 1)
        if "# error: " in line
    ]
    assert len(found) == len(expected), done.stdout + done.stderr
    for line, (number, kind) in zip(found, expected, strict=True):
        assert line.startswith(f"script.py:{number}: ") and line.endswith(f"[{kind}]"), line


def test_the_package_says_that_it_is_typed() -> None:
    """Tests of .ci/run import what pip installed, so this is of the wheel there."""
    assert (PACKAGE / "py.typed").read_bytes() == b""


def test_the_licences_are_what_pyproject_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    first = {name: (ROOT / name).read_text("utf-8").strip()[:200] for name in project["license-files"]}
    assert project["license"] == "Apache-2.0 AND CC0-1.0"
    assert first["LICENSE"].startswith("Apache License") and "CC0 1.0 Universal" in first[CASES_LICENCE]
    notice = (ROOT / "NOTICE").read_text("utf-8")
    assert "NOTICE" in first and "weights/mini" in notice and "golden/cases" in notice
    for case in sorted((PACKAGE / "golden" / "cases").glob("*/case.json")):
        assert json.loads(case.read_text("utf-8"))["licence"].startswith("CC0-1.0")


def test_what_is_installed_has_its_licences() -> None:
    try:
        installed = distribution("glimmer_ref")
    except PackageNotFoundError:
        pytest.skip("runs from the tree, without pip")
    assert installed.metadata["License-Expression"] == "Apache-2.0 AND CC0-1.0"
    named = installed.metadata.get_all("License-File") or []
    assert set(named) == {"LICENSE", "NOTICE", CASES_LICENCE}
    for name in named:
        assert (installed.read_text(f"licenses/{name}") or "").split() == (ROOT / name).read_text("utf-8").split()


def test_the_citation_is_of_this_version() -> None:
    assert f"\nversion: {glimmer_ref.__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")


def test_contributing_names_files_that_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    named = set(re.findall(r"\]\(([^)]+)\)", text)) | set(re.findall(r"\b(?:tests|glimmer_ref)/[\w/.]*\w", text))
    assert len(named) > 10 and [name for name in named if not (ROOT / name).exists()] == []
