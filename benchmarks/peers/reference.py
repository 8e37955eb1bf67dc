"""This package with its reference backend in NumPy."""

from __future__ import annotations

from pathlib import Path

from glimmer_ref.bench.ours import Ours


def open_(size: str, precision: str, folder: Path, threads: int) -> Ours:
    """The engine."""
    return Ours(size, precision, "numpy", threads)
