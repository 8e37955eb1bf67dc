"""Tape: gradients of a computation. It records the operations, and calls their backward functions in reverse order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError
from ..ops import Instrument, Ops
from ..ops.interface import OPERANDS
from ..ragged import Array
from .dropout import Dropout


class Call(NamedTuple):
    """One call of an operation. It keeps its arrays alive, so that each `id` belongs to only one array."""

    operation: str
    arguments: tuple[Any, ...]
    result: Array

    def operands(self) -> list[Array]:
        """The arguments for which the backward function returns cotangents."""
        return [self.arguments[i] for i in OPERANDS[self.operation] if i < len(self.arguments)]


class Tape(Instrument):
    """Records every call of an operation that has a backward function. `gradients` replays them once, last call first.

    The tape distinguishes arrays by identity. This is possible since no operation returns one of its arguments.
    Dropout wraps the tape, `Dropout(Tape(ops), rate, rng)`, so that the tape records the dropout too.

    Raises:
        InputError: the backend lacks the backward of an operation, or the tape wraps a Dropout.
    """

    elementary = True

    def __init__(self, ops: Ops) -> None:
        missing = [f"{name}_backward" for name in OPERANDS if name not in ops.backward]
        if missing:
            raise InputError("Tape", "a backend with a backward of every operation", f"no {', '.join(missing)}")
        inner = ops
        while isinstance(inner, Instrument):
            if isinstance(inner, Dropout):
                raise InputError("Tape", "Dropout around it", "Dropout inside", "Dropout(Tape(ops), rate, rng)")
            inner = inner.ops
        self.calls: list[Call] = []
        super().__init__(ops)

    def observe(self, name: str, operation: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        result = operation(*args)
        if name in OPERANDS:
            self.calls.append(Call(name, args, result))
        return result

    def scope(self, name: str) -> Any:
        """A copy of the tape for an inner scope. If nothing uses the name, it is the tape itself, which is faster."""
        inner = self.ops.scope(name)
        return self if inner is self.ops and type(self) is Tape else self._copy(f"{self.path}{name}.", inner)

    def frozen(self) -> Any:
        """The operations without the tape."""
        return self.ops.frozen()

    def gradients(self, output_grads: Sequence[tuple[Array, Any]], of: Mapping[str, Array]) -> dict[str, np.ndarray]:
        """d(sum of result * output gradient) / d(each array of `of`); 0 for an array that was not used.

        The tape is empty afterwards: each call and its arrays are freed as soon as they are replayed.

        Args:
            output_grads: results of operations on this tape, each with a gradient of the same shape.
            of: arrays by name, such as `leaves(model)`. Packed weights are allowed; their gradients are plain arrays.

        Returns:
            Host arrays by the names of `of`, each with the shape of its array.

        Raises:
            InputError: a result is not on the tape, a gradient has another shape, or one array has two names.
        """
        reached, requested = self._reached(of), {id(x) for x in of.values()}
        sums: dict[int, Array] = {}

        def add(x: Array, cotangent: Array) -> None:
            sums[id(x)] = self.ops.add(sums[id(x)], cotangent) if id(x) in sums else cotangent

        self._check(output_grads)
        for result, cotangent in output_grads:
            add(result, self.ops.to_device(cotangent))
        while self.calls:
            call = self.calls.pop()
            dy = (sums.get if id(call.result) in requested else sums.pop)(id(call.result), None)
            if dy is not None and id(call.result) in reached:
                cotangents = self.ops.backward[call.operation](dy, *call.arguments)
                for x, cotangent in zip(call.operands(), cotangents, strict=True):
                    if cotangent is not None and id(x) in reached:
                        add(x, cotangent)
        get = self.ops.to_host
        return {name: get(sums[id(x)]) if id(x) in sums else np.zeros_like(get(x)) for name, x in of.items()}

    def _reached(self, of: Mapping[str, Array]) -> set[int]:
        """Ids of the arrays that depend on those of `of`; only these need cotangents."""
        names: dict[int, str] = {}
        for name, x in of.items():
            if names.setdefault(id(x), name) != name:
                got = f"one array for {names[id(x)]} and {name}"
                raise InputError("Tape", "a different array for each name", got, "copy it")
        reached = set(names)
        for call in self.calls:
            if any(id(x) in reached for x in call.operands()):
                reached.add(id(call.result))
        return reached

    def _check(self, output_grads: Sequence[tuple[Array, Any]]) -> None:
        known = {id(call.result) for call in self.calls}
        for i, (result, cotangent) in enumerate(output_grads):
            if id(result) not in known:
                raise InputError(f"Tape: output {i}", "a result on the tape", "another array", "record it; replay once")
            if np.shape(cotangent) != result.shape:
                raise InputError(
                    f"Tape: output {i}", f"a gradient of shape {list(result.shape)}", f"{np.shape(cotangent)}"
                )
