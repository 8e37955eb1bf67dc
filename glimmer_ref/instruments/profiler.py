"""Clock: the seconds that a run took, by component."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..ops import OTHER, Instrument, Ops


class Profiler(Instrument):
    """Adds up wall time inside the operations; `seconds` has a component a key, as `MacCounter` has, or `OTHER`.

    Time between operations (Python's own) belongs to none of them, until `rest` gives it to `OTHER`.
    """

    def __init__(self, ops: Ops) -> None:
        self.seconds: dict[str, float] = {}
        self.made = time.perf_counter()
        super().__init__(ops)

    def _add(self, component: str, start: float) -> None:
        self.seconds[component] = self.seconds.get(component, 0.0) + time.perf_counter() - start

    @contextmanager
    def during(self, component: str) -> Iterator[None]:
        """A block whose time is a component's."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._add(component, start)

    def rest(self) -> None:
        """Calls `OTHER` all the time since the clock was made that no component has: `seconds` add up to it."""
        self.seconds.pop(OTHER, None)
        known = sum(self.seconds.values())
        self.seconds[OTHER] = time.perf_counter() - self.made - known

    def observe(self, name: str, operation: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        start = time.perf_counter()
        result = operation(*args)
        self._add(self.component, start)
        return result

    def whole(self, name: str) -> Any:
        """The backend's own version, timed as one operation: a clock does not ask what is inside.

        Of an inheriting clock that overrides single operations, no more than any instrument has.
        """
        inner = super().whole(name) if self.overrides() else self.ops.whole(name)
        return inner and (lambda *args: self.observe(name, inner, args))

    @property
    def observed(self) -> bool:  # type: ignore[override]
        """Whether anybody inside hears more than how long it took."""
        return self.overrides() or self.ops.observed
