"""The op interface: every function that a backend must or may have. They are declared here and nowhere else.

A backend is a module. It must have each function of `Operations`, with the same name and the same arguments. It may
have the backward of each, see `Backward`, which also says into which arguments gradients flow. It may also have fused
implementations of parts of the model, see `Fusable`, and `Hooks`. It has no other public function, so that a misspelt
name is an error instead of a function that is never called; see `bound.Ops`.

Rules for every backend: results have the dtype of the operands. Inputs are never written to. An operation never
returns its own argument, except for `to_device`, `to_host` and `record`. Ids, lengths, positions and indices are NumPy
arrays on the host, and all other arrays come from `to_device`. There is no fallback to another backend.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeVar

from ..ragged import Array, Ints, States

Factors = Any  # an array of constants from `to_device`: no gradient flows into it


class SequenceLayout(NamedTuple):
    """Which rows attend to which: the queries of sequence i attend to the keys of sequence i.

    Args:
        query_lengths, key_lengths: [b] rows of each sequence.
        query_positions, key_positions: [Nq], [Nk] positions of the tokens. The difference of two positions selects
            the bias, and a causal query attends to keys whose position is not larger than its own.
    """

    query_lengths: Ints
    key_lengths: Ints
    query_positions: Ints
    key_positions: Ints


class Operations:
    """The operations that every backend has. Shapes are in square brackets, see `ragged`."""

    def to_device(self, x: Any) -> Array:
        """A host array as the backend's own array, in the layout that suits it; called once for each weight."""

    def to_host(self, x: Array) -> Any:
        """The backend's array as a NumPy array."""

    def pack(self, w: Array, precision: str) -> Array:
        """A host weight [a o] in the layout that suits `linear`, whose products are then made in `precision`."""

    def pack_table(self, table: Array, precision: str) -> Array:
        """A host table [v d] in the layout that suits `embed` and `lm_head_logits`, likewise."""

    def embed(self, table: Array, ids: Ints) -> Array:
        """table[ids]: [v d], [N] -> [N d]."""

    def lm_head_logits(self, table: Array, x: Array) -> Array:
        """x table^T, a logit for each row of the table: [v d], [N d] -> [N v]."""

    def linear(self, x: Array, w: Array) -> Array:
        """x w: [N a], [a o] -> [N o]. T5 has no biases."""

    def dot(self, x: Array, w: Array) -> Array:
        """x_i . w for every row, each summed in the same order: [N d], [d 1] -> [N].

        Equal rows give equal bits, because scores that tie must tie exactly (D6). A BLAS product of the whole matrix
        does not promise that.
        """

    def add(self, x: Array, y: Array) -> Array:
        """x + y, the residual: [N d], [N d] -> [N d]."""

    def scale(self, x: Array, factor: float) -> Array:
        """x * factor: [N d] -> [N d]."""

    def multiply(self, x: Array, factors: Factors) -> Array:
        """x * factors, element by element, which is dropout of states: [..], [..] -> [..]."""

    def rms_norm(self, x: Array, gain: Array, eps: float, precision: str | None = None) -> Array:
        """x / sqrt(mean(x^2) + eps) * gain: [N d], [d] -> [N d].

        `precision`, see `precision_of`, is that of the products that use the result.
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
        `precision`, see `precision_of`, is that of the products that made q; a backend may use it in attention too.
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
        """The probabilities of `attention`, before v: b arrays [h i j]. For traces and lessons."""

    def interleave_concat(self, x: Array, x_lengths: Ints, y: Array, y_lengths: Ints) -> Array:
        """[x_i; y_i] for every sequence i: [Nx d], [Ny d] -> [Nx+Ny d]."""

    def gather_sequences(self, x: Array, lengths: Ints, index: Ints) -> Array:
        """The sequences `index`, in that order, repeats allowed: [N d] -> [N' d]."""

    def first_token(self, x: Array, lengths: Ints) -> Array:
        """First row of each sequence: [N d] -> [b d]."""

    def mean(self, x: Array, lengths: Ints) -> Array:
        """Mean of each sequence's rows: [N d] -> [b d]."""

    def argmax(self, x: Array) -> Ints:
        """The index of each row's largest value, ties to the lower index: [N v] -> [N] on the host."""

    def log_likelihood(self, logits: Array, targets: Ints, lengths: Ints) -> Array:
        """sum_t log softmax(logits_t)[target_t] per sequence: [N v], [N] -> [b]."""

    def rank_kl(self, scores: Array, log_p_lm: Array, counts: Ints, tau: float, direction: str) -> Array:
        """KL(softmax(scores/tau) || softmax(log_p_lm/tau)) over each question's passages: [K], [K] -> [b].

        `counts` [b] are the passages of each question. With `direction` "reverse" it is KL(p_LM || p_rank).
        """


F = TypeVar("F", bound=Callable[..., Any])


def cotangents(*operands: str) -> Callable[[F], F]:
    """Declares which arguments of an operation get cotangents from its backward, in the order of its result."""

    def declare(backward: F) -> F:
        backward.operands = operands  # type: ignore[attr-defined]
        return backward

    return declare


class Backward:
    """The backwards: `<op>_backward(dy, <the op's arguments>)`, where dy is the cotangent of the operation's result.

    Each returns a tuple: the cotangents of the arguments that the decorator names, in that order. Each has the shape
    of its argument, and the cotangent of a packed weight is a plain array [a o]. No gradient flows into other
    arguments. Intermediate results of the forward are computed again, in the dtype of the operands, whatever the
    precision. A caller must not write to the returned arrays, since one of them can be dy itself.
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
        """dy of each gathered sequence, added to the rows that it was gathered from."""

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


class Fusable:
    """Parts of the model of which a backend may have a faster, fused implementation.

    The functions with these names in `t5` define the results. A fused implementation takes the same arguments without
    `ops`. It returns NotImplemented if it cannot handle them, and then the function in `t5` runs.
    """

    def attention_block(self, t5: Any, w: Any, x: Array, bias: Array, layout: SequenceLayout) -> Array:
        """x + o(attention(q n, k n, v n)), n = norm(x): [N d] -> [N d]."""

    def feed_forward_block(self, t5: Any, w: Any, x: Array, lengths: Ints) -> Array:
        """x + wo(gelu(wi_0 n) * (wi_1 n)), n = norm(x): [N d] -> [N d]."""

    def project(self, t5: Any, w: Any, memory: States, cache: Any) -> Any:
        """The memory in the form that `decoder_layers` attends to.

        About `cache.capacity` steps are expected, which may decide the form.
        """

    def attend_memory(self, t5: Any, w: Any, q: Array, cross: Any, layer: int, layout: SequenceLayout) -> Any:
        """A layer's attention to the result of `project`, if that is not keys and values: [N hc] -> [N hc]."""

    def decoder_layers(
        self, t5: Any, w: Any, x: Array, bias: Array, layout: SequenceLayout, past: Any, cross: Any
    ) -> tuple[Array, Any, Any]:
        """All layers over the new tokens: [N d] -> [N d], and every layer's keys and values including theirs."""


class Hooks:
    """Other functions that a backend may have."""

    def warm_up(self) -> None:
        """Does what is needed once before the first operation: compiles kernels, opens a device."""

    def limit(self, threads: int | None) -> AbstractContextManager[None]:
        """A context whose operations use at most so many threads; None: no limit."""

    def decoder_macs(self, t5: Any, w: Any, read: Ints, limit: int, steps: int) -> dict[str, int]:
        """Multiply-adds of `project` and `decoder_layers` if they compute the result in another way than the paper.

        Args:
            t5, w: the same as in `project`.
            read: [b] tokens that each sequence's decoder attends to.
            limit: capacity of the cache that `project` was given.
            steps: steps that were made, of one token each.

        Returns:
            Multiply-adds by component with the keys of `MacCounter`: `cross`, `decoder`, `decoder.attention`.
            NotImplemented if the computation is the paper's.
        """


PRECISIONS = ("float32", "bfloat16", "int8")  # of the products with packed weights; float64 is never rounded


def precision_of(w: Array) -> str | None:
    """The precision of products with a weight that `pack` made; None for a plain array.

    Operations that a backend may fuse with such a product take it as an argument, so that they round alike whether
    they run alone or fused.
    """
    return getattr(w, "precision", None)


BLAS = "whose products are NumPy's BLAS: set OPENBLAS_NUM_THREADS or the like"
REORDERED = ("project", "attend_memory")  # fused implementations that make the products in another order
DIRECTIONS = ("printed", "reverse")  # of `rank_kl`


def signature_of(function: Any) -> inspect.Signature | None:
    """The names, kinds and defaults of a function's arguments; None if Python cannot find them out."""
    try:
        arguments = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    return inspect.Signature([a.replace(annotation=a.empty) for a in arguments])


def _declared(of: type) -> dict[str, inspect.Signature]:
    """The signature of each function that a class declares, without `self`."""
    functions = {name: f for name, f in vars(of).items() if inspect.isfunction(f) and not name.startswith("_")}
    result = {name: inspect.signature(f).parameters.values() for name, f in functions.items()}
    return {name: inspect.Signature([a.replace(annotation=a.empty) for a in list(x)[1:]]) for name, x in result.items()}


FORWARD, BACKWARD = _declared(Operations), _declared(Backward)
FUSABLE, HOOKS = _declared(Fusable), _declared(Hooks)
OPERATIONS = tuple(FORWARD)
OPERANDS = {  # for each operation with a backward: the indices of the arguments that get cotangents
    (name := backward.removesuffix("_backward")): tuple(
        list(FORWARD[name].parameters).index(operand) for operand in vars(Backward)[backward].operands
    )
    for backward in BACKWARD
}
