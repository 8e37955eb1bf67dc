"""Exact search over many passages in bounded memory: python benchmarks/suites/dense_search.py [--quick].

The embeddings of synthetic passages are random unit vectors of GTR's size. One process builds an index of them, and
other processes search it for batches of questions. The report gives seconds, passages per second, and the speed of a
search relative to a plain read of the same files just before. It also gives the peak memory of the process without the
pages of mapped files, beside the value of the formula in `glimmer_ref/retrieval/dense.py`.
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import results

from glimmer_ref import tables
from glimmer_ref.retrieval.dense import DenseIndex, build
from glimmer_ref.retrieval.index_files import read_files
from glimmer_ref.retrieval.top_k import BLOCK

SIZE, K = 768, 100


class RandomEncoder:
    """Replaces the retriever: random unit vectors, the same for the same texts."""

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
    """The largest `own_bytes` while the block ran, sampled every few milliseconds."""

    def __enter__(self) -> Peak:
        self.before = self.max = own_bytes()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self.max = max(self.max, own_bytes())

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        self._thread.join()


def no_progress(items: Any, *_: Any) -> Any:
    """Replaces the progress bar."""
    return items


def part(name: str, folder: Path, dtype: str, questions: int) -> dict[str, Any]:
    """Build or search an index, and measure it; this is the work of one process."""
    encoder: Any = RandomEncoder()
    with Peak() as peak:
        start = time.perf_counter()
        if name == "build":
            build(folder / "passages.jsonl", folder / dtype, encoder, dtype, no_progress)
            seconds, read = time.perf_counter() - start, 0.0
        else:
            index = DenseIndex(folder / dtype, encoder)
            for file in read_files(folder / dtype):  # a plain read, which also leaves the files in the page cache
                np.fromfile(folder / dtype / file, np.uint8)
            begin = time.perf_counter()
            for file in read_files(folder / dtype):
                np.fromfile(folder / dtype / file, np.uint8)
            start, read = time.perf_counter(), time.perf_counter() - begin
            peak.max = own_bytes()
            index.search([f"question {i}" for i in range(questions)], K, no_progress)
            seconds = time.perf_counter() - start
    size = sum(entry["bytes"] for entry in read_files(folder / dtype).values())
    return {
        "part": name,
        "dtype": dtype,
        "questions": questions,
        "seconds": seconds,
        "bytes": size,
        "plain_read": read,
        "own_bytes": peak.max - peak.before,
        "formula_bytes": 4 * BLOCK * (SIZE + 2 * questions) + 24 * questions * K,
    }


def report(document: dict[str, Any], path: Path) -> list[str]:
    """Write the page beside the file; the page's lines are returned."""
    n = document["passages"]
    head = ["work", "stored", "seconds", "passages a second", "of a plain read's speed", "memory of its own", "formula"]
    rows = []
    for run in document["runs"]:
        built = run["part"] == "build"
        name = "build" if built else f"search, {run['questions']} question{'s' * (run['questions'] > 1)}"
        share = "-" if built else f"{run['plain_read'] / run['seconds']:.2f}"
        rows.append(
            [
                name,
                f"{run['dtype']}, {run['bytes'] / 1e9:.2f} GB",
                f"{run['seconds']:.1f}",
                f"{n / run['seconds']:,.0f}",
                share,
                f"{run['own_bytes'] / 1e6:.0f} MB",
                "-" if built else f"{run['formula_bytes'] / 1e6:.0f} MB",
            ]
        )
    lines = [f"{n:,} passages of {SIZE} numbers, k={K}:", "", *tables.markdown(rows, head)]
    return results.write_page(path, document, lines)


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
    print("\n".join(report(document, out)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
