"""Section 3.2, perplexity distillation: the reranker learns from what each passage alone does to the answer."""

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
from .fid import LossTerm, language_loss, linear_term, log_likelihood, owners
from .glimmer import Reranker, ScoredPairs, pick, read, select
from .lumen import decoder_memory, end_to_end

LIKELIHOODS = ("sum", "mean")
Choose = Callable[[np.ndarray, list[Ints]], list[Ints]]


@dataclass(frozen=True)
class Distillation:
    """What of perplexity distillation can be chosen.

    Args:
        weight: lambda, of L_pdist in the loss; 0 leaves it out (D11, Table 3).
        tau: temperature of both distributions (D11, Table 3).
        direction: "printed" is KL(p_rank || p_LM), "reverse" KL(p_LM || p_rank), as Atlas trains (D7).
        likelihood: log p_LM is the "sum" over the answer's tokens, or their "mean", as in Atlas (D8).
        gradient: p_LM carries a gradient too; else it is data, made without dropout behind the selection (D9).

    Raises:
        InputError: a value outside its choices.
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


def distribution(x: np.ndarray, counts: Ints, tau: float = 1.0) -> np.ndarray:
    """exp(x_k / tau) / sum_i exp(x_i / tau) over each question's passages: [K] -> [K].

    Args:
        x: the scores, for p_rank; log p_LM(Answer | Passage_k, Q), for p_LM.

    Paper: 3.2 p_rank, p_LM
    """
    starts = offsets(counts)[:-1]
    weights = np.exp((x - np.repeat(np.maximum.reduceat(x, starts), counts)) / float(tau))
    return weights / np.repeat(np.add.reduceat(weights, starts), counts)


def log_p_lm(
    ops: Ops, model: Model, by: Reranker, ranked: ScoredPairs, counts: Ints, target: Tokens, likelihood: str
) -> Array:
    """log p_LM(Answer | Passage_k, Q): every pair alone before the decoder, all in one batch: [K].

    All K pairs pass the rest of the live encoder, not only those that are selected (D10).

    Paper: 3.2 log p_LM
    """
    owner = owners(counts)
    pairs = by.rest(ops, model, end_to_end(ops, ranked.pairs))
    memory = decoder_memory(ops, model, pick(ops, ranked.question, owner), pairs, np.ones_like(owner))
    answers = Tokens(np.concatenate([target[i] for i in owner]), target.lengths[owner])
    log_p = log_likelihood(ops, model, memory, answers)
    if likelihood == "mean":
        log_p = ops.multiply(log_p, ops.to_device((1 / answers.lengths).astype(log_p.dtype)))
    return log_p


def pdist(
    ops: Ops, model: Model, by: Reranker, ranked: ScoredPairs, counts: Ints, target: Tokens, how: Distillation
) -> LossTerm:
    """lambda KL(p_rank, p_LM), the mean over the questions.

    Paper: 3.2 L_pdist
    """
    reader = ops if how.gradient else ops.frozen()
    log_p = ops.mark("log_p_lm", log_p_lm(reader.at("pdist"), model, by, ranked, counts, target, how.likelihood))
    (scores,) = ranked.scores
    kl = ops.rank_kl(scores, log_p, counts, how.tau, how.direction)
    return linear_term(ops, kl, np.full(len(counts), how.weight / len(counts)))


class Loss(NamedTuple):
    """The training loss of a batch, the sum of its terms.

    Args:
        terms: "lm", and "pdist", lambda included.
        scores: [K] of all passages; None where nothing is ranked.
        selected: for each question, the passages that its decoder read.
    """

    terms: dict[str, LossTerm]
    scores: np.ndarray | None
    selected: list[Ints]

    @property
    def value(self) -> float:
        return sum(term.value for term in self.terms.values())

    @property
    def seeds(self) -> list[tuple[Array, np.ndarray]]:
        """What `Tape.gradients` starts from."""
        return [(term.result, term.cotangent) for term in self.terms.values()]


def glimmer_loss(
    ops: Ops,
    model: Model,
    by: Reranker,
    question: Tokens,
    passages: States,
    counts: Ints,
    target: Tokens,
    m: int,
    how: Distillation,
    choose: Choose | None = None,
) -> Loss:
    """L_LM of the answer from the m best passages, plus lambda L_pdist over all k.

    Args:
        by: where the model ranks.
        passages: their memory, recorded with the rest if the memory encoder is to learn.
        target: an answer for each question, EOS included.
        choose: from the scores [K] and each question's m best, the passages to read instead.

    Paper: 3.2 L
    """
    ranked = by.rank(ops, model, question, passages, counts)
    scores, selected = select(ops, ranked.scores, m, counts)
    if choose is not None:
        selected = choose(scores, selected)
    memory = read(ops, model, by, ranked, selected, counts)
    terms = {"lm": language_loss(ops, model, memory, target)}
    if how.weight:
        terms["pdist"] = pdist(ops, model, by, ranked, counts, target, how)
    return Loss(terms, scores, selected)
