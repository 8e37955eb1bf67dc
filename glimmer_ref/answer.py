"""An answer, what led to it, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .arrays import Arriving, Ints, States, Tokens
from .config import GlimmerConfig
from .paper.flops import by_shapes
from .text.inputs import Passage


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
        macs: multiply-adds by component, what `Count` would hear.
        seconds: wall time inside the operations by component; `read` is what was waited for stored memory.
        attention: [t 1+m] how much each answer token (and the end) attended to the question and to
            each selected pair, mean over layers and heads; None unless asked for.
        precision: what matrix products were computed in: "float32", "bfloat16", "int8" or "float64".
        borrowed: words of the question, and of passages that came as text, which the vocabulary does not hold, each
            with the name that stood for it; `ids` are that name's, `text` and `tokens` give the word back.
        unknown: those that stayed unknown. Of passages they are told only where the model's names can be lent.
    """

    text: str
    ids: list[int]
    tokens: list[str]
    log_probability: float
    system: str
    passages: list[Passage]
    retrieval: str
    scores: np.ndarray | None
    selected: list[int]
    macs: dict[str, int] = field(repr=False)
    seconds: dict[str, float] = field(repr=False)
    attention: np.ndarray | None = field(default=None, repr=False)
    precision: str = "float32"
    borrowed: dict[str, str] = field(default_factory=dict, repr=False)
    unknown: list[str] = field(default_factory=list, repr=False)

    @property
    def undecided(self) -> bool:
        """Has every passage the same score, so that retrieval's order chose those that were read?"""
        return undecided(self.scores, self.selected)


def undecided(scores: Sequence[float] | np.ndarray | None, selected: Sequence[Any]) -> bool:
    """Are all scores the same, though not all passages were read?"""
    return scores is not None and len(selected) < len(scores) and all(x == scores[0] for x in scores)


def by_stage(macs: Mapping[str, int]) -> dict[str, int]:
    """A count with each stage's attention added to the stage."""
    result: dict[str, int] = {}
    for name, value in macs.items():
        stage = name.removesuffix(".attention")
        result[stage] = result.get(stage, 0) + value
    return result


def together(
    config: GlimmerConfig,
    system: str,
    question: Tokens,
    passages: Tokens | States | Arriving,
    counts: Ints,
    selected: list[Ints],
    steps: int,
    stored: bool,
) -> dict[str, int]:
    """What some questions cost together, by component; passages that were stored cost nothing any more."""
    total: dict[str, int] = {}
    for n, lengths, best in zip(
        question.lengths, np.split(passages.lengths, np.cumsum(counts)[:-1]), selected, strict=True
    ):
        for name, macs in by_shapes(config, system, int(n), lengths.tolist(), steps, best.tolist()).items():
            if name.split(".")[0] != "memory" or not stored:
                total[name] = total.get(name, 0) + macs
    return total
