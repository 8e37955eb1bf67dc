"""Section 2.1, Fusion-in-Decoder: encode each question-passage pair, then let the decoder read all pairs."""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from ..ops import Ops
from ..params.model import Model
from ..ragged import Ints, States, Tokens, offsets, token_positions
from .t5 import encode


def question_of_passages(passages_per_question: Ints) -> Ints:
    """The question of each passage: [b] -> [K]. For three passages and then two, it is 0 0 0 1 1.

    Part of: 2.1 Enc
    """
    return np.repeat(np.arange(len(passages_per_question)), passages_per_question)


def pair_positions(model: Model, question_lengths: Ints, passage_lengths: Ints) -> Ints:
    """Positions of the tokens of [Q; P]. P follows Q or starts at a fixed position (D2): [K], [K] -> [N].

    Raises:
        InputError: a question that is longer than the fixed offset.

    Part of: 2.1 Enc
    """
    offset = model.config.passage_offset
    if offset is not None and question_lengths.max(initial=0) > offset:
        raise InputError(
            "join", f"questions of at most passage_offset={offset} tokens", str(question_lengths.max()), "shorten it"
        )
    lengths = np.stack([question_lengths, passage_lengths], axis=1).ravel()
    starts = np.zeros_like(lengths)
    starts[1::2] = question_lengths if offset is None else offset
    return token_positions(lengths, start=starts)


def pair_tokens(model: Model, question: Tokens, passages: Tokens, passages_per_question: Ints) -> tuple[Tokens, Ints]:
    """The text [Q; Passage_i] of every pair, and the positions of its tokens.

    Part of: 2.1 Enc
    """
    owner = question_of_passages(passages_per_question)
    ids = np.concatenate([part for i, q in enumerate(owner) for part in (question[q], passages[i])])
    lengths = question.lengths[owner] + passages.lengths
    return Tokens(ids, lengths), pair_positions(model, question.lengths[owner], passages.lengths)


def final_norm(ops: Ops, model: Model, x: States) -> States:
    """The encoder's final RMSNorm, once, after its last layer (D1): [N d] -> [N d].

    Part of: 2.1 Enc
    """
    normed = ops.rms_norm(x.states, model.final_norm, model.config.t5.layer_norm_epsilon)
    return States(ops.dropout(normed), x.lengths, x.positions)


def encode_pairs(ops: Ops, model: Model, question: Tokens, passages: Tokens, passages_per_question: Ints) -> States:
    """Enc(Q; Passage_i): all layers of the encoder over the text of each pair.

    Args:
        question: b questions.
        passages: the passages of the first question, then the passages of the second question, and so on.
        passages_per_question: [b].

    Returns:
        K pairs, [N d].

    Paper: 2.1 Enc
    """
    tokens, positions = pair_tokens(model, question, passages, passages_per_question)
    x = States(ops.dropout(ops.embed(model.embedding, tokens.ids)), tokens.lengths, positions)
    for name, stack in (("memory", model.memory), ("live", model.live)):
        x = encode(ops.scope(name), model.config.t5, stack, x)
    x = final_norm(ops, model, x)
    ops.record("out", x.states, x.lengths)
    return x


def fuse(pairs: States, pairs_per_question: Ints) -> States:
    """[pair_1; .. pair_k]: the pairs of each question as one sequence. No data moves, as pairs are stored end to end.

    Part of: 2.1 G
    """
    lengths = np.add.reduceat(pairs.lengths, offsets(pairs_per_question)[:-1])
    return States(pairs.states, lengths, pairs.positions)


def fid(ops: Ops, model: Model, question: Tokens, passages: Tokens, passages_per_question: Ints) -> States:
    """[Enc(Q; Passage_1); .. Enc(Q; Passage_k)], the states that the decoder attends to: b sequences, [N d].

    Paper: 2.1 G
    """
    pairs = encode_pairs(ops.scope("encoder"), model, question, passages, passages_per_question)
    memory = fuse(pairs, passages_per_question)
    ops.record("decoder.memory", memory.states, memory.lengths)
    return memory
