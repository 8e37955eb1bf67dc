"""Section 2.2, LUMEN: the encoder's first layers read the passages offline, the others run for each question."""

from __future__ import annotations

from ..ops import Ops
from ..params.model import Model, Stack
from ..ragged import Ints, States, Tokens, token_positions
from .fid import final_norm, fuse, pair_positions, question_of_passages
from .t5 import encode


def memory_encode(ops: Ops, model: Model, stack: Stack, tokens: Tokens) -> States:
    """MemEnc(.): the first 1 - alpha of the layers, over each sequence alone, without the final norm (D1).

    Args:
        stack: the memory encoder, or a separate question encoder.
        tokens: the passages, before any question is known; or the question itself.

    Paper: 2.2 MemEnc
    """
    x = States(ops.dropout(ops.embed(model.embedding, tokens.ids)), tokens.lengths, token_positions(tokens.lengths))
    x = encode(ops, model.config.t5, stack, x)
    ops.record("out", x.states, x.lengths)
    return x


def encode_passages(ops: Ops, model: Model, passages: Tokens) -> States:
    """MemEnc(Passage_i), the memory, which is computed once and can be stored: [N d].

    Part of: 2.2 MemEnc
    """
    return memory_encode(ops.scope("memory"), model, model.memory, passages)


def encode_question(ops: Ops, model: Model, question: Tokens) -> States:
    """MemEnc(Q), from the memory encoder, or from a separate question encoder if the model has one (Table 3): [N d].

    Part of: 2.2 MemEnc
    """
    return memory_encode(ops.scope("question"), model, model.question or model.memory, question)


def join(ops: Ops, model: Model, question: States, passages: States, passages_per_question: Ints) -> States:
    """H_i = [MemEnc(Q); MemEnc(Passage_i)] for every passage of every question.

    Args:
        question: b questions.
        passages: the memory of the first question's passages, then of the second question's passages, and so on.
        passages_per_question: [b].

    Returns:
        K pairs, [N d].

    Paper: 2.2 H_i
    """
    owner = question_of_passages(passages_per_question)
    repeated, lengths = ops.gather_sequences(question.states, question.lengths, owner), question.lengths[owner]
    states = ops.interleave_concat(repeated, lengths, passages.states, passages.lengths)
    pairs = States(states, lengths + passages.lengths, pair_positions(model, lengths, passages.lengths))
    ops.record("pairs", pairs.states, pairs.lengths)
    return pairs


def live_encode(ops: Ops, model: Model, pairs: States) -> States:
    """LiveEnc(H_i): the last alpha of the layers, then the encoder's final norm: [N d] -> [N d].

    Paper: 2.2 LiveEnc
    """
    x = final_norm(ops, model, encode(ops, model.config.t5, model.live, pairs))
    ops.record("out", x.states, x.lengths)
    return x


def decoder_memory(ops: Ops, model: Model, question: States, pairs: States, pairs_per_question: Ints) -> States:
    """[Q; pair_1; .. pair_m], the states that the decoder attends to: [N d]. Q is MemEnc(Q) after the final norm (D4).

    Part of: 2.2 G
    """
    memory = fuse(pairs, pairs_per_question)
    if model.config.decoder_question:
        q = final_norm(ops.scope("question"), model, question)
        states = ops.interleave_concat(q.states, q.lengths, memory.states, memory.lengths)
        lengths = q.lengths + memory.lengths
        memory = States(states, lengths, token_positions(lengths))
    ops.record("decoder.memory", memory.states, memory.lengths)
    return memory


def lumen(ops: Ops, model: Model, question: Tokens, passages: States, passages_per_question: Ints) -> States:
    """[Q; LiveEnc(H_1); .. LiveEnc(H_k)], the states that the decoder attends to: [N d].

    Args:
        question: tokens of b questions.
        passages: the memory of their passages, from `encode_passages`.
        passages_per_question: [b].

    Paper: 2.2 G
    """
    q = encode_question(ops, model, question)
    pairs = live_encode(ops.scope("live"), model, join(ops, model, q, passages, passages_per_question))
    return decoder_memory(ops, model, q, pairs, passages_per_question)
