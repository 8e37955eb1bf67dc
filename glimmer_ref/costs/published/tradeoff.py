"""Quality against cost: the costs of the paper's models, the Pareto front, and where GLIMMER pays off."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

from ..breakeven import line
from ..flops import Setting
from ..modes import total
from ..parse import of_size
from . import figure2
from .values import PAPER_RESULTS, Value, values

RETRIEVAL = ("Figure 3", "Figure 4", "Figure 5")  # the figures in which only k, m and beta change


class CostedModel(NamedTuple):
    """A model of the paper with its quality and cost.

    Args:
        places: where the paper shows it.
        model: as in `published.Value`.
        quality: the quality in the unit of its figure or table.
        macs: multiply-adds per question, mode full.
    """

    places: tuple[str, ...]
    model: dict[str, Any]
    quality: Fraction
    macs: Fraction


def setting_of_model(model: dict[str, Any]) -> Setting:
    """The setting in which the cost of a published model is counted.

    XXL models are those of Figure 2, with 384 tokens per pair and 64 decoder steps. The Large models of the other
    figures and tables have the text's 48 + 304 tokens; the same 64 steps are assumed.
    """
    if model["size"] == "xxl":
        return figure2.setting(model["system"])
    settings = {name: x for name, x in model.items() if name not in ("system", "size")}
    return replace(of_size(model["size"]), **{"m": settings["k"], **settings})


def macs(model: dict[str, Any]) -> Fraction:
    """Multiply-adds of one question to a published model, mode full."""
    return Fraction(total(setting_of_model(model), model["system"], "full"))


def priced(found: Iterable[Value]) -> list[CostedModel]:
    """The models of some values, cheapest first. A model that the paper shows more than once appears once."""
    merged: dict[Any, list[Value]] = {}
    for v in found:
        merged.setdefault((tuple(sorted(v.model.items())), v.y), []).append(v)
    result = [
        CostedModel(tuple(dict.fromkeys(v.place for v in same)), same[0].model, same[0].y, macs(same[0].model))
        for same in merged.values()
    ]
    return sorted(result, key=lambda p: (p.macs, -p.quality))


def retrieval() -> list[CostedModel]:
    """GLIMMER-Large and LUMEN-Large of Figures 3 to 5."""
    return priced(v for name in RETRIEVAL for v in values(PAPER_RESULTS[name]()))


def front(models: Sequence[CostedModel]) -> list[CostedModel]:
    """The Pareto front: the models for which no other is at least as good and as cheap, and better or cheaper."""

    def dominated(p: CostedModel) -> bool:
        return any(
            q.macs <= p.macs and q.quality >= p.quality and (q.macs, q.quality) != (p.macs, p.quality) for q in models
        )

    return [p for p in models if not dominated(p)]


def lumens(models: Sequence[CostedModel]) -> list[CostedModel]:
    """The LUMEN models among these models, by k."""
    return sorted((p for p in models if p.model["system"] == "lumen"), key=lambda p: int(p.model["k"]))


def at_least_as_good(models: Sequence[CostedModel], lumen: CostedModel) -> list[CostedModel]:
    """The GLIMMER models at least as good as a LUMEN model that do not cost more, cheapest first."""
    return [p for p in models if p.model["system"] == "glimmer" and p.quality >= lumen.quality and p.macs <= lumen.macs]


def lumen_k(p: CostedModel) -> Fraction:
    """The k at which LUMEN-Large has this cost, solved exactly."""
    s = replace(of_size("large"), alpha=p.model["alpha"])
    start, each = line(lambda k: total(replace(s, k=k), "lumen", "full"))
    return (p.macs - start) / each


def interpolated_quality(known: Sequence[CostedModel], k: Fraction) -> Fraction | None:
    """LUMEN's quality at k, interpolated linearly between its published values; None beyond them."""
    for a, b in pairwise(known):
        if a.model["k"] <= k <= b.model["k"]:
            share = (k - a.model["k"]) / (b.model["k"] - a.model["k"])
            return a.quality + share * (b.quality - a.quality)
    return None
