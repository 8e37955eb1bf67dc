"""Arrays that begin at a cache line. The memory of large arrays is kept and reused.

The system provides fresh memory page by page, at the first access to each page, which takes time. If every block
returned its memory to the system, every block would take this time again.
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
LARGE = 1 << 21  # arrays of so many bytes and more get whole pages of this size, if the system has them
CHUNK = 1 << 25  # bytes of weights that share large pages
KEPT = 1 << 29  # maximum number of unused bytes that are kept

_waiting: deque[mmap.mmap] = deque()


def _release(memory: mmap.mmap) -> None:
    _waiting.append(memory)
    while sum(map(len, list(_waiting))) > KEPT:
        _waiting.popleft()


def _map(size: int) -> mmap.mmap:
    """Fresh memory. It is private, because shared memory has no large pages."""
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without large pages
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def _large(size: int) -> np.ndarray:
    """`size` bytes from the start of a large page. When no array uses them any more, they are kept for reuse."""
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
    weakref.finalize(seen, _release, memory).atexit = False
    start = -seen.ctypes.data % LARGE
    return seen[start : start + size]


class _Chunk:
    """Large pages with several weights, one behind the other. They are freed together with the last weight."""

    def __init__(self) -> None:
        self.rest, self.lock = np.empty(0, np.uint8), threading.Lock()

    def part(self, size: int) -> np.ndarray:
        """The next `size` bytes of this chunk, or of a fresh one if they do not fit."""
        with self.lock:
            if size > len(self.rest):
                fresh = np.frombuffer(_map(CHUNK + LARGE), np.uint8)
                self.rest = fresh[-fresh.ctypes.data % LARGE :]
            here, self.rest = self.rest[:size], self.rest[-(-size // LINE) * LINE :]
        return here


_chunk = _Chunk()


def _in_child() -> None:
    """Replaces the lock, since another thread may have held it during the fork."""
    _chunk.lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def aligned_weights(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    """Like `aligned`, for weights, which stay in memory. Small ones share large pages, which are read faster."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return aligned(*shape, dtype=dtype) if size > CHUNK else _chunk.part(size).view(dtype).reshape(shape)


def aligned(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    """An array with undefined content whose first number is at the start of a cache line."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size >= LARGE:
        return _large(size).view(dtype).reshape(shape)
    raw = np.empty(size + LINE, np.uint8)
    start = -raw.ctypes.data % LINE
    return raw[start : start + size].view(dtype).reshape(shape)


def plain(x: np.ndarray, dtype: Any = np.float32) -> np.ndarray:
    """x, or a copy, in the form for which kernels are compiled: contiguous, writable, of this dtype."""
    return x if x.flags.carray and x.dtype == dtype else np.require(x, dtype, ["C", "A", "W"])
