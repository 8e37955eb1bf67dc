"""Arrays that begin with a cache line; the memory of large ones is kept and used again.

The system hands out memory page by page, each at its first touch, which for a block's results took as long as a
fiftieth of the block; given back and asked for again with every block, it was paid for every time.
"""

from __future__ import annotations

import math
import mmap
import weakref
from collections import deque
from typing import Any

import numpy as np

LINE = 64
LARGE = 1 << 21  # from here on, whole pages of this size where the system has them
KEPT = 1 << 29  # bytes that wait to be used again, at most

_waiting: deque[mmap.mmap] = deque()


def _give_back(memory: mmap.mmap) -> None:
    _waiting.append(memory)
    while sum(map(len, list(_waiting))) > KEPT:
        _waiting.popleft()


def _large(size: int) -> np.ndarray:
    """`size` bytes from the start of a large page, which wait to be used again when nobody sees them."""
    for memory in list(_waiting):
        if size + LARGE <= len(memory) <= size + size // 4 + 2 * LARGE:
            try:
                _waiting.remove(memory)
                break
            except ValueError:  # another thread was faster
                continue
    else:
        memory = mmap.mmap(-1, (-(-size // LARGE) + 1) * LARGE)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
    seen = np.frombuffer(memory, np.uint8)
    weakref.finalize(seen, _give_back, memory).atexit = False
    start = -seen.ctypes.data % LARGE
    return seen[start : start + size]


def aligned(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    """An array of no particular content whose first number begins a cache line."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size >= LARGE:
        return _large(size).view(dtype).reshape(shape)
    raw = np.empty(size + LINE, np.uint8)
    start = -raw.ctypes.data % LINE
    return raw[start : start + size].view(dtype).reshape(shape)
