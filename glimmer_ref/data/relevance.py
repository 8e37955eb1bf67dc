"""The relevance filter: training uses only datapoints whose answers the knowledge source proves.

Section 4.1 of the paper uses the relevance filter of Hofstätter et al. 2022 (Multi-Task Retrieval-Augmented Text
Generation with Relevance Sampling). A question with an answer is used for training only if the confidence that the
knowledge base proves the answer reaches a threshold. In KILT, this confidence is the BLEU score between the evidence in
the original task and the place to which KILT mapped it.

Neither the paper nor any other publication that we know states the threshold. We use 0.5: KILT drops outputs below it
from its dev and test sets, but keeps them in its training sets (Petroni et al. 2021, section 2). So training and
evaluation use the same kind of datapoints. `retrieved` is another filter: retrieval must have found a gold passage.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import InputError
from .kilt import Datapoint, Output

THRESHOLD = 0.5


def _certain(output: Output) -> float:
    """The minimum BLEU score of an output's places, since all of them are needed; 0 if there are none."""
    return min((1.0 if p.bleu_score is None else p.bleu_score for p in output.provenance or ()), default=0.0)


def confidence(datapoint: Datapoint) -> float:
    """The confidence that the knowledge source proves one of a datapoint's outputs, 0 to 1.

    It is the maximum over the outputs, where each output has the minimum over its places. A place without a score comes
    from the task itself, not from KILT's mapping, and counts as 1. A datapoint without any provenance counts as 0.
    """
    return max(map(_certain, datapoint.outputs), default=0.0)


def check_threshold(threshold: float) -> None:
    """Check a threshold.

    Raises:
        InputError: the threshold is not above 0 and at most 1.
    """
    if not 0 < threshold <= 1:
        raise InputError("relevance: threshold", "above 0 and at most 1", str(threshold))


def relevant(datapoint: Datapoint, threshold: float = THRESHOLD) -> bool:
    """Whether the confidence of a datapoint reaches the threshold.

    Raises:
        InputError: as `check_threshold`.

    Paper: 4.1 relevance filter
    """
    check_threshold(threshold)
    return confidence(datapoint) >= threshold


def retrieved(gold: Iterable[str], candidates: Sequence[str], k: int) -> bool:
    """Whether a gold passage is among the first k candidates.

    Raises:
        InputError: k is below 1.
    """
    if k < 1:
        raise InputError("relevance: k", "at least 1", str(k))
    return not set(gold).isdisjoint(candidates[:k])
