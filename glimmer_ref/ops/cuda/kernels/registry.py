"""All CUDA kernels by name, and the types of their arguments."""

from __future__ import annotations

from functools import cache
from typing import Any

from . import attention, matmul, rowwise, tensor_core
from .spec import Body, Sizes

FILES = (rowwise, matmul, attention, tensor_core)


def build(cuda: Any, dtype: Any, intrinsics: Any, sizes: Sizes) -> dict[str, Body]:
    """Every kernel as a plain function for one dtype.

    Args:
        cuda: numba's `cuda`, or a simulator's.
        dtype: np.float32 or np.float64.
        intrinsics: `cuda.kernels.intrinsics`, or a simulator's.
    """
    kernels: dict[str, Body] = {}
    for file in FILES:
        for factory in file.FACTORIES:
            kernels |= factory(cuda, dtype, intrinsics, sizes)
    return kernels


@cache
def signature(takes: str, dtype: str) -> Any:
    """The numba signature for the letters of a `Body`."""
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
