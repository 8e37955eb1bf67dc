"""GLIMMER's ranking beside separate rerankers: a cross-encoder and a late-interaction model."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from ..errors import InputError
from .flops import Number, Setting, encoder_macs, equal_lengths, pairs_of
from .modes import total


class Pipeline(NamedTuple):
    """Multiply-adds of ranking k passages and of reading, and the numbers that are stored for each passage token."""

    ranking: Number
    reading: Number
    stored: Number


def cross_encoder(s: Setting, r: Setting, depth: Number) -> Number:
    """Multiply-adds of ranking k pairs by `depth` layers of a T5 encoder over their text, and a score for each."""
    pairs = pairs_of(s.n_q, equal_lengths(s.k, s.n_p))
    return sum(encoder_macs(r, "r", depth, pairs).values()) + s.k * r.d


def late_interaction(s: Setting, r: Setting, depth: Number) -> Number:
    """As `cross_encoder`, by the last `depth` layers only. The others run offline for passages, else online."""
    question = encoder_macs(r, "r", r.L - depth, equal_lengths(1, s.n_q))
    return sum(question.values()) + cross_encoder(s, r, depth)


def pipelines(s: Setting, r: Setting, depth: int, late_depth: int) -> dict[str, Pipeline]:
    """Ways from k retrieved passages to an answer. All but the two without ranking read m passages.

    The cost of GLIMMER's ranking is its cost beyond that of LUMEN over m passages; section 3.3 calls this reranking.

    Args:
        s: the reader's setting.
        r: the reranker's shapes.
        depth: layers of the cross-encoder.
        late_depth: last layers of the late-interaction reranker, those that see question and passage together.

    Raises:
        InputError: a depth that the reranker does not have.
    """
    for name, layers in (("depth", depth), ("late-depth", late_depth)):
        if not 1 <= layers <= r.L:
            raise InputError(name, f"from 1 to the reranker's {r.L} layers", str(layers))
    best = replace(s, k=s.m)
    fid, lumen = total(best, "fid", "full"), total(best, "lumen", "full")
    shared, separate = (total(replace(s, reranker=owner), "glimmer", "full") for owner in ("shared", "separate"))
    cross, late = cross_encoder(s, r, depth), late_interaction(s, r, late_depth)
    return {
        "GLIMMER": Pipeline(shared - lumen, lumen, s.d),
        "GLIMMER, separate live-A": Pipeline(separate - lumen, lumen, s.d),
        "late interaction, LUMEN": Pipeline(late, lumen, s.d + r.d),
        "late interaction, FiD": Pipeline(late, fid, r.d),
        "cross-encoder, LUMEN": Pipeline(cross, lumen, s.d),
        "cross-encoder, FiD": Pipeline(cross, fid, 0),
        "no ranking, LUMEN over k": Pipeline(0, total(s, "lumen", "full"), s.d),
        "no ranking, FiD over k": Pipeline(0, total(s, "fid", "full"), 0),
    }
