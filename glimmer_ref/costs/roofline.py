"""The least time a question can take on given hardware: arithmetic or memory traffic, whichever is longer.

Weights are read once for each stage and batch. The decoder reads its weights, its cross keys and values and its KV
cache in every step. Activations and launches are left out, and both peaks are assumed to be reached.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from .flops import Number, Setting, decoder_layer_weights, equal_lengths, layer_weights, pairs_of, read_tokens
from .modes import full
from .storage import read_bytes

# Seconds of a sum over devices, beside the time of its bytes. The tokens/s of gpt-fast's README (Llama-2-7B, 64 sums a
# token, on 1, 2, 4 and 8 A100) imply 18, 24 and 29 microseconds: (1 / 168.84 - 1 / 104.9 / 2) / 64 and so on.
SUM_SECONDS = Fraction(25, 10**6)
READS_MEMORY = ("live_a", "reranker", "live")  # the first of these stages that a system has reads the stored passages


class Group(NamedTuple):
    """Devices that answer a batch together, each with its share of every weight matrix (tensor parallelism).

    Args:
        flops, bandwidth: FLOP/s and bytes/s that one device reaches.
        devices: how many there are.
        link: bytes/s that a device sends to the others, in one direction.
    """

    flops: Number
    bandwidth: Number
    devices: Number = 1
    link: Number = 1


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


def smaller(a: Number, b: Number) -> Number:
    """The smaller of two numbers, in plain arithmetic as `larger`."""
    return (a + b - abs(a - b)) / 2


def stage_seconds(w: Work, flops: Number, bandwidth: Number) -> Number:
    """The roofline: the time of arithmetic or of memory traffic, whichever is longer."""
    return larger(2 * w.macs / flops, w.bytes / bandwidth)


def sums(s: Setting, system: str, batch: Number) -> dict[str, tuple[Number, Number]]:
    """How often the devices of a group add up their results in each stage, and the numbers in each sum.

    An encoder layer has two sums of [tokens d], a decoder layer three of [batch d] in every step. The cross keys and
    values need none, because each device makes those of its own heads.
    """
    pair, macs = s.n_q + s.n_p, full(s, system)
    best = ("live_b", "live") if "reranker" in macs else ("live_b",)  # the stages that read m passages only
    result = {}
    for stage, layers in stage_layers(s).items():
        if stage in macs:
            tokens = s.n_q if stage == "question" else (s.m if stage in best else s.k) * pair
            result[stage] = (2 * layers, batch * tokens * s.d)
    result["decoder"] = (3 * s.decoder_layers * s.n_t, batch * s.d)
    return result


def sum_seconds(numbers: Number, width: Number, group: Group) -> Number:
    """Seconds of one sum over a group, by a ring: each device sends 2 (D - 1) / D of the sum's bytes."""
    several = smaller(group.devices - 1, 1)  # 0 for one device
    sent = 2 * (group.devices - 1) * numbers * width / group.devices
    return several * SUM_SECONDS.numerator / SUM_SECONDS.denominator + sent / group.link


def group_seconds(s: Setting, system: str, width: Number, batch: Number, group: Group) -> dict[str, Number]:
    """Least seconds of each stage of a batch on a group of devices."""
    added = sums(s, system, batch)
    flops, bandwidth = group.devices * group.flops, group.devices * group.bandwidth
    result = {}
    for stage, w in work(s, system, width, batch).items():
        count, numbers = added.get(stage, (0, 0))
        result[stage] = stage_seconds(w, flops, bandwidth) + count * sum_seconds(numbers, width, group)
    return result


def seconds(s: Setting, system: str, width: Number, batch: Number, group: Group) -> Number:
    """Least seconds of a batch, one stage after the other."""
    return sum(group_seconds(s, system, width, batch, group).values())


def weight_bytes(s: Setting, system: str, width: Number) -> Number:
    """Bytes of all online weights; of the head and the embedding there is one matrix if they are tied."""
    reranker_layers = s.live_a if system == "glimmer" and s.reranker == "separate" else 0
    encoder = (s.L + reranker_layers) * layer_weights(s)
    decoder = s.decoder_layers * (decoder_layer_weights(s) + 2 * s.d * s.hc) + s.embeddings * s.d * s.v
    return (encoder + decoder) * width


def cache_bytes(s: Setting, system: str, width: Number, batch: Number) -> Number:
    """Bytes of a batch's keys and values: the cross ones, and those of n_t decoder steps."""
    return batch * keys_values(s, memory_read(s, system) + s.n_t, width)


def resident_bytes(s: Setting, system: str, width: Number, batch: Number) -> Number:
    """Bytes that must be in memory at once: all online weights, and the batch's keys and values."""
    return weight_bytes(s, system, width) + cache_bytes(s, system, width, batch)


def activation_bytes(s: Setting, system: str, width: Number, batch: Number, devices: Number = 1) -> Number:
    """Bytes of a batch's activations on each device, in an encoder layer over all k pairs, where they take the most.

    Each device has the layer's input and its normed input [tokens d], and its share of q, k, v and their result
    [tokens 4 hc] or of the feed-forward block's inner arrays [tokens f], of which a gated block has two. Attention's
    scores are not stored, as in FlashAttention.
    """
    tokens = batch * s.k * (s.n_q + s.n_p)
    return tokens * (2 * s.d + larger(4 * s.hc, (s.matrices - 1) * s.f) / devices) * width


def price_per_million(seconds_each: Number, price_an_hour: Number) -> Number:
    """Price of a million questions, in the currency of the hourly price."""
    return 1_000_000 * seconds_each * price_an_hour / 3600
