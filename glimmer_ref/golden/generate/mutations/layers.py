"""Mistakes in T5's layers: attention, positions, feed-forward and norms."""

from __future__ import annotations

from .. import faulty_ops, faulty_positions
from ..run_case import Plan
from .mutation import (
    ANSWER,
    KEYS,
    LIVE,
    Mutation,
    always,
    decodes,
    decodes_or_ops,
    gated,
    pairs,
    ranks,
    shares_live_a,
    t5,
    with_faulty,
)

MIXED = r"(question|memory|encoder\.memory|decoder)\.layer_0\.(self_)?attention\.mixed"
SELF = r"(memory|live_a|live_b|live|reranker|encoder\.memory|decoder)\.layer_\d+\.(self_)?attention"
LATER = r".*\.layer_[1-9]\.(self_)?attention\.mixed"
HIDDEN = r".*\.layer_0\.feed_forward\.hidden|gated_gelu\.out"

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
        attention=faulty_positions.bias_reversed,
    ),
    with_faulty(
        "bias_in_first_layer_only",
        "the position bias is added in the first layer only; every layer of a stack adds the stack's one table",
        LATER,
        lambda case: case.kind == "model",
        attention=faulty_positions.bias_in_first_layers,
    ),
    with_faulty(
        "bias_in_first_decoder_layer_only",
        "the decoder's position bias is added in its first layer only; every layer adds the decoder's one table",
        r"decoder\.layer_[1-9]\.self_attention\.mixed",
        lambda case: pairs(case) and case.config.t5.num_decoder_layers > 1,
        attention=faulty_positions.bias_missing(r"decoder\.layer_[1-9]"),
    ),
    with_faulty(
        "bias_missing_in_live_a",
        "the layers that rank have no position bias; they add the live encoder's table (a separate reranker's its own)",
        r"(live_a|reranker)\.layer_0\.attention\.mixed",
        lambda case: ranks(case) and case.config.num_rerank_layers > 0,
        attention=faulty_positions.bias_missing("live_a", "reranker"),
    ),
    with_faulty(
        "bias_missing_in_live_b",
        "live-B has no position bias; its layers add the live encoder's table, as live-A does",
        r"live_b\.layer_\d+\.attention\.mixed",
        shares_live_a,
        attention=faulty_positions.bias_missing("live_b"),
    ),
    with_faulty(
        "bias_missing_in_live",
        "the live layers have no position bias; the live encoder has a table of its own (D3)",
        r"(live_a|live|encoder\.live)\.layer_0\.attention\.mixed",
        lambda case: pairs(case) and case.config.num_rerank_layers > 0,  # otherwise it is that of live-B
        attention=faulty_positions.bias_missing("live", r"encoder\.live"),
    ),
    with_faulty(
        "bias_in_cross_attention",
        "cross-attention has a position bias; T5's has none",
        r"decoder\.layer_0\.cross_attention\.mixed",
        decodes,
        attention=faulty_positions.bias_across,
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
        attention=faulty_positions.positions_restarted,
    ),
    with_faulty(
        "encoder_buckets_in_decoder",
        "the decoder's position buckets are the encoder's; a decoder has no keys ahead and uses all buckets for "
        "those behind (bidirectional=False)",
        rf"{ANSWER}\.mixed|decoder_attention\.out",
        decodes_or_ops,
        embed=faulty_positions.encoders_buckets,
    ),
    Mutation(
        "bucket_logarithms_rounded",
        "the logarithms of large distances are rounded to the nearest bucket; T5 rounds them down",
        rf"relative_buckets\.encoder|{SELF}\.mixed",
        lambda case: case.kind in ("model", "ops"),
        faulty={"embed": faulty_positions.buckets_rounded},
        plan=Plan(buckets=faulty_positions.rounded_buckets, greedy=False),
    ),
    with_faulty(
        "attention_of_swapped_keys_and_values",
        "attention is given the values as keys and the keys as values; it is softmax(q k^T + bias) v",
        rf"{MIXED}|encoder_attention\.out",
        lambda case: case.kind in ("model", "ops"),
        attention=faulty_ops.swapped,
    ),
    Mutation(
        "keys_and_values_swapped",
        "k and v are computed with each other's weights; k = n W_k and v = n W_v",
        rf"{KEYS}|cross\.layer_0\.k",
        lambda case: case.kind == "model",
        change=faulty_ops.swap_keys_and_values(),
    ),
    Mutation(
        "keys_and_values_swapped_in_cross_attention",
        "k and v of cross-attention are computed with each other's weights; k = memory W_k and v = memory W_v",
        r"cross\.layer_0\.k",
        decodes,
        change=faulty_ops.swap_keys_and_values("cross_attention"),
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
)
