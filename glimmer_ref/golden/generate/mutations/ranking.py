"""Mistakes in the scores, in the selection, in live-B, and in parts that only some models have."""

from __future__ import annotations

from dataclasses import replace

from .. import faulty_ops
from ..run_case import Plan
from .mutation import KEYS, LIVE, Mutation, chooses, config, ranks, ranks_by_first, shares_live_a, with_faulty

SELECTED = r"(top_m\.)?selected"

TABLE = (
    with_faulty(
        "score_of_last_token",
        "the score reads the pair's last token; it reads the first (D5)",
        r"scores|first\.out",
        ranks_by_first,
        first_token=faulty_ops.last,
    ),
    with_faulty(
        "score_of_mean",
        "the score reads the mean of the pair; it reads the first token (D5)",
        r"scores|first\.out",
        ranks_by_first,
        first_token=faulty_ops.mean,
    ),
    with_faulty(
        "score_of_first",
        "the score reads the pair's first token; this model's reads the mean (pool, D5)",
        r"scores",
        lambda case: ranks(case) and case.config.pool == "mean",
        mean=faulty_ops.first_token,
    ),
    Mutation(
        "score_norm_missing",
        "nothing is done before the score's projection; this model has an RMSNorm there (score_norm, D5)",
        r"scores",
        lambda case: ranks(case) and case.config.score_norm,
        change=lambda m: replace(m, score=replace(m.score, norm=None)),
    ),
    Mutation(
        "worst_first",
        "the passages with the lowest scores go on; R_1 is the one with the highest",
        SELECTED,
        chooses,
        faulty=faulty_ops.ranked(lambda scores, m: faulty_ops.best_first(-scores, m)),
    ),
    Mutation(
        "in_passage_order",
        "the selected passages stand in the order in which they came; R is ordered best first (D6)",
        SELECTED,
        chooses,
        faulty=faulty_ops.ranked(faulty_ops.as_passages_come),
    ),
    Mutation(
        "first_m",
        "the first m passages go on, whatever their scores; those with the highest do",
        SELECTED,
        chooses,
        faulty=faulty_ops.ranked(lambda scores, m: faulty_ops.best_first(0 * scores, m)),
    ),
    Mutation(
        "ties_to_the_higher",
        "of equal scores the later passage goes first; ties go to the lower index (D6)",
        SELECTED,
        lambda case: case.kind == "ops" or (ranks(case) and not chooses(case)),
        faulty=faulty_ops.ranked(faulty_ops.ties_to_the_higher),
    ),
    Mutation(
        "live_b_skipped",
        "the selected pairs go to the decoder without the rest of the live layers; LiveEncB comes between",
        r"live_b\.out",
        shares_live_a,
        change=lambda m: replace(m, live=replace(m.live, layers=m.live.layers[: m.config.num_rerank_layers])),
    ),
    Mutation(
        "live_b_on_pairs",
        "live-B reads the selected H_i; it goes on with the selected H'_i = LiveEncA(H_i)",
        r"live_b\.layer_\d+\.attention\.k",
        lambda case: shares_live_a(case) and chooses(case),
        plan=Plan(systems={"glimmer": faulty_ops.live_b_on_pairs}, greedy=False),
    ),
    Mutation(
        "separate_question_encoder_unused",
        "the memory encoder reads the question; this model has another encoder for it (question_encoder)",
        KEYS,
        lambda case: case.config.question_encoder == "separate",
        change=lambda m: replace(m, question=None),
    ),
    Mutation(
        "separate_reranker_unused",
        "live layers rank; this model has a reranker of its own (reranker)",
        r"reranker\.layer_0\.attention\.k",
        lambda case: case.config.reranker == "separate",
        change=lambda m: replace(m, reranker=replace(m.live, layers=m.live.layers[: m.config.num_rerank_layers])),
    ),
    Mutation(
        "slots_ignored",
        "the passage's positions follow the question's last token; here they begin at passage_offset (D2)",
        rf"{LIVE}\.mixed",
        lambda case: case.config.passage_offset is not None,
        change=config(passage_offset=None),
    ),
)
