"""Conversion between float32 and narrower numbers in registers, for operands of tiles; products across panels."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, register_jitable

from .llvm_ir import BYTES, FLOATS, I32, I64, INTS, LANES, POINTER, VectorBuilder, constant, function
from .multiply import WIDE
from .simd import fold

SHORTS = ir.VectorType(ir.IntType(16), LANES)
HALF = ir.VectorType(ir.IntType(8), 2 * LANES)  # half a vector of integers of 8 bits


def _rounded(code: VectorBuilder, x: ir.Value) -> ir.Value:
    """The bits of float32 numbers after rounding, ties to even: their upper halves are the bfloat16 numbers."""
    to, bits = code.to, code.to.bitcast(x, INTS)
    odd = to.and_(to.lshr(bits, constant(INTS, 16)), constant(INTS, 1))
    rounded = to.add(bits, to.add(odd, constant(INTS, 0x7FFF)))
    return to.select(to.fcmp_unordered("uno", x, x), constant(INTS, 0x7FC00000), rounded)


def halves(code: VectorBuilder, lanes: ir.Value, n: int) -> ir.Value:
    """The n-th bfloat16 of each lane, 0 or 1, as the bits of a float32."""
    return code.to.and_(lanes, constant(INTS, -65536)) if n else code.to.shl(lanes, constant(INTS, 16))


def pairs(code: VectorBuilder, half: ir.Value) -> ir.Value:
    """32 integers of 8 bits, widened to 16 bits each: two in each lane."""
    return code.to.bitcast(code.to.sext(half, ir.VectorType(SHORTS.element, 2 * LANES)), INTS)


def _rounding(wide: bool) -> Any:
    """An intrinsic f(x, vectors, out), which rounds 16 `vectors` numbers, and writes 16 or, if `wide`, 32 bits each."""

    @intrinsic
    def rounding(typing: Any, x: Any, vectors: Any, out: Any) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> ir.Value:
            code, (x, out) = VectorBuilder(builder), (builder.inttoptr(a, POINTER) for a in (args[0], args[2]))

            def one(i: ir.Value) -> list[ir.Value]:
                bits = _rounded(code, code.load(x, builder.mul(i, I64(BYTES)), FLOATS))
                if wide:
                    code.store(halves(code, bits, 1), out, builder.mul(i, I64(BYTES)))
                else:
                    half = builder.trunc(builder.lshr(bits, constant(INTS, 16)), SHORTS)
                    code.store(half, out, builder.mul(i, I64(BYTES // 2)))
                return []

            code.loop(args[1], [], one)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64), generate

    return rounding


_halve_row, _left_row = _rounding(False), _rounding(WIDE[2])


@register_jitable
def halve_row(x: int, vectors: int, out: int) -> Any:
    """Converts 16 `vectors` numbers from float32 to bfloat16. `out` may be x."""
    _halve_row(x, vectors, out)


@register_jitable
def left_row(x: int, vectors: int, out: int) -> Any:
    """The same numbers as a left operand of bfloat16's tile: as float32 on processors that multiply only these."""
    _left_row(x, vectors, out)


@intrinsic
def widen_row(typing: Any, x: Any, vectors: Any, out: Any) -> Any:
    """Widens 64 `vectors` signed integers of 8 bits to 16."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> ir.Value:
        code, (x, out) = VectorBuilder(builder), (builder.inttoptr(a, POINTER) for a in (args[0], args[2]))

        def one(i: ir.Value) -> list[ir.Value]:
            half = code.load(x, builder.mul(i, I64(BYTES // 2)), HALF)
            code.store(pairs(code, half), out, builder.mul(i, I64(BYTES)))
            return []

        code.loop(builder.mul(args[1], I64(2)), [], one)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def pair_lines(typing: Any, x: Any, row: Any, count: Any, out: Any) -> Any:
    """Writes 16 numbers of each of `count` rows as a panel in bfloat16, in which two rows share a line.

    The rows are `row` bytes apart. If their number is odd, the last row shares its line with zeros.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> ir.Value:
        code, (x, row, count, out) = VectorBuilder(builder), args
        x, out = builder.inttoptr(x, POINTER), builder.inttoptr(out, POINTER)
        zeros = constant(INTS, 0)

        def line(i: ir.Value) -> list[ir.Value]:
            first = builder.mul(i, I64(2))
            second = builder.add(first, I64(1))
            there = builder.icmp_signed("<", second, count)
            upper = code.load(x, builder.mul(builder.select(there, second, first), row), FLOATS)
            upper = builder.select(code.spread(there), _rounded(code, upper), zeros)
            lower = builder.lshr(_rounded(code, code.load(x, builder.mul(first, row), FLOATS)), constant(INTS, 16))
            both = builder.or_(lower, builder.and_(upper, constant(INTS, -65536)))
            code.store(both, out, builder.mul(i, I64(BYTES)), BYTES)
            return []

        code.loop(builder.sdiv(builder.add(count, I64(1)), I64(2)), [], line)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), generate


def _part(code: VectorBuilder, lanes: ir.Value, terms: int, n: int) -> ir.Value:
    """The n-th of the terms that a vector's lanes hold, as float32."""
    to = code.to
    if terms == 1:
        return to.bitcast(lanes, FLOATS)
    if terms == 2:
        return to.bitcast(halves(code, lanes, n), FLOATS)
    shift, bits = 8 * n, 8
    if WIDE[4]:  # a vector holds the first two terms of all lanes, then the others
        half = ir.Constant(ir.VectorType(I32, HALF.count), [n // 2 * HALF.count + i for i in range(HALF.count)])
        bytes = to.bitcast(lanes, ir.VectorType(HALF.element, 2 * HALF.count))
        lanes, shift, bits = pairs(code, to.shuffle_vector(bytes, bytes, half)), n % 2 * 16, 16
    return to.sitofp(to.ashr(to.shl(lanes, constant(INTS, 32 - bits - shift)), constant(INTS, 32 - bits)), FLOATS)


@intrinsic
def across(typing: Any, terms: Any, x: Any, panels: Any, panel: Any, count: Any, steps: Any, out: Any) -> Any:
    """out [a] = w x for a weight [a o] in panels and x [o]: the sum runs over the columns, "across" the panels.

    Args:
        terms: terms in a lane: 1, 2 or 4. With int8, x must be multiplied by the scales already.
        panels, panel: address of the first panel, and the distance of two panels in bytes.
        count: number of panels, and of vectors of x.
        steps: lanes of a column. out gets steps times terms numbers.
    """

    def body(module: ir.Module) -> ir.Function:
        f = function(module, "across_panels", ir.VoidType(), *[I64] * 7)
        if f.blocks:
            return f
        f.linkage = "internal"
        f.attributes.add("noinline")
        code = VectorBuilder(ir.IRBuilder(f.append_basic_block()))
        terms, x, panels, panel, count, steps, out = f.args
        x, panels, out = (code.to.inttoptr(a, POINTER) for a in (x, panels, out))
        end = f.append_basic_block()
        choice = code.to.switch(terms, end)
        for known in (1, 2, 4):
            block = f.append_basic_block()
            choice.add_case(I64(known), block)
            code.to.position_at_end(block)

            def step(i: ir.Value, known: int = known) -> list[ir.Value]:
                here = code.to.mul(i, I64(BYTES))

                def add(p: ir.Value, *sums: ir.Value) -> list[ir.Value]:
                    lanes = code.load(panels, code.to.add(code.to.mul(p, panel), here), INTS, BYTES)
                    factor = code.load(x, code.to.mul(p, I64(BYTES)), FLOATS)
                    return [code.fma(factor, _part(code, lanes, known, n), s) for n, s in enumerate(sums)]

                sums = code.loop(count, [constant(FLOATS, 0)] * known, add)
                for n, total in enumerate(sums):
                    offset = code.to.add(code.to.mul(i, I64(4 * known)), I64(4 * n))
                    code.store(fold(code, total, code.to.fadd), out, offset)
                return []

            code.loop(steps, [], step)
            code.to.branch(end)
        code.to.position_at_end(end)
        code.to.ret_void()
        return f

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> ir.Value:
        builder.call(body(builder.module), args)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), generate
