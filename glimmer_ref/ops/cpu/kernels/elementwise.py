"""Kernels that treat each row independently. A call computes the rows first .. last-1 in one thread, in order.

They use the same functions for sums, powers of e and GELU as the fused blocks, so that an operation rounds in the same
way whether it runs alone or fused.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba.extending import register_jitable

from ..runtime.compile_cache import Kernel
from .epilogue import gate_lines
from .llvm_ir import BYTES, LANES
from .memory import address, copy, scratch
from .rows import fold, largest, normalize_row
from .simd import LOG2_E, power_lines


@Kernel
def rms_norm(first: int, last: int, x: Any, gain: Any, eps: float, out: Any) -> None:
    """out = x / sqrt(mean(x^2) + eps) * gain, with the same function as in the fused blocks."""
    for i in range(first, last):
        normalize_row(x[i], gain, eps, out[i])


@Kernel
def gated_gelu(first: int, last: int, a: Any, b: Any, out: Any) -> None:
    """out = gelu(a) * b. The numbers behind the last whole vector of a row are copied to a vector of the thread."""
    vectors, rest = a.shape[1] // LANES, a.shape[1] % LANES
    buffer = scratch(2 * LANES)
    buffer[:] = 0
    for i in range(first, last):
        x, y, to = address(a[i]), address(b[i]), address(out[i])
        if vectors:
            gate_lines(x, y, vectors, to)
        if rest:
            tail = vectors * BYTES
            copy(x + tail, rest, address(buffer))
            copy(y + tail, rest, address(buffer) + BYTES)
            gate_lines(address(buffer), address(buffer) + BYTES, 1, address(buffer))
            copy(address(buffer), rest, to + tail)


@register_jitable
def softmax(row: Any, out: Any, buffer: Any) -> Any:
    """Writes e^(row - top) to out. Returns top, which is the largest number of the row, and the sum of out.

    Rows of logits are long. Pairwise addition loses less precision than adding one number after the other. The largest
    number is subtracted before the multiplication by 1/ln 2, so that its rounding does not affect large logits.

    Args:
        row: [v].
        out, buffer: arrays of the thread with whole vectors, at least v numbers.
    """
    columns, top, factor = len(row), largest(row, buffer), np.float32(LOG2_E)
    for j in range(columns):
        out[j] = (row[j] - top) * factor
    power_lines(address(out), -(-columns // LANES))
    for j in range(columns):
        buffer[j] = out[j]
    return top, fold(buffer[:columns])


@register_jitable
def zeroed_row(columns: int) -> Any:
    """A buffer of whole vectors for at least so many numbers, all 0."""
    row = scratch(-(-columns // LANES) * LANES)
    row[:] = 0
    return row


@Kernel
def log_probs(first: int, last: int, logits: Any, chosen: Any, out: Any) -> None:
    """out [N] = log softmax(row) at the token whose logit is `chosen` [N]."""
    weights, buffer = zeroed_row(logits.shape[1]), zeroed_row(logits.shape[1])
    for row in range(first, last):
        top, total = softmax(logits[row], weights, buffer)
        out[row] = (chosen[row] - top) - np.float32(math.log(total))
