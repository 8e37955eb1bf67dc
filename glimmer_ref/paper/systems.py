"""The three systems under one signature, for whoever wants to compare them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Arriving, Ints, States, Tokens
from ..ops import Ops
from ..params.tree import Model
from .fid import fid
from .glimmer import Read
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
    return RERANKERS[model.config.reranker](ops, model, question, passages, counts, m)


SYSTEMS: dict[str, Any] = {"glimmer": read_glimmer, "lumen": read_lumen, "fid": read_fid}
FROM_TEXT = frozenset({"fid"})  # these start from passages as tokens, the others from their memory
