"""GLIMMER, LUMEN and FiD with passages padded on their right, as frameworks do, and mistakes with this padding.

The padding is token 0. Its states are computed like others. If nothing else is faulty, no real token attends to them,
and all results are those of the ragged run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ops import Instrument, Ops, SequenceLayout
from ...paper import fid, glimmer, lumen
from ...paper.t5 import encode
from ...params.model import Model
from ...ragged import Array, Ints, States, Tokens, offsets, token_positions
from .run_case import Plan


class Masked(Instrument):
    """Self-attention over padded sequences, and records without their padding.

    Args:
        real: [N] false in rows of padding.
        lengths: [b] rows of each sequence without its padding.
        attended: whether queries attend to the padding.
    """

    elementary = True

    def __init__(self, ops: Ops, real: np.ndarray, lengths: Ints, attended: bool) -> None:
        self.real, self.lengths, self.attended = real, lengths, attended
        super().__init__(ops)

    def attention(
        self, q: Array, k: Array, v: Array, bias: Array | None, layout: SequenceLayout, *rest: Any
    ) -> Array:  # fmt: skip
        if not self.attended:
            k, v, at = k[self.real], v[self.real], layout.key_positions[self.real]
            layout = layout._replace(key_lengths=self.lengths, key_positions=at)
        return self.ops.attention(q, k, v, bias, layout, *rest)

    def record(self, name: str, x: Array, lengths: Ints | None = None) -> Array:
        self.ops.record(name, x[self.real], self.lengths)
        return x


@dataclass(frozen=True)
class Padded:
    """Padded sequences.

    Args:
        x: all rows, with the lengths and positions that padding gives them.
        real: [N] false in rows of padding.
        lengths: [b] rows of each sequence without its padding.
    """

    x: States
    real: np.ndarray
    lengths: Ints

    def stripped(self) -> States:
        """The sequences without their padding."""
        return States(self.x.states[self.real], self.lengths, self.x.positions[self.real])

    def with_states(self, x: States) -> Padded:
        """The same sequences with other states."""
        return Padded(x, self.real, self.lengths)

    def chosen(self, ops: Ops, index: Ints) -> Padded:
        """The sequences with the indices `index`, in that order."""
        real = self.real.reshape(len(self.lengths), -1)[index].ravel()
        return Padded(glimmer.gather(ops, self.x, index), real, self.lengths[index])


def pad(model: Model, tokens: Tokens) -> Padded:
    """Embeds tokens, each sequence padded with token 0 to the longest."""
    width = int(tokens.lengths.max())
    lengths = np.full_like(tokens.lengths, width)
    real = (np.arange(width) < tokens.lengths[:, None]).ravel()
    ids = np.zeros(real.size, tokens.ids.dtype)
    ids[real] = tokens.ids
    return Padded(States(model.embedding[ids], lengths, token_positions(lengths)), real, tokens.lengths)


def pad_pairs(ops: Ops, model: Model, q: States, passages: Padded) -> Padded:
    """H_i with the padding behind each passage."""
    lengths = passages.lengths + q.lengths
    width = int(q.lengths[0] + passages.x.lengths[0])
    real = (np.arange(width) < lengths[:, None]).ravel()
    pairs = lumen.join(Masked(ops, real, lengths, False), model, q, passages.x, np.array([len(lengths)]))
    return Padded(pairs, real, lengths)


@dataclass(frozen=True)
class Padding:
    """A run with passages padded on their right, and one mistake with this padding.

    Args:
        attended: the stages in which padding is attended: "memory", "live_a" (or a separate reranker), "live" (what
            follows on live-A, and all live layers if there is no live-A) and "decoder".
        pooled: what of the padding the score reads: "", nothing, "mean", all rows, or "last", the last row.
    """

    attended: tuple[str, ...] = ()
    pooled: str = ""

    def masked(self, ops: Ops, name: str, stage: str, padded: Padded) -> Masked:
        """Operations for the encoder layers of a stage, in the scope `name`."""
        return Masked(ops.scope(name), padded.real, padded.lengths, stage in self.attended)

    def memorize(self, ops: Ops, model: Model, passages: Tokens) -> Padded:
        """MemEnc(Passage_i), with its padding."""
        padded = pad(model, passages)
        here = self.masked(ops, "memory", "memory", padded)
        x = encode(here, model.config.t5, model.memory, padded.x)
        here.record("out", x.states)
        return padded.with_states(x)

    def memory(self, ops: Ops, model: Model, question: Tokens, passages: Tokens) -> States:
        """MemEnc(Passage_i), without its padding."""
        return self.memorize(ops, model, passages).stripped()

    def score(self, ops: Ops, model: Model, pairs: Padded) -> Array:
        if self.pooled == "last":
            last = pairs.x.states[offsets(pairs.x.lengths)[1:] - 1]
            return glimmer.score(ops, model, States(last, np.ones_like(pairs.lengths), pairs.x.positions))
        return glimmer.score(ops, model, pairs.x if self.pooled == "mean" else pairs.stripped())

    def decoder_memory(self, ops: Ops, model: Model, q: States | None, pairs: Padded) -> States:
        """[Q; pair_1; ..], or in FiD the pairs alone."""
        read, counts = pairs.x if "decoder" in self.attended else pairs.stripped(), np.array([len(pairs.lengths)])
        if q is not None:
            return lumen.decoder_memory(ops, model, q, read, counts)
        memory = fid.fuse(read, counts)
        ops.record("decoder.memory", memory.states, memory.lengths)
        return memory

    def read_fid(
        self, ops: Ops, model: Model, question: Tokens, passages: Tokens, counts: Ints, m: int
    ) -> glimmer.DecoderInput:
        """[Enc(Q; Passage_1); ..], padded behind each pair."""
        padded = pad(model, fid.pair_tokens(model, question, passages, counts)[0])
        here, x = self.masked(ops, "encoder", "memory", padded), padded.x
        for name, stack in (("memory", model.memory), ("live", model.live)):
            x = encode(here.scope(name), model.config.t5, stack, x)
        x = fid.final_norm(here, model, x)
        here.record("out", x.states)
        return glimmer.DecoderInput(self.decoder_memory(ops, model, None, padded.with_states(x)), None, [])

    def read_lumen(
        self, ops: Ops, model: Model, question: Tokens, passages: Tokens, counts: Ints, m: int
    ) -> glimmer.DecoderInput:
        """[Q; LiveEnc(H_1); ..]."""
        q = lumen.encode_question(ops, model, question)
        pairs = pad_pairs(ops, model, q, self.memorize(ops, model, passages))
        x = pairs.with_states(lumen.live_encode(self.masked(ops, "live", "live", pairs), model, pairs.x))
        return glimmer.DecoderInput(self.decoder_memory(ops, model, q, x), None, [])

    def read_glimmer(
        self, ops: Ops, model: Model, question: Tokens, passages: Tokens, counts: Ints, m: int
    ) -> glimmer.DecoderInput:
        """[Q; LiveEncB(R_1); ..]."""
        q = lumen.encode_question(ops, model, question)
        pairs = ranked = pad_pairs(ops, model, q, self.memorize(ops, model, passages))
        if model.reranker is None:
            pairs = ranked = pairs.with_states(
                glimmer.live_a(self.masked(ops, "live_a", "live_a", pairs), model, pairs.x)
            )
        else:
            here = self.masked(ops, "reranker", "live_a", pairs)
            ranked = pairs.with_states(encode(here, model.config.t5, model.reranker, pairs.x))
        scores, (best,) = glimmer.select(ops, self.score(ops.scope("score"), model, ranked), m, counts)
        chosen = pairs.chosen(ops, best)
        name, finish = ("live", lumen.live_encode) if model.reranker else ("live_b", glimmer.live_b)
        x = chosen.with_states(finish(self.masked(ops, name, "live", chosen), model, chosen.x))
        return glimmer.DecoderInput(self.decoder_memory(ops, model, q, x), scores, [best])

    def plan(self) -> Plan:
        """The stages of a run with this padding."""
        systems = {"fid": self.read_fid, "lumen": self.read_lumen, "glimmer": self.read_glimmer}
        return Plan(memory=passages_as_tokens, systems=systems, greedy=False)


def passages_as_tokens(ops: Ops, model: Model, question: Tokens, passages: Tokens) -> Tokens:
    """In place of a memory: a padded system encodes the passages itself, because it needs the states of the padding."""
    return passages
