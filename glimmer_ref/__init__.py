"""glimmer_ref: the reference implementation of GLIMMER, with LUMEN and FiD."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["Answer", "InputError", "Memory", "Passage", "Reader", "load"]

_HOMES = {
    "Answer": "inference.reader",
    "Memory": "memory.store",
    "Passage": "data.inputs",
    "Reader": "inference.reader",
    "InputError": "errors",
    "load": "inference.reader",
}


def __getattr__(name: str) -> Any:  # so that `import glimmer_ref` costs nothing until something is used
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
