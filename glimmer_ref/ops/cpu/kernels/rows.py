"""Preparation of rows as the left operand of a product: normalised, and rounded to the precision of the weights."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numba.extending import register_jitable

from .bfloat16 import left_row, widen_row
from .llvm_ir import LANES
from .memory import address, floats, pointer, scratch
from .multiply import WIDE, ZERO
from .simd import dot

WIDE_INT8 = WIDE[4]


@register_jitable
def fold(x: Any) -> Any:
    """The sum of x, which is overwritten: its upper half is added to the lower until one number is left."""
    n = len(x)
    while n > 1:
        half = (n + 1) // 2
        for i in range(n - half):
            x[i] += x[half + i]
        n = half
    return x[0]


@register_jitable
def largest(x: Any, scratch: Any) -> Any:
    """The largest number of x, found in the same way. A NaN may be ignored, because the sum will be NaN anyway."""
    n = len(x)
    for i in range(n):
        scratch[i] = x[i]
    while n > 1:
        half = (n + 1) // 2
        for i in range(n - half):
            scratch[i] = scratch[half + i] if scratch[half + i] > scratch[i] else scratch[i]
        n = half
    return scratch[0]


@register_jitable
def normalize_row(x: Any, gain: Any, eps: float, out: Any) -> Any:
    """out = x / sqrt(mean(x^2) + eps) * gain; out = x if there is no gain."""
    d = len(x)
    if len(gain) == 0:
        for j in range(d):
            out[j] = x[j]
        return
    whole = d // LANES
    total = np.float64(dot(address(x), address(x), whole)) if whole else 0.0
    for j in range(whole * LANES, d):
        total += np.float64(x[j]) * np.float64(x[j])
    factor = np.float32(1 / math.sqrt(total / d + eps))
    for j in range(d):
        out[j] = x[j] * factor * gain[j]


@register_jitable
def quantize_row(row: Any, d: int, at: int, lanes: Any, buffer: Any) -> Any:
    """Rounds a row to integers from -127 to 127, plus ZERO. Returns the scale: NaN if a number is not finite."""
    out = numba.carray(pointer(at), (-(-d // 4) * 4,), np.uint8)
    for j in range(d):
        lanes[j] = abs(row[j])
    size = largest(lanes[:d], buffer)
    nothing = fold(lanes[:d]) * np.float32(0)  # NaN if a number is inf or NaN
    factor = np.float32(127) / size if size > 0 else np.float32(0)
    for j in range(d):
        out[j] = np.uint8(np.int32(row[j] * factor + np.float32(128.5)) + np.int32(ZERO - 128))
    for j in range(d, len(out)):
        out[j] = ZERO
    return size / np.float32(127) + nothing


@register_jitable
def prepare(x: Any, gain: Any, eps: float, terms: int, out: Any, scales: Any, first: int, last: int) -> Any:
    """Prepares the rows first .. last-1 of x [N d] as the left operand of a product, normalised if there is a gain.

    Args:
        terms: terms in a lane: 1 in float32, 2 in bfloat16, 4 in int8.
        out: [N bytes] uint8, rows `row_stride` bytes apart.
        scales: [N] gets the scales of int8 rows.
    """
    d = x.shape[1]
    vectors = -(-d // LANES)
    row, lanes, buffer, whole = scratch(vectors * LANES), scratch(d), scratch(d), scratch(vectors * LANES)
    row[d:] = 0
    for i in range(first, last):
        if terms == 1:
            normalize_row(x[i], gain, eps, floats(address(out[i]), d))
        else:
            normalize_row(x[i], gain, eps, row[:d])
            if terms == 2:
                left_row(address(row), vectors, address(out[i]))
            else:
                narrow = address(whole) if WIDE_INT8 else address(out[i])
                scales[i] = quantize_row(row, d, narrow, lanes, buffer)
                if WIDE_INT8:
                    widen_row(narrow, -(-d // (4 * LANES)), address(out[i]))
