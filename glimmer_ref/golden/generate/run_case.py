"""Runs a golden case: computes all its tensors from its weights and inputs, in forward order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...instruments import Tape, Trace
from ...ops import Ops
from ...ops.interface import OPERANDS
from ...paper import decoding, fid, lumen
from ...paper.distillation import Distillation
from ...paper.systems import FROM_TEXT, SYSTEMS, loss
from ...paper.t5 import relative_buckets
from ...params.model import Model, leaves, prepare_params
from ...ragged import Ints, States, Tokens, token_positions
from .. import case as cases
from ..case import Case
from . import operations

Arrays = dict[str, np.ndarray]
System = Callable[[Ops, Model, Tokens, Any, np.ndarray, int], Any]


def stored_memory(ops: Ops, model: Model, question: Tokens, passages: Tokens) -> States:
    """The memory that GLIMMER and LUMEN read: each passage encoded alone, before the question is known."""
    return lumen.encode_passages(ops, model, passages)


@dataclass(frozen=True)
class Plan:
    """The stages of a run. A mutation replaces some of them by faulty ones.

    Args:
        memory: encodes the passages for systems that read a memory.
        systems: the systems by name.
        greedy: whether the decoder also generates an answer.
        distillation: the configuration of perplexity distillation.
        buckets: maps distances to buckets, in a case for single operations.
    """

    memory: Callable[[Ops, Model, Tokens, Tokens], Any] = stored_memory
    systems: Mapping[str, System] = field(default_factory=lambda: SYSTEMS)
    greedy: bool = True
    distillation: Distillation = field(default_factory=Distillation)
    buckets: Callable[[Ints, bool, int, int], Ints] = relative_buckets


def decoder_reads(ops: Ops, case: Case, model: Model, named: Mapping[str, np.ndarray], plan: Plan) -> States | None:
    """Runs everything before the decoder, and returns the decoder's memory; None if the case has no decoder."""
    if case.system == "decoder":
        lengths = named["memory.lengths"]
        return States(ops.to_device(named["memory"].astype(model.embedding.dtype)), lengths, token_positions(lengths))
    passages = cases.tokens(named, "passages")
    if case.system == "encoder":
        none = Tokens(passages.ids[:0], passages.lengths[:0])
        x = fid.final_norm(ops.scope("encoder"), model, plan.memory(ops, model, none, passages))
        ops.scope("encoder").record("out", x.states, x.lengths)
        return None
    question, system = cases.tokens(named, "question"), plan.systems[case.system]
    read = passages if case.system in FROM_TEXT else plan.memory(ops, model, question, passages)
    return system(ops, model, question, read, np.array([len(passages)]), case.m).memory


def learn(ops: Ops, case: Case, model: Model, named: Mapping[str, np.ndarray], plan: Plan) -> None:
    """Records the training loss for the case, and the gradient of every weight."""
    tape, question, target = Tape(ops), cases.tokens(named, "question"), cases.tokens(named, "target")
    memory = plan.memory(tape, model, question, cases.tokens(named, "passages"))
    got = loss(tape, model, case.system, question, memory, np.array([case.k]), target, case.m, plan.distillation)
    for name, term in got.terms.items():
        ops.record(f"loss.{name}", np.array([term.value]))
    for name, x in tape.gradients(got.output_grads, leaves(model)).items():
        ops.record(f"gradient.{name}", x)


def can_run(ops: Ops, case: Case) -> bool:
    """Whether `ops` can run the case: gradients need a backward function for every operation."""
    return not case.learns or set(OPERANDS) <= set(ops.backward)


def record_case(ops: Ops, case: Case, model: Model, named: Mapping[str, np.ndarray], plan: Plan) -> None:
    """Runs the whole case and records its tensors with `ops`."""
    if case.kind == "ops":
        return operations.record_operations(ops, case.config.t5, named, str(model.embedding.dtype), plan.buckets)
    if case.learns:
        return learn(ops, case, model, named, plan)
    memory = decoder_reads(ops, case, model, named, plan)
    if memory is None or not case.decodes:
        return
    log_p = decoding.log_likelihood(ops, model, memory, cases.tokens(named, "target"))
    ops.record("decoder.log_likelihood", log_p)
    if plan.greedy:
        answers = [np.array(a.ids, np.int64) for a in decoding.greedy(ops, model, memory, case.config.answer_tokens)]
        ops.record("decoder.ids", np.concatenate(answers), np.array([len(a) for a in answers]))


def forward_order(arrays: Arrays) -> Arrays:
    """The order of a trace, except that the question comes first: pairs begin with it, and it is easiest to debug."""
    return dict(sorted(arrays.items(), key=lambda item: not item[0].startswith("question.")))


def run(
    ops: Ops, case: Case, model: Model, named: Mapping[str, np.ndarray], plan: Plan | None = None, only: str = ""
) -> Arrays:
    """Every tensor of the case, with `<name>.lengths` behind the ragged ones.

    Args:
        model: a model with float64 or float32 weights on the host.
        only: regular expression for the names to return instead of those of the case.
    """
    trace = Trace(ops, rf"({only or '|'.join(case.holds)})$")
    record_case(trace, case, prepare_params(ops, model), named, plan or Plan())
    return forward_order(trace.arrays)
