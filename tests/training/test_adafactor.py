"""Adafactor against its printed formulas and against an independent implementation, and its state on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from glimmer_ref.errors import InputError
from glimmer_ref.params.safetensors_io import map_tensors, write_tensors
from glimmer_ref.training.adafactor import Adafactor, Weights

STEPS = 50
SHAPES = {"matrix": (24, 40), "tall": (70, 3), "gain": (33,), "row": (1, 9)}


def drawn(dtype: str = "float32") -> tuple[Weights, list[Weights]]:
    """Weights, and gradients of very different sizes for 50 steps, one of them zero throughout a row."""
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal(shape).astype(dtype) for name, shape in SHAPES.items()}
    weights["gain"] = np.zeros_like(weights["gain"])  # the least scale is what lets it move
    sizes = rng.uniform(-4, 2, STEPS)
    gradients = [
        {name: (10**size * rng.standard_normal(w.shape)).astype(dtype) for name, w in weights.items()} for size in sizes
    ]
    for g in gradients:
        g["matrix"][3] = 0
    return weights, gradients


def rate(step: int) -> float:
    return 1e-2 * min(1.0, (step + 1) / 10)


def run(settings: Adafactor, dtype: str = "float32") -> Weights:
    weights, gradients = drawn(dtype)
    state = settings.start(weights)
    for step, g in enumerate(gradients):
        weights, state = settings.update(weights, g, state, rate(step))
    return weights


def algorithm(name: str, factored: bool, momentum: float) -> np.ndarray:
    """Algorithms 4 and 5 of the paper as printed, one number after the other, in float64."""
    weights, gradients = drawn("float64")
    x = weights[name]
    r, c, v, first = np.zeros(x.shape[0]), np.zeros(x.shape[-1]), np.zeros(x.shape), np.zeros(x.shape)
    for t, drawn_gradients in enumerate(gradients, start=1):
        g = drawn_gradients[name]
        beta2 = 1 - t**-0.8
        alpha = max(1e-3, np.sqrt((x**2).sum() / x.size)) * rate(t - 1)
        if factored:
            n, m = x.shape
            for i in range(n):
                r[i] = beta2 * r[i] + (1 - beta2) * sum(g[i, j] ** 2 + 1e-30 for j in range(m))
            for j in range(m):
                c[j] = beta2 * c[j] + (1 - beta2) * sum(g[i, j] ** 2 + 1e-30 for i in range(n))
            v = np.outer(r, c) / r.sum()
        else:
            v = beta2 * v + (1 - beta2) * (g**2 + 1e-30)
        u = g / np.sqrt(v)
        u = u / max(1, np.sqrt((u**2).sum() / u.size) / 1.0)
        first = momentum * first + (1 - momentum) * alpha * u
        x = x - (first if momentum else alpha * u)
    return x


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize(("name", "factored"), [("matrix", True), ("matrix", False), ("tall", False), ("gain", False)])
def test_is_the_printed_algorithm(name: str, factored: bool, momentum: float) -> None:
    settings = Adafactor(factor_from=20 if factored else 128, momentum=momentum)
    expected = algorithm(name, factored, momentum)
    np.testing.assert_allclose(run(settings, "float64")[name], expected, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(run(settings)[name], expected, rtol=3e-5, atol=1e-6)


def test_is_transformers_adafactor() -> None:
    torch = pytest.importorskip("torch", reason="needs the witness extra; .ci/run installs it")
    optimization = pytest.importorskip("transformers.optimization", reason="needs the witness extra")
    weights, gradients = drawn()
    theirs = {name: torch.nn.Parameter(torch.tensor(w)) for name, w in weights.items()}
    optimizer = optimization.Adafactor(
        list(theirs.values()), lr=1.0, scale_parameter=True, relative_step=False, warmup_init=False
    )
    for step, g in enumerate(gradients):
        optimizer.param_groups[0]["lr"] = rate(step)
        for name, p in theirs.items():
            p.grad = torch.tensor(g[name])
        optimizer.step()
    ours = run(Adafactor(factor_from=1))
    for name, w in ours.items():
        np.testing.assert_allclose(w, theirs[name].detach().numpy(), rtol=1e-6, atol=1e-6, err_msg=name)


def test_state_is_small_where_factored() -> None:
    weights, _ = drawn()
    state = Adafactor(factor_from=20).start(weights)
    assert {name: x.shape for name, x in state.items() if "matrix" in name} == {
        "matrix.rows": (24,),
        "matrix.columns": (40,),
    }
    assert state["tall.squares"].shape == (70, 3)


def test_nothing_passed_in_is_written_to() -> None:
    settings = Adafactor(factor_from=20, momentum=0.9)
    weights, gradients = drawn()
    state = settings.start(weights)
    weights, state = settings.update(weights, gradients[0], state, 0.1)
    before = {name: x.copy() for name, x in (weights | state | gradients[1]).items()}
    settings.update(weights, gradients[1], state, 0.1)
    for name, x in (weights | state | gradients[1]).items():
        np.testing.assert_array_equal(x, before[name], err_msg=name)


def test_a_weight_without_gradient_stays(tmp_path: Path) -> None:
    settings = Adafactor()
    weights, gradients = drawn()
    state = settings.start(weights)
    some = {"matrix": gradients[0]["matrix"]}
    after, moved = settings.update(weights, some, state, 0.1)
    assert after["tall"] is weights["tall"]
    assert moved["tall.squares"] is state["tall.squares"]
    assert not np.array_equal(after["matrix"], weights["matrix"])


def test_state_saves_and_resumes_exactly(tmp_path: Path) -> None:
    settings = Adafactor(factor_from=20, momentum=0.9)
    weights, gradients = drawn()
    state = settings.start(weights)
    for step, g in enumerate(gradients):
        if step == 20:
            write_tensors(tmp_path / "w.safetensors", weights)
            write_tensors(tmp_path / "s.safetensors", state)
        weights, state = settings.update(weights, g, state, rate(step))
    again, resumed = (
        {name: x.raw for name, x in map_tensors(tmp_path / f"{kind}.safetensors").items()} for kind in "ws"
    )
    settings.check(again, resumed)
    for step in range(20, STEPS):
        again, resumed = settings.update(again, gradients[step], resumed, rate(step))
    for name, x in (weights | state).items():
        np.testing.assert_array_equal((again | resumed)[name], x, err_msg=name)


def test_another_state_is_refused() -> None:
    weights, _ = drawn()
    state = Adafactor(factor_from=20).start(weights)
    with pytest.raises(InputError, match=r"optimizer state: matrix.columns: expected none; got float32\[40\]"):
        Adafactor().check(weights, state)


@pytest.mark.parametrize(
    ("shape", "factored"),
    [
        ((128, 128), True),
        ((127, 300), False),
        ((300, 127), False),
        ((128, 129), True),
        ((128,), False),
        ((128, 128, 128), False),
    ],
)
def test_a_matrix_is_factored_from_128_rows_and_columns(shape: tuple[int, ...], factored: bool) -> None:
    state = Adafactor().start({"w": np.zeros(shape, np.float32)})
    assert set(state) == {"step", *(["w.rows", "w.columns"] if factored else ["w.squares"])}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_a_checkpoint_holds(dtype: str) -> None:
    """Its names, shapes and types: a state that was written before must still be read."""
    weights = {"matrix": np.ones((128, 130), dtype), "gain": np.ones(7, dtype)}
    plain = {
        "step": ("int64", (1,)),
        "matrix.rows": (dtype, (128,)),
        "matrix.columns": (dtype, (130,)),
        "gain.squares": (dtype, (7,)),
    }
    first = {"matrix.first": (dtype, (128, 130)), "gain.first": (dtype, (7,))}
    for settings, expected in ((Adafactor(), plain), (Adafactor(momentum=0.9), plain | first)):
        started = settings.start(weights)
        _, moved = settings.update(weights, {name: w.copy() for name, w in weights.items()}, started, 0.1)
        for state in (started, moved):
            assert {name: (x.dtype.name, x.shape) for name, x in state.items()} == expected
        assert not any(x.any() for x in started.values())
        assert moved["step"].tolist() == [1]


@pytest.mark.parametrize("parameter_scale", [True, False])
@pytest.mark.parametrize(("clip", "length"), [(0.25, 0.25), (1.0, 1.0), (2.0, 1.0)])
def test_a_first_update_is_as_long_as_may_be(clip: float, length: float, parameter_scale: bool) -> None:
    """U is the gradient's sign at first, of root mean square 1, which is scaled down to `clip`."""
    w, g = np.array([3.0, -3.0, 3.0]), np.array([1.0, -2.0, 0.5])
    settings = Adafactor(clip=clip, parameter_scale=parameter_scale)
    after, _ = settings.update({"w": w}, {"w": g}, settings.start({"w": w}), 0.1)
    expected = w - 0.1 * (3.0 if parameter_scale else 1.0) * length * np.sign(g)
    np.testing.assert_allclose(after["w"], expected, rtol=1e-12)


def test_the_defaults_are_the_papers() -> None:
    """Shazeer and Stern 2018, algorithm 4 with its section 9's proposal."""
    assert (Adafactor().tiny, Adafactor().clip, Adafactor().decay, Adafactor().least_scale) == (1e-30, 1.0, 0.8, 1e-3)
