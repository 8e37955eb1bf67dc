"""glimmer-ref bench: the speed of this package on this machine, beside the peaks of the hardware."""

from __future__ import annotations

import argparse
from typing import Any

from .. import tables
from ..errors import InputError
from ..terminal import say, say_json
from . import options

GIGA = 1e9


def add(commands: Any) -> None:
    """The command's options."""
    parser = commands.add_parser(
        "bench",
        help="measure the speed of this package, beside the peaks of the hardware",
        description="Measure how long parts of the model take on this machine, with random weights of T5.1.1, and "
        "the peak of the hardware in the same minute. Multiply-adds are those of the paper's algorithm. "
        "Comparisons with other libraries are in benchmarks/.",
    )
    parser.add_argument(
        "--work",
        metavar="WORK,..",
        help="names from --list, perhaps with other numbers, such as glimmer:k=50:m=5; or all (default: the most "
        "important ones)",
    )
    parser.add_argument(
        "--size",
        metavar="SIZE",
        default="base",
        help="size of the model: tiny, mini, small, base (default), large, xl or xxl",
    )
    parser.add_argument("--threads", metavar="N,..", default="1", help="numbers of threads, such as 1,2 (default 1)")
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "int8"),
        default="float32",
        help="precision of matrix products (default float32)",
    )
    parser.add_argument(
        "--runs", type=int, metavar="N", default=3, help="runs of each workload, whose median is shown (default 3)"
    )
    parser.add_argument("--list", action="store_true", help="only list the workloads and their multiply-adds")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.epilog = "The default takes a few minutes."
    parser.set_defaults(run=run)


def _numbers(text: str) -> list[int]:
    words = text.split(",")
    if not all(word.isdecimal() and 0 < int(word) <= 1024 for word in words):
        raise InputError("--threads", "whole numbers from 1 to 1024, such as 1,2", repr(text))
    return [int(word) for word in dict.fromkeys(words)]


def _workloads(text: str | None) -> list[str]:
    from ..bench.session import DEFAULT
    from ..bench.workload import PRESETS

    if text == "all":
        return list(PRESETS)
    return [workload.replace(":", ",") for workload in text.split(",")] if text else list(DEFAULT)


def run(args: argparse.Namespace) -> None:
    """Measure, and print the table or the report."""
    from ..bench.session import Session
    from ..bench.session import run as measure
    from ..bench.workload import shape

    if args.list:
        return print_list(args.size)
    if args.runs < 1:
        raise InputError("--runs", "at least 1", str(args.runs))
    session = Session(args.size, _workloads(args.work), _numbers(args.threads), args.precision, args.runs)
    options.note_precision("numba", args.precision, shape(args.size).t5.d_model)
    report = measure(session)
    if args.json:
        say_json(report)
    else:
        say(*table(report))
    return None


def print_list(size: str) -> None:
    """Print every workload with its multiply-adds."""
    from ..bench.workload import KINDS, PRESETS, macs, shape

    config = shape(size)
    rows = []
    for name, workload in PRESETS.items():
        kind = KINDS[workload.kind]
        total = sum(macs(workload, config).values()) / GIGA
        rows.append([name, f"{total:,.2f}", f"{kind.units(workload)} {kind.unit}s", kind.what])
    say(*tables.text(rows, [f"T5.1.1-{size}", "GMACs", "of", "what"]))
    say("any of them with other numbers: glimmer-25-5:k=50:m=10, fid:k=3:n_p=128, decode:b=8")


def _cells(row: dict[str, Any]) -> list[str]:
    """A row of the table; the spread of the runs is their range over their median."""
    spread = (row["most"] - row["least"]) / row["seconds"]
    rate = f"{row['units'] / row['seconds']:.4g} {row['unit']}s"
    share = f"{row['share']:.2f} {'reads' if row['bound'] == 'reads' else 'peak'}"
    return [
        row["work"],
        str(row["threads"]),
        f"{row['seconds']:.4f}",
        f"{spread:.0%}",
        f"{row['cpu_seconds']:.4f}",
        f"{row['macs'] / GIGA:.2f}",
        rate,
        share,
        f"{row['peak_bytes'] / 2**20:.0f}" if row["peak_bytes"] else "-",
    ]


def table(report: dict[str, Any]) -> list[str]:
    """The hardware's peaks, then a row for each workload and number of threads."""
    here = report["machine"]
    peaks = [
        [str(peak["threads"]), *(f"{peak[name] / GIGA:.1f}" for name in ("float32", "bfloat16", "int8", "reads"))]
        for peak in report["ceilings"]
    ]
    rows = [_cells(row) for row in report["rows"]]
    return [
        f"T5.1.1-{report['size']}, {report['precision']}, random weights, {report['runs']} runs each; "
        f"{here['cpu']} ({here['kind']}), {here['cores']} cores",
        "",
        "the most that this machine did in the same minute",
        *tables.text(peaks, ["threads", "float32 GFLOP/s", "bfloat16", "int8 GOP/s", "reads GB/s"]),
        "",
        *tables.text(rows, ["work", "threads", "seconds", "spread", "CPU s", "GMACs", "a second", "share of", "MiB"]),
    ]
