"""The micro-kernel of matrix products, which takes nearly all time: a few rows times 32 columns, sums in registers.

It multiplies up to ROWS rows of the left operand by two panels of 16 columns of the right operand. Each number of the
left operand is copied to all lanes of a vector. The panels are packed so that their vectors are consecutive in memory.
A sum is added from the first term to the last, whatever the number of rows. So a row gives the same bits alone as among
many.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from .llvm_ir import BYTES, FEATURES, FLOATS, I32, I64, INTS, POINTER, VOID, VectorBuilder, constant, function

GROUP = {"float32": 1, "bfloat16": 2, "int8": 4}  # terms that one lane of 32 bits holds
WIDE = "avx512f" in FEATURES  # 32 registers of 16 numbers: both panels at once
# AVX-512's registers hold 14 x 2 sums, 2 vectors of columns and 2 of the left operand; AVX2's and NEON's 6 x 2 halves.
ROWS = 14 if WIDE else 2 if "sse2" in FEATURES and "avx2" not in FEATURES else 6

FEW = 3  # with so few rows the panels' loading takes most time, so they are read one by one, from end to end


def _float32(code: VectorBuilder, total: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    return code.fma(code.to.bitcast(a, FLOATS), code.to.bitcast(b, FLOATS), total)


def _bfloat16(code: VectorBuilder, total: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    """Two products per lane. A bfloat16 is the upper half of a float32, so the product of two is exact in float32."""
    if "avx512bf16" in FEATURES:
        name = "llvm.x86.avx512bf16.dpbf16ps.512"
        return code.to.call(function(code.to.module, name, FLOATS, FLOATS, INTS, INTS), [total, a, b])
    half, upper = constant(INTS, 16), constant(INTS, -65536)
    for part in (lambda x: code.to.shl(x, half), lambda x: code.to.and_(x, upper)):
        total = code.fma(code.to.bitcast(part(a), FLOATS), code.to.bitcast(part(b), FLOATS), total)
    return total


def _int8(code: VectorBuilder, total: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    """Four products per lane, with unsigned a and signed b. They are integers, so all processors give the same."""
    if "avx512vnni" in FEATURES:
        name = "llvm.x86.avx512.vpdpbusd.512"
        return code.to.call(function(code.to.module, name, INTS, INTS, INTS, INTS), [total, a, b])
    for n in range(4):
        x = code.to.and_(code.to.lshr(a, constant(INTS, 8 * n)), constant(INTS, 255))
        y = code.to.ashr(code.to.shl(b, constant(INTS, 24 - 8 * n)), constant(INTS, 24))
        total = code.to.add(total, code.to.mul(x, y))
    return total


STEPS = {"float32": (_float32, FLOATS), "bfloat16": (_bfloat16, FLOATS), "int8": (_int8, INTS)}


def _tile(module: ir.Module, precision: str, rows: int) -> ir.Function:
    """The tile for one number of rows: c [rows 32] = a [rows n] b [n 32], with n = `steps` lanes of 32 bits.

    Rows of a and c are `a_row` and `c_row` bytes apart. b consists of two panels [n 16], each without gaps.
    """
    name = f"tile_{precision}_{rows}"
    f = function(module, name, VOID, POINTER, I64, POINTER, POINTER, I64, POINTER, I64)
    f.linkage = "internal"
    f.attributes.add("noinline")
    a, a_row, *panels, steps, c, c_row = f.args
    code = VectorBuilder(ir.IRBuilder(f.append_basic_block()))
    starts = [code.to.gep(a, [code.to.mul(a_row, ir.Constant(I64, r))]) for r in range(rows)]
    step, kind = STEPS[precision]

    def body(several: list[ir.Value]) -> Callable[..., list[ir.Value]]:
        def once(i: ir.Value, *sums: ir.Value) -> list[ir.Value]:
            columns = [code.load(p, code.to.mul(i, ir.Constant(I64, BYTES)), INTS, BYTES) for p in several]
            result = []
            for r, start in enumerate(starts):
                x = code.spread(code.load(start, code.to.mul(i, ir.Constant(I64, 4)), I32))
                result += [step(code, sums[r * len(several) + n], x, y) for n, y in enumerate(columns)]
            return result

        return once

    for first, several in [(0, panels)] if WIDE and rows > FEW else enumerate([[p] for p in panels]):
        sums = code.loop(steps, [constant(kind, 0)] * (rows * len(several)), body(several))
        for r in range(rows):
            row = code.to.gep(c, [code.to.mul(c_row, ir.Constant(I64, r))])
            for n in range(len(several)):
                code.store(sums[r * len(several) + n], row, ir.Constant(I64, BYTES * (first + n)), BYTES)
    code.to.ret_void()
    return f


TILE_ARGS = (types.int64,) * 8


def _tile_of(precision: str) -> Any:
    """An intrinsic tile(rows, a, a_row, b0, b1, steps, c, c_row), rows 1 .. ROWS, for one precision."""

    @intrinsic
    def tile(typing: Any, rows: Any, a: Any, a_row: Any, b0: Any, b1: Any, steps: Any, c: Any, c_row: Any) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> ir.Value:
            rows, a, a_row, b0, b1, steps, c, c_row = args
            a, b0, b1, c = (builder.inttoptr(x, POINTER) for x in (a, b0, b1, c))
            end = builder.append_basic_block()
            switch = builder.switch(rows, end)
            for r in range(1, ROWS + 1):
                block = builder.append_basic_block()
                switch.add_case(ir.Constant(I64, r), block)
                builder.position_at_end(block)
                builder.call(_tile(builder.module, precision, r), [a, a_row, b0, b1, steps, c, c_row])
                builder.branch(end)
            builder.position_at_end(end)
            return context.get_dummy_value()

        return types.void(*TILE_ARGS), generate

    return tile


_float32_tile, _bfloat16_tile, _int8_tile = (_tile_of(precision) for precision in GROUP)


def float32_tile(rows: int, a: int, a_row: int, b0: int, b1: int, steps: int, c: int, c_row: int) -> None:
    """c = a [b0 b1] in float32. All arguments are addresses or numbers."""
    _float32_tile(rows, a, a_row, b0, b1, steps, c, c_row)


def bfloat16_tile(rows: int, a: int, a_row: int, b0: int, b1: int, steps: int, c: int, c_row: int) -> None:
    """The same product for bfloat16 numbers, two per lane, with sums in float32."""
    _bfloat16_tile(rows, a, a_row, b0, b1, steps, c, c_row)


def int8_tile(rows: int, a: int, a_row: int, b0: int, b1: int, steps: int, c: int, c_row: int) -> None:
    """The same product for integers of 8 bits, four per lane, with sums in int32; those of a are unsigned."""
    _int8_tile(rows, a, a_row, b0, b1, steps, c, c_row)


@intrinsic
def call_tile(
    typing: Any, tile: Any, rows: Any, a: Any, a_row: Any, b0: Any, b1: Any, steps: Any, c: Any, c_row: Any
) -> Any:
    """Calls the compiled tile at the address `tile`. So one compiled kernel serves all precisions."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> ir.Value:
        kind = ir.FunctionType(VOID, [I64] * 8)
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(types.int64, *TILE_ARGS), generate
