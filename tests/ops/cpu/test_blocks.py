"""Fused blocks against the elementary operations that they stand for: numbers, threads, what is no number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unwarmed import FAST

from glimmer_ref.config import T5Config
from glimmer_ref.ops import PRECISIONS, Instrument, Ops, SequenceLayout, bind
from glimmer_ref.ops.cpu.runtime import thread_pool
from glimmer_ref.paper.t5 import attention_block, feed_forward_block, position_bias
from glimmer_ref.params.model import Attention, FeedForward, init_param
from glimmer_ref.ragged import token_positions

ORACLE = bind("numpy")
HEARD = Instrument(FAST)  # hears, so gets, the elementary operations
# Largest difference, relative to the largest number, measured in 1,500 examples of `blocks`: 1.1e-6.
TOLERANCE = 4e-6
few = settings(max_examples=40)
precisions = pytest.mark.parametrize("precision", PRECISIONS)


class Block:
    """Random weights and rows of one layer.

    Args:
        lengths: of the sequences.
        gap: positions that are left out after the fifth token of each.
    """

    def __init__(
        self, lengths: list[int], heads: int = 3, d_kv: int = 6, d: int = 20, f: int = 28, gap: int = 0,
        proj: str = "gated-gelu", precision: str = "float32", seed: int = 0,
    ) -> None:  # fmt: skip
        rng = np.random.default_rng(seed)
        self.precision = precision
        self.t5 = T5Config(9, d, d_kv, f, 1, 1, heads, feed_forward_proj=proj)
        n = np.array(lengths, np.int64)
        at = token_positions(n)
        at = (at + np.where(at >= 5, gap, 0)).astype(np.int32)
        self.layout = SequenceLayout(n, n, at, at)
        self.x = rng.standard_normal((n.sum(), d)).astype(np.float32)
        table = rng.standard_normal((self.t5.relative_attention_num_buckets, heads)).astype(np.float32)
        self.bias = position_bias(FAST, self.t5, table, self.layout, bidirectional=True)

        def leaf(name: str, *shape: int) -> np.ndarray:
            return init_param(rng, name, shape, d_kv).astype(np.float32)

        hc = heads * d_kv
        gate = leaf("wi_1", d, f) if proj == "gated-gelu" else None
        self.attention = Attention(leaf("norm", d), *(leaf(n, d, hc) for n in "qkv"), leaf("o", hc, d))
        self.feed_forward = FeedForward(leaf("norm", d), leaf("wi_0", d, f), gate, leaf("wo", f, d))
        self.packed = self.laid_out(FAST, precision)

    def laid_out(self, ops: Ops, precision: str) -> tuple[Attention, FeedForward]:
        def packed(w: Any) -> Any:
            parts = {n: x if n == "norm" or x is None else ops.pack(x, precision) for n, x in vars(w).items()}
            return type(w)(**parts)

        return packed(self.attention), packed(self.feed_forward)

    def both(self, ops: Ops, weights: Any = None) -> list[np.ndarray]:
        """What attention and feed-forward make of x."""
        attention, feed_forward = weights or self.packed
        return [
            attention_block(ops, self.t5, attention, self.x, self.bias, self.layout),
            feed_forward_block(ops, self.t5, feed_forward, self.x, self.layout.query_lengths),
        ]


def differ(x: np.ndarray, y: np.ndarray) -> float:
    assert x.shape == y.shape and x.dtype == y.dtype == np.float32
    return float(np.abs(x - y).max() / np.abs(y).max())


blocks = st.builds(
    Block,
    st.lists(st.sampled_from([1, 1, 2, 5, 13, 15, 16, 17, 33, 64, 130, 400]), min_size=1, max_size=4),
    heads=st.sampled_from([1, 2, 3, 7]),
    d_kv=st.sampled_from([1, 6, 16, 24, 48, 64]),
    d=st.sampled_from([3, 5, 16, 20, 48, 65]),
    f=st.sampled_from([1, 16, 28, 47, 130]),
    gap=st.sampled_from([0, 3, 48]),
    proj=st.sampled_from(["gated-gelu", "relu"]),
    precision=st.sampled_from(PRECISIONS),
    seed=st.integers(0, 99),
)


@few
@given(block=blocks)
def test_fused_blocks_are_their_operations(block: Block) -> None:
    """To the bit in every precision: who listens changes nothing."""
    exact = block.both(ORACLE, block.laid_out(ORACLE, "float32"))
    for fused, observed, right in zip(block.both(FAST), block.both(HEARD), exact, strict=True):
        assert fused.tobytes() == observed.tobytes()
        assert block.precision != "float32" or differ(fused, right) < TOLERANCE


@pytest.mark.parametrize("proj", ["gated-gelu", "relu"])
@pytest.mark.parametrize("gap", [0, 48])
def test_fused_blocks_are_the_oracle(gap: int, proj: str) -> None:
    block = Block([1, 70, 200, 16], gap=gap, proj=proj)
    exact = block.both(ORACLE, block.laid_out(ORACLE, "float32"))
    for fused, right in zip(block.both(FAST), exact, strict=True):
        assert differ(fused, right) < TOLERANCE


@precisions
def test_a_lower_precision_is_another_result(precision: str) -> None:
    block, exact = Block([40, 1, 90], precision=precision, d=64, f=96), Block([40, 1, 90], d=64, f=96).both(FAST)
    for fused, observed, right in zip(block.both(FAST), block.both(HEARD), exact, strict=True):
        assert fused.tobytes() == observed.tobytes()
        off = differ(fused, right)  # measured: 1.6e-3 to 4.0e-3, 4.4e-3 to 1.8e-2
        assert off < {"float32": TOLERANCE, "bfloat16": 7e-3, "int8": 3e-2}[precision]
        assert precision == "float32" or off > 5e-4


@precisions
@pytest.mark.parametrize("proj", ["gated-gelu", "relu"])
def test_threads_change_no_bit_of_a_block(monkeypatch: pytest.MonkeyPatch, precision: str, proj: str) -> None:
    if thread_pool.settings.NUMBA_NUM_THREADS < 2:
        pytest.skip("one processor")
    monkeypatch.setattr(thread_pool, "WORTH_A_THREAD", 1)
    block, found = Block([150, 1, 33, 210], precision=precision, proj=proj, gap=3), []
    for count in (1, 2, 2, 2):
        with thread_pool.limit(count):
            found.append([x.tobytes() for x in block.both(FAST)])
    assert all(x == found[0] for x in found)


def test_a_sequence_has_the_same_bits_alone_and_among_others() -> None:
    """In float32 and without a gap: the same tiles of queries, whoever else is there."""
    many = Block([37, 90, 1, 64])
    alone = Block([90])
    alone.x, (alone.attention, alone.feed_forward) = many.x[37:127], (many.attention, many.feed_forward)
    alone.packed, middle = many.packed, len(many.bias) // 2
    alone.bias = many.bias[middle - 89 : middle + 90]
    for one, all_of_them in zip(alone.both(FAST), many.both(FAST), strict=True):
        assert one.tobytes() == all_of_them[37:127].tobytes()


def spoiled(block: Block, row: int, column: int, bad: float) -> list[np.ndarray]:
    x = block.x.copy()
    block.x[row, column] = bad
    try:
        return block.both(FAST)
    finally:
        block.x = x


@precisions
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_comes_out_of_its_own_sequence(precision: str, bad: float) -> None:
    block = Block([20, 31, 1], precision=precision)
    for row, column in ((20, 0), (35, 7), (50, 19)):
        attended, fed = spoiled(block, row, column, bad)
        assert np.isnan(attended[20:51]).all(axis=1).all(), "all queries saw it as a key"
        assert np.isfinite(np.delete(attended, np.s_[20:51], axis=0)).all()
        assert not np.isfinite(fed[row]).any()
        assert np.isfinite(np.delete(fed, row, axis=0)).all()


SPOIL: dict[str, Callable[[Block], Any]] = {
    "q": lambda b: b.attention.q,
    "o": lambda b: b.attention.o,
    "wi_0": lambda b: b.feed_forward.wi_0,
    "wo": lambda b: b.feed_forward.wo,
}


@pytest.mark.parametrize("name", SPOIL)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_weight_that_is_no_number_comes_out(name: str, precision: str) -> None:
    block = Block([20, 3])
    SPOIL[name](block)[0, -1] = np.nan
    attended, fed = block.both(FAST, block.laid_out(FAST, precision))
    hit, other = (attended, fed) if name in "qo" else (fed, attended)
    assert np.isnan(hit).any() and np.isfinite(other).all()


@pytest.mark.parametrize("positions", ["descending", "equal", "far"])
def test_positions_are_data(positions: str) -> None:
    """Not the shortcut of rising ones: biases are looked up one by one."""
    block = Block([40, 7])
    at = {"descending": 60 - block.layout.query_positions, "equal": np.zeros(47, np.int32)}
    at["far"] = 9 * block.layout.query_positions
    block.layout = block.layout._replace(query_positions=at[positions], key_positions=at[positions])
    rng = np.random.default_rng(0)
    table = rng.standard_normal((block.t5.relative_attention_num_buckets, 3)).astype(np.float32)
    block.bias = position_bias(FAST, block.t5, table, block.layout, bidirectional=True)
    fused, observed = block.both(FAST)[0], block.both(ORACLE, block.laid_out(ORACLE, "float32"))[0]
    assert differ(fused, observed) < TOLERANCE
