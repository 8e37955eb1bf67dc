"""A golden case: a config and a seed, from which its inputs and weights follow, and the names of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..config import GlimmerConfig
from ..params.model import Model, build_model
from ..ragged import Tokens, bfloat16
from .generate import operations, rng


@dataclass(frozen=True)
class Case:
    """One golden case, before anything is computed.

    Args:
        pins: what the case tests, in one sentence.
        decisions: the decisions in PAPER.md, D1 .., on which its values depend.
        holds: regular expressions for the names of the tensors that it expects.
        question: number of tokens of the question.
        passages: number of tokens of each passage; for "decoder", number of rows of each memory.
        target: number of tokens of each given answer.
        kind: "model" runs `system`, "gradients" computes the gradients of its training loss, "ops" runs single
            operations, "refuse" expects errors.
        system: "glimmer", "lumen" and "fid" read the question and the passages, "encoder" reads the passages, and
            "decoder" reads a memory.
        stored: "F32", or "BF16" for weights that are rounded to bfloat16.
        refusals: changes to the case, each with the error that it must cause.
    """

    name: str
    pins: str
    config: GlimmerConfig
    seed: int
    decisions: tuple[str, ...]
    holds: tuple[str, ...]
    question: int
    passages: tuple[int, ...]
    target: tuple[int, ...]
    kind: str = "model"
    system: str = "glimmer"
    tied: bool = False
    stored: str = "F32"
    refusals: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)

    @property
    def k(self) -> int:
        """Number of passages."""
        return len(self.passages)

    @property
    def m(self) -> int:
        """Number of passages that the decoder reads."""
        return self.config.m if self.system == "glimmer" else self.k

    @property
    def decodes(self) -> bool:
        """Whether it runs a decoder."""
        return self.kind == "model" and self.system != "encoder"

    @property
    def learns(self) -> bool:
        """Whether it has gradients."""
        return self.kind == "gradients"

    def needs(self, weight: str) -> bool:
        """Whether its system reads this weight."""
        whole = ("question.", "memory.", "live.", "reranker.", "embedding", "final_norm", "decoder.")
        parts = {
            "encoder": ("embedding", "memory.", "final_norm"),
            "decoder": ("embedding", "decoder."),
            "glimmer": (*whole, "score."),
        }
        return self.kind != "ops" and weight.startswith(parts.get(self.system, whole))


def weights(case: Case) -> dict[str, np.ndarray]:
    """The case's weights by name, float32. Their values are rounded to bfloat16 if they are stored in bfloat16."""
    result: dict[str, np.ndarray] = {}

    def leaf(name: str, shape: tuple[int, ...]) -> None:
        if case.needs(name):
            x = rng.weight(case.seed, name, shape, case.config.t5.d_kv).astype(np.float32)
            if case.stored == "BF16":
                x = (bfloat16(x).astype(np.uint32) << 16).view(np.float32)
            result[name] = x

    build_model(case.config, case.tied, leaf)
    return result


def model(case: Case, named: Mapping[str, np.ndarray], dtype: str = "float64") -> Model:
    """The model with the case's weights; weights that its system does not read are zero."""

    def leaf(name: str, shape: tuple[int, ...]) -> np.ndarray:
        return named[name].astype(dtype) if name in named else np.zeros(shape, dtype)

    return build_model(case.config, case.tied, leaf)


def inputs(case: Case) -> dict[str, np.ndarray]:
    """The case's inputs by name: ids in int32, a decoder's memory in float32, lengths in int64."""
    if case.kind == "ops":
        return operations.inputs(case.seed)
    vocab, lengths = case.config.t5.vocab_size, np.array(case.passages, np.int64)
    result: dict[str, np.ndarray] = {}
    if case.system == "decoder":
        states = rng.normal(case.seed, "inputs.memory", (int(lengths.sum()), case.config.t5.d_model))
        result = {"memory": states.astype(np.float32), "memory.lengths": lengths}
    else:
        if case.system != "encoder":
            result["question"] = rng.ids(case.seed, "inputs.question", case.question, vocab)
        passages = [rng.ids(case.seed, f"inputs.passage_{i}", int(n), vocab) for i, n in enumerate(lengths)]
        result |= {"passages": np.concatenate(passages), "passages.lengths": lengths}
    if case.decodes or case.learns:
        targets = [rng.ids(case.seed, f"inputs.target_{i}", n, vocab) for i, n in enumerate(case.target)]
        result |= {"target": np.concatenate(targets), "target.lengths": np.array(case.target, np.int64)}
    return result


def tokens(named: Mapping[str, np.ndarray], name: str) -> Tokens:
    """One of the inputs as sequences; an input without lengths is one sequence."""
    ids = named[name]
    return Tokens(ids, named.get(f"{name}.lengths", np.array([ids.size], np.int64)))
