"""This machine's peak and bandwidth, as far as NumPy reaches them, measured in a second or two."""

from __future__ import annotations

import time
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from .hardware import Efficiency, Hardware


def fastest(function: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest of the runs, at least two, that fit into about `seconds`."""
    begin, best, runs = time.perf_counter(), float("inf"), 0
    while runs < 2 or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        function()
        best, runs = min(best, time.perf_counter() - start), runs + 1
    return best


def this_cpu(seconds: float = 0.6, size: int = 1536, rows: int = 16384) -> Hardware:
    """Measure FLOP/s of a float32 matrix product and bytes/s of a product with a matrix that is too large for caches.

    Args:
        seconds: the length of each of the two measurements.
        size: the number of rows and of columns of the matrices that are multiplied.
        rows: the rows of the matrix [rows 4096] that is read, 256 MiB by default.
    """
    a, b, c = (np.ones((size, size), np.float32) for _ in range(3))
    flops = 2 * size**3 / fastest(lambda: np.matmul(a, b, out=c), seconds)
    big, x = np.ones((rows, 4096), np.float32), np.ones(4096, np.float32)
    bandwidth = big.nbytes / fastest(lambda: big @ x, seconds)
    reached = Efficiency(Fraction(1), Fraction(1), "measured with NumPy on this machine")
    return Hardware("this CPU, measured", {"float32": int(flops)}, int(bandwidth), _memory(), efficiency=reached)


def _memory() -> int:
    """Bytes of main memory; 0 if the system does not report it."""
    import os

    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0
