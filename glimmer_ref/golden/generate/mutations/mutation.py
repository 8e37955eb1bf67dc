"""A model with one known mistake: its description, the stage where it must appear, and the cases that show it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from ....ops import Ops
from ....params.model import Model, prepare_params
from ...case import Case
from .. import faulty_ops, run_case
from ..run_case import Arrays, Plan

FORCED = Plan(greedy=False)  # the given answer shows every mistake, in a tenth of the time


def always(case: Case) -> bool:
    return True


def gated(case: Case) -> bool:
    return case.config.t5.feed_forward_proj == "gated-gelu"


def decodes(case: Case) -> bool:
    return case.decodes


def decodes_or_ops(case: Case) -> bool:
    return case.decodes or case.kind == "ops"


def pairs(case: Case) -> bool:
    """Whether the case makes pairs of the question and each passage."""
    return case.kind == "model" and case.system in ("glimmer", "lumen", "fid")


def joins(case: Case) -> bool:
    """Whether it makes the pairs from encoded states rather than from tokens."""
    return pairs(case) and case.system != "fid"


def ranks(case: Case) -> bool:
    return pairs(case) and case.system == "glimmer"


def ranks_by_first(case: Case) -> bool:
    return case.kind == "ops" or (ranks(case) and case.config.pool == "first")


def shares_live_a(case: Case) -> bool:
    return ranks(case) and case.config.reranker == "shared"


def chooses(case: Case) -> bool:
    """Whether exactly one order of the scores is right. This is false if all scores are equal."""
    return case.kind == "ops" or (ranks(case) and case.config.num_rerank_layers > 0)


def untied(case: Case) -> bool:
    return case.decodes and not case.tied


def learns(case: Case) -> bool:
    return case.learns


def config(**changes: Any) -> Callable[[Model], Model]:
    """The same weights under another config."""
    return lambda model: replace(model, config=replace(model.config, **changes))


def t5(**changes: Any) -> Callable[[Model], Model]:
    """The same weights under another T5 config."""
    return lambda model: replace(model, config=replace(model.config, t5=replace(model.config.t5, **changes)))


@dataclass(frozen=True)
class Mutation:
    """A model with one known mistake, by its name.

    Args:
        description: the mistake, and what is right instead.
        first_stage: regular expression. The first tensor of a complete run with a matching name is the first that
            differs.
        applies_to: whether a case can show the mistake.
        faulty: faulty operations that replace the right ones, see `faulty_ops.FaultyOps`.
        change: makes the faulty model from the right one.
        plan: the stages of the run, some of them faulty.
    """

    name: str
    description: str
    first_stage: str
    applies_to: Callable[[Case], bool] = always
    faulty: faulty_ops.Faulty | None = None
    change: Callable[[Model], Model] | None = None
    plan: Plan = FORCED

    def run(self, ops: Ops, case: Case, model: Model, named: Arrays) -> Arrays:
        """Every tensor that the case holds, computed with the mistake."""
        model = prepare_params(ops, self.change(model) if self.change else model)
        backend = faulty_ops.FaultyOps(ops, case, model, named, self.faulty) if self.faulty else ops
        return run_case.run(backend, case, model, named, self.plan)

    def expected_first(self, everything: Iterable[str], in_case: Iterable[str]) -> str | None:
        """The tensor with which a check must find the mistake; None if no tensor of the case shows it.

        Args:
            everything: names of all tensors of a complete run, in forward order.
            in_case: names of those that belong to the case.
        """
        names, known = list(everything), set(in_case)
        start = next((i for i, name in enumerate(names) if re.fullmatch(self.first_stage, name)), len(names))
        return next((name for name in names[start:] if name in known), None)


def with_faulty(
    name: str, description: str, first_stage: str, applies_to: Callable[[Case], bool], **functions: Any
) -> Mutation:
    """A mutation that replaces operations. `functions` are the faulty operations by name."""
    return Mutation(name, description, first_stage, applies_to, faulty=functions)


KEYS = r"(question|memory|encoder\.memory|decoder)\.layer_0\.(self_)?attention\.k"
LIVE = r"(live_a|reranker|live_b|live|encoder\.memory)\.layer_\d+\.attention"
ANSWER = r"decoder\.layer_0\.self_attention"
