"""The tables of glimmer-ref flops serve: what each system needs, where its memory lies, which is cheaper when."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from .. import tables
from ..costs.reports import NAMES, heading
from ..costs.serving import HOURS
from ..errors import cut
from .output import binary

Report = Mapping[str, Any]
TEBI = 2**40
UNITS = ("bytes", "bandwidth")


def number(x: Any, digits: int = 4) -> str:
    """A number with so many digits, from thousands on all of them, from 10^10 on as a power; a dash for none."""
    if x is None:
        return "-"
    x = float(x)
    if abs(x) >= 1e10:
        return f"{x:.{digits}g}"
    return f"{x:,.0f}" if abs(x) >= 10 ** (digits - 1) else f"{x:.{digits}g}"


def large(x: float) -> str:
    """A number in three digits, with millions and billions in words."""
    for unit, word in ((10**9, " billion"), (10**6, " million")):
        if x >= unit:
            return f"{x / unit:.3g}{word}"
    return number(x, 3)


def duration(months: float) -> str:
    """A time in months, or in days or hours if it is short."""
    if months >= 1:
        return f"{number(months, 3)} months"
    hours = months * HOURS
    return f"{number(hours / 24, 3)} days" if hours >= 48 else f"{number(hours, 3)} hours"


def _head(report: Report) -> list[str]:
    h, e = report["hardware"], report["efficiency"]
    group = f", in groups of {report['devices']}" if report["devices"] > 1 else ""
    bound = report["latency_bound_seconds"]
    rate = f"{number(report['rate'])} questions/s over {report['passages']:,} passages"
    lines = [
        *heading(report),
        rate + (f", each within {number(bound)} s" if bound is not None else ""),
        f"{h['name']}{group}, {h['dtype']}: {float(h['flops_per_second']) / 1e12:.5g} TFLOP/s, "
        f"{float(h['bytes_per_second']) / 1e9:.5g} GB/s",
    ]
    reached = f"reached: {float(e['arithmetic']):.4g} of the peak, {float(e['bandwidth']):.4g} of the bandwidth"
    return [*lines, *textwrap.wrap(f"{reached} ({e['source']})", 80)]


def _group(report: Report, title: str, rows: dict[str, Callable[[Report], str]]) -> list[list[str]]:
    """A title, and below it a row for each number with a column for each system."""
    systems = report["systems"].values()
    blank = [""] * len(NAMES)
    return [["", *blank], [title, *blank], *([f"  {name}", *(f(y) for y in systems)] for name, f in rows.items())]


def _of_answer(name: str, unit: float = 1, digits: int = 4) -> Callable[[Report], str]:
    def cell(y: Report) -> str:
        return "-" if y["answering"] is None else number(y["answering"][name] / unit, digits)

    return cell


def _systems(report: Report) -> list[str]:
    money, unit = report["price_per_hour"] is not None, report["unit"]
    memory_bytes = report["hardware"]["memory_bytes"]
    store = cut(report["storage"], 20)

    def month(name: str) -> Callable[[Report], str]:
        return lambda y: "-" if y["month"] is None else number(y["month"][name])

    def size(name: str) -> Callable[[Report], str]:
        return lambda y: binary(y["device_bytes"][name]) + ("*" if name == "total" and y["fits"] is False else "")

    rows = [
        *_group(
            report,
            "answering",
            {
                "accelerators": _of_answer("accelerators"),
                "questions at once in a group": lambda y: number(y["batch"]),
                "questions/s of a group": _of_answer("questions_per_second_and_group"),
                "ms a batch": _of_answer("seconds_per_batch", 1e-3),
                "ms a question (a batch, divided)": _of_answer("seconds_per_question", 1e-3),
                "ms of latency, the batch filled": _of_answer("latency_seconds", 1e-3),
                "busy": _of_answer("busy", 1, 3),
            },
        )[1:],
        *_group(
            report,
            "memory of each accelerator" + (f", of {binary(memory_bytes)}" if memory_bytes else ""),
            {
                "weights": size("weights"),
                "keys and values": size("keys_values"),
                "activations": size("activations"),
                "together": size("total"),
            },
        ),
        *_group(
            report,
            "storage",
            {
                f"corpus ({report['stored_as']}; FiD: tokens), TiB": lambda y: number(y["stored_bytes"] / TEBI),
                "read for a question": lambda y: binary(y["read"]["bytes_per_question"]),
                "passages read a second": lambda y: number(y["read"]["passages_per_second"]),
                "GB/s read": lambda y: number(y["read"]["bytes_per_second"] / 10**9),
                f"ms to read a batch ({store})": lambda y: number(1e3 * y["read"]["seconds_per_batch"]),
            },
        ),
        *_group(
            report,
            "encoding the corpus, once or after training",
            {
                "MACs": lambda y: f"{float(y['encoding']['macs']):.4g}",
                "accelerator-hours": lambda y: number(y["encoding"]["accelerator_hours"]),
                "hours on the accelerators above": lambda y: number(y["encoding"]["hours_on_all"]),
                **({"price": lambda y: number(y["encoding"]["price"])} if money else {}),
            },
        ),
        *_group(
            report,
            f"a month, {unit}",
            {
                "answering": month("answering"),
                "search": month("search"),
                **({"storage": month("storage")} if report["storage_price"] is not None else {}),
                f"encoding, every {number(report['months'])} months": month("encoding"),
                "together": month("total"),
            },
        ),
    ]
    lines = tables.text(rows, ["", *NAMES.values()], least=9)
    if any(y["fits"] is False for y in report["systems"].values()):
        lines.append("* more than the memory holds: more --devices or a smaller --batch")
    return [*lines, *(f"{NAMES[n]}: {y['why_not']}" for n, y in report["systems"].items() if y["why_not"])]


def _stores(report: Report) -> list[str]:
    """The memory's size by precision, and the units of storage that the memory of LUMEN and GLIMMER needs."""
    precisions = report["stored_bytes_by_precision"]
    sizes = tables.text(
        [["memory of the corpus, TiB", *(number(b / TEBI) for b in precisions.values())]], ["", *precisions]
    )
    body = []
    for store in report["stores"].values():
        y = store["systems"]["glimmer"]  # LUMEN's memory is the same
        units = (number(store["unit_bytes_per_second"] / 10**9), *(number(y[f"units_for_{n}"]) for n in UNITS))
        body.append([cut(store["name"], 36), *units, "yes" if y["suffices"] else "no"])
    head = [f"where it lies as {report['stored_as']}", "GB/s each", "to hold it", "for the GB/s", "enough"]
    return [*sizes, "", *tables.text(body, head), "enough: the units that hold it give the bandwidth of all questions"]


def _search(report: Report) -> list[str]:
    search = report["search"]
    return textwrap.wrap(
        f"Search: an index of {binary(search['index_bytes'])}, {float(search['macs_per_question']) / 1e9:.4g} GMACs a "
        f"question, accelerators: {search['accelerators']:,} ({search['busy']:.1%} busy), "
        f"{1e3 * search['seconds_per_batch']:.3g} ms for {search['batch']} questions.",
        80,
    )


def overtaking(row: Report) -> str:
    """A sentence on when a system is cheaper than another."""
    y, other = NAMES[row["system"]], NAMES[row["than"]]
    if row["cheaper"] != "below":
        return f"{y} is {row['cheaper']} cheaper than {other}."
    lasts = "never" if row["months"] is None else f"if an encoding lasts at least {duration(row['months'])}"
    return (
        f"{y} is cheaper than {other} up to {large(row['passages'])} passages at this rate, from {large(row['rate'])} "
        f"questions/s on with this corpus, and with both {lasts}."
    )


def table(report: Report) -> list[str]:
    """What each system needs, in columns; then storage, search, and who is cheaper when."""
    return [
        *_head(report),
        "",
        *_systems(report),
        "",
        *_stores(report),
        "",
        *_search(report),
        "",
        *(line for row in report["overtakes"] for line in textwrap.wrap(overtaking(row), 80)),
        *(["These leave storage out; --storage-price counts it."] if report["storage_price"] is None else []),
    ]


def rows(report: Report) -> list[dict[str, Any]]:
    """A row for each system with its most important numbers, and what it costs a month."""
    return [
        {
            "system": name,
            "batch": y["batch"] or "",
            "accelerators": (y["answering"] or {}).get("accelerators", ""),
            "latency_seconds": (y["answering"] or {}).get("latency_seconds", ""),
            "device_bytes": y["device_bytes"]["total"],
            "stored_bytes": y["stored_bytes"],
            "read_bytes_per_second": y["read"]["bytes_per_second"],
            "search_accelerators": report["search"]["accelerators"],
            "encoding_macs": y["encoding"]["macs"],
            "encoding_accelerator_hours": y["encoding"]["accelerator_hours"],
            "unit": report["unit"],
            **{f"month_{n}": (y["month"] or {}).get(n, "") for n in ("answering", "search", "storage", "encoding")},
            "month_total": (y["month"] or {}).get("total", ""),
        }
        for name, y in report["systems"].items()
    ]
