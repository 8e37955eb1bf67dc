"""The bfloat16 numbers and matrix fragments of PTX's tensor core instructions, in NumPy, for `cudasim`."""

from __future__ import annotations

from typing import Any

import numpy as np

LANE, WORD, HALF = np.meshgrid(np.arange(32), np.arange(4), np.arange(2), indexing="ij")
A_INDICES = (LANE // 4 + 8 * (WORD % 2), 2 * (LANE % 4) + 8 * (WORD // 2) + HALF)  # of a word's half: row, term
B_INDICES = (2 * (LANE % 4) + 8 * WORD + HALF, LANE // 4)  # of words 0 and 1: term, column
C_INDICES = (LANE[..., 0] // 4 + 8 * (WORD[..., 0] // 2), 2 * (LANE[..., 0] % 4) + WORD[..., 0] % 2)  # row, column


def rounded(x: Any) -> int:
    """The upper half of a float32, to the nearest, ties to even."""
    bits = int(np.float32(x).view(np.uint32))
    return bits >> 16 | 0x40 if x != x else (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


def unpack(words: Any) -> np.ndarray:
    """The two bfloat16 of each int32 as float32, that of the lower half first: [..] -> [.. 2]."""
    pairs = np.array(words, np.int32)[..., None].view(np.uint16)
    return (pairs.astype(np.uint32) << 16).view(np.float32)


def multiply_add(threads: list[Any]) -> list[Any]:
    """c + a b in the fragments of 32 threads, from each thread's a0..a3, b0, b1, c0..c3."""
    numbers, a, b = unpack([w[:6] for w in threads]), np.zeros((16, 16), np.float32), np.zeros((16, 8), np.float32)
    a[A_INDICES], b[B_INDICES[0][:, :2], B_INDICES[1][:, :2]] = numbers[:, :4], numbers[:, 4:]
    return [tuple(row) for row in np.array([w[6:] for w in threads], np.float32) + (a @ b)[C_INDICES]]
