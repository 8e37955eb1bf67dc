"""Tape: the gradients of whatever was computed, by replaying its operations backward."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError
from ..ops import Instrument, Ops
from ..ops.interface import OPERANDS
from ..ragged import Array
from .dropout import Dropout


class Record(NamedTuple):
    """One call of an operation. It keeps its arrays alive, so that an `id` stands for one array only."""

    operation: str
    arguments: tuple[Any, ...]
    result: Array

    def operands(self) -> list[Array]:
        """The arguments that cotangents are made of."""
        return [self.arguments[i] for i in OPERANDS[self.operation] if i < len(self.arguments)]


class Tape(Instrument):
    """Records every operation that has a backward; `gradients` replays the record, once.

    Arrays are told apart by identity, which an operation's result never shares with its arguments.
    Dropout goes around the tape, `Dropout(Tape(ops), rate, rng)`, so that what it drops is on the record.

    Raises:
        InputError: operations whose backward the backend lacks, or a Dropout inside.
    """

    elementary = True

    def __init__(self, ops: Ops) -> None:
        lacking = [f"{name}_backward" for name in OPERANDS if name not in ops.backward]
        if lacking:
            raise InputError("Tape", "a backend with a backward of every operation", f"no {', '.join(lacking)}")
        inner = ops
        while isinstance(inner, Instrument):
            if isinstance(inner, Dropout):
                raise InputError("Tape", "Dropout around it", "Dropout inside", "Dropout(Tape(ops), rate, rng)")
            inner = inner.ops
        self.records: list[Record] = []
        super().__init__(ops)

    def observe(self, name: str, operation: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        result = operation(*args)
        if name in OPERANDS:
            self.records.append(Record(name, args, result))
        return result

    def at(self, name: str) -> Any:
        """This tape one place further in; itself, as places are many, where neither a subclass nor `ops` cares."""
        inner = self.ops.at(name)
        return self if inner is self.ops and type(self) is Tape else self._twin(f"{self.path}{name}.", inner)

    def frozen(self) -> Any:
        """The operations without the tape."""
        return self.ops.frozen()

    def gradients(self, seeds: Sequence[tuple[Array, Any]], of: Mapping[str, Array]) -> dict[str, np.ndarray]:
        """d(sum of seeds' result * cotangent)/d(each array of `of`), 0 for one that was not used.

        The record is used up: each call and its arrays are let go as soon as they are replayed.

        Args:
            seeds: results of operations on this tape, each with the cotangent of its shape.
            of: arrays by name, as `leaves(model)`; packed weights too, whose gradients are plain arrays.

        Returns:
            Host arrays by the names of `of`, each of its array's shape.

        Raises:
            InputError: a result that is not on the tape, a cotangent of another shape, or one array under two names.
        """
        reached, wanted = self._reached(of), {id(x) for x in of.values()}
        sums: dict[int, Array] = {}

        def add(x: Array, cotangent: Array) -> None:
            sums[id(x)] = self.ops.add(sums[id(x)], cotangent) if id(x) in sums else cotangent

        self._check(seeds)
        for result, cotangent in seeds:
            add(result, self.ops.to_device(cotangent))
        while self.records:
            record = self.records.pop()
            dy = (sums.get if id(record.result) in wanted else sums.pop)(id(record.result), None)
            if dy is not None and id(record.result) in reached:
                cotangents = self.ops.backward[record.operation](dy, *record.arguments)
                for x, cotangent in zip(record.operands(), cotangents, strict=True):
                    if cotangent is not None and id(x) in reached:
                        add(x, cotangent)
        get = self.ops.to_host
        return {name: get(sums[id(x)]) if id(x) in sums else np.zeros_like(get(x)) for name, x in of.items()}

    def _reached(self, of: Mapping[str, Array]) -> set[int]:
        """The arrays that depend on those of `of`: others need no cotangent, and no replay."""
        names: dict[int, str] = {}
        for name, x in of.items():
            if names.setdefault(id(x), name) != name:
                raise InputError("Tape", "arrays of their own", f"{names[id(x)]} and {name} are one", "copy it")
        reached = set(names)
        for record in self.records:
            if any(id(x) in reached for x in record.operands()):
                reached.add(id(record.result))
        return reached

    def _check(self, seeds: Sequence[tuple[Array, Any]]) -> None:
        known = {id(record.result) for record in self.records}
        for i, (result, cotangent) in enumerate(seeds):
            if id(result) not in known:
                raise InputError(f"Tape: seed {i}", "a result on the tape", "another array", "record it; replay once")
            if np.shape(cotangent) != result.shape:
                raise InputError(
                    f"Tape: seed {i}", f"a cotangent of shape {list(result.shape)}", f"{np.shape(cotangent)}"
                )
