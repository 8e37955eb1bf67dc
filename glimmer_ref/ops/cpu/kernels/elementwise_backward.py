"""The loops of `cpu.ops` backward: rows by themselves, and sums over rows in runs whose bounds no thread changes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba.core import types
from numba.extending import overload, register_jitable

from ..runtime.compile_cache import Kernel
from .elementwise import exp, softmax
from .gemm import address
from .llvm_ir import LANES
from .simd import dot

RUN = 128  # rows that one task adds up; the sums of the runs are added in order afterwards


def inner(x: Any, y: Any) -> Any:
    """x . y of two rows, in their own dtype."""
    return np.dot(x, y)


def _inner32(x: Any, y: Any) -> Any:
    whole = len(x) // LANES
    total = dot(address(x), address(y), whole) if whole else np.float32(0)
    for j in range(whole * LANES, len(x)):
        total += x[j] * y[j]
    return total


def _inner64(x: Any, y: Any) -> Any:
    total = np.float64(0)
    for j in range(len(x)):
        total += x[j] * y[j]
    return total


@overload(inner)
def _inner_of(x: Any, y: Any) -> Any:
    return _inner32 if x.dtype == types.float32 else _inner64


@register_jitable
def _rms_norm_row(dy: Any, x: Any, gain: Any, eps: float, g: Any, dx: Any, dgain: Any) -> None:
    """One row of dx, and its part of dgain."""
    d = x.dtype.type(len(x))
    for j in range(len(x)):
        g[j] = dy[j] * gain[j]
    r = x.dtype.type(1 / math.sqrt(inner(x, x) / d + eps))
    slope = r * r * r * inner(g, x) / d
    for j in range(len(x)):
        dx[j] = r * g[j] - slope * x[j]
    for j in range(len(x)):
        dgain[j] += dy[j] * x[j] * r


@Kernel
def rms_norm_backward(first: int, last: int, dy: Any, x: Any, gain: Any, eps: float, dx: Any, dgains: Any) -> None:
    """A task is a run of rows, with a row of dgains [runs d] for its sum."""
    g = np.empty(x.shape[1], x.dtype)
    for run in range(first, last):
        dgains[run] = 0
        for row in range(run * RUN, min(len(x), (run + 1) * RUN)):
            _rms_norm_row(dy[row], x[row], gain, eps, g, dx[row], dgains[run])


@Kernel
def gated_gelu_backward(first: int, last: int, dy: Any, a: Any, b: Any, da: Any, db: Any) -> None:
    """A task is a row: gelu = a s, gelu' = s + 2 a s (1 - s) y', s = 1 / (1 + e^-2y) being (1 + tanh y) / 2."""
    one, slope, cubic = a.dtype.type(1), a.dtype.type(-2 * math.sqrt(2 / math.pi)), a.dtype.type(0.044715)
    thrice = a.dtype.type(3 * 0.044715)
    for row in range(first, last):
        for j in range(a.shape[1]):
            x = a[row, j]
            s = one / (one + exp(slope * (x + cubic * x * x * x)))
            db[row, j] = dy[row, j] * (x * s)
            da[row, j] = dy[row, j] * b[row, j] * (s - slope * x * s * (one - s) * (one + thrice * x * x))


@Kernel
def log_likelihood_backward(first: int, last: int, dy: Any, logits: Any, targets: Any, out: Any) -> None:
    """A task is a row, which has its own dy: out = dy (1 at the target - softmax(row))."""
    scratch = np.empty(logits.shape[1], logits.dtype)
    for row in range(first, last):
        weights = out[row]
        for j in range(len(weights)):
            weights[j] = logits[row, j]
        factor = -dy[row] / softmax(weights, scratch)[1]
        for j in range(len(weights)):
            weights[j] *= factor
        weights[targets[row]] += dy[row]


@Kernel
def embed_backward(first: int, last: int, dy: Any, order: Any, bounds: Any, ids: Any, dtable: Any) -> None:
    """A task is one id: the rows of dy that it has, first to last, are added up."""
    for task in range(first, last):
        out = dtable[ids[task]]
        for i in range(bounds[task], bounds[task + 1]):
            row = dy[order[i]]
            for j in range(len(row)):
                out[j] += row[j]
