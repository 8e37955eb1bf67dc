"""A backend bound to the op interface, and instruments, which wrap a bound one and hear every number that passes.

`Ops(backend)` holds a module against everything that the op interface declares, and is what the model gets as its
first argument.
"""

from __future__ import annotations

import copy
import functools
import inspect
import typing
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from difflib import get_close_matches
from types import ModuleType
from typing import Any

from .. import ragged
from ..errors import InputError
from ..ragged import Array, Ints
from .interface import BACKWARD, BLAS, COMPOSITES, FORMS, FORWARD, HOOKS, OPERANDS, OPERATIONS, Operations, signature_of

OTHER = "other"  # the component of what is at no place: text, rows moved between stages, Python itself
DECLARED = FORWARD | BACKWARD | COMPOSITES | HOOKS


def _spelled(name: str) -> str:
    """A declared function as it is to be called, like relu(a)."""
    return f"{name}({', '.join(str(a) for a in DECLARED[name].parameters.values())})"


def _undeclared(backend: ModuleType) -> Iterator[str]:
    """Public functions of a module that are neither declared nor of `arrays`, each with what it may be meant for."""
    for name, x in vars(backend).items():
        function = callable(x) and not isinstance(x, type) and typing.get_origin(x) is None
        known = name.startswith("_") or name in DECLARED or x is getattr(ragged, name, None)
        if function and not known:
            meant = get_close_matches(name, DECLARED, 1)
            yield f"{name} (for {meant[0]}?)" if meant else name


def check(backend: ModuleType) -> None:
    """Holds a backend against the op interface.

    Raises:
        InputError: an operation is missing; an operation, backward, composite or hook that takes other arguments than
            the op interface's; a public function that the op interface does not declare.
    """
    lacking = []
    for name, declared in DECLARED.items():
        function = getattr(backend, name, None)
        if function is None:
            lacking += [name] if name in FORWARD else []
        elif signature_of(function) != declared:
            lacking.append(_spelled(name))
    if lacking:
        raise InputError(backend.__name__, "every operation of the op interface", f"no {', '.join(lacking)}")
    if others := list(_undeclared(backend)):
        do = "begin a helper's name with _"
        raise InputError(backend.__name__, "no public function beside the op interface's", ", ".join(others), do)


class Ops(Operations):
    """A backend bound to the op interface; the model gets it as its first argument.

    Raises:
        InputError: see `check`.
    """

    observed = False  # does anybody listen? then names are marked, and what is marked is computed

    def __init__(self, backend: ModuleType) -> None:
        check(backend)
        self.backend = backend
        given = {name: getattr(backend, name) for name in DECLARED if hasattr(backend, name)}
        for name in OPERATIONS:
            setattr(self, name, given[name])
        self._backward = {name: given[f"{name}_backward"] for name in OPERANDS if f"{name}_backward" in given}
        self._optional = {name: f for name, f in given.items() if name in COMPOSITES or name in HOOKS}

    @property
    def backward(self) -> dict[str, Callable[..., tuple[Array | None, ...]]]:
        """The backend's backward of each operation that it has one of, see `interface.Backward`."""
        return self._backward

    def whole(self, name: str) -> Callable[..., Any] | None:
        """What the backend gives besides under a name of `interface.Composites` or `interface.Hooks`, if it does."""
        return self._optional.get(name)

    def warm_up(self) -> None:
        """Whatever the backend does once before the first operation.

        Raises:
            InputError: a backend that cannot run here.
        """
        if warm_up := self.whole("warm_up"):
            warm_up()

    def limited(self, threads: int | None) -> AbstractContextManager[None]:
        """A block in which operations called by this Python thread use at most so many threads; None changes nothing.

        Raises:
            InputError: more threads than there are, or a backend that cannot tell its own how many.
        """
        if limit := self.whole("limit"):
            return limit(threads)
        if threads is not None:
            raise InputError("threads", f"none with {self.backend.__name__.rsplit('.', 1)[-1]}, {BLAS}", str(threads))
        return nullcontext()

    def at(self, name: str) -> Ops:
        """The same operations, inside the place `name`; only instruments care."""
        return self

    def mark(self, name: str, x: Array, lengths: Ints | None = None) -> Array:
        """x itself, told to whoever listens under `name`; `lengths` if its rows are ragged."""
        return x

    def dropout(self, x: Array) -> Array:
        """x itself, where T5 has dropout while it trains; only `Dropout` cares."""
        return x

    def frozen(self) -> Ops:
        """The same operations for what is data to training: no gradient flows into it, nothing is dropped."""
        return self


def composite(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the model, func(ops, ..), that a backend may give as a whole, func(..), to be faster.

    The body is what it means; a backend that cannot do it for these arguments returns NotImplemented.

    Raises:
        InputError: a function that `interface.Composites` does not declare so.
    """
    name, called = function.__name__, signature_of(function)
    without_ops = called and inspect.Signature(list(called.parameters.values())[1:])
    if name not in COMPOSITES or without_ops != COMPOSITES[name]:
        raise InputError("composite", "a function that contract.Composites declares, after its ops", f"{name}{called}")

    @functools.wraps(function)
    def call(ops: Ops, *args: Any) -> Any:
        whole = ops.whole(name)
        result = NotImplemented if whole is None else whole(*args)
        return function(ops, *args) if result is NotImplemented else result

    return call


class Instrument(Ops):
    """Forwards every operation to `ops`; a subclass overrides those that it wants to hear, or `hear` for all.

    An override may be anywhere among the bases, or an attribute of the instrument itself, and may call `super()`.
    At another place, `at`, an instrument has twins, which share what its attributes hold: they may be filled, not set.

    What is heard is what would have been computed unheard, to the bit: single operations round like fused ones,
    and forms of a backend's own (`FORMS`), which have no single operations, still give the result.

    Args:
        ops: bound operations, or another instrument.
    """

    observed = True
    elementary = False  # set where results are changed or differentiated: single operations then give every result

    def __init__(self, ops: Ops) -> None:
        self.path, self.ops = "", ops

    def observe(self, name: str, operation: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """The result of an operation that no override has taken: `operation` is that of `ops`."""
        return operation(*args)

    def overrides(self) -> bool:
        """Does a subclass, or the instrument itself, override single operations?"""
        return any(name in vars(self) or getattr(type(self), name) is not getattr(Instrument, name) for name in FORWARD)

    @property
    def component(self) -> str:
        """The first word of the place: a stage of the model, or `OTHER`."""
        return self.path.split(".")[0] or OTHER

    @property
    def backward(self) -> dict[str, Callable[..., tuple[Array | None, ...]]]:
        return self.ops.backward

    def whole(self, name: str) -> Callable[..., Any] | None:
        """None, since one hears the elementary operations; but for `FORMS`, which are computed beside them."""
        return None if self.elementary or name not in FORMS else self.ops.whole(name)

    def warm_up(self) -> None:
        self.ops.warm_up()

    def limited(self, threads: int | None) -> AbstractContextManager[None]:
        return self.ops.limited(threads)

    def at(self, name: str) -> Any:
        """This instrument, one place further in."""
        return self._twin(f"{self.path}{name}.", self.ops.at(name))

    def _twin(self, path: str, ops: Ops) -> Any:
        """This instrument at another place, or around other operations; what it has heard is shared."""
        twin = copy.copy(self)
        vars(twin).update(path=path, ops=ops, _is_twin=True)
        return twin

    def __setattr__(self, name: str, value: Any) -> None:
        if "_is_twin" in vars(self) and vars(self).get(name) is not value:  # which += of a list does not change
            do = "keep what is heard in a dict, list or array that is filled"
            raise InputError(
                type(self).__name__, "attributes set only where it was made", f"{name} at {self.path!r}", do
            )
        super().__setattr__(name, value)

    def mark(self, name: str, x: Array, lengths: Ints | None = None) -> Array:
        return self.ops.mark(name, x, lengths)

    def dropout(self, x: Array) -> Array:
        return self.ops.dropout(x)

    def frozen(self) -> Any:
        return self._twin(self.path, self.ops.frozen())


def _forwarded(name: str) -> Callable[..., Any]:
    """An operation of an instrument: its arguments in the op interface's order, through `hear`."""
    arguments = FORWARD[name]

    def forward(self: Instrument, *args: Any, **named: Any) -> Any:
        if named:
            args = arguments.bind(*args, **named).args
        return self.observe(name, getattr(self.ops, name), args)

    return functools.wraps(vars(Operations)[name])(forward)


for _name in OPERATIONS:
    setattr(Instrument, _name, _forwarded(_name))
