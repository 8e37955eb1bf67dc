"""Ragged batches: sequences of different length stored end to end, so that nothing is padded.

Shape words used everywhere: b sequences, N tokens in all of them, n_i tokens in one, i queries,
j keys, h heads, c = d_kv, d = d_model, f = d_ff, v vocabulary, k passages retrieved for a question,
K those of all b questions together, m selected, t target tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InputError

Array = Any  # a NumPy array, or the array that a backend's `to_device` makes from it
Ints = npt.NDArray[np.integer[Any]]  # ids, lengths, positions and indices always stay on the host
Floats = npt.NDArray[np.floating[Any]]  # real numbers on the host


def offsets(lengths: Ints) -> Ints:
    """Where each sequence starts, and the end of the last: [b] -> [b+1]."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def zeros(*shape: int) -> Array:
    """An array of zeros that takes no memory: one zero, broadcast to the shape."""
    return np.broadcast_to(np.float32(0), shape)


def token_positions(lengths: Ints, start: Ints | int = 0) -> Ints:
    """0, 1, 2 .. within each sequence, counted from `start`: [b] -> [N]."""
    begins = np.repeat(offsets(lengths)[:-1], lengths)
    return (np.arange(begins.size) - begins + np.repeat(np.broadcast_to(start, len(lengths)), lengths)).astype(np.int32)


@dataclass(frozen=True)
class Tokens:
    """Token ids of b sequences.

    Args:
        ids: [N] int32.
        lengths: [b] int64, tokens of each sequence; at least 1 (D17).
    """

    ids: Ints
    lengths: Ints

    @classmethod
    def of(cls, sequences: Iterable[Sequence[int]], what: str = "tokens") -> Tokens:
        """Made from lists of ids, one list for each sequence.

        Raises:
            InputError: an empty sequence, or an id that is no whole number.
        """
        rows = [np.asarray(s) for s in sequences]
        for i, row in enumerate(rows):
            if row.ndim != 1 or row.size == 0:
                raise InputError(f"{what}[{i}]", "at least one token id", f"shape {list(row.shape)}")
            if row.dtype.kind not in "iu":
                raise InputError(f"{what}[{i}]", "whole numbers", f"{row.dtype} values")
        ids = np.concatenate(rows) if rows else np.zeros(0)
        return cls(ids.astype(np.int32), np.array([r.size for r in rows], np.int64))

    @classmethod
    def concatenate(cls, parts: Sequence[Tokens]) -> Tokens:
        """The sequences of all parts, in order; at least one part."""
        return cls(np.concatenate([p.ids for p in parts]), np.concatenate([p.lengths for p in parts]))

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, i: int) -> Ints:
        starts = offsets(self.lengths)
        return self.ids[starts[i] : starts[i + 1]]


@dataclass(frozen=True)
class States:
    """Token representations of b sequences.

    Args:
        states: [N d], in a backend's own kind of array.
        lengths: [b] int64.
        positions: [N] int32, the tokens' positions, by which the relative position bias is chosen.
    """

    states: Array
    lengths: Ints
    positions: Ints

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, i: int) -> Array:
        starts = offsets(self.lengths)
        return self.states[starts[i] : starts[i + 1]]


def check(x: Any, shape: str, what: str, **sizes: int) -> dict[str, int]:
    """Check an array against shape words, as in check(x, "N d", "memory", d=512), and return the sizes.

    Raises:
        InputError: the wrong number of axes, or a size that differs from the one given.
    """
    words, got = shape.split(), getattr(x, "shape", None)
    if got is None or len(got) != len(words):
        raise InputError(what, f"an array [{shape}]", f"shape {list(got) if got is not None else type(x).__name__}")
    for word, size in zip(words, got, strict=True):
        if sizes.setdefault(word, size) != size:
            expected = " ".join(f"{w}={sizes[w]}" if w in sizes else w for w in words)
            raise InputError(what, f"shape [{expected}]", f"{list(got)}")
    return sizes


def bfloat16(x: np.ndarray) -> np.ndarray:
    """float32 or float64 values rounded to bfloat16, as uint16: nearest, ties to even, NaN kept.

    Raises:
        InputError: values of another type.
    """
    if x.dtype not in (np.float32, np.float64):
        raise InputError("bfloat16", "float32 or float64 values", str(x.dtype))
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = x.astype(np.float32, order="C")
    bits = narrow.view(np.uint32)
    if x.dtype == np.float64:
        # Rounding to float32 and then to bfloat16 could round a near tie twice. So cut towards zero instead, and set
        # the last bit where something was cut off, which the second rounding then takes into account.
        bits -= np.abs(narrow.astype(np.float64)) > np.abs(x)
        bits |= narrow != x
    nan = np.isnan(x)
    even = (bits >> 16) & 1
    rounded = (bits + (np.uint32(0x7FFF) + even)) >> 16
    return np.where(nan, (bits >> 16) | 0x0040, rounded).astype(np.uint16)
