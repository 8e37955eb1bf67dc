"""An answer, the passages and scores that led to it, and its cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..config import GlimmerConfig
from ..costs.flops import by_shapes
from ..data.inputs import Passage
from ..errors import InputError
from ..ops import Ops
from ..paper.glimmer import DecoderInput
from ..params.model import Decoder, Model
from ..ragged import Floats, Ints


@dataclass(frozen=True)
class Answer:
    """An answer, with the passages and scores that led to it, and its cost.

    Args:
        text: the answer.
        ids: its token ids, without start and end. `tokens` are their strings.
        log_probability: log p of these tokens and the end, given the question and the selected passages.
        system: "glimmer", "lumen" or "fid".
        passages: the k passages that were considered, in retrieval order.
        retrieval: the rule that gave this order.
        scores: [k] the scores of the passages; None for LUMEN and FiD, which do not rank.
        selected: [m] indices of the passages that the decoder read, in the order of reading (GLIMMER: best first).
        macs: multiply-adds of the paper's algorithm for each component, as `MacCounter` counts them. The component
            `memory` occurs only if the passages were encoded for this answer; stored memory costs nothing here.
        macs_done: multiply-adds that the backend really made. They differ from `macs` if the backend computes a stage
            in another way. For example, numba's decoder may attend to the memory directly, and then it makes no
            `cross` keys and values, see `ops.cpu.executed_macs`.
        seconds: wall time for each component. The components add up to the total time. They are the stages of `macs`
            (the time of `head` is part of `decoder`); `retrieval`, finding k of all passages; `text`, turning
            strings into tokens; `read`, reading stored memory from disk; and `other`.
        stored: whether the passages came with stored memory. FiD does not use it, but encodes their text.
        batch: the number of questions that share the figures `macs`, `macs_done` and `seconds`.
        question_tokens, passage_tokens: the number of tokens of the question, and of each of the k passages.
        attention: [t 1+m] the share of attention from each answer token (and the end) to the question and to each
            selected pair, mean over layers and heads; None unless requested.
        precision: the precision of matrix products: "float32", "bfloat16", "int8" or "float64".
        substituted: words for which a text adapter substituted a word of the vocabulary: word -> substitute. They occur
            in the question, or in passages that were given as text. `ids` hold the substitutes; `text` and `tokens`
            hold the original words.
        unknown: words that the model read as unknown. Words of passages are listed only if there is a text adapter.
        answered: False if `text` is the model's `no_answer`, so that no passage has the answer as far as the model can
            tell. A model that has not learnt to say so always answers.
    """

    text: str
    ids: list[int]
    tokens: list[str]
    log_probability: float
    system: str
    passages: list[Passage]
    retrieval: str
    scores: Floats | None
    selected: list[int]
    macs: dict[str, int] = field(repr=False)
    macs_done: dict[str, int] = field(repr=False)
    seconds: dict[str, float] = field(repr=False)
    stored: bool
    batch: int
    question_tokens: int = field(repr=False)
    passage_tokens: list[int] = field(repr=False)
    attention: Floats | None = field(default=None, repr=False)
    precision: str = "float32"
    substituted: dict[str, str] = field(default_factory=dict, repr=False)
    unknown: list[str] = field(default_factory=list, repr=False)
    answered: bool = True

    @property
    def undecided(self) -> bool:
        """Whether all scores are equal and only some passages were read, so that the retrieval order selected them."""
        return undecided(self.scores, self.selected)


def undecided(scores: Sequence[float] | np.ndarray | None, selected: Sequence[Any]) -> bool:
    """Whether all scores are equal and only some passages were read."""
    return scores is not None and len(selected) < len(scores) and all(x == scores[0] for x in scores)


def by_stage(macs: Mapping[str, int]) -> dict[str, int]:
    """Multiply-adds by stage: the entry `<stage>.attention` is added to the entry `<stage>`."""
    result: dict[str, int] = {}
    for name, value in macs.items():
        stage = name.removesuffix(".attention")
        result[stage] = result.get(stage, 0) + value
    return result


def steps_of(config: GlimmerConfig, ids: Sequence[list[int]]) -> int:
    """The number of decoder steps for a batch with these answers; each ends with EOS or at the limit of tokens."""
    return min(max(map(len, ids)) + 1, config.answer_tokens)


def together(
    config: GlimmerConfig,
    system: str,
    question: Ints,
    passages: Sequence[Ints],
    selected: Sequence[Ints],
    steps: int,
    stored: bool,
) -> dict[str, int]:
    """Multiply-adds of a batch of questions by component, by the paper's algorithm.

    Args:
        question: the number of tokens of each question.
        passages: for each question, the number of tokens of each of its passages.
        selected: for each question, the indices of the passages that the decoder reads.
        steps: the number of decoder steps.
        stored: whether the passages came with stored memory, whose cost is left out.
    """
    total: dict[str, int] = {}
    for n, lengths, best in zip(question, passages, selected, strict=True):
        for name, macs in by_shapes(config, system, int(n), lengths.tolist(), steps, best.tolist()).items():
            if name.split(".")[0] != "memory" or not stored:
                total[name] = total.get(name, 0) + macs
    return total


def done(
    ops: Ops, config: GlimmerConfig, decoder: Decoder, macs: Mapping[str, int], read: Ints, steps: int
) -> dict[str, int]:
    """Multiply-adds that a run really made, given those of the paper's algorithm.

    Args:
        ops: the ops of the run, with its instruments. With any instrument
            but `Profiler`, the run follows the paper's algorithm.
        macs: multiply-adds of the paper's algorithm by component.
        read: [b] the number of tokens to which each question's decoder attended in each step.
        steps: the number of decoder steps.
    """
    decoder_macs, changed = ops.hook("decoder_macs"), NotImplemented
    if decoder_macs is not None:
        changed = decoder_macs(config.t5, decoder, read, config.answer_tokens, steps)
    return {name: n for name, n in {**macs, **({} if changed is NotImplemented else changed)}.items() if n}


def cost_of(
    ops: Ops,
    model: Model,
    system: str,
    question: Ints,
    passages: Sequence[Ints],
    got: DecoderInput,
    ids: Sequence[list[int]],
    stored: bool,
) -> dict[str, Any]:
    """The cost of a batch, with the names of fields of `Answer` as keys. See `together` and `done`."""
    steps = steps_of(model.config, ids)
    macs = together(model.config, system, question, passages, got.selected, steps, stored)
    macs_done = done(ops, model.config, model.decoder, macs, got.memory.lengths, steps)
    return {"macs": macs, "macs_done": macs_done, "stored": stored, "batch": len(ids)}


def compare(config: GlimmerConfig, answer: Answer) -> dict[str, dict[str, int]]:
    """Multiply-adds by stage that each system needs to give this answer from the same k passages.

    `memory` is the cost of encoding the passages for LUMEN and GLIMMER, even if the memory was stored. GLIMMER reads
    the passages that it selected. If another system answered, it reads the first m passages.
    """
    first = range(min(config.m, len(answer.passages)))
    best = first if answer.scores is None else answer.selected
    steps = steps_of(config, [answer.ids])
    return {
        system: by_stage(by_shapes(config, system, answer.question_tokens, answer.passage_tokens, steps, best))
        for system in ("glimmer", "lumen", "fid")
    }


def without_warnings() -> np.errstate:
    """A context without NumPy's warnings. `check_finite` reports values that are not finite, once, at the end."""
    return np.errstate(over="ignore", invalid="ignore", divide="ignore")


def check_finite(log_probabilities: list[float], scores: np.ndarray | None) -> None:
    """Raise an error if a number is not finite. A NaN in the logits of any step makes the log-probability NaN."""
    for what, numbers in (("log-probability of the answer", log_probabilities), ("scores", scores)):
        if numbers is not None and not np.isfinite(numbers).all():
            do = "check that the weights are the trained ones, or try float64, which holds larger numbers"
            raise InputError(what, "finite numbers", "NaN or an infinity", do)
