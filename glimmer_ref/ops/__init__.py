"""The operations of the model: the contract, and its tellings."""

from __future__ import annotations

from importlib import import_module

from ..errors import Refused
from .contract import BLAS, PRECISIONS, Listener, Ops, Spans, composite, precision_of

TELLINGS = ("numpy", "numba", "cuda")

__all__ = ["BLAS", "PRECISIONS", "TELLINGS", "Listener", "Ops", "Spans", "bind", "composite", "precision_of"]


def bind(name: str) -> Ops:
    """The operations of the telling `name`: "numpy", the oracle; "numba", the fast one; "cuda", a GPU's.

    Raises:
        Refused: no such telling, or one that cannot run here. There is no fallback to another.
    """
    if name not in TELLINGS:
        raise Refused("ops", f"one of {', '.join(TELLINGS)}", repr(name))
    telling = import_module(f".{name}_ops", __name__)
    if hasattr(telling, "warm_up"):
        telling.warm_up()
    return Ops(telling)
