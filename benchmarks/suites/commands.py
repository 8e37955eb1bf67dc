"""How long the long commands take, as whole processes: python benchmarks/suites/commands.py [--quick].

Their help says it in words. `train` is not here: benchmarks/bundle.py writes its minutes into the bundled model's card.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import results
from suites.startup import once

from glimmer_ref import tables
from glimmer_ref.inference.reader import bundled

PASSAGES, QUESTIONS = str(bundled() / "passages.jsonl"), str(bundled() / "questions.jsonl")
OUT = "OUT"  # stands for a new folder
COMMANDS = {  # the words of each command, and more words that make it short
    "world, 8 training worlds": (["world", OUT], ["--size", "small", "--train-worlds", "1"]),
    "index build --bm25, the bundled passages": (["index", "build", PASSAGES, OUT, "--bm25"], []),
    "memory build, the bundled passages": (["memory", "build", PASSAGES, OUT], []),
    "evaluate, the bundled questions": (["evaluate", QUESTIONS], ["--k", "2", "--m", "1"]),
    "bench, T5.1.1-base": (["bench"], ["--size", "tiny", "--runs", "1", "--work", "decode"]),
}


def report(document: dict[str, Any], path: Path) -> list[str]:
    """Write the page beside the file; the page's lines are returned."""
    rows = [[run["work"], f"{run['wall']:.1f}", f"{run['cpu']:.1f}"] for run in document["runs"]]
    return results.write_page(path, document, tables.markdown(rows, ["command", "seconds", "CPU s"]))


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true", help="less work for each command")
    args = parser.parse_args()
    out = args.out or results.place("commands")
    document = results.begin("commands", "mini", 1, {name: {} for name in COMMANDS})
    with tempfile.TemporaryDirectory() as folder:
        kernels = Path(folder) / "kernels"
        once(["-c", "from glimmer_ref.ops import bind; bind('numba')"], kernels)  # compiles them, which is not counted
        for number, (name, (words, quick)) in enumerate(COMMANDS.items()):
            new = str(Path(folder) / str(number))
            command = [new if word == OUT else word for word in words] + (quick if args.quick else [])
            document["runs"].append({"work": name, **once(["-m", "glimmer_ref", *command], kernels)})
            results.say(f"{name}: {document['runs'][-1]['wall']:.1f} s")
    results.end(document, out, report)
    return 0


if __name__ == "__main__":
    results.run(main, __file__)
