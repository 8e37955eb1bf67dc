"""Measures a golden case: its tolerances, the margins of its choices, and the errors of known mistakes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ...errors import InputError
from ...ops import bind
from .. import case as cases
from ..case import Case
from ..check import PRECISIONS, errors
from . import run_case
from .mutations import TABLE as MUTATIONS
from .run_case import Arrays
from .tolerances import MARGIN, honest_runs, storage_error

STEPS = r"decoder\.step_\d+\.logits"
MARGIN_TOLERANCES = 100  # minimum margin of a choice, in tolerances of float32
FEWEST_TOKENS, FEWEST_WORDS = 24, 8
MOST_ERRORS, DIGITS = 16, 2  # so many tensors and decimals distinguish nearly all mistakes in a forward pass
RIGHT = -30.0


def names_of(arrays: Arrays) -> list[str]:
    """The names of a run's tensors, without those of their lengths."""
    return [name for name in arrays if not (name.endswith(".lengths") and name.removesuffix(".lengths") in arrays)]


def arrays_of_case(case: Case, arrays: Arrays) -> Arrays:
    """The arrays that belong to the case, with their lengths."""
    belongs = re.compile("|".join(case.holds)).fullmatch
    return {name: x for name, x in arrays.items() if belongs(name.removesuffix(".lengths"))}


def gap_of_scores(scores: np.ndarray, m: int) -> float:
    """Smallest difference between consecutive scores among the best m + 1, as a share of the largest score."""
    ranked = np.sort(scores)[::-1][: m + 1]
    return float(-np.diff(ranked).max(initial=-math.inf) / np.abs(scores).max())


def gap_of_steps(arrays: Arrays, steps: Iterable[str]) -> float:
    """Smallest difference between the best two logits in any greedy step, as a share of the step's largest logit."""
    logits = np.concatenate([arrays[name] for name in steps])
    best = np.sort(logits, axis=1)[:, -2:]
    return float(((best[:, 1] - best[:, 0]) / np.abs(logits).max(axis=1)).min())


def ties(case: Case) -> bool:
    """Whether all scores of the case are equal by design."""
    return case.config.num_rerank_layers == 0 and case.config.pool == "first"


def require(case: Case, condition: bool, expected: str, got: Any) -> None:
    """Refuses a case that cannot detect mistakes.

    Raises:
        InputError: the condition is false.
    """
    if not condition:
        raise InputError(f"golden case {case.name}", expected, str(got), "another seed or other sizes")


def check_quality(case: Case, truth: Arrays) -> None:
    """Checks that a case can detect mistakes: its lengths differ, its selection is not in order, its answers vary.

    Raises:
        InputError: the case cannot detect mistakes.
    """
    lengths = case.passages
    require(case, case.kind == "ops" or len(set(lengths)) == len(lengths), "sequences of different length", lengths)
    if "selected" in truth:
        chosen = list(truth["selected"])
        if ties(case):
            require(case, len(set(truth["scores"])) == 1, "scores that tie exactly", truth["scores"])
        else:
            require(case, chosen != sorted(chosen), "a selection that is not ascending", chosen)
    if case.decodes:
        fewest, words = truth["decoder.ids.lengths"].min(), len(set(truth["decoder.ids"]))
        require(case, fewest >= FEWEST_TOKENS, f"answers of {FEWEST_TOKENS} tokens", fewest)
        require(case, words >= FEWEST_WORDS, f"{FEWEST_WORDS} different tokens in the answers", words)


def measure(case: Case, weights: Arrays, named: Arrays, truth: Arrays) -> dict[str, dict[str, tuple[float, float]]]:
    """Tolerances (NMSE, scaled maximum) by tensor and precision: the largest errors of correct runs, times a margin.

    A lower precision never gets a smaller tolerance than a higher one.

    Raises:
        InputError: a correct run selects another passage or token.
    """
    floats = [name for name in names_of(truth) if truth[name].dtype.kind == "f"]
    worst = {name: (0.0, 0.0) for name in floats}
    result: dict[str, dict[str, tuple[float, float]]] = {name: {} for name in floats}
    for precision in PRECISIONS:
        for ops, dtype in (run for run in honest_runs(precision) if run_case.can_run(run[0], case)):
            got = run_case.run(ops, case, cases.model(case, weights, dtype), named, only="|".join((*case.holds, STEPS)))
            for name in names_of(truth):
                if name not in worst:
                    require(case, np.array_equal(got[name], truth[name]), f"{name} alike in {precision}", got[name])
            for name in floats:
                pair = zip(worst[name], errors(got[name], truth[name]), strict=True)
                worst[name] = tuple(max(a, b) for a, b in pair)  # type: ignore[assignment]
        least = storage_error(precision)
        for name, (nmse, most) in worst.items():
            tolerance = max(MARGIN**2 * nmse, least[0]), max(MARGIN * most, least[1])
            result[name][precision] = rounded_up(tolerance[0]), rounded_up(tolerance[1])
    return result


def rounded_up(x: float) -> float:
    """x rounded up to two digits, so that a tolerance is easy to read."""
    step = 10.0 ** (math.floor(math.log10(x)) - 1)
    return float(f"{math.ceil(x / step) * step:.1e}")


def margins(case: Case, truth: Arrays, tolerances: Mapping[str, Any]) -> dict[str, float]:
    """The margins between the selected passages or tokens and the next best ones, by tensor.

    Raises:
        InputError: a margin is less than 100 tolerances of float32.
    """
    result = {}
    if "selected" in truth and not ties(case):
        result["selected"] = gap_of_scores(truth["scores"], case.m)
        allowed = tolerances["scores"]["float32"][1]
        require(
            case,
            result["selected"] > MARGIN_TOLERANCES * allowed,
            f"scores {MARGIN_TOLERANCES} tolerances apart",
            result["selected"],
        )
    if "decoder.ids" in truth:
        steps = [name for name in names_of(truth) if re.fullmatch(STEPS, name)]
        result["decoder.ids"] = gap_of_steps(truth, steps)
        allowed = max(tolerances[name]["float32"][1] for name in steps)
        require(
            case,
            result["decoder.ids"] > MARGIN_TOLERANCES * allowed,
            f"logits {MARGIN_TOLERANCES} tolerances apart",
            result["decoder.ids"],
        )
    return result


def differs(got: Arrays, truth: Arrays, tolerances: Mapping[str, Any], precision: str = "float32") -> dict[str, float]:
    """NMSE of the tensors that differ from the truth, in forward order; infinite if the shape differs."""
    result = {}
    for name in (name for name in names_of(truth) if name in got):
        if got[name].shape != truth[name].shape:
            result[name] = math.inf
            continue
        error = errors(got[name], truth[name])
        limit = tolerances[name][precision] if name in tolerances else (0.0, 0.0)
        if error[0] > limit[0] or error[1] > limit[1]:
            result[name] = error[0]
    return result


def signature(case: Case, got: Arrays, truth: Arrays, different: Mapping[str, float]) -> dict[str, float]:
    """log10 of the NMSE from the first tensor that differs on, up to the last of MOST_ERRORS that differ.

    A tensor that is right has RIGHT. Tensors with another shape are left out. So are attention probabilities, since a
    faulty run records right ones.
    """
    names, result, wrong = names_of(truth), {}, 0
    for name in names[names.index(next(iter(different))) :]:
        nmse = different.get(name, 0.0)
        if name in got and nmse < math.inf and ".probs." not in name:
            result[name] = round(math.log10(nmse), DIGITS) if nmse else RIGHT
            wrong += nmse > 0
        if wrong == MOST_ERRORS and not case.learns:
            break
    return result


def mistakes(case: Case, weights: Arrays, named: Arrays, truth: Arrays, tolerances: Mapping[str, Any]) -> list[Any]:
    """The errors that every known mistake makes in this case."""
    result, numpy, model = [], bind("numpy"), cases.model(case, weights)
    for mutation in MUTATIONS:
        if not mutation.applies_to(case):
            continue
        got = mutation.run(numpy, case, model, named)
        different = differs(got, truth, tolerances)
        require(case, bool(different), f"a difference by {mutation.name}", "none")
        known = signature(case, got, truth, different)
        result.append(
            {"name": mutation.name, "says": mutation.description, "first": next(iter(different)), "errors": known}
        )
    return result
