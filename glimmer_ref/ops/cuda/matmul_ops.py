"""Matrix products of the CUDA backend: the choice of a kernel for each product, and weights in bfloat16."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...errors import InputError
from ...ragged import Array, bfloat16
from .kernels.tensor_core import STEP
from .runtime.device import device

SKINNY = 16  # maximum number of rows for which a product takes the time of reading the weights


def on_gpu(x: Any, what: str) -> Array:
    """x itself, which must be on the GPU: the backend never copies an operand there by itself.

    Raises:
        InputError: x is on the host.
    """
    if not hasattr(x, "copy_to_host"):
        raise InputError(what, "an array on the GPU", f"{type(x).__name__} on the host", "call to_device first")
    return x


class Bfloat16Weight(NamedTuple):
    """A weight rounded to bfloat16, for products with float32 sums.

    Args:
        pairs: [o a/2] int32 on the GPU. Each holds two neighbouring terms, the earlier one in the lower half.
        shape: [a o] of a weight, [v d] of a table.
        source: the table before rounding, for `embed`; None for a weight.
    """

    pairs: Array
    shape: tuple[int, int]
    source: Array | None
    precision: str = "bfloat16"
    dtype: Any = np.dtype(np.float32)

    def to_host(self) -> np.ndarray:
        """The rounded weight, or the table before rounding, on the host."""
        if self.source is not None:
            return self.source.copy_to_host()
        bits = self.pairs.copy_to_host().view(np.uint16).astype(np.uint32) << 16
        return np.ascontiguousarray(bits.view(np.float32)[:, : self.shape[0]].T)


def pack_bfloat16(transposed: np.ndarray, source: Array | None) -> Bfloat16Weight:
    """Rounds a host array [o a] to bfloat16 pairs on the GPU, each row padded with zeros to complete kernel steps.

    Raises:
        InputError: the array is float64, which is never rounded.
    """
    if transposed.dtype != np.float32:
        expected = f"none below {transposed.dtype} with {transposed.dtype} weights"
        raise InputError("precision", expected, "'bfloat16'", "use dtype float32")
    o, a = transposed.shape
    pairs = -(-a // (2 * STEP)) * STEP
    bits = np.zeros((o, 2 * pairs), np.uint16)
    bits[:, :a] = bfloat16(transposed)
    shape = (a, o) if source is None else (o, a)
    return Bfloat16Weight(device().to_device(bits.view(np.int32)), shape, source)


def loads_four(dtype: Any, *sizes: int) -> bool:
    """Whether rows can be read as vectors of four float32, as the kernels with register tiles do."""
    return dtype == np.float32 and not any(size % 4 for size in sizes)


def product(x: Array, w: Array | Bfloat16Weight, transposed: bool = False, residual: Array | None = None) -> Array:
    """x w, or x w^T with w [o a] if `transposed`, plus the residual if there is one: [N a] -> [N o]."""
    if isinstance(w, Bfloat16Weight):
        return _bfloat16_product(x, w, residual)
    if on_gpu(w, "weights").dtype != x.dtype:
        raise InputError("linear", f"weights in {x.dtype}", str(w.dtype), "convert them first")
    n, a, o = x.shape[0], x.shape[1], w.shape[0 if transposed else 1]
    out, sizes, run = device().empty((n, o), x.dtype), device().sizes[x.dtype.name], device().run
    add, y = ("", x) if residual is None else ("_add", residual)
    if not loads_four(x.dtype, a) or not (loads_four(x.dtype, o) or (transposed and n <= SKINNY)):
        grid = (-(-o // sizes.tile), -(-n // sizes.tile))
        run(x.dtype, "tiled_transposed" if transposed else "tiled", grid, x, w, out)
        return out if residual is None else add_into(residual, out)
    if n <= SKINNY:
        rows = -(-n // sizes.skinny_rows)
        if transposed:
            run(x.dtype, "skinny_transposed", (-(-o // (sizes.threads // 32)), rows), x, w, out)
        else:
            run(x.dtype, f"skinny{add}", (-(-o // 16), rows), x, w, y, out)
        return out
    grid = (-(-o // sizes.columns), -(-n // sizes.rows))
    run(x.dtype, f"linear{'_transposed' if transposed else ''}{add}", grid, x, w, w, y, out)
    return out


def _bfloat16_product(x: Array, w: Bfloat16Weight, residual: Array | None) -> Array:
    """The product of operands rounded to bfloat16, with float32 sums; on tensor cores if there are many rows."""
    if x.dtype != np.float32:
        raise InputError("linear", "float32 states with weights in bfloat16", str(x.dtype))
    n, o = x.shape[0], w.pairs.shape[0]
    out, sizes = device().empty((n, o), x.dtype), device().sizes["float32"]
    if n <= SKINNY:
        grid = (-(-o // (sizes.threads // 32)), -(-n // sizes.skinny_rows))
        device().run(x.dtype, "skinny_bfloat16", grid, x, w.pairs, out)
        return out if residual is None else add_into(residual, out)
    name, y = ("tensor", x) if residual is None else ("tensor_add", residual)
    rows, columns = sizes.warps_down * sizes.tiles_down * 16, sizes.warps_across * sizes.tiles_across * 8
    device().run(x.dtype, name, (-(-o // columns), -(-n // rows)), x, w.pairs, y, out)
    return out


def add_into(x: Array, y: Array) -> Array:
    """Adds x to y in place, and returns y."""
    threads = device().sizes[x.dtype.name].threads
    blocks = min(-(-x.size // (4 * threads)), 1 << 16)
    device().run(x.dtype, "add", blocks, x.reshape(x.size), y.reshape(y.size), y.reshape(y.size))
    return y


def gated(x: Array, w: Array, w2: Array) -> Array:
    """gelu(x w) * (x w2) in one kernel, for sizes that `loads_four` allows: [N a] -> [N f]."""
    out, sizes = device().empty((x.shape[0], w.shape[1]), x.dtype), device().sizes[x.dtype.name]
    grid = (-(-w.shape[1] // (sizes.columns // 2)), -(-x.shape[0] // sizes.rows))
    device().run(x.dtype, "linear_gate", grid, x, w, w2, x, out)
    return out
