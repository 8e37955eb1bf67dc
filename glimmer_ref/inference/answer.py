"""An answer, what led to it, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..config import GlimmerConfig
from ..costs.flops import by_shapes
from ..data.inputs import Passage
from ..ops import Ops
from ..paper.glimmer import DecoderInput
from ..params.model import Decoder, Model
from ..ragged import Floats, Ints


@dataclass(frozen=True)
class Answer:
    """An answer, and what led to it.

    Args:
        text: the answer.
        ids: its tokens, without start and end; `tokens` are their strings.
        log_probability: log p of these tokens and the end, given what the decoder read.
        passages: the k passages that were considered, in retrieval order.
        retrieval: how they came into that order.
        scores: [k] their scores; None for LUMEN and FiD, which rank nothing.
        selected: [m] which of them the decoder read, in its order (GLIMMER: best first).
        macs: multiply-adds by component of the paper's algorithm on what was read, as `MacCounter` counts them.
            `memory` is there where passages were encoded for this answer; what was stored costs nothing any more.
        macs_done: those that the backend made. They differ where it has another form of a stage: numba's decoder
            may attend to the memory itself, and then makes no `cross` keys and values, see `ops.cpu.executed_macs`.
        seconds: wall time by component, which add up to all of it: the stages of `macs`, `head` being in `decoder`;
            `retrieval`, of k from all passages; `text`, strings to tokens; `read`, stored memory from disk;
            and `other`.
        stored: the passages came with their memory. FiD encodes their text and does not use it.
        batch: how many questions `macs`, `macs_done` and `seconds` are of, together.
        question_tokens, passage_tokens: how many were read of the question, and of each of the k passages.
        attention: [t 1+m] how much each answer token (and the end) attended to the question and to
            each selected pair, mean over layers and heads; None unless asked for.
        precision: what matrix products were computed in: "float32", "bfloat16", "int8" or "float64".
        substituted: words of the question, and of passages that came as text, that a text adapter read as another word
            of the vocabulary, with that word. `ids` are those of the other word, `text` and `tokens` have the word
            itself.
        unknown: words that were read as unknown. Those of passages are listed only where there is a text adapter.
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

    @property
    def undecided(self) -> bool:
        """Whether all scores are equal, so that the order of retrieval decided which passages were read."""
        return undecided(self.scores, self.selected)


def undecided(scores: Sequence[float] | np.ndarray | None, selected: Sequence[Any]) -> bool:
    """Whether all scores are equal, though not all passages were read."""
    return scores is not None and len(selected) < len(scores) and all(x == scores[0] for x in scores)


def by_stage(macs: Mapping[str, int]) -> dict[str, int]:
    """A count with each stage's attention added to the stage."""
    result: dict[str, int] = {}
    for name, value in macs.items():
        stage = name.removesuffix(".attention")
        result[stage] = result.get(stage, 0) + value
    return result


def steps_of(config: GlimmerConfig, ids: Sequence[list[int]]) -> int:
    """Steps of a decoder that wrote these answers side by side, each until its end or as long as it may."""
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
    """What some questions cost together, by component; passages that were stored cost nothing any more.

    Args:
        question, passages, selected: of each question its tokens, those of each passage, and which are read.
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
    """What a run cost that would by the paper's algorithm have cost `macs`.

    Args:
        ops: those of the run, with its instruments around them. What instruments observe is the algorithm itself.
        read: [b] tokens that each question's decoder attended to, in so many steps.
    """
    own = ops.hook("decoder_macs")
    other = NotImplemented if own is None else own(config.t5, decoder, read, config.answer_tokens, steps)
    return {name: n for name, n in {**macs, **({} if other is NotImplemented else other)}.items() if n}


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
    """What a batch cost, in the words of `Answer`. See `together` and `done`."""
    steps = steps_of(model.config, ids)
    macs = together(model.config, system, question, passages, got.selected, steps, stored)
    macs_done = done(ops, model.config, model.decoder, macs, got.memory.lengths, steps)
    return {"macs": macs, "macs_done": macs_done, "stored": stored, "batch": len(ids)}


def compare(config: GlimmerConfig, answer: Answer) -> dict[str, dict[str, int]]:
    """Multiply-adds by stage of each system's algorithm, had it alone given this answer from the same k passages.

    `memory` is what encoding the passages costs, or once cost, before LUMEN and GLIMMER. GLIMMER reads the passages
    that it selected; where another system answered, the first m.
    """
    first = range(min(config.m, len(answer.passages)))
    best = first if answer.scores is None else answer.selected
    steps = steps_of(config, [answer.ids])
    return {
        system: by_stage(by_shapes(config, system, answer.question_tokens, answer.passage_tokens, steps, best))
        for system in ("glimmer", "lumen", "fid")
    }
