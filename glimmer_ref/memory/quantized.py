"""States as a shard holds them: in one of four dtypes, int8 with a scale beside each token."""

from __future__ import annotations

import mmap
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..params.safetensors_io import Stored
from ..ragged import bfloat16

DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int8": "I8"}  # what a memory can be stored in
LEAST_SCALE = np.finfo(np.float32).tiny  # below, a scale would have too few digits for the bound to hold


def _advise(x: np.ndarray, advice: str) -> None:
    """Tell the kernel how a mapped array will be read; nothing where it is not mapped, or not told."""
    owner = x
    while isinstance(owner, np.ndarray):
        owner = owner.base  # type: ignore[assignment]
    if isinstance(owner, mmap.mmap) and hasattr(mmap, advice) and x.size:
        end = x.ctypes.data + x.nbytes - np.frombuffer(owner, np.uint8).ctypes.data
        start = (end - x.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        with suppress(OSError):  # advice that this file system does not take
            owner.madvise(getattr(mmap, advice), start, end - start)


def few_will_be_read(x: np.ndarray) -> None:
    """Keep the kernel from reading around what is asked for.

    Without being told so, Linux reads megabytes around each passage: 171 MB for 1.25 MB were measured
    where a disk's read-ahead is set to 8 MB.
    """
    _advise(x, "MADV_RANDOM")


def will_read(x: np.ndarray) -> None:
    """Begin to read a mapped array from disk, without waiting for it."""
    _advise(x, "MADV_WILLNEED")


def int8(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """q = round(x / s), s = max|x| / 127 for each token: [N d] -> [N d] int8, [N] float32.

    No value is further than s/2 from s q, but for the rounding of float32 (some 1e-5 of s).
    """
    scales = np.maximum(np.abs(states).max(axis=1) / 127, LEAST_SCALE).astype(np.float32)
    return np.rint(states / scales[:, None]).astype(np.int8), scales


@dataclass(frozen=True, eq=False)
class QuantizedStates:
    """States of T tokens as they lie in a file, or in RAM.

    Args:
        values: [T d].
        scales: [T] float32, what a token's whole numbers are to be multiplied with; None but for int8.
        name: the file, for errors.
    """

    values: Stored
    scales: np.ndarray | None = None
    name: str = "memory"

    @classmethod
    def of(cls, states: np.ndarray, dtype: str) -> QuantizedStates:
        """States [T d] rounded to `dtype`; what does not fit becomes infinite or nan."""
        with np.errstate(over="ignore", invalid="ignore"):
            if dtype == "int8":
                q, scales = int8(states)
                return cls(Stored("I8", q), scales)
            if dtype == "bfloat16":
                return cls(Stored("BF16", bfloat16(states)))
            return cls(Stored({**DTYPES, "float64": "F64"}[dtype], states.astype(dtype)))

    @classmethod
    def end_to_end(cls, parts: list[QuantizedStates]) -> QuantizedStates:
        """Several as one; all of one dtype."""
        scales = [p.scales for p in parts if p.scales is not None]
        values = np.concatenate([p.values.raw for p in parts])
        return cls(Stored(parts[0].values.dtype, values), np.concatenate(scales) if scales else None)

    def __len__(self) -> int:
        return self.values.shape[0]

    def __getitem__(self, some: slice) -> QuantizedStates:
        scales = None if self.scales is None else self.scales[some]
        return QuantizedStates(Stored(self.values.dtype, self.values.raw[some]), scales, self.name)

    def will_read(self) -> None:
        """Begin to read them from disk, without waiting for them."""
        will_read(self.values.raw)
        if self.scales is not None:
            will_read(self.scales)

    def finite(self) -> np.ndarray:
        """Which tokens come back with neither inf nor nan: [T] bool."""
        if self.scales is not None:
            with np.errstate(over="ignore"):
                return (self.scales >= LEAST_SCALE) & (127 * self.scales < np.inf)
        values = self.values.decode() if self.values.dtype == "BF16" else self.values.raw
        return np.isfinite(values).all(axis=1)

    def decode(self, out: np.ndarray) -> None:
        """Write the states into `out` [T d], float32 or float64.

        Raises:
            InputError: scales or numbers that no build writes.
        """
        if self.scales is not None:
            if not self.finite().all():
                raise InputError(f"{self.name}: scales", "positive numbers", "others", "damaged?")
            np.multiply(self.values.raw, self.scales[:, None], out=out, dtype=out.dtype)
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                out[...] = self.values.decode() if self.values.dtype == "BF16" else self.values.raw
            if not np.isfinite(out).all():
                raise InputError(f"{self.name}: tokens", "finite numbers", "inf or nan", "damaged?")
