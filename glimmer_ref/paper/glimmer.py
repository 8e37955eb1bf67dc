"""Section 3.1, GLIMMER: the first live layers also score the passages, and only the best passages go on."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from ..ops import Ops
from ..params.model import Model
from ..ragged import Array, Ints, States, Tokens, offsets
from .fid import final_norm
from .lumen import decoder_memory, encode_question, join, live_encode
from .t5 import encode


class ScoredPairs(NamedTuple):
    """All pairs with their scores, before the best pairs are selected.

    Args:
        question: MemEnc(Q) of the b questions.
        pairs: H'_i of the K pairs; H_i if the model has a separate reranker, which does not change the pairs.
        scores: [K] Score(H'_i), an array of the backend.
    """

    question: States
    pairs: States
    scores: Array


class DecoderInput(NamedTuple):
    """The result of a system before decoding: the memory for its decoder, and how it selected the passages.

    Args:
        memory: the states that the decoder attends to: b flat sequences, [N d].
        scores: [K] of all passages, question after question; None for a system that does not rank.
        selected: for each question, the passages that its decoder reads, in that order.
    """

    memory: States
    scores: np.ndarray | None
    selected: list[Ints]


def live_a(ops: Ops, model: Model, pairs: States) -> States:
    """H'_i = LiveEncA(H_i), the first beta of the live layers: [N d] -> [N d].

    Paper: 3.1 H'_i
    """
    x = encode(ops, model.config.t5, model.live, pairs, stop=model.config.num_rerank_layers)
    ops.record("out", x.states, x.lengths)
    return x


def score(ops: Ops, model: Model, pairs: States) -> Array:
    """Score(H'_i): one linear layer on the pair's first token, or on its mean (D5): [N d] -> [K].

    Paper: 3.1 Score
    """
    pool = {"first": ops.first_token, "mean": ops.mean}[model.config.pool]
    x = pool(pairs.states, pairs.lengths)
    if model.score.norm is not None:
        x = ops.rms_norm(x, model.score.norm, model.config.t5.layer_norm_epsilon)
    return ops.dot(x, model.score.weight)


def top_m(scores: np.ndarray, m: int) -> Ints:
    """The indices i for which H'_i is R_1 .. R_m, that is, Rank[Score(H'_i)] = j <= m: [k] -> [m].

    The best passage is first. Of equal scores, the lower index is first (D6).

    Raises:
        InputError: m > k, m < 1, or a score that is not finite (D17).

    Paper: 3.1 R_j
    """
    if not 1 <= m <= scores.size:
        raise InputError(
            "top_m", "m from 1 to k", f"k={scores.size}, m={m}", "lower m or raise k" if m > scores.size else ""
        )
    if not np.isfinite(scores).all():
        raise InputError(
            "top_m",
            "finite scores",
            f"{scores[~np.isfinite(scores)][0]} for passage {int(np.argmin(np.isfinite(scores)))}",
            "check the weights and the memory",
        )
    return np.argsort(-scores, kind="stable")[:m]


def select(ops: Ops, scores: Array, m: int, passages_per_question: Ints) -> tuple[np.ndarray, list[Ints]]:
    """The scores as a NumPy array [K], and the indices of each question's m best passages, among its own passages.

    Part of: 3.1 R_j
    """
    host = ops.record("scores", ops.to_host(scores))
    selected = [top_m(host[a:b], m) for a, b in pairwise(offsets(passages_per_question))]
    ops.record("selected", np.concatenate(selected), np.full(len(selected), m))
    return host, selected


def gather(ops: Ops, x: States, index: Ints) -> States:
    """The sequences with the indices `index`, in that order.

    Part of: 3.1 R_j
    """
    starts = offsets(x.lengths)
    positions = np.concatenate([x.positions[starts[i] : starts[i + 1]] for i in index])
    return States(ops.gather_sequences(x.states, x.lengths, index), x.lengths[index], positions)


def live_b(ops: Ops, model: Model, selected: States) -> States:
    """LiveEncB(R_j): the remaining live layers, then the encoder's final norm: [N d] -> [N d].

    Paper: 3.1 LiveEncB
    """
    x = encode(ops, model.config.t5, model.live, selected, start=model.config.num_rerank_layers)
    x = final_norm(ops, model, x)
    ops.record("out", x.states, x.lengths)
    return x


def separate_scores(ops: Ops, model: Model, pairs: States) -> Array:
    """Score(Reranker(H_i)), where the layers of the reranker serve only for ranking: [N d] -> [K].

    The pairs stay H_i, and the best pairs then pass through the whole live encoder. "Separate (from T5)" and "Separate
    (from scratch)" in the table differ only in the initial values of `Model.reranker`.

    Paper: Table 1
    """
    assert model.reranker is not None
    return score(ops.scope("score"), model, encode(ops.scope("reranker"), model.config.t5, model.reranker, pairs))


def rank(ops: Ops, model: Model, question: Tokens, passages: States, passages_per_question: Ints) -> ScoredPairs:
    """H'_i and Score(H'_i) for every passage of every question.

    Part of: 3.1 G
    """
    q = encode_question(ops, model, question)
    pairs = join(ops, model, q, passages, passages_per_question)
    if model.reranker is not None:
        return ScoredPairs(q, pairs, separate_scores(ops, model, pairs))
    after_live_a = live_a(ops.scope("live_a"), model, pairs)
    return ScoredPairs(q, after_live_a, score(ops.scope("score"), model, after_live_a))


def finish(ops: Ops, model: Model, pairs: States) -> States:
    """The live layers that ranked pairs have not passed yet: LiveEncB; LiveEnc if the reranker is separate (Table 1).

    Part of: 3.1 G
    """
    if model.reranker is not None:
        return live_encode(ops.scope("live"), model, pairs)
    return live_b(ops.scope("live_b"), model, pairs)


def read_selected(
    ops: Ops, model: Model, ranked: ScoredPairs, selected: list[Ints], passages_per_question: Ints
) -> States:
    """[Q; LiveEncB(R_1); .. LiveEncB(R_m)], where the R_j are the selected pairs of each question: [N d].

    Part of: 3.1 G
    """
    index = np.concatenate([s + first for s, first in zip(selected, offsets(passages_per_question), strict=False)])
    best = finish(ops, model, gather(ops, ranked.pairs, index))
    return decoder_memory(ops, model, ranked.question, best, np.array([len(s) for s in selected]))


def glimmer(
    ops: Ops, model: Model, question: Tokens, passages: States, passages_per_question: Ints, m: int
) -> DecoderInput:
    """[Q; LiveEncB(R_1); .. LiveEncB(R_m)], with the scores and the selected passages.

    Args:
        question: b questions.
        passages: the memory of the first question's passages, then of the second question's passages, and so on.
        passages_per_question: [b].
        m: the number of passages that the decoder reads for each question.

    Paper: 3.1 G
    """
    ranked = rank(ops, model, question, passages, passages_per_question)  # H'_i and Score(H'_i)
    scores, selected = select(ops, ranked.scores, m, passages_per_question)  # which H'_i are R_1 .. R_m
    memory = read_selected(ops, model, ranked, selected, passages_per_question)  # [Q; LiveEncB(R_1); ..]
    return DecoderInput(memory, scores, selected)
