"""The paper's Figures 2 to 7 and Tables 1 to 3 as data: every value, and the model that it was measured on.

Each figure or table is a function; it has panels, which have series of points. Numbers are strings as they are
printed, and `values` makes them exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

from ...config import SIZES
from . import figure2 as speeds

KILT, NQ = "mean score on the KILT dev sets", "exact match on the Natural Questions dev set"
LARGE = {"size": "large", "alpha": Fraction(1, 3), "beta": Fraction(1, 4)}
Points = Sequence[tuple[str, str]]


class Series(NamedTuple):
    """Points (x, y) under one name of a legend.

    Args:
        name: the name in the legend or of the row.
        model: the settings that all points have in common: system, size, k, m, alpha, beta, reranker.
        points: the printed values.
        varies: which of k, m, alpha, beta x is; "" if x is another number or a name.
        level: a model's single value, drawn as a horizontal line.
    """

    name: str
    model: dict[str, Any]
    points: Points
    varies: str = ""
    level: bool = False


class Panel(NamedTuple):
    """One pair of axes, or one table: its place in the paper, what x and y are, and its series."""

    place: str
    x: str
    unit: str
    series: tuple[Series, ...]


class PaperResult(NamedTuple):
    """A figure or table of the paper."""

    title: str
    panels: tuple[Panel, ...]
    note: str = ""


@dataclass(frozen=True)
class Value:
    """One number of the paper, its place there, and the model that it belongs to.

    Args:
        x: a number; in tables and bars a name; None for a level.
        y, unit: the value.
        model: `system`, `size`, `k`, `m`, `alpha`, `beta`, and `reranker` where it is separate.
    """

    place: str
    series: str
    x: Fraction | str | None
    y: Fraction
    unit: str
    model: dict[str, Any] = field(hash=False)


def _glimmer(**more: Any) -> dict[str, Any]:
    """GLIMMER-Large as in the ablations: 25 passages retrieved, 5 selected, alpha 1/3, beta 1/4."""
    return {"system": "glimmer", **LARGE, "k": 25, "m": 5, **more}


def _lumen(k: int) -> Series:
    """A horizontal line: LUMEN-Large with k passages."""
    quality = {5: "65.56", 25: "70.16", 40: "70.98"}[k]
    return Series(f"lumen-{k}", {"system": "lumen", **LARGE, "k": k}, (("", quality),), level=True)


def figure2() -> PaperResult:
    """Quality and speed of the three systems at XXL. The speeds are in `figure2.py`, which has the label."""
    quality = {"fid": "69.215", "lumen": "70.98166667", "glimmer": "73.22"}
    series = tuple(
        Series(
            {"fid": "FiD", "lumen": "lumen", "glimmer": "glimmer"}[system],
            {"system": system, **LARGE, "size": "xxl", "k": speeds.K[system], "m": 5},
            ((str(float(speeds.PUBLISHED[system])), y),),
        )
        for system, y in quality.items()
    )
    return PaperResult(
        "quality and speed of FiD, LUMEN and GLIMMER, XXL",
        (Panel("Figure 2", "samples per TFLOP", KILT, series),),
        "The two bar charts hold the same values as the points.",
    )


def figure3() -> PaperResult:
    """More passages retrieved, and more selected.

    Paper: Figure 3
    """
    retrieved = (("5", "65.56"), ("10", "67.99"), ("25", "69.83"), ("40", "70.71"))
    selected = (("1", "66.86"), ("5", "69.83"), ("10", "70.18"), ("25", "70.16"))
    return PaperResult(
        "passages retrieved and selected, GLIMMER-Large",
        (
            Panel(
                "Figure 3, left",
                "k, passages retrieved, of which m=5 are selected",
                KILT,
                (_lumen(40), Series("glimmer", _glimmer(), retrieved, "k"), _lumen(5)),
            ),
            Panel(
                "Figure 3, right",
                "m, passages selected of k=25",
                KILT,
                (Series("glimmer", _glimmer(), selected, "m"), _lumen(25)),
            ),
        ),
    )


def figure4() -> PaperResult:
    """More layers before the score.

    Paper: Figure 4
    """
    points = (("0", "64.53"), ("0.125", "67.6"), ("0.25", "69.83"), ("0.5", "70.01"), ("1", "69.94"))
    series = (Series("glimmer", _glimmer(), points, "beta"), _lumen(25))
    panel = Panel("Figure 4", "beta, live-A's proportion of the live layers", KILT, series)
    return PaperResult("the rerank proportion beta, GLIMMER-Large, k=25, m=5", (panel,))


def figure5() -> PaperResult:
    """More passages selected out of 40.

    Paper: Figure 5
    """
    two = (("5", "70.540702"), ("10", "70.885407"), ("15", "70.873928"), ("20", "70.95"), ("40", "70.820102"))
    four = (("5", "70.851149"), ("10", "71.1"), ("15", "71.083193"), ("20", "70.964394"), ("40", "70.974273"))
    series = (
        Series("2 rerank layers", _glimmer(k=40), two, "m"),
        Series("4 rerank layers", _glimmer(k=40, beta=Fraction(1, 2)), four, "m"),
    )
    return PaperResult(
        "passages selected of 40, GLIMMER-Large",
        (Panel("Figure 5", "m, passages selected of k=40", KILT, series),),
        "At k=40, m=5 and 2 layers Figure 5 has 70.540702 where Figure 3 has 70.71.",
    )


def figure6() -> PaperResult:
    """The gain from multi-task training, with a stacked bar for each model.

    Paper: Figure 6
    """
    alone = {"L-1/8": "51.18", "L-1/3": "58.34", "FiD": "59.11"}
    more = {"L-1/8": "6.8", "L-1/3": "2.68", "FiD": "1.69"}
    models = {
        "L-1/8": {"system": "lumen", **LARGE, "alpha": Fraction(1, 8), "k": 10},
        "L-1/3": {"system": "lumen", **LARGE, "k": 10},
        "FiD": {"system": "fid", **LARGE, "k": 10},
    }
    series = tuple(
        Series(name, models[row], ((row, bar[row]),))
        for name, bar in (("NQ only", alone), ("KILT, above NQ only", more))
        for row in models
    )
    return PaperResult(
        "training on all of KILT instead of NQ only, Large",
        (Panel("Figure 6", "model", NQ, series),),
        "Bars are stacked, so the value for KILT is the sum. The caption names GLIMMER where axis and text name LUMEN "
        "(L). Memory is trained in all models. The paper does not state k; the cost assumes 10, as LUMEN has in "
        "Figure 2.",
    )


def figure7() -> PaperResult:
    """The gain from multi-task training against the live proportion.

    Paper: Figure 7
    """
    kilt = (
        ("1", "57.8"), ("0.75", "57.6"), ("0.5", "57.5"), ("0.3333333333", "57.6"), ("0.25", "56.9"),
        ("0.1666666667", "56.4"), ("0.125", "54.7"), ("0.04166666667", "51.1"), ("0", "50.9"),
    )  # fmt: skip
    alone = (
        ("1", "55.6"), ("0.75", "55.7"), ("0.5", "56.1"), ("0.3333333333", "55.2"), ("0.25", "53.4"),
        ("0.1666666667", "50.5"), ("0.125", "48.5"), ("0.04166666667", "45.5"), ("0", "45.6"),
    )  # fmt: skip
    model = {"system": "lumen", **LARGE, "k": 10}
    series = (Series("KILT", model, kilt, "alpha"), Series("NQ-only", model, alone, "alpha"))
    return PaperResult(
        "the live proportion alpha, LUMEN-Large trained on KILT or on NQ only",
        (Panel("Figure 7", "alpha, live proportion of the encoder", NQ, series),),
        "The paper does not state k; the cost assumes 10, as LUMEN has in Figure 2.",
    )


def _table(number: int, title: str, column: str, rows: Sequence[tuple[str, str, dict[str, Any]]]) -> PaperResult:
    """Rows with one value each, for GLIMMER-Large with 25 passages retrieved and 5 selected."""
    series = tuple(Series(name, _glimmer(**more), ((name, y),)) for name, y, more in rows)
    return PaperResult(title, (Panel(f"Table {number}", column, KILT, series),))


def table1() -> PaperResult:
    """A reranker with layers of its own, from T5 or from scratch."""
    return _table(
        1,
        "configurations of the reranker, GLIMMER-Large, k=25, m=5",
        "Reranker",
        (
            ("glimmer (shared)", "69.8", {}),
            ("Separate (from T5)", "70.0", {"reranker": "separate"}),
            ("Separate (from scratch)", "68.7", {"reranker": "separate"}),
        ),
    )


def table2() -> PaperResult:
    """With and without training the memory encoder.

    Paper: Table 2
    """
    rows: Any = (("glimmer", "69.8", {}), ("Frozen memory", "69.0", {}))
    return _table(2, "with and without training memory, GLIMMER-Large, k=25, m=5", "Model", rows)


def table3() -> PaperResult:
    """Other decisions: question encoder, distillation's weight and temperature, pooling.

    Paper: Table 3
    """
    rows = (
        ("glimmer", "69.8"),
        ("Separate Qenc", "70.0"),
        ("PDist lambda=0.1", "69.5"),
        ("PDist lambda=10", "69.5"),
        ("PDist tau=0.1", "70.1"),
        ("PDist tau=5", "69.4"),
        ("Mean pool", "69.8"),
    )
    return _table(3, "other ablations, GLIMMER-Large, k=25, m=5", "Model", [(name, y, {}) for name, y in rows])


PAPER_RESULTS: dict[str, Callable[[], PaperResult]] = {
    "Figure 2": figure2,
    "Figure 3": figure3,
    "Figure 4": figure4,
    "Figure 5": figure5,
    "Figure 6": figure6,
    "Figure 7": figure7,
    "Table 1": table1,
    "Table 2": table2,
    "Table 3": table3,
}


def _number(text: str) -> Fraction | str | None:
    """x as a number if it is one, else as printed; None for a level."""
    try:
        return Fraction(text)
    except ValueError:
        return text or None


def _layers(varies: str, x: Fraction, model: dict[str, Any]) -> Any:
    """The setting of the model that x means: a count, or the proportion in whole layers that the paper rounded."""
    if varies in ("k", "m"):
        return int(x)
    layers = SIZES[model["size"]].num_layers * (1 if varies == "alpha" else model["alpha"])
    return Fraction(round(x * layers), layers)


def values(paper_result: PaperResult) -> list[Value]:
    """Every number of a figure or table."""
    result = []
    for panel in paper_result.panels:
        for s in panel.series:
            for text, y in s.points:
                x = _number(text)
                varied = {s.varies: _layers(s.varies, x, s.model)} if s.varies and isinstance(x, Fraction) else {}
                result.append(Value(panel.place, s.name, x, Fraction(y), panel.unit, {**s.model, **varied}))
    return result
