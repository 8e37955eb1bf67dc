"""Count: the multiply-adds of a run, by component, from the shapes that pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ops import Instrument, Ops, SequenceLayout
from ..ops.interface import Factors
from ..ragged import Array, token_positions


def visible_pairs(layout: SequenceLayout, causal: bool) -> int:
    """Pairs (query, key) that attend: all of a sequence's, or, if causal, those not ahead."""
    queries, keys = layout.query_lengths.astype(object), layout.key_lengths.astype(object)
    if not causal:
        return int((queries * keys).sum())
    # The queries are the last of their keys: the i-th of n among t keys sees t - n + i + 1.
    ahead = (
        token_positions(layout.query_lengths)
        + 1
        + np.repeat(layout.key_lengths - layout.query_lengths, layout.query_lengths)
    )
    return int(ahead.sum())


class MacCounter(Instrument):
    """Adds up multiply-adds (two FLOPs each) of matrix products and attention.

    `macs` maps a component, the first word of the place (`memory`, `live_a`, `cross`, ...), to its
    products, `head` to the logits, and `<component>.attention` to attention's scores and mixing.
    Norms, activations, softmax and the residual are left out, as in the paper, which ignores
    attention's scores too: hence their own key.
    """

    def __init__(self, ops: Ops) -> None:
        super().__init__(ops)
        self.macs: dict[str, int] = {}

    def _add(self, macs: int, kind: str = "") -> None:
        component = self.component + kind
        self.macs[component] = self.macs.get(component, 0) + macs

    def linear(self, x: Array, w: Array) -> Array:
        self._add(x.shape[0] * w.shape[0] * w.shape[1])
        return self.ops.linear(x, w)

    def dot(self, x: Array, w: Array) -> Array:
        self._add(x.shape[0] * x.shape[1])
        return self.ops.dot(x, w)

    def lm_head_logits(self, table: Array, x: Array) -> Array:
        self.macs["head"] = self.macs.get("head", 0) + x.shape[0] * table.shape[0] * table.shape[1]
        return self.ops.lm_head_logits(table, x)

    def attention(
        self,
        q: Array,
        k: Array,
        v: Array,
        bias: Array | None,
        layout: SequenceLayout,
        heads: int,
        causal: bool,
        dropout_mask: Factors | None = None,
        precision: str | None = None,
    ) -> Any:
        self._add(2 * visible_pairs(layout, causal) * q.shape[1], ".attention")
        return self.ops.attention(q, k, v, bias, layout, heads, causal, dropout_mask, precision)
