"""The golden case for single operations: the inputs of each operation, and the results that it must give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ...config import T5Config
from ...ops import Ops, SequenceLayout
from ...paper.glimmer import select
from ...paper.t5 import position_bias
from ...ragged import Array, token_positions
from . import rng


class Operation(NamedTuple):
    """One operation of the case.

    Args:
        gives: names of its results.
        takes: names of its inputs.
        parameters: its scalar parameters.
        equation: the equation of the operation.
    """

    gives: tuple[str, ...]
    takes: tuple[str, ...]
    parameters: dict[str, Any]
    equation: str


EPS, HEADS, M = 1e-6, 3, 3
LENGTHS, KEYS = (5, 1, 150), (4, 9, 2)
BIAS = "table[bucket(j - i)] of the tokens' places"
TABLE = {
    "relative_buckets.encoder": Operation(
        ("relative_buckets.encoder",),
        ("distances",),
        {"bidirectional": True, "num_buckets": 32, "max_distance": 128},
        "the bucket of each distance (key position - query position) in an encoder",
    ),
    "relative_buckets.decoder": Operation(
        ("relative_buckets.decoder",),
        ("distances",),
        {"bidirectional": False, "num_buckets": 32, "max_distance": 128},
        "the same in a decoder, which uses all buckets for keys behind",
    ),
    "rms_norm": Operation(
        ("rms_norm.out",), ("rms_norm.x", "rms_norm.gain"), {"eps": EPS}, "x / sqrt(mean(x^2) + eps) * gain, by rows"
    ),
    "gated_gelu": Operation(
        ("gated_gelu.out",),
        ("gated_gelu.a", "gated_gelu.b"),
        {},
        "a/2 (1 + tanh(sqrt(2/pi) (a + 0.044715 a^3))) * b",
    ),
    "relu": Operation(("relu.out",), ("gated_gelu.a",), {}, "max(a, 0)"),
    "linear": Operation(("linear.out",), ("linear.x", "linear.w"), {}, "x w"),
    "encoder_attention": Operation(
        ("encoder_attention.out",),
        ("attention.q", "attention.k", "attention.v", "attention.table"),
        {"heads": HEADS, "bidirectional": True, "causal": False, "lengths": list(LENGTHS)},
        f"softmax_j(q_i k_j + {BIAS}) v_j in each sequence and head; nothing is divided by sqrt(c)",
    ),
    "decoder_attention": Operation(
        ("decoder_attention.out",),
        ("attention.q", "attention.k", "attention.v", "attention.table"),
        {"heads": HEADS, "bidirectional": False, "causal": True, "lengths": list(LENGTHS)},
        f"softmax over j <= i of (q_i k_j + {BIAS}), times v_j",
    ),
    "cross_attention": Operation(
        ("cross_attention.out",),
        ("attention.q", "cross_attention.k", "cross_attention.v"),
        {"heads": HEADS, "query_lengths": list(LENGTHS), "key_lengths": list(KEYS)},
        "softmax_j(q_i k_j) v_j, no bias, every key of the query's own memory",
    ),
    "first": Operation(("first.out",), ("rms_norm.x",), {"lengths": [4, 1, 7]}, "first row of each sequence"),
    "mean": Operation(("mean.out",), ("rms_norm.x",), {"lengths": [4, 1, 7]}, "mean of each sequence's rows"),
    "top_m": Operation(
        ("top_m.selected",),
        ("top_m.scores",),
        {"m": M},
        "places of the m largest, the largest first; of equal ones the lower place first",
    ),
    "argmax": Operation(
        ("argmax.out",), ("argmax.logits",), {}, "place of each row's largest, the lowest of equal ones"
    ),
    "log_likelihood": Operation(
        ("log_likelihood.out",),
        ("log_likelihood.logits", "log_likelihood.targets"),
        {"lengths": [24, 3]},
        "sum over a sequence's tokens of log softmax(logits)[target]",
    ),
}


def inputs(seed: int) -> dict[str, np.ndarray]:
    """The inputs: rows with a tiny norm, numbers for which the two forms of GELU differ, distant keys, exact ties."""

    def normal(name: str, *shape: int) -> np.ndarray:
        return rng.normal(seed, name, shape).astype(np.float32)

    n, keys = sum(LENGTHS), sum(KEYS)
    tiny = (2.0 ** -np.arange(12, dtype=np.float64))[:, None].astype(np.float32)
    logits = rng.integers(seed, "argmax.logits", 9 * 8, 0, 4).reshape(9, 8).astype(np.float32)
    return {
        "distances": np.arange(-300, 301, dtype=np.int64),
        "rms_norm.x": normal("rms_norm.x", 12, 16) * tiny,
        "rms_norm.gain": 1 + normal("rms_norm.gain", 16) / 4,
        "gated_gelu.a": np.linspace(-4, 4, 12 * 20, dtype=np.float64).reshape(12, 20).astype(np.float32),
        "gated_gelu.b": normal("gated_gelu.b", 12, 20),
        "linear.x": normal("linear.x", 7, 16),
        "linear.w": normal("linear.w", 16, 15) / 4,
        "attention.q": normal("attention.q", n, 15) / 2,
        "attention.k": normal("attention.k", n, 15),
        "attention.v": normal("attention.v", n, 15),
        "attention.table": normal("attention.table", 32, HEADS),
        "cross_attention.k": normal("cross_attention.k", keys, 15),
        "cross_attention.v": normal("cross_attention.v", keys, 15),
        "top_m.scores": np.array([0.5, 2.0, -1.0, 2.0, 3.0, 2.0, 0.5], np.float32),
        "argmax.logits": logits,
        "log_likelihood.logits": normal("log_likelihood.logits", 27, 41) * 2,
        "log_likelihood.targets": rng.integers(seed, "log_likelihood.targets", 27, 0, 41),
    }


def record_operations(ops: Ops, t5: T5Config, named: Mapping[str, np.ndarray], dtype: str, buckets: Any) -> None:
    """Runs every operation once, in the order of the table, and records the results; see `run_case.Plan` on buckets."""
    x = {name: ops.to_device(a.astype(dtype)) if a.dtype.kind == "f" else a for name, a in named.items()}
    for name, bidirectional in (("encoder", True), ("decoder", False)):
        ops.record(f"relative_buckets.{name}", buckets(named["distances"], bidirectional, 32, 128))
    ops.record("rms_norm.out", ops.rms_norm(x["rms_norm.x"], x["rms_norm.gain"], EPS))
    ops.record("gated_gelu.out", ops.gated_gelu(x["gated_gelu.a"], x["gated_gelu.b"]))
    ops.record("relu.out", ops.relu(x["gated_gelu.a"]))
    ops.record("linear.out", ops.linear(x["linear.x"], x["linear.w"]))
    attentions(ops, t5, x)
    three = np.array([4, 1, 7])
    ops.record("first.out", ops.first_token(x["rms_norm.x"], three))
    ops.record("mean.out", ops.mean(x["rms_norm.x"], three))
    select(ops.scope("top_m"), x["top_m.scores"], M, np.array([7]))
    ops.record("argmax.out", ops.argmax(x["argmax.logits"]))
    targets, lengths = named["log_likelihood.targets"], np.array([24, 3])
    ops.record("log_likelihood.out", ops.log_likelihood(x["log_likelihood.logits"], targets, lengths))


def attentions(ops: Ops, t5: T5Config, x: Mapping[str, Array]) -> None:
    """Attention as an encoder, a decoder and its cross-attention use it."""
    lengths, keys = np.array(LENGTHS), np.array(KEYS)
    self_attention = SequenceLayout(lengths, lengths, token_positions(lengths), token_positions(lengths))
    q, k, v = x["attention.q"], x["attention.k"], x["attention.v"]
    for name, bidirectional in (("encoder", True), ("decoder", False)):
        bias = position_bias(ops.scope(name), t5, x["attention.table"], self_attention, bidirectional)
        out = ops.scope(name).attention(q, k, v, bias, self_attention, HEADS, not bidirectional)
        ops.record(f"{name}_attention.out", out, lengths)
    across = SequenceLayout(lengths, keys, token_positions(lengths), token_positions(keys))
    out = ops.scope("cross").attention(q, x["cross_attention.k"], x["cross_attention.v"], None, across, HEADS, False)
    ops.record("cross_attention.out", out, lengths)
