"""The multiply-adds of one question by the true shapes of every matrix; `paper.flops` has the printed formulas.

The count is plain arithmetic: whole numbers and fractions stay exact, and symbols stay symbols.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ..config import GlimmerConfig, T5Config
from ..errors import InputError
from ..paper.flops import Macs, Number

SYSTEMS = ("fid", "lumen", "glimmer")


@dataclass(frozen=True)
class Setting:
    """All numbers that the cost of a question depends on.

    Args:
        d, hc, f, v: d_model, heads times d_kv, d_ff, vocabulary.
        matrices: weight matrices [d f] of a feed-forward block, 3 if gated, else 2.
        L, decoder_layers: layers of the encoder and of the decoder.
        alpha, beta: live proportion, and live-A's proportion of it; exact, so a Fraction.
        k, m: passages retrieved, and selected by GLIMMER.
        n_q, n_p, n_t: tokens of the question, of each passage, and decoder steps (end included).
        decoder_question, reranker: as in `GlimmerConfig`.
        embeddings: matrices [v d], 1 if the head is the embedding, else 2.
        others: weights outside of matrices: the norms' gains and the position biases.
    """

    d: Number
    hc: Number
    f: Number
    v: Number
    matrices: Number
    L: Number
    decoder_layers: Number
    alpha: Number
    beta: Number
    k: Number
    m: Number
    n_q: Number
    n_p: Number
    n_t: Number
    decoder_question: bool = True
    reranker: str = "shared"
    embeddings: Number = 2
    others: Number = 0

    @property
    def live(self) -> Number:
        """Live layers, alpha L."""
        return self.alpha * self.L

    @property
    def live_a(self) -> Number:
        """Live layers before the score, beta alpha L."""
        return self.beta * self.live

    @property
    def memory(self) -> Number:
        """Layers of the memory encoder, (1 - alpha) L."""
        return self.L - self.live


def shapes_of(t5: T5Config, tied: bool = False) -> dict[str, Any]:
    """The part of a setting that follows from T5's config.

    Args:
        tied: the head is the embedding (D18).
    """
    norms = 2 * t5.num_layers + 3 * t5.num_decoder_layers + 2
    return {
        "d": t5.d_model,
        "hc": t5.num_heads * t5.d_kv,
        "f": t5.d_ff,
        "v": t5.vocab_size,
        "matrices": 3 if t5.feed_forward_proj == "gated-gelu" else 2,
        "L": t5.num_layers,
        "decoder_layers": t5.num_decoder_layers,
        "embeddings": 1 if tied else 2,
        "others": norms * t5.d_model + 2 * t5.relative_attention_num_buckets * t5.num_heads,
    }


def setting_of(config: GlimmerConfig) -> Setting:
    """The setting of a config: its own k and m, and its longest lengths."""
    return Setting(
        **shapes_of(config.t5),
        alpha=config.alpha,
        beta=config.beta,
        k=config.k,
        m=config.m,
        n_q=config.question_tokens,
        n_p=config.passage_tokens,
        n_t=config.answer_tokens,
        decoder_question=config.decoder_question,
        reranker=config.reranker,
    )


class Lengths(NamedTuple):
    """What a count needs to know about the lengths n_i of some sequences.

    Args:
        sequences: how many there are.
        tokens: sum of n_i; matrix products grow with it.
        squares: sum of n_i^2; attention grows with it.
    """

    sequences: Number
    tokens: Number
    squares: Number


def lengths_of(tokens: Sequence[Number]) -> Lengths:
    """The lengths of sequences with any numbers of tokens."""
    return Lengths(len(tokens), sum(tokens), sum(n * n for n in tokens))


def equal_lengths(sequences: Number, tokens: Number) -> Lengths:
    """The lengths of `sequences` sequences of `tokens` tokens each."""
    return Lengths(sequences, sequences * tokens, sequences * tokens * tokens)


def pairs_of(n_q: Number, x: Lengths) -> Lengths:
    """The lengths of the pairs [Q; P_i], which are n_q + n_i."""
    return Lengths(x.sequences, x.sequences * n_q + x.tokens, x.sequences * n_q * n_q + 2 * n_q * x.tokens + x.squares)


def layer_weights(s: Setting) -> Number:
    """Weights of an encoder layer that each token is multiplied with: q, k, v, o and the feed-forward block's."""
    return 4 * s.d * s.hc + s.matrices * s.d * s.f


def decoder_layer_weights(s: Setting) -> Number:
    """Weights of a decoder layer that each new token is multiplied with: an encoder layer's, and cross q, o."""
    return layer_weights(s) + 2 * s.d * s.hc


def parameters(s: Setting) -> Number:
    """All weights of the T5 that a setting describes."""
    encoder = s.L * layer_weights(s)
    decoder = s.decoder_layers * (decoder_layer_weights(s) + 2 * s.d * s.hc)  # and cross k, v
    return encoder + decoder + s.embeddings * s.d * s.v + s.others


def encoder_macs(s: Setting, stage: str, layers: Number, x: Lengths) -> Macs:
    """`layers` encoder layers over sequences; attention is q k^T and the weighted sum of v."""
    return {
        stage: layers * x.tokens * layer_weights(s),
        f"{stage}.attention": layers * x.squares * 2 * s.hc,
    }


def decoder_macs(s: Setting, memory: Number) -> Macs:
    """n_t decoder steps that attend to `memory` tokens and to 1, 2 .. n_t own ones, n_t (n_t + 1) / 2 in all."""
    return {
        "cross": s.decoder_layers * memory * 2 * s.d * s.hc,
        "decoder": s.decoder_layers * s.n_t * decoder_layer_weights(s),
        "decoder.attention": s.decoder_layers * s.hc * (s.n_t * (s.n_t + 1) + 2 * s.n_t * memory),
        "head": s.n_t * s.d * s.v,
    }


def read_tokens(s: Setting, system: str, pairs: Lengths) -> Number:
    """Tokens that the decoder attends to: those of all pairs and, except in FiD, of MemEnc(Q) (D4)."""
    return pairs.tokens + s.n_q if system != "fid" and s.decoder_question else pairs.tokens


def fid_macs(s: Setting, pairs: Lengths) -> Macs:
    """FiD: all layers over every pair."""
    return {**encoder_macs(s, "encoder", s.L, pairs), **decoder_macs(s, read_tokens(s, "fid", pairs))}


def memory_macs(s: Setting, passages: Lengths) -> Macs:
    """The memory encoder over the passages, which is offline, and over the question."""
    return {
        **encoder_macs(s, "memory", s.memory, passages),
        **encoder_macs(s, "question", s.memory, equal_lengths(1, s.n_q)),
    }


def lumen_macs(s: Setting, passages: Lengths, pairs: Lengths) -> Macs:
    """LUMEN: the live layers over every pair."""
    return {
        **memory_macs(s, passages),
        **encoder_macs(s, "live", s.live, pairs),
        **decoder_macs(s, read_tokens(s, "lumen", pairs)),
    }


def glimmer_macs(s: Setting, passages: Lengths, pairs: Lengths, best: Lengths) -> Macs:
    """GLIMMER: the first live layers over every pair, a score for each, the other live layers over the selected pairs.

    A separate reranker (Table 1) replaces live-A; then the selected pairs go through all live layers.
    """
    first, rest, after = ("live_a", "live_b", s.live - s.live_a)
    if s.reranker == "separate":
        first, rest, after = ("reranker", "live", s.live)
    return {
        **memory_macs(s, passages),
        **encoder_macs(s, first, s.live_a, pairs),
        "score": pairs.sequences * s.d,
        **encoder_macs(s, rest, after, best),
        **decoder_macs(s, read_tokens(s, "glimmer", best)),
    }


def shape_macs(s: Setting, system: str, passages: Lengths, selected: Lengths) -> Macs:
    """Multiply-adds by component, in the order of a run, for passages of any lengths.

    Args:
        passages: all k passages.
        selected: the m of them that GLIMMER's decoder reads.

    Raises:
        InputError: an unknown system.
    """
    pairs = pairs_of(s.n_q, passages)
    if system == "fid":
        return fid_macs(s, pairs)
    if system == "lumen":
        return lumen_macs(s, passages, pairs)
    if system == "glimmer":
        return glimmer_macs(s, passages, pairs, pairs_of(s.n_q, selected))
    raise InputError("system", f"one of {', '.join(SYSTEMS)}", repr(system))


def by_shapes(
    config: GlimmerConfig,
    system: str,
    question: int,
    passages: Sequence[int],
    steps: int,
    selected: Sequence[int] = (),
) -> dict[str, int]:
    """Multiply-adds of one question, with the same names, order and numbers as `MacCounter` counts in a run.

    Args:
        system: "glimmer", "lumen" or "fid".
        question: tokens of the question.
        passages: tokens of each passage.
        steps: decoder steps, the end of sequence included.
        selected: the passages that GLIMMER's decoder reads, by index.

    Returns:
        The components that are not 0; `memory` and `memory.attention` are offline.
    """
    s = replace(setting_of(config), n_q=question, n_t=steps)
    macs = shape_macs(s, system, lengths_of(passages), lengths_of([passages[i] for i in selected]))
    return {name: int(x) for name, x in macs.items() if x}


def online(macs: Mapping[str, Number]) -> Number:
    """The sum of what is computed for each question: everything but the memory."""
    return sum(x for name, x in macs.items() if name not in ("memory", "memory.attention"))
