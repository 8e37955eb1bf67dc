"""The paper's figures and tables: every value against the paper's own plot data, the front, and the pictures."""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from glimmer_ref.costs.modes import samples_per_tflop, total
from glimmer_ref.costs.published import figure2, tradeoff
from glimmer_ref.costs.published.plots import draw
from glimmer_ref.costs.published.reports import front_report, paper_result_report
from glimmer_ref.costs.published.values import PAPER_RESULTS, Value, values
from glimmer_ref.errors import InputError

# The data of the paper's plots as its source has them, x before y; a level stands once for each end.
FIGURES = {
    "Figure 2": {
        "FiD": "0.09272427067,69.215", "lumen": "0.1067540778,70.98166667", "glimmer": "0.1278586731,73.22",
    },
    "Figure 3, left": {
        "lumen-40": "5 70.98 40 70.98", "glimmer": "5 65.56 10 67.99 25 69.83 40 70.71", "lumen-5": "5 65.56 40 65.56",
    },
    "Figure 3, right": {"glimmer": "1 66.86 5 69.83 10 70.18 25 70.16", "lumen-25": "1 70.16 25 70.16"},
    "Figure 4": {"glimmer": "0.0 64.53 0.125 67.6 0.25 69.83 0.5 70.01 1.0 69.94", "lumen-25": "0 70.16 1 70.16"},
    "Figure 5": {
        "2 rerank layers": "5 70.540702 10 70.885407 15 70.873928 20 70.95 40 70.820102",
        "4 rerank layers": "5 70.851149 10 71.1 15 71.083193 20 70.964394 40 70.974273",
    },
    "Figure 7": {
        "KILT": "1 57.8 0.75 57.6 0.5 57.5 0.3333333333 57.6 0.25 56.9 0.1666666667 56.4 0.125 54.7 "
        "0.04166666667 51.1 0 50.9",
        "NQ-only": "1 55.6 0.75 55.7 0.5 56.1 0.3333333333 55.2 0.25 53.4 0.1666666667 50.5 0.125 48.5 "
        "0.04166666667 45.5 0 45.6",
    },
}  # fmt: skip
BARS = {
    "NQ only": "(51.18,L-1/8) (58.34,L-1/3) (59.11,FiD)",
    "KILT, above NQ only": "(6.8,L-1/8) (2.68,L-1/3) (1.69,FiD)",
}
TABLES = {
    "Table 1": "glimmer (shared) 69.8; Separate (from T5) 70.0; Separate (from scratch) 68.7",
    "Table 2": "glimmer 69.8; Frozen memory 69.0",
    "Table 3": "glimmer 69.8; Separate Qenc 70.0; PDist lambda=0.1 69.5; PDist lambda=10 69.5; PDist tau=0.1 70.1; "
    "PDist tau=5 69.4; Mean pool 69.8",
}
ALL = [v for paper_result in PAPER_RESULTS.values() for v in values(paper_result())]


def at(place: str, series: str) -> list[Value]:
    return [v for v in ALL if (v.place, v.series) == (place, series)]


@pytest.mark.parametrize("place", FIGURES)
def test_figures_have_the_values_of_their_source(place: str) -> None:
    assert {v.series for v in ALL if v.place == place} == set(FIGURES[place])
    for series, source in FIGURES[place].items():
        numbers = [Fraction(word) for word in re.split("[ ,]", source)]
        pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
        found = [(v.x, v.y) for v in at(place, series)]
        assert found == (pairs if found[0][0] is not None else [(None, pairs[0][1])])
        assert len({y for _, y in pairs}) == 1 or len(found) == len(pairs)


def test_figure_6_and_the_tables_have_the_values_of_their_source() -> None:
    for series, source in BARS.items():
        rows = [(v.y, v.x) for v in at("Figure 6", series)]
        assert rows == [(Fraction(y), x) for y, x in re.findall(r"\(([\d.]+),([^)]+)\)", source)]
    for place, source in TABLES.items():
        rows = [(v.series, v.y) for v in ALL if v.place == place]
        assert rows == [(name, Fraction(y)) for name, y in (row.rsplit(" ", 1) for row in source.split("; "))]
    assert len(ALL) == 3 + 11 + 6 + 10 + 6 + 18 + 3 + 2 + 7


def test_every_number_says_which_model_it_belongs_to() -> None:
    for v in ALL:
        s = tradeoff.setting_of_model(v.model)
        assert (s.alpha * s.L).denominator == 1
        if v.model["system"] == "glimmer":
            assert (s.alpha * s.beta * s.L).denominator == 1
        assert s.k >= s.m and tradeoff.macs(v.model) > 10**11
    beta = {float(v.x): v.model["beta"] for v in at("Figure 4", "glimmer")}  # type: ignore[arg-type]
    assert beta == {float(b): b for b in beta.values()}
    live = [v.model["alpha"] * 24 for v in at("Figure 7", "KILT")]
    assert live == [24, 18, 12, 8, 6, 4, 3, 1, 0]


def test_costs_are_the_calculators() -> None:
    for v in (v for v in ALL if v.place == "Figure 2"):
        s, system = tradeoff.setting_of_model(v.model), v.model["system"]
        ours = samples_per_tflop(total(s, system, "figure2"))
        assert round(ours, figure2.DECIMALS[system]) == v.x == figure2.PUBLISHED[system]
        assert tradeoff.macs(v.model) == total(s, system, "full")
    shared, separate = (tradeoff.macs(at("Table 1", n)[0].model) for n in ("glimmer (shared)", "Separate (from T5)"))
    assert separate > shared == tradeoff.macs(at("Figure 4", "glimmer")[2].model)


def test_the_front_is_what_no_other_model_beats() -> None:
    models = tradeoff.retrieval()
    best = tradeoff.front(models)
    for p in models:
        better = [
            q for q in models
            if q.macs <= p.macs and q.quality >= p.quality and (q.macs < p.macs or q.quality > p.quality)
        ]  # fmt: skip
        assert (p in best) == (not better)
    for a, b in pairwise(best):
        assert a.macs < b.macs and a.quality < b.quality
    assert [p.model["system"] for p in best] == ["lumen"] + ["glimmer"] * 6
    assert (best[-1].model["k"], best[-1].model["m"], best[-1].model["beta"]) == (40, 10, Fraction(1, 2))


def test_a_model_that_the_paper_shows_three_times_appears_once() -> None:
    (p,) = [p for p in tradeoff.retrieval() if p.quality == Fraction("69.83")]
    assert p.places == ("Figure 3, left", "Figure 3, right", "Figure 4")


def test_where_glimmer_is_worth_it() -> None:
    data = front_report()
    worth = {w["lumen_k"]: [(p["k"], p["m"], p["beta_exact"]) for p in w["glimmer"]] for w in data["worth"]}
    assert worth[5] == []
    assert (25, 10, "1/4") in worth[25] and (25, 5, "1/4") not in worth[25] and (25, 25, "1/4") not in worth[25]
    assert worth[40] == [(40, 10, "1/2"), (40, 15, "1/2")]
    for row in data["rows"]:
        model: dict[str, Any] = {"size": "large", "alpha": Fraction(1, 3), "beta": Fraction(1, 4)}
        k = row["lumen_k"]
        assert tradeoff.macs({**model, "system": "lumen", "k": k}) == row["macs"]
        if row["system"] == "lumen":
            assert (k, row["gain"]) == (row["k"], 0)
    gains = {(r["k"], r["m"], r["beta_exact"]): r["gain"] for r in data["rows"] if r["system"] == "glimmer"}
    assert gains[25, 5, "0"] < 0 < gains[25, 1, "1/4"] < gains[25, 5, "1/4"]
    assert gains[40, 40, "1/4"] is None


@pytest.mark.parametrize("name", ["Figure 3", "Figure 6", "Table 1", "front"])
def test_pictures_are_drawn(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.png"
    draw(front_report() if name == "front" else paper_result_report(name), str(path))
    assert path.read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(InputError, match=r"a name that ends in .*got \.nonsense"):
        draw(paper_result_report("Table 2"), str(tmp_path / "x.nonsense"))
