"""How much faster bfloat16 and int8 are than float32, by kind of processor: python benchmarks/suites/precisions.py.

Kinds whose features this processor has are played: NUMBA_CPU_FEATURES hides the others from numba. The last lines are
those of `FACTORS` in glimmer_ref/ops/processor.py, from which the commands know that a precision is slower.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import results

from glimmer_ref import tables
from glimmer_ref.bench.measure import Spread
from glimmer_ref.bench.process import Worker
from glimmer_ref.bench.workload import shape
from glimmer_ref.errors import InputError
from glimmer_ref.ops import PRECISIONS, processor
from glimmer_ref.ops.cpu.kernels.llvm_ir import FEATURES

AVX2 = "sse2,sse3,ssse3,sse4.1,sse4.2,popcnt,avx,avx2,fma,f16c,bmi,bmi2"
AVX512 = f"{AVX2},avx512f,avx512bw,avx512cd,avx512dq,avx512vl"
PLAYED = {"avx2": AVX2, "avx512": AVX512, "avx512-vnni": f"{AVX512},avx512vnni"}
WORKS = ("encoder,k=1", "answer,k=1")  # see `processor.Factors`: encoding, decoding


def worker(kind: str, size: str, precision: str) -> Worker:
    """A process with one thread that takes this processor for one of the kind."""
    command = [sys.executable, "-m", "glimmer_ref.bench.ours", "--size", size, "--precision", precision]
    if kind != processor.kind():
        flags = ",".join(f"+{name}" for name in PLAYED[kind].split(","))
        command = ["env", "NUMBA_CPU_NAME=generic", f"NUMBA_CPU_FEATURES={flags}", *command]
    return Worker(command, 1)


def measured(kind: str, size: str, rounds: int) -> list[dict[str, Any]]:
    """The seconds of every precision for each work, in turns."""
    runs = []
    with ExitStack() as stack:
        workers = {p: stack.enter_context(closing(worker(kind, size, p))) for p in PRECISIONS}
        for name in WORKS:
            for one in workers.values():
                one.ask("prepare", work=name)
        for number in range(rounds):
            for name in WORKS:
                for precision, one in workers.items():
                    seconds = one.ask("run", work=name)["wall"]
                    about = {"processor": kind, "size": size, "work": name, "precision": precision}
                    runs.append({**about, "round": number, "wall": seconds})
    return runs


def factors(runs: list[dict[str, Any]]) -> dict[tuple[str, str, str, str], Spread]:
    """float32's seconds by those of each lower precision in each round: by processor, precision, size and work."""
    seconds = {(r["processor"], r["precision"], r["size"], r["work"], r["round"]): r["wall"] for r in runs}
    ratios: dict[tuple[str, str, str, str], list[float]] = {}
    for (kind, precision, size, work, number), wall in seconds.items():
        if precision != "float32":
            ratio = seconds[kind, "float32", size, work, number] / wall
            ratios.setdefault((kind, precision, size, work), []).append(ratio)
    return {key: Spread.of(some) for key, some in ratios.items()}


def report(document: dict[str, Any], path: Path) -> list[str]:
    """Write the page beside the file; the page's lines are returned."""
    found = factors(document["runs"])
    rows = [[*key, f"{s.median:.2f}", f"{s.min:.2f} to {s.max:.2f}"] for key, s in found.items()]
    head = ["processor", "precision", "T5.1.1 size", "work, one thread", "times as fast as float32", "min-max"]
    lines = []
    for kind, precision in dict.fromkeys(key[:2] for key in found):
        values = [found[kind, precision, size, work].median for size in document["sizes"] for work in WORKS]
        lines.append(f'    ("{kind}", "{precision}"): Factors({", ".join(f"{x:.2f}" for x in values)}),')
    return results.write_page(path, document, [*tables.markdown(rows, head), "", "```python", *lines, "```"])


def main() -> int:
    """Measure and report."""
    kinds = [processor.kind(), *(k for k, flags in PLAYED.items() if set(flags.split(",")) <= FEATURES)]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default=",".join(dict.fromkeys(kinds)), help="comma-separated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true", help="two rounds, tiny sizes")
    args = parser.parse_args()
    if unknown := [k for k in args.kinds.split(",") if k not in kinds]:
        raise InputError("--kinds", f"only {', '.join(kinds)}", ", ".join(unknown))
    sizes = ("tiny", "mini") if args.quick else ("mini", "base")
    assert shape(sizes[0]).t5.d_model < processor.LARGE or args.quick
    document = results.begin("precisions", sizes[-1], 2 if args.quick else args.rounds, {name: {} for name in WORKS})
    document["sizes"] = sizes
    out = args.out or results.place("precisions")
    for kind in args.kinds.split(","):
        for size in sizes:
            document["runs"] += measured(kind, size, document["rounds"])
            results.say(f"{kind}, {size}")
    results.end(document, out, report)
    return 0


if __name__ == "__main__":
    results.run(main, __file__)
