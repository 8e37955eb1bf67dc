"""Windows and macOS, played: nothing that only POSIX has is needed by any command; processes are spawned."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from learning import write_world
from paths import HELPERS

import glimmer_ref
from glimmer_ref.disk.write import write_text
from glimmer_ref.inference.reader import bundled
from glimmer_ref.workers.process_pool import SPAWN

PACKAGE = Path(glimmer_ref.__file__).parent
PLAYED = """
import sys
import without_posix
without_posix.hide()
import importlib, pkgutil
import glimmer_ref
from glimmer_ref.cli import main

def played():
    for module in pkgutil.walk_packages(glimmer_ref.__path__, "glimmer_ref."):
        if not module.name.endswith("__main__") and "cuda" not in module.name:
            importlib.import_module(module.name)
    numpy = ["--ops", "numpy"]
    for words in (
        ["ask", "Who wrote The Crooked Sailor?", "--passages", "p.jsonl", "--plot", "why.png"],
        ["memory", "build", "p.jsonl", "memory"],
        ["ask", "Who wrote The Crooked Sailor?", "--memory", "memory", "--json"],
        ["evaluate", "q.jsonl", "--memory", "memory", "--out", "scores"],
        ["train", "recipe.toml", "--out", "run", "--set", "stages.0.steps=1", "--set", "stages.1.steps=1"],
        ["trace", "--inputs", "ids.json", "--out", "trace.safetensors"],
    ):
        assert main([*words, *numpy]) == 0, words
    assert main(["flops", "page", "page.html"]) == 0
    assert main(["memory", "info", "memory", "--verify"]) == 0

def workers():
    assert main(["memory", "build", "p.jsonl", "memory2", "--workers", "2", "--ops", "numpy"]) == 0
    assert main(["bench", "--size", "tiny", "--work", "linear", "--runs", "1", "--json"]) == 0

if __name__ == "__main__":
    globals()[sys.argv[1]]()
"""


@pytest.fixture
def played(tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """A folder with what the commands read, and a call that plays a part of the script in it."""
    lines = (bundled() / "passages.jsonl").read_text("utf-8").splitlines()
    write_text(tmp_path / "p.jsonl", "".join(line + "\n" for line in lines[1660:1690]))
    question = {"id": "q", "input": "Who wrote The Crooked Sailor?", "output": [{"answer": "Jorian Nettleworth"}]}
    write_text(tmp_path / "q.jsonl", json.dumps(question) + "\n")
    write_text(tmp_path / "recipe.toml", write_world(tmp_path))
    write_text(tmp_path / "ids.json", json.dumps({"question": [5, 1], "passages": [[7, 1], [8, 1]]}))
    write_text(tmp_path / "played.py", PLAYED)

    def call(part: str) -> str:
        path = os.pathsep.join([str(PACKAGE.parent), str(HELPERS)])
        env = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-X", "warn_default_encoding", "played.py", part]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, encoding="utf-8", timeout=400)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return call


def test_every_module_and_the_commands_without_posix(played, tmp_path: Path) -> None:
    out = played("played")
    assert "Jorian Nettleworth" in out and "checksums           all equal" in out
    for name in ("p.jsonl", "memory/manifest.json", "scores/run.json", "run/log.jsonl", "run/last/config.json"):
        assert b"\r" not in (tmp_path / name).read_bytes()


@pytest.mark.slow
def test_processes_are_spawned_without_posix(played) -> None:
    played("workers")


def test_spawn_is_the_only_way_in_which_processes_start() -> None:
    assert SPAWN.get_start_method() == "spawn"
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text("utf-8")
        assert "os.fork(" not in text and "multiprocessing.Process" not in text and '"fork"' not in text, path


def _vague(path: Path) -> list[str]:
    """Calls that leave an encoding, or how lines end, to the system."""
    found = []
    for call in ast.walk(ast.parse(path.read_text("utf-8"))):
        name = call.func.attr if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) else ""
        name = call.func.id if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) else name
        words = ast.unparse(call) if name in ("open", "fdopen", "read_text", "write_text") else ""
        ours = name in ("read_text", "write_text") and not words.startswith("Path") and "." not in words.split("(")[0]
        if (
            not words
            or words.startswith(("os.open", "Memory.open"))
            or ours
            or re.search(r"['\"][rwax]b?\+?b['\"]|'b", words)
        ):
            continue
        writes = name == "write_text" or re.search(r"'[wax]\+?'", words)
        if "utf-8" not in words:
            found.append(f"{path.name}: {words}: encoding")
        if writes and "newline" not in words and "/proc/" not in words:
            found.append(f"{path.name}: {words}: newline")
    return found


def test_text_is_the_same_bytes_on_every_system() -> None:
    """What opens a file as text says in which encoding, and what writes one says how lines end."""
    assert [line for path in sorted(PACKAGE.rglob("*.py")) for line in _vague(path)] == []
