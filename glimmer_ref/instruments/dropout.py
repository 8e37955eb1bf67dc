"""Dropout: T5's dropout in training, with a random generator from the caller."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import InputError
from ..ops import Instrument, Ops, SequenceLayout
from ..ops.interface import Factors
from ..ragged import Array


class Dropout(Instrument):
    """Sets values to 0 with probability `rate` and multiplies the others by 1/(1 - rate), wherever T5 does.

    T5 drops values of the embeddings, the attention probabilities, the hidden layer of the feed-forward, the output of
    each block before it is added to the residual, and the outputs of the final norms. At rate 0 no random number is
    drawn.

    Args:
        ops: the operations to wrap; for gradients, a `Tape`.
        rate: probability in [0, 1).
        rng: draws the masks in the order of the forward pass. The same state gives the same masks.

    Raises:
        InputError: the rate is not in [0, 1).

    Source: transformers' T5, which drops values at the same positions.
    """

    elementary = True

    def __init__(self, ops: Ops, rate: float, rng: np.random.Generator) -> None:
        if not 0 <= rate < 1:
            raise InputError("Dropout", "a rate from 0 to below 1", repr(rate))
        self.rate, self.rng = rate, rng
        super().__init__(ops)

    def _factors(self, shape: tuple[int, ...], dtype: Any) -> Factors:
        mask = self.rng.random(shape, np.float32) >= self.rate
        return self.ops.to_device(mask.astype(dtype) * (1 / (1 - self.rate)))

    def dropout(self, x: Array) -> Array:
        return self.ops.multiply(x, self._factors(x.shape, x.dtype)) if self.rate else x

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
        if self.rate:
            size = heads * int((layout.query_lengths * layout.key_lengths).sum())
            dropout_mask = self._factors((size,), q.dtype)
        return self.ops.attention(q, k, v, bias, layout, heads, causal, dropout_mask, precision)

    def frozen(self) -> Any:
        """The operations without dropout."""
        return self.ops.frozen()
