"""The three systems under one signature, for whoever wants to compare them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ops import Ops
from ..params.model import Model
from ..ragged import Arriving, Ints, States, Tokens
from .distillation import Choose, Distillation, Loss, glimmer_loss
from .fid import fid, language_loss
from .glimmer import Read, glimmer
from .lumen import lumen
from .variants import RERANKERS


def read_fid(ops: Ops, model: Model, question: Tokens, passages: Tokens, counts: Ints, m: int) -> Read:
    """FiD reads all k passages, from their text; m does not concern it."""
    return Read(fid(ops, model, question, passages, counts), None, [np.arange(k) for k in counts])


def read_lumen(ops: Ops, model: Model, question: Tokens, passages: States | Arriving, counts: Ints, m: int) -> Read:
    """LUMEN reads all k passages, from memory; m does not concern it."""
    return Read(lumen(ops, model, question, passages, counts), None, [np.arange(k) for k in counts])


def read_glimmer(ops: Ops, model: Model, question: Tokens, passages: States | Arriving, counts: Ints, m: int) -> Read:
    """GLIMMER reads the m best of k passages, ranked by live-A or by the model's separate reranker."""
    return glimmer(ops, model, question, passages, counts, m, RERANKERS[model.config.reranker])


SYSTEMS: dict[str, Any] = {"glimmer": read_glimmer, "lumen": read_lumen, "fid": read_fid}
FROM_TEXT = frozenset({"fid"})  # these start from passages as tokens, the others from their memory


def loss(
    ops: Ops,
    model: Model,
    system: str,
    question: Tokens,
    passages: Any,
    counts: Ints,
    target: Tokens,
    m: int,
    how: Distillation | None = None,
    choose: Choose | None = None,
) -> Loss:
    """The training loss of a batch: a system's language modeling loss, and GLIMMER's distillation.

    Args:
        system: a key of `SYSTEMS`.
        passages: tokens for FiD; for the others their memory, from `encode_passages(ops, ..)` if the memory
            encoder is to learn, from `encode_passages(ops.frozen(), ..)` if it is not.
        target: an answer for each question, EOS included.
        how, choose: of GLIMMER only, see `Distillation` and `glimmer_loss`.
    """
    if system == "glimmer":
        by, how = RERANKERS[model.config.reranker], how or Distillation()
        return glimmer_loss(ops, model, by, question, passages, counts, target, m, how, choose)
    got = SYSTEMS[system](ops, model, question, passages, counts, m)
    return Loss({"lm": language_loss(ops, model, got.memory, target)}, None, got.selected)
