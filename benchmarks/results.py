"""Result files, with the measurements, the engines, the machine and the commit; and their pages in Markdown."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from glimmer_ref.bench.machine import machine, slug, versions
from glimmer_ref.disk.write import write_text
from glimmer_ref.errors import InputError

FOLDER = Path(__file__).resolve().parent / "results"
PACKAGES = ("glimmer_ref", "numpy", "numba", "llvmlite", "torch", "transformers", "onnxruntime", "ctranslate2")


def commit() -> str:
    """The checkout's commit, marked if files other than results differ from it; empty outside a checkout."""

    def said(*words: str) -> str:
        command = ["git", "-C", str(FOLDER.parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    changed = said("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude)results")
    return said("describe", "--always", "--abbrev=12") + ("-dirty" if changed else "")


def begin(kind: str, size: str, rounds: int, workloads: dict[str, Any]) -> dict[str, Any]:
    """An empty document of a kind, which names the module that reports it; see `report.py`."""
    return {
        "kind": kind,
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
        "commit": commit(),
        "machine": machine(),
        "versions": versions(*PACKAGES),
        "size": size,
        "rounds": rounds,
        "works": workloads,
        "engines": {},
        "not_done": {},
        "peaks": [],
        "runs": [],
    }


def place(name: str) -> Path:
    """A new file for today's result."""
    stem, number = f"{time.strftime('%Y-%m-%d')}-{slug()}-{name}", 1
    while (path := FOLDER / f"{stem}{'' if number == 1 else f'-{number}'}.json").exists():
        number += 1
    return path


def write(path: Path, document: dict[str, Any]) -> None:
    """Write the document, completely or not at all, with one record on each line, so that versions can be compared."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for key, value in document.items():
        if isinstance(value, list) and value:
            rows = ",\n  ".join(json.dumps(row) for row in value)
            lines.append(f"{json.dumps(key)}: [\n  {rows}\n ]")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value)}")
    write_text(path, "{\n " + ",\n ".join(lines) + "\n}\n")


def heading(document: dict[str, Any]) -> list[str]:
    """The machine, the versions and the commit, as the first lines of a page."""
    here = document["machine"]
    memory = f"{here['memory_bytes'] / 2**30:.0f} GiB"
    installed = ", ".join(f"{name} {number}" for name, number in document["versions"].items() if name != "glimmer_ref")
    kind = f" ({here['kind']})" if "kind" in here else ""  # older results do not have it
    return [
        f"{here['cpu']}{kind}, {here['cores']} cores, {memory}, {here['system']}, Python {here['python']}; "
        f"{installed}; {document['date'][:10]}, commit {document['commit']}.",
        "",
    ]


def write_page(path: Path, document: dict[str, Any], lines: list[str]) -> list[str]:
    """Write FILE.md beside FILE.json, the heading and then the lines, and return the lines."""
    path.with_suffix(".md").write_text("\n".join([*heading(document), *lines]) + "\n")
    return lines


def say(line: str) -> None:
    """A line of progress."""
    print(time.strftime("%H:%M:%S"), line, file=sys.stderr, flush=True)


def end(document: dict[str, Any], path: Path, report: Callable[[dict[str, Any], Path], list[str]]) -> None:
    """Write a finished document, and the page beside it, whose lines are printed."""
    write(path, document)
    print("\n".join(report(document, path)))
    say(f"written to {path}")


def run(main: Callable[[], int], script: str) -> NoReturn:
    """Run the main function of a script, `__file__`, and end the process; bad input ends with one line."""
    try:
        sys.exit(main())
    except InputError as error:
        sys.exit(f"{Path(script).resolve().relative_to(FOLDER.parent.parent).as_posix()}: error: {error}")
