"""Cuts the encoder of a model anew: its stacks are joined, and divided at another alpha and beta."""

from __future__ import annotations

from dataclasses import replace

from ..config import GlimmerConfig
from ..errors import InputError
from .model import Model, Stack, map_named


def _joined(model: Model, stack: Stack, first: int, count: int) -> Stack:
    """Layers first .. first + count - 1 of the joined encoder, with the position table of most of them (D3).

    If both stacks give equally many layers, the table is live's. Without layers no table is read: it stays `stack`'s.
    """
    layers = (model.memory.layers + model.live.layers)[first : first + count]
    of_memory = max(0, min(first + count, len(model.memory.layers)) - first)
    table = (model.memory if 2 * of_memory > count else model.live) if count else stack
    return Stack(table.relative_attention_bias, layers)


def _check_same(what: str, there: str, here: str) -> None:
    if there != here:
        raise InputError(
            f"a folder with a separate {what}",
            f"a cut that gives it {there}",
            here,
            f'keep the cut, or say {what.replace(" ", "_")} = "shared" to leave it out',
        )


def _memory(config: GlimmerConfig) -> str:
    return f"{config.num_memory_layers} memory layers"


def _ranking(config: GlimmerConfig) -> str:
    return f"{config.num_rerank_layers} layers behind {_memory(config)}"


def cut(model: Model, config: GlimmerConfig) -> Model:
    """As `recut`, but the result shares the model's arrays, so an array's gradient is the sum over all its uses."""
    old, shared = model.config, "shared"
    memory = _joined(model, model.memory, 0, config.num_memory_layers)
    live = _joined(model, model.live, config.num_memory_layers, config.num_live_layers)
    question = None if config.question_encoder == shared else memory
    if question and model.question:
        _check_same("question encoder", _memory(old), _memory(config))
        question = model.question
    reranker = (
        None
        if config.reranker == shared
        else Stack(live.relative_attention_bias, live.layers[: config.num_rerank_layers])
    )
    if reranker and model.reranker:
        _check_same("reranker", _ranking(old), _ranking(config))
        reranker = model.reranker
    return replace(model, config=config, memory=memory, live=live, question=question, reranker=reranker)


def recut(model: Model, config: GlimmerConfig) -> Model:
    """The same weights under a config with another cut, separate encoders or other settings.

    Memory encoder and live encoder are joined to one stack. Its first layers become the memory encoder, the others the
    live encoder. No weight of a layer changes. A stack has one position table, and T5 has one for its whole encoder.
    Training can make the tables of two stacks differ; a stack with layers of both then gets the table of most of its
    layers, or live's if they are equally many. FiD therefore gives the same bits before and after, unless a layer gets
    another table than it had. The final norm, the embedding, the decoder and the score layer are those of the model.

    A separate question encoder that is new starts as a copy of the memory encoder, a new separate reranker as a copy of
    live-A. Those of the model stay as they are. One that the config does not have is left out.

    Args:
        config: its T5 is that of the model, and its `score_norm` too.

    Raises:
        InputError: the model has a separate question encoder or reranker, and the config has it with another number of
            layers, or behind another number of memory layers.
    """
    return map_named(lambda _, x: x.copy(), cut(model, config))
