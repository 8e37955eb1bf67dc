"""Arrays that begin at a cache line; the memory of large ones is kept and used again.

The system hands out memory page by page, each at its first touch; given back and asked for again with every block,
that would be paid for every time.
"""

from __future__ import annotations

import math
import mmap
import os
import threading
import weakref
from collections import deque
from contextlib import suppress
from typing import Any

import numpy as np

LINE = 64
LARGE = 1 << 21  # from here on, whole pages of this size where the system has them
CHUNK = 1 << 25  # bytes of weights that share large pages
KEPT = 1 << 29  # bytes that wait to be used again, at most

_waiting: deque[mmap.mmap] = deque()


def _give_back(memory: mmap.mmap) -> None:
    _waiting.append(memory)
    while sum(map(len, list(_waiting))) > KEPT:
        _waiting.popleft()


def _map(size: int) -> mmap.mmap:
    """Fresh memory; private, since shared memory has no large pages."""
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without large pages
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


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
        memory = _map((-(-size // LARGE) + 1) * LARGE)
    seen = np.frombuffer(memory, np.uint8)
    weakref.finalize(seen, _give_back, memory).atexit = False
    start = -seen.ctypes.data % LARGE
    return seen[start : start + size]


class _Chunk:
    """Large pages that weights are put into one behind the other, freed when the last of them is."""

    def __init__(self) -> None:
        self.rest, self.lock = np.empty(0, np.uint8), threading.Lock()

    def part(self, size: int) -> np.ndarray:
        """The next `size` bytes, of this chunk or a fresh one."""
        with self.lock:
            if size > len(self.rest):
                fresh = np.frombuffer(_map(CHUNK + LARGE), np.uint8)
                self.rest = fresh[-fresh.ctypes.data % LARGE :]
            here, self.rest = self.rest[:size], self.rest[-(-size // LINE) * LINE :]
        return here


_chunk = _Chunk()


def _in_child() -> None:
    """A fork may have come while another thread held the lock."""
    _chunk.lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def settled(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    """As `aligned`, for weights: they stay, and small ones share large pages, which are read faster."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return aligned(*shape, dtype=dtype) if size > CHUNK else _chunk.part(size).view(dtype).reshape(shape)


def aligned(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    """An array of no particular content whose first number begins a cache line."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size >= LARGE:
        return _large(size).view(dtype).reshape(shape)
    raw = np.empty(size + LINE, np.uint8)
    start = -raw.ctypes.data % LINE
    return raw[start : start + size].view(dtype).reshape(shape)


def plain(x: np.ndarray, dtype: Any = np.float32) -> np.ndarray:
    """x, or a copy that kernels can take: they are compiled for contiguous writable arrays only."""
    return x if x.flags.carray and x.dtype == dtype else np.require(x, dtype, ["C", "A", "W"])
