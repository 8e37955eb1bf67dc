"""Trace: the arrays of a run by name, in forward order."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from ..errors import InputError, brief
from ..ops import Instrument, Ops, SequenceLayout
from ..ops.interface import Factors
from ..ragged import Array, Ints


class Trace(Instrument):
    """Keeps the arrays that the model records: `arrays["live_a.layer_0.attention.out"]`.

    If a name is recorded again, the last array is kept. For an array with ragged rows, `<name>.lengths` has the lengths
    of its sequences. Attention probabilities, `<scope>.probs.<sequence>` [h i j], are computed only on request.

    Args:
        ops: the operations to observe.
        only: regular expression, matched from the start of a name; None keeps everything except `probs`.
    """

    def __init__(self, ops: Ops, only: str | None = None) -> None:
        super().__init__(ops)
        self.arrays: dict[str, np.ndarray] = {}
        try:
            self._is_wanted = re.compile(only if only is not None else r"(?!.*\.probs\.)").match
        except (re.error, RecursionError, OverflowError) as error:
            raise InputError("only", "a regular expression", f"{brief(only)}: {error}") from None
        self._wants_probs = only is not None

    def record(self, name: str, x: Array, lengths: Ints | None = None) -> Array:
        full = self.path + name
        if self._is_wanted(full):
            self.arrays[full] = np.array(self.ops.to_host(x))
            if lengths is not None:
                self.arrays[full + ".lengths"] = np.array(lengths)
        return self.ops.record(name, x, lengths)

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
        if self._wants_probs and self._is_wanted(f"{self.path}probs.0"):
            for s, probs in enumerate(self.ops.attention_probs(q, k, bias, layout, heads, causal, precision)):
                self.arrays[f"{self.path}probs.{s}"] = np.array(self.ops.to_host(probs))
        return self.ops.attention(q, k, v, bias, layout, heads, causal, dropout_mask, precision)
