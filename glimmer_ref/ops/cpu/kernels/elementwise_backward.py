"""The backward of the kernels in `elementwise`. Sums over rows are made in fixed runs, whatever the threads."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba.extending import register_jitable

from ..runtime.compile_cache import Kernel
from .elementwise import softmax, zeroed_row
from .epilogue import CUBIC, SLOPE
from .llvm_ir import LANES
from .memory import address
from .simd import LOG2_E, dot, power_lines

RUN = 128  # rows that one task adds up; the sums of these runs are added in order afterwards


@register_jitable
def inner(x: Any, y: Any) -> Any:
    """The dot product of two rows."""
    whole = len(x) // LANES
    total = dot(address(x), address(y), whole) if whole else np.float32(0)
    for j in range(whole * LANES, len(x)):
        total += x[j] * y[j]
    return total


@register_jitable
def _rms_norm_row(dy: Any, x: Any, gain: Any, eps: float, g: Any, dx: Any, dgain: Any) -> None:
    """One row of dx, and its part of dgain."""
    d = np.float32(len(x))
    for j in range(len(x)):
        g[j] = dy[j] * gain[j]
    r = np.float32(1 / math.sqrt(inner(x, x) / d + eps))
    slope = r * r * r * inner(g, x) / d
    for j in range(len(x)):
        dx[j] = r * g[j] - slope * x[j]
    for j in range(len(x)):
        dgain[j] += dy[j] * x[j] * r


@Kernel
def rms_norm_backward(first: int, last: int, dy: Any, x: Any, gain: Any, eps: float, dx: Any, dgains: Any) -> None:
    """Writes dx, and the sum of dgain over each run of rows to a row of dgains [runs d]. A task is a run."""
    g = np.empty(x.shape[1], np.float32)
    for run in range(first, last):
        dgains[run] = 0
        for row in range(run * RUN, min(len(x), (run + 1) * RUN)):
            _rms_norm_row(dy[row], x[row], gain, eps, g, dx[row], dgains[run])


@Kernel
def gated_gelu_backward(first: int, last: int, dy: Any, a: Any, b: Any, da: Any, db: Any) -> None:
    """gelu = a s and gelu' = s - a s (1 - s) z' with s = 1 / (1 + e^z) = (1 + tanh(-z/2)) / 2. A task is a row."""
    one, slope, cubic, three_cubic = np.float32(1), np.float32(SLOPE), np.float32(CUBIC), np.float32(3 * CUBIC)
    binary, columns = np.float32(SLOPE * LOG2_E), a.shape[1]
    powers = zeroed_row(columns)
    for row in range(first, last):
        for j in range(columns):
            x = a[row, j]
            powers[j] = binary * (x + cubic * x * x * x)
        power_lines(address(powers), -(-columns // LANES))
        for j in range(columns):
            x, s = a[row, j], one / (one + powers[j])
            db[row, j] = dy[row, j] * (x * s)
            da[row, j] = dy[row, j] * b[row, j] * (s - slope * x * s * (one - s) * (one + three_cubic * x * x))


@Kernel
def log_likelihood_backward(first: int, last: int, dy: Any, logits: Any, targets: Any, out: Any) -> None:
    """out = dy (one_hot(target) - softmax(row)), with one dy for each row. A task is a row."""
    weights, buffer = zeroed_row(logits.shape[1]), zeroed_row(logits.shape[1])
    for row in range(first, last):
        factor = -dy[row] / softmax(logits[row], weights, buffer)[1]
        for j in range(logits.shape[1]):
            out[row, j] = weights[j] * factor
        out[row, targets[row]] += dy[row]


@Kernel
def embed_backward(first: int, last: int, dy: Any, order: Any, bounds: Any, ids: Any, dtable: Any) -> None:
    """Adds up the rows of dy that belong to one id, in order. A task is an id."""
    for task in range(first, last):
        out = dtable[ids[task]]
        for i in range(bounds[task], bounds[task + 1]):
            row = dy[order[i]]
            for j in range(len(row)):
                out[j] += row[j]
