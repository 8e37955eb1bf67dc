"""Instructions that numba-cuda lacks: loads of sixteen bytes, pairs of bfloat16, tensor cores.

This module is imported only when kernels are compiled. Kernel factories take it as an argument; the simulator of the
tests gives them the same functions in Python.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.cuda.extending import intrinsic

FOUR = 4


def _address(context: Any, builder: Any, array_type: Any, array: Any, at: Any, vector: Any) -> Any:
    """The address of array.flat[at] as a pointer to a vector."""
    data = context.make_array(array_type)(context, builder, array).data
    address = builder.gep(data, [at])
    return builder.bitcast(address, vector.as_pointer(address.type.addrspace))


def _vector(context: Any, dtype: Any) -> tuple[Any, int]:
    """The LLVM type of a vector of four numbers, and its size in bytes, which is its alignment."""
    return ir.VectorType(context.get_data_type(dtype), FOUR), FOUR * dtype.bitwidth // 8


@intrinsic
def load4(typing: Any, array: Any, at: Any) -> Any:
    """array.flat[at : at + 4] in one load. `at` is a multiple of four, and the array is not a slice of another."""
    signature = types.UniTuple(array.dtype, FOUR)(array, types.int64)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector, align = _vector(context, signature.args[0].dtype)
        loaded = builder.load(_address(context, builder, signature.args[0], args[0], args[1], vector))
        loaded.align = align
        lanes = [builder.extract_element(loaded, ir.Constant(ir.IntType(32), i)) for i in range(FOUR)]
        return context.make_tuple(builder, signature.return_type, lanes)

    return signature, codegen


@intrinsic
def store4(typing: Any, array: Any, at: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """array.flat[at : at + 4] = a, b, c, d in one store; `at` as in `load4`."""
    signature = types.void(array, types.int64, *(array.dtype,) * FOUR)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector, align = _vector(context, signature.args[0].dtype)
        packed = ir.Constant(vector, ir.Undefined)
        for i, value in enumerate(args[2:]):
            packed = builder.insert_element(packed, value, ir.Constant(ir.IntType(32), i))
        stored = builder.store(packed, _address(context, builder, signature.args[0], args[0], args[1], vector))
        stored.align = align
        return context.get_dummy_value()

    return signature, codegen


INT, FLOAT = ir.IntType(32), ir.FloatType()


def _assembler(builder: Any, result: Any, text: str, constraints: str, args: Any) -> Any:
    """One PTX instruction without side effects."""
    kind = ir.FunctionType(result, [a.type for a in args])
    return builder.call(ir.InlineAsm(kind, text, constraints, side_effect=False), args)


@intrinsic
def pack2(typing: Any, low: Any, high: Any) -> Any:
    """Two float32 rounded to bfloat16, ties to even, in one int32: the first in the lower half."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _assembler(builder, INT, "cvt.rn.bf16x2.f32 $0, $2, $1;", "=r,f,f", args)

    return types.int32(types.float32, types.float32), codegen


@intrinsic
def unpack2(typing: Any, word: Any) -> Any:
    """The two bfloat16 numbers in an int32 as float32, the lower half first."""
    signature = types.UniTuple(types.float32, 2)(types.int32)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        low = builder.shl(args[0], ir.Constant(INT, 16))
        high = builder.and_(args[0], ir.Constant(INT, 0xFFFF0000))
        return context.make_tuple(builder, signature.return_type, [builder.bitcast(x, FLOAT) for x in (low, high)])

    return signature, codegen


MMA = "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};"


@intrinsic
def mma(
    typing: Any, a0: Any, a1: Any, a2: Any, a3: Any, b0: Any, b1: Any, c0: Any, c1: Any, c2: Any, c3: Any
) -> Any:  # fmt: skip
    """c + a b for a warp: 16 rows times 8 columns with 16 terms in bfloat16 and sums in float32; see `tensor_core`."""
    signature = types.UniTuple(types.float32, FOUR)(*(types.int32,) * 6, *(types.float32,) * FOUR)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        four = ir.LiteralStructType([FLOAT] * FOUR)
        made = _assembler(builder, four, MMA, "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f", args)
        numbers = [builder.extract_value(made, i) for i in range(FOUR)]
        return context.make_tuple(builder, signature.return_type, numbers)

    return signature, codegen
