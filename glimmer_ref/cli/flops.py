"""glimmer-ref flops: the cost of a question, and how it depends on k, m, alpha, beta, lengths and size."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from ..errors import InputError
from ..terminal import say, say_json
from .flops_hardware import corpus_size, counted, dtype_of, efficiency, hardware, known_dtype, positive, request
from .flops_options import COUNTS, USES, add_shared, add_specific


def add(commands: Any) -> None:
    """The command's options; every action takes those that it uses, before or after its name."""
    parser = commands.add_parser(
        "flops",
        help="count what a question costs",
        description="Count what one question costs in each system, in multiply-adds. The defaults are those of the "
        "paper: the XXL model, k=25, m=5, alpha=1/3, beta=1/4, 48 tokens in a question, 304 in a passage, 64 decoder "
        "steps.",
    )
    add_shared(parser, USES[None])
    parser.set_defaults(run=run, action=None)
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION")
    added = {}
    for name, (_, text) in ACTIONS.items():
        # It has no defaults of its own, so that it does not undo options before its name.
        sentence = f"{text[0].upper()}{text[1:]}."
        added[name] = actions.add_parser(name, help=text, description=sentence, argument_default=argparse.SUPPRESS)
        add_shared(added[name], USES[name])
    add_specific(added)


def run(args: argparse.Namespace) -> None:
    """Compute the requested report, and print or plot it."""
    from .. import tables
    from ..costs.reports import as_json
    from . import flops_tables, output

    for name in USES[None]:
        if getattr(args, name, None) is not None and name not in USES[args.action]:
            raise InputError(
                f"--{name.replace('_', '-')}",
                f"none with flops {args.action}, which does not use it",
                "one",
                "leave it out",
            )
    report = (ACTIONS[args.action][0] if args.action else count)(args)
    if args.json:
        say_json(as_json(report))
    elif args.csv:
        say(*tables.csv(as_json(flops_tables.ROWS[args.action](report))))
    elif args.plot:
        from ..costs.draw import DRAW

        DRAW[args.action](report, args.plot)
        say(f"wrote {args.plot}")
    else:
        output.show(flops_tables.TABLES[args.action](report), report["note"])


def _named(args: argparse.Namespace) -> tuple[str, Any]:
    """The model's name and the setting of the options; each number is checked by itself."""
    from ..costs import parse
    from ..costs.models import title

    if args.size is not None and args.config is not None:
        raise InputError("--size", "either --size or --config", "both", "leave one out")
    s = parse.of_folder(args.config) if args.config is not None else parse.of_size(args.size or "xxl")
    given = {name: getattr(args, name) for name in ("alpha", "beta", *COUNTS) if getattr(args, name) is not None}
    name = args.config if args.config is not None else title(args.size or "xxl")
    return name, parse.change(s, **given)


def _setting(args: argparse.Namespace, systems: list[str] | None = None, whole: bool = True) -> tuple[str, Any]:
    """As `_named`, but the numbers that these systems (default: all) use are also checked together."""
    from ..costs.flops import SYSTEMS
    from ..costs.parse import checked

    name, s = _named(args)
    return name, checked(s, whole, SYSTEMS if systems is None else systems)


def _mode(args: argparse.Namespace) -> str:
    from ..costs.modes import MODES

    mode = args.mode or "full"
    if mode not in MODES:
        raise InputError("--mode", f"one of {', '.join(MODES)}", repr(mode))
    return mode


def _systems(args: argparse.Namespace) -> list[str]:
    from ..costs.flops import SYSTEMS

    names = list(SYSTEMS) if args.system in (None, "all") else [n.strip() for n in args.system.split(",")]
    unknown = [name for name in names if name not in SYSTEMS]
    if unknown:
        raise InputError("--system", f"all, or some of {', '.join(SYSTEMS)}", repr(", ".join(unknown)))
    return list(dict.fromkeys(names))


def count(args: argparse.Namespace) -> dict[str, Any]:
    """The cost of one question by component."""
    from ..costs.reports import count_report

    mode, systems = _mode(args), _systems(args)
    return count_report(*_setting(args, systems, whole=mode != "printed"), systems, mode)


def sweep(args: argparse.Namespace) -> dict[str, Any]:
    """The cost along --over's axis."""
    from ..costs.reports import sweep_report
    from ..costs.sweep import parse_axis

    mode = _mode(args)
    if args.over is None:
        raise InputError("flops sweep", "an axis, such as --over k=5:100:5", "none")
    axis, values = parse_axis(args.over)
    if getattr(args, axis) is not None or (axis == "size" and args.config is not None):
        more = " and no --config" if axis == "size" else ""
        raise InputError(f"--over {axis}", f"no --{axis.replace('_', '-')}{more} beside it", "one", "leave it out")
    model, s = _named(args)
    return sweep_report("T5.1.1" if axis == "size" else model, s, axis, values, _systems(args), mode)


def break_even(args: argparse.Namespace) -> dict[str, Any]:
    """Where GLIMMER costs as much as each system of --against."""
    from ..costs.reports import break_even_report

    mode = _mode(args)
    model, s = _setting(args)
    opponents = []
    for word in (args.against or f"fid:5,lumen:10,fid:{s.k},lumen:{s.k}").split(","):
        system, _, k = word.strip().partition(":")
        if system not in ("fid", "lumen"):
            raise InputError("--against", "fid:K or lumen:K, separated by commas", repr(word))
        opponents.append((system, counted(f"--against {system}:K", k)))
    return break_even_report(model, s, list(dict.fromkeys(opponents)), mode)


def figure2(args: argparse.Namespace) -> dict[str, Any]:
    """Figure 2; it has a setting of its own."""
    from ..costs.reports import figure2_report

    return figure2_report()


def storage(args: argparse.Namespace) -> dict[str, Any]:
    """Bytes of the stored memory."""
    from ..costs.reports import storage_report

    passages = None if args.passages is None else corpus_size(args.passages)
    return storage_report(*_setting(args), passages)


def latency(args: argparse.Namespace) -> dict[str, Any]:
    """Least seconds on the hardware that the options name."""
    from ..costs.hardware import FULL
    from ..costs.reports import latency_report

    systems = _systems(args)
    model, s = _setting(args, systems)
    batches = sorted({counted("--batch", word) for word in args.batch.split(",")})
    price = None if args.price_per_hour is None else float(positive("--price-per-hour", args.price_per_hour))
    known_dtype("--dtype", args.dtype)
    here = hardware(args)
    dtype, devices = dtype_of(args, here), counted("--devices", args.devices)
    reached = efficiency(args.efficiency, FULL)
    return latency_report(model, s, systems, here, dtype, batches, price, devices, reached)


def serve(args: argparse.Namespace) -> dict[str, Any]:
    """What it takes to serve a corpus at a rate."""
    from ..costs.serving_report import serving_report

    return serving_report(*_setting(args), request(args))


def rerankers(args: argparse.Namespace) -> dict[str, Any]:
    """GLIMMER beside separate rerankers."""
    from ..costs.parse import of_size
    from ..costs.reports import rerankers_report

    model, s = _setting(args)
    r = of_size(args.reranker_size, "--reranker-size")
    depth = r.L if args.depth is None else counted("--depth", args.depth)
    late = r.L // 2 if args.late_depth is None else counted("--late-depth", args.late_depth)
    return rerankers_report(model, s, args.reranker_size, r, depth, late)


def published(args: argparse.Namespace) -> dict[str, Any]:
    """A figure or table of the paper beside its cost; without one, the models of Figures 3 to 5 by cost."""
    from ..costs.published.reports import front_report, paper_result_report
    from ..costs.published.values import PAPER_RESULTS

    if args.figure is not None and args.table is not None:
        raise InputError("--figure", "either --figure or --table", "both", "leave one out")
    if args.figure is None and args.table is None:
        return front_report()
    kind, number = ("Figure", args.figure) if args.table is None else ("Table", args.table)
    if f"{kind} {number}" not in PAPER_RESULTS:
        known = [name.split()[1] for name in PAPER_RESULTS if name.startswith(kind)]
        raise InputError(f"--{kind.lower()}", f"one of {', '.join(known)}", repr(number))
    return paper_result_report(f"{kind} {number}")


def page(args: argparse.Namespace) -> dict[str, Any]:
    """The interactive page, written to a file."""
    from ..costs.page.page import ASSUMPTION, write_page

    return {"file": args.out, "bytes": write_page(args.out), "note": ASSUMPTION}


ACTIONS: dict[str, tuple[Callable[[argparse.Namespace], dict[str, Any]], str]] = {
    "sweep": (sweep, "show the cost for several values of one setting"),
    "break-even": (break_even, "find the settings where GLIMMER costs as much as LUMEN or FiD"),
    "figure2": (figure2, "reproduce every digit of the paper's Figure 2, and count it in other ways"),
    "storage": (storage, "count the bytes of the stored memory"),
    "latency": (latency, "give lower bounds of time and price, from peak FLOP/s and bandwidth"),
    "serve": (serve, "estimate the accelerators, storage and monthly price of serving a corpus at a rate"),
    "rerankers": (rerankers, "compare GLIMMER with a cross-encoder and a late-interaction reranker"),
    "published": (published, "show the paper's figures and tables, with quality against true cost"),
    "page": (page, "write a page with sliders for all settings, in one file that works offline"),
}
