"""The tables of glimmer-ref flops latency: least time by stage and batch size, memory and price."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import tables
from ..costs.reports import NAMES, heading
from .components import TITLES, in_order
from .output import binary

Report = Mapping[str, Any]


def table(report: Report) -> list[str]:
    """The stages at the smallest batch size, then all batch sizes."""
    h, batches = report["hardware"], report["batches"]
    first = batches[0]["systems"]
    stages = in_order(y["stages"] for y in first.values())
    body = [
        [
            TITLES[n],
            *(
                f"{1e3 * y['stages'][n]['seconds']:,.2f} {y['stages'][n]['bound_by']:10}"
                if n in y["stages"]
                else f"-{'':11}"
                for y in first.values()
            ),
        ]
        for n in stages
    ]
    head = [f"ms, batch of {batches[0]['batch']}", *(f"{NAMES[y]}{'':11}" for y in first)]
    return [
        *heading(report),
        f"{h['name']}, {h['dtype']}: {float(h['flops_per_second']) / 1e12:.5g} TFLOP/s, "
        f"{float(h['bytes_per_second']) / 1e9:.5g} GB/s{_reached(h)}",
        "",
        *tables.text(body, head),
        "",
        *_batches(report),
    ]


def _reached(h: Mapping[str, Any]) -> str:
    """The devices of a group and the shares of the peaks, if they are not one and all."""
    e, many = h["efficiency"], f"; {h['devices']} devices" if h["devices"] > 1 else ""
    shares = f"; {float(e['arithmetic']):.4g} and {float(e['bandwidth']):.4g} of them"
    return many + ("" if e["arithmetic"] == e["bandwidth"] == 1 else shares)


def _batches(report: Report) -> list[str]:
    systems, batches = list(report["batches"][0]["systems"]), report["batches"]
    body = [
        [
            str(row["batch"]),
            *(f"{1e3 * y['seconds_per_question']:,.2f}" for y in row["systems"].values()),
            *(binary(y["resident_bytes"]) + ("*" if y["fits"] is False else "") for y in row["systems"].values()),
        ]
        for row in batches
    ]
    lines = tables.text(
        body, ["batch", *(f"{NAMES[y]} ms" for y in systems), *(f"{NAMES[y]}" for y in systems)], least=10
    )
    lines += ["ms a question; then weights, keys and values in memory, * if they do not fit"]
    if report["price_per_hour"] is not None:
        prices = [
            [str(row["batch"]), *(f"{y['price_per_million_questions']:,.2f}" for y in row["systems"].values())]
            for row in batches
        ]
        lines += [
            "",
            *tables.text(
                prices,
                [f"a million questions at {report['price_per_hour']:g} an hour, batch", *(NAMES[y] for y in systems)],
            ),
        ]
    return lines


def rows(report: Report) -> list[dict[str, Any]]:
    return [
        {"batch": row["batch"], "system": name, **{key: x for key, x in y.items() if key != "stages"}}
        for row in report["batches"]
        for name, y in row["systems"].items()
    ]
