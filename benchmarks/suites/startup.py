"""Cold and warm start, as whole processes in turns: python benchmarks/suites/startup.py [--quick].

A cold start compiles the kernels, in two processes at once; a warm one finds them in the cache. If scipy is installed,
numba imports it, which takes a fifth of a warm start; this package does not need it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import results

from glimmer_ref import tables
from glimmer_ref.bench.measure import Spread
from glimmer_ref.errors import InputError

ASK = ["-m", "glimmer_ref", "ask", "Who wrote The Crooked Sailor?"]
COMMANDS = {
    "python itself": (["-c", "pass"], False),
    "import glimmer_ref": (["-c", "import glimmer_ref"], False),
    "answer on the reference backend": ([*ASK, "--ops", "numpy"], False),
    "all kernels, cold": (["-c", "from glimmer_ref.ops import bind; bind('numba')"], True),
    "all kernels, kept": (["-c", "from glimmer_ref.ops import bind; bind('numba')"], False),
    "answer, cold": (ASK, True),
    "answer, kept": (ASK, False),
}
TARGETS = {"answer, cold": 10.0, "answer, kept": 0.6}


def once(words: list[str], cache: Path) -> dict[str, float]:
    """Wall and processor seconds of one process.

    Raises:
        InputError: it failed.
    """
    before, begin = os.times(), time.perf_counter()
    env = {**os.environ, "GLIMMER_REF_CACHE": str(cache)}
    done = subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - begin, os.times()
    if done.returncode:
        raise InputError(" ".join(words), "exit code 0", f"{done.returncode}: {done.stderr[-300:]}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"wall": wall, "cpu": cpu}


def report(document: dict[str, Any], path: Path) -> list[str]:
    """Write the page beside the file; the page's lines are returned."""
    rows = []
    for name in document["works"]:
        runs = [run for run in document["runs"] if run["work"] == name]
        if runs:
            wall, cpu = (Spread.of([run[field] for run in runs]) for field in ("wall", "cpu"))
            target = TARGETS.get(name)
            reached = "reached" if target is None or wall.median <= target else "above target"
            verdict = "" if target is None else f"at most {target:g}: {reached}"
            seconds = f"{wall.median:.2f} ({wall.min:.2f} to {wall.max:.2f})"
            rows.append([name, seconds, f"{cpu.median:.2f}", verdict])
    return results.write_page(path, document, tables.markdown(rows, ["start", "seconds (min-max)", "CPU s", "target"]))


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true", help="one round, nothing compiled anew")
    args = parser.parse_args()
    out = args.out or results.place("start")
    names = [name for name, (_, cold) in COMMANDS.items() if not (args.quick and cold)]
    document = results.begin("start", "mini", 1 if args.quick else args.rounds, {name: {} for name in names})
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "kept"
        if not args.quick:
            once(COMMANDS["answer, kept"][0], kept)
        for number in range(document["rounds"]):
            for name in names:
                words, cold = COMMANDS[name]
                cache = Path(folder) / f"cold-{number}-{name[:3]}" if cold else kept
                document["runs"].append({"work": name, "round": number, **once(words, cache)})
            results.say(f"round {number + 1} of {document['rounds']}")
    results.end(document, out, report)
    return 0


if __name__ == "__main__":
    results.run(main, __file__)
