"""Instruments: subclasses at any depth, overrides that call super(), attributes, keyword arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import models
import numpy as np
import pytest
from models import NUMPY, PASSAGES, QUESTION, K

from glimmer_ref.errors import InputError
from glimmer_ref.golden.generate.tolerances import Shuffled
from glimmer_ref.instruments import Dropout, MacCounter, Profiler, Tape, Trace
from glimmer_ref.ops import OTHER, Instrument, Ops, SequenceLayout, bind
from glimmer_ref.paper.decoding import greedy
from glimmer_ref.paper.glimmer import glimmer
from glimmer_ref.paper.lumen import encode_passages
from glimmer_ref.ragged import Array, token_positions

MAKE: dict[type[Instrument], Callable[[type[Instrument], Ops], Any]] = {
    Profiler: lambda kind, ops: kind(ops),
    MacCounter: lambda kind, ops: kind(ops),
    Dropout: lambda kind, ops: kind(ops, 0.5, np.random.default_rng(0)),  # type: ignore[call-arg]
    Tape: lambda kind, ops: kind(ops),
    Trace: lambda kind, ops: kind(ops),
    Shuffled: lambda kind, ops: kind(ops, 0),  # type: ignore[call-arg]
}
OBSERVED: dict[type[Instrument], Callable[[Any], Any]] = {  # what every subclass must observe alike
    Profiler: lambda x: set(x.seconds),
    MacCounter: lambda x: x.macs,
    Dropout: lambda x: x.rng.random(),
    Tape: lambda x: [r.operation for r in x.calls],
    Trace: lambda x: {name: a.tobytes() for name, a in x.arrays.items()},
    Shuffled: lambda x: x.rng.random(),
}
kinds = pytest.mark.parametrize("kind", MAKE, ids=lambda kind: kind.__name__)


def run(ops: Ops, over: Ops = NUMPY, dtype: str = "float64") -> None:
    w = models.model(over, models.config(), dtype=dtype)
    got = glimmer(ops, w, QUESTION, encode_passages(ops, w, PASSAGES), K, 2)
    greedy(ops, w, got.memory, 2)


@kinds
def test_a_subclass_observes_what_its_base_observes(kind: type[Instrument]) -> None:
    instruments = [
        MAKE[kind](k, NUMPY) for k in (kind, type("Mine", (kind,), {}), type("Ours", (type("A", (kind,), {}),), {}))
    ]
    for instrument in instruments:
        run(instrument)
    first, *others = (OBSERVED[kind](instrument) for instrument in instruments)
    assert first
    assert all(other == first for other in others)


def noting(kind: type[Any]) -> type[Any]:
    """A subclass that also observes two single operations, and their scopes."""

    class Noting(kind):
        def __init__(self, *args: Any) -> None:
            self.noted: list[str] = []
            super().__init__(*args)

        def linear(self, x: Array, w: Array) -> Array:
            self.noted.append(self.path)
            return super().linear(x, w)

        def gated_gelu(self, a: Array, b: Array) -> Array:
            self.noted.append(self.path)
            return super().gated_gelu(a, b)

    return Noting


@kinds
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_an_override_observes_and_its_super_too(kind: type[Instrument], backend: str) -> None:
    """On the CPU backend as well, whose blocks run fused under a profiler that overrides nothing."""
    ops = bind(backend)
    dtype = "float64" if kind is Shuffled else "float32"  # it indexes weights, so they must not be packed
    plain, instrument = MAKE[kind](kind, ops), MAKE[kind](noting(kind), ops)
    for each in (plain, instrument):
        run(each, ops, dtype)
    assert OBSERVED[kind](instrument) == OBSERVED[kind](plain)
    for place in ("memory.layer_1.attention.", "live_b.layer_2.feed_forward.", "step_0.layer_1.cross_attention."):
        assert any(path.endswith(place) for path in instrument.noted)
    if kind is Profiler and backend == "numba":
        assert plain.fused("attention_block") is not None
        assert instrument.fused("attention_block") is None


def test_attributes_of_an_instrument_are_overrides() -> None:
    observed: list[str] = []
    for instrument in (MacCounter(NUMPY), Profiler(NUMPY), Tape(NUMPY)):

        def relu(a: Array) -> Array:
            observed.append("relu")
            return NUMPY.relu(a)

        instrument.relu = relu  # type: ignore[method-assign]
        instrument.scope("live").scope("layer_0").relu(np.ones((1, 1)))
    assert observed == ["relu"] * 3


def test_observations_are_shared_by_all_copies_or_refused() -> None:
    class Calls(MacCounter):
        def __init__(self, ops: Ops) -> None:
            super().__init__(ops)
            self.calls, self.all = 0, np.zeros(1, int)

        def linear(self, x: Array, w: Array) -> Array:
            self.all += 1
            return super().linear(x, w)

        def relu(self, a: Array) -> Array:
            self.calls += 1  # would count on this copy alone: the instrument itself would read 0
            return super().relu(a)

    calls = Calls(NUMPY)
    calls.scope("live").linear(np.ones((1, 2)), np.ones((2, 3)))
    assert calls.all == 1
    with pytest.raises(
        InputError,
        match=r"Calls: expected attributes set only on the instrument .*; got calls in scope 'live\.'; collect",
    ):
        calls.scope("live").relu(np.ones((1, 1)))


def test_an_instrument_takes_the_keywords_that_operations_take() -> None:
    n = np.array([3])
    q, layout = (
        np.random.default_rng(0).standard_normal((3, 4)),
        SequenceLayout(n, n, token_positions(n), token_positions(n)),
    )
    expected = NUMPY.attention(q, q, q, None, layout, heads=2, causal=True)
    for kind, make in MAKE.items():
        if kind not in (Dropout, Shuffled):
            instrument = make(kind, NUMPY)
            np.testing.assert_array_equal(
                instrument.attention(q, q, v=q, bias=None, layout=layout, heads=2, causal=True), expected
            )


def test_what_is_in_no_scope_has_a_name() -> None:
    clock, count = Profiler(NUMPY), MacCounter(NUMPY)
    for ops in (clock, count):
        ops.linear(np.ones((1, 2)), np.ones((2, 3)))
    assert (set(clock.seconds), count.macs) == ({OTHER}, {OTHER: 6})


def test_a_profiler_gives_the_rest_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("glimmer_ref.instruments.profiler.time.perf_counter", lambda: now[0])
    clock = Profiler(NUMPY)
    now[0] = 3
    with clock.during("live"):
        now[0] = 5
    now[0] = 9
    clock.rest()
    assert clock.seconds == {"live": 2, OTHER: 7}
