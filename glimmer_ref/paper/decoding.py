"""Dec[..] of all three systems (2.1, 2.2, 3.1), greedy decoding and the language modeling loss (4.1).

In the paper's G = Dec[..], the functions `fid`, `lumen` and `glimmer` return what is in the brackets, as `memory`.
Dec[..] itself is `greedy(ops, model, memory, limit)`, which writes the answer. For training, `log_likelihood` computes
the log-probability of a given answer instead.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import InputError
from ..ops import Ops
from ..params.model import Model
from ..ragged import Array, States, Tokens
from .t5 import KVCache, cross_keys_values, decode


class Decoded(NamedTuple):
    """A generated answer: its token ids without start and end, and the log-probability of these ids and the end."""

    ids: list[int]
    log_probability: float


def greedy(ops: Ops, model: Model, memory: States, limit: int) -> list[Decoded]:
    """Dec[memory], the likeliest token at each step until EOS or `limit` tokens (D14).

    All b questions step together. The tokens of a question are ignored after its EOS.

    Args:
        memory: the states that the decoder attends to, b flat sequences.
        limit: the most tokens to write.

    Paper: 4.1 greedy decoding
    """
    t5, b = model.config.t5, len(memory)
    cache = KVCache.empty(b, capacity=limit)
    cross = cross_keys_values(ops.scope("cross"), t5, model.decoder, memory, cache)
    ids = np.full(b, t5.decoder_start_token_id, np.int32)
    one, log_p, done = np.ones(b, np.int64), np.zeros(b), np.zeros(b, bool)
    answers: list[list[int]] = [[] for _ in range(b)]
    steps = []  # of each step: log p of its tokens, and which questions had ended before it
    for step in range(limit):
        here = ops.scope("decoder").scope(f"step_{step}")
        logits, cache = decode(here, t5, model.embedding, model.decoder, Tokens(ids, one), cache, cross)
        ids = ops.argmax(logits).astype(np.int32)
        steps.append((ops.log_likelihood(logits, ids, one), done.copy()))
        done |= ids == t5.eos_token_id
        for answer, token, over in zip(answers, ids, done, strict=True):
            if not over:
                answer.append(int(token))
        if done.all():
            break
    # The copies from the device come last, because each copy waits for the device to finish.
    for step_log_p, before in steps:
        log_p += np.where(before, 0, ops.to_host(step_log_p))
    return [Decoded(answer, float(p)) for answer, p in zip(answers, log_p, strict=True)]


def log_likelihood(ops: Ops, model: Model, memory: States, target: Tokens) -> Array:
    """log p(target | memory), summed over its tokens, teacher-forced: [b].

    Args:
        target: b answers. Include EOS if its probability is to count.

    Part of: 4.1 language modeling loss
    """
    t5 = model.config.t5
    shifted = target.ids.copy()
    shifted[1:] = target.ids[:-1]
    shifted[np.cumsum(target.lengths) - target.lengths] = t5.decoder_start_token_id
    cache = KVCache.empty(len(target), capacity=int(target.lengths.max(initial=1)))
    cross = cross_keys_values(ops.scope("cross"), t5, model.decoder, memory, cache)
    tokens = Tokens(shifted, target.lengths)
    logits, _ = decode(ops.scope("decoder"), t5, model.embedding, model.decoder, tokens, cache, cross)
    return ops.log_likelihood(logits, target.ids, target.lengths)


class LossTerm(NamedTuple):
    """One term of a loss. It is a linear function of the result of one operation.

    Args:
        value: the value of the term.
        result: the result of the operation.
        cotangent: d value / d result, the gradient with which backpropagation starts.
    """

    value: float
    result: Array
    cotangent: np.ndarray


def linear_term(ops: Ops, result: Array, cotangent: np.ndarray) -> LossTerm:
    """The loss term sum(result * cotangent): [b], [b].

    Part of: 4.1 language modeling loss
    """
    host = ops.to_host(result)
    return LossTerm(float((host.astype(np.float64) * cotangent).sum()), result, cotangent.astype(host.dtype))


def language_loss(ops: Ops, model: Model, memory: States, target: Tokens) -> LossTerm:
    """-log p(target | memory), the mean over all target tokens (D16).

    Args:
        memory: the states that the decoder attends to, a sequence for each of b questions.
        target: b answers, EOS included.

    Raises:
        InputError: the number of answers is not b.

    Paper: 4.1 language modeling loss
    """
    if len(target) != len(memory):
        raise InputError("language_loss", f"one target for each of {len(memory)} questions", str(len(target)))
    log_p = log_likelihood(ops, model, memory, target)
    return linear_term(ops, log_p, np.full(len(target), -1 / target.ids.size))
