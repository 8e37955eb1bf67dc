"""GPU memory that is used again: numba itself gives every array back to the driver, which waits for the GPU each time.

A plugin of numba's own interface for memory managers. All our kernels and copies are on one stream, so memory may be
handed out again as soon as no array has it. Imported only where a GPU is opened.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from typing import Any

from numba import cuda
from numba.cuda.cudadrv import driver as numba_driver

PIECE = 2 << 20  # larger blocks are multiples of it, smaller ones powers of two


def rounded(size: int) -> int:
    """Bytes of the block that an array of `size` bytes gets: few different ones, so that they fit again."""
    return -(-size // PIECE) * PIECE if size > PIECE else max(512, 1 << (size - 1).bit_length())


class Pool(cuda.GetIpcHandleMixin, cuda.HostOnlyCUDAMemoryManager):
    """Blocks by size, those that nobody has in `free`; all of them go back to the driver before memory runs out."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.free: defaultdict[int, list[Any]] = defaultdict(list)

    def initialize(self) -> None:
        """Nothing to prepare."""

    def memalloc(self, size: int) -> Any:
        """A block that was used before, else a new one."""
        room = rounded(size)
        block = self.free[room].pop() if self.free[room] else self._new(room)
        return cuda.MemoryPointer(weakref.proxy(self.context), block, size, finalizer=self._giving_back(room, block))

    def _giving_back(self, room: int, block: Any) -> Any:
        blocks = self.free[room]  # not self, which a finalizer would keep alive
        return lambda: blocks.append(block)

    def _new(self, room: int) -> Any:
        try:
            return numba_driver.driver.cuMemAlloc(room)
        except numba_driver.CudaAPIError:
            self.release()
            return numba_driver.driver.cuMemAlloc(room)

    def release(self) -> None:
        """Give the driver what nobody has."""
        for blocks in self.free.values():
            while blocks:
                numba_driver.driver.cuMemFree(blocks.pop())

    def reset(self) -> None:
        super().reset()
        self.release()

    def get_memory_info(self) -> Any:
        free, total = numba_driver.driver.cuMemGetInfo()
        return cuda.MemoryInfo(free=free, total=total)

    @property
    def interface_version(self) -> int:
        return 1
