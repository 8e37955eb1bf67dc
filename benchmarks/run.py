"""All contestants on the same work, in turns: python benchmarks/run.py --size base --threads 1,2.

Each contestant is a process of its own with its threads fixed. In every round each runs once, in rotating
order, after this machine's ceilings; ratios are made round by round, so that what disturbs one disturbs all.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import results
from checkpoint import EXPECTED
from contestants import Contestant, check, everybody, start

from glimmer_ref.bench.machine import cores
from glimmer_ref.bench.measure import Spread
from glimmer_ref.bench.process import Worker
from glimmer_ref.bench.work import KINDS, PRESETS, SHAPES, least_bytes, macs, parse, shape
from glimmer_ref.errors import Refused

HERE = Path(__file__).resolve().parent
NEAR = 0.93  # of the best ceiling so far: a round that begins below it waits
SMOKE = ("encoder,k=2,n_q=8,n_p=24", "decode,k=2,n_q=8,n_p=24,steps=4", "fid,k=2,n_q=8,n_p=24,steps=4",
         "glimmer,k=3,m=2,n_q=8,n_p=24,steps=4", "attention,k=2,n_p=24")  # fmt: skip


@dataclass
class Campaign:
    """What one call measures, and what it has measured so far."""

    size: str
    folder: Path
    rounds: int
    lock: Path | None
    pause: float
    out: Path
    document: dict[str, Any] = field(default_factory=dict)
    group: int = 1


def say(line: str) -> None:
    """A line of progress."""
    print(time.strftime("%H:%M:%S"), line, file=sys.stderr, flush=True)


@contextmanager
def alone(lock: Path | None) -> Iterator[None]:
    """Hold an exclusive lock on a file, for machines where others wait for the same one."""
    if lock is None:
        yield
        return
    import fcntl

    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def weights_folder(size: str, chosen: str | None) -> Path:
    """The folder of random weights of a size, written if it is not there; kept for the next run."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(chosen) if chosen else cache / "glimmer_ref_benchmarks" / size
    if not (folder / EXPECTED).exists():
        say(f"random weights of {size} into {folder}")
        subprocess.run([sys.executable, str(HERE / "checkpoint.py"), size, str(folder)], check=True)
    return folder


def gather(campaign: Campaign, names: Sequence[tuple[str, int]]) -> list[Contestant]:
    """Start all, one after the other; who cannot start or computes something else is left out, and it is noted why."""
    there = []
    with np.load(campaign.folder / EXPECTED) as file:
        expected = dict(file)
    for who, threads in names:
        begin, contestant = time.monotonic(), start(who, campaign.size, campaign.folder, threads)
        about: dict[str, Any] = {"name": contestant.name, "precision": contestant.precision, "threads": threads}
        try:
            about |= contestant.worker.ask("about")
            about |= check(contestant, expected, campaign.folder / f"got-{os.getpid()}.npz")
            there.append(contestant)
            told = f"error {about['error']:.1e}, ready in {time.monotonic() - begin:.0f} s"
        except Refused as error:
            told = about["left_out"] = str(error)
            contestant.worker.close()
        campaign.document["contestants"][contestant.id] = about
        say(f"{contestant.id}: {told}")
    (campaign.folder / f"got-{os.getpid()}.npz").unlink(missing_ok=True)
    return there


def ready(campaign: Campaign, work: str, contestants: Sequence[Contestant]) -> list[Contestant]:
    """Those that do this work, warmed up."""
    able = []
    for contestant in contestants:
        try:
            with alone(campaign.lock):
                contestant.worker.ask("prepare", work=work)
            able.append(contestant)
        except Refused as error:
            campaign.document["not_done"].setdefault(work, {})[contestant.id] = str(error)
    return able


def quiet(campaign: Campaign, threads: int, worker: Worker) -> dict[str, Any]:
    """The ceilings, measured until they are near the best so far: below that, somebody else is at work here."""
    for _ in range(20):
        told = worker.ask("run", work="ceilings")["stages"]
        best = max([told["float32"], *(c["float32"] for c in campaign.document["ceilings"] if c["threads"] == threads)])
        if told["float32"] > NEAR * best:
            return told
        time.sleep(2)
    say(f"not quiet: {told['float32'] / best:.0%} of what {threads} thread(s) reached before; measured all the same")
    return told


def rounds(campaign: Campaign, work: str, able: list[Contestant], ceilings: dict[int, Worker]) -> None:
    """Every round: the ceilings, then each contestant once, the first of the last round last."""
    for number in range(campaign.rounds):
        with alone(campaign.lock):
            for threads, worker in ceilings.items():
                told = quiet(campaign, threads, worker)
                campaign.document["ceilings"].append(
                    {"group": campaign.group, "work": work, "round": number, **told, "threads": threads}
                )
            turn = number % len(able)
            for contestant in able[turn:] + able[:turn]:
                time.sleep(campaign.pause)
                figures = contestant.worker.ask("run", work=work)
                campaign.document["runs"].append(
                    {"group": campaign.group, "work": work, "round": number, "contestant": contestant.id, **figures}
                )


def summary(campaign: Campaign, work: str) -> None:
    """One line a contestant."""
    for who in campaign.document["contestants"]:
        mine = (campaign.group, work, who)
        walls = [r["wall"] for r in campaign.document["runs"] if (r["group"], r["work"], r["contestant"]) == mine]
        if walls:
            s = Spread.of(walls)
            say(f"{work:14} {who:26} {s.median:9.4f} s  ({s.least:.4f} .. {s.most:.4f})")


def measure_group(campaign: Campaign, names: Sequence[tuple[str, int]], works: Sequence[str]) -> None:
    """All work of contestants that run beside each other."""
    ceilings, there = {}, gather(campaign, names)
    for threads in sorted({threads for _, threads in names}):
        command = [sys.executable, "-m", "glimmer_ref.bench.ours", "--size", "tiny", "--threads", str(threads)]
        ceilings[threads] = Worker(command, threads)
        ceilings[threads].ask("prepare", work="ceilings")
    try:
        for work in works:
            if able := ready(campaign, work, there):
                rounds(campaign, work, able, ceilings)
                summary(campaign, work)
                results.write(campaign.out, campaign.document)
            for contestant in able:
                contestant.worker.ask("drop", work=work)
    finally:
        for worker in [*ceilings.values(), *(c.worker for c in there)]:
            worker.close()


def described(campaign: Campaign, works: Sequence[str]) -> dict[str, Any]:
    """Each work in words, and what it costs by the package's own count."""
    config, result = shape(campaign.size), {}
    for name in works:
        work = parse(name)
        kind = KINDS[work.kind]
        result[name] = {
            "kind": work.kind, "what": kind.what, "unit": kind.unit, "units": kind.units(work), "bound": kind.bound,
            "macs": macs(work, config), "k": work.k, "tokens": work.read, "steps": work.steps,
            "bytes": {p: least_bytes(work, config, p) for p in ("float32", "bfloat16", "int8")},
        }  # fmt: skip
    return result


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SHAPES, default="base")
    parser.add_argument("--threads", default=",".join(map(str, sorted({1, cores()}))), help="like 1,2: one group each")
    parser.add_argument("--contestants", help=f"comma-separated; here: {','.join(everybody())} (default: all)")
    parser.add_argument("--work", help=f"space-separated, default: {' '.join(PRESETS)}; or like 'glimmer,k=50,m=5'")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--pause", type=float, default=0.2, help="seconds before each run, for spinning threads to stop"
    )
    parser.add_argument("--lock", type=Path, help="hold this file's lock while timing, where others heed it too")
    parser.add_argument("--folder", help="of the random weights and what peers make of them (default: in ~/.cache)")
    parser.add_argument("--out", type=Path, help="the result's file (default: benchmarks/results/<date>-<machine>)")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, one round: does everybody still work?")
    return parser


def main() -> int:
    """Measure, and say where the result is."""
    args = options().parse_args()
    if args.smoke:
        args.size, args.rounds, args.pause = "tiny", 2, 0.0
    works = args.work.split() if args.work else SMOKE if args.smoke else tuple(PRESETS)
    names = args.contestants.split(",") if args.contestants else everybody()
    folder = weights_folder(args.size, args.folder)
    out = args.out or results.place("smoke" if args.smoke else args.size)
    campaign = Campaign(args.size, folder, args.rounds, args.lock, args.pause, out)
    campaign.document = results.begin(args.size, args.rounds, described(campaign, works))
    for threads in map(int, args.threads.split(",")):
        campaign.group = threads
        group = [(who, threads) for who in names]
        group += [("ours:float32", 1)] if threads > 1 and "ours:float32" in names else []
        measure_group(campaign, group, works)
    results.write(out, campaign.document)
    say(f"written to {out}")
    left_out = [about["left_out"] for about in campaign.document["contestants"].values() if "left_out" in about]
    return 1 if args.smoke and left_out else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Refused as error:
        sys.exit(f"benchmarks/run.py: error: {error}")
