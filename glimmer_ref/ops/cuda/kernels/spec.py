"""What a CUDA kernel is here: a plain function with the types it takes; and how large its tiles are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

WARP = 32  # threads that go in step
EVERYONE = 0xFFFFFFFF  # all of them take part in a shuffle


class Body(NamedTuple):
    """A kernel's function, a letter for each of its arguments, its block, and the blocks that an SM must have room for.

    A block is threads, or threads across and down. More blocks at once hide each other's waiting; the compiler divides
    the SM's registers by them.

    x: [.. ..] of the kernel's dtype; v: [..] of it; f: a number of it; i: [..] int64; t: [.. ..] int64, a table;
    n: a whole number; h: [.. ..] int32 that hold two bfloat16 each.
    """

    function: Callable[..., None]
    takes: str
    block: int | tuple[int, int]
    resident: int = 1

    @property
    def bounds(self) -> tuple[int, int]:
        """What the compiler is told: threads of a block, and blocks of an SM."""
        return math.prod(self.block) if isinstance(self.block, tuple) else self.block, self.resident


class Sizes(NamedTuple):
    """How large blocks and tiles are; the simulator of the tests takes smaller ones.

    Args:
        threads: of a block that is a row, and of one that has a part of a flat array.
        moving: of one that moves a row, or sums up some rows or few numbers.
        tile: rows and columns of a block's tile in `tiled`, a thread each.
        rows, columns, terms: of a block's tile in `linear`, whose threads have 8 by 8 numbers each.
        few, slices: of `few`: rows at once, and parts that a sum's terms are cut into.
        queries, keys: of a block's tile in `attention`.
        one: threads of a block of `attend_one`.
        splits: parts that `attend_one` cuts a sequence's keys into at most.
        warps_down, warps_across: of a block of `tensor`.
        tiles_down, tiles_across: of 16 by 8 numbers, of a warp of it.
        whole, word: the types of a place, and of two bfloat16.
    """

    threads: int = 256
    moving: int = 64
    tile: int = 16
    rows: int = 128
    columns: int = 128
    terms: int = 8
    few: int = 4
    slices: int = 64
    queries: int = 64
    keys: int = 32
    one: int = 128
    splits: int = 16
    warps_down: int = 2
    warps_across: int = 4
    tiles_down: int = 4
    tiles_across: int = 4
    whole: Any = np.int64
    word: Any = np.int32


def reductions(cuda: Any, dtype: Any, threads: int) -> tuple[Any, Any]:
    """block_sum and block_max for blocks of so many threads, all of which must call them.

    A warp's numbers meet by shuffles, the warps' in order, through shared memory.
    """
    warps = threads // WARP
    lowest, nothing = dtype(-math.inf), dtype(0)

    @cuda.jit(device=True)
    def block_sum(mine):
        """The sum over the block, in every thread."""
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
        cuda.syncthreads()  # nobody writes the next sum's parts before all have read these
        return total

    @cuda.jit(device=True)
    def block_max(mine):
        """The largest in the block, in every thread; a NaN is passed over."""
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
