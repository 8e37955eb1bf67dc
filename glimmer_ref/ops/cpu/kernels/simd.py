"""Other vector loops than the tile: powers of 2, softmax of a row, copies, prefetches, a 16 x 16 transposition."""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from .llvm_ir import BYTES, F32, FEATURES, FLOATS, I32, I64, INTS, LANES, POINTER, VectorBuilder, constant, function

# A polynomial of degree five for 2^r, |r| <= 1/2. It is exact at 0; its relative error, 9.2e-8, is about the smallest.
POWERS = (
    1.0,
    0.6931469775754879,
    0.24022242044560363,
    0.05550733758651259,
    0.009671515328171298,
    0.0013264731059792563,
)
LOG2_E = 1 / math.log(2)
ROUND = 1.5 * 2**23  # a float32 of this size has no fraction, so adding it rounds to an integer
LEAST = -126  # below it 2^x is less than float32's smallest normal number


def power(code: VectorBuilder, x: ir.Value) -> ir.Value:
    """2^x = 2^n 2^r with an integer n, for vectors of x < 128. The result is 0 below -126, and NaN for NaN.

    The relative error is at most 1.72e-7 (at 0.50001), and 1.94e-7 (at 0.5003) on processors that round x y + z
    twice, measured over all float32 from -126 to 128.
    """
    to, number = code.to, lambda value: constant(FLOATS, value)
    shifted = to.fadd(x, number(ROUND))  # n is now in the lowest bits
    n = to.fsub(shifted, number(ROUND))
    r = to.fsub(x, n)  # exact
    e = number(POWERS[-1])
    for factor in POWERS[-2::-1]:
        e = code.fma(e, r, number(factor))
    if "avx512f" in FEATURES:  # one instruction instead of four, with the same bits
        least = to.bitcast(to.fcmp_unordered(">=", x, number(LEAST)), ir.IntType(LANES))
        name, args = "llvm.x86.avx512.mask.scalef.ps.512", (e, n, number(0), least, I32(4))
        return to.call(function(to.module, name, FLOATS, *[a.type for a in args]), args)
    exponent = to.shl(to.bitcast(shifted, INTS), constant(INTS, 23))
    e = to.bitcast(to.add(to.bitcast(e, INTS), exponent), FLOATS)
    return to.select(to.fcmp_ordered("<", x, number(LEAST)), number(0), e)


def power_or_infinity(code: VectorBuilder, x: ir.Value) -> ir.Value:
    """2^x for vectors of any x. The result is infinity above 126, and NaN for NaN."""
    far = code.to.fcmp_ordered(">", x, constant(FLOATS, 126))
    return code.to.select(far, constant(FLOATS, math.inf), power(code, x))


@intrinsic
def power_lines(typing: Any, x: Any, vectors: Any) -> Any:
    """Replaces 16 `vectors` numbers x by 2^x; `vectors` is at least 1."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> ir.Value:
        code, x = VectorBuilder(builder), builder.inttoptr(args[0], POINTER)

        def line(i: ir.Value) -> list[ir.Value]:
            here = builder.mul(i, I64(BYTES))
            code.store(power_or_infinity(code, code.load(x, here, FLOATS, BYTES)), x, here, BYTES)
            return []

        code.loop(args[1], [], line)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


def fold(code: VectorBuilder, x: ir.Value, combine: Any) -> ir.Value:
    """Reduces 16 numbers to one: `combine` combines the upper half with the lower half until one number is left."""
    size = LANES
    while size > 1:
        size //= 2
        indices = [size + i if i < size else i for i in range(LANES)]
        upper = code.to.shuffle_vector(
            x, ir.Constant(FLOATS, ir.Undefined), ir.Constant(INTS, [I32(p) for p in indices])
        )
        x = combine(x, upper)
    return code.to.extract_element(x, I32(0))


@intrinsic
def softmax_row(typing: Any, scores: Any, bias: Any, count: Any) -> Any:
    """Replaces a row of scores by 2^(score + bias - top), and returns their sum, by which the caller divides.

    Scores and biases are already multiplied by 1/ln 2, so that powers of e are powers of 2. These need no reduction of
    their argument, which saves two of nine multiplications. `scores` is the address of whole vectors. Their first
    `count` numbers are the row; the others become 0. `bias` is the address of `count` numbers. The rest of their last
    vector is read too, and must be finite.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> ir.Value:
        code, to = VectorBuilder(builder), builder
        scores, bias, count = to.inttoptr(args[0], POINTER), to.inttoptr(args[1], POINTER), args[2]
        vectors = to.udiv(to.add(count, I64(LANES - 1)), I64(LANES))
        last, low = to.mul(to.sub(vectors, I64(1)), I64(BYTES)), constant(FLOATS, -math.inf)
        lanes = ir.Constant(INTS, [I32(i) for i in range(LANES)])
        indices = to.add(code.spread(to.trunc(to.udiv(last, I64(4)), I32)), lanes)
        inside = to.icmp_signed("<", indices, code.spread(to.trunc(count, I32)))
        code.store(to.select(inside, code.load(scores, last, FLOATS, BYTES), low), scores, last, BYTES)

        def larger(x: ir.Value, y: ir.Value) -> ir.Value:
            return to.select(to.fcmp_ordered(">", x, y), x, y)

        def score(i: ir.Value, top: ir.Value) -> list[ir.Value]:
            here = to.mul(i, I64(BYTES))
            x = to.fadd(code.load(scores, here, FLOATS, BYTES), code.load(bias, here, FLOATS))
            code.store(x, scores, here, BYTES)
            return [larger(x, top)]

        def exponential(i: ir.Value, total: ir.Value) -> list[ir.Value]:
            here = to.mul(i, I64(BYTES))
            e = power(code, to.fsub(code.load(scores, here, FLOATS, BYTES), top))
            code.store(e, scores, here, BYTES)
            return [to.fadd(total, e)]

        top = code.loop(vectors, [low], score)[0]
        top = code.spread(fold(code, top, larger))
        return fold(code, code.loop(vectors, [constant(FLOATS, 0)], exponential)[0], to.fadd)

    return types.float32(types.int64, types.int64, types.int64), generate


@intrinsic
def divided_lines(typing: Any, x: Any, totals: Any, rows: Any, out: Any, out_row: Any) -> Any:
    """out = x / totals: x [rows 32] times the reciprocal of each row's total. Rows of out are `out_row` bytes apart.

    As a vector loop, and with `power` in one instruction, attention takes 1.8 % less time on AVX-512.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> ir.Value:
        code, to, (x, totals, rows, out, out_row) = VectorBuilder(builder), builder, args
        x, totals, out = (to.inttoptr(a, POINTER) for a in (x, totals, out))

        def line(r: ir.Value) -> list[ir.Value]:
            factor = code.spread(to.fdiv(F32(1), code.load(totals, to.mul(r, I64(4)), F32)))
            for half in (0, BYTES):
                y = code.load(x, to.add(to.mul(r, I64(2 * BYTES)), I64(half)), FLOATS, BYTES)
                code.store(to.fmul(y, factor), out, to.add(to.mul(r, out_row), I64(half)))
            return []

        code.loop(rows, [], line)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


@intrinsic
def scaled_lines(typing: Any, x: Any, row: Any, count: Any, factor: Any, out: Any, out_row: Any) -> Any:
    """Copies 16 numbers of each of `count` rows, times a factor. Rows are `row` and `out_row` bytes apart."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> ir.Value:
        code, (x, row, count, factor, out, out_row) = VectorBuilder(builder), args
        x, out, factor = builder.inttoptr(x, POINTER), builder.inttoptr(out, POINTER), code.spread(factor)

        def line(i: ir.Value) -> list[ir.Value]:
            y = builder.fmul(code.load(x, builder.mul(i, row), FLOATS), factor)
            code.store(y, out, builder.mul(i, out_row), BYTES)
            return []

        code.loop(count, [], line)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.float32, types.int64, types.int64), generate


@intrinsic
def prefetch_rows(typing: Any, x: Any, row: Any, count: Any, size: Any) -> Any:
    """Prefetches the first `size` bytes of `count` rows, which are `row` bytes apart.

    Processors prefetch consecutive addresses by themselves, but not the rows of a wide array.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> ir.Value:
        code, to, (x, row, count, size) = VectorBuilder(builder), builder, args
        prefetch = function(to.module, "llvm.prefetch.p0", ir.VoidType(), POINTER, I32, I32, I32)

        def line(i: ir.Value) -> list[ir.Value]:
            start = to.add(x, to.mul(i, row))

            def part(j: ir.Value) -> list[ir.Value]:
                pointer = to.inttoptr(to.add(start, to.mul(j, I64(BYTES))), POINTER)
                to.call(prefetch, [pointer, I32(0), I32(2), I32(1)])
                return []

            code.loop(to.udiv(to.add(size, I64(BYTES - 1)), I64(BYTES)), [], part)
            return []

        with to.if_then(to.icmp_signed(">", count, I64(0))):
            code.loop(count, [], line)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), generate


@intrinsic
def transpose(typing: Any, rows: Any, row_stride: Any, count: Any, out: Any) -> Any:
    """Writes 16 numbers of each of `count` rows, `row_stride` bytes apart, as 16 vectors: [16 16] transposed.

    If there are fewer than 16 rows, the last one is repeated.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> ir.Value:
        code, to = VectorBuilder(builder), builder
        rows, row_stride, count, out = to.inttoptr(args[0], POINTER), args[1], args[2], to.inttoptr(args[3], POINTER)
        last = to.sub(count, I64(1))
        lines = []
        for i in range(LANES):
            row = to.select(to.icmp_signed("<", I64(i), last), I64(i), last)
            lines.append(code.load(rows, to.mul(row, row_stride), FLOATS))
        # Four rounds, each of which exchanges one bit of a number's row with the same bit of its column.
        for half in (8, 4, 2, 1):
            low = [i + (LANES - half if i & half else 0) for i in range(LANES)]
            high = [i + half + (LANES - half if i & half else 0) for i in range(LANES)]
            for i in range(LANES):
                if not i & half:
                    x, y = lines[i], lines[i + half]
                    for index, picked in ((i, low), (i + half, high)):
                        lines[index] = to.shuffle_vector(x, y, ir.Constant(INTS, [I32(p) for p in picked]))
        for i, line in enumerate(lines):
            code.store(line, out, I64(BYTES * i), BYTES)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), generate


@intrinsic
def dot(typing: Any, x: Any, y: Any, vectors: Any) -> Any:
    """x . y for 16 `vectors` numbers: 16 sums, which are then added up with `fold`; `vectors` is at least 1."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> ir.Value:
        code, (x, y) = VectorBuilder(builder), (builder.inttoptr(a, POINTER) for a in args[:2])

        def add(i: ir.Value, total: ir.Value) -> list[ir.Value]:
            here = builder.mul(i, I64(BYTES))
            return [code.fma(code.load(x, here, FLOATS), code.load(y, here, FLOATS), total)]

        return fold(code, code.loop(args[2], [constant(FLOATS, 0)], add)[0], builder.fadd)

    return types.float32(types.int64, types.int64, types.int64), generate
