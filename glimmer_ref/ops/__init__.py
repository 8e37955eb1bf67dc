"""The operations of the model: the contract, and its backends."""

from __future__ import annotations

from importlib import import_module

from ..errors import Refused
from .bound import OTHER, Listener, Ops, composite
from .interface import BLAS, PRECISIONS, Spans, precision_of

TELLINGS = {"numpy": "numpy_backend", "numba": "cpu.ops", "cuda": "cuda.ops"}  # where each is

__all__ = ["BLAS", "OTHER", "PRECISIONS", "TELLINGS", "Listener", "Ops", "Spans", "bind", "composite", "precision_of"]


def bind(name: str) -> Ops:
    """The operations of a backend by its name: "numpy", the reference; "numba", the fast one; "cuda", a GPU's.

    Raises:
        Refused: no such backend, or one that cannot run here. There is no fallback to another.
    """
    if name not in TELLINGS:
        raise Refused("ops", f"one of {', '.join(TELLINGS)}", repr(name))
    ops = Ops(import_module(f".{TELLINGS[name]}", __name__))
    ops.warm_up()
    return ops
