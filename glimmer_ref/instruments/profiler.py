"""Profiler: the time of a run by component, in seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..ops import OTHER, Instrument, Ops


class Profiler(Instrument):
    """Adds up the wall time inside operations. The keys of `seconds` are the components, and `OTHER` for the rest.

    The time between operations, in which Python itself runs, belongs to no component until `rest` adds it to `OTHER`.
    """

    def __init__(self, ops: Ops) -> None:
        self.seconds: dict[str, float] = {}
        self.started = time.perf_counter()
        super().__init__(ops)

    def _add(self, component: str, start: float) -> None:
        self.seconds[component] = self.seconds.get(component, 0.0) + time.perf_counter() - start

    @contextmanager
    def during(self, component: str) -> Iterator[None]:
        """A context that adds its time to a component."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._add(component, start)

    def rest(self) -> None:
        """Sets `OTHER` to the time since the creation of the profiler that belongs to no component."""
        self.seconds.pop(OTHER, None)
        known = sum(self.seconds.values())
        self.seconds[OTHER] = time.perf_counter() - self.started - known

    def observe(self, name: str, operation: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        start = time.perf_counter()
        result = operation(*args)
        self._add(self.component, start)
        return result

    def fused(self, name: str) -> Any:
        """The backend's fused implementation, timed as one operation.

        A subclass that overrides single operations must observe them, so it gets the same result as other instruments.
        """
        inner = super().fused(name) if self.overrides() else self.ops.fused(name)
        return inner and (lambda *args: self.observe(name, inner, args))

    def hook(self, name: str) -> Any:
        return super().hook(name) if self.overrides() else self.ops.hook(name)

    @property
    def observed(self) -> bool:  # type: ignore[override]
        """Whether this or an inner instrument observes anything else than times."""
        return self.overrides() or self.ops.observed
