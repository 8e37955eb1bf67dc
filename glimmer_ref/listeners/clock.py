"""Clock: the seconds that a run's operations took, by component."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from ..ops.contract import OPERATIONS, Listener, Ops

T = TypeVar("T")


class Clock(Listener):
    """Adds up wall time inside the operations; `seconds` has a component a key, as `Count` has.

    Time between operations (Python's own) belongs to none of them.
    """

    def waits(self, component: str, items: Iterable[T]) -> Iterator[T]:
        """The items, and as a component the time that was spent waiting for them."""
        start = time.perf_counter()
        for item in items:
            self._add(component, start)
            yield item
            start = time.perf_counter()
        self._add(component, start)

    def _add(self, component: str, start: float) -> None:
        self.seconds[component] = self.seconds.get(component, 0.0) + time.perf_counter() - start

    def __init__(self, ops: Ops) -> None:
        self.seconds: dict[str, float] = {}
        super().__init__(ops)

    def _wrap(self, ops: Ops) -> None:
        super()._wrap(ops)
        component = self.path.split(".")[0]
        for name in OPERATIONS:
            setattr(self, name, self._timed(getattr(ops, name), component))

    @property
    def heard(self) -> bool:  # type: ignore[override]
        """Whether anybody inside hears more than how long it took."""
        return self.ops.heard

    def whole(self, composite: str) -> Any:
        """The telling's own version, timed as one operation: a clock does not ask what is inside."""
        inner = self.ops.whole(composite)
        return inner and self._timed(inner, self.path.split(".")[0])

    def _timed(self, operation: Any, component: str) -> Any:
        def timed(*args: Any) -> Any:
            start = time.perf_counter()
            result = operation(*args)
            self._add(component, start)
            return result

        return timed
