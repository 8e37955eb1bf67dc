"""Section 2.2, LUMEN: the first layers of the encoder run offline over passages, the rest per question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..ops import Ops
from ..params.model import Model, Stack
from ..ragged import Arriving, Ints, States, Tokens, offsets, token_positions
from .fid import final_norm, fuse, owners, pair_positions
from .t5 import encode


def memory_encode(ops: Ops, model: Model, stack: Stack, tokens: Tokens) -> States:
    """MemEnc(.): the first 1 - alpha of the layers, each sequence by itself, without final norm (D1).

    Args:
        stack: the memory encoder, or a separate question encoder.
        tokens: passages long ago, or the question now.

    Paper: 2.2 MemEnc
    """
    x = States(ops.dropout(ops.embed(model.embedding, tokens.ids)), tokens.lengths, token_positions(tokens.lengths))
    x = encode(ops, model.config.t5, stack, x)
    ops.mark("out", x.states, x.lengths)
    return x


def encode_passages(ops: Ops, model: Model, passages: Tokens) -> States:
    """MemEnc(Passage_i), what is computed once and stored: [N d]."""
    return memory_encode(ops.at("memory"), model, model.memory, passages)


def encode_question(ops: Ops, model: Model, question: Tokens) -> States:
    """MemEnc(Q), with the weights of the memory encoder unless the model has a separate one."""
    return memory_encode(ops.at("question"), model, model.question or model.memory, question)


def join(ops: Ops, model: Model, question: States, passages: States, counts: Ints) -> States:
    """H_i = [MemEnc(Q); MemEnc(Passage_i)] for every passage of every question.

    Args:
        question: b questions.
        passages: those of the first question, then those of the second, ..
        counts: [b] passages of each question.

    Returns:
        K pairs, [N d].

    Paper: 2.2 H_i
    """
    owner = owners(counts)
    repeated, lengths = ops.gather_sequences(question.states, question.lengths, owner), question.lengths[owner]
    states = ops.interleave_concat(repeated, lengths, passages.states, passages.lengths)
    pairs = States(states, lengths + passages.lengths, pair_positions(model, lengths, passages.lengths))
    ops.mark("pairs", pairs.states, pairs.lengths)
    return pairs


def arriving(passages: States | Arriving, counts: Ints) -> Iterator[tuple[States, Ints]]:
    """The passages part by part, each with how many of every question's it holds: [N d], [b].

    What is in main memory is one part. From disk a few passages come at a time, read while the model
    works on those before; passages do not see each other, so the parts change no result.
    """
    first = 0
    for part in passages.parts:
        yield part, np.diff(offsets(counts).clip(first, first + len(part)))
        first += len(part)


def end_to_end(ops: Ops, parts: Sequence[States]) -> States:
    """The sequences of all parts as one; neighbours are joined until one is left."""
    while len(parts) > 1:
        parts = [_behind(ops, *parts[i : i + 2]) for i in range(0, len(parts), 2)]
    return parts[0]


def _behind(ops: Ops, x: States, y: States | None = None) -> States:
    """[x; y]"""
    if y is None:
        return x
    nx, ny = (np.array([p.lengths.sum()]) for p in (x, y))
    lengths, positions = np.concatenate([x.lengths, y.lengths]), np.concatenate([x.positions, y.positions])
    return States(ops.interleave_concat(x.states, nx, y.states, ny), lengths, positions)


def live_encode(ops: Ops, model: Model, pairs: States) -> States:
    """LiveEnc(H_i): the last alpha of the layers, then the encoder's final norm: [N d] -> [N d].

    Paper: 2.2 LiveEnc
    """
    x = final_norm(ops, model, encode(ops, model.config.t5, model.live, pairs))
    ops.mark("out", x.states, x.lengths)
    return x


def decoder_memory(ops: Ops, model: Model, question: States, pairs: States, counts: Ints) -> States:
    """[Q; pair_1; .. pair_m]: what the decoder attends to, MemEnc(Q) with the final norm first (D4)."""
    memory = fuse(pairs, counts)
    if model.config.decoder_question:
        q = final_norm(ops.at("question"), model, question)
        states = ops.interleave_concat(q.states, q.lengths, memory.states, memory.lengths)
        lengths = q.lengths + memory.lengths
        memory = States(states, lengths, token_positions(lengths))
    ops.mark("decoder.memory", memory.states, memory.lengths)
    return memory


def lumen(ops: Ops, model: Model, question: Tokens, passages: States | Arriving, counts: Ints) -> States:
    """[Q; LiveEnc(H_1); .. LiveEnc(H_k)], from questions as tokens and passages as memory.

    Paper: 2.2 G
    """
    q = encode_question(ops, model, question)
    pairs = [live_encode(ops.at("live"), model, join(ops, model, q, p, n)) for p, n in arriving(passages, counts)]
    return decoder_memory(ops, model, q, end_to_end(ops, pairs), counts)
