"""Compare engines on the same workloads, in turns: python benchmarks/comparison/run.py --size base --threads 1,2.

An engine is a library in one precision. It runs in a process of its own with a fixed number of threads, and takes part
only if its encoder computes the same values as the reference backend. Each round measures the hardware peaks and then
runs every engine once, in rotating order. Ratios are taken within a round, so a disturbance affects all engines alike.
The name of the result's file has the kind of the processor, such as avx2, whose targets the report takes.
`benchmarks/report.py` turns the result into tables and plots.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import results
from comparison.engines import installed
from comparison.rounds import Rounds

from glimmer_ref.bench.machine import cores, processor_kind
from glimmer_ref.bench.workload import SHAPES

SYSTEMS = "fid-25+glimmer-25-5+lumen-10+fid-5"
WORKLOADS = ("encoder-5", "encoder-25", "decode+answer", SYSTEMS, "memory", "attention", "linear")
LITTLE = ",n_q=8,n_p=24,steps=4"
SMOKE = (
    f"encoder,k=2{LITTLE}",
    f"decode,k=2{LITTLE}+answer,k=2{LITTLE}",
    f"fid,k=2{LITTLE}+glimmer,k=3,m=2{LITTLE}",
    "attention,n_p=24",
)


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SHAPES, default="base")
    parser.add_argument("--threads", default=",".join(map(str, sorted({1, cores()}))), help="like 1,2: one group each")
    parser.add_argument("--engines", help=f"comma-separated; here: {','.join(installed())} (default: all)")
    parser.add_argument(
        "--work", help=f"like 'decode glimmer,k=50,m=5'; a+b in the same rounds; default: {' '.join(WORKLOADS)}"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--pause", type=float, default=0.2, help="seconds before each run, in which threads stop spinning"
    )
    parser.add_argument("--lock", type=Path, help="hold this file's lock while timing; useful where others take it too")
    parser.add_argument("--folder", help="of the random weights and their converted forms (default: in ~/.cache)")
    parser.add_argument("--out", type=Path, help="the result's file (default: its name has the processor's kind)")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, two rounds: does every engine still work?")
    return parser


def main() -> int:
    """Measure, and print where the result is."""
    args = options().parse_args()
    if args.smoke:
        args.size, args.rounds, args.pause = "tiny", 2, 0.0
    workloads = args.work.split() if args.work else SMOKE if args.smoke else WORKLOADS
    names = args.engines.split(",") if args.engines else installed()
    out = args.out or (Path(tempfile.mkdtemp()) / "smoke.json" if args.smoke else results.place(args.size))
    results.say(f"the processor's kind: {processor_kind()}")
    rounds = Rounds(args.size, out, args.rounds, args.lock, args.pause, workloads, args.folder)
    for threads in map(int, args.threads.split(",")):
        rounds.group = threads
        single = [("ours:float32", 1)] if threads > 1 and "ours:float32" in names else []  # for the gain of threads
        rounds.measure([*((name, threads) for name in names), *single])
    results.write(out, rounds.document)
    results.say(f"written to {out}")
    return 1 if args.smoke and any("left_out" in about for about in rounds.document["engines"].values()) else 0


if __name__ == "__main__":
    results.run(main, __file__)
