"""Section 2.1, Fusion-in-Decoder: encode every question-passage pair, let the decoder read all of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import InputError
from ..ops import Ops
from ..params.model import Model
from ..ragged import Array, Ints, States, Tokens, token_positions
from .t5 import cross_keys_values, decode, encode


def owners(counts: Ints) -> Ints:
    """Which question each passage belongs to: [b] passages a question -> [K], as 0 0 0 1 1 .."""
    return np.repeat(np.arange(len(counts)), counts)


def pair_positions(model: Model, question_lengths: Ints, passage_lengths: Ints) -> Ints:
    """Places of the tokens of [Q; P]: P follows Q, or starts at a fixed offset (D2): [K], [K] -> [N]."""
    offset = model.config.passage_offset
    if offset is not None and question_lengths.max(initial=0) > offset:
        raise InputError(
            "join", f"questions of at most passage_offset={offset} tokens", str(question_lengths.max()), "shorten it"
        )
    lengths = np.stack([question_lengths, passage_lengths], axis=1).ravel()
    starts = np.zeros_like(lengths)
    starts[1::2] = question_lengths if offset is None else offset
    return token_positions(lengths, start=starts)


def pair_tokens(model: Model, question: Tokens, passages: Tokens, counts: Ints) -> tuple[Tokens, Ints]:
    """The text [Q; P_i] of every pair, and its tokens' positions."""
    owner = owners(counts)
    ids = np.concatenate([part for i, q in enumerate(owner) for part in (question[q], passages[i])])
    lengths = question.lengths[owner] + passages.lengths
    return Tokens(ids, lengths), pair_positions(model, question.lengths[owner], passages.lengths)


def final_norm(ops: Ops, model: Model, x: States) -> States:
    """The encoder's final RMSNorm, once, after its last layer (D1)."""
    normed = ops.rms_norm(x.states, model.final_norm, model.config.t5.layer_norm_epsilon)
    return States(ops.dropout(normed), x.lengths, x.positions)


def encode_pairs(ops: Ops, model: Model, question: Tokens, passages: Tokens, counts: Ints) -> States:
    """Enc(Q; Passage_i): all of the encoder's layers over the text of each pair.

    Args:
        question: b questions.
        passages: the passages of all questions, one question's after the other's.
        counts: [b] passages of each question.
    """
    tokens, positions = pair_tokens(model, question, passages, counts)
    x = States(ops.dropout(ops.embed(model.embedding, tokens.ids)), tokens.lengths, positions)
    for name, stack in (("memory", model.memory), ("live", model.live)):
        x = encode(ops.at(name), model.config.t5, stack, x)
    x = final_norm(ops, model, x)
    ops.mark("out", x.states, x.lengths)
    return x


def fuse(pairs: States, counts: Ints) -> States:
    """[ .. ; .. ]: a question's pairs as one flat sequence. Stored end to end, they already are."""
    lengths = np.add.reduceat(pairs.lengths, np.concatenate([[0], np.cumsum(counts)[:-1]]))
    return States(pairs.states, lengths, pairs.positions)


def fid(ops: Ops, model: Model, question: Tokens, passages: Tokens, counts: Ints) -> States:
    """[Enc(Q; Passage_1); .. Enc(Q; Passage_k)], what the decoder attends to: [N d] of b questions.

    Paper: 2.1 G
    """
    memory = fuse(encode_pairs(ops.at("encoder"), model, question, passages, counts), counts)
    ops.mark("decoder.memory", memory.states, memory.lengths)
    return memory


class Answer(NamedTuple):
    """One generated answer: its ids without start and end, and log p(ids, end)."""

    ids: list[int]
    log_probability: float


def greedy(ops: Ops, model: Model, memory: States, limit: int) -> list[Answer]:
    """Dec[memory], the likeliest token at each step until EOS or `limit` tokens (D14).

    All b questions step together; those that are done are ignored from then on.

    Paper: 4.1 greedy decoding
    """
    t5, b = model.config.t5, len(memory)
    cross, past = cross_keys_values(ops.at("cross"), t5, model.decoder, memory, limit), None
    ids = np.full(b, t5.decoder_start_token_id, np.int32)
    one, log_p, done = np.ones(b, np.int64), np.zeros(b), np.zeros(b, bool)
    answers: list[list[int]] = [[] for _ in range(b)]
    told = []  # log p of each step's tokens, fetched in the end, and who was done before
    for step in range(limit):
        here = ops.at("decoder").at(f"step_{step}")
        logits, past = decode(here, t5, model.embedding, model.decoder, Tokens(ids, one), past, cross)
        ids = ops.argmax(logits).astype(np.int32)
        told.append((ops.log_likelihood(logits, ids, one), done.copy()))
        done |= ids == t5.eos_token_id
        for answer, token, over in zip(answers, ids, done, strict=True):
            if not over:
                answer.append(int(token))
        if done.all():
            break
    for step_log_p, before in told:
        log_p += np.where(before, 0, ops.to_host(step_log_p))
    return [Answer(answer, float(p)) for answer, p in zip(answers, log_p, strict=True)]


def log_likelihood(ops: Ops, model: Model, memory: States, target: Tokens) -> Array:
    """log p(target | memory), summed over its tokens, teacher-forced: [b].

    Args:
        target: b answers, EOS included where it is to count.
    """
    t5 = model.config.t5
    shifted = target.ids.copy()
    shifted[1:] = target.ids[:-1]
    shifted[np.cumsum(target.lengths) - target.lengths] = t5.decoder_start_token_id
    cross = cross_keys_values(ops.at("cross"), t5, model.decoder, memory, int(target.lengths.max(initial=1)))
    logits, _ = decode(
        ops.at("decoder"), t5, model.embedding, model.decoder, Tokens(shifted, target.lengths), None, cross
    )
    return ops.log_likelihood(logits, target.ids, target.lengths)


class LossTerm(NamedTuple):
    """One summand of a loss.

    Args:
        value: the summand itself.
        result: the result of an operation that it is linear in.
        cotangent: d value / d result, what gradients start from.
    """

    value: float
    result: Array
    cotangent: np.ndarray


def linear_term(ops: Ops, result: Array, cotangent: np.ndarray) -> LossTerm:
    """sum(result * cotangent): [b], [b]."""
    host = ops.to_host(result)
    return LossTerm(float((host.astype(np.float64) * cotangent).sum()), result, cotangent.astype(host.dtype))


def language_loss(ops: Ops, model: Model, memory: States, target: Tokens) -> LossTerm:
    """-log p(target | memory), the mean over all target tokens (D16).

    Args:
        memory: what the decoder reads for each of b questions.
        target: b answers, EOS included.

    Raises:
        InputError: another number of answers.

    Paper: 4.1 language modeling loss
    """
    if len(target) != len(memory):
        raise InputError("language_loss", f"one target for each of {len(memory)} questions", str(len(target)))
    log_p = log_likelihood(ops, model, memory, target)
    return linear_term(ops, log_p, np.full(len(target), -1 / target.ids.size))
