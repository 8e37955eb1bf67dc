"""Section 3.1, GLIMMER: the live encoder's first layers also rank the passages, and only the best go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from ..ops import Ops
from ..params.model import Model
from ..ragged import Array, Arriving, Ints, States, Tokens, offsets
from .fid import final_norm
from .lumen import arriving, decoder_memory, encode_question, end_to_end, join
from .t5 import encode


class Read(NamedTuple):
    """What a system hands to its decoder.

    Args:
        memory: what the decoder attends to, a flat sequence [N d] for each question.
        scores: [K] of all passages, one question's after the other's; None where nothing is ranked.
        selected: for each question, the passages that its decoder reads, in that order.
    """

    memory: States
    scores: np.ndarray | None
    selected: list[Ints]


def live_a(ops: Ops, model: Model, pairs: States) -> States:
    """H'_i = LiveEncA(H_i): the first beta of the live layers: [N d] -> [N d].

    Paper: 3.1 H'_i
    """
    x = encode(ops, model.config.t5, model.live, pairs, stop=model.config.num_rerank_layers)
    ops.mark("out", x.states, x.lengths)
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
    """R_j = H'_i with Rank[Score(H'_i)] = j <= m, as indices: [k] -> [m].

    Best first, ties to the lower index (D6).

    Raises:
        InputError: m > k, m < 1, or a score that is not finite (D17).

    Paper: 3.1 R_j
    """
    if not 1 <= m <= scores.size:
        raise InputError(
            "top_m", "m must be at least 1 and at most k", f"k={scores.size}, m={m}", "lower m or retrieve more"
        )
    if not np.isfinite(scores).all():
        raise InputError(
            "top_m",
            "finite scores",
            f"{scores[~np.isfinite(scores)][0]} for passage {int(np.argmin(np.isfinite(scores)))}",
            "check the weights and the memory",
        )
    return np.argsort(-scores, kind="stable")[:m]


def select(ops: Ops, scores: Sequence[Array], m: int, counts: Ints) -> tuple[np.ndarray, list[Ints]]:
    """The scores of all parts on the host [K], and each question's m best passages."""
    host = ops.mark("scores", np.concatenate([ops.to_host(part) for part in scores]))
    starts = offsets(counts)
    selected = [top_m(host[a:b], m) for a, b in pairwise(starts)]
    ops.mark("selected", np.concatenate(selected), np.full(len(counts), m))
    return host, selected


def pick(ops: Ops, pairs: States, index: Ints) -> States:
    """Some of the pairs, in the order asked for."""
    starts = offsets(pairs.lengths)
    positions = np.concatenate([pairs.positions[starts[i] : starts[i + 1]] for i in index])
    return States(ops.gather_sequences(pairs.states, pairs.lengths, index), pairs.lengths[index], positions)


def take(ops: Ops, pairs: Sequence[States], selected: list[Ints], counts: Ints) -> States:
    """R_j: the selected pairs of all parts, best first; the others are not touched again."""
    index = np.concatenate([s + start for s, start in zip(selected, offsets(counts), strict=False)])
    first, kept = 0, []
    for part in pairs:
        here = np.sort(index[(first <= index) & (index < first + len(part))]) - first
        kept += [pick(ops, part, here)] if here.size else []
        first += len(part)
    return pick(ops, end_to_end(ops, kept), np.argsort(np.argsort(index)))


def live_b(ops: Ops, model: Model, selected: States) -> States:
    """LiveEncB(R_j): the rest of the live layers, then the encoder's final norm: [N d] -> [N d].

    Paper: 3.1 LiveEncB
    """
    x = encode(ops, model.config.t5, model.live, selected, start=model.config.num_rerank_layers)
    x = final_norm(ops, model, x)
    ops.mark("out", x.states, x.lengths)
    return x


class ScoredPairs(NamedTuple):
    """All pairs with their scores, part by part as their passages came: what is selected from.

    Args:
        question: MemEnc(Q) of the b questions.
        pairs: H'_i; with a separate reranker H_i, which it only looked at.
        scores: [K] of them all together.
    """

    question: States
    pairs: list[States]
    scores: list[Array]


class Reranker(NamedTuple):
    """How a system is cut in two by its selection.

    Args:
        rank: (ops, model, question, passages, counts) to `ScoredPairs`.
        rest: (ops, model, pairs) to what the decoder reads of them.
    """

    rank: Callable[[Ops, Model, Tokens, States | Arriving, Ints], ScoredPairs]
    rest: Callable[[Ops, Model, States], States]


def rank(ops: Ops, model: Model, question: Tokens, passages: States | Arriving, counts: Ints) -> ScoredPairs:
    """Score(LiveEncA(H_i)) of every pair: the live encoder's first layers rank."""
    q = encode_question(ops, model, question)
    pairs = [live_a(ops.at("live_a"), model, join(ops, model, q, p, n)) for p, n in arriving(passages, counts)]
    return ScoredPairs(q, pairs, [score(ops.at("score"), model, part) for part in pairs])


SHARED = Reranker(rank, lambda ops, model, pairs: live_b(ops.at("live_b"), model, pairs))


def read(ops: Ops, model: Model, by: Reranker, ranked: ScoredPairs, selected: list[Ints], counts: Ints) -> States:
    """[Q; LiveEncB(R_1); .. LiveEncB(R_m)], the R_j being the selected pairs of each question."""
    best = by.rest(ops, model, take(ops, ranked.pairs, selected, counts))
    return decoder_memory(ops, model, ranked.question, best, np.array([len(s) for s in selected]))


def glimmer(
    ops: Ops,
    model: Model,
    question: Tokens,
    passages: States | Arriving,
    counts: Ints,
    m: int,
    by: Reranker = SHARED,
) -> Read:
    """[Q; LiveEncB(R_1); .. LiveEncB(R_m)], with the scores and the choice that led there.

    Args:
        question: b questions.
        passages: those of the first question, then those of the second, ..
        counts: [b] passages of each question.
        m: passages that the decoder reads.

    Paper: 3.1 G
    """
    ranked = by.rank(ops, model, question, passages, counts)
    scores, selected = select(ops, ranked.scores, m, counts)
    return Read(read(ops, model, by, ranked, selected, counts), scores, selected)
