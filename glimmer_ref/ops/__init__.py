"""The operations of the model: the op interface and its backends."""

from __future__ import annotations

from importlib import import_module

from ..errors import InputError
from .bound import OTHER, Instrument, Ops, fusable
from .interface import BLAS, PRECISIONS, SequenceLayout, precision_of

BACKENDS = {"numpy": "numpy_backend", "numba": "cpu.ops", "cuda": "cuda.ops"}  # the module of each backend

__all__ = [
    "BACKENDS",
    "BLAS",
    "OTHER",
    "PRECISIONS",
    "Instrument",
    "Ops",
    "SequenceLayout",
    "bind",
    "fusable",
    "precision_of",
]


def bind(name: str) -> Ops:
    """The operations of a backend: "numpy" is the reference, "numba" runs on the CPU, "cuda" on an NVIDIA GPU.

    Raises:
        InputError: no backend has this name, or it cannot run here. There is no fallback to another backend.
    """
    if name not in BACKENDS:
        raise InputError("ops", f"one of {', '.join(BACKENDS)}", repr(name))
    ops = Ops(import_module(f".{BACKENDS[name]}", __name__))
    ops.warm_up()
    return ops
