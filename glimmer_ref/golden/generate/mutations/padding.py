"""Mistakes of frameworks that pad sequences to one length."""

from __future__ import annotations

from typing import Any

from ...case import Case
from .. import faulty_positions
from ..padded import Padding
from ..run_case import Plan
from .mutation import LIVE, Mutation, joins, pairs, ranks, with_faulty

MEMORY = r"(memory|encoder\.memory)\.layer_0\.attention\.mixed"


def encodes(case: Case) -> bool:
    """Whether an encoder reads sequences that padding would bring to one length."""
    return pairs(case) or case.system == "encoder"


def padded(name: str, description: str, first_stage: str, applies_to: Any, **padding: Any) -> Mutation:
    """A mutation of the padded run, see `padded.Padding`."""
    return Mutation(name, description, first_stage, applies_to, plan=Padding(**padding).plan())


def left_padded(width: int) -> Mutation:
    """Passages padded on their left to so many tokens; 0 is the longest."""
    return with_faulty(
        f"passages_padded_left_to_{width or 'longest'}",
        f"passages are padded on their left to {f'{width} tokens' if width else 'the longest'}, so their positions "
        "begin too late; the padding belongs on the right",
        rf"{LIVE}\.mixed",
        pairs,
        attention=faulty_positions.passages_at(faulty_positions.behind_left_padding(width)),
    )


def question_padded(width: int) -> Mutation:
    """A question padded to so many tokens, all of which have positions."""
    return with_faulty(
        f"question_padded_to_{width}",
        f"the question is padded to {width} tokens, so the passage's positions begin too late; they follow the "
        "question's last token (D2)",
        rf"{LIVE}\.mixed",
        lambda case: pairs(case) and case.config.passage_offset is None,
        attention=faulty_positions.passages_at(faulty_positions.behind_padded_question(width)),
    )


# A mistake with padding depends on the length to which is padded. The table has the usual ones.
TABLE = (
    Mutation(
        "padding_attended_in_memory",
        "tokens attend to the padding of their passage in the memory encoder; it must be masked there",
        MEMORY,
        lambda case: joins(case) or (case.kind == "model" and case.system == "encoder"),
        plan=Plan(memory=Padding(("memory",)).memory, greedy=False),
    ),
    padded(
        "padding_attended_in_live_a",
        "tokens attend to the padding of their pair in the layers that rank; it must be masked there",
        r"(live_a|reranker)\.layer_0\.attention\.mixed",
        lambda case: ranks(case) and case.config.num_rerank_layers > 0,
        attended=("live_a",),
    ),
    padded(
        "padding_attended_in_live",
        "tokens attend to the padding of their pair in the live layers after ranking; it must be masked there",
        r"(live_b|live)\.layer_\d+\.attention\.mixed",
        joins,
        attended=("live",),
    ),
    padded(
        "padding_attended_everywhere",
        "no padding is masked, in no encoder and not in the decoder's memory; it must be masked everywhere",
        MEMORY,
        pairs,
        attended=("memory", "live_a", "live", "decoder"),
    ),
    padded(
        "padding_in_decoder_memory",
        "the decoder attends to the padding of the pairs; its cross-attention must mask it",
        r"decoder\.memory",
        pairs,
        attended=("decoder",),
    ),
    padded(
        "padding_in_the_mean",
        "the mean that is scored includes the padding of the pair; it is the mean of the pair's tokens (pool, D5)",
        r"scores",
        lambda case: ranks(case) and case.config.pool == "mean",
        pooled="mean",
    ),
    padded(
        "score_of_last_padded_token",
        "the score reads the last row of the padded pair, which is padding; it reads the first token (D5)",
        r"scores",
        lambda case: ranks(case) and case.config.pool == "first",
        pooled="last",
    ),
    *map(left_padded, (0, 16, 32, 64)),
    *map(question_padded, (8, 16, 32, 48, 64)),
)
