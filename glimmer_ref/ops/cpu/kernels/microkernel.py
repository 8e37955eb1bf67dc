"""The micro-kernel of matrix products, which takes nearly all time: a few rows times 32 columns, sums in registers.

It multiplies up to ROWS rows of the left operand by two panels of 16 columns of the right operand. Each lane of the
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

from .bfloat16 import HALF, halves, pairs
from .llvm_ir import (
    BYTES,
    FLOATS,
    I32,
    I64,
    INTS,
    LANES,
    POINTER,
    VOID,
    VectorBuilder,
    constant,
    function,
)  # fmt: skip
from .multiply import GROUP, HERE, Processor, Way

ROWS = HERE.rows
FEW = 3  # with so few rows the panels' loading takes most time, so they are read one by one, from end to end


def _registers(code: VectorBuilder, lanes: int, x: ir.Value) -> list[ir.Value]:
    """A vector of 16 lanes in registers of `lanes`."""
    if lanes == LANES:
        return [x]
    kind = ir.VectorType(I32, lanes)
    parts = [ir.Constant(kind, list(range(first, first + lanes))) for first in range(0, LANES, lanes)]
    return [code.to.shuffle_vector(x, x, part) for part in parts]


def _by_registers(code: VectorBuilder, lanes: int, operation: Callable[..., ir.Value], *xs: ir.Value) -> ir.Value:
    """Applies an operation to vectors of 16 lanes, of which it takes `lanes` at once."""
    parts = [operation(*some) for some in zip(*[_registers(code, lanes, x) for x in xs], strict=True)]
    while len(parts) > 1:  # LLVM removes these shuffles again
        size = 2 * parts[0].type.count
        whole = ir.Constant(ir.VectorType(I32, size), list(range(size)))
        parts = [code.to.shuffle_vector(x, y, whole) for x, y in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def _multiply_add(code: VectorBuilder, way: Way, total: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    """total + a b, lane by lane; integers are exact, so all processors give the same."""
    to, bits = code.to, 32 * way.lanes
    raw, bytes, shorts = (ir.VectorType(ir.IntType(n), bits // n) for n in (32, 8, 16))

    def call(name: str, kind: ir.Type, *args: ir.Value) -> ir.Value:
        """An instruction whose operands and, beside a sum as the first of three, result have these types."""
        kinds = [*[x.type for x in args[:-2]], kind, kind]
        f = function(to.module, f"llvm.{name}", args[0].type if args[:-2] else raw, *kinds)
        return to.call(f, [to.bitcast(x, kind) for x, kind in zip(args, kinds, strict=True)])

    def pairs_of_16_bits(total: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
        name = {4: "sse2.pmadd.wd", 8: "avx2.pmadd.wd", 16: "avx512.pmaddw.d.512"}[way.lanes]
        total = to.add(total, call(f"x86.{name}", shorts, a, b))
        # The empty assembly keeps LLVM from adding in another order, for which all products had to be kept.
        return code.opaque(total, "v" if way.lanes == LANES else "x")

    def products(total: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
        half = ir.Constant(raw, [16] * way.lanes)
        for part in (lambda x: to.ashr(to.shl(x, half), half), lambda x: to.ashr(x, half)):
            total = to.add(total, to.mul(part(a), part(b)))
        return total

    operations: dict[str, Callable[..., ir.Value]] = {
        "fma": lambda x, a, b: code.fma(to.bitcast(a, FLOATS), to.bitcast(b, FLOATS), x),
        "vdpbf16ps": lambda *args: call(f"x86.avx512bf16.dpbf16ps.{bits}", raw, *args),  # two products a lane
        "vpdpbusd": lambda *args: call(f"x86.avx512.vpdpbusd.{bits}", raw, *args),  # four, of unsigned a and signed b
        "sdot": lambda *args: call("aarch64.neon.sdot.v4i32.v16i8", bytes, *args),  # four, of signed numbers
        "pmaddwd": pairs_of_16_bits,
        "mul": products,
    }
    return _by_registers(code, LANES if way.name == "fma" else way.lanes, operations[way.name], total, a, b)


def tile_function(module: ir.Module, processor: Processor, precision: str, rows: int) -> ir.Function:
    """The tile for one number of rows: c [rows 32] = a [rows n] b [n 32], with n = `steps` lanes of 32 bits of b.

    Rows of a and c are `a_row` and `c_row` bytes apart. b consists of two panels [n 16], each without gaps. If lines of
    b are widened in two parts, all rows multiply by the first part, then by the second: so few registers suffice.
    """
    name = f"tile_{precision}_{rows}"
    f = function(module, name, VOID, POINTER, I64, POINTER, POINTER, I64, POINTER, I64)
    f.linkage = "internal"
    f.attributes.add("noinline")
    a, a_row, *panels, steps, c, c_row = f.args
    code = VectorBuilder(ir.IRBuilder(f.append_basic_block()))
    three_rows = code.to.mul(a_row, ir.Constant(I64, 3))
    way = processor.ways[precision]
    kind = INTS if precision == "int8" else FLOATS

    def columns(p: ir.Value, i: ir.Value, n: int) -> ir.Value:
        """The n-th part of line i of a panel."""
        line = code.to.mul(i, ir.Constant(I64, BYTES))
        if way.parts == 1 or precision != "int8":
            lanes = code.load(p, line, INTS, BYTES)
            return lanes if way.parts == 1 else halves(code, lanes, n)
        return pairs(code, code.load(p, code.to.add(line, ir.Constant(I64, n * BYTES // 2)), HALF, BYTES // 2))

    def body(several: list[ir.Value]) -> Callable[..., list[ir.Value]]:
        def once(i: ir.Value, *sums: ir.Value) -> list[ir.Value]:
            result, at = list(sums), code.to.mul(i, ir.Constant(I64, 4 * way.parts))
            for n in range(way.parts):
                if n:  # the registers of the first columns are free only when all rows are multiplied
                    sums_so_far = [x for total in result for x in _registers(code, way.lanes, total)]
                    code.barrier(*(sums_so_far if processor.register else []), register=processor.register)
                lines = [columns(p, i, n) for p in several]
                start = code.to.gep(a, [code.to.add(at, ir.Constant(I64, 4 * n))])
                for r in range(rows):
                    if r and r % 3 == 0:
                        start = code.opaque(code.to.gep(start, [three_rows]))
                    x = code.spread(code.load(start, code.to.mul(a_row, ir.Constant(I64, r % 3)), I32))
                    for m, y in enumerate(lines, r * len(lines)):
                        result[m] = _multiply_add(code, way, result[m], x, y)
            return result

        return once

    for first, several in [(0, panels)] if way.together and rows > FEW else enumerate([[p] for p in panels]):
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
                builder.call(tile_function(builder.module, HERE, precision, r), [a, a_row, b0, b1, steps, c, c_row])
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
    """The same product for bfloat16 numbers, two per lane, with sums in float32; see `Way` for those of a."""
    _bfloat16_tile(rows, a, a_row, b0, b1, steps, c, c_row)


def int8_tile(rows: int, a: int, a_row: int, b0: int, b1: int, steps: int, c: int, c_row: int) -> None:
    """The same product for integers of 8 bits, four per lane, with sums in int32; see `Way` for those of a."""
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
