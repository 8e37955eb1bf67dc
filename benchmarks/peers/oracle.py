"""This package's reference backend: plain NumPy, as one reads it."""

from __future__ import annotations

from pathlib import Path

from glimmer_ref.bench.ours import Ours


def open_(size: str, precision: str, folder: Path, threads: int) -> Ours:
    """The contestant."""
    return Ours(size, precision, "numpy", threads)
