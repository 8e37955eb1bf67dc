"""The tree of weights of a GLIMMER.

`build_model` is the only description of the tree. Depending on its function `param`, it reads weights, draws them at
random, or lists their names and shapes. Names are dotted: memory.layer_0.attention.q.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np

from ..config import GlimmerConfig, T5Config
from ..errors import InputError
from ..ops import Ops
from ..ragged import Array

ParamFactory = Callable[[str, tuple[int, ...]], Array]
T = TypeVar("T")


@dataclass(frozen=True)
class Attention:
    """RMSNorm gain [d], then q k v [d hc] and o [hc d]."""

    norm: Array
    q: Array
    k: Array
    v: Array
    o: Array


@dataclass(frozen=True)
class FeedForward:
    """RMSNorm gain [d], wi_0 and wi_1 [d f], wo [f d]; T5 1.0 has no gate wi_1."""

    norm: Array
    wi_0: Array
    wi_1: Array | None
    wo: Array


@dataclass(frozen=True)
class EncoderLayer:
    attention: Attention
    feed_forward: FeedForward


@dataclass(frozen=True)
class DecoderLayer:
    self_attention: Attention
    cross_attention: Attention
    feed_forward: FeedForward


@dataclass(frozen=True)
class Stack:
    """Encoder layers that share one relative position table [buckets h]."""

    relative_attention_bias: Array
    layers: tuple[EncoderLayer, ...]


@dataclass(frozen=True)
class Decoder:
    """Decoder layers, final norm [d], and the head [v d], which is None if it is the embedding."""

    relative_attention_bias: Array
    layers: tuple[DecoderLayer, ...]
    final_norm: Array
    lm_head: Array | None


@dataclass(frozen=True)
class Score:
    """The ranking layer: a projection [d 1], and the gain [d] of an RMSNorm before it, if any."""

    norm: Array | None
    weight: Array


@dataclass(frozen=True)
class Model:
    """All weights of one GLIMMER, with the config that they fit.

    LUMEN and FiD use all but `score`. `live` holds live-A and live-B: beta cuts it at run time. `question` is a
    separate question encoder, or None if it is the memory encoder. `reranker` holds the layers of a separate reranker,
    or None if they are those of live-A.
    """

    config: GlimmerConfig
    embedding: Array
    memory: Stack
    live: Stack
    final_norm: Array
    score: Score
    decoder: Decoder
    question: Stack | None
    reranker: Stack | None


def _attention(t5: T5Config, param: ParamFactory, at: str) -> Attention:
    d, hc = t5.d_model, t5.num_heads * t5.d_kv
    return Attention(
        param(f"{at}.norm", (d,)),
        param(f"{at}.q", (d, hc)),
        param(f"{at}.k", (d, hc)),
        param(f"{at}.v", (d, hc)),
        param(f"{at}.o", (hc, d)),
    )


def _feed_forward(t5: T5Config, param: ParamFactory, at: str) -> FeedForward:
    d, f = t5.d_model, t5.d_ff
    gate = param(f"{at}.wi_1", (d, f)) if t5.feed_forward_proj == "gated-gelu" else None
    return FeedForward(param(f"{at}.norm", (d,)), param(f"{at}.wi_0", (d, f)), gate, param(f"{at}.wo", (f, d)))


def _table(t5: T5Config, param: ParamFactory, at: str) -> Array:
    return param(f"{at}.relative_attention_bias", (t5.relative_attention_num_buckets, t5.num_heads))


def build_stack(t5: T5Config, param: ParamFactory, at: str, layers: int) -> Stack:
    """Build encoder layers with `param(name, shape)` for every weight; names begin with `at`."""
    return Stack(
        _table(t5, param, at),
        tuple(
            EncoderLayer(
                _attention(t5, param, f"{at}.layer_{i}.attention"),
                _feed_forward(t5, param, f"{at}.layer_{i}.feed_forward"),
            )
            for i in range(layers)
        ),
    )


def build_model(config: GlimmerConfig, tied: bool, param: ParamFactory) -> Model:
    """Build the tree with `param(name, shape)` for every weight.

    Args:
        tied: the head is the embedding, so there is no lm_head (D18).
    """
    t5, d = config.t5, config.t5.d_model

    def stack(at: str, layers: int) -> Stack:
        return build_stack(t5, param, at, layers)

    def decoder_layer(at: str) -> DecoderLayer:
        return DecoderLayer(
            _attention(t5, param, f"{at}.self_attention"),
            _attention(t5, param, f"{at}.cross_attention"),
            _feed_forward(t5, param, f"{at}.feed_forward"),
        )

    return Model(
        config=config,
        embedding=param("embedding", (t5.vocab_size, d)),
        memory=stack("memory", config.num_memory_layers),
        live=stack("live", config.num_live_layers),
        final_norm=param("final_norm", (d,)),
        score=Score(param("score.norm", (d,)) if config.score_norm else None, param("score.weight", (d, 1))),
        decoder=Decoder(
            _table(t5, param, "decoder"),
            tuple(decoder_layer(f"decoder.layer_{i}") for i in range(t5.num_decoder_layers)),
            param("decoder.final_norm", (d,)),
            None if tied else param("decoder.lm_head", (t5.vocab_size, d)),
        ),
        question=stack("question", config.num_memory_layers) if config.question_encoder == "separate" else None,
        reranker=stack("reranker", config.num_rerank_layers) if config.reranker == "separate" else None,
    )


def _children(node: Any) -> Iterator[tuple[str, Any]]:
    for field in fields(node):
        child = getattr(node, field.name)
        if isinstance(child, tuple):
            yield from ((f"layer_{i}", layer) for i, layer in enumerate(child))
        elif field.name != "config" and child is not None:
            yield field.name, child


def leaves(tree: Any) -> dict[str, Array]:
    """Every weight by its dotted name, in the order of the tree."""
    result = {}
    for name, child in _children(tree):
        if is_dataclass(child):
            result.update({f"{name}.{rest}": x for rest, x in leaves(child).items()})
        else:
            result[name] = child
    return result


def map_named(function: Callable[[str, Array], Array], tree: T) -> T:
    """The same tree with `function(name, x)` in place of every weight x; names are those of `leaves`."""

    def walk(name: str, node: Any) -> Any:
        if node is None or isinstance(node, GlimmerConfig):
            return node
        if is_dataclass(node) and not isinstance(node, type):
            return replace(node, **{f.name: child(name, f.name, getattr(node, f.name)) for f in fields(node)})
        return function(name.removeprefix("."), node)

    def child(name: str, field: str, node: Any) -> Any:
        if isinstance(node, tuple):
            return tuple(walk(f"{name}.layer_{i}", layer) for i, layer in enumerate(node))
        return walk(f"{name}.{field}", node)

    return cast(T, walk("", tree))


PRODUCTS = ("q", "k", "v", "o", "wi_0", "wi_1", "wo")  # the last part of the names of weights of `linear`


def prepare_params(ops: Ops, model: Model, precision: str = "float32") -> Model:
    """Convert the weights to the layout of a backend; this is done once, before the model runs.

    Args:
        precision: that of matrix products: "float32", "bfloat16" or "int8"; weights in float64 stay in float64. With
            ops=numba, both lower precisions also compute the products of attention in bfloat16, except in a decoder's
            self-attention. Norms, softmax and residuals are always in float32. Instruments do not change any bit.
    """

    head = "embedding" if model.decoder.lm_head is None else "decoder.lm_head"  # the table of the logits

    def param(name: str, x: Array) -> Array:
        if name.rsplit(".", 1)[-1] in PRODUCTS:
            return ops.pack(x, precision)
        return ops.pack_table(x, precision) if name == head else ops.to_device(x)

    return map_named(param, model)


def computed_in(model: Model) -> str:
    """The precision of the matrix products of a prepared model: one of `prepare_params`, or "float64"."""
    head: Any = model.embedding if model.decoder.lm_head is None else model.decoder.lm_head
    return str(getattr(head, "precision", head.dtype))


def shapes(config: GlimmerConfig, tied: bool = False) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all weights of a config."""
    result: dict[str, tuple[int, ...]] = {}

    def param(name: str, shape: tuple[int, ...]) -> None:
        result[name] = shape

    build_model(config, tied, param)
    return result


def from_arrays(config: GlimmerConfig, arrays: Mapping[str, Array]) -> Model:
    """The tree from named arrays; none may be missing or left over.

    Raises:
        InputError: a name is missing or unknown, or an array has another shape; names it.
    """
    wanted = shapes(config, tied="decoder.lm_head" not in arrays)
    missing = [name for name in wanted if name not in arrays]
    if missing:
        raise InputError("weights", f"all {len(wanted)} tensors of this config", f"no {_some(missing)}")
    unknown = [name for name in arrays if name not in wanted]
    if unknown:
        raise InputError("weights", f"only the {len(wanted)} tensors of this config", f"also {_some(unknown)}")
    for name, shape in wanted.items():
        if tuple(arrays[name].shape) != shape:
            raise InputError(f"weights: {name}", f"shape {list(shape)}", f"{list(arrays[name].shape)}")
    return build_model(config, "decoder.lm_head" not in arrays, lambda name, _: arrays[name])


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def random(config: GlimmerConfig, seed: int, dtype: str = "float32", tied: bool = False) -> Model:
    """Random weights at the initial scales of T5.

    Gains are random around 1 instead of exactly 1, so a test notices a forgotten gain.
    """
    rng = np.random.default_rng(seed)

    def param(name: str, shape: tuple[int, ...]) -> Array:
        return init_param(rng, name, shape, config.t5.d_kv).astype(dtype)

    return build_model(config, tied, param)


def init_param(rng: np.random.Generator, name: str, shape: tuple[int, ...], d_kv: int) -> np.ndarray:
    """One random weight at the initial scale of T5: fan-in^-1/2, for the query smaller by d_kv^-1/2."""
    kind = name.rsplit(".", 1)[-1]
    if kind.endswith("norm"):
        return 1 + 0.2 * rng.standard_normal(shape)
    if kind == "embedding":
        return rng.standard_normal(shape)
    fan_in = shape[-1] if kind == "lm_head" else shape[0]
    return rng.standard_normal(shape) * (fan_in * (d_kv if kind == "q" else 1)) ** -0.5
