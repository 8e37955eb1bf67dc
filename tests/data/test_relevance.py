"""The relevance filter: what counts as sure, and where the threshold cuts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glimmer_ref.data.kilt import Datapoint, Output, Provenance
from glimmer_ref.data.relevance import THRESHOLD, confidence, relevant, retrieved
from glimmer_ref.errors import InputError


def point(*outputs: list[float | None] | None) -> Datapoint:
    """A datapoint with these BLEU scores of each output's places; None: it names no provenance."""
    made = (
        Output("x", None if some is None else tuple(Provenance("1", "", 1, None, None, None, b) for b in some))
        for some in outputs
    )
    return Datapoint("1", "?", tuple(made), {})


@pytest.mark.parametrize(
    ("outputs", "sure"),
    [
        ((), 0),
        ((None,), 0),
        (([],), 0),
        (([0.7],), 0.7),
        (([0.7, 0.3],), 0.3),  # both places are needed
        (([0.7, 0.3], [0.4]), 0.4),  # one output is enough
        (([None],), 1),  # given, not mapped
        (([None, 0.2], None), 0.2),
    ],
)
def test_the_surest_output_counts_by_its_least_sure_place(
    outputs: tuple[list[float | None] | None, ...], sure: float
) -> None:
    assert confidence(point(*outputs)) == sure


def test_the_threshold_is_kilts_own_and_takes_part() -> None:
    assert THRESHOLD == 0.5
    assert relevant(point([0.5])) and not relevant(point([0.49999]))
    assert relevant(point([0.49999]), 0.4) and not relevant(point([0.9]), 1) and not relevant(point(), 1e-9)


@given(st.lists(st.lists(st.floats(0, 1), max_size=3), max_size=3), st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_higher_threshold_keeps_no_more(scores: list[list[float]], a: float, b: float) -> None:
    low, high = sorted((a, b))
    kept = relevant(point(*scores), high)
    assert relevant(point(*scores), low) >= kept
    assert kept == any(some and all(x >= high for x in some) for some in scores)


@pytest.mark.parametrize("threshold", [0, -0.5, 1.5, float("nan")])
def test_a_threshold_that_cuts_nothing_or_all_is_refused(threshold: float) -> None:
    with pytest.raises(InputError, match="above 0 and at most 1"):
        relevant(point([0.7]), threshold)


def test_what_was_retrieved_holds_a_proof_among_the_first_k() -> None:
    assert retrieved(["a", "b"], ["x", "b", "a"], 2) and not retrieved(["a"], ["x", "b", "a"], 2)
    assert not retrieved([], ["x"], 5) and not retrieved(["x"], [], 5)
    with pytest.raises(InputError, match="k: expected at least 1"):
        retrieved(["a"], ["a"], 0)
