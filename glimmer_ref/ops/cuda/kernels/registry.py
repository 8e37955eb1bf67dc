"""All CUDA kernels by name, and the types they take: what `cuda.runtime.device` compiles and tests check."""

from __future__ import annotations

from functools import cache
from typing import Any

from . import attention, matmul, rowwise, tensor_core
from .spec import Body, Sizes

FILES = (rowwise, matmul, attention, tensor_core)


def build(cuda: Any, dtype: Any, words: Any, sizes: Sizes) -> dict[str, Body]:
    """Every kernel as a plain function for one dtype.

    Args:
        cuda: numba's `cuda`, or a simulator's.
        dtype: np.float32 or np.float64.
        words: `cuda.kernels.intrinsics`, or a simulator's.
    """
    kernels: dict[str, Body] = {}
    for file in FILES:
        for factory in file.FACTORIES:
            kernels |= factory(cuda, dtype, words, sizes)
    return kernels


@cache
def signature(takes: str, dtype: str) -> Any:
    """The numba signature that a body's letters stand for, see `Body`."""
    from numba import types

    number = getattr(types, dtype)
    kinds = {
        "x": types.Array(number, 2, "C"),
        "v": types.Array(number, 1, "C"),
        "f": number,
        "i": types.Array(types.int64, 1, "C"),
        "t": types.Array(types.int64, 2, "C"),
        "n": types.int64,
        "h": types.Array(types.int32, 2, "C"),
    }
    return types.void(*(kinds[letter] for letter in takes))
