"""GLIMMER's savings in time: python benchmarks/suites/savings.py [--quick] sweeps k, m, alpha and beta beside FiD.

Each point is timed in the same rounds as FiD over 25 passages. Its ratio of times is compared with the ratio of counted
multiply-adds. The seconds of every stage show where the two ratios differ.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import results
from comparison.plots import pyplot
from comparison.ratios import Result, encoder_seconds, stage_macs
from comparison.rounds import Rounds

from glimmer_ref import tables
from glimmer_ref.bench.measure import Spread
from glimmer_ref.bench.workload import SHAPES

FULL = {
    "k": (5, 10, 15, 25, 35, 50),
    "m": (1, 2, 5, 10, 15, 25),
    "alpha": ("1/6", "1/3", "1/2", "2/3", "1"),
    "beta": ("0", "1/4", "1/2", "3/4", "1"),
}
QUICK = {"k": (5, 25), "m": (1, 5), "alpha": ("1/6", "1"), "beta": ("0", "1")}
REST = {"k": 25, "m": 5, "alpha": "1/3", "beta": "1/4"}
COLOURS = {"question": "#8f9aa0", "live_a": "#0b3c49", "score": "#000000", "live_b": "#3a86a8", "encoder": "#3a86a8",
           "cross": "#e6ab02", "decoder": "#d95f02"}  # fmt: skip


def workload(parameter: str, value: Any, more: str) -> str:
    """The workload of one point. The sweep of alpha has beta 1/2, which gives whole layers for each alpha."""
    fields = {**REST, parameter: value}
    if parameter == "alpha":
        fields["beta"] = "1/2"
    return "glimmer," + ",".join(f"{name}={x}" for name, x in fields.items()) + more


class Point(NamedTuple):
    """One point of a sweep, as ratios to FiD over 25 passages; the `encoder` fields leave the decoder out."""

    value: Any
    macs: float
    time: Spread
    encoder_macs: float
    encoder_time: Spread
    seconds: dict[str, float]
    rates: dict[str, float]
    stage: str
    excess: float


def point(r: Result, group: int, value: Any, name: str, fid: str) -> Point:
    """The ratios and stages of a point, and the stage whose time differs most from its multiply-adds at FiD's rate."""
    (engine,) = r.engines(group, name)
    macs, total = r.workloads[name]["macs"], sum(r.workloads[fid]["macs"].values())
    runs, whole = r.runs[group, name, engine], r.spread(group, fid, engine)
    pair = (name, engine), (fid, engine)
    time, encoder = r.ratio(group, *pair), r.ratio(group, *pair, encoder_seconds)
    assert whole is not None and time is not None and encoder is not None
    stages = {
        s: Spread.of([run["stages"][s] for run in runs.values()]).median for s in next(iter(runs.values()))["stages"]
    }
    counted = stage_macs(macs)
    excess = {s: t - counted.get(s, 0) * whole.median / total for s, t in stages.items()}
    worst = max(excess, key=lambda s: abs(excess[s]))
    return Point(
        value,
        sum(macs.values()) / total,
        time,
        r.encoder_macs(name) / r.encoder_macs(fid),
        encoder,
        stages,
        {s: 2 * counted.get(s, 0) / t / 1e9 for s, t in stages.items()},
        worst,
        excess[worst] / whole.median,
    )


def sweeps(r: Result, document: dict[str, Any]) -> Iterator[tuple[str, list[Point]]]:
    """The points of each parameter."""
    for parameter, values in document["sweeps"].items():
        names = [workload(parameter, value, document["more"]) for value in values]
        points = zip(values, names, strict=True)
        yield parameter, [point(r, r.groups[0], v, n, document["fid"]) for v, n in points if n in r.workloads]


def report(document: dict[str, Any], path: Path) -> list[str]:
    """Write the page and the plot beside the file; the page's lines are returned."""
    found = dict(sweeps(Result(document), document))
    draw(found, document, path.with_suffix(".png"))
    head = ["", "encoder: MACs", "time (min-max)", "time/MACs", "all: MACs", "time", "time/MACs"]
    head += ["parts most at", "GFLOP/s by stage"]
    lines = [
        "Time and multiply-adds of GLIMMER as shares of FiD's over 25 passages: encoder side, and to the answer's end.",
        "",
    ]
    rows = []
    for parameter, points in found.items():
        for p in points:
            rates = ", ".join(f"{stage} {rate:.0f}" for stage, rate in p.rates.items() if rate)
            e, t = p.encoder_time, p.time
            rows.append(
                [
                    f"{parameter}={p.value}",
                    f"{p.encoder_macs:.3f}",
                    f"{e.median:.3f} ({e.min:.3f} to {e.max:.3f})",
                    f"{e.median / p.encoder_macs:.2f}",
                    f"{p.macs:.3f}",
                    f"{t.median:.3f}",
                    f"{t.median / p.macs:.2f}",
                    f"{p.stage} {p.excess:+.3f}",
                    rates,
                ]
            )
    lines += tables.markdown(rows, head)
    rest = ", ".join(f"{name}={x}" for name, x in REST.items())
    note = f"What is not swept is {rest} (beta=1/2 while alpha is swept). 'Parts most at': the stage whose time differs"
    note += " most from its multiply-adds at FiD's mean rate, as a share of FiD's time."
    plot = f"![time against multiply-adds]({path.with_suffix('.png').name})"
    return results.write_page(path, document, [*lines, "", note, "", plot])


def draw(found: dict[str, list[Point]], document: dict[str, Any], path: Path) -> None:
    """Plot the ratios of time and of multiply-adds above, the seconds by stage below."""
    plt = pyplot()
    figure, panels = plt.subplots(2, len(found), figsize=(3.6 * len(found), 7), layout="constrained", squeeze=False)
    for column, (parameter, points) in enumerate(found.items()):
        above, below = panels[0][column], panels[1][column]
        at, labels = range(len(points)), [str(p.value) for p in points]
        for macs, time, what, colour in (
            ("encoder_macs", "encoder_time", "encoder side", "#0b3c49"),
            ("macs", "time", "to the answer's end", "#d95f02"),
        ):
            spreads = [getattr(p, time) for p in points]
            error = [[s.median - s.min for s in spreads], [s.max - s.median for s in spreads]]
            above.errorbar(at, [s.median for s in spreads], error, marker="o", color=colour, label=f"time, {what}")
            above.plot(at, [getattr(p, macs) for p in points], "--", color=colour, label=f"multiply-adds, {what}")
        bottom = [0.0] * len(points)
        for stage in dict.fromkeys(stage for p in points for stage in p.seconds):
            seconds = [p.seconds.get(stage, 0.0) for p in points]
            below.bar(at, seconds, bottom=bottom, label=stage, color=COLOURS.get(stage, "#999999"))
            bottom = [a + b for a, b in zip(bottom, seconds, strict=True)]
        for axes in (above, below):
            axes.set_xticks(at, labels)
            axes.set_xlabel(parameter)
            axes.set_ylim(bottom=0)
    panels[0][0].set_ylabel("share of FiD over 25 passages")
    panels[1][0].set_ylabel("seconds")
    panels[0][0].legend(fontsize=7)
    panels[1][0].legend(fontsize=7)
    threads = document["runs"][0]["group"]
    figure.suptitle(f"GLIMMER, T5.1.1-{document['size']}, {threads} thread(s), {document['machine']['cpu']}")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SHAPES, default="base", help="12 encoder layers fit these proportions")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=("float32", "bfloat16", "int8"), default="float32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lock", type=Path, help="hold this file's lock while timing")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true", help="two points a sweep, short texts, one round")
    args = parser.parse_args()
    points, more = (QUICK, ",n_p=48,steps=8") if args.quick else (FULL, "")
    fid = f"fid,k=25{more}"
    together = ["+".join([fid, *(workload(name, value, more) for value in values)]) for name, values in points.items()]
    out = args.out or results.place(f"savings-{args.size}")
    rounds = Rounds(args.size, out, 1 if args.quick else args.rounds, args.lock, 0.1, together, None, "savings", False)
    rounds.document |= {"sweeps": points, "fid": fid, "more": more}
    rounds.group = args.threads
    rounds.measure([(f"ours:{args.precision}", args.threads)])
    print("\n".join(report(rounds.document, out)))
    results.say(f"written to {out}")
    return 0


if __name__ == "__main__":
    results.run(main, __file__)
