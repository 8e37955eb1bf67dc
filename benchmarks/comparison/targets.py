"""The targets of this package on the CPU, the measured value for each, and whether it reaches the target."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from comparison.ratios import Result, encoder_seconds

from glimmer_ref import tables
from glimmer_ref.bench.measure import Spread

ENCODER, DECODE, ATTENTION = "encoder-5", "decode", "attention"
PEERS = {"transformers": "transformers", "onnxruntime": "ONNX Runtime", "ctranslate2": "CTranslate2"}


class Row(NamedTuple):
    """One target.

    Args:
        what: a description of the measured quantity.
        threads: the number of threads.
        measured: the values over the rounds; None if nothing was measured.
        target: the least value that reaches the target; with `within`, the largest distance from 1 that reaches it.
        form: the format of the printed numbers.
    """

    what: str
    threads: int
    measured: Spread | None
    target: float
    form: str = "{:.2f}x"
    within: bool = False

    @property
    def reached(self) -> bool | None:
        """None if it was not measured."""
        if self.measured is None:
            return None
        return abs(self.measured.median - 1) <= self.target if self.within else self.measured.median >= self.target


def _against(r: Result, n: int, workload: str, theirs: str, ours: str, target: float, what: str) -> Row:
    peer, _, precision = theirs.partition(":")
    pair = (workload, f"{theirs}@{n}"), (workload, f"{ours}@{n}")
    return Row(f"{what}: {PEERS[peer]} {precision} / ours", n, r.ratio(n, *pair), target)


def _encoder(r: Result, n: int) -> Iterator[Row]:
    what, ours = "encoder float32, 5 x 352", "ours:float32"
    for peer, target in (("transformers", 1.5), ("onnxruntime", 1.2 if n == 1 else 1.15), ("ctranslate2", 1.03)):
        if n == 1 or peer != "ctranslate2":
            yield _against(r, n, ENCODER, f"{peer}:float32", ours, target, what)
    yield Row(f"{what}: share of FMA peak", n, r.share(n, ENCODER, f"{ours}@{n}"), 0.9, "{:.3f}")
    if n > 1:
        one = r.ratio(n, (ENCODER, f"{ours}@1"), (ENCODER, f"{ours}@{n}"))
        yield Row(f"{what}: our one thread / ours", n, one, 1.9)


def _lower_precisions(r: Result, n: int) -> Iterator[Row]:
    yield Row("attention alone: share of FMA peak", n, r.share(n, ATTENTION, f"ours:float32@{n}"), 0.85, "{:.3f}")
    for precision, target in (("bfloat16", 2.5), ("int8", 4.0)):
        yield _against(r, n, ENCODER, "transformers:float32", f"ours:{precision}", target, f"encoder {precision}")
    yield _against(r, n, ENCODER, "ctranslate2:int8", "ours:int8", 1.2, "encoder int8")


def _decoding(r: Result, n: int) -> Iterator[Row]:
    for precision, target in (("float32", 2.7), ("bfloat16", 4.5), ("int8", 7.0)):
        yield _against(r, n, DECODE, "transformers:float32", f"ours:{precision}", target, f"decoder step, {precision}")
    share = r.share(n, DECODE, f"ours:float32@{n}")
    yield Row("decoder step, float32: share of memory bandwidth", n, share, 0.95, "{:.3f}")


def _systems(r: Result, n: int) -> Iterator[Row]:
    fid = ("fid-25", f"transformers:float32@{n}")
    for precision, target in (("float32", 8.0), ("int8", 18.0)):
        ratio = r.ratio(n, fid, ("glimmer-25-5", f"ours:{precision}@{n}"))
        yield Row(f"GLIMMER 25->5 {precision}: transformers' FiD-25 float32 / ours", n, ratio, target)
    ours = f"ours:float32@{n}"
    for workload in ("lumen-10", "glimmer-25-5"):
        if workload in r.workloads and "fid-25" in r.workloads:
            predicted = r.encoder_macs(workload) / r.encoder_macs("fid-25")
            got = r.ratio(n, (workload, ours), ("fid-25", ours), encoder_seconds)
            off = Spread(*(x / predicted for x in got)) if got else None
            name = "LUMEN" if workload.startswith("lumen") else "GLIMMER"
            yield Row(f"{name} to FiD, encoder side: time ratio / multiply-add ratio", n, off, 0.15, "{:.2f}", True)


def rows(r: Result) -> list[Row]:
    """All targets, for each number of threads that was measured."""
    return [row for n in r.groups for part in (_encoder, _lower_precisions, _decoding, _systems) for row in part(r, n)]


def table(some: list[Row]) -> list[str]:
    """The targets that were measured, in Markdown."""
    cells = []
    for row in some:
        if row.measured is None:
            continue
        target = f"within {row.target:.0%}" if row.within else "at least " + row.form.format(row.target)
        median, low, high = (row.form.format(x) for x in row.measured)
        verdict = "reached" if row.reached else "outside target" if row.within else "below target"
        cells.append([row.what, row.threads, median, f"{low} to {high}", target, verdict])
    return tables.markdown(cells, ["work, T5.1.1-base", "threads", "measured", "min-max", "target", ""])
