"""The ablations of Tables 1-3 that need another order of stages; the others are facts of the weights.

A separate question encoder is `Model.question`, mean pooling is `GlimmerConfig.pool`, a frozen memory
is one that was not trained.
"""

from __future__ import annotations

from ..ops import Ops
from ..params.model import Model
from ..ragged import Arriving, Ints, States, Tokens
from .glimmer import SHARED, Read, Reranker, ScoredPairs, glimmer, score
from .lumen import arriving, encode_question, join, live_encode
from .t5 import encode


def rank_separately(ops: Ops, model: Model, question: Tokens, passages: States | Arriving, counts: Ints) -> ScoredPairs:
    """The scores of every pair H_i by layers of their own, which leave the pair as it was."""
    q = encode_question(ops, model, question)
    assert model.reranker is not None
    pairs, parts = [], []
    for p, n in arriving(passages, counts):
        pairs.append(join(ops, model, q, p, n))
        ranked = encode(ops.at("reranker"), model.config.t5, model.reranker, pairs[-1])
        parts.append(score(ops.at("score"), model, ranked))
    return ScoredPairs(q, pairs, parts)


SEPARATE = Reranker(rank_separately, lambda ops, model, pairs: live_encode(ops.at("live"), model, pairs))
RERANKERS = {"shared": SHARED, "separate": SEPARATE}


def separate_reranker(
    ops: Ops, model: Model, question: Tokens, passages: States | Arriving, counts: Ints, m: int
) -> Read:
    """GLIMMER with layers of its own for ranking: the whole live encoder then reads the m best pairs.

    "Separate (from T5)" and "Separate (from scratch)" differ in how `Model.reranker` was initialised.

    Paper: Table 1
    """
    return glimmer(ops, model, question, passages, counts, m, SEPARATE)
