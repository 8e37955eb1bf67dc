"""Time and memory against k, lengths, batch size and model size: python benchmarks/suites/scale.py [--quick]."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import results
from comparison.plots import pyplot
from comparison.ratios import Result
from comparison.rounds import Rounds

from glimmer_ref import tables
from glimmer_ref.bench.machine import memory_bytes
from glimmer_ref.bench.workload import SHAPES, shape
from glimmer_ref.errors import InputError
from glimmer_ref.params.model import shapes

CLIFF = 1.5  # a point is reported if a multiply-add takes this many times the least seconds at smaller values


class Series(NamedTuple):
    """What grows, its values, and the workloads, with `{}` for the value. A model's value is its size."""

    x: str
    values: tuple[Any, ...]
    works: tuple[str, ...]
    unit: str = "seconds"


FULL = {
    "passages": Series("k, passages", (5, 10, 25, 50, 100, 200), ("glimmer,k={},m=5", "lumen,k={}", "fid,k={}")),
    "length": Series("tokens of a passage", (32, 64, 128, 256, 512, 1024, 2048), ("encoder,k=5,n_p={}",)),
    "questions": Series("b, questions at once", (1, 2, 4, 8, 16, 32), ("decode,k=1,b={}",), "tokens a second"),
    "model": Series("model", ("mini", "small", "base", "large", "xl"), ("encoder-5", "decode", "glimmer-25-5")),
}
QUICK = {
    "passages": Series("k, passages", (5, 10, 20), ("glimmer,k={},m=5,n_p=48,steps=4", "fid,k={},n_p=48,steps=4")),
    "length": Series("tokens of a passage", (32, 128), ("encoder,k=2,n_p={}",)),
    "questions": Series("b, questions at once", (1, 4), ("decode,k=1,b={},n_p=48,steps=8",), "tokens a second"),
    "model": Series("model", ("tiny", "mini"), ("encoder,k=2,n_p=48",)),
}


def fits(size: str) -> bool:
    """True if main memory holds a model's random weights in float32 and a second copy in the backend's layout."""
    weights = 4 * sum(_product(s) for s in shapes(shape(size)).values())
    return memory_bytes() == 0 or 2.2 * weights < memory_bytes()


def _product(numbers: tuple[int, ...]) -> int:
    result = 1
    for n in numbers:
        result *= n
    return result


def parts(series: Series, size: str) -> list[tuple[str, list[str]]]:
    """The workloads of a series, by the size of the model."""
    if series.x != "model":
        return [(size, [workload.format(value) for value in series.values for workload in series.works])]
    return [(value, list(series.works)) for value in series.values]


def measure(args: argparse.Namespace, chosen: dict[str, Series], out: Path) -> dict[str, Any]:
    """Measure all series, with one process for each size of the model; the document is written after each."""
    document = results.begin("scale", args.size, args.rounds, {})
    document |= {
        "threads": args.threads,
        "series": {n: s._asdict() for n, s in chosen.items()},
        "parts": [],
        "left_out": [],
    }
    for name, series in chosen.items():
        for size, workloads in parts(series, args.size):
            if not fits(size):
                document["left_out"].append(f"{name}: {size} does not fit into this machine's memory")
                results.say(document["left_out"][-1])
                continue
            place = out.with_name(f".{out.stem}.part.json")
            rounds = Rounds(size, place, args.rounds, args.lock, 0.0, workloads, None, "scale", False)
            rounds.group = args.threads
            try:
                rounds.measure([(f"ours:{args.precision}", args.threads)])
            except InputError as error:  # the model does not fit into memory after all
                document["left_out"].append(f"{name}: {size}: {error}")
            document["parts"].append({"series": name, **rounds.document})
            results.write(out, document)
            place.unlink(missing_ok=True)
    return document


class Dot(NamedTuple):
    """One measured point."""

    x: Any
    seconds: float
    peak: int
    macs: int
    units: int
    bound: float  # seconds that reading its bytes takes at the measured bandwidth


def lines_of(document: dict[str, Any], name: str) -> dict[str, list[Dot]]:
    """The lines of a series: each of its workloads, at all measured values."""
    series, result = Series(**document["series"][name]), dict[str, list[Dot]]()
    for part in (part for part in document["parts"] if part["series"] == name):
        r = Result(part)
        for template in series.works:
            for value in [part["size"]] if series.x == "model" else series.values:
                workload = template.format(value)
                for engine in r.engines(document["threads"], workload):
                    result.setdefault(template, []).append(_dot(r, document["threads"], workload, engine, value))
    return result


def _dot(r: Result, group: int, workload: str, engine: str, value: Any) -> Dot:
    wall, peak, costs = (
        r.spread(group, workload, engine),
        r.spread(group, workload, engine, "peak"),
        r.workloads[workload],
    )
    reads = r.peak(group, group, "reads")
    assert wall is not None and peak is not None and reads is not None
    bound = costs["bytes"][r.document["engines"][engine]["precision"]] / reads.median
    return Dot(value, wall.median, int(peak.max), sum(costs["macs"].values()), costs["units"], bound)


def cliffs(dots: list[Dot]) -> list[Any]:
    """The values at which a multiply-add takes much longer than at a smaller value."""
    per, found = [dot.seconds / dot.macs for dot in dots], []
    for i, dot in enumerate(dots):
        if i and per[i] > CLIFF * min(per[:i]):
            found.append(dot.x)
    return found


def report(document: dict[str, Any], path: Path) -> list[str]:
    """Write the page and the plot beside the file; the page's lines are returned."""
    picture = path.with_suffix(".png")
    lines = [f"T5.1.1-{document['size']} unless said, {document['threads']} thread(s).", ""]
    for name, described in document["series"].items():
        rows = []
        for template, dots in lines_of(document, name).items():
            rows += [
                [
                    d.x,
                    template,
                    f"{d.seconds:.4f}",
                    f"{2 * d.macs / d.seconds / 1e9:.1f}",
                    f"{d.units / d.seconds:.2f}",
                    f"{d.peak / 2**20:.0f}",
                ]
                for d in dots
            ]
            if found := cliffs(dots):
                rows.append(["", template, f"a multiply-add costs over {CLIFF}x more at {found}", "", "", ""])
        head = [described["x"], "work", "seconds", "GFLOP/s", "units a second", "peak MiB"]
        lines += [*tables.markdown(rows, head), ""]
    draw(document, picture)
    lines += [*(f"- {line}" for line in document["left_out"]), "", f"![growth]({picture.name})"]
    return results.write_page(path, document, lines)


def draw(document: dict[str, Any], path: Path) -> None:
    """Plot above the seconds beside those that the multiply-adds predict, or the throughput; below, the peak memory."""
    plt = pyplot()
    count = len(document["series"])
    figure, panels = plt.subplots(2, count, figsize=(4.2 * count, 7.4), layout="constrained", squeeze=False)
    for column, (name, described) in enumerate(document["series"].items()):
        above, below = panels[0][column], panels[1][column]
        for number, (template, dots) in enumerate(lines_of(document, name).items()):
            colour, label = f"C{number}", template.replace(",k={}", "").replace(",b={}", "").replace(",n_p={}", "")
            words = described["x"] == "model"
            at = [str(d.x) for d in dots] if words else [d.x for d in dots]
            if described["unit"] == "seconds":
                above.plot(at, [d.seconds for d in dots], "o-", color=colour, label=label)
                rate = dots[len(dots) // 2].seconds / dots[len(dots) // 2].macs
                above.plot(at, [d.macs * rate for d in dots], "--", color=colour, alpha=0.6)
            else:
                above.plot(at, [d.units / d.seconds for d in dots], "o-", color=colour, label=label)
                above.plot(at, [d.units / d.bound for d in dots], "--", color=colour, alpha=0.6)
            below.plot(at, [d.peak / 2**20 for d in dots], "o-", color=colour, label=label)
        above.set_ylabel(described["unit"])
        below.set_ylabel("peak MiB")
        for axes in (above, below):
            axes.set_xlabel(described["x"])
            axes.grid(alpha=0.3, which="both")
            if described["x"] != "model":
                axes.set_xscale("log", base=2)
                axes.set_xticks(described["values"], [str(v) for v in described["values"]], fontsize=7)
        above.set_yscale("log")
        below.set_ylim(bottom=0)
        above.legend(fontsize=7)
        dashed = "growth by multiply-adds" if described["unit"] == "seconds" else "what the memory bandwidth allows"
        above.set_title(f"{described['unit']} by {described['x']}\ndashed: {dashed}", fontsize=9)
    figure.suptitle(f"T5.1.1-{document['size']}, {document['threads']} thread(s), {document['machine']['cpu']}")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SHAPES, default="base")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=("float32", "bfloat16", "int8"), default="float32")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--series", help=f"comma-separated, of {','.join(FULL)} (default: all)")
    parser.add_argument("--lock", type=Path, help="hold this file's lock while timing")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true", help="few and small values")
    args = parser.parse_args()
    all_of = QUICK if args.quick else FULL
    names = args.series.split(",") if args.series else list(all_of)
    if unknown := set(names) - set(all_of):
        raise InputError("--series", f"some of {', '.join(all_of)}", ", ".join(unknown))
    out = args.out or results.place(f"scale-{args.size}")
    document = measure(args, {name: all_of[name] for name in names}, out)
    results.end(document, out, report)
    return 0


if __name__ == "__main__":
    results.run(main, __file__)
