"""The operations of the model: the contract, and its tellings."""

from __future__ import annotations

from importlib import import_module

from ..errors import Refused
from .contract import BLAS, PRECISIONS, Listener, Ops, Spans, composite

TELLINGS = ("numpy", "numba")

__all__ = ["BLAS", "PRECISIONS", "TELLINGS", "Listener", "Ops", "Spans", "bind", "composite"]


def bind(name: str) -> Ops:
    """The operations of the telling `name`: "numpy", the oracle, or "numba", the fast one.

    Raises:
        Refused: no such telling. There is no fallback to another.
    """
    if name not in TELLINGS:
        raise Refused("ops", f"one of {', '.join(TELLINGS)}", repr(name))
    telling = import_module(f".{name}_ops", __name__)
    if hasattr(telling, "warm_up"):
        telling.warm_up()
    return Ops(telling)
