"""Mistakes in the decoder's input, in decoding, in the likelihood and in training."""

from __future__ import annotations

from dataclasses import replace

from ....paper.distillation import Distillation
from .. import faulty_ops
from ..run_case import Plan
from .mutation import ANSWER, Mutation, config, decodes, decodes_or_ops, joins, learns, t5, untied, with_faulty

TABLE = (
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
        "scores_detached",
        "distillation's gradient does not flow into the scores, so nothing learns to rank; p_rank is not a constant",
        r"gradient\.embedding",
        learns,
        rank_kl_backward=faulty_ops.scores_as_constants,
    ),
    with_faulty(
        "score_of_detached_states",
        "the gradient of the scores ends at the score's own weight; it flows on into H'_i and live-A",
        r"gradient\.embedding",
        learns,
        first_token_backward=faulty_ops.states_as_constants,
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
