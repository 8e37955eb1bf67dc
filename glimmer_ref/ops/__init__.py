"""The operations of the model: the op interface, and its backends."""

from __future__ import annotations

from importlib import import_module

from ..errors import InputError
from .bound import OTHER, Instrument, Ops, composite
from .interface import BLAS, PRECISIONS, SequenceLayout, precision_of

BACKENDS = {"numpy": "numpy_backend", "numba": "cpu.ops", "cuda": "cuda.ops"}  # where each is

__all__ = [
    "BACKENDS",
    "BLAS",
    "OTHER",
    "PRECISIONS",
    "Instrument",
    "Ops",
    "SequenceLayout",
    "bind",
    "composite",
    "precision_of",
]


def bind(name: str) -> Ops:
    """The operations of a backend by its name: "numpy", the reference; "numba", the fast one; "cuda", a GPU's.

    Raises:
        InputError: no such backend, or one that cannot run here. There is no fallback to another.
    """
    if name not in BACKENDS:
        raise InputError("ops", f"one of {', '.join(BACKENDS)}", repr(name))
    ops = Ops(import_module(f".{BACKENDS[name]}", __name__))
    ops.warm_up()
    return ops
