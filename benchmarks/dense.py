"""Exact search over many passages in bounded memory: python benchmarks/dense.py [--passages 1000000] [--quick].

Synthetic passages, whose embeddings are random unit vectors of GTR's size, are built into an index and searched for
batches of questions, each part in a process of its own. Told are seconds, passages a second, what a search reads a
second beside a plain read of the same files just before, and memory: what a process had of its own at most, without
the pages of mapped files, beside what the formula in `glimmer_ref/retrieval/dense.py` says.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import results

from glimmer_ref.retrieval.dense import DenseIndex, build
from glimmer_ref.retrieval.index_files import read_files
from glimmer_ref.retrieval.top_k import BLOCK

SIZE, K = 768, 100


class Drawn:
    """Stands for a retriever: random unit vectors, the same for the same texts."""

    size, digest = SIZE, "drawn"

    def __call__(self, texts: Iterable[str]) -> np.ndarray:
        some = list(texts)
        seed = int(some[0].split()[-1]) if some else 0
        e = np.random.default_rng(seed).standard_normal((len(some), SIZE), np.float32)
        return e / np.linalg.norm(e, axis=1, keepdims=True)


def own_bytes() -> int:
    """Memory of this process without mapped files."""
    words = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("RssAnon")).split()
    return 1024 * int(words[1])


class Peak:
    """The most that `own_bytes` was while the block ran, looked at every few milliseconds."""

    def __enter__(self) -> Peak:
        self.before = self.most = own_bytes()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self.most = max(self.most, own_bytes())

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        self._thread.join()


def quietly(items: Any, *_: Any) -> Any:
    return items


def part(name: str, folder: Path, dtype: str, questions: int) -> dict[str, Any]:
    """One process's work."""
    drawn: Any = Drawn()
    with Peak() as peak:
        start = time.perf_counter()
        if name == "build":
            build(folder / "passages.jsonl", folder / dtype, drawn, dtype, quietly)
            seconds, read = time.perf_counter() - start, 0.0
        else:
            index = DenseIndex(folder / dtype, drawn)
            for file in read_files(folder / dtype):  # a plain read, which also leaves the files in the page cache
                np.fromfile(folder / dtype / file, np.uint8)
            begin = time.perf_counter()
            for file in read_files(folder / dtype):
                np.fromfile(folder / dtype / file, np.uint8)
            start, read = time.perf_counter(), time.perf_counter() - begin
            peak.most = own_bytes()
            index.search([f"question {i}" for i in range(questions)], K, quietly)
            seconds = time.perf_counter() - start
    size = sum(entry["bytes"] for entry in read_files(folder / dtype).values())
    return {"part": name, "dtype": dtype, "questions": questions, "seconds": seconds, "bytes": size,
            "plain_read": read, "own_bytes": peak.most - peak.before,
            "formula_bytes": 4 * BLOCK * (SIZE + 2 * questions) + 24 * questions * K}  # fmt: skip


def report(document: dict[str, Any], path: Path) -> list[str]:
    """The table."""
    n = document["passages"]
    lines = [f"{n:,} passages of {SIZE} numbers, k={K}:", "",
             "| work | stored | seconds | passages a second | of a plain read's speed | memory of its own | formula |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for run in document["runs"]:
        built = run["part"] == "build"
        name = "build" if built else f"search, {run['questions']} question{'s' * (run['questions'] > 1)}"
        share = "-" if built else f"{run['plain_read'] / run['seconds']:.2f}"
        lines.append(
            f"| {name} | {run['dtype']}, {run['bytes'] / 1e9:.2f} GB | {run['seconds']:.1f} | "
            f"{n / run['seconds']:,.0f} | {share} | {run['own_bytes'] / 1e6:.0f} MB | "
            f"{'-' if built else format(run['formula_bytes'] / 1e6, '.0f') + ' MB'} |"
        )
    return lines


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=1_000_000)
    parser.add_argument("--quick", action="store_true", help="ten thousand passages")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--part", nargs=4, metavar=("NAME", "FOLDER", "DTYPE", "QUESTIONS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        name, folder, dtype, questions = args.part
        print(json.dumps(part(name, Path(folder), dtype, int(questions))))
        return 0
    n, out = 10_000 if args.quick else args.passages, args.out or results.place("dense")
    document = results.begin("dense", "gtr", 1, {}) | {"passages": n}
    with tempfile.TemporaryDirectory() as place:
        with open(Path(place) / "passages.jsonl", "w", encoding="utf-8") as file:
            file.writelines(f'{{"id": "{i}", "text": "synthetic {i}"}}\n' for i in range(n))
        for dtype in ("float16", "float32"):
            for name, questions in (("build", 0), ("search", 1), ("search", 16), ("search", 256)):
                words = [sys.executable, __file__, "--part", name, place, dtype, str(questions)]
                done = subprocess.run(words, capture_output=True, text=True, check=True)
                document["runs"].append(json.loads(done.stdout))
                print(document["runs"][-1], file=sys.stderr, flush=True)
                results.write(out, document)
    from report import told  # it imports this file

    print("\n".join(told(out)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
