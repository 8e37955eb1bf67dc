"""This package with its fast backend."""

from __future__ import annotations

from pathlib import Path

from glimmer_ref.bench.ours import Ours


def open_(size: str, precision: str, folder: Path, threads: int) -> Ours:
    """The engine; its random weights have the same seed as the folder's."""
    return Ours(size, precision, "numba", threads)
