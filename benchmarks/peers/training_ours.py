"""A training step by this package: the loss on a tape, and the gradient of every weight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from glimmer_ref.bench.measure import Job
from glimmer_ref.instruments import Tape
from glimmer_ref.ops import bind
from glimmer_ref.paper.distillation import Distillation, Loss
from glimmer_ref.paper.lumen import encode_passages
from glimmer_ref.paper.systems import loss
from glimmer_ref.params.model import leaves, prepare_params, random

from .batch import Batch, batch, config


class Training:
    """Weights in float32. Each step prepares them anew, since an optimizer would have changed them."""

    def __init__(self, size: str, threads: int) -> None:
        self.ops, self.threads = bind("numba"), threads
        self.model = random(config(size), 0, "float32")

    def about(self) -> dict[str, Any]:
        return {"numpy": np.__version__, "threads": self.threads}

    def step(self, b: Batch) -> tuple[Loss, dict[str, np.ndarray]]:
        """L_LM + L_pdist of a batch, and its gradients."""
        tape, model = Tape(self.ops), prepare_params(self.ops, self.model)
        passages = encode_passages(tape, model, b.passages)
        got = loss(tape, model, "glimmer", b.question, passages, b.counts, b.target, b.m, Distillation())
        return got, tape.gradients(got.output_grads, leaves(model))

    def job(self, workload: str) -> Job:
        b = batch(workload, self.model.config.t5.vocab_size)

        def run() -> None:
            self.step(b)

        return run

    def check(self, path: str) -> list[str]:
        """The loss and every weight's gradient, of a small batch."""
        got, gradients = self.step(batch("step,b=2,k=4,m=2", self.model.config.t5.vocab_size))
        np.savez(path, loss=np.float64(got.value), **gradients)
        return ["loss", *gradients]


def open_(size: str, precision: str, folder: Path, threads: int) -> Training:
    """The engine; its random weights are the same for every engine."""
    return Training(size, threads)
