"""Models with one known mistake each, with a description of the mistake, and the stage where it must appear."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from ...ops import Ops
from ...paper.distillation import Distillation
from ...params.model import Model, prepare_params
from ..case import Case
from . import faulty_ops, run_case
from .run_case import Arrays, Plan

FORCED = Plan(greedy=False)  # the given answer shows every mistake, in a tenth of the time


def always(case: Case) -> bool:
    return True


def gated(case: Case) -> bool:
    return case.config.t5.feed_forward_proj == "gated-gelu"


def decodes(case: Case) -> bool:
    return case.decodes


def decodes_or_ops(case: Case) -> bool:
    return case.decodes or case.kind == "ops"


def pairs(case: Case) -> bool:
    """Whether the case makes pairs of the question and each passage."""
    return case.kind == "model" and case.system in ("glimmer", "lumen", "fid")


def joins(case: Case) -> bool:
    """Whether it makes the pairs from encoded states rather than from tokens."""
    return pairs(case) and case.system != "fid"


def ranks(case: Case) -> bool:
    return pairs(case) and case.system == "glimmer"


def ranks_by_first(case: Case) -> bool:
    return case.kind == "ops" or (ranks(case) and case.config.pool == "first")


def shares_live_a(case: Case) -> bool:
    return ranks(case) and case.config.reranker == "shared"


def chooses(case: Case) -> bool:
    """Whether exactly one order of the scores is right. This is false if all scores are equal."""
    return case.kind == "ops" or (ranks(case) and case.config.num_rerank_layers > 0)


def untied(case: Case) -> bool:
    return case.decodes and not case.tied


def learns(case: Case) -> bool:
    return case.learns


def config(**changes: Any) -> Callable[[Model], Model]:
    """The same weights under another config."""
    return lambda model: replace(model, config=replace(model.config, **changes))


def t5(**changes: Any) -> Callable[[Model], Model]:
    """The same weights under another T5 config."""
    return lambda model: replace(model, config=replace(model.config, t5=replace(model.config.t5, **changes)))


@dataclass(frozen=True)
class Mutation:
    """A model with one known mistake, by its name.

    Args:
        description: the mistake, and what is right instead.
        first_stage: regular expression. The first tensor of a complete run with a matching name is the first that
            differs.
        applies_to: whether a case can show the mistake.
        faulty: faulty operations that replace the right ones, see `faulty_ops.FaultyOps`.
        change: makes the faulty model from the right one.
        plan: the stages of the run, some of them faulty.
    """

    name: str
    description: str
    first_stage: str
    applies_to: Callable[[Case], bool] = always
    faulty: faulty_ops.Faulty | None = None
    change: Callable[[Model], Model] | None = None
    plan: Plan = FORCED

    def run(self, ops: Ops, case: Case, model: Model, named: Arrays) -> Arrays:
        """Every tensor that the case holds, computed with the mistake."""
        model = prepare_params(ops, self.change(model) if self.change else model)
        backend = faulty_ops.FaultyOps(ops, case, model, named, self.faulty) if self.faulty else ops
        return run_case.run(backend, case, model, named, self.plan)

    def expected_first(self, everything: Iterable[str], in_case: Iterable[str]) -> str | None:
        """The tensor with which a check must find the mistake; None if no tensor of the case shows it.

        Args:
            everything: names of all tensors of a complete run, in forward order.
            in_case: names of those that belong to the case.
        """
        names, known = list(everything), set(in_case)
        start = next((i for i, name in enumerate(names) if re.fullmatch(self.first_stage, name)), len(names))
        return next((name for name in names[start:] if name in known), None)


def with_faulty(
    name: str, description: str, first_stage: str, applies_to: Callable[[Case], bool], **functions: Any
) -> Mutation:
    """A mutation that replaces operations. `functions` are the faulty operations by name."""
    return Mutation(name, description, first_stage, applies_to, faulty=functions)


KEYS = r"(question|memory|encoder\.memory|decoder)\.layer_0\.(self_)?attention\.k"
MIXED = r"(question|memory|encoder\.memory|decoder)\.layer_0\.(self_)?attention\.mixed"
LATER = r".*\.layer_[1-9]\.(self_)?attention\.mixed"
HIDDEN = r".*\.layer_0\.feed_forward\.hidden|gated_gelu\.out"
LIVE = r"(live_a|reranker|live_b|live|encoder\.memory)\.layer_\d+\.attention"
ANSWER = r"decoder\.layer_0\.self_attention"
SELECTED = r"(top_m\.)?selected"

TABLE = (
    with_faulty(
        "divided_by_sqrt_d_kv",
        "scores of attention are divided by sqrt(d_kv); T5 does not divide",
        rf"{MIXED}|encoder_attention\.out",
        always,
        attention=faulty_ops.divided,
    ),
    with_faulty(
        "distance_reversed",
        "the position bias is that of query - key; T5 takes key position - query position",
        rf"{MIXED}|encoder_attention\.out",
        always,
        attention=faulty_ops.bias_reversed,
    ),
    with_faulty(
        "bias_in_first_layer_only",
        "the position bias is added in the first layer only; every layer of a stack adds the stack's one table",
        LATER,
        lambda case: case.kind == "model",
        attention=faulty_ops.bias_in_first_layers,
    ),
    with_faulty(
        "bias_in_cross_attention",
        "cross-attention has a position bias; T5's has none",
        r"decoder\.layer_0\.cross_attention\.mixed",
        decodes,
        attention=faulty_ops.bias_across,
    ),
    with_faulty(
        "not_causal",
        "the decoder sees tokens ahead of it; its self-attention is causal",
        rf"{ANSWER}\.mixed|decoder_attention\.out",
        decodes_or_ops,
        attention=faulty_ops.not_causal,
    ),
    with_faulty(
        "padding_attended",
        "padding takes part in the softmax; it must be masked, or left out as in ragged arrays",
        rf"(memory|encoder\.memory)\.layer_0\.attention\.mixed|{ANSWER.replace('self', 'cross')}\.mixed"
        r"|encoder_attention\.out",
        always,
        attention=faulty_ops.with_padding,
    ),
    with_faulty(
        "places_restarted",
        "positions begin at 0 again with the passage; in a pair [Q; P] they go on behind the question (D2)",
        rf"{LIVE}\.mixed",
        pairs,
        attention=faulty_ops.positions_restarted,
    ),
    with_faulty(
        "encoder_buckets_in_decoder",
        "the decoder's position buckets are the encoder's; a decoder has no keys ahead and uses all buckets for "
        "those behind (bidirectional=False)",
        rf"{ANSWER}\.mixed|decoder_attention\.out",
        decodes_or_ops,
        embed=faulty_ops.encoders_buckets,
    ),
    with_faulty(
        "embedding_scaled",
        "embeddings are multiplied by sqrt(d_model); T5's are not",
        KEYS,
        lambda case: case.kind == "model",
        embed=faulty_ops.embedding_scaled,
    ),
    with_faulty(
        "erf_gelu",
        "GELU is the exact one, with erf; T5.1.1 has the tanh form (D15)",
        HIDDEN,
        gated,
        gated_gelu=faulty_ops.exact_gelu,
    ),
    with_faulty(
        "gate_and_value_swapped",
        "wi_1 goes through GELU; wi_0 does, and wi_1 multiplies",
        HIDDEN,
        gated,
        gated_gelu=faulty_ops.gate_and_value_swapped,
    ),
    with_faulty(
        "eps_1e-5",
        "RMSNorm's eps is 1e-5; T5's layer_norm_epsilon is 1e-6",
        rf"{KEYS}|rms_norm\.out",
        always,
        rms_norm=faulty_ops.larger_eps,
    ),
    with_faulty(
        "eps_outside_the_root",
        "RMSNorm adds eps to the root; it is added to the mean of squares, under the root",
        rf"{KEYS}|rms_norm\.out",
        always,
        rms_norm=faulty_ops.eps_outside,
    ),
    with_faulty(
        "mean_subtracted",
        "the norm subtracts the mean (LayerNorm); T5's is RMSNorm: no mean, no bias",
        rf"{KEYS}|rms_norm\.out",
        always,
        rms_norm=faulty_ops.mean_subtracted,
    ),
    with_faulty(
        "gain_plus_one",
        "the norm multiplies by 1 + gain; T5 multiplies by the gain itself",
        rf"{KEYS}|rms_norm\.out",
        always,
        rms_norm=faulty_ops.gain_plus_one,
    ),
    Mutation(
        "max_distance_256",
        "buckets reach to distance 256; beyond relative_attention_max_distance = 128 all share the last",
        MIXED,
        lambda case: case.system in ("encoder", "decoder", "fid"),  # other cases' questions are too short to show it
        change=t5(relative_attention_max_distance=256),
    ),
    Mutation(
        "no_final_norm",
        "the encoder's final norm is missing; it comes once, after the last live layer (D1)",
        r"(live_b|live|encoder)\.out",
        lambda case: pairs(case) or case.system == "encoder",
        faulty=faulty_ops.unnormed(lambda model: model.final_norm, "live", "encoder."),
    ),
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
        plan=Plan(system=faulty_ops.no_question, greedy=False),
    ),
    with_faulty(
        "passage_before_question",
        "pairs are [Passage_i; Q]; the question comes first",
        r"pairs",
        joins,
        interleave_concat=faulty_ops.passage_before_question,
    ),
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
        plan=Plan(system=faulty_ops.live_b_on_pairs, greedy=False),
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
    Mutation(
        "decoder_question_missing",
        "the decoder reads the pairs only; MemEnc(Q) precedes them (D4)",
        r"decoder\.memory",
        lambda case: joins(case) and case.config.decoder_question,
        change=config(decoder_question=False),
    ),
    Mutation(
        "decoder_question_unasked",
        "the decoder reads MemEnc(Q) before the pairs; this model's reads the pairs only (decoder_question, D4)",
        r"decoder\.memory",
        lambda case: joins(case) and not case.config.decoder_question,
        change=config(decoder_question=True),
    ),
    Mutation(
        "decoder_question_raw",
        "the decoder reads MemEnc(Q) as it is; the encoder's final norm comes first (D4)",
        r"decoder\.memory",
        lambda case: joins(case) and case.config.decoder_question,
        faulty=faulty_ops.unnormed(lambda model: model.final_norm, "question."),
    ),
    Mutation(
        "start_id",
        "decoding starts from another id than decoder_start_token_id = 0 (D14)",
        rf"{ANSWER}\.k",
        decodes,
        change=t5(decoder_start_token_id=7),
    ),
    with_faulty(
        "target_not_shifted",
        "the decoder is given the token that it must predict; it reads the start id, then the target up to the last "
        "but one",
        rf"{ANSWER}\.k",
        decodes,
        embed=faulty_ops.unshifted,
    ),
    Mutation(
        "no_decoder_norm",
        "logits come from the decoder's last layer as it is; its final norm comes first",
        r"decoder\.logits",
        decodes,
        faulty=faulty_ops.unnormed(lambda model: model.decoder.final_norm, "decoder."),
    ),
    Mutation(
        "head_tied_and_scaled",
        "the head is the embedding, scaled by d_model^-1/2; these weights have an lm_head of their own (D18)",
        r"decoder\.logits",
        untied,
        change=lambda m: replace(m, decoder=replace(m.decoder, lm_head=None)),
    ),
    Mutation(
        "logits_scaled",
        "logits are scaled by d_model^-1/2; only a tied head is (D18)",
        r"decoder\.logits",
        untied,
        change=t5(scale_decoder_outputs=True),
    ),
    Mutation(
        "logits_not_scaled",
        "logits are not scaled; a tied head is, by d_model^-1/2 (D18)",
        r"decoder\.logits",
        lambda case: case.decodes and case.tied,
        change=t5(scale_decoder_outputs=False),
    ),
    with_faulty(
        "likelihood_averaged",
        "the log-likelihood is the mean over the target's tokens; it is the sum (D8)",
        r"decoder\.log_likelihood|log_likelihood\.out",
        decodes_or_ops,
        log_likelihood=faulty_ops.averaged,
    ),
    with_faulty(
        "likeliest_of_equals",
        "of equally likely tokens the higher id is taken; ties go to the lower id (D14)",
        r"argmax\.out",
        lambda case: case.kind == "ops",
        argmax=faulty_ops.last_argmax,
    ),
    Mutation(
        "p_lm_averaged",
        "log p_LM is the mean over the answer's tokens; it is the sum (D8)",
        r"log_p_lm",
        learns,
        plan=Plan(distillation=Distillation(likelihood="mean")),
    ),
    Mutation(
        "kl_reversed",
        "distillation takes KL(p_LM, p_rank); it is KL(p_rank, p_LM) (D7)",
        r"loss\.pdist",
        learns,
        plan=Plan(distillation=Distillation(direction="reverse")),
    ),
    Mutation(
        "gradient_through_p_lm",
        "distillation's gradient also flows into p_LM, which is data (D9)",
        r"gradient\.embedding",
        learns,
        plan=Plan(distillation=Distillation(gradient=True)),
    ),
    with_faulty(
        "embedding_gradient_overwritten",
        "a token that occurs twice gives its row of the embedding one of its gradients; they add up",
        r"gradient\.embedding",
        learns,
        embed_backward=faulty_ops.overwritten,
    ),
    with_faulty(
        "norm_as_constant",
        "the gradient passes a norm as if its divisor were constant; the mean of squares depends on x",
        r"gradient\.embedding",
        learns,
        rms_norm_backward=faulty_ops.constant_norm,
    ),
)
MUTATIONS = {mutation.name: mutation for mutation in TABLE}
