"""Arrays as addresses. Loops of kernels take addresses, because a slice of an array counts references."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, register_jitable

from .llvm_ir import BYTES, LANES, POINTER


@intrinsic
def pointer(typing: Any, address: Any) -> Any:
    """An address as numba's pointer, for `carray`."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> ir.Value:
        return builder.inttoptr(args[0], POINTER)

    return types.voidptr(types.int64), generate


@register_jitable
def address(x: Any) -> Any:
    """The address of an array's first number, as a signed integer: unsigned plus signed would give a float in NumPy."""
    return np.int64(x.ctypes.data)


@register_jitable
def floats(at: int, count: int) -> Any:
    """`count` float32 numbers at an address."""
    return numba.carray(pointer(at), (count,), np.float32)


@register_jitable
def copy(x: int, count: int, out: int) -> Any:
    """Copies `count` float32 numbers from one address to another."""
    numbers, to = floats(x, count), floats(out, count)
    for e in range(count):
        to[e] = numbers[e]


@register_jitable
def scratch(count: int) -> Any:
    """A thread's buffer of `count` float32 numbers, which begins at a cache line."""
    raw = np.empty(count + LANES, np.float32)
    start = -address(raw) % BYTES // 4
    return raw[start : start + count]
