"""The inside of a run: its named arrays, and the decoder's attention to the question and the passages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import InputError
from ..instruments import Trace
from ..ops import Ops
from ..paper import decoding, lumen
from ..paper.glimmer import DecoderInput
from ..paper.systems import FROM_TEXT, SYSTEMS
from ..params.model import Model
from ..ragged import Ints, Tokens, offsets


def trace_ids(
    ops: Ops,
    model: Model,
    question: Sequence[int],
    passages: Sequence[Sequence[int]],
    target: Sequence[int] | None = None,
    system: str = "glimmer",
    m: int | None = None,
    only: str | None = None,
) -> dict[str, np.ndarray]:
    """Every named array of one run from token ids, in forward order.

    Args:
        question, passages: ids as the model reads them, including the end of the sequence.
        target: ids of an answer for teacher forcing. The trace then has its logits as `decoder.logits` [t v]. Without a
            target, the decoder writes its own answer, with `decoder.step_0.logits` and so on.
        m: the number of passages to select. The default is the model's own m, or all passages if there are fewer.
        only: a regular expression; the trace has only the names that match it.

    Raises:
        InputError: ids outside the vocabulary, an empty sequence, m > k.
    """
    size = model.config.t5.vocab_size
    q, p = Tokens.of([question], "question"), Tokens.of(passages, "passages")
    for what, tokens in (("question", q), ("passages", p), ("target", Tokens.of([target] if target else [], "target"))):
        if tokens.ids.size and not 0 <= tokens.ids.min() <= tokens.ids.max() < size:
            raise InputError(what, f"ids from 0 to {size - 1}", f"ids from {tokens.ids.min()} to {tokens.ids.max()}")
    if not len(p):
        raise InputError("passages", "at least one", "none")
    if system not in SYSTEMS:
        raise InputError("system", f"one of {', '.join(SYSTEMS)}", repr(system))
    trace, k = Trace(ops, only), len(p)
    inputs = p if system in FROM_TEXT else lumen.encode_passages(trace, model, p)
    got = SYSTEMS[system](trace, model, q, inputs, np.array([k]), min(model.config.m, k) if m is None else m)
    if target:
        log_p = decoding.log_likelihood(trace, model, got.memory, Tokens.of([target]))
        trace.record("decoder.log_likelihood", log_p)
    else:
        answer = decoding.greedy(trace, model, got.memory, model.config.answer_tokens)[0]
        trace.record("decoder.ids", np.array(answer.ids, np.int64))
    return trace.arrays


def attention_shares(
    arrays: Mapping[str, np.ndarray],
    question_lengths: Ints,
    passage_lengths: Ints,
    passages_per_question: Ints,
    got: DecoderInput,
) -> list[np.ndarray]:
    """The share of each decoder step's attention that goes to the question and to each pair.

    Args:
        arrays: traced cross-attention probabilities, decoder.step_<t>.layer_<l>.cross_attention.probs.<question>.
        question_lengths, passage_lengths, passages_per_question: [b], [K], [b], the same as for the system.
        got: the result of the system, before decoding.

    Returns:
        For each question [t 1+m], the mean over layers and heads. Each row sums to 1.
    """
    starts, result = offsets(passages_per_question), []
    for i, selected in enumerate(got.selected):
        pairs = question_lengths[i] + passage_lengths[starts[i] + selected]
        before = got.memory.lengths[i] - pairs.sum()  # the decoder's own copy of the question, if it reads one
        owner = np.repeat(np.arange(1 + len(pairs)), [before, *pairs])
        steps: dict[str, list[np.ndarray]] = {}
        for name, probs in arrays.items():
            _, step, *_, sequence = name.split(".")
            if sequence == str(i):
                steps.setdefault(step, []).append(probs[:, 0].mean(axis=0))
        mean = [np.mean(layers, axis=0) for layers in steps.values()]
        result.append(np.stack([np.bincount(owner, weights=p, minlength=1 + len(pairs)) for p in mean]))
    return result
