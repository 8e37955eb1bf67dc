"""What may be made of a listener: subclasses at any depth, overrides that call super(), attributes, keywords."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import models
import numpy as np
import pytest
from models import NUMPY, PASSAGES, QUESTION, K

from glimmer_ref.errors import Refused
from glimmer_ref.golden.generate.tolerances import Shuffled
from glimmer_ref.instruments import Clock, Count, Dropout, Tape, Trace
from glimmer_ref.ops import OTHER, Listener, Ops, Spans, bind
from glimmer_ref.paper.fid import greedy
from glimmer_ref.paper.glimmer import glimmer
from glimmer_ref.paper.lumen import encode_passages
from glimmer_ref.ragged import Array, places

MAKE: dict[type[Listener], Callable[[type[Listener], Ops], Any]] = {
    Clock: lambda kind, ops: kind(ops),
    Count: lambda kind, ops: kind(ops),
    Dropout: lambda kind, ops: kind(ops, 0.5, np.random.default_rng(0)),  # type: ignore[call-arg]
    Tape: lambda kind, ops: kind(ops),
    Trace: lambda kind, ops: kind(ops),
    Shuffled: lambda kind, ops: kind(ops, 0),  # type: ignore[call-arg]
}
HEARD: dict[type[Listener], Callable[[Any], Any]] = {  # what must be the same, whoever heard it
    Clock: lambda x: set(x.seconds),
    Count: lambda x: x.macs,
    Dropout: lambda x: x.rng.random(),
    Tape: lambda x: [r.operation for r in x.records],
    Trace: lambda x: {name: a.tobytes() for name, a in x.arrays.items()},
    Shuffled: lambda x: x.rng.random(),
}
kinds = pytest.mark.parametrize("kind", MAKE, ids=lambda kind: kind.__name__)


def run(ops: Ops, over: Ops = NUMPY, dtype: str = "float64") -> None:
    w = models.model(over, models.config(), dtype=dtype)
    got = glimmer(ops, w, QUESTION, encode_passages(ops, w, PASSAGES), K, 2)
    greedy(ops, w, got.memory, 2)


@kinds
def test_a_subclass_hears_what_its_base_hears(kind: type[Listener]) -> None:
    listeners = [
        MAKE[kind](k, NUMPY) for k in (kind, type("Mine", (kind,), {}), type("Ours", (type("A", (kind,), {}),), {}))
    ]
    for listener in listeners:
        run(listener)
    first, *others = (HEARD[kind](listener) for listener in listeners)
    assert first
    assert all(other == first for other in others)


def noting(kind: type[Any]) -> type[Any]:
    """A subclass that hears two more operations, and where."""

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
def test_an_override_hears_and_its_super_too(kind: type[Listener], backend: str) -> None:
    """On the fast backend as well, whose blocks run as a whole under a clock that overrides nothing."""
    ops = bind(backend)
    dtype = "float64" if kind is Shuffled else "float32"  # it takes weights apart, which are packed otherwise
    plain, listener = MAKE[kind](kind, ops), MAKE[kind](noting(kind), ops)
    for each in (plain, listener):
        run(each, ops, dtype)
    assert HEARD[kind](listener) == HEARD[kind](plain)
    for place in ("memory.layer_1.attention.", "live_b.layer_2.feed_forward.", "step_0.layer_1.cross_attention."):
        assert any(path.endswith(place) for path in listener.noted)
    if kind is Clock and backend == "numba":
        assert plain.whole("attention_block") is not None
        assert listener.whole("attention_block") is None


def test_a_listeners_own_attributes_count() -> None:
    heard: list[str] = []
    for listener in (Count(NUMPY), Clock(NUMPY), Tape(NUMPY)):

        def relu(a: Array) -> Array:
            heard.append("relu")
            return NUMPY.relu(a)

        listener.relu = relu  # type: ignore[method-assign]
        listener.at("live").at("layer_0").relu(np.ones((1, 1)))
    assert heard == ["relu"] * 3


def test_what_is_heard_is_shared_by_all_places_or_refused() -> None:
    class Calls(Count):
        def __init__(self, ops: Ops) -> None:
            super().__init__(ops)
            self.calls, self.all = 0, np.zeros(1, int)

        def linear(self, x: Array, w: Array) -> Array:
            self.all += 1
            return super().linear(x, w)

        def relu(self, a: Array) -> Array:
            self.calls += 1  # of this place alone: whoever reads it elsewhere would read 0
            return super().relu(a)

    calls = Calls(NUMPY)
    calls.at("live").linear(np.ones((1, 2)), np.ones((2, 3)))
    assert calls.all == 1
    with pytest.raises(
        Refused, match=r"Calls: attributes set only where it was made; got calls at 'live\.'; keep what"
    ):
        calls.at("live").relu(np.ones((1, 1)))


def test_a_listener_takes_the_keywords_that_operations_take() -> None:
    n = np.array([3])
    q, spans = np.random.default_rng(0).standard_normal((3, 4)), Spans(n, n, places(n), places(n))
    expected = NUMPY.attention(q, q, q, None, spans, heads=2, causal=True)
    for kind, make in MAKE.items():
        if kind not in (Dropout, Shuffled):
            listener = make(kind, NUMPY)
            np.testing.assert_array_equal(
                listener.attention(q, q, v=q, bias=None, spans=spans, heads=2, causal=True), expected
            )


def test_what_is_at_no_place_has_a_name() -> None:
    clock, count = Clock(NUMPY), Count(NUMPY)
    for ops in (clock, count):
        ops.linear(np.ones((1, 2)), np.ones((2, 3)))
    assert (set(clock.seconds), count.macs) == ({OTHER}, {OTHER: 6})


def test_a_clock_gives_the_rest_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("glimmer_ref.instruments.profiler.time.perf_counter", lambda: now[0])
    clock = Clock(NUMPY)
    now[0] = 3
    with clock.during("live"):
        now[0] = 5
    now[0] = 9
    clock.rest()
    assert clock.seconds == {"live": 2, OTHER: 7}
