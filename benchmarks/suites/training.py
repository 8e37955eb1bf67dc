"""Seconds of a training step, ours and PyTorch's, in turns: python benchmarks/suites/training.py [--quick].

A step is the loss of a GLIMMER (language modeling and distillation, memory encoder included) and the gradients of all
its weights, without an optimizer. Nothing is timed before both give the same loss and the same gradients.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import results

from glimmer_ref import tables
from glimmer_ref.bench.measure import Spread, paired_ratio
from glimmer_ref.bench.process import Worker
from glimmer_ref.errors import InputError

WORKLOADS = {
    "mini": ("step", "step,b=16,k=6,m=3", "step,b=16,k=12,m=5", "step,b=32,k=12,m=5"),
    "base": ("step,b=1,k=4,m=2,n_q=24,n_p=120,n_t=8",),
}
PEERS = ("ours", "torch")
SAME, TARGET = 1e-3, 1.5  # largest relative difference of a gradient; largest ratio of our seconds to PyTorch's


def start(stack: ExitStack, peer: str, size: str, threads: int) -> Worker:
    """Start one peer in a process of its own."""
    worker = Path(__file__).parents[1] / "comparison" / "worker.py"
    command = [sys.executable, str(worker), f"training_{peer}", "--size", size]
    command += ["--precision", "float32", "--folder", ".", "--threads", str(threads)]
    return stack.enter_context(closing(Worker(command, threads)))


def agree(workers: dict[str, Worker]) -> float:
    """The largest difference of a gradient, relative to its largest element.

    Raises:
        InputError: the gradients differ by more than `SAME`.
    """
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for peer, worker in workers.items():
            path = str(Path(folder) / f"{peer}.npz")
            worker.ask("check", path=path)
            with np.load(path) as file:
                found.append({name: file[name] for name in file.files})
    ours, theirs = found
    worst = max(float(np.abs(x - theirs[n]).max() / max(np.abs(x).max(), 1e-2)) for n, x in ours.items())
    if not worst <= SAME:
        raise InputError("training", f"gradients within {SAME} of each other", f"{worst}")
    return worst


def measure(size: str, workloads: tuple[str, ...], threads: int, rounds: int, document: dict[str, Any]) -> None:
    """Measure all workloads of a size, ours and PyTorch's in turns; they also take turns in being first."""
    with ExitStack() as stack:
        workers = {peer: start(stack, peer, size, threads) for peer in PEERS}
        document["agree"][f"{size}@{threads}"] = agree(workers)
        for workload in workloads:
            for worker in workers.values():
                worker.ask("prepare", work=workload)
            for number in range(rounds):
                for peer in PEERS if number % 2 else PEERS[::-1]:
                    answer = workers[peer].ask("run", work=workload)
                    record = {
                        "size": size,
                        "work": workload,
                        "threads": threads,
                        "who": peer,
                        "round": number,
                        **answer,
                    }
                    document["runs"].append(record)
            results.say(f"{size} {workload} @{threads}")
            for worker in workers.values():
                worker.ask("drop", work=workload)


def report(document: dict[str, Any], path: Path) -> list[str]:
    """Write the page beside the file; the page's lines are returned."""
    head = ["size", "work", "threads", "ours, ms", "PyTorch, ms", "ours / PyTorch", "peak MiB, ours : PyTorch", ""]
    rows = []
    keys = {(r["size"], r["work"], r["threads"]): None for r in document["runs"]}
    for size, workload, threads in keys:
        runs = {
            peer: [
                r
                for r in document["runs"]
                if (r["size"], r["work"], r["threads"], r["who"]) == (size, workload, threads, peer)
            ]
            for peer in PEERS
        }
        ours, theirs = ([r["wall"] for r in runs[peer]] for peer in PEERS)
        ratio = paired_ratio(ours, theirs)
        peaks = " : ".join(f"{max(r['peak'] for r in runs[peer]) / 2**20:.0f}" for peer in PEERS)
        rows.append(
            [
                size,
                workload,
                threads,
                f"{1e3 * Spread.of(ours).median:.0f}",
                f"{1e3 * Spread.of(theirs).median:.0f}",
                f"{ratio.median:.2f} ({ratio.min:.2f} to {ratio.max:.2f})",
                peaks,
                "reached" if ratio.median <= TARGET else "above target",
            ]
        )
    note = f"The target is at most {TARGET}. Gradients differ by at most {max(document['agree'].values()):.1e}."
    return results.write_page(path, document, [*tables.markdown(rows, head), "", note])


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--size", choices=WORKLOADS, action="append", help="may be given more than once (default: mini)"
    )
    parser.add_argument("--threads", type=int, action="append", help="may be given more than once (default: 1 and 2)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true", help="one workload, three rounds, two threads")
    args = parser.parse_args()
    sizes, threads = args.size or ["mini"], args.threads or ([2] if args.quick else [1, 2])
    out, rounds = args.out or results.place("training"), 3 if args.quick else args.rounds
    document = results.begin("training", ",".join(sizes), rounds, {})
    document["agree"] = {}
    for size in sizes:
        for count in threads:
            measure(size, WORKLOADS[size][: 1 if args.quick else None], count, rounds, document)
    results.end(document, out, report)
    return 0


if __name__ == "__main__":
    results.run(main, __file__)
