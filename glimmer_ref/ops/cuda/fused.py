"""The encoder's blocks with fewer launches: the gate and the residuals are done to a product's tile in registers."""

from __future__ import annotations

from typing import Any

from ...ragged import Array, Ints
from ..interface import SequenceLayout
from .attention_ops import attention
from .matmul_ops import FEW, Halves, gated, in_fours, product


def _norm(x: Array, gain: Array, eps: float) -> Array:
    from .ops import rms_norm

    return rms_norm(x, gain, eps)


def attention_block(t5: Any, w: Any, x: Array, bias: Array, layout: SequenceLayout) -> Array:
    """x + o(attention(q n, k n, v n)), n = norm(x): the last product adds x."""
    n = _norm(x, w.norm, t5.layer_norm_epsilon)
    q, k, v = product(n, w.q), product(n, w.k), product(n, w.v)
    return product(attention(q, k, v, bias, layout, t5.num_heads, False), w.o, residual=x)


def feed_forward_block(t5: Any, w: Any, x: Array, lengths: Ints) -> Array:
    """x + wo(gelu(wi_0 n) * (wi_1 n)), n = norm(x): the gate in the first product's tile, x added in the last's.

    Left to the single operations with relu, with few rows, and where columns do not come in fours.
    """
    d, f = w.wi_0.shape
    if w.wi_1 is None or isinstance(w.wi_0, Halves) or x.shape[0] <= FEW or not in_fours(x.dtype, d, f):
        return NotImplemented
    n = _norm(x, w.norm, t5.layer_norm_epsilon)
    return product(gated(n, w.wi_0, w.wi_1), w.wo, residual=x)
