"""CUDA kernels before compilation: plain functions with the types of their arguments; and the sizes of tiles."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

WARP = 32  # threads that run in step
EVERYONE = 0xFFFFFFFF  # the mask of a shuffle in which all threads of a warp take part


class Body(NamedTuple):
    """A kernel's function with the types of its arguments and the size of its blocks.

    Args:
        function: the kernel in Python.
        takes: a letter for each argument. With the kernel's dtype: x an array [.. ..], v an array [..], f a number.
            With int64: i an array [..], t an array [.. ..], n a number. h is an array [.. ..] of int32, each of which
            holds two bfloat16 numbers.
        block: threads of a block, or threads across and down.
        min_blocks: blocks that an SM must be able to run at once, so that some run while others wait for memory. The
            compiler divides the SM's registers among them.
    """

    function: Callable[..., None]
    takes: str
    block: int | tuple[int, int]
    min_blocks: int = 1

    @property
    def bounds(self) -> tuple[int, int]:
        """The launch bounds: threads of a block, and blocks that an SM must be able to run at once."""
        return math.prod(self.block) if isinstance(self.block, tuple) else self.block, self.min_blocks


class Sizes(NamedTuple):
    """Sizes of blocks and tiles; the simulator of the tests uses smaller ones.

    Args:
        threads: threads of a block that reads a row or a part of a flat array.
        small_block: threads of a block that copies a row, or sums some rows or a few numbers.
        tile: rows and columns of a block's tile in `tiled`, one thread for each number.
        rows, columns, terms: sizes of a block's tile in `linear`, whose threads have 8 by 8 numbers each.
        skinny_rows, slices: in `skinny`, the rows of a block, and the parts into which a sum's terms are divided.
        queries, keys: sizes of a block's tile in `attention`.
        one_query: threads of a block of `attend_one`.
        splits: largest number of parts into which `attend_one` divides a sequence's keys.
        warps_down, warps_across: warps of a block of `tensor`.
        tiles_down, tiles_across: tiles of 16 by 8 numbers of each of these warps.
        index_type, pair_type: the types of an index and of two bfloat16.
    """

    threads: int = 256
    small_block: int = 64
    tile: int = 16
    rows: int = 128
    columns: int = 128
    terms: int = 8
    skinny_rows: int = 4
    slices: int = 64
    queries: int = 64
    keys: int = 32
    one_query: int = 128
    splits: int = 16
    warps_down: int = 2
    warps_across: int = 4
    tiles_down: int = 4
    tiles_across: int = 4
    index_type: Any = np.int64
    pair_type: Any = np.int32


def reductions(cuda: Any, dtype: Any, threads: int) -> tuple[Any, Any]:
    """The functions block_sum and block_max for blocks of so many threads, all of which must call them.

    They combine the numbers of a warp by shuffles, then those of the warps in order through shared memory.
    """
    warps = threads // WARP
    lowest, nothing = dtype(-math.inf), dtype(0)

    @cuda.jit(device=True)
    def block_sum(mine):
        """The sum of `mine` over the block, in every thread."""
        parts = cuda.shared.array(warps, dtype)
        thread, step = cuda.threadIdx.x, WARP // 2
        while step > 0:
            mine += cuda.shfl_xor_sync(EVERYONE, mine, step)
            step //= 2
        if thread % WARP == 0:
            parts[thread // WARP] = mine
        cuda.syncthreads()
        total = nothing
        for warp in range(warps):
            total += parts[warp]
        cuda.syncthreads()  # all threads have read these parts before the next sum writes others
        return total

    @cuda.jit(device=True)
    def block_max(mine):
        """The largest `mine` of the block, in every thread; NaN is ignored."""
        parts = cuda.shared.array(warps, dtype)
        thread, step = cuda.threadIdx.x, WARP // 2
        while step > 0:
            mine = max(mine, cuda.shfl_xor_sync(EVERYONE, mine, step))
            step //= 2
        if thread % WARP == 0:
            parts[thread // WARP] = mine
        cuda.syncthreads()
        largest = lowest
        for warp in range(warps):
            largest = max(largest, parts[warp])
        cuda.syncthreads()
        return largest

    return block_sum, block_max
