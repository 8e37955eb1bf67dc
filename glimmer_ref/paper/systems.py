"""The three systems under one signature, and the training loss of each."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ops import Ops
from ..params.model import Model
from ..ragged import Ints, States, Tokens
from .decoding import language_loss
from .distillation import Distillation, Loss, SelectionOverride, glimmer_loss
from .fid import fid
from .glimmer import DecoderInput, glimmer
from .lumen import lumen


def read_fid(
    ops: Ops, model: Model, question: Tokens, passages: Tokens, passages_per_question: Ints, m: int
) -> DecoderInput:
    """FiD reads the text of all k passages; it ignores m.

    Part of: 2.1 G
    """
    memory = fid(ops, model, question, passages, passages_per_question)
    return DecoderInput(memory, None, [np.arange(k) for k in passages_per_question])


def read_lumen(
    ops: Ops, model: Model, question: Tokens, passages: States, passages_per_question: Ints, m: int
) -> DecoderInput:
    """LUMEN reads the memory of all k passages; it ignores m.

    Part of: 2.2 G
    """
    memory = lumen(ops, model, question, passages, passages_per_question)
    return DecoderInput(memory, None, [np.arange(k) for k in passages_per_question])


SYSTEMS: dict[str, Any] = {"glimmer": glimmer, "lumen": read_lumen, "fid": read_fid}
FROM_TEXT = frozenset({"fid"})  # these systems take passages as tokens; the others take the memory of the passages


def loss(
    ops: Ops,
    model: Model,
    system: str,
    question: Tokens,
    passages: Any,
    passages_per_question: Ints,
    target: Tokens,
    m: int,
    distillation: Distillation | None = None,
    override: SelectionOverride | None = None,
) -> Loss:
    """The training loss of a batch: a system's language modeling loss, and GLIMMER's distillation.

    Args:
        system: a key of `SYSTEMS`.
        passages: tokens for FiD; memory for the other systems. `encode_passages(ops, ..)` gives memory through which
            the memory encoder learns, `encode_passages(ops.frozen(), ..)` memory through which it does not (Table 2).
        target: an answer for each question, EOS included.
        distillation, override: used only by GLIMMER, see `Distillation` and `glimmer_loss`.

    Part of: 3.2 L
    """
    if system == "glimmer":
        settings = distillation or Distillation()
        return glimmer_loss(ops, model, question, passages, passages_per_question, target, m, settings, override)
    read = SYSTEMS[system](ops, model, question, passages, passages_per_question, m)
    return Loss({"lm": language_loss(ops, model, read.memory, target)}, None, read.selected)
