"""The targets of this package by kind of processor, the measured value for each, and whether it reaches the target."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from comparison.ratios import Result, encoder_seconds

from glimmer_ref import tables
from glimmer_ref.bench.measure import Spread

ENCODER, ANSWER, DECODE, ATTENTION = "encoder-5", "answer", "decode", "attention"
PEERS = {"ours": "our", "transformers": "transformers", "onnxruntime": "ONNX Runtime", "ctranslate2": "CTranslate2"}


# The targets of each quantity: with AVX2, which other processors without AVX-512 are judged by too, and with AVX-512.
# None: no target.
TARGETS: dict[str, tuple[float | None, float | None]] = {
    "encoder float32, transformers": (None, 1.5),
    "encoder float32, onnxruntime": (1.12, 1.15),
    "encoder float32, ctranslate2": (1.08, 1.05),
    "encoder float32, share": (0.90, 0.92),
    "encoder float32, threads": (1.9, 1.9),
    "encoder bfloat16, ours": (0.95, 1.8),
    "encoder int8, ours": (1.8, 2.9),
    "encoder int8, onnxruntime": (1.1, 1.4),
    "encoder int8, ctranslate2": (1.2, 1.4),
    "attention, share": (0.85, 0.85),
    "answer float32, ctranslate2": (1.15, 1.2),
    "answer float32, transformers": (2, 2.7),
    "answer bfloat16, ours": (1.6, 1.7),
    "answer int8, ours": (2.4, 2.6),
    "decode float32, transformers": (None, 2.7),
    "decode float32, share": (0.95, 0.95),
    "glimmer float32, transformers": (8, 9),
    "glimmer int8, transformers": (14, 24),
    "encoder side, multiply-adds": (0.15, 0.15),
}


def target(name: str, kind: str) -> float | None:
    """The target of a quantity for a kind of processor, see `glimmer_ref.ops.processor`."""
    return TARGETS[name][kind.startswith("avx512")]


class Row(NamedTuple):
    """One target.

    Args:
        what: a description of the measured quantity.
        threads: the number of threads.
        measured: the values over the rounds; None if nothing was measured.
        target: the least value that reaches the target; with `within`, the largest distance from 1 that reaches it;
            None if there is no target.
        form: the format of the printed numbers.
    """

    what: str
    threads: int
    measured: Spread | None
    target: float | None
    form: str = "{:.2f}x"
    within: bool = False

    @property
    def reached(self) -> bool | None:
        """None if it was not measured or there is no target."""
        if self.measured is None or self.target is None:
            return None
        return abs(self.measured.median - 1) <= self.target if self.within else self.measured.median >= self.target


def _against(r: Result, n: int, workload: str, theirs: str, ours: str, what: str) -> Row:
    """How many times as long an engine takes as ours in a precision; `theirs` may be ours in float32."""
    peer, _, precision = theirs.partition(":")
    pair = (workload, f"{theirs}@{n}"), (workload, f"ours:{ours}@{n}")
    wanted = target(f"{workload.split('-')[0]} {ours}, {peer}", r.kind)
    return Row(f"{what}: {PEERS[peer]} {precision} / ours", n, r.ratio(n, *pair), wanted)


def _share(r: Result, n: int, workload: str, what: str) -> Row:
    name = "attention, share" if workload == ATTENTION else f"{workload.split('-')[0]} float32, share"
    return Row(what, n, r.share(n, workload, f"ours:float32@{n}"), target(name, r.kind), "{:.3f}")


def _encoder(r: Result, n: int) -> Iterator[Row]:
    what, ours = "encoder float32, 5 x 352", "ours:float32"
    for peer in ("transformers", "onnxruntime", "ctranslate2"):
        yield _against(r, n, ENCODER, f"{peer}:float32", "float32", what)
    yield _share(r, n, ENCODER, f"{what}: share of FMA peak")
    if n > 1:
        one = r.ratio(n, (ENCODER, f"{ours}@1"), (ENCODER, f"{ours}@{n}"))
        yield Row(f"{what}: our one thread / ours", n, one, target("encoder float32, threads", r.kind))


def _lower_precisions(r: Result, n: int) -> Iterator[Row]:
    yield _share(r, n, ATTENTION, "attention alone: share of FMA peak")
    for precision in ("bfloat16", "int8"):
        yield _against(r, n, ENCODER, "ours:float32", precision, f"encoder {precision}")
    for peer in ("onnxruntime", "ctranslate2"):
        yield _against(r, n, ENCODER, f"{peer}:int8", "int8", "encoder int8")


def _decoding(r: Result, n: int) -> Iterator[Row]:
    for peer in ("ctranslate2", "transformers"):
        yield _against(r, n, ANSWER, f"{peer}:float32", "float32", "32 tokens from the encoder's output, float32")
    for precision in ("bfloat16", "int8"):
        yield _against(r, n, ANSWER, "ours:float32", precision, f"32 tokens from the encoder's output, {precision}")
    yield _against(r, n, DECODE, "transformers:float32", "float32", "decoder step, float32")
    yield _share(r, n, DECODE, "decoder step, float32: share of memory bandwidth")


def _systems(r: Result, n: int) -> Iterator[Row]:
    fid = ("fid-25", f"transformers:float32@{n}")
    for precision in ("float32", "int8"):
        ratio = r.ratio(n, fid, ("glimmer-25-5", f"ours:{precision}@{n}"))
        what = f"GLIMMER 25->5 {precision}: transformers' FiD-25 float32 / ours"
        yield Row(what, n, ratio, target(f"glimmer {precision}, transformers", r.kind))
    ours = f"ours:float32@{n}"
    for workload in ("lumen-10", "glimmer-25-5"):
        if workload in r.workloads and "fid-25" in r.workloads:
            predicted = r.encoder_macs(workload) / r.encoder_macs("fid-25")
            got = r.ratio(n, (workload, ours), ("fid-25", ours), encoder_seconds)
            off = Spread(*(x / predicted for x in got)) if got else None
            name = "LUMEN" if workload.startswith("lumen") else "GLIMMER"
            what = f"{name} to FiD, encoder side: time ratio / multiply-add ratio"
            yield Row(what, n, off, target("encoder side, multiply-adds", r.kind), "{:.2f}", True)


def rows(r: Result) -> list[Row]:
    """All targets, for each number of threads that was measured."""
    return [row for n in r.groups for part in (_encoder, _lower_precisions, _decoding, _systems) for row in part(r, n)]


def table(some: list[Row]) -> list[str]:
    """The quantities that were measured, with their targets, in Markdown."""
    cells = []
    for row in some:
        if row.measured is None:
            continue
        goal = "" if row.target is None else "at least " + row.form.format(row.target)
        if row.within and row.target is not None:
            goal = f"within {row.target:.0%}"
        median, low, high = (row.form.format(x) for x in row.measured)
        verdict = {None: "no target", True: "reached", False: "outside target" if row.within else "below target"}
        cells.append([row.what, row.threads, median, f"{low} to {high}", goal, verdict[row.reached]])
    return tables.markdown(cells, ["work, T5.1.1-base", "threads", "measured", "min-max", "target", ""])
