"""The least time a question can take on given hardware: arithmetic or memory traffic, whichever is longer.

Weights are read once for each stage and batch. The decoder reads its weights, its cross keys and values and its KV
cache in every step. Activations and launches are left out, and both peaks are assumed to be reached.
"""

from __future__ import annotations

from typing import NamedTuple

from ..errors import InputError
from .flops import Number, Setting, decoder_layer_weights, equal_lengths, layer_weights, pairs_of, read_tokens
from .modes import full
from .storage import read_bytes

READS_MEMORY = ("live_a", "reranker", "live")  # the first of these stages that a system has reads the stored passages


class Hardware(NamedTuple):
    """Peak FLOP/s by dtype (two for each multiply-add), bytes/s of its memory, and the memory's bytes."""

    name: str
    flops: dict[str, Number]
    bandwidth: Number
    memory: Number


def _tera(**peaks: float) -> dict[str, Number]:
    return {dtype: int(peak * 10**12) for dtype, peak in peaks.items()}


_HOPPER = _tera(bfloat16=989.4, float16=989.4, int8=1978.9, float32=66.9)
ACCELERATORS = {
    "a100": Hardware(
        "NVIDIA A100 SXM 80 GB", _tera(bfloat16=312, float16=312, int8=624, float32=19.5), 2039 * 10**9, 80 * 10**9
    ),
    "h100": Hardware("NVIDIA H100 SXM", _HOPPER, 3350 * 10**9, 80 * 10**9),
    "h200": Hardware("NVIDIA H200 SXM", _HOPPER, 4800 * 10**9, 141 * 10**9),
    "tpu-v3": Hardware("Google TPU v3 chip", _tera(bfloat16=123), 900 * 10**9, 32 * 2**30),
    "tpu-v4": Hardware("Google TPU v4 chip", _tera(bfloat16=275, int8=275), 1200 * 10**9, 32 * 2**30),
}


def accelerator(name: str) -> Hardware:
    """A named accelerator at its dense peaks (no sparsity; float32 outside the tensor cores).

    Raises:
        InputError: no such accelerator.

    Source: NVIDIA's datasheets of A100 (80 GB, SXM: 312 TFLOP/s, 2,039 GB/s), H100 (SXM: half of 1,979 with
    sparsity, 3.35 TB/s) and H200 (the same, 141 GB, 4.8 TB/s); Google Cloud's pages "TPU v3" (123 TFLOP/s,
    900 GB/s, 32 GiB per chip) and "TPU v4" (275 TFLOP/s, 1,200 GB/s, 32 GiB per chip).
    """
    if name not in ACCELERATORS:
        raise InputError("hardware", f"one of {', '.join(ACCELERATORS)}, cpu", repr(name))
    return ACCELERATORS[name]


class Work(NamedTuple):
    """What a stage does for a batch: multiply-adds, and bytes read from or written to memory."""

    macs: Number
    bytes: Number


def stage_layers(s: Setting) -> dict[str, Number]:
    """Encoder layers whose weights each stage reads; with a separate reranker, the stage "live" has all live layers."""
    return {
        "question": s.memory,
        "encoder": s.L,
        "live": s.live,
        "live_a": s.live_a,
        "reranker": s.live_a,
        "live_b": s.live - s.live_a,
    }


def memory_read(s: Setting, system: str) -> Number:
    """Tokens that a question's decoder attends to."""
    pairs = pairs_of(s.n_q, equal_lengths(s.m if system == "glimmer" else s.k, s.n_p))
    return read_tokens(s, system, pairs)


def keys_values(s: Setting, tokens: Number, width: Number) -> Number:
    """Bytes of the keys and values of `tokens` in all decoder layers."""
    return s.decoder_layers * tokens * 2 * s.hc * width


def work(s: Setting, system: str, width: Number, batch: Number) -> dict[str, Work]:
    """Each stage's multiply-adds and bytes for `batch` questions at once.

    Args:
        width: bytes of each number, in the weights and in the memory.
    """
    macs, read = full(s, system), memory_read(s, system)
    first = next((stage for stage in READS_MEMORY if stage in macs), None)
    result = {}
    for stage, layers in stage_layers(s).items():
        if stage in macs:
            count, moved = macs[stage] + macs[f"{stage}.attention"], 0
            if stage == first:
                count, moved = count + macs.get("score", 0), read_bytes(s, width)
            result[stage] = Work(batch * count, layers * layer_weights(s) * width + batch * moved)
    result["cross"] = Work(
        batch * macs["cross"], s.decoder_layers * 2 * s.d * s.hc * width + batch * keys_values(s, read, width)
    )
    weights = s.decoder_layers * decoder_layer_weights(s) + s.d * s.v
    # Step t reads the keys and values of t tokens: n_t (n_t + 1) / 2 in all.
    past = s.decoder_layers * s.n_t * (s.n_t + 1) * s.hc * width
    result["decoder"] = Work(
        batch * (macs["decoder"] + macs["decoder.attention"] + macs["head"]),
        s.n_t * weights * width + batch * (s.n_t * keys_values(s, read, width) + past),
    )
    return result


def larger(a: Number, b: Number) -> Number:
    """The larger of two numbers, in plain arithmetic, so that it can be written as a formula."""
    return (a + b + abs(a - b)) / 2


def stage_seconds(w: Work, flops: Number, bandwidth: Number) -> Number:
    """The roofline: the time of arithmetic or of memory traffic, whichever is longer."""
    return larger(2 * w.macs / flops, w.bytes / bandwidth)


def seconds(s: Setting, system: str, width: Number, batch: Number, flops: Number, bandwidth: Number) -> Number:
    """Least seconds of a batch, one stage after the other."""
    return sum(stage_seconds(w, flops, bandwidth) for w in work(s, system, width, batch).values())


def resident_bytes(s: Setting, system: str, width: Number, batch: Number) -> Number:
    """Bytes that must be in memory at once: all online weights, and the batch's keys and values."""
    own = s.live_a if system == "glimmer" and s.reranker == "separate" else 0
    encoder = (s.L + own) * layer_weights(s)
    decoder = s.decoder_layers * (decoder_layer_weights(s) + 2 * s.d * s.hc) + 2 * s.d * s.v
    return (encoder + decoder) * width + batch * keys_values(s, memory_read(s, system) + s.n_t, width)


def price_per_million(seconds_each: Number, price_an_hour: Number) -> Number:
    """Price of a million questions, in the currency of the hourly price."""
    return 1_000_000 * seconds_each * price_an_hour / 3600
