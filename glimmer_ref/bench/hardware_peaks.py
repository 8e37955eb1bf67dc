"""The peaks of this CPU: multiply-adds in kernels that use only registers, and bytes read in a stream through memory.

The share of a peak is meaningful only if both were measured in the same minute, so measuring the peaks takes a fraction
of a second. The loops are in `bursts`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import llvmlite.ir as ir
import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from ..ops.cpu.kernels.llvm_ir import FEATURES
from . import bursts
from .bursts import BLOCK

STREAM_BYTES = 1 << 29  # 512 MB, many times any cache
Clock = Callable[[], float]  # seconds
kernel_of: Any = intrinsic  # its declared type includes the typing context, an argument that callers leave out


@dataclass(frozen=True)
class HardwarePeaks:
    """The highest rates that a number of threads reached together.

    Args:
        threads: how many ran at once.
        float32, bfloat16, int8: operations per second, two for each multiply-add. Those of bfloat16 and int8 are at
            least those of float32, because any product can be computed in float32.
        reads: bytes per second.
    """

    threads: int
    float32: float
    bfloat16: float
    int8: float
    reads: float


@kernel_of
def fma_burst(typingctx: Any, count: Any, a: Any, b: Any) -> Any:
    """See `bursts.fma`."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return bursts.fma(builder, FEATURES, *args)

    return types.float32(types.int64, types.float32, types.float32), codegen


@kernel_of
def stream_sum(typingctx: Any, address: Any, count: Any) -> Any:
    """See `bursts.stream`."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return bursts.stream(builder, FEATURES, *args)

    return types.float32(types.int64, types.int64), codegen


@numba.njit(nogil=True)
def _fma(count: Any, a: Any, b: Any) -> Any:
    return fma_burst(count, a, b)


@numba.njit(nogil=True)
def _stream(address: Any, count: Any) -> Any:
    return stream_sum(address, count)


@cache
def _dot_burst(dot: bursts.Dot) -> Any:
    """A kernel that repeats one dot product of short numbers."""

    @kernel_of
    def burst(typingctx: Any, count: Any, a: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            return bursts.dots(builder, dot, *args)

        return (types.float32 if dot.floats else types.int32)(types.int64, types.int32), codegen

    @numba.njit(nogil=True)
    def kernel(count: Any, a: Any) -> Any:
        return burst(count, a)

    return kernel


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "hardware-peaks")


def together(task: Callable[[int], object], threads: int, clock: Clock) -> float:
    """Call task(i) in each of `threads` threads at once, and return the seconds until all have finished."""
    start = clock()
    for _ in _pool(threads).map(task, range(threads)):
        pass
    return clock() - start


def _rate(burst: Callable[[int], object], amount: float, threads: int, seconds: float, clock: Clock) -> float:
    """Operations per second in the fastest of three bursts on each thread; one count is `amount` operations."""

    def seconds_of(count: int) -> float:
        return together(lambda _: burst(count), threads, clock)

    count = 1 << 16
    burst(16)  # compiles the kernel outside the measurement
    while (first := seconds_of(count)) < seconds / 4:
        count *= 4
    count = max(1, int(count * seconds / first))
    return threads * count * amount / min(seconds_of(count) for _ in range(3))


@cache
def _memory() -> np.ndarray:
    """Half a gigabyte of memory, aligned for vectors; all its pages have been written, so they exist."""
    raw = np.ones(STREAM_BYTES // 4 + 16, np.float32)
    return raw[-raw.ctypes.data % 64 // 4 :][: STREAM_BYTES // 4]


def _reads(threads: int, clock: Clock) -> float:
    """Bytes per second in the fastest of three passes, in which each thread reads its own part."""
    address, block = _memory().ctypes.data, BLOCK * 4 * bursts.shape(FEATURES)[0]
    count = STREAM_BYTES // threads // block
    _stream(address, 1)
    starts = [address + i * count * block for i in range(threads)]
    return (
        threads * count * block / min(together(lambda i: _stream(starts[i], count), threads, clock) for _ in range(3))
    )


def _repeat(dot: bursts.Dot, count: int) -> None:
    _dot_burst(dot)(count, dot.ones)


def measure_peaks(threads: int, seconds: float = 0.04, clock: Clock = time.perf_counter) -> HardwarePeaks:
    """This CPU's peaks for a number of threads at once, in about half a second.

    Args:
        seconds: the length of each burst; the fastest of three counts.
        clock: what measures them. `time.process_time` is for one thread alone, on a machine that others use, too.
    """
    lanes, many = bursts.shape(FEATURES)
    rates = {
        "float32": _rate(
            lambda n: _fma(n, np.float32(0.999), np.float32(0.001)), 2 * lanes * many, threads, seconds, clock
        )
    }
    for precision in ("bfloat16", "int8"):
        rate, dot = 0.0, bursts.dot_of(FEATURES, precision)
        if dot is not None:
            rate = _rate(partial(_repeat, dot), 2 * dot.lanes * dot.sums * dot.macs, threads, seconds, clock)
        rates[precision] = max(rate, rates["float32"])
    return HardwarePeaks(threads, **rates, reads=_reads(threads, clock))
