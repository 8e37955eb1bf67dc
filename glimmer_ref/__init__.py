"""glimmer_ref: the reference implementation of GLIMMER, with LUMEN and FiD."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Answer", "InputError", "Memory", "Passage", "Reader", "load"]

_HOMES = {
    "Answer": "inference.answer",
    "InputError": "errors",
    "Memory": "memory.store",
    "Passage": "data.inputs",
    "Reader": "inference.reader",
    "load": "inference.reader",
}

if TYPE_CHECKING:
    from .data.inputs import Passage
    from .errors import InputError
    from .inference.answer import Answer
    from .inference.reader import Reader, load
    from .memory.store import Memory
else:

    def __getattr__(name: str) -> Any:  # so that `import glimmer_ref` costs nothing until something is used
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
