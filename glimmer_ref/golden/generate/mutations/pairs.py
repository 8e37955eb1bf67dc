"""Mistakes in the memory, and in the pairs of question and passage."""

from __future__ import annotations

from dataclasses import replace

from .. import faulty_ops
from ..run_case import Plan
from .mutation import LIVE, Mutation, joins, pairs, shares_live_a, with_faulty

TABLE = (
    Mutation(
        "memory_normed",
        "the memory has been through the encoder's final norm; it is the raw residual stream (D1)",
        r"memory\.out",
        joins,
        plan=Plan(memory=faulty_ops.normed_memory, greedy=False),
    ),
    Mutation(
        "memory_of_pairs",
        "passages were encoded behind the question; MemEnc(Passage_i) sees the passage alone",
        r"memory\.layer_0\.attention\.k",
        joins,
        plan=Plan(memory=faulty_ops.memory_of_pairs, greedy=False),
    ),
    Mutation(
        "one_position_table",
        "the live encoder adds the memory encoder's position table; each has its own (D3)",
        rf"{LIVE}\.mixed".replace("reranker|", "").replace("memory", "live"),
        pairs,
        change=lambda m: replace(m, live=replace(m.live, relative_attention_bias=m.memory.relative_attention_bias)),
    ),
    Mutation(
        "question_missing_in_pairs",
        "the passage goes on without the question; H_i = [MemEnc(Q); MemEnc(Passage_i)]",
        r"pairs|encoder\.memory\.layer_0\.attention\.k",
        lambda case: shares_live_a(case) or (pairs(case) and case.system == "fid"),
        plan=Plan(systems={"glimmer": faulty_ops.no_question, "fid": faulty_ops.fid_without_question}, greedy=False),
    ),
    with_faulty(
        "passage_before_question",
        "pairs are [Passage_i; Q]; the question comes first",
        r"pairs",
        joins,
        interleave_concat=faulty_ops.passage_before_question,
    ),
)
