"""Backends bound to the op interface, and instruments, which wrap bound operations and observe every call.

`Ops(backend)` checks a module against the op interface. The functions of the model take it as their first argument.
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
from .interface import (
    BACKWARD,
    BLAS,
    FORWARD,
    FUSABLE,
    HOOKS,
    OPERANDS,
    OPERATIONS,
    REORDERED,
    Operations,
    signature_of,
)

OTHER = "other"  # the component of everything outside of scopes: text, moves of rows between stages, Python itself
DECLARED = FORWARD | BACKWARD | FUSABLE | HOOKS


def _call_of(name: str) -> str:
    """A call of a declared function as text, for example "relu(a)"."""
    return f"{name}({', '.join(str(a) for a in DECLARED[name].parameters.values())})"


def _undeclared(backend: ModuleType) -> Iterator[str]:
    """Public functions of a module that the op interface does not declare, each with a declared name that is similar.

    The functions of `ragged` are allowed.
    """
    for name, x in vars(backend).items():
        function = callable(x) and not isinstance(x, type) and typing.get_origin(x) is None
        known = name.startswith("_") or name in DECLARED or x is getattr(ragged, name, None)
        if function and not known:
            meant = get_close_matches(name, DECLARED, 1)
            yield f"{name} (for {meant[0]}?)" if meant else name


def check(backend: ModuleType) -> None:
    """Checks a backend against the op interface.

    Raises:
        InputError: an operation is missing; an operation, backward, fused implementation or hook has other arguments
            than the op interface declares; a public function is not declared at all.
    """
    missing = []
    for name, declared in DECLARED.items():
        function = getattr(backend, name, None)
        if function is None:
            missing += [name] if name in FORWARD else []
        elif signature_of(function) != declared:
            missing.append(_call_of(name))
    if missing:
        raise InputError(backend.__name__, "every operation of the op interface", f"no {', '.join(missing)}")
    if others := list(_undeclared(backend)):
        expected, do = "only public functions that the op interface declares", "begin the name of a helper with _"
        raise InputError(backend.__name__, expected, ", ".join(others), do)


class Ops(Operations):
    """A backend bound to the op interface; the functions of the model take it as their first argument.

    Raises:
        InputError: see `check`.
    """

    observed = False  # whether an instrument observes; only then are all named arrays computed

    def __init__(self, backend: ModuleType) -> None:
        check(backend)
        self.backend = backend
        given = {name: getattr(backend, name) for name in DECLARED if hasattr(backend, name)}
        for name in OPERATIONS:
            setattr(self, name, given[name])
        self._backward = {name: given[f"{name}_backward"] for name in OPERANDS if f"{name}_backward" in given}
        self._fused = {name: f for name, f in given.items() if name in FUSABLE}
        self._hooks = {name: f for name, f in given.items() if name in HOOKS}

    @property
    def backward(self) -> dict[str, Callable[..., tuple[Array | None, ...]]]:
        """The backend's backward functions by operation; it may have only some. See `interface.Backward`."""
        return self._backward

    def fused(self, name: str) -> Callable[..., Any] | None:
        """The backend's fused implementation of a function that `interface.Fusable` declares; None if it has none."""
        return self._fused.get(name)

    def hook(self, name: str) -> Callable[..., Any] | None:
        """The backend's hook of a name that `interface.Hooks` declares; None if it has none."""
        return self._hooks.get(name)

    def warm_up(self) -> None:
        """Prepares the backend for its first operation.

        Raises:
            InputError: the backend cannot run here.
        """
        if warm_up := self.hook("warm_up"):
            warm_up()

    def limited(self, threads: int | None) -> AbstractContextManager[None]:
        """A context in which operations called by this Python thread use at most `threads` threads; None: no limit.

        Raises:
            InputError: there are fewer threads, or the backend cannot limit its threads.
        """
        if limit := self.hook("limit"):
            return limit(threads)
        if threads is not None:
            name = self.backend.__name__.rpartition(".")[2].removesuffix("_backend")
            raise InputError("threads", f"none with ops={name}, {BLAS}", str(threads))
        return nullcontext()

    def scope(self, name: str) -> Ops:
        """The same operations for a part of the model called `name`; only instruments use the name."""
        return self

    def record(self, name: str, x: Array, lengths: Ints | None = None) -> Array:
        """x itself. Instruments observe it under `name`, with the sequences' `lengths` if its rows are ragged."""
        return x

    def dropout(self, x: Array) -> Array:
        """x itself; the instrument `Dropout` drops some of its values, where T5 does so in training."""
        return x

    def frozen(self) -> Ops:
        """The same operations, but without gradients and dropout: for computations that training treats as data."""
        return self


def fusable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a function of the model, f(ops, ..), that a backend may replace by a fused implementation, f(..).

    The decorated body defines the result. A fused implementation that cannot handle its arguments returns
    NotImplemented, and the body runs.

    Raises:
        InputError: `interface.Fusable` does not declare the function with these arguments.
    """
    name, called = function.__name__, signature_of(function)
    without_ops = called and inspect.Signature(list(called.parameters.values())[1:])
    if name not in FUSABLE or without_ops != FUSABLE[name]:
        raise InputError("fusable", "a function of interface.Fusable with ops before its arguments", f"{name}{called}")

    @functools.wraps(function)
    def call(ops: Ops, *args: Any) -> Any:
        fused = ops.fused(name)
        result = NotImplemented if fused is None else fused(*args)
        return function(ops, *args) if result is NotImplemented else result

    return call


class Instrument(Ops):
    """Forwards every operation to `ops`. A subclass overrides single operations, or `observe` for all of them.

    An override may be in any base class, or be an attribute of the instrument, and it may call `super()`.
    `scope` returns a copy of the instrument. All copies share the objects in its attributes. So a list or a dict may be
    filled, but no attribute may be set again.

    Observing changes no bit of any result, because single operations round in the same way as fused ones. The fused
    implementations in `REORDERED` are the exception, so they still compute the results.

    Args:
        ops: bound operations, or another instrument.
    """

    observed = True
    elementary = False  # True if it changes or differentiates results: then single operations compute every result

    def __init__(self, ops: Ops) -> None:
        self.path, self.ops = "", ops

    def observe(self, name: str, operation: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """The result of an operation without an override. `operation` is the operation of `ops`."""
        return operation(*args)

    def overrides(self) -> bool:
        """Whether a subclass, or the instrument itself, overrides single operations."""
        return any(name in vars(self) or getattr(type(self), name) is not getattr(Instrument, name) for name in FORWARD)

    @property
    def component(self) -> str:
        """The first part of the scope: a stage of the model, or `OTHER`."""
        return self.path.split(".")[0] or OTHER

    @property
    def backward(self) -> dict[str, Callable[..., tuple[Array | None, ...]]]:
        return self.ops.backward

    def fused(self, name: str) -> Callable[..., Any] | None:
        """None, so that single operations run. `REORDERED` is excepted: single operations round differently there."""
        return None if self.elementary or name not in REORDERED else self.ops.fused(name)

    def hook(self, name: str) -> Callable[..., Any] | None:
        """None: hooks describe fused implementations, and an instrument runs single operations."""
        return None

    def warm_up(self) -> None:
        self.ops.warm_up()

    def limited(self, threads: int | None) -> AbstractContextManager[None]:
        return self.ops.limited(threads)

    def scope(self, name: str) -> Any:
        """A copy of this instrument for an inner scope."""
        return self._copy(f"{self.path}{name}.", self.ops.scope(name))

    def _copy(self, path: str, ops: Ops) -> Any:
        """A copy for another scope, or around other operations. The copies share all observations."""
        copied = copy.copy(self)
        vars(copied).update(path=path, ops=ops, _is_copy=True)
        return copied

    def __setattr__(self, name: str, value: Any) -> None:
        if "_is_copy" in vars(self) and vars(self).get(name) is not value:  # += on a list sets the same object again
            do = "collect observations in a dict, list or array"
            expected = "attributes set only on the instrument itself, not on its copies"
            raise InputError(type(self).__name__, expected, f"{name} in scope {self.path!r}", do)
        super().__setattr__(name, value)

    def record(self, name: str, x: Array, lengths: Ints | None = None) -> Array:
        return self.ops.record(name, x, lengths)

    def dropout(self, x: Array) -> Array:
        return self.ops.dropout(x)

    def frozen(self) -> Any:
        return self._copy(self.path, self.ops.frozen())


def _forwarded(name: str) -> Callable[..., Any]:
    """An instrument's operation, which passes its arguments in the declared order to `observe`."""
    arguments = FORWARD[name]

    def forward(self: Instrument, *args: Any, **named: Any) -> Any:
        if named:
            args = arguments.bind(*args, **named).args
        return self.observe(name, getattr(self.ops, name), args)

    return functools.wraps(vars(Operations)[name])(forward)


for _name in OPERATIONS:
    setattr(Instrument, _name, _forwarded(_name))
