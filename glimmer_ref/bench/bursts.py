"""Loops in LLVM's intermediate representation that run at a processor's peak: their sums stay in vector registers.

Each function takes the features of a processor in LLVM's names, so that the loop for any processor can be built here.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any, NamedTuple

import llvmlite.ir as ir
from numba.core import cgutils

BLOCK = 4  # vectors for each step through memory: loads in the order of their addresses keep the prefetcher busy
I8, I16, I32, I64, FLOAT = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()


def shape(features: Set[str]) -> tuple[int, int]:
    """The lanes of a float32 vector, and how many sums fit into the registers beside two operands."""
    if "avx512f" in features:
        return 16, 24
    if "neon" in features:
        return 4, 24
    return (8, 12) if "avx" in features else (4, 12)


def _loop(builder: ir.IRBuilder, count: Any, sums: list[Any], step: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
    """for i in range(count): sums = step(i, sums), each sum a value that never leaves its register."""
    before, body = builder.block, builder.append_basic_block("body")
    after = builder.append_basic_block("after")
    builder.branch(body)
    builder.position_at_end(body)
    i = builder.phi(I64)
    kept = [builder.phi(x.type) for x in sums]
    new = step(i, kept)
    following = builder.add(i, I64(1))
    i.add_incoming(I64(0), before)
    i.add_incoming(following, body)
    for phi, start, value in zip(kept, sums, new, strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(value, body)
    builder.cbranch(builder.icmp_signed("<", following, count), body, after)
    builder.position_at_end(after)
    return new


def _splat(builder: ir.IRBuilder, x: Any, lanes: int) -> Any:
    kind = ir.VectorType(x.type, lanes)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), x, I32(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))


def _declared(builder: ir.IRBuilder, name: str, returns: Any, *takes: Any) -> Any:
    """One of LLVM's own functions, under its full name."""
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(returns, takes), name)


def _total(builder: ir.IRBuilder, sums: list[Any], floats: bool) -> Any:
    """One number that depends on every sum, so that the compiler removes none as unused."""
    add = builder.fadd if floats else builder.add
    whole = sums[0]
    for x in sums[1:]:
        whole = add(whole, x)
    return builder.extract_element(whole, I32(0))


def fma(builder: ir.IRBuilder, features: Set[str], count: Any, a: Any, b: Any) -> Any:
    """Compute sum = sum * a + b for every sum, `count` times, in float32 vectors."""
    lanes, many = shape(features)
    kind = ir.VectorType(FLOAT, lanes)
    function = _declared(builder, f"llvm.fmuladd.v{lanes}f32", kind, kind, kind, kind)
    x, y = (_splat(builder, arg, lanes) for arg in (a, b))
    sums = [_splat(builder, ir.Constant(FLOAT, float(i)), lanes) for i in range(many)]
    sums = _loop(builder, count, sums, lambda _, old: [builder.call(function, [s, x, y]) for s in old])
    return _total(builder, sums, floats=True)


def stream(builder: ir.IRBuilder, features: Set[str], address: Any, count: Any) -> Any:
    """The sum of `count` blocks of four vectors each, read one after the other from an address."""
    lanes = shape(features)[0]
    kind = ir.VectorType(FLOAT, lanes)
    base = builder.inttoptr(address, kind.as_pointer())

    def step(i: Any, old: list[Any]) -> list[Any]:
        first = builder.mul(i, I64(BLOCK))
        pointers = [builder.gep(base, [builder.add(first, I64(j))]) for j in range(BLOCK)]
        return [builder.fadd(x, builder.load(at, align=4 * lanes)) for x, at in zip(old, pointers, strict=True)]

    sums = [_splat(builder, ir.Constant(FLOAT, 0.0), lanes) for _ in range(BLOCK)]
    return _total(builder, _loop(builder, count, sums, step), floats=True)


class Dot(NamedTuple):
    """A dot product of short numbers, which is added to the lanes of a vector.

    Args:
        lanes: lanes of 32 bits in a vector.
        sums: sums that the registers hold.
        macs: multiply-adds of a lane.
        ones: 32 bits of an operand whose numbers are all 1.
        name: LLVM's function for it.
        alone: whether it computes the product only, to which an addition follows.
    """

    lanes: int
    sums: int
    macs: int
    ones: int
    name: str
    alone: bool = False

    @property
    def floats(self) -> bool:
        """Whether the sums are float32; otherwise they are int32."""
        return self.name.endswith("dpbf16ps.512")


BYTE_ONES, SHORT_ONES, BFLOAT16_ONES = 0x01010101, 0x00010001, 0x3F803F80
# The best exact instruction of a processor first: the feature that it needs, the precision, and the dot product. Where
# there is none for bytes, they are widened to 16 bits.
DOTS = (
    ("avx512bf16", "bfloat16", Dot(16, 24, 2, BFLOAT16_ONES, "llvm.x86.avx512bf16.dpbf16ps.512")),
    ("avx512vnni", "int8", Dot(16, 24, 4, BYTE_ONES, "llvm.x86.avx512.vpdpbusd.512")),
    ("avxvnni", "int8", Dot(8, 12, 4, BYTE_ONES, "llvm.x86.avx512.vpdpbusd.256")),
    ("avx512bw", "int8", Dot(16, 24, 2, SHORT_ONES, "llvm.x86.avx512.pmaddw.d.512", True)),
    ("avx2", "int8", Dot(8, 12, 2, SHORT_ONES, "llvm.x86.avx2.pmadd.wd", True)),
    ("sse2", "int8", Dot(4, 12, 2, SHORT_ONES, "llvm.x86.sse2.pmadd.wd", True)),
    ("dotprod", "int8", Dot(4, 24, 4, BYTE_ONES, "llvm.aarch64.neon.sdot.v4i32.v16i8")),
    ("neon", "int8", Dot(4, 24, 1, SHORT_ONES, "llvm.aarch64.neon.smull.v4i32", True)),
)


def dot_of(features: Set[str], precision: str) -> Dot | None:
    """The dot product for a lower precision; None if the processor has none, so that float32's peak is its own."""
    return next((dot for feature, of, dot in DOTS if of == precision and feature in features), None)


def _opaque(builder: ir.IRBuilder, x: Any) -> Any:
    """x, which LLVM must take for another value: it would compute a product of constant operands once for all sums."""
    letter = "w" if "aarch64" in builder.module.triple or "arm64" in builder.module.triple else "v"
    return builder.asm(ir.FunctionType(x.type, [x.type]), "", f"={letter},0", [x], side_effect=True)


def _operand(dot: Dot) -> Any:
    """The type of an operand: numbers of 32 bits divided by those that a lane adds up; LLVM wants some as lanes."""
    if "vpdpbusd" in dot.name or dot.floats:
        return ir.VectorType(I32, dot.lanes)
    if dot.macs == 1:
        return ir.VectorType(I16, dot.lanes)
    return ir.VectorType({2: I16, 4: I8}[dot.macs], dot.macs * dot.lanes)


def dots(builder: ir.IRBuilder, dot: Dot, count: Any, a: Any) -> Any:
    """Add a dot product to every sum, `count` times; the numbers of both operands are those in the 32 bits of a."""
    lane, x = FLOAT if dot.floats else I32, _splat(builder, a, dot.lanes)
    kind, operand = ir.VectorType(lane, dot.lanes), _operand(dot)
    x = builder.trunc(x, operand) if dot.macs == 1 else builder.bitcast(x, operand)
    takes = [operand, operand] if dot.alone else [kind, operand, operand]
    function = _declared(builder, dot.name, kind, *takes)

    def step(_: Any, old: list[Any]) -> list[Any]:
        x, new = old[-1], []
        for total in old[:-1]:
            if dot.alone:
                new.append(builder.add(total, builder.call(function, [x, x])))
                x = _opaque(builder, x)
            else:
                new.append(builder.call(function, [total, x, x]))
        return [*new, x]

    sums = [_splat(builder, ir.Constant(lane, i), dot.lanes) for i in range(dot.sums)]
    return _total(builder, _loop(builder, count, [*sums, x], step)[:-1], dot.floats)
