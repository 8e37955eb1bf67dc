"""The weights before the first step: random, from a T5 folder, or from a model folder of this package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..config import GlimmerConfig, T5Config
from ..disk.read import read_json
from ..errors import InputError
from ..params import checkpoint
from ..params.model import Model, build_model, from_arrays, init_param, leaves, shapes
from .recipe import ModelTable

# Standard deviation of a random score layer behind an RMSNorm. With parameter scaling, weights near 0 hardly change.
SCORE_SPREAD = 0.25


def fresh_leaf(rng: np.random.Generator, config: GlimmerConfig, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """One random weight. Norms are 1, a score layer behind a norm is N(0, 0.25^2), all others have the scale of T5."""
    kind = name.rsplit(".", 1)[-1]
    if kind.endswith("norm"):
        return np.ones(shape, np.float32)
    if name == "score.weight" and config.score_norm:
        return (SCORE_SPREAD * rng.standard_normal(shape)).astype(np.float32)
    return init_param(rng, name, shape, config.t5.d_kv).astype(np.float32)


def fresh(config: GlimmerConfig, seed: int, tied: bool = False) -> Model:
    """A model with random weights.

    A separate logits head starts as the embedding times d^-0.5, so that the decoder can copy tokens from the start. A
    separate question encoder starts as a copy of the memory encoder, a separate reranker as a copy of live-A.

    Args:
        tied: whether the embedding is also the logits head.
    """
    rng = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}

    def leaf(name: str, shape: tuple[int, ...]) -> np.ndarray:
        origin = copied_from(name)
        if name == "decoder.lm_head":
            arrays[name] = arrays["embedding"] * config.t5.d_model**-0.5
        elif origin is not None:
            arrays[name] = arrays[origin].copy()
        else:
            arrays[name] = fresh_leaf(rng, config, name, shape)
        return arrays[name]

    return build_model(config, tied, leaf)


def copied_from(name: str) -> str | None:
    """The weight whose copy a weight of a separate question encoder or reranker is at first; None for other weights."""
    part, dot, rest = name.partition(".")
    origin = {"question": "memory", "reranker": "live"}.get(part)
    return f"{origin}.{rest}" if dot and origin else None


def extended(model: Model, changes: Mapping[str, Any]) -> Model:
    """The model with other settings. If these add a separate encoder, it starts as a copy."""
    config = replace(model.config, **changes)
    tied = model.decoder.lm_head is None
    arrays = leaves(model)
    wanted = shapes(config, tied)
    for name in wanted.keys() - arrays.keys():
        origin = copied_from(name)
        if origin is None:
            raise InputError(
                f"model.glimmer: {name}", "weights that the folder of init has", "none", "leave it as it is"
            )
        arrays[name] = arrays[origin].copy()
    return from_arrays(config, {name: arrays[name] for name in wanted})


def _from_folder(table: ModelTable, changes: dict[str, Any], seed: int) -> Model:
    """The model from a folder. The encoder of a T5 is cut into memory encoder and live encoder."""
    folder = Path(table.init)
    config = read_json(folder / "config.json")
    if isinstance(config, dict) and "glimmer" in config:
        if table.alpha or table.beta:
            raise InputError("model.alpha, model.beta", "none, since init is no T5", f"{table.alpha}, {table.beta}")
        return extended(checkpoint.load(folder), changes)
    return checkpoint.from_t5(folder, table.alpha or None, table.beta or None, seed, **changes)


def first_model(table: ModelTable, seed: int, vocab_size: int) -> Model:
    """The model for a recipe's table [model], in float32.

    Args:
        vocab_size: vocabulary size of the tokenizer, for a model with random weights.

    Raises:
        InputError: settings do not fit each other or the folder.
    """
    changes = {name: tuple(v) if isinstance(v, list) else v for name, v in table.glimmer.items()}
    if table.init:
        model = _from_folder(table, changes, seed)
    else:
        t5 = T5Config.from_json({"feed_forward_proj": "gated-gelu", **table.t5, "vocab_size": vocab_size})
        config = GlimmerConfig.from_proportions(t5, table.alpha, table.beta, **changes)
        if t5.scale_decoder_outputs is None:
            config = replace(config, t5=replace(t5, scale_decoder_outputs=table.tied))
        model = fresh(config, seed, table.tied)
    return _reranker_from_scratch(model, seed) if table.reranker_init == "scratch" else model


def _reranker_from_scratch(model: Model, seed: int) -> Model:
    """The model with random weights for its separate reranker (Table 1)."""
    if model.reranker is None:
        raise InputError("model.reranker_init", 'glimmer.reranker = "separate" beside it', "a shared one")
    rng = np.random.default_rng([seed, 1])
    arrays = leaves(model)
    for name in [name for name in arrays if name.startswith("reranker.")]:
        arrays[name] = fresh_leaf(rng, model.config, name, arrays[name].shape)
    return from_arrays(model.config, arrays)
