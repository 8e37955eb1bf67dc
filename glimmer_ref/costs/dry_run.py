"""The cost of one question, counted in a run of the model itself with shapes instead of numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..config import GlimmerConfig
from ..instruments import MacCounter
from ..ops import Ops, shape_backend
from ..paper.decoding import greedy
from ..paper.lumen import encode_passages
from ..paper.systems import FROM_TEXT, SYSTEMS
from ..params.model import build_model
from ..ragged import Tokens, zeros


def traced_macs(
    config: GlimmerConfig,
    system: str,
    question: int,
    passages: Sequence[int],
    steps: int,
    m: int,
    tied: bool = False,
) -> dict[str, int]:
    """Multiply-adds by component of one question, for a model of any size; no weights are needed.

    Args:
        system: "glimmer", "lumen" or "fid".
        question: tokens of the question.
        passages: tokens of each passage; GLIMMER selects the first m.
        steps: decoder steps, the end of sequence included.
        tied: the head is the embedding (D18).

    Returns:
        The counts of `MacCounter`, in which `memory` is the offline part. They equal `flops.by_shapes`.
    """
    model = build_model(config, tied=tied, param=lambda _, shape: zeros(*shape))
    count = MacCounter(Ops(shape_backend))
    lengths = np.array(passages, np.int64)
    q, p = (Tokens(np.zeros(n.sum(), np.int32), n) for n in (np.array([question], np.int64), lengths))
    inputs = p if system in FROM_TEXT else encode_passages(count, model, p)
    read = SYSTEMS[system](count, model, q, inputs, np.array([len(lengths)]), m)
    greedy(count, model, read.memory, steps)
    return count.macs
