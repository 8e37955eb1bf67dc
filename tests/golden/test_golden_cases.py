"""The golden cases: the same bytes again, right runs pass, known mistakes are caught where they are made."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glimmer_ref.config import GlimmerConfig
from glimmer_ref.golden import case as cases
from glimmer_ref.golden import check
from glimmer_ref.golden.adapters import check_callable
from glimmer_ref.golden.cases import CASES
from glimmer_ref.golden.generate import make, run_case
from glimmer_ref.golden.generate.mutations import TABLE as MUTATIONS
from glimmer_ref.inference.tracing import trace_ids
from glimmer_ref.ops import bind
from glimmer_ref.paper.distillation import distribution
from glimmer_ref.params.model import from_arrays, leaves
from glimmer_ref.params.safetensors_io import write_tensors

NUMPY = bind("numpy")
RIGHT = {name: cases.model(case, cases.weights(case)) for name, case in CASES.items()}


def right(name: str, dtype: str = "float64", ops: Any = NUMPY) -> dict[str, np.ndarray]:
    case = CASES[name]
    return run_case.run(ops, case, cases.model(case, cases.weights(case), dtype), cases.inputs(case))


@cache
def known(name: str) -> check.Case:
    """The bundled case, opened once: opening compares it with itself and with all its mistakes."""
    return check.open_case(name)


@cache
def stages(name: str) -> list[str]:
    """The names of all arrays that a right run makes, in order."""
    case = CASES[name]
    whole = run_case.run(NUMPY, case, RIGHT[name], cases.inputs(case), only=".*")
    return [n for n in whole if not n.endswith(".lengths")]


def test_the_folders_are_those_of_the_table() -> None:
    assert check.bundled() == sorted(CASES)
    assert len(CASES) == 17


@pytest.mark.parametrize("name", sorted(CASES))
def test_inputs_and_weights_come_out_the_same_again(name: str, tmp_path: Path) -> None:
    case, folder = CASES[name], check.CASES / name
    weights = cases.weights(case)
    for part, arrays in (("inputs", cases.inputs(case)), ("weights", make.packed(case, weights))):
        write_tensors(tmp_path / part, arrays)
        assert (tmp_path / part).read_bytes() == (folder / f"{part}.safetensors").read_bytes()
    assert sum(path.stat().st_size for path in folder.iterdir()) < make.MOST_BYTES


@pytest.mark.parametrize("name", sorted(set(CASES) - {"refusals"}))
@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_right_run_is_right(name: str, backend: str, dtype: str) -> None:
    if not run_case.can_run(bind(backend), CASES[name]):
        pytest.skip(f"{backend} has no backward yet")
    report = check.check(known(name), right(name, dtype, bind(backend)), dtype)
    assert report.code == 0, "\n".join(report.lines())
    assert all(v.status == "ok" for v in report.tensors)


def test_float32_is_not_float64() -> None:
    assert check.check("glimmer", right("glimmer", "float32"), "float64").code == 1


@pytest.mark.once
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)
def test_a_mistake_is_caught_where_it_is_made(mutation: Any) -> None:
    caught = 0
    for name, case in CASES.items():
        if case.kind == "refuse" or not mutation.applies_to(case):
            continue
        caught += 1
        outputs = mutation.run(NUMPY, case, RIGHT[name], cases.inputs(case))
        report = check.check(known(name), {n: x for n, x in outputs.items() if np.isfinite(x).all()}, "float32")
        assert report.code == 1
        expected = mutation.expected_first(stages(name), [t["name"] for t in known(name).about["tensors"]])
        assert report.first is not None and report.first.name == expected, name
    assert caught, "no case sees it"


def test_golden_gradients_are_those_of_differences() -> None:
    """What a step along each gradient does to the loss, log p_LM being held."""
    name = "gradients"
    case, named, expected = CASES[name], cases.inputs(CASES[name]), known(name).expected
    model = cases.model(case, cases.weights(case))

    def value() -> float:
        got = run_case.run(NUMPY, case, model, named, only="scores|loss.lm")
        p, r = distribution(got["scores"], K), distribution(expected["log_p_lm"], K)
        return float(got["loss.lm"][0] + (p * np.log(p / r)).sum())

    assert value() == pytest.approx(expected["loss.lm"][0] + expected["loss.pdist"][0], rel=1e-12)
    for weight, x in leaves(model).items():
        gradient, before, ends = expected[f"gradient.{weight}"], x.copy(), []
        step = 1e-6 / np.abs(gradient).max()
        for along in (step, -step):
            x[...] = before + along * gradient
            ends.append(value())
        x[...] = before
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx((gradient**2).sum(), rel=1e-5), weight


K = np.array([7])


def test_there_are_enough_mistakes() -> None:
    assert len({m.name for m in MUTATIONS}) == len(MUTATIONS) >= 20
    assert all(m.description for m in MUTATIONS)


@pytest.mark.parametrize("name", ["divided_by_sqrt_d_kv", "erf_gelu", "eps_1e-5", "worst_first", "score_of_last_token"])
def test_a_mistake_is_named(name: str) -> None:
    mutation = next(m for m in MUTATIONS if m.name == name)
    outputs = mutation.run(NUMPY, CASES["glimmer"], RIGHT["glimmer"], cases.inputs(CASES["glimmer"]))
    assert any(mutation.description in line for line in check.check("glimmer", outputs).lines())


def test_the_refusals_are_refused() -> None:
    """Through the way that a stranger's function takes: (config, weights, inputs) to named arrays, or an error."""

    def reference(config: dict[str, Any], weights: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
        settings = GlimmerConfig.from_json(config)
        if not all(np.isfinite(x).all() for x in weights.values()):
            raise ValueError("weights that are not finite")
        model = from_arrays(settings, weights)
        cuts = np.cumsum(inputs["passages.lengths"])[:-1].astype(int)
        passages = [[int(i) for i in part] for part in np.split(inputs["passages"], cuts)]
        passages = passages if len(inputs["passages.lengths"]) else []
        return trace_ids(NUMPY, model, list(inputs["question"]), passages, m=settings.m, only="scores|selected")

    report = check_callable("refusals", reference)
    assert report.code == 0, "\n".join(report.lines())
    assert sum(v.name.startswith("refused.") for v in report.tensors) == len(CASES["refusals"].refusals) == 12
