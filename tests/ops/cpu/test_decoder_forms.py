"""Which of the two forms of cross-attention a decoder chooses."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from glimmer_ref.ops.cpu import cross_attention
from glimmer_ref.ops.cpu.kernels.gemm import Packed
from glimmer_ref.ops.cpu.kernels.microkernel import GROUP


def layers(precision: str, count: int, d: int, heads: int, d_kv: int = 64) -> Any:
    """Layers of that shape as `absorbs` sees them. All weights of a layer are W_k, and no number is stored."""
    group, hc = GROUP[precision], heads * d_kv
    panels = np.broadcast_to(np.zeros(1, np.int32), (hc // 16, d // group, 16))
    w = Packed((d, hc), hc, precision, panels, panels, panels, panels)
    block = SimpleNamespace(q=w, k=w, v=w, o=w)
    return (SimpleNamespace(self_attention=block, cross_attention=block, feed_forward=block),) * count


@pytest.mark.parametrize(("precision", "most"), [("float32", 99), ("bfloat16", 99), ("int8", 63)])
def test_large_weights_choose_by_tokens_and_steps(precision: str, most: int) -> None:
    base = layers(precision, 12, 768, 12)
    found = [s for s in range(1, 400) if cross_attention.absorbs(base, 12, 1760, s)]
    assert found == list(range(1, found[-1] + 1)) and abs(found[-1] - most) < 3
    assert cross_attention.absorbs(base, 12, 1760, 32) and not cross_attention.absorbs(base, 12, 60, 32)
    assert not cross_attention.absorbs(layers(precision, 12, 768, 32, 24), 32, 1760, 1), "columns fill no tiles"


def test_small_weights_choose_by_multiply_adds() -> None:
    small = layers("float32", 2, 128, 2)
    for tokens in (1, 60, 1760):
        assert [s for s in (1, 64, 65) if cross_attention.absorbs(small, 2, tokens, s)] == [1, 64]
