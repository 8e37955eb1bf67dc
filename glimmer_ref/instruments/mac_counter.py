"""MacCounter: the multiply-adds of a run by component, computed from the shapes of operands."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ops import Instrument, Ops, SequenceLayout
from ..ops.interface import Factors
from ..ragged import Array, token_positions


def visible_pairs(layout: SequenceLayout, causal: bool) -> int:
    """The number of pairs (query, key) in attention: all pairs of each sequence; if `causal`, without keys ahead."""
    queries, keys = layout.query_lengths.astype(object), layout.key_lengths.astype(object)
    if not causal:
        return int((queries * keys).sum())
    # The queries are the last tokens of their sequence: query i of n among t keys sees t - n + i + 1 of them.
    visible = (
        token_positions(layout.query_lengths)
        + 1
        + np.repeat(layout.key_lengths - layout.query_lengths, layout.query_lengths)
    )
    return int(visible.sum())


class MacCounter(Instrument):
    """Counts the multiply-adds (two FLOPs each) of matrix products and attention.

    The keys of `macs` are the components, which are the first parts of the scopes (`memory`, `live_a`, `cross`, ..),
    and `head` for the logits. `<component>.attention` is for the scores and weighted sums of attention, which the paper
    does not count. Norms, activations, softmax and residuals are not counted, as in the paper.
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
