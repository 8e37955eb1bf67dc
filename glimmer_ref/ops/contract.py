"""The contract: the few mathematical operations that the whole model is written in.

A telling is a module that gives each of them, under the same name, with the same arguments.
`Ops(telling)` binds one; a `Listener` wraps a bound one and hears every number that passes. `Backward`
declares the other direction, which a telling may lack.

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

Factors = Any  # what `put` makes of an array of constants: no gradient flows into it


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

    def multiply(self, x: Array, factors: Factors) -> Array:
        """x * factors, number by number, as dropout does to states: [..], [..] -> [..]."""

    def rms_norm(self, x: Array, gain: Array, eps: float, precision: str | None = None) -> Array:
        """x / sqrt(mean(x^2) + eps) * gain: [N d], [d] -> [N d].

        `precision`, see `precision_of`, is that of the products that the result goes into.
        """

    def gated_gelu(self, a: Array, b: Array) -> Array:
        """gelu(a) * b with a/2 (1 + tanh(sqrt(2/pi) (a + 0.044715 a^3))): [N f], [N f] -> [N f]."""

    def relu(self, a: Array) -> Array:
        """max(a, 0): [N f] -> [N f]."""

    def attention(
        self,
        q: Array,
        k: Array,
        v: Array,
        bias: Array | None,
        spans: Spans,
        heads: int,
        causal: bool,
        keep: Factors | None = None,
        precision: str | None = None,
    ) -> Array:
        """softmax_j(q_i k_j + bias[j-i]) v_j per sequence and head: [Nq hc], [Nk hc] -> [Nq hc].

        `bias` is [2D+1 h]: its row D + (key position - query position) is added; None adds nothing.
        `keep` multiplies the probabilities, as dropout does: [sum of h*i*j], by sequence, head, query, key.
        `precision`, see `precision_of`, is that of the products that made q; a telling may make attention's own in it.
        """

    def attention_probs(
        self,
        q: Array,
        k: Array,
        bias: Array | None,
        spans: Spans,
        heads: int,
        causal: bool,
        precision: str | None = None,
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

    def rank_kl(self, scores: Array, log_p_lm: Array, counts: Ints, tau: float, direction: str) -> Array:
        """KL(softmax(scores/tau) || softmax(log_p_lm/tau)) over each question's passages: [K], [K] -> [b].

        `counts` [b] are the passages of each question. With `direction` "reverse" it is KL(p_LM || p_rank).
        """


class Backward:
    """The other direction: `<op>_backward(dy, <the op's arguments>)`, dy being the cotangent of its result.

    Each returns a tuple: the cotangents of those arguments that the contract calls Array, in their
    order, shaped like them; of a packed weight in its own shape [a o]. What the forward computed on its way is
    computed again, in the dtype of the operands whatever the precision. Nothing that is returned may be written to:
    it can be dy itself.
    """

    def embed_backward(self, dy: Array, table: Array, ids: Ints) -> tuple[Array]:
        """dtable_v = sum of dy_i over the i whose id is v."""

    def unembed_backward(self, dy: Array, table: Array, x: Array) -> tuple[Array, Array]:
        """dtable = dy^T x, dx = dy table."""

    def linear_backward(self, dy: Array, x: Array, w: Array) -> tuple[Array, Array]:
        """dx = dy w^T, dw = x^T dy."""

    def dot_backward(self, dy: Array, x: Array, w: Array) -> tuple[Array, Array]:
        """dx_i = dy_i w, dw = sum_i dy_i x_i."""

    def add_backward(self, dy: Array, x: Array, y: Array) -> tuple[Array, Array]:
        """dy, dy."""

    def scale_backward(self, dy: Array, x: Array, factor: float) -> tuple[Array]:
        """dy * factor."""

    def multiply_backward(self, dy: Array, x: Array, factors: Factors) -> tuple[Array]:
        """dy * factors."""

    def rms_norm_backward(
        self, dy: Array, x: Array, gain: Array, eps: float, precision: str | None = None
    ) -> tuple[Array, Array]:
        """r (g - x r^2 mean(g x)) with g = dy gain, r = 1/sqrt(mean(x^2) + eps); dgain = sum_i dy_i x_i r_i."""

    def gated_gelu_backward(self, dy: Array, a: Array, b: Array) -> tuple[Array, Array]:
        """dy * b * gelu'(a), dy * gelu(a)."""

    def relu_backward(self, dy: Array, a: Array) -> tuple[Array]:
        """dy where a > 0, else 0."""

    def attention_backward(
        self,
        dy: Array,
        q: Array,
        k: Array,
        v: Array,
        bias: Array | None,
        spans: Spans,
        heads: int,
        causal: bool,
        keep: Factors | None = None,
        precision: str | None = None,
    ) -> tuple[Array, Array, Array, Array | None]:
        """dq, dk, dv and dbias [2D+1 h], None where there was none.

        With p the probabilities, dp = keep * (dy v^T) and ds = p * (dp - sum_j p dp): dq = ds k,
        dk = ds^T q, dv = (keep * p)^T dy, and dbias gets each ds at the row of its distance.
        """

    def join_backward(self, dy: Array, x: Array, x_lengths: Ints, y: Array, y_lengths: Ints) -> tuple[Array, Array]:
        """The rows of dy that came from x, and those from y."""

    def take_backward(self, dy: Array, x: Array, lengths: Ints, index: Ints) -> tuple[Array]:
        """Each sequence's dy back to where it was taken from, added up where that was more than once."""

    def first_backward(self, dy: Array, x: Array, lengths: Ints) -> tuple[Array]:
        """dy in each sequence's first row, 0 in the others."""

    def mean_backward(self, dy: Array, x: Array, lengths: Ints) -> tuple[Array]:
        """dy / n in each of a sequence's n rows."""

    def log_likelihood_backward(self, dy: Array, logits: Array, targets: Ints, lengths: Ints) -> tuple[Array]:
        """dy of the row's sequence times (1 at the target, 0 elsewhere, minus softmax(logits))."""

    def rank_kl_backward(
        self, dy: Array, scores: Array, log_p_lm: Array, counts: Ints, tau: float, direction: str
    ) -> tuple[Array, Array]:
        """With KL(p || q): dy p (log p - log q - KL) / tau for what makes p, dy (q - p) / tau for what makes q."""


PRECISIONS = ("float32", "bfloat16", "int8")  # what packed weights may be computed with in; float64 stays itself


def precision_of(w: Array) -> str | None:
    """What products with a weight that `pack` made are computed in; None for a plain array.

    Operations that a telling may fuse with such a product are told it, so that they round alike alone and fused.
    """
    return getattr(w, "precision", None)


BLAS = "whose products are NumPy's BLAS: OPENBLAS_NUM_THREADS and the like count"
FORMS = ("project", "attend_memory")  # composites whose own version is no fusion, but another order of products
DIRECTIONS = ("printed", "reverse")  # of `rank_kl`


def _declared(of: type) -> dict[str, dict[str, str]]:
    """Names of the operations that a class declares, each with its arguments and how they are annotated."""
    functions = {name: f for name, f in vars(of).items() if inspect.isfunction(f) and not name.startswith("_")}
    arguments = {name: list(inspect.signature(f).parameters.values())[1:] for name, f in functions.items()}
    return {name: {a.name: str(a.annotation) for a in each} for name, each in arguments.items()}


_FORWARD, _BACKWARD = _declared(Telling), _declared(Backward)
OPERATIONS = tuple(_FORWARD)
OPERANDS = {  # of the operations that have a backward, which arguments it gives cotangents of
    name: tuple(i for i, kind in enumerate(arguments.values()) if kind.startswith("Array"))
    for name, arguments in _FORWARD.items()
    if f"{name}_backward" in _BACKWARD
}


class Ops(Telling):
    """A telling bound to the contract; the model gets it as its first argument.

    Raises:
        Refused: an operation is missing, or takes other arguments than the contract's.
    """

    heard = False  # does anybody listen? then names are marked, and what is marked is computed

    def __init__(self, telling: ModuleType) -> None:
        lacking, self.telling = [], telling
        self._backward: dict[str, Callable[..., tuple[Array | None, ...]]] = {}
        for name, arguments in (_FORWARD | _BACKWARD).items():
            function = getattr(telling, name, None)
            if function is None:
                lacking += [name] if name in _FORWARD else []
            elif list(inspect.signature(function).parameters) != list(arguments):
                lacking.append(f"{name}({', '.join(arguments)})")
            elif name in _FORWARD:
                setattr(self, name, function)
            else:
                self._backward[name.removesuffix("_backward")] = function
        if lacking:
            raise Refused(telling.__name__, "every operation of the contract", f"no {', '.join(lacking)}")

    @property
    def backward(self) -> dict[str, Callable[..., tuple[Array | None, ...]]]:
        """The telling's backward of each operation that it has one of, see `Backward`."""
        return self._backward

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

    def dropout(self, x: Array) -> Array:
        """x itself, where T5 has dropout while it trains; only `Dropout` cares."""
        return x

    def frozen(self) -> Ops:
        """The same operations for what is data to training: no gradient flows into it, nothing is dropped."""
        return self


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

    What is heard is what would have been computed unheard, to the bit: single operations round like fused ones,
    and forms of a telling's own (`FORMS`), which have no single operations, still give the result.

    Args:
        ops: bound operations, or another listener.
    """

    heard = True
    elementary = False  # set where results are changed or differentiated: single operations then give every result

    def __init__(self, ops: Ops) -> None:
        self.path = ""
        self._wrap(ops)

    @property
    def backward(self) -> dict[str, Callable[..., tuple[Array | None, ...]]]:
        return self.ops.backward

    def whole(self, composite: str) -> Callable[..., Any] | None:
        """None, since a listener hears the elementary operations; but for `FORMS`, which are computed beside them."""
        return None if self.elementary or composite not in FORMS else self.ops.whole(composite)

    def limited(self, threads: int | None) -> AbstractContextManager[None]:
        return self.ops.limited(threads)

    def _wrap(self, ops: Ops) -> None:
        self.ops = ops
        for name in OPERATIONS:
            if name not in type(self).__dict__:
                setattr(self, name, getattr(ops, name))

    def at(self, name: str) -> Any:
        """This listener, one place further in."""
        return self._twin(f"{self.path}{name}.", self.ops.at(name))

    def _twin(self, path: str, ops: Ops) -> Any:
        """This listener at another place, or around other operations; what it has heard is shared."""
        twin = copy.copy(self)
        twin.path = path
        twin._wrap(ops)
        return twin

    def mark(self, name: str, x: Array, lengths: Ints | None = None) -> Array:
        return self.ops.mark(name, x, lengths)

    def dropout(self, x: Array) -> Array:
        return self.ops.dropout(x)

    def frozen(self) -> Any:
        return self._twin(self.path, self.ops.frozen())
