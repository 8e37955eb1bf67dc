"""Kernels over rows by themselves: each does the rows first .. last-1, in one thread, in one fixed order.

They take a sum, a power of e and GELU from where whole blocks take them, so that an operation alone rounds as the
same operation fused.
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
from .rows import largest, prepare
from .simd import LOG2_E, softmax_row


@Kernel
def rms_norm(first: int, last: int, x: Any, gain: Any, eps: float, out: Any) -> None:
    """Rows normalised as for a product in float32; out [N 4d] are their bytes."""
    prepare(x, gain, eps, 1, out, gain[:0], first, last)


@Kernel
def gated_gelu(first: int, last: int, a: Any, b: Any, out: Any) -> None:
    """out = gelu(a) * b; the numbers behind a row's last whole vector go through one of the thread's own."""
    vectors, rest = a.shape[1] // LANES, a.shape[1] % LANES
    own = scratch(2 * LANES)
    own[:] = 0
    for i in range(first, last):
        x, y, to = address(a[i]), address(b[i]), address(out[i])
        if vectors:
            gate_lines(x, y, vectors, to)
        if rest:
            tail = vectors * BYTES
            copy(x + tail, rest, address(own))
            copy(y + tail, rest, address(own) + BYTES)
            gate_lines(address(own), address(own) + BYTES, 1, address(own))
            copy(address(own), rest, to + tail)


@register_jitable
def softmax(row: Any, zeros: Any, out: Any) -> Any:
    """out becomes e^(row - top); returns top, which is the row's largest number, and the sum.

    The largest number is subtracted before the factor 1/ln 2 rounds, so that large logits lose nothing.

    Args:
        row: [v].
        zeros, out: whole vectors of the thread's own, at least v numbers.
    """
    top, factor = largest(row, out), np.float32(LOG2_E)
    for j in range(len(row)):
        out[j] = (row[j] - top) * factor
    return top, softmax_row(address(out), address(zeros), len(row))


@register_jitable
def softmax_scratch(columns: int) -> Any:
    """What `softmax` needs of the thread's own for rows of so many columns: zeros, and room for a row."""
    zeros, weights = scratch(-(-columns // LANES) * LANES), scratch(-(-columns // LANES) * LANES)
    zeros[:] = 0
    return zeros, weights


@Kernel
def log_probs(first: int, last: int, logits: Any, chosen: Any, out: Any) -> None:
    """out [N] = log softmax(row) of the token whose logit is `chosen` [N]."""
    zeros, weights = softmax_scratch(logits.shape[1])
    for row in range(first, last):
        top, total = softmax(logits[row], zeros, weights)
        out[row] = (chosen[row] - top) - np.float32(math.log(total))
