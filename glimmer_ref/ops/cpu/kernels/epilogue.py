"""Epilogues: operations on a tile of a product while it is in the first-level cache, before it is written to memory."""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from .llvm_ir import BYTES, F32, FLOATS, I64, INTS, POINTER, VectorBuilder, constant, function
from .simd import LOG2_E, power_or_infinity

SLOPE, CUBIC = -2 * math.sqrt(2 / math.pi), 0.044715  # GELU in its tanh form is y / (1 + e^(SLOPE (y + CUBIC y^3)))
STORE, ADD, GATE, RELU = range(4)  # epilogues of a tile y: out = y, x + y, gelu(y) * gate, max(y, 0)


def _gelu(code: VectorBuilder, y: ir.Value) -> ir.Value:
    """y / (1 + e^-2z) with z = sqrt(2/pi) (y + 0.044715 y^3). It equals y/2 (1 + tanh z), but is accurate far below 0.

    The error is at most 1.3e-7 |y|. Relative to the result it is at most 1.7e-7 above 0, 1e-6 down to -4 and 1e-5 down
    to -10; below -10 the result is 0. -inf gives NaN, as in the formula. Measured over all float32 exponents.
    """
    to, number, slope = code.to, lambda value: constant(FLOATS, value), SLOPE * LOG2_E
    z = to.fmul(y, code.fma(to.fmul(y, y), number(CUBIC * slope), number(slope)))
    return to.fdiv(y, to.fadd(power_or_infinity(code, z), number(1)))


@intrinsic
def gate_lines(typing: Any, a: Any, b: Any, vectors: Any, out: Any) -> Any:
    """out = gelu(a) * b for 16 `vectors` numbers, computed as in `finish`; `vectors` is at least 1."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> ir.Value:
        code, (a, b, out) = VectorBuilder(builder), (builder.inttoptr(args[i], POINTER) for i in (0, 1, 3))

        def line(i: ir.Value) -> list[ir.Value]:
            here = builder.mul(i, I64(BYTES))
            y = builder.fmul(_gelu(code, code.load(a, here, FLOATS)), code.load(b, here, FLOATS))
            code.store(y, out, here)
            return []

        code.loop(args[2], [], line)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), generate


def _unscale(code: VectorBuilder, y: ir.Value, row_scale: ir.Value, scales: ir.Value, offsets: ir.Value) -> ir.Value:
    """The float32 numbers for the int8 sums y in 16 columns: (y - offset) * scale of the row * scale of the column."""
    whole = code.to.sub(code.to.bitcast(y, INTS), code.load(offsets, I64(0), INTS))
    scale = code.to.fmul(code.spread(row_scale), code.load(scales, I64(0), FLOATS))
    return code.to.fmul(code.to.sitofp(whole, FLOATS), scale)


def _finish_as(code: VectorBuilder, mode: int, whole: bool, a: dict[str, ir.Value]) -> None:
    to = code.to

    def row(r: ir.Value) -> list[ir.Value]:
        line = to.mul(r, I64(2 * BYTES))
        y = [code.load(a["tile"], to.add(line, I64(BYTES * half)), FLOATS, BYTES) for half in (0, 1)]
        if whole:
            scale = code.load(a["row_scales"], to.mul(r, I64(4)), F32)
            y = [_unscale(code, y[h], scale, a[f"scales{h}"], a[f"offsets{h}"]) for h in (0, 1)]
        row_start = to.mul(r, a["out_row"])
        if mode == GATE:
            code.store(to.fmul(_gelu(code, y[0]), y[1]), a["out"], row_start)
            return []
        for half in (0, 1):
            at = to.add(row_start, I64(BYTES * half))
            if mode == ADD:
                y[half] = to.fadd(code.load(a["x"], to.add(to.mul(r, a["x_row"]), I64(BYTES * half)), FLOATS), y[half])
            elif mode == RELU:
                y[half] = to.select(to.fcmp_ordered("<", y[half], constant(FLOATS, 0)), constant(FLOATS, 0), y[half])
            code.store(y[half], a["out"], at)
        return []

    code.loop(a["rows"], [], row)


@intrinsic
def finish(
    typing: Any, mode: Any, whole: Any, rows: Any, tile: Any, row_scales: Any, scales0: Any, scales1: Any,
    offsets0: Any, offsets1: Any, x: Any, x_row: Any, out: Any, out_row: Any,
) -> Any:  # fmt: skip
    """Applies the epilogue `mode` to a tile [rows 32], and writes the result to out; `whole` if it holds int8 sums.

    All arguments are addresses or numbers. With GATE the tile's second half is the gate, and out gets 16 columns.
    """
    names = ("rows", "tile", "row_scales", "scales0", "scales1", "offsets0", "offsets1", "x", "x_row", "out", "out_row")
    numbers = ("rows", "x_row", "out_row")

    def body(module: ir.Module) -> ir.Function:
        f = function(module, "finish_tile", ir.VoidType(), *[I64] * (2 + len(names)))
        if f.blocks:
            return f
        f.linkage = "internal"
        f.attributes.add("noinline")
        code = VectorBuilder(ir.IRBuilder(f.append_basic_block()))
        a = {n: v if n in numbers else code.to.inttoptr(v, POINTER) for n, v in zip(names, f.args[2:], strict=True)}
        end = f.append_basic_block()
        choice = code.to.switch(code.to.add(code.to.mul(f.args[0], I64(2)), f.args[1]), end)
        for which in range(8):
            block = f.append_basic_block()
            choice.add_case(I64(which), block)
            code.to.position_at_end(block)
            _finish_as(code, which // 2, which % 2 == 1, a)
            code.to.branch(end)
        code.to.position_at_end(end)
        code.to.ret_void()
        return f

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> ir.Value:
        builder.call(body(builder.module), args)
        return context.get_dummy_value()

    return types.void(*[types.int64] * (2 + len(names))), generate
