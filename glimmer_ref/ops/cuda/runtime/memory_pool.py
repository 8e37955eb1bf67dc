"""A pool that reuses GPU memory. Numba itself frees every array with the driver, which waits for the GPU each time.

It is a plugin for numba's interface of memory managers. All kernels and copies run on one stream, so a block may be
reused as soon as no array refers to it. This module is imported only when a GPU is opened.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from typing import Any

from numba import cuda
from numba.cuda.cudadrv import driver as numba_driver

PIECE = 2 << 20  # bytes; larger blocks are multiples of it, smaller ones powers of two


def rounded(size: int) -> int:
    """Bytes of the block for an array of `size` bytes. There are few different sizes, so that blocks can be reused."""
    return -(-size // PIECE) * PIECE if size > PIECE else max(512, 1 << (size - 1).bit_length())


class Pool(cuda.GetIpcHandleMixin, cuda.HostOnlyCUDAMemoryManager):
    """Keeps unused blocks by size in `free`, and gives all of them back to the driver when memory runs out."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.free: defaultdict[int, list[Any]] = defaultdict(list)

    def initialize(self) -> None:
        """Nothing to prepare."""

    def memalloc(self, size: int) -> Any:
        """An unused block if there is one, otherwise a new one."""
        length = rounded(size)
        block = self.free[length].pop() if self.free[length] else self._new(length)
        finalizer = self._release_block(length, block)
        return cuda.MemoryPointer(weakref.proxy(self.context), block, size, finalizer=finalizer)

    def _release_block(self, size: int, block: Any) -> Any:
        blocks = self.free[size]  # the finalizer must not keep self alive
        return lambda: blocks.append(block)

    def _new(self, size: int) -> Any:
        try:
            return numba_driver.driver.cuMemAlloc(size)
        except numba_driver.CudaAPIError:
            self.release()
            return numba_driver.driver.cuMemAlloc(size)

    def release(self) -> None:
        """Gives unused blocks back to the driver."""
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
