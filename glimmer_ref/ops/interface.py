"""The op interface: the only declaration of all functions that a backend must have or may have.

A backend is a module. It must have each function of `Operations`, with the same name and the same arguments. It may
also have their backward functions (`Backward`), fused implementations of parts of the model (`Fusable`), and `Hooks`.
It may not have any other public function. Otherwise, a function with a misspelt name would never be called, and nobody
would notice; see `bound.Ops`.

Rules for every backend: results have the dtype of the operands. Inputs are never written to. An operation never
returns its own argument, except for `to_device`, `to_host` and `record`. Ids, lengths, positions and indices are NumPy
arrays, in the memory of the CPU (the host). All other arrays come from `to_device`. There is no fallback to another
backend.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeVar

from ..ragged import Array, Ints, States

Factors = Any  # an array of constants from `to_device`: no gradient flows into it


class SequenceLayout(NamedTuple):
    """The sequences of queries and of keys. The queries of sequence i attend to the keys of sequence i.

    Args:
        query_lengths, key_lengths: [b] the number of rows of each sequence.
        query_positions, key_positions: [Nq], [Nk] positions of the tokens. The difference between key
            position and query position selects the bias. In causal attention, a query attends to keys whose position
            is not larger than its own.
    """

    query_lengths: Ints
    key_lengths: Ints
    query_positions: Ints
    key_positions: Ints


class Operations:
    """The operations that every backend has. Square brackets hold shapes; `ragged` explains their letters."""

    def to_device(self, x: Any) -> Array:
        """A NumPy array as an array of the backend, in the backend's own layout. Called once for each weight."""

    def to_host(self, x: Array) -> Any:
        """The backend's array as a NumPy array."""

    def pack(self, w: Array, precision: str) -> Array:
        """A weight, a NumPy array [a o], in the backend's layout for `linear`, which then computes in `precision`."""

    def pack_table(self, table: Array, precision: str) -> Array:
        """A table, a NumPy array [v d], in the layout for `embed` and `lm_head_logits`; likewise in `precision`."""

    def embed(self, table: Array, ids: Ints) -> Array:
        """table[ids]: [v d], [N] -> [N d]."""

    def lm_head_logits(self, table: Array, x: Array) -> Array:
        """x table^T, one logit for each row of the table: [v d], [N d] -> [N v]."""

    def linear(self, x: Array, w: Array) -> Array:
        """x w: [N a], [a o] -> [N o]. T5 has no biases."""

    def dot(self, x: Array, w: Array) -> Array:
        """x_i . w for every row, where the order of summation is the same for each row: [N d], [d 1] -> [N].

        Equal rows must give results with equal bits, because the scores of equal pairs must be equal (D6). BLAS does
        not guarantee this for the product of a whole matrix.
        """

    def add(self, x: Array, y: Array) -> Array:
        """x + y, the residual connection: [N d], [N d] -> [N d]."""

    def scale(self, x: Array, factor: float) -> Array:
        """x * factor: [N d] -> [N d]."""

    def multiply(self, x: Array, factors: Factors) -> Array:
        """x * factors, element by element, for example for dropout: [..], [..] -> [..]."""

    def rms_norm(self, x: Array, gain: Array, eps: float) -> Array:
        """x / sqrt(mean(x^2) + eps) * gain: [N d], [d] -> [N d]."""

    def gated_gelu(self, a: Array, b: Array) -> Array:
        """gelu(a) * b with a/2 (1 + tanh(sqrt(2/pi) (a + 0.044715 a^3))): [N f], [N f] -> [N f]."""

    def relu(self, a: Array) -> Array:
        """max(a, 0): [N f] -> [N f]."""

    def attention(
        self, q: Array, k: Array, v: Array, bias: Array | None, layout: SequenceLayout, heads: int, causal: bool,
        dropout_mask: Factors | None = None, precision: str | None = None,
    ) -> Array:  # fmt: skip
        """sum_j softmax_j(q_i . k_j + bias[j-i]) v_j for each sequence and head: [Nq hc], [Nk hc] -> [Nq hc].

        `bias` is [2D+1 h]. Its row D + (key position - query position) is added; None means no bias.
        `dropout_mask` multiplies the probabilities: [sum of h*i*j], ordered by sequence, head, query, key.
        `precision` is the precision of the product that made q, see `precision_of`. A backend may also use it here.
        """

    def attention_probs(
        self, q: Array, k: Array, bias: Array | None, layout: SequenceLayout, heads: int, causal: bool,
        precision: str | None = None,
    ) -> list[Array]:  # fmt: skip
        """The probabilities of `attention`, by which v is multiplied: b arrays [h i j]. For traces and notebooks."""

    def interleave_concat(self, x: Array, x_lengths: Ints, y: Array, y_lengths: Ints) -> Array:
        """[x_i; y_i] for every sequence i: [Nx d], [Ny d] -> [Nx+Ny d]."""

    def gather_sequences(self, x: Array, lengths: Ints, index: Ints) -> Array:
        """The sequences with the indices `index`, in that order; an index may occur repeatedly: [N d] -> [N' d]."""

    def first_token(self, x: Array, lengths: Ints) -> Array:
        """The first row of each sequence: [N d] -> [b d]."""

    def mean(self, x: Array, lengths: Ints) -> Array:
        """The mean of each sequence's rows: [N d] -> [b d]."""

    def argmax(self, x: Array) -> Ints:
        """The index of each row's largest value, a NumPy array; of equal values the lower index: [N v] -> [N]."""

    def log_likelihood(self, logits: Array, targets: Ints, lengths: Ints) -> Array:
        """sum_t log softmax(logits_t)[target_t] for each sequence: [N v], [N] -> [b]."""

    def rank_kl(self, scores: Array, log_p_lm: Array, counts: Ints, tau: float, direction: str) -> Array:
        """KL(softmax(scores/tau) || softmax(log_p_lm/tau)) over each question's passages: [K], [K] -> [b].

        `counts` [b] is the number of passages of each question. `direction` "reverse" gives KL(p_LM || p_rank).
        """


F = TypeVar("F", bound=Callable[..., Any])


def cotangents(*operands: str) -> Callable[[F], F]:
    """Declares the arguments for which a backward function returns cotangents, in this order. See `Backward`."""

    def declare(backward: F) -> F:
        backward.operands = operands  # type: ignore[attr-defined]
        return backward

    return declare


class Backward:
    """The backward functions: `<op>_backward(dy, <the op's arguments>)`.

    The cotangent of an array is the gradient of the loss with respect to this array; it has the same shape. dy is the
    cotangent of the operation's result. A backward function returns a tuple: the cotangents of the arguments that the
    decorator names, in that order. In the equations below, dx is the cotangent of x. The cotangent of a packed weight
    is a plain array [a o]. No gradient flows into the other arguments.

    A backward function recomputes intermediate results of the forward function in the dtype of the operands, for every
    `precision`. A caller must not write to the returned arrays, since one of them can be dy itself.
    """

    @cotangents("table")
    def embed_backward(self, dy: Array, table: Array, ids: Ints) -> tuple[Array]:
        """dtable_v = sum of dy_i over all i with ids_i = v."""

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
        """dy for x, and dy for y."""

    @cotangents("x")
    def scale_backward(self, dy: Array, x: Array, factor: float) -> tuple[Array]:
        """dy * factor."""

    @cotangents("x")
    def multiply_backward(self, dy: Array, x: Array, factors: Factors) -> tuple[Array]:
        """dy * factors."""

    @cotangents("x", "gain")
    def rms_norm_backward(self, dy: Array, x: Array, gain: Array, eps: float) -> tuple[Array, Array]:
        """dx = r (g - x r^2 mean(g x)) with g = dy gain and r = 1/sqrt(mean(x^2) + eps); dgain = sum_i dy_i x_i r_i."""

    @cotangents("a", "b")
    def gated_gelu_backward(self, dy: Array, a: Array, b: Array) -> tuple[Array, Array]:
        """da = dy * b * gelu'(a), db = dy * gelu(a)."""

    @cotangents("a")
    def relu_backward(self, dy: Array, a: Array) -> tuple[Array]:
        """dy where a > 0, else 0."""

    @cotangents("q", "k", "v", "bias")
    def attention_backward(
        self, dy: Array, q: Array, k: Array, v: Array, bias: Array | None, layout: SequenceLayout, heads: int,
        causal: bool, dropout_mask: Factors | None = None, precision: str | None = None,
    ) -> tuple[Array, Array, Array, Array | None]:  # fmt: skip
        """dq, dk, dv and dbias [2D+1 h]; dbias is None if bias is None.

        dq = ds k, dk = ds^T q and dv = (dropout_mask * p)^T dy. Here p are the probabilities,
        dp = dropout_mask * (dy v^T) and ds = p * (dp - sum_j p dp). Each ds is added to the row of dbias for
        its distance.
        """

    @cotangents("x", "y")
    def interleave_concat_backward(
        self, dy: Array, x: Array, x_lengths: Ints, y: Array, y_lengths: Ints
    ) -> tuple[Array, Array]:
        """The rows of dy that came from x, and the rows that came from y."""

    @cotangents("x")
    def gather_sequences_backward(self, dy: Array, x: Array, lengths: Ints, index: Ints) -> tuple[Array]:
        """dx, where dy of each gathered sequence is added to the rows from which it was gathered."""

    @cotangents("x")
    def first_token_backward(self, dy: Array, x: Array, lengths: Ints) -> tuple[Array]:
        """dx is dy in the first row of each sequence, and 0 in the others."""

    @cotangents("x")
    def mean_backward(self, dy: Array, x: Array, lengths: Ints) -> tuple[Array]:
        """dx is dy / n in each of the n rows of a sequence."""

    @cotangents("logits")
    def log_likelihood_backward(self, dy: Array, logits: Array, targets: Ints, lengths: Ints) -> tuple[Array]:
        """dlogits_t = dy (one_hot(target_t) - softmax(logits_t)), with dy of the sequence of row t."""

    @cotangents("scores", "log_p_lm")
    def rank_kl_backward(
        self, dy: Array, scores: Array, log_p_lm: Array, counts: Ints, tau: float, direction: str
    ) -> tuple[Array, Array]:
        """For KL(p || q): dy p (log p - log q - KL) / tau for the argument of p, dy (q - p) / tau for that of q."""


class Fusable:
    """Parts of the model for which a backend may have a faster, fused implementation.

    The functions with these names in `t5` define the results. A fused implementation takes the same arguments without
    `ops`. It returns NotImplemented if it cannot handle them, and then the function in `t5` runs.
    """

    def attention_block(self, t5: Any, w: Any, x: Array, bias: Array, layout: SequenceLayout) -> Array:
        """x + o(attention(q n, k n, v n)) with n = norm(x): [N d] -> [N d]."""

    def feed_forward_block(self, t5: Any, w: Any, x: Array, lengths: Ints) -> Array:
        """x + wo(gelu(wi_0 n) * (wi_1 n)) with n = norm(x): [N d] -> [N d]."""

    def project(self, t5: Any, w: Any, memory: States, cache: Any) -> Any:
        """The memory in the form to which the backend's `decoder_layers` attends.

        About `cache.capacity` decoder steps will follow. The backend may choose the form by this number.
        """

    def attend_memory(self, t5: Any, w: Any, q: Array, cross: Any, layer: int, layout: SequenceLayout) -> Any:
        """A layer's attention to the result of `project`, if this is not keys and values: [N hc] -> [N hc]."""

    def decoder_layers(
        self, t5: Any, w: Any, x: Array, bias: Array, layout: SequenceLayout, past: Any, cross: Any
    ) -> tuple[Array, Any, Any]:
        """All layers over the new tokens: [N d] -> [N d], and the keys and values of every layer, past and new."""


class Hooks:
    """Other optional functions of a backend."""

    def warm_up(self) -> None:
        """Prepares the first operation once, for example compiles kernels or opens a device."""

    def limit(self, threads: int | None) -> AbstractContextManager[None]:
        """A context in which operations use at most `threads` threads; None means no limit."""

    def decoder_macs(self, t5: Any, w: Any, read: Ints, limit: int, steps: int) -> dict[str, int]:
        """Multiply-adds of `project` and `decoder_layers`, if they use another algorithm than the paper.

        Args:
            t5, w: the same as in `project`.
            read: [b] the number of tokens to which each sequence's decoder attends.
            limit: the capacity of the cache given to `project`.
            steps: the number of decoder steps, of one token each.

        Returns:
            Multiply-adds by component with the keys of `MacCounter`: `cross`, `decoder`, `decoder.attention`.
            NotImplemented if they use the paper's algorithm.
        """


PRECISIONS = ("float32", "bfloat16", "int8")  # of the products with packed weights; float64 is never rounded


def precision_of(w: Array) -> str | None:
    """The precision of products with a weight from `pack`; None for a plain array.

    A backend may fuse attention with such a product. `attention` takes the precision as an argument, so that it rounds
    in the same way whether it runs alone or fused.
    """
    return getattr(w, "precision", None)


BLAS = "where NumPy's BLAS computes the products: set OPENBLAS_NUM_THREADS or the like"
REORDERED = ("project", "attend_memory")  # fused implementations that compute products in another order
DIRECTIONS = ("printed", "reverse")  # of `rank_kl`


def signature_of(function: Any) -> inspect.Signature | None:
    """The names, kinds and defaults of a function's arguments; None if Python cannot determine them."""
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
OPERANDS = {  # for each operation with a backward function: the indices of the arguments that get cotangents
    (name := backward.removesuffix("_backward")): tuple(
        list(FORWARD[name].parameters).index(operand) for operand in vars(Backward)[backward].operands
    )
    for backward in BACKWARD
}
