"""The roofline beside the stopwatch: python benchmarks/suites/roofline.py [--size large] [--quick] [--of FILE.json].

`glimmer-ref flops latency` and `serve` predict the seconds of every stage by `glimmer_ref/costs/roofline.py`. This
script measures the same stages of FiD, LUMEN and GLIMMER with random weights, and the hardware peaks just before each
run. It reports measured / predicted by stage and in sum, twice: for the peaks themselves, and for the shares of the
peaks that an encoder and a decoder reach in the same round, which is what `--hardware bench.json` takes.

One thread does the work, and its processor seconds count, so other programs on the machine disturb little. With --of,
the prediction is made for a result of `comparison/run.py` instead, by its own peaks and wall seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import results
from comparison.ratios import DECODING, Result, Run
from comparison.rounds import described

from glimmer_ref import tables
from glimmer_ref.bench.measure import Spread
from glimmer_ref.bench.process import Worker
from glimmer_ref.bench.session import share
from glimmer_ref.bench.workload import SHAPES, WIDTHS, least_bytes, parse, shape
from glimmer_ref.costs.flops import SYSTEMS, setting_of
from glimmer_ref.costs.roofline import Group, group_seconds, work

ENGINE, GROUP = "ours:float32@1", 1
NAMES = {"fid": "FiD", "lumen": "LUMEN", "glimmer": "GLIMMER"}
TOGETHER = " + ".join(DECODING)  # the compiled decoder makes no cross keys and values: it reads the memory itself
CALIBRATION = ("encoder,k=2", "decode,k=5,steps=8")  # their shares of the peaks are the efficiency of bench.json
LITTLE = ",n_q=8,n_p=24,steps=4"


def workloads(k: int, m: int, more: str = "") -> list[str]:
    """The workloads of a round."""
    return [
        *(name + more for name in CALIBRATION),
        f"fid,k={k}{more}",
        f"lumen,k={k}{more}",
        f"glimmer,k={k},m={m}{more}",
    ]


def measure(size: str, names: list[str], rounds: int, out: Path) -> dict[str, Any]:
    """Measure all workloads in turns, each right after the peaks, and write the document."""
    document = results.begin("roofline", size, rounds, {name: described(size, name) for name in names})
    document |= {"clock": "cpu", "engines": {ENGINE: {"name": "ours", "precision": "float32", "threads": 1}}}
    command = [sys.executable, "-m", "glimmer_ref.bench.ours", "--size", size, "--threads", "1"]
    with closing(Worker(command, 1)) as worker:
        worker.ask("prepare", work="peaks-cpu")
        for name in names:
            worker.ask("prepare", work=name)
            results.say(f"{size}: {name} is ready")
        for number in range(rounds):
            for name in names:
                here = {"group": GROUP, "round": number, "work": name}
                peaks = worker.ask("run", work="peaks-cpu")["stages"]
                document["peaks"].append({**here, **peaks, "threads": 1})
                document["runs"].append({**here, "engine": ENGINE, **worker.ask("run", work=name)})
                results.say(f"{size}, round {number}: {name} {document['runs'][-1]['cpu']:.2f} s")
            results.write(out, document)
    return document


def efficiency(r: Result, size: str, engine: str, number: int) -> tuple[float, float] | None:
    """The shares of the peak and of the bandwidth in a round, as `hardware.bench_file` takes them; None if unknown."""
    clock, shares = clock_of(r.document), dict[str, float]()
    for (group, name, whose), runs in r.runs.items():
        task = parse(name)
        if whose == engine and task.kind in ("encoder", "decode") and number in runs:
            peaks = r.peaks[group, name, threads_of(r, engine)][number]
            macs, read = (
                sum(r.workloads[name]["macs"].values()),
                least_bytes(task, shape(size), precision_of(r, engine)),
            )
            shares[task.kind] = min(1.0, share(peaks, precision_of(r, engine), macs, read, runs[number][clock]))
    return (shares["encoder"], shares["decode"]) if len(shares) == 2 else None


def clock_of(document: Mapping[str, Any]) -> str:
    """The clock that counts: "wall" or "cpu"."""
    return str(document.get("clock", "wall"))


def threads_of(r: Result, engine: str) -> int:
    """How many threads an engine had."""
    return int(r.document["engines"][engine]["threads"])


def precision_of(r: Result, engine: str) -> str:
    """The precision of an engine's products."""
    return str(r.document["engines"][engine]["precision"])


def stages_of(run: Run, clock: str) -> dict[str, float]:
    """Measured seconds by the stages that a roofline has: the score belongs to live-A, and decoding is one stage."""
    seconds: Mapping[str, float] = run["stages" if clock == "wall" else "stages_cpu"]
    result: dict[str, float] = {}
    for name, x in seconds.items():
        stage = "live_a" if name == "score" else TOGETHER if name in DECODING else name
        result[stage] = result.get(stage, 0.0) + x
    return result | {"all": sum(seconds.values())}


def predicted(
    name: str, size: str, peaks: Mapping[str, float], precision: str, shares: tuple[float, float]
) -> tuple[dict[str, float], dict[str, str]]:
    """Predicted seconds by stage, and what limits each: "arithmetic" or "memory"."""
    task, width = parse(name), WIDTHS[precision]
    s = replace(setting_of(shape(size)), k=task.k, m=task.m, n_q=task.n_q, n_p=task.n_p, n_t=task.steps)
    group = Group((peaks[precision] or peaks["float32"]) * shares[0], peaks["reads"] * shares[1])
    seconds = {stage: float(x) for stage, x in group_seconds(s, task.kind, width, task.b, group).items()}
    limits = {
        stage: "arithmetic" if 2 * w.macs / group.flops >= w.bytes / group.bandwidth else "memory"
        for stage, w in work(s, task.kind, width, task.b).items()
    }
    result = {stage: x for stage, x in seconds.items() if stage not in DECODING}
    joined = " + ".join(dict.fromkeys(limits[stage] for stage in DECODING))
    result |= {TOGETHER: sum(seconds[stage] for stage in DECODING), "all": sum(seconds.values())}
    return result, limits | {TOGETHER: joined, "all": ""}


class Row(NamedTuple):
    """One stage of a system: seconds, and measured / predicted at the peaks and at the reached shares of them."""

    engine: str
    system: str
    stage: str
    limit: str
    least: Spread
    measured: Spread
    ratio: Spread
    calibrated: Spread | None


def rows_of(r: Result) -> list[Row]:
    """Every stage of every system in a result, each ratio within its round."""
    found, size, clock = list[Row](), r.document["size"], clock_of(r.document)
    for (group, name, engine), runs in r.runs.items():
        if parse(name).kind not in SYSTEMS or not all("stages" in run for run in runs.values()):
            continue
        precision, rounds = precision_of(r, engine), list[tuple[dict[str, float], ...]]()
        for number, run in runs.items():
            peaks = r.peaks[group, name, threads_of(r, engine)][number]
            least, limits = predicted(name, size, peaks, precision, (1.0, 1.0))
            shares = efficiency(r, size, engine, number)
            also = predicted(name, size, peaks, precision, shares)[0] if shares else {}
            rounds.append((stages_of(run, clock), least, also))
        for stage in rounds[0][1]:
            ratio = Spread.of([m[stage] / p[stage] for m, p, _ in rounds])
            calibrated = Spread.of([m[stage] / a[stage] for m, _, a in rounds]) if rounds[0][2] else None
            seconds = [Spread.of([x[i][stage] for x in rounds]) for i in (1, 0)]
            found.append(Row(engine, name, stage, limits[stage], *seconds, ratio, calibrated))
    return found


def fid_to_glimmer(r: Result, engine: str) -> tuple[Spread, Spread] | None:
    """FiD's seconds divided by GLIMMER's in each round, predicted and measured; None if one of them is missing."""
    ratios = list[tuple[float, float]]()
    names = {parse(name).kind: (group, name, engine) for group, name, whose in r.runs if whose == engine}
    if not {"fid", "glimmer"} <= names.keys():
        return None
    runs = [r.runs[names[system]] for system in ("fid", "glimmer")]
    for number in sorted(set(runs[0]) & set(runs[1])):
        sums = list[tuple[float, float]]()
        for some, system in zip(runs, ("fid", "glimmer"), strict=True):
            group, name, _ = names[system]
            peaks = r.peaks[group, name, threads_of(r, engine)][number]
            least = predicted(name, r.document["size"], peaks, precision_of(r, engine), (1.0, 1.0))[0]
            sums.append((least["all"], stages_of(some[number], clock_of(r.document))["all"]))
        ratios.append((sums[0][0] / sums[1][0], sums[0][1] / sums[1][1]))
    return Spread.of([a for a, _ in ratios]), Spread.of([b for _, b in ratios])


def report(document: dict[str, Any], path: Path) -> list[str]:
    """Write the page beside the file; the page's lines are returned."""
    r = Result(document)
    rows, known = rows_of(r), efficiency_spread(r)
    head = ["system", "stage", "limit", "predicted ms", "measured ms", "measured / predicted", "min-max"]
    head += ["with reached shares", "min-max"] if known else []
    counted = "processor" if clock_of(document) == "cpu" else "wall"
    lines = [
        f"T5.1.1-{document['size']}, random weights, {document['rounds']} rounds, {counted} seconds; predicted by the "
        "peaks of the same round, which the prediction assumes to be reached.",
        "",
    ]
    if known:
        (a, b), note = known, "Shares of the peaks that an encoder and a decoder reached in the same rounds: "
        lines += [f"{note}{a.median:.2f} of the arithmetic, {b.median:.2f} of the bandwidth.", ""]
    for engine in dict.fromkeys(row.engine for row in rows):
        cells = []
        for row in (row for row in rows if row.engine == engine):
            task = parse(row.system)
            system = f"{NAMES[task.kind]}, k={task.k}" + (f", m={task.m}" if task.kind == "glimmer" else "")
            cells.append(
                [system, row.stage, row.limit, f"{1e3 * row.least.median:.1f}", f"{1e3 * row.measured.median:.1f}"]
                + [x for spread in (row.ratio, row.calibrated) if spread for x in _ratio(spread)]
            )
        lines += [f"{engine}:", "", *tables.markdown(cells, head), ""]
        if both := fid_to_glimmer(r, engine):
            said = [f"{spread.median:.2f} ({spread.min:.2f} to {spread.max:.2f})" for spread in both]
            lines += [f"FiD's seconds divided by GLIMMER's: predicted {said[0]}, measured {said[1]}.", ""]
    return results.write_page(path, document, lines[:-1])


def _ratio(s: Spread) -> list[str]:
    return [f"{s.median:.2f}", f"{s.min:.2f} to {s.max:.2f}"]


def efficiency_spread(r: Result) -> tuple[Spread, Spread] | None:
    """The reached shares over all rounds; None if they were not measured."""
    rounds = sorted({run["round"] for run in r.document["runs"]})
    found = [x for number in rounds if (x := efficiency(r, r.document["size"], ENGINE, number))]
    return (Spread.of([a for a, _ in found]), Spread.of([b for _, b in found])) if found else None


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SHAPES, default="base")
    parser.add_argument("--k", type=int, default=5, help="passages of each system (default 5)")
    parser.add_argument("--m", type=int, default=2, help="passages that GLIMMER selects (default 2)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--of", type=Path, metavar="FILE.json", help="a result of comparison/run.py, measured before")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, two rounds")
    args = parser.parse_args()
    if args.of:
        out = args.out or args.of.with_name(f"{args.of.stem}-roofline.json")
        document = json.loads(args.of.read_text())
    else:
        size, rounds, more = ("tiny", 2, LITTLE) if args.quick else (args.size, args.rounds, "")
        out = args.out or results.place(f"roofline-{size}")
        document = measure(size, workloads(args.k, args.m, more), rounds, out)
    print("\n".join(report(document, out)))
    results.say(f"written to {out.with_suffix('.md')}")
    return 0


if __name__ == "__main__":
    results.run(main, __file__)
