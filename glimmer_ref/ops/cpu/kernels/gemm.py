"""Matrix products by panels: how weights are packed, how rows are prepared, and the loop over tiles.

A weight [a o] is cut into panels of 16 columns. Each panel is stored as [a 16] without gaps, so that memory is read
from one end to the other, both with many rows (an encoder) and with one (a decoder step). In bfloat16, two terms of a
column share a lane, in int8 four: [a/2 16 2], [a/4 16 4]. On processors that widen int8, half a vector is widened at
once, so it holds two terms of all columns: [a/4 2 16 2]. int8 weights have one scale per column, computed when they are
packed. int8 rows have one scale per row, computed when they are prepared. All else stays float32. Prepared rows depend
on the processor too, see `multiply`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba.core import types
from numba.extending import register_jitable

from ....errors import InputError
from ....ragged import Array, bfloat16
from ...interface import PRECISIONS
from ..runtime.allocator import aligned, aligned_weights
from ..runtime.compile_cache import callback
from .descriptors import WEIGHT, Block, Rows, Tile
from .epilogue import ADD, GATE, STORE, finish
from .llvm_ir import BYTES, LANES
from .memory import address
from .microkernel import ROWS, TILE_ARGS, bfloat16_tile, call_tile, float32_tile, int8_tile
from .multiply import GROUP, WIDE, ZERO

PAIR = 2 * LANES  # columns of a tile
BLOCK_BYTES = 400_000  # size of a block of rows, which stays in the second-level cache while panels are read


@cache
def tile_address(precision: str) -> int:
    """The address of the compiled tile for a precision. It is compiled, or loaded, at the first call."""
    tiles = {"float32": float32_tile, "bfloat16": bfloat16_tile, "int8": int8_tile}
    return int(callback(tiles[precision], types.void(*TILE_ARGS)).address)


def attended_in(precision: str | None) -> Tile:
    """The tile for attention if the other products have this precision: bfloat16 for all lower than float32."""
    kind = "float32" if precision in (None, "float32") else "bfloat16"
    return Tile(tile_address(kind), GROUP[kind])


def row_stride(terms: int, group: int) -> int:
    """Distance of two prepared rows in bytes: an odd number of cache lines, so that rows use different cache sets.

    14 rows with a distance of 4096 bytes would compete for 8 ways of one set of the first-level cache.
    """
    lines = -(-(-(-terms // group) * 4) // BYTES) * (2 if WIDE[group] else 1)
    return BYTES * (lines | 1)


class Packed:
    """A weight [a o] of `linear` in panels, or a table [v d] of `embed` and `lm_head_logits`.

    Args:
        shape: shape of the weight or table.
        columns: o or v.
        panels: [P steps 16] lanes of 32 bits; P is even.
        scales: [16 P] the scales of int8 columns; empty for other precisions.
        offsets: [16 P] int32, ZERO times the sum of each int8 column, because prepared rows have ZERO added.
        source: the weight or table before packing, for `to_host` and `embed`. If its file is mapped, it takes no RAM.
    """

    dtype = np.dtype(np.float32)  # dtype of the operands and results of products

    def __init__(
        self, shape: tuple[int, int], columns: int, precision: str, panels: Array, scales: Array, offsets: Array,
        source: Array,
    ) -> None:  # fmt: skip
        self.shape, self.columns, self.precision = shape, columns, precision
        self.panels, self.scales, self.offsets, self.source = panels, scales, offsets, source

    @property
    def group(self) -> int:
        """Terms in a lane."""
        return GROUP[self.precision]

    @property
    def descriptor(self) -> tuple[int, ...]:
        """The fields of WEIGHT; valid as long as this object exists."""
        panels, scales, offsets = (x.ctypes.data for x in (self.panels, self.scales, self.offsets))
        return (tile_address(self.precision), panels, self.panels.shape[1], self.group, self.columns, scales, offsets)


def descriptors(*ws: Packed) -> Array:
    """The descriptors of some weights: [n] WEIGHT."""
    return np.array([w.descriptor for w in ws], WEIGHT)


def _column_scales(w: Array, columns: int) -> Array:
    """The scales by which int8 columns are divided, so that the largest absolute value of each becomes 127."""
    if not np.isfinite(w).all():
        raise InputError("int8 weights", "finite numbers", "inf or nan", "use float32 or bfloat16")
    scales = aligned(columns)
    scales[:] = 0
    scales[: w.shape[1]] = np.abs(w).max(axis=0, initial=0) / np.float32(127)
    return scales


def pack(w: Array, precision: str) -> Packed:
    """Packs a float32 matrix [a o] into panels. Products sum over a.

    Raises:
        InputError: the precision is unknown, or it is int8 and a number is not finite.
    """
    if precision not in PRECISIONS:
        raise InputError("precision", f"one of {', '.join(PRECISIONS)}", repr(precision))
    (a, o), group = w.shape, GROUP[precision]
    count, steps = 2 * -(-o // PAIR), -(-a // group)
    panels = aligned_weights(count, steps, LANES, group, dtype={1: np.float32, 2: np.uint16, 4: np.int8}[group])
    scales = _column_scales(w, LANES * count) if group == 4 else np.zeros(0, np.float32)
    whole = o // LANES if group == 1 else 0
    if whole:  # all panels at once, because training packs the weights in every step
        panels[:whole, ..., 0] = w[:, : whole * LANES].reshape(a, whole, LANES).transpose(1, 0, 2)
    for p in range(whole, count):
        here = slice(LANES * p, LANES * (p + 1))
        block = np.zeros((steps * group, LANES), np.float32)
        block[:a, : max(0, o - LANES * p)] = w[:, here]
        if group == 2:
            block = bfloat16(block)
        elif group == 4:
            block = np.rint(block / np.where(scales[here] > 0, scales[here], 1))
        panels[p] = block.reshape(steps, group, LANES).transpose(0, 2, 1)
    offsets = panels.sum(axis=(1, 3), dtype=np.int32).reshape(-1) * np.int32(ZERO) if group == 4 else scales
    if group == 4 and WIDE[group]:  # the tile widens half a line at once
        panels[:] = panels.reshape(count, steps, LANES, 2, 2).transpose(0, 1, 3, 2, 4).reshape(panels.shape)
    lanes = panels.reshape(count, steps, LANES * group).view(np.int32)
    return Packed((a, o), o, precision, lanes, scales, offsets, w)


def as_table(packed: Packed, table: Array) -> Packed:
    """The table [v d] with the panels of its transpose [d v]."""
    return Packed(table.shape, packed.columns, packed.precision, packed.panels, packed.scales, packed.offsets, table)


@register_jitable
def _narrow(mode: int, tile: Any, rows: int, width: int, x: Any, out: Any, i0: int, column: int) -> Any:
    """Copies the results of a last, narrow tile to out, and adds x with ADD. `finish` has written them to `tile`."""
    for r in range(rows):
        for j in range(width):
            out[i0 + r, column + j] = tile[r, j] + (x[i0 + r, column + j] if mode == ADD else np.float32(0))


@register_jitable
def product(mode: int, w: Any, gate: Any, a: Rows, scales: Any, block: Block, tile: Any, x: Any, out: Any) -> Any:
    """Computes a block of the product a w, panel after panel, so that a panel stays in cache.

    Args:
        w, gate: descriptors of weights. With GATE a tile has a panel of each; otherwise both are the same weight.
        a: the prepared rows.
        scales: [N] the scales of int8 rows.
        tile: [ROWS 32] a buffer of the thread.
        x, out: [N o] the residual and the result; out may have more columns.
    """
    i0, i1, step, full = block.i0, block.i1, w.steps * BYTES, LANES if mode == GATE else PAIR
    count = -(-(i1 - i0) // ROWS)
    at, out_row, x_row, whole = address(tile), 4 * out.shape[1], 4 * x.shape[1], 1 if w.terms == 4 else 0
    direct = mode == STORE and whole == 0 and out_row % BYTES == 0 and address(out) % BYTES == 0
    for p in range(block.p0, block.p1):
        column = p * full
        other = column if mode == GATE else column + LANES
        b0, b1 = w.panels + column // LANES * step, gate.panels + other // LANES * step
        width = min(w.columns - column, full)
        for t in range(count):
            first, last = i0 + (i1 - i0) * t // count, i0 + (i1 - i0) * (t + 1) // count
            rows, left = last - first, a.start + first * a.stride
            there, there_row = address(out) + first * out_row + 4 * column, out_row
            if direct and width == full:
                call_tile(w.tile, rows, left, a.stride, b0, b1, w.steps, there, out_row)
                continue
            call_tile(w.tile, rows, left, a.stride, b0, b1, w.steps, at, 4 * PAIR)
            if width < full:
                there, there_row = at, 4 * PAIR
            finish(
                STORE if mode == ADD and width < full else mode, whole, rows, at, address(scales) + 4 * first,
                w.scales + 4 * column, gate.scales + 4 * other, w.offsets + 4 * column, gate.offsets + 4 * other,
                address(x) + first * x_row + 4 * column, x_row, there, there_row,
            )  # fmt: skip
            if width < full:
                _narrow(mode, tile, rows, width, x, out, first, column)
