"""The memory of a step stays below its formula, which is not far above."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from models import NUMPY, T5, config, tokens

from glimmer_ref.config import T5Config
from glimmer_ref.params.model import leaves, random
from glimmer_ref.training.adafactor import Adafactor
from glimmer_ref.training.batches import Batch
from glimmer_ref.training.recipe import Stage
from glimmer_ref.training.step import Learner, learn
from glimmer_ref.training.step_bytes import step_bytes

WIDE = replace(T5, vocab_size=300, d_model=32, d_kv=8, d_ff=64, num_heads=4)
RELU = replace(WIDE, feed_forward_proj="relu", d_ff=128)
LOGITS = replace(T5, vocab_size=2000)


def batch(b: int, k: int, question: int, passage: int, target: int, vocab: int) -> Batch:
    """Ragged: lengths a third around those that are given."""
    rng = np.random.default_rng(0)

    def lengths(n: int, mean: int) -> list[int]:
        return rng.integers(mean - mean // 3, mean + mean // 3 + 1, n).tolist()

    q, p, t = (
        tokens(lengths(n, m), seed, vocab) for seed, (n, m) in enumerate(((b, question), (b * k, passage), (b, target)))
    )
    return Batch(q, p, np.full(b, k), t, [[0]] * b, [False] * b)


CASES: list[tuple[T5Config, dict[str, Any], str, dict[str, Any]]] = [
    (WIDE, {}, "glimmer", {"dropout": 0.1}),
    (RELU, {}, "glimmer", {}),
    (LOGITS, {}, "glimmer", {"lambda_": 0.0}),
    (LOGITS, {}, "lumen", {"dropout": 0.1}),
    (WIDE, {}, "fid", {}),
    (WIDE, {}, "glimmer", {"through_p_lm": True, "accumulate": 2}),
    (WIDE, {"reranker": "separate"}, "glimmer", {"through_p_lm": True}),
    (WIDE, {"question_encoder": "separate"}, "glimmer", {"frozen": ("memory", "embedding")}),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_a_step_stays_below_its_formula(case: int) -> None:
    """And takes two fifths of it at least: from 0.51 to 0.79 were seen, and to 0.84 with other sizes."""
    t5, extra, system, change = CASES[case]
    settings, shape = config(t5=t5, **extra), [(4, 6, 8, 20, 4), (2, 5, 5, 60, 12)][case % 2]
    weights = {name: np.array(x, np.float32) for name, x in leaves(random(settings, 0, "float32")).items()}
    still = frozenset(n for n in weights if n.split(".")[0] in change.get("frozen", ()))
    stage = Stage(**{"steps": 1, "batch": shape[0], "k": shape[1], "m": 2, "rate": 1e-3, **change})
    learner, optimizer = Learner(NUMPY, settings, system, stage, still), Adafactor()
    moments, some = optimizer.start(weights), batch(*shape, settings.t5.vocab_size)

    def step() -> None:
        learn(learner, optimizer, weights, moments, some, np.random.default_rng(0), 1e-3)

    step()  # what stays, such as caches, is not the step's
    tracemalloc.start()
    try:
        step()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert step_bytes(learner, some) / 2.5 <= peak <= step_bytes(learner, some)
