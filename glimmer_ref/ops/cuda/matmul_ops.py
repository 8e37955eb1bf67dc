"""Matrix products as `cuda.ops` tells them: which rung of `kernels.matmul` for which, and weights in bfloat16."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...errors import InputError
from ...ragged import Array, bfloat16
from .kernels.tensor_core import STEP
from .runtime.device import device

FEW = 16  # rows up to which reading the weights is all that counts


def here(x: Any, what: str) -> Array:
    """x itself, which must lie on the GPU: nothing is copied there without a word.

    Raises:
        InputError: an array of the host.
    """
    if not hasattr(x, "copy_to_host"):
        raise InputError(what, "an array on the GPU", f"{type(x).__name__} on the host", "put it first")
    return x


class Halves(NamedTuple):
    """A weight rounded to bfloat16, for products with float32 sums.

    Args:
        pairs: [o a/2] int32 on the GPU, two neighbouring terms each, the earlier one in the lower half.
        shape: of the weight, [a o]; of a table, [v d].
        source: a table as it was, for `embed`.
    """

    pairs: Array
    shape: tuple[int, int]
    source: Array | None
    precision: str = "bfloat16"
    dtype: Any = np.dtype(np.float32)

    def get(self) -> np.ndarray:
        """The weight back, as rounded."""
        if self.source is not None:
            return self.source.copy_to_host()
        bits = self.pairs.copy_to_host().view(np.uint16).astype(np.uint32) << 16
        return np.ascontiguousarray(bits.view(np.float32)[:, : self.shape[0]].T)


def halves(turned: np.ndarray, source: Array | None) -> Halves:
    """[o a] on the host, rounded, to pairs on the GPU, every row filled up with zeros to whole steps of the kernel.

    Raises:
        InputError: float64, which is never rounded.
    """
    if turned.dtype != np.float32:
        raise InputError("precision", f"{turned.dtype} weights computed with as they are", "'bfloat16'", "use float32")
    o, a = turned.shape
    words = -(-a // (2 * STEP)) * STEP
    bits = np.zeros((o, 2 * words), np.uint16)
    bits[:, :a] = bfloat16(turned)
    shape = (a, o) if source is None else (o, a)
    return Halves(device().put(bits.view(np.int32)), shape, source)


def in_fours(dtype: Any, *sizes: int) -> bool:
    """Whether rows can be read sixteen bytes at a time, as the upper rungs do, which are float32's."""
    return dtype == np.float32 and not any(size % 4 for size in sizes)


def product(x: Array, w: Array | Halves, turned: bool = False, residual: Array | None = None) -> Array:
    """x w, or x w^T where w lies turned [o a], plus the residual if there is one: [N a] -> [N o]."""
    if isinstance(w, Halves):
        return _tensor(x, w, residual)
    if here(w, "weights").dtype != x.dtype:
        raise InputError("linear", f"weights in {x.dtype}", str(w.dtype), "convert them first")
    n, a, o = x.shape[0], x.shape[1], w.shape[0 if turned else 1]
    out, sizes, run = device().empty((n, o), x.dtype), device().sizes[x.dtype.name], device().run
    add, tail = ("_add", (residual,)) if residual is not None else ("", (x,))
    if not in_fours(x.dtype, a) or not (in_fours(x.dtype, o) or (turned and n <= FEW)):
        grid = (-(-o // sizes.tile), -(-n // sizes.tile))
        run(x.dtype, "tiled_turned" if turned else "tiled", grid, x, w, out)
        return out if residual is None else plus(residual, out)
    if n <= FEW:
        rows = -(-n // sizes.few)
        if turned:
            run(x.dtype, "few_turned", (-(-o // (sizes.threads // 32)), rows), x, w, out)
        else:
            run(x.dtype, f"few{add}", (-(-o // 16), rows), x, w, *tail, out)
        return out
    grid = (-(-o // sizes.columns), -(-n // sizes.rows))
    run(x.dtype, f"linear{'_turned' if turned else ''}{add}", grid, x, w, w, *tail, out)
    return out


def _tensor(x: Array, w: Halves, residual: Array | None) -> Array:
    """The product with both operands rounded to bfloat16 and float32 sums, on tensor cores where rows are many."""
    if x.dtype != np.float32:
        raise InputError("linear", "float32 states with weights in bfloat16", str(x.dtype))
    n, o = x.shape[0], w.pairs.shape[0]
    out, sizes = device().empty((n, o), x.dtype), device().sizes["float32"]
    if n <= FEW:
        grid = (-(-o // (sizes.threads // 32)), -(-n // sizes.few))
        device().run(x.dtype, "few_pairs", grid, x, w.pairs, out)
        return out if residual is None else plus(residual, out)
    name, y = ("tensor", x) if residual is None else ("tensor_add", residual)
    rows, columns = sizes.warps_down * sizes.tiles_down * 16, sizes.warps_across * sizes.tiles_across * 8
    device().run(x.dtype, name, (-(-o // columns), -(-n // rows)), x, w.pairs, y, out)
    return out


def plus(x: Array, y: Array) -> Array:
    """x + y, in y's place."""
    threads = device().sizes[x.dtype.name].threads
    blocks = min(-(-x.size // (4 * threads)), 1 << 16)
    device().run(x.dtype, "add", blocks, x.reshape(x.size), y.reshape(y.size), y.reshape(y.size))
    return y


def gated(x: Array, w: Array, w2: Array) -> Array:
    """gelu(x w) * (x w2) in one kernel, for operands in fours: [N a] -> [N f]."""
    out, sizes = device().empty((x.shape[0], w.shape[1]), x.dtype), device().sizes[x.dtype.name]
    grid = (-(-w.shape[1] // (sizes.columns // 2)), -(-x.shape[0] // sizes.rows))
    device().run(x.dtype, "linear_gate", grid, x, w, w2, x, out)
    return out
