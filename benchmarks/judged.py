"""The table that this package is judged by: each target, what was measured, and whether it is reached."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from figures import Figures, encoder_seconds

from glimmer_ref.bench.measure import Spread

ENCODER, DECODE, ATTENTION = "encoder-5", "decode", "attention"
PEERS = {"transformers": "transformers", "onnxruntime": "ONNX Runtime", "ctranslate2": "CTranslate2"}


class Row(NamedTuple):
    """A target: what, with how many threads, at least how much, and what was measured."""

    what: str
    threads: int
    measured: Spread | None
    wanted: float
    form: str = "{:.2f}x"
    within: bool = False  # the figure is to be that far from 1 at most, rather than at least as large

    @property
    def reached(self) -> bool | None:
        """None if it was not measured."""
        if self.measured is None:
            return None
        return abs(self.measured.median - 1) <= self.wanted if self.within else self.measured.median >= self.wanted


def _against(f: Figures, n: int, work: str, theirs: str, ours: str, wanted: float, what: str) -> Row:
    peer, _, precision = theirs.partition(":")
    pair = (work, f"{theirs}@{n}"), (work, f"{ours}@{n}")
    return Row(f"{what}: {PEERS[peer]} {precision} / ours", n, f.ratio(n, *pair), wanted)


def _encoder(f: Figures, n: int) -> Iterator[Row]:
    what, ours = "encoder float32, 5 x 352", "ours:float32"
    for peer, wanted in (("transformers", 1.5), ("onnxruntime", 1.2 if n == 1 else 1.15), ("ctranslate2", 1.03)):
        if n == 1 or peer != "ctranslate2":
            yield _against(f, n, ENCODER, f"{peer}:float32", ours, wanted, what)
    yield Row(f"{what}: share of FMA peak", n, f.share(n, ENCODER, f"{ours}@{n}"), 0.9, "{:.3f}")
    if n > 1:
        one = f.ratio(n, (ENCODER, f"{ours}@1"), (ENCODER, f"{ours}@{n}"))
        yield Row(f"{what}: our one thread / ours", n, one, 1.9)


def _lower(f: Figures, n: int) -> Iterator[Row]:
    yield Row("attention alone: share of FMA peak", n, f.share(n, ATTENTION, f"ours:float32@{n}"), 0.85, "{:.3f}")
    for precision, wanted in (("bfloat16", 2.5), ("int8", 4.0)):
        yield _against(f, n, ENCODER, "transformers:float32", f"ours:{precision}", wanted, f"encoder {precision}")
    yield _against(f, n, ENCODER, "ctranslate2:int8", "ours:int8", 1.2, "encoder int8")


def _decoding(f: Figures, n: int) -> Iterator[Row]:
    for precision, wanted in (("float32", 2.7), ("bfloat16", 4.5), ("int8", 7.0)):
        yield _against(f, n, DECODE, "transformers:float32", f"ours:{precision}", wanted, f"decoder step, {precision}")
    share = f.share(n, DECODE, f"ours:float32@{n}")
    yield Row("decoder step, float32: share of memory bandwidth", n, share, 0.95, "{:.3f}")


def _systems(f: Figures, n: int) -> Iterator[Row]:
    fid = ("fid-25", f"transformers:float32@{n}")
    for precision, wanted in (("float32", 8.0), ("int8", 18.0)):
        ratio = f.ratio(n, fid, ("glimmer-25-5", f"ours:{precision}@{n}"))
        yield Row(f"GLIMMER 25->5 {precision}: transformers' FiD-25 float32 / ours", n, ratio, wanted)
    who = f"ours:float32@{n}"
    for work in ("lumen-10", "glimmer-25-5"):
        if work in f.works and "fid-25" in f.works:
            predicted = f.encoder_macs(work) / f.encoder_macs("fid-25")
            got = f.ratio(n, (work, who), ("fid-25", who), encoder_seconds)
            off = Spread(*(x / predicted for x in got)) if got else None
            name = "LUMEN" if work.startswith("lumen") else "GLIMMER"
            yield Row(f"{name} to FiD, encoder side: time ratio / multiply-add ratio", n, off, 0.15, "{:.2f}", True)


def judged(f: Figures) -> list[Row]:
    """All rows, for each number of threads that was measured."""
    return [row for n in f.groups for part in (_encoder, _lower, _decoding, _systems) for row in part(f, n)]


def table(rows: list[Row]) -> list[str]:
    """What was measured, in Markdown."""
    lines = ["| work, T5.1.1-base | threads | measured | min-max | target | |", "|---|---|---|---|---|---|"]
    for row in rows:
        if row.measured is None:
            continue
        wanted = f"within {row.wanted:.0%}" if row.within else "at least " + row.form.format(row.wanted)
        middle, least, most = (row.form.format(x) for x in row.measured)
        verdict = "reached" if row.reached else "outside target" if row.within else "below target"
        lines.append(f"| {row.what} | {row.threads} | {middle} | {least} to {most} | {wanted} | {verdict} |")
    return lines
