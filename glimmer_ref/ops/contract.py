"""The contract: the few mathematical operations that the whole model is written in.

A telling is a module that gives each of them, under the same name, with the same arguments.
`Ops(telling)` binds one; a `Listener` wraps a bound one and hears every number that passes.

Rules of every telling: dtype out = dtype in; inputs are never written to; an op never returns its
own argument (`put`, `get`, `mark` excepted); ids, lengths, positions and indices are NumPy arrays on
the host, everything else is what `put` returns; no fallback to another telling, ever.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any, NamedTuple

from ..arrays import Array, Ints
from ..errors import Refused


class Spans(NamedTuple):
    """Which rows attend to which: the i-th run of queries to the i-th run of keys.

    Args:
        query_lengths, key_lengths: [b] rows of each sequence.
        query_positions, key_positions: [Nq], [Nk] the tokens' places; their difference picks the
            bias, and a causal query sees the keys that are not behind it.
    """

    query_lengths: Ints
    key_lengths: Ints
    query_positions: Ints
    key_positions: Ints


class Telling:
    """What a telling gives. Shapes in square brackets, in the words of `arrays`."""

    def put(self, x: Any) -> Array:
        """Host array to the telling's own, laid out as it likes best; done once per weight."""

    def get(self, x: Array) -> Any:
        """The telling's array back as NumPy."""

    def pack(self, w: Array, precision: str) -> Array:
        """A host weight [a o] as `linear` likes it best, computed with in `precision`; done once."""

    def pack_table(self, table: Array, precision: str) -> Array:
        """A host table [v d] as `embed` and `unembed` like it best, likewise."""

    def embed(self, table: Array, ids: Ints) -> Array:
        """table[ids]: [v d], [N] -> [N d]."""

    def unembed(self, table: Array, x: Array) -> Array:
        """x table^T, a logit for each row of the table: [v d], [N d] -> [N v]."""

    def linear(self, x: Array, w: Array) -> Array:
        """x w: [N a], [a o] -> [N o]. T5 has no biases."""

    def dot(self, x: Array, w: Array) -> Array:
        """x_i . w for every row, each summed in the same order: [N d], [d 1] -> [N].

        Equal rows give equal bits, which a BLAS product of the whole matrix does not promise: scores
        that tie must tie exactly (D6).
        """

    def add(self, x: Array, y: Array) -> Array:
        """x + y, the residual: [N d], [N d] -> [N d]."""

    def scale(self, x: Array, factor: float) -> Array:
        """x * factor: [N d] -> [N d]."""

    def rms_norm(self, x: Array, gain: Array, eps: float) -> Array:
        """x / sqrt(mean(x^2) + eps) * gain: [N d], [d] -> [N d]."""

    def gated_gelu(self, a: Array, b: Array) -> Array:
        """gelu(a) * b with a/2 (1 + tanh(sqrt(2/pi) (a + 0.044715 a^3))): [N f], [N f] -> [N f]."""

    def relu(self, a: Array) -> Array:
        """max(a, 0): [N f] -> [N f]."""

    def attention(
        self, q: Array, k: Array, v: Array, bias: Array | None, spans: Spans, heads: int, causal: bool
    ) -> Array:
        """softmax_j(q_i k_j + bias[j-i]) v_j per sequence and head: [Nq hc], [Nk hc] -> [Nq hc].

        `bias` is [2D+1 h]: its row D + (key position - query position) is added; None adds nothing.
        """

    def attention_probs(
        self, q: Array, k: Array, bias: Array | None, spans: Spans, heads: int, causal: bool
    ) -> list[Array]:
        """The same stopped before v, for traces and lessons: b arrays [h i j]."""

    def join(self, x: Array, x_lengths: Ints, y: Array, y_lengths: Ints) -> Array:
        """[x_i; y_i] for every sequence i: [Nx d], [Ny d] -> [Nx+Ny d]."""

    def take(self, x: Array, lengths: Ints, index: Ints) -> Array:
        """The sequences `index`, in that order, repeats allowed: [N d] -> [N' d]."""

    def first(self, x: Array, lengths: Ints) -> Array:
        """First row of each sequence: [N d] -> [b d]."""

    def mean(self, x: Array, lengths: Ints) -> Array:
        """Mean of each sequence's rows: [N d] -> [b d]."""

    def argmax(self, x: Array) -> Ints:
        """Where each row is largest, ties to the lower index: [N v] -> [N] on the host."""

    def log_likelihood(self, logits: Array, targets: Ints, lengths: Ints) -> Array:
        """sum_t log softmax(logits_t)[target_t] per sequence: [N v], [N] -> [b]."""


PRECISIONS = ("float32", "bfloat16", "int8")  # what packed weights may be computed with in; float64 stays itself
BLAS = "whose products are NumPy's BLAS: OPENBLAS_NUM_THREADS and the like count"
OPERATIONS = tuple(n for n, f in vars(Telling).items() if inspect.isfunction(f) and not n.startswith("_"))


class Ops(Telling):
    """A telling bound to the contract; the model gets it as its first argument.

    Raises:
        Refused: an operation is missing, or takes other arguments than the contract's.
    """

    def __init__(self, telling: ModuleType) -> None:
        lacking = []
        for name in OPERATIONS:
            function = getattr(telling, name, None)
            wanted = list(inspect.signature(getattr(Telling, name)).parameters)[1:]
            if function is None:
                lacking.append(name)
            elif list(inspect.signature(function).parameters) != wanted:
                lacking.append(f"{name}({', '.join(wanted)})")
            else:
                setattr(self, name, function)
        self.telling = telling
        if lacking:
            raise Refused(telling.__name__, "every operation of the contract", f"no {', '.join(lacking)}")

    def whole(self, composite: str) -> Callable[..., Any] | None:
        """The telling's own version of a composite, if it has one."""
        return getattr(self.telling, composite, None)

    def limited(self, threads: int | None) -> AbstractContextManager[None]:
        """A block in which operations called by this Python thread use at most so many threads; None changes nothing.

        Raises:
            Refused: more threads than there are, or a telling that cannot tell its own how many.
        """
        limit = getattr(self.telling, "limit", None)
        if limit is not None:
            return limit(threads)
        if threads is not None:
            raise Refused("threads", f"none with {self.telling.__name__.rsplit('.', 1)[-1]}, {BLAS}", str(threads))
        return nullcontext()

    def at(self, name: str) -> Ops:
        """The same operations, inside the place `name`; only listeners care."""
        return self

    def mark(self, name: str, x: Array, lengths: Ints | None = None) -> Array:
        """x itself, told to whoever listens under `name`; `lengths` if its rows are ragged."""
        return x


def composite(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the model, func(ops, ..), that a telling may give as a whole, func(..), to be faster.

    The body is what it means; a telling that cannot do it for these arguments returns NotImplemented.
    """

    @functools.wraps(function)
    def call(ops: Ops, *args: Any) -> Any:
        whole = ops.whole(function.__name__)
        result = NotImplemented if whole is None else whole(*args)
        return function(ops, *args) if result is NotImplemented else result

    return call


class Listener(Ops):
    """Forwards every operation to `ops`; a subclass overrides those that it wants to hear.

    Args:
        ops: bound operations, or another listener.
    """

    def __init__(self, ops: Ops) -> None:
        self.path = ""
        self._wrap(ops)

    def whole(self, composite: str) -> Callable[..., Any] | None:
        """None: a listener hears the elementary operations."""
        return None

    def limited(self, threads: int | None) -> AbstractContextManager[None]:
        return self.ops.limited(threads)

    def _wrap(self, ops: Ops) -> None:
        self.ops = ops
        for name in OPERATIONS:
            if name not in type(self).__dict__:
                setattr(self, name, getattr(ops, name))

    def at(self, name: str) -> Any:
        """This listener, one place further in."""
        twin = copy.copy(self)
        twin.path = f"{self.path}{name}."
        twin._wrap(self.ops.at(name))
        return twin

    def mark(self, name: str, x: Array, lengths: Ints | None = None) -> Array:
        return self.ops.mark(name, x, lengths)
