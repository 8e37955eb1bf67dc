"""States as a shard stores them: in one of four dtypes, int8 with a scale for each token."""

from __future__ import annotations

import mmap
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..params.safetensors_io import Stored
from ..ragged import bfloat16

DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int8": "I8"}  # of a memory; names in safetensors
MIN_SCALE = np.finfo(np.float32).tiny  # a smaller scale would have too few digits for the error bound


def _advise(x: np.ndarray, advice: str) -> None:
    """Advise the operating system how a mapped array will be read; does nothing for other arrays and systems."""
    owner = x
    while isinstance(owner, np.ndarray):
        owner = owner.base  # type: ignore[assignment]
    if isinstance(owner, mmap.mmap) and hasattr(mmap, advice) and x.size:
        end = x.ctypes.data + x.nbytes - np.frombuffer(owner, np.uint8).ctypes.data
        start = (end - x.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        with suppress(OSError):  # this file system ignores such advice
            owner.madvise(getattr(mmap, advice), start, end - start)


def few_will_be_read(x: np.ndarray) -> None:
    """Keep the operating system from reading more of a mapped array than is used.

    Otherwise Linux reads megabytes around each passage: 171 MB instead of 1.25 MB with a read-ahead of 8 MB.
    """
    _advise(x, "MADV_RANDOM")


def will_read(x: np.ndarray) -> None:
    """Start reading a mapped array from disk, without waiting for it."""
    _advise(x, "MADV_WILLNEED")


def int8(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """q = round(x / s), s = max|x| / 127 for each token: [N d] -> [N d] int8, [N] float32.

    No value is further than s/2 from s q, apart from the rounding of float32 (some 1e-5 of s).
    """
    scales = np.maximum(np.abs(states).max(axis=1) / 127, MIN_SCALE).astype(np.float32)
    return np.rint(states / scales[:, None]).astype(np.int8), scales


@dataclass(frozen=True, eq=False)
class QuantizedStates:
    """States of T tokens in the dtype of the memory, in a file or in main memory.

    Args:
        values: [T d].
        scales: [T] float32, the factor of each token's int8 numbers; None for other dtypes.
        name: the file, for errors.
    """

    values: Stored
    scales: np.ndarray | None = None
    name: str = "memory"

    @classmethod
    def of(cls, states: np.ndarray, dtype: str) -> QuantizedStates:
        """States [T d] rounded to `dtype`; values out of its range become infinite or nan."""
        with np.errstate(over="ignore", invalid="ignore"):
            if dtype == "int8":
                q, scales = int8(states)
                return cls(Stored("I8", q), scales)
            if dtype == "bfloat16":
                return cls(Stored("BF16", bfloat16(states)))
            return cls(Stored({**DTYPES, "float64": "F64"}[dtype], states.astype(dtype)))

    @classmethod
    def end_to_end(cls, parts: list[QuantizedStates]) -> QuantizedStates:
        """Concatenate several of the same dtype."""
        scales = [p.scales for p in parts if p.scales is not None]
        values = np.concatenate([p.values.raw for p in parts])
        return cls(Stored(parts[0].values.dtype, values), np.concatenate(scales) if scales else None)

    def __len__(self) -> int:
        return self.values.shape[0]

    def __getitem__(self, some: slice) -> QuantizedStates:
        scales = None if self.scales is None else self.scales[some]
        return QuantizedStates(Stored(self.values.dtype, self.values.raw[some]), scales, self.name)

    def will_read(self) -> None:
        """Start reading them from disk, without waiting for it."""
        will_read(self.values.raw)
        if self.scales is not None:
            will_read(self.scales)

    def finite(self) -> np.ndarray:
        """Which tokens decode to finite numbers: [T] bool."""
        if self.scales is not None:
            with np.errstate(over="ignore"):
                return (self.scales >= MIN_SCALE) & (127 * self.scales < np.inf)
        values = self.values.decode() if self.values.dtype == "BF16" else self.values.raw
        return np.isfinite(values).all(axis=1)

    def decode(self, out: np.ndarray) -> None:
        """Write the states into `out` [T d], float32 or float64.

        Raises:
            InputError: scales or numbers that no build writes.
        """
        if self.scales is not None:
            if not self.finite().all():
                raise InputError(
                    f"{self.name}: scales",
                    "positive numbers",
                    "others",
                    "perhaps the file is damaged: get or make it again",
                )
            np.multiply(self.values.raw, self.scales[:, None], out=out, dtype=out.dtype)
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                out[...] = self.values.decode() if self.values.dtype == "BF16" else self.values.raw
            if not np.isfinite(out).all():
                raise InputError(
                    f"{self.name}: tokens",
                    "finite numbers",
                    "inf or nan",
                    "perhaps the file is damaged: get or make it again",
                )
