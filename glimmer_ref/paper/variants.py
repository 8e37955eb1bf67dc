"""The ablations of Tables 1-3 that need another order of stages; the others are facts of the weights.

A separate question encoder is `Model.question`, mean pooling is `GlimmerConfig.pool`, a frozen memory
is one that was not trained.
"""

from __future__ import annotations

import numpy as np

from ..arrays import Arriving, Ints, States, Tokens
from ..ops import Ops
from ..params.tree import Model
from ..t5 import encode
from .glimmer import Read, glimmer, score, select, take
from .lumen import arriving, decoder_memory, encode_question, join, live_encode


def separate_reranker(
    ops: Ops, model: Model, question: Tokens, passages: States | Arriving, counts: Ints, m: int
) -> Read:
    """GLIMMER with layers of its own for ranking: the whole live encoder then reads the m best pairs.

    "Separate (from T5)" and "Separate (from scratch)" differ in how `Model.reranker` was initialised.

    Paper: Table 1
    """
    q = encode_question(ops, model, question)
    assert model.reranker is not None
    pairs, parts = [], []
    for p, n in arriving(passages, counts):
        pairs.append(join(ops, model, q, p, n))
        ranked = encode(ops.at("reranker"), model.config.t5, model.reranker, pairs[-1])
        parts.append(score(ops.at("score"), model, ranked))
    scores, selected = select(ops, parts, m, counts)
    best = live_encode(ops.at("live"), model, take(ops, pairs, selected, counts))
    return Read(decoder_memory(ops, model, q, best, np.full(len(counts), m)), scores, selected)


RERANKERS = {"shared": glimmer, "separate": separate_reranker}
