"""This package, by its fast operations."""

from __future__ import annotations

from pathlib import Path

from glimmer_ref.bench.ours import Ours


def open_(size: str, precision: str, folder: Path, threads: int) -> Ours:
    """The contestant; its weights are drawn from the seed that the folder's were drawn from."""
    return Ours(size, precision, "numba", threads)
