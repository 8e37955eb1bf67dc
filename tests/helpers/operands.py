"""Random operands for every operation, and the difference between results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from glimmer_ref.ops import SequenceLayout
from glimmer_ref.ragged import token_positions


class Case:
    """Random operands for every operation.

    Args:
        lengths: the numbers of queries and keys of each sequence.
    """

    def __init__(self, lengths: list[tuple[int, int]], heads: int = 3, c: int = 5, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.heads, self.c = heads, c
        self.n, self.n_keys = (np.array(x, np.int64) for x in zip(*lengths, strict=True))
        past = np.maximum(self.n_keys - self.n, 0)
        self.layout = SequenceLayout(
            self.n, self.n_keys, token_positions(self.n, start=past), token_positions(self.n_keys)
        )
        self.reach = int(max(self.n.max() + past.max(), self.n_keys.max()))

    def array(self, *shape: int, dtype: str = "float64", size: float = 1) -> np.ndarray:
        return (size * self.rng.standard_normal(shape)).astype(dtype)

    def attention(self, dtype: str, bias: bool = True, causal: bool = True) -> tuple[Any, ...]:
        """q, k, v, bias, layout, heads, causal."""
        wide, size = self.heads * self.c, self.c**-0.25
        q = self.array(self.n.sum(), wide, dtype=dtype, size=size)
        k = self.array(self.n_keys.sum(), wide, dtype=dtype, size=size)
        v = self.array(self.n_keys.sum(), wide, dtype=dtype)
        table = self.array(2 * self.reach + 1, self.heads, dtype=dtype) if bias else None
        return q, k, v, table, self.layout, self.heads, causal

    def all(self, dtype: str, bias: bool = True, causal: bool = True) -> dict[str, tuple[Any, ...]]:
        """Arguments for every operation except `to_device`, `to_host` and packing."""
        rows, b, d = int(self.n.sum()), len(self.n), self.heads * self.c
        x, y, table = (self.array(n, d, dtype=dtype) for n in (rows, rows, 11))
        attention = self.attention(dtype, bias, causal)
        index = self.rng.integers(0, b, b + 1)
        return {
            "embed": (table, self.rng.integers(0, 11, 7)),
            "lm_head_logits": (table, x),
            "linear": (x, self.array(d, 9, dtype=dtype)),
            "dot": (x, self.array(d, 1, dtype=dtype)),
            "add": (x, y),
            "scale": (x, 0.3),
            "multiply": (x, y),
            "rms_norm": (x, x[0] + 1, 1e-6),
            "gated_gelu": (3 * x, y),
            "relu": (x,),
            "attention": attention,
            "attention_probs": (*attention[:2], *attention[3:]),
            "interleave_concat": (x, self.n, attention[1], self.n_keys),
            "gather_sequences": (x, self.n, index),
            "first_token": (x, self.n),
            "mean": (x, self.n),
            "argmax": (x,),
            "log_likelihood": (3 * x, self.rng.integers(0, d, rows), self.n),
            "rank_kl": (x[:, 0], y[:, 0] * 2, self.n, 0.7, "reverse" if causal else "printed"),
        }


SMALL = Case([(4, 4), (1, 6), (3, 7)])


def strided(x: np.ndarray) -> np.ndarray:
    """The same numbers as every second element of a larger array."""
    wide = np.repeat(x, 2, axis=-1)
    return wide[..., ::2]


def read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


def each(change: Callable[[np.ndarray], np.ndarray], args: tuple[Any, ...]) -> list[Any]:
    """The arguments with every array changed, also those of a SequenceLayout."""
    fresh = [SequenceLayout(*map(change, a)) if isinstance(a, SequenceLayout) else a for a in args]
    return [change(a) if isinstance(a, np.ndarray) else a for a in fresh]


def arrays(x: Any) -> list[np.ndarray]:
    return list(x) if isinstance(x, list) else [x]


def differ(x: Any, y: Any) -> float:
    """The largest difference, relative to the largest number, or to 1 (the size of the operands) if that is larger."""
    pairs = list(zip(arrays(x), arrays(y), strict=True))
    assert all(a.shape == b.shape and a.dtype == b.dtype for a, b in pairs)
    return max(np.abs(a - b).max(initial=0) / np.abs(b).max(initial=1) for a, b in pairs)
