"""Section 3.2, perplexity distillation: the reranker learns how likely each passage alone makes the answer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from ..ops import Ops
from ..ops.interface import DIRECTIONS
from ..params.model import Model
from ..ragged import Array, Ints, States, Tokens, offsets
from .decoding import LossTerm, language_loss, linear_term, log_likelihood
from .fid import question_of_passages
from .glimmer import ScoredPairs, finish, gather, rank, read_selected, select
from .lumen import decoder_memory

LIKELIHOODS = ("sum", "mean")
# Takes the scores [K] and each question's m best passages, and returns the passages to read instead.
SelectionOverride = Callable[[np.ndarray, list[Ints]], list[Ints]]


@dataclass(frozen=True)
class Distillation:
    """The configuration of perplexity distillation.

    Args:
        weight: lambda, the weight of L_pdist in the loss; 0 leaves L_pdist out (D11, Table 3).
        tau: temperature of both distributions (D11, Table 3).
        direction: "printed" is KL(p_rank || p_LM), as in the paper; "reverse" is KL(p_LM || p_rank), as in Atlas (D7).
        likelihood: log p_LM is the "sum" over the answer's tokens, or the "mean", as in Atlas (D8).
        gradient: gradients flow through p_LM too. If false, p_LM is a constant, and the layers after live-A compute
            it without dropout (D9).

    Raises:
        InputError: a value that is not allowed.
    """

    weight: float = 1.0
    tau: float = 1.0
    direction: str = "printed"
    likelihood: str = "sum"
    gradient: bool = False

    def __post_init__(self) -> None:
        for name, least in (("weight", "0 or more"), ("tau", "above 0")):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not number or value < 0 or (name == "tau" and value == 0):
                raise InputError(f"pdist: {name}", f"a number {least}", repr(value))
        for name, choices in (("direction", DIRECTIONS), ("likelihood", LIKELIHOODS)):
            if getattr(self, name) not in choices:
                raise InputError(f"pdist: {name}", f"one of {', '.join(choices)}", repr(getattr(self, name)))
        if not isinstance(self.gradient, bool):
            raise InputError("pdist: gradient", "true or false", repr(self.gradient))


def distribution(x: np.ndarray, passages_per_question: Ints, tau: float = 1.0) -> np.ndarray:
    """exp(x_k / tau) / sum_i exp(x_i / tau) over each question's passages: [K] -> [K].

    The training loss does not call this function: `ops.rank_kl` computes the same inside the loss. Pictures,
    tests and notebooks use it.

    Args:
        x: the scores, for p_rank; log p_LM(Answer | Passage_k, Q), for p_LM.
        passages_per_question: [b].
        tau: the temperature.

    Paper: 3.2 p_rank, p_LM
    """
    starts, each = offsets(passages_per_question)[:-1], passages_per_question
    weights = np.exp((x - np.repeat(np.maximum.reduceat(x, starts), each)) / float(tau))
    return weights / np.repeat(np.add.reduceat(weights, starts), each)


def log_p_lm(
    ops: Ops, model: Model, ranked: ScoredPairs, passages_per_question: Ints, target: Tokens, likelihood: str
) -> Array:
    """log p_LM(Answer | Passage_k, Q): the decoder reads each pair alone, all K pairs in one batch: [K].

    All K pairs pass through the rest of the live encoder, not only the selected pairs (D10).

    Args:
        target: an answer for each of the b questions, EOS included.
        likelihood: "sum" or "mean", see `Distillation`.

    Paper: 3.2 log p_LM
    """
    owner = question_of_passages(passages_per_question)
    pairs = finish(ops, model, ranked.pairs)
    memory = decoder_memory(ops, model, gather(ops, ranked.question, owner), pairs, np.ones_like(owner))
    answers = Tokens(np.concatenate([target[i] for i in owner]), target.lengths[owner])
    log_p = log_likelihood(ops, model, memory, answers)
    if likelihood == "mean":
        log_p = ops.multiply(log_p, ops.to_device((1 / answers.lengths).astype(log_p.dtype)))
    return log_p


def pdist(
    ops: Ops,
    model: Model,
    ranked: ScoredPairs,
    passages_per_question: Ints,
    target: Tokens,
    distillation: Distillation,
) -> LossTerm:
    """lambda L_pdist, where L_pdist is the mean of KL(p_rank, p_LM) over the questions.

    p_rank is computed from all k scores of a question, p_LM from the likelihood of its answer given each passage alone.
    `ops.rank_kl` computes both distributions and their KL in one operation. It computes the same as `distribution`.

    Paper: 3.2 L_pdist
    """
    reader = ops if distillation.gradient else ops.frozen()
    log_p = log_p_lm(reader.scope("pdist"), model, ranked, passages_per_question, target, distillation.likelihood)
    log_p = ops.record("log_p_lm", log_p)
    kl = ops.rank_kl(ranked.scores, log_p, passages_per_question, distillation.tau, distillation.direction)
    questions = len(passages_per_question)
    return linear_term(ops, kl, np.full(questions, distillation.weight / questions))


class Loss(NamedTuple):
    """The training loss of a batch, the sum of its terms.

    Args:
        terms: "lm" is L_LM; "pdist" is lambda L_pdist.
        scores: [K] of all passages; None for a system that does not rank.
        selected: for each question, the passages that its decoder read.
    """

    terms: dict[str, LossTerm]
    scores: np.ndarray | None
    selected: list[Ints]

    @property
    def value(self) -> float:
        return sum(term.value for term in self.terms.values())

    @property
    def output_grads(self) -> list[tuple[Array, np.ndarray]]:
        """Each term's result, and the gradient of the loss with respect to it, for `Tape.gradients`."""
        return [(term.result, term.cotangent) for term in self.terms.values()]


def glimmer_loss(
    ops: Ops,
    model: Model,
    question: Tokens,
    passages: States,
    passages_per_question: Ints,
    target: Tokens,
    m: int,
    distillation: Distillation,
    override: SelectionOverride | None = None,
) -> Loss:
    """L_LM of the answer from the m best passages, plus lambda L_pdist over all k.

    Args:
        passages: the memory of the passages. If the memory encoder is to learn, the same `ops` must have computed it.
        target: an answer for each question, EOS included.
        override: takes the scores [K] and each question's m best passages, and returns the passages to read instead.

    Paper: 3.2 L
    """
    ranked = rank(ops, model, question, passages, passages_per_question)
    scores, selected = select(ops, ranked.scores, m, passages_per_question)
    if override is not None:
        selected = override(scores, selected)
    memory = read_selected(ops, model, ranked, selected, passages_per_question)
    terms = {"lm": language_loss(ops, model, memory, target)}
    if distillation.weight:
        terms["pdist"] = pdist(ops, model, ranked, passages_per_question, target, distillation)
    return Loss(terms, scores, selected)
