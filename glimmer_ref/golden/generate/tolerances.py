"""Differences between correct implementations and the reference: correct runs in each precision give the tolerances.

Another library sums in another order, fuses other operations, and rounds at other points. Each run here does one of
these things on purpose. So an implementation may differ from the reference as much as these runs do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...ops import Instrument, Ops, SequenceLayout, bind
from ...ops.interface import Factors
from ...ragged import Array, bfloat16, offsets

Round = Callable[[np.ndarray], np.ndarray]
UNIT = {"float64": 2.0**-53, "float32": 2.0**-24, "tf32": 2.0**-11, "bfloat16": 2.0**-8}
# An implementation may differ from the reference by this factor times the largest error of the runs below, since a GPU
# has its own exponential, fused kernels and products in other blocks. NMSE is a square, so its factor is squared.
MARGIN = 5.0
PRODUCTS = ("linear", "lm_head_logits", "dot")
ROUNDING = (*PRODUCTS, "embed", "add", "scale", "rms_norm", "gated_gelu", "relu", "mean", "attention")


def to_bfloat16(x: np.ndarray) -> np.ndarray:
    """The nearest bfloat16, as float32."""
    return (bfloat16(x).astype(np.uint32) << 16).view(np.float32)


def to_tf32(x: np.ndarray) -> np.ndarray:
    """The nearest number with a mantissa of ten bits, which is how tensor cores read float32."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


def truncate_to_tf32(x: np.ndarray) -> np.ndarray:
    """The same, but the other bits are cut off instead of rounded, as in some tensor cores."""
    return (np.ascontiguousarray(x, np.float32).view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


def unchanged(x: np.ndarray) -> np.ndarray:
    return x


class Narrow(Instrument):
    """Rounds the operands and the results of operations.

    Args:
        before: rounds the operands of products and of attention.
        after: rounds every result, and the operands of all other operations, which are such results or weights.
        inside: whether the scores and probabilities of attention are rounded, as in code without fused attention.
    """

    elementary = True

    def __init__(self, ops: Ops, before: Round, after: Round, inside: bool = True) -> None:
        self.before, self.after, self.inside = before, after, inside
        super().__init__(ops)

    def observe(self, name: str, operation: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        if name not in ROUNDING:
            return operation(*args)
        narrow = self._attention if name == "attention" and self.inside else operation
        return self._rounded(narrow, self.before if name in (*PRODUCTS, "attention") else self.after)(*args)

    @property
    def backward(self) -> dict[str, Callable[..., Any]]:
        """The backward functions with rounded operands and results."""
        products = (*PRODUCTS, "attention")
        return {
            name: self._rounded(operation, self.before if name in products else self.after)
            for name, operation in self.ops.backward.items()
        }

    def _rounded(self, operation: Callable[..., Any], before: Round) -> Callable[..., Any]:
        def rounded(*args: Any) -> Any:
            floats = (before(x) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x for x in args)
            result = operation(*floats)
            return (
                tuple(y if y is None else self.after(y) for y in result)
                if type(result) is tuple
                else self.after(result)
            )

        return rounded

    def _attention(
        self,
        q: Array,
        k: Array,
        v: Array,
        bias: Array | None,
        layout: SequenceLayout,
        heads: int,
        causal: bool,
        dropout_mask: None = None,
        precision: str | None = None,
    ) -> Array:
        out, queries, keys = np.empty_like(q), offsets(layout.query_lengths), offsets(layout.key_lengths)
        for s in range(len(layout.query_lengths)):
            i, j = slice(queries[s], queries[s + 1]), slice(keys[s], keys[s + 1])
            qs, ks, vs = (x.reshape(len(x), heads, -1) for x in (q[i], k[j], v[j]))
            scores = self.after(np.einsum("ihc,jhc->hij", qs, ks))
            distance = layout.key_positions[j][None, :] - layout.query_positions[i][:, None]
            if bias is not None:
                scores = self.after(scores + bias[distance + len(bias) // 2].transpose(2, 0, 1))
            if causal:
                scores[:, distance > 0] = -np.inf
            weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
            probs = self.before(self.after(weights / weights.sum(axis=-1, keepdims=True)))
            out[i] = np.einsum("hij,jhc->ihc", probs, vs).reshape(len(out[i]), -1)
        return out


class Shuffled(Instrument):
    """Computes every sum in a random order: the same formula with other rounding errors."""

    elementary = True

    def __init__(self, ops: Ops, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        super().__init__(ops)

    def linear(self, x: Array, w: Array) -> Array:
        order = self.rng.permutation(len(w))
        parts = np.array_split(order, 3)
        return sum((self.ops.linear(x[:, p], w[p]) for p in parts[1:]), self.ops.linear(x[:, parts[0]], w[parts[0]]))

    def lm_head_logits(self, table: Array, x: Array) -> Array:
        order = self.rng.permutation(x.shape[1])
        return self.ops.lm_head_logits(table[:, order], x[:, order])

    def dot(self, x: Array, w: Array) -> Array:
        order = self.rng.permutation(len(w))
        return self.ops.dot(x[:, order], w[order])

    def rms_norm(self, x: Array, gain: Array, eps: float) -> Array:
        order = self.rng.permutation(x.shape[1])
        return self.ops.rms_norm(x[:, order], gain[order], eps)[:, np.argsort(order)]

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
    ) -> Array:
        assert dropout_mask is None, "a golden run drops nothing"
        starts = offsets(layout.key_lengths)[:-1]
        rows = np.concatenate([a + self.rng.permutation(n) for a, n in zip(starts, layout.key_lengths, strict=True)])
        columns = self.rng.permutation(q.shape[1] // heads)
        order = (np.arange(heads)[:, None] * len(columns) + columns).ravel()
        moved = SequenceLayout(
            layout.query_lengths, layout.key_lengths, layout.query_positions, layout.key_positions[rows]
        )
        out = self.ops.attention(
            q[:, order], k[rows][:, order], v[rows][:, order], bias, moved, heads, causal, None, precision
        )
        return out[:, np.argsort(order)]

    @property
    def backward(self) -> dict[str, Callable[..., Any]]:
        return self.ops.backward | {"linear": self._linear_backward}

    def _linear_backward(self, dy: Array, x: Array, w: Array) -> tuple[Array, Array]:
        rows, columns = self.rng.permutation(len(x)), self.rng.permutation(w.shape[1])
        dx, _ = self.ops.backward["linear"](dy[:, columns], x, w[:, columns])
        return dx, self.ops.backward["linear"](dy[rows], x[rows], w)[1]


def by_one_ulp(seed: int, unit: float) -> Round:
    """Changes every number by up to one unit in its last place. Equal numbers stay equal, so exact ties remain."""

    def moved(x: np.ndarray) -> np.ndarray:
        share = np.modf(np.abs(x.astype(np.float64)) * 1e6 * math.sqrt(seed + 2))[0]  # practically random in [0, 1)
        return (x * (1 + 2 * unit * (2 * share - 1))).astype(x.dtype)

    return moved


def honest_runs(precision: str) -> Iterator[tuple[Ops, str]]:
    """Correct implementations in a precision, each with the dtype in which it computes."""
    numpy, numba = bind("numpy"), bind("numba")
    if precision in ("float64", "float32"):
        if precision == "float32":
            yield numpy, precision
        yield numba, precision
        for seed in range(3):
            yield Shuffled(numpy, seed), precision
            yield Narrow(numpy, unchanged, by_one_ulp(seed, UNIT[precision]), inside=seed > 0), precision
        return
    grid = {"tf32": (to_tf32, truncate_to_tf32), "bfloat16": (to_bfloat16,)}[precision]
    for before in grid:
        after = to_bfloat16 if precision == "bfloat16" else unchanged
        for inside in (True, False):
            yield Narrow(numpy, before, after, inside), "float32"
            yield Narrow(Shuffled(numpy, 0), before, after, inside), "float32"


def storage_error(precision: str) -> tuple[float, float]:
    """The smallest tolerance (NMSE, scaled maximum) in a precision: the error from storing a tensor in it."""
    return (MARGIN * UNIT[precision]) ** 2, MARGIN * UNIT[precision]
