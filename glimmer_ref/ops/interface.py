"""The contract: all that a backend of the model may give, declared here and nowhere else.

A backend is a module. It must give each *operation* of `Telling`, under the same name, with the same
arguments. It may give the other direction of each, `Backward`, where also stands which arguments gradients
flow into. And it may give what is optional: parts of the model as a whole, `Composites`, and `Hooks`. It has
no other public function, so that a name spelt wrongly is refused, not silently left unused; see `bound.Ops`.

Rules of every backend: dtype out = dtype in; inputs are never written to; an op never returns its
own argument (`to_device`, `to_host`, `mark` excepted); ids, lengths, positions and indices are NumPy arrays on
the host, everything else is what `to_device` returns; no fallback to another backend, ever.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeVar

from ..ragged import Array, Ints, States

Factors = Any  # what `to_device` makes of an array of constants: no gradient flows into it


class SequenceLayout(NamedTuple):
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


class Operations:
    """The operations, which every backend gives. Shapes in square brackets, in the words of `arrays`."""

    def to_device(self, x: Any) -> Array:
        """Host array to the backend's own, laid out as it likes best; done once per weight."""

    def to_host(self, x: Array) -> Any:
        """The backend's array back as NumPy."""

    def pack(self, w: Array, precision: str) -> Array:
        """A host weight [a o] as `linear` likes it best, computed with in `precision`; done once."""

    def pack_table(self, table: Array, precision: str) -> Array:
        """A host table [v d] as `embed` and `lm_head_logits` like it best, likewise."""

    def embed(self, table: Array, ids: Ints) -> Array:
        """table[ids]: [v d], [N] -> [N d]."""

    def lm_head_logits(self, table: Array, x: Array) -> Array:
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
        layout: SequenceLayout,
        heads: int,
        causal: bool,
        dropout_mask: Factors | None = None,
        precision: str | None = None,
    ) -> Array:
        """softmax_j(q_i k_j + bias[j-i]) v_j per sequence and head: [Nq hc], [Nk hc] -> [Nq hc].

        `bias` is [2D+1 h]: its row D + (key position - query position) is added; None adds nothing.
        `dropout_mask` multiplies the probabilities, as dropout does: [sum of h*i*j], by sequence, head, query, key.
        `precision`, see `precision_of`, is that of the products that made q; a backend may make attention's own in it.
        """

    def attention_probs(
        self,
        q: Array,
        k: Array,
        bias: Array | None,
        layout: SequenceLayout,
        heads: int,
        causal: bool,
        precision: str | None = None,
    ) -> list[Array]:
        """The same stopped before v, for traces and lessons: b arrays [h i j]."""

    def interleave_concat(self, x: Array, x_lengths: Ints, y: Array, y_lengths: Ints) -> Array:
        """[x_i; y_i] for every sequence i: [Nx d], [Ny d] -> [Nx+Ny d]."""

    def gather_sequences(self, x: Array, lengths: Ints, index: Ints) -> Array:
        """The sequences `index`, in that order, repeats allowed: [N d] -> [N' d]."""

    def first_token(self, x: Array, lengths: Ints) -> Array:
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


F = TypeVar("F", bound=Callable[..., Any])


def cotangents(*operands: str) -> Callable[[F], F]:
    """Says which of an operation's arguments its backward gives cotangents of, in the order of its result."""

    def declare(backward: F) -> F:
        backward.operands = operands  # type: ignore[attr-defined]
        return backward

    return declare


class Backward:
    """The other direction: `<op>_backward(dy, <the op's arguments>)`, dy being the cotangent of its result.

    Each returns a tuple: the cotangents of the arguments named above it, in that order, shaped like them; of
    a packed weight in its own shape [a o]. No gradient flows into other arguments. What the forward computed
    on its way is computed again, in the dtype of the operands whatever the precision. Nothing that is returned
    may be written to: it can be dy itself.
    """

    @cotangents("table")
    def embed_backward(self, dy: Array, table: Array, ids: Ints) -> tuple[Array]:
        """dtable_v = sum of dy_i over the i whose id is v."""

    @cotangents("table", "x")
    def lm_head_logits_backward(self, dy: Array, table: Array, x: Array) -> tuple[Array, Array]:
        """dtable = dy^T x, dx = dy table."""

    @cotangents("x", "w")
    def linear_backward(self, dy: Array, x: Array, w: Array) -> tuple[Array, Array]:
        """dx = dy w^T, dw = x^T dy."""

    @cotangents("x", "w")
    def dot_backward(self, dy: Array, x: Array, w: Array) -> tuple[Array, Array]:
        """dx_i = dy_i w, dw = sum_i dy_i x_i."""

    @cotangents("x", "y")
    def add_backward(self, dy: Array, x: Array, y: Array) -> tuple[Array, Array]:
        """dy, dy."""

    @cotangents("x")
    def scale_backward(self, dy: Array, x: Array, factor: float) -> tuple[Array]:
        """dy * factor."""

    @cotangents("x")
    def multiply_backward(self, dy: Array, x: Array, factors: Factors) -> tuple[Array]:
        """dy * factors."""

    @cotangents("x", "gain")
    def rms_norm_backward(
        self, dy: Array, x: Array, gain: Array, eps: float, precision: str | None = None
    ) -> tuple[Array, Array]:
        """r (g - x r^2 mean(g x)) with g = dy gain, r = 1/sqrt(mean(x^2) + eps); dgain = sum_i dy_i x_i r_i."""

    @cotangents("a", "b")
    def gated_gelu_backward(self, dy: Array, a: Array, b: Array) -> tuple[Array, Array]:
        """dy * b * gelu'(a), dy * gelu(a)."""

    @cotangents("a")
    def relu_backward(self, dy: Array, a: Array) -> tuple[Array]:
        """dy where a > 0, else 0."""

    @cotangents("q", "k", "v", "bias")
    def attention_backward(
        self,
        dy: Array,
        q: Array,
        k: Array,
        v: Array,
        bias: Array | None,
        layout: SequenceLayout,
        heads: int,
        causal: bool,
        dropout_mask: Factors | None = None,
        precision: str | None = None,
    ) -> tuple[Array, Array, Array, Array | None]:
        """dq, dk, dv and dbias [2D+1 h], None where there was none.

        With p the probabilities, dp = dropout_mask * (dy v^T) and ds = p * (dp - sum_j p dp): dq = ds k,
        dk = ds^T q, dv = (dropout_mask * p)^T dy, and dbias gets each ds at the row of its distance.
        """

    @cotangents("x", "y")
    def interleave_concat_backward(
        self, dy: Array, x: Array, x_lengths: Ints, y: Array, y_lengths: Ints
    ) -> tuple[Array, Array]:
        """The rows of dy that came from x, and those from y."""

    @cotangents("x")
    def gather_sequences_backward(self, dy: Array, x: Array, lengths: Ints, index: Ints) -> tuple[Array]:
        """Each sequence's dy back to where it was taken from, added up where that was more than once."""

    @cotangents("x")
    def first_token_backward(self, dy: Array, x: Array, lengths: Ints) -> tuple[Array]:
        """dy in each sequence's first row, 0 in the others."""

    @cotangents("x")
    def mean_backward(self, dy: Array, x: Array, lengths: Ints) -> tuple[Array]:
        """dy / n in each of a sequence's n rows."""

    @cotangents("logits")
    def log_likelihood_backward(self, dy: Array, logits: Array, targets: Ints, lengths: Ints) -> tuple[Array]:
        """dy of the row's sequence times (1 at the target, 0 elsewhere, minus softmax(logits))."""

    @cotangents("scores", "log_p_lm")
    def rank_kl_backward(
        self, dy: Array, scores: Array, log_p_lm: Array, counts: Ints, tau: float, direction: str
    ) -> tuple[Array, Array]:
        """With KL(p || q): dy p (log p - log q - KL) / tau for what makes p, dy (q - p) / tau for what makes q."""


class Composites:
    """Parts of the model that a backend may give as a whole, to be faster: the model's own function is the body.

    They are called as in `t5`, without `ops`. A backend that cannot do one for these arguments returns
    NotImplemented, and the model's own body is used.
    """

    def attention_block(self, t5: Any, w: Any, x: Array, bias: Array, layout: SequenceLayout) -> Array:
        """x + o(attention(q n, k n, v n)), n = norm(x): [N d] -> [N d]."""

    def feed_forward_block(self, t5: Any, w: Any, x: Array, lengths: Ints) -> Array:
        """x + wo(gelu(wi_0 n) * (wi_1 n)), n = norm(x): [N d] -> [N d]."""

    def project(self, t5: Any, w: Any, memory: States, steps: int) -> Any:
        """What `decoder_layers` attends to instead of keys and values, in about `steps` steps."""

    def attend_memory(self, t5: Any, w: Any, q: Array, cross: Any, layer: int, layout: SequenceLayout) -> Any:
        """A layer's attention to what `project` made, where that is not its keys and values: [N hc] -> [N hc]."""

    def decoder_layers(
        self, t5: Any, w: Any, x: Array, bias: Array, layout: SequenceLayout, past: Any, cross: Any
    ) -> tuple[Array, Any, Any]:
        """All layers over the new tokens: [N d] -> [N d], and every layer's keys and values with theirs."""


class Hooks:
    """What else a backend may have a say in."""

    def warm_up(self) -> None:
        """What is to be done once before the first operation: kernels compiled, a device opened."""

    def limit(self, threads: int | None) -> AbstractContextManager[None]:
        """A block whose operations use at most so many threads; None changes nothing."""

    def decoder_macs(self, t5: Any, w: Any, read: Ints, limit: int, steps: int) -> dict[str, int]:
        """Multiply-adds of `project` and `decoder_layers` where their form is not the paper's algorithm.

        Args:
            t5, w: as `project` gets them.
            read: [b] tokens that each sequence's decoder attends to.
            limit: steps that `project` was told to expect; steps: those that were made, of one token each.

        Returns:
            By component as `MacCounter` has them, `cross`, `decoder`, `decoder.attention`; NotImplemented where the
            form is the paper's.
        """


PRECISIONS = ("float32", "bfloat16", "int8")  # what packed weights may be computed with in; float64 stays itself


def precision_of(w: Array) -> str | None:
    """What products with a weight that `pack` made are computed in; None for a plain array.

    Operations that a backend may fuse with such a product are told it, so that they round alike alone and fused.
    """
    return getattr(w, "precision", None)


BLAS = "whose products are NumPy's BLAS: OPENBLAS_NUM_THREADS and the like count"
FORMS = ("project", "attend_memory")  # composites whose own version is no fusion, but another order of products
DIRECTIONS = ("printed", "reverse")  # of `rank_kl`


def signature_of(function: Any) -> inspect.Signature | None:
    """How a function is called: its arguments' names, kinds and defaults. None if that cannot be told."""
    try:
        arguments = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    return inspect.Signature([a.replace(annotation=a.empty) for a in arguments])


def _declared(of: type) -> dict[str, inspect.Signature]:
    """How each function that a class declares is called, without `self`."""
    functions = {name: f for name, f in vars(of).items() if inspect.isfunction(f) and not name.startswith("_")}
    result = {name: inspect.signature(f).parameters.values() for name, f in functions.items()}
    return {name: inspect.Signature([a.replace(annotation=a.empty) for a in list(x)[1:]]) for name, x in result.items()}


FORWARD, BACKWARD = _declared(Operations), _declared(Backward)
COMPOSITES, HOOKS = _declared(Composites), _declared(Hooks)
OPERATIONS = tuple(FORWARD)
OPERANDS = {  # of the operations that have a backward, the places of the arguments that it gives cotangents of
    (name := backward.removesuffix("_backward")): tuple(
        list(FORWARD[name].parameters).index(operand) for operand in vars(Backward)[backward].operands
    )
    for backward in BACKWARD
}
