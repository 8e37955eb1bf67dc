"""The batch for timing training steps: random questions, passages and answers of different lengths."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from glimmer_ref.bench.workload import shape
from glimmer_ref.config import GlimmerConfig
from glimmer_ref.errors import InputError
from glimmer_ref.ragged import Ints, Tokens

FIELDS = {"b": 16, "k": 8, "m": 4, "n_q": 10, "n_p": 20, "n_t": 3}


class Batch(NamedTuple):
    """The input of a step: b questions, b k passages, b answers, and how many passages the decoder reads."""

    question: Tokens
    passages: Tokens
    target: Tokens
    counts: Ints
    m: int


def config(size: str) -> GlimmerConfig:
    """Half of the encoder is live, two thirds of that before the score, as in the bundled model."""
    t5 = shape(size).t5
    return GlimmerConfig.from_proportions(t5, "1/2", "2/3" if t5.num_layers % 6 == 0 else "1/2", score_norm=True)


def parse(workload: str) -> dict[str, int]:
    """Parse a workload such as "step,b=16,k=8".

    Raises:
        InputError: another kind of workload, or an unknown field.
    """
    kind, *words = workload.split(",")
    given = dict(word.split("=") for word in words)
    if kind != "step" or set(given) - set(FIELDS):
        raise InputError(workload, f"step, with some of {', '.join(FIELDS)}", workload)
    return {**FIELDS, **{name: int(x) for name, x in given.items()}}


def batch(workload: str, vocabulary: int) -> Batch:
    """A batch whose lengths are within a quarter of the workload's; the same for every engine."""
    n, rng = parse(workload), np.random.default_rng(0)

    def tokens(count: int, mean: int) -> Tokens:
        spread = max(1, mean // 4)
        return Tokens.of(
            [rng.integers(2, vocabulary, x) for x in rng.integers(mean - spread, mean + spread + 1, count)]
        )

    counts = np.full(n["b"], n["k"])
    return Batch(tokens(n["b"], n["n_q"]), tokens(n["b"] * n["k"], n["n_p"]), tokens(n["b"], n["n_t"]), counts, n["m"])
