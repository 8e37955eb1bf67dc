"""Multiply-adds of the decoder if it attends to the memory itself, which is not the paper's algorithm."""

from __future__ import annotations

from typing import Any

from ...ragged import Ints
from .cross_attention import absorbs
from .kernels.gemm import Packed


def decoder_macs(t5: Any, w: Any, read: Ints, limit: int, steps: int) -> Any:
    """Multiply-adds of the absorbed form, see `cross_attention`; NotImplemented if keys and values are projected.

    The absorbed form computes no keys and values of the memory. Instead, each step multiplies by all weights of a
    layer, including W_k and W_v of cross-attention. The scores and weighted sums of a head have d_model columns instead
    of d_kv.
    """
    if not w.layers or not isinstance(w.layers[0].cross_attention.k, Packed):
        return NotImplemented
    d, hc = w.layers[0].cross_attention.k.shape
    if not absorbs(w.layers, t5.num_heads, int(read.sum()), limit):
        return NotImplemented
    products = 0
    for layer in w.layers:
        attn, cross, ff = layer.self_attention, layer.cross_attention, layer.feed_forward
        weights = [attn.q, attn.k, attn.v, attn.o, cross.q, cross.k, cross.v, cross.o, ff.wi_0, ff.wi_1, ff.wo]
        products += sum(a.shape[0] * a.shape[1] for a in weights if a is not None)
    itself, memory = len(read) * hc * steps * (steps + 1), steps * 2 * t5.num_heads * d * int(read.sum())
    return {
        "cross": 0,
        "decoder": len(read) * steps * products,
        "decoder.attention": len(w.layers) * (itself + memory),
    }
