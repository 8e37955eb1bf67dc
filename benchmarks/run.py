"""All contestants on the same work, in turns: python benchmarks/run.py --size base --threads 1,2.

Each contestant is a process of its own with its threads fixed, and is let in only if its encoder computes what the
reference's does. In every round each runs once, in rotating order, after this machine's ceilings; ratios are made
round by round, so that what disturbs one disturbs all. `report.py` turns the result into tables and pictures.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import results
from campaign import Campaign, say
from contestants import everybody

from glimmer_ref.bench.machine import cores
from glimmer_ref.bench.work import SHAPES
from glimmer_ref.errors import InputError

WORK = ("encoder-5", "encoder-25", "decode", "fid-25+glimmer-25-5+lumen-10+fid-5", "memory", "attention", "linear")
LITTLE = ",n_q=8,n_p=24,steps=4"
SMOKE = (f"encoder,k=2{LITTLE}", f"decode,k=2{LITTLE}", f"fid,k=2{LITTLE}+glimmer,k=3,m=2{LITTLE}", "attention,n_p=24")


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SHAPES, default="base")
    parser.add_argument("--threads", default=",".join(map(str, sorted({1, cores()}))), help="like 1,2: one group each")
    parser.add_argument("--contestants", help=f"comma-separated; here: {','.join(everybody())} (default: all)")
    parser.add_argument(
        "--work", help=f"like 'decode glimmer,k=50,m=5'; a+b in the same rounds; default: {' '.join(WORK)}"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--pause", type=float, default=0.2, help="seconds before each run, for spinning threads to stop"
    )
    parser.add_argument("--lock", type=Path, help="hold this file's lock while timing, where others heed it too")
    parser.add_argument("--folder", help="of the random weights and what peers make of them (default: in ~/.cache)")
    parser.add_argument("--out", type=Path, help="the result's file (default: benchmarks/results/<date>-<machine>)")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, two rounds: does everybody still work?")
    return parser


def main() -> int:
    """Measure, and say where the result is."""
    args = options().parse_args()
    if args.smoke:
        args.size, args.rounds, args.pause = "tiny", 2, 0.0
    works = args.work.split() if args.work else SMOKE if args.smoke else WORK
    names = args.contestants.split(",") if args.contestants else everybody()
    out = args.out or (Path(tempfile.mkdtemp()) / "smoke.json" if args.smoke else results.place(args.size))
    campaign = Campaign(args.size, out, args.rounds, args.lock, args.pause, works, args.folder)
    for threads in map(int, args.threads.split(",")):
        campaign.group = threads
        alone = [("ours:float32", 1)] if threads > 1 and "ours:float32" in names else []  # what more threads gain
        campaign.measure([*((who, threads) for who in names), *alone])
    results.write(out, campaign.document)
    say(f"written to {out}")
    return 1 if args.smoke and any("left_out" in about for about in campaign.document["contestants"].values()) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        sys.exit(f"benchmarks/run.py: error: {error}")
