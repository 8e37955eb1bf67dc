"""Which datapoints are worth learning from: those whose answers the knowledge source can be seen to prove.

Section 4.1 takes the relevance filter of Hofstätter et al. 2022 (Multi-Task Retrieval-Augmented Text
Generation with Relevance Sampling): a pair of question and answer is learnt from only where the
confidence that the knowledge base holds its proof reaches a threshold. In KILT that confidence is the
BLEU between a task's own evidence and the place that KILT mapped it to.

The paper does not say which threshold, and we know of no place that does. Ours is 0.5: below it KILT
drops an output from its dev and test sets, and keeps it in training (Petroni et al. 2021, section 2),
so that what is learnt from is what is judged. A stricter reading, that retrieval must have found the
proof too, is `retrieved`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import InputError
from .kilt import Datapoint, Output

THRESHOLD = 0.5


def _certain(output: Output) -> float:
    """The least BLEU of an output's places, all of which are needed; 0 where there is none."""
    return min((1.0 if p.bleu_score is None else p.bleu_score for p in output.provenance or ()), default=0.0)


def confidence(datapoint: Datapoint) -> float:
    """How sure it is that the knowledge source proves one of a datapoint's outputs, 0 to 1.

    That of the output that is surest; an output is as sure as the least of its places. A place without
    a score was given, not mapped, and is certain. Without any provenance nothing is sure.
    """
    return max(map(_certain, datapoint.outputs), default=0.0)


def check_threshold(threshold: float) -> None:
    """Hold a threshold against what a confidence can be.

    Raises:
        InputError: it is not above 0 and at most 1.
    """
    if not 0 < threshold <= 1:
        raise InputError("relevance: threshold", "above 0 and at most 1", str(threshold))


def relevant(datapoint: Datapoint, threshold: float = THRESHOLD) -> bool:
    """Is it sure enough that the knowledge source proves this? Without any provenance it never is.

    Raises:
        InputError: as `check_threshold`.

    Paper: 4.1 relevance filter
    """
    check_threshold(threshold)
    return confidence(datapoint) >= threshold


def retrieved(gold: Iterable[str], candidates: Sequence[str], k: int) -> bool:
    """Is one of the passages that prove the answer among the first k that were retrieved?

    Raises:
        InputError: k below 1.
    """
    if k < 1:
        raise InputError("relevance: k", "at least 1", str(k))
    return not set(gold).isdisjoint(candidates[:k])
