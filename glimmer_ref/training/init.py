"""The weights and the tokenizer before the first step: new ones, those of a T5 folder, or of a model folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..config import GlimmerConfig, T5Config, whole_layers
from ..disk.read import read_json
from ..errors import InputError, brief
from ..inference.reader import bundled
from ..params import checkpoint
from ..params.model import Model, build_model, from_arrays, init_param, leaves, shapes
from ..params.recut import recut
from ..text.sentencepiece import find_tokenizer_json
from ..text.tokenizer import Tokenizer
from .recipe import ModelTable, Recipe

BASE = "t5-mini"  # the bundled weights that a recipe can start from by their name
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


def fresh(config: GlimmerConfig, seed: int, tied: bool = False, residual_scale: float = 1.0) -> Model:
    """A model with random weights.

    A separate logits head starts as the embedding times d^-0.5, so that the decoder can copy tokens from the start. A
    separate question encoder starts as a copy of the memory encoder, a separate reranker as a copy of live-A.

    Args:
        tied: whether the embedding is also the logits head.
        residual_scale: see `ModelTable`.
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
        if origin is None and adds_to_residual(name):
            arrays[name] *= np.float32(residual_scale)
        return arrays[name]

    return build_model(config, tied, leaf)


def adds_to_residual(name: str) -> bool:
    """Whether a weight is the last of an encoder's sublayer: the result of its product is added to the residual."""
    return name.rsplit(".", 1)[-1] in ("o", "wo") and not name.startswith("decoder.")


def copied_from(name: str) -> str | None:
    """The weight whose copy a weight of a separate question encoder or reranker is at first; None for other weights."""
    part, dot, rest = name.partition(".")
    origin = {"question": "memory", "reranker": "live"}.get(part)
    return f"{origin}.{rest}" if dot and origin else None


def drawn_again(model: Model, config: GlimmerConfig, part: str, rng: np.random.Generator) -> Model:
    """The model with random weights for one part, as it is in `config`, which differs in nothing else."""
    arrays = leaves(model)
    wanted = shapes(config, model.decoder.lm_head is None)
    for name, shape in wanted.items():
        if name.startswith(f"{part}."):
            arrays[name] = fresh_leaf(rng, config, name, shape)
    return from_arrays(config, {name: arrays[name] for name in wanted})


def _check_sizes(table: ModelTable, t5: T5Config) -> None:
    """Check that the sizes in a recipe, if any, are those of the folder.

    Raises:
        InputError: a size differs.
    """
    for name, value in table.t5.items():
        if (there := getattr(t5, name)) != value:
            raise InputError(
                f"model.t5.{name}",
                f"{there}, as in {table.init}, or nothing",
                brief(value),
                "leave out this key or model.init",
            )


def _score_as_said(table: ModelTable, model: Model, changes: Mapping[str, Any], seed: int) -> Model:
    """The model with its own score layer or a random one, and with the settings of the score in `changes`."""
    old = model.config
    config = replace(old, **{name: changes.get(name, getattr(old, name)) for name in ("pool", "score_norm")})
    if table.score == "draw" or (table.score == "auto" and config != old):
        return drawn_again(model, config, "score", np.random.default_rng([seed, 2]))
    if config.score_norm != old.score_norm:
        raise InputError("model.score", '"draw", since the norm of the score layer is not that of the folder', '"keep"')
    return replace(model, config=config)


def _from_ours(table: ModelTable, changes: Mapping[str, Any], seed: int) -> Model:
    """The model from a model folder of this package, cut anew. An alpha or beta that is not given is the folder's."""
    model = _score_as_said(table, checkpoint.load(table.init), changes, seed)
    old = model.config
    live = whole_layers("model.alpha", table.alpha or old.alpha, old.t5.num_layers)
    rerank = whole_layers("model.beta", table.beta or old.beta, live)
    memory = old.t5.num_layers - live
    config = replace(old, num_memory_layers=memory, num_live_layers=live, num_rerank_layers=rerank, **changes)
    if table.reranker_init == "scratch":
        model = replace(model, reranker=None)
    return recut(model, config)


def _from_folder(table: ModelTable, changes: Mapping[str, Any], seed: int) -> Model:
    """The model from a folder. The encoder of a T5 is cut into memory encoder and live encoder."""
    data = read_json(Path(table.init) / "config.json")
    _check_sizes(table, T5Config.from_json(data))
    if "glimmer" in data:
        model = _from_ours(table, changes, seed)
    elif table.score == "keep":
        raise InputError("model.score", '"auto" or "draw", since a T5 has no score layer', '"keep"')
    else:
        model = checkpoint.from_t5(table.init, table.alpha or None, table.beta or None, seed, **changes)
        model = _score_as_said(table, model, {}, seed)
    if table.tied and model.decoder.lm_head is not None:
        raise InputError("model.tied", f"false, as in {table.init}", "true")
    return model


def init_folder(table: ModelTable) -> str:
    """The folder that `init` names: one at this path, else that of the bundled base; "" for random weights."""
    return str(bundled(BASE)) if table.init == BASE and not Path(BASE).exists() else table.init


def first_model(table: ModelTable, seed: int, vocab_size: int) -> Model:
    """The model for a recipe's table [model], in float32.

    Args:
        vocab_size: vocabulary size of the tokenizer, for a model with random weights.

    Raises:
        InputError: settings do not fit each other or the folder.
    """
    changes = {name: tuple(v) if isinstance(v, list) else v for name, v in table.glimmer.items()}
    table = replace(table, init=init_folder(table))
    if table.init:
        model = _from_folder(table, changes, seed)
    else:
        t5 = T5Config.from_json({"feed_forward_proj": "gated-gelu", **table.t5, "vocab_size": vocab_size})
        config = GlimmerConfig.from_proportions(t5, table.alpha, table.beta, **changes)
        if t5.scale_decoder_outputs is None:
            config = replace(config, t5=replace(t5, scale_decoder_outputs=table.tied))
        model = fresh(config, seed, table.tied, table.residual_scale)
    return _reranker_from_scratch(model, seed) if table.reranker_init == "scratch" else model


def _reranker_from_scratch(model: Model, seed: int) -> Model:
    """The model with random weights for its separate reranker (Table 1)."""
    if model.reranker is None:
        raise InputError("model.reranker_init", 'glimmer.reranker = "separate" beside it', "a shared one")
    return drawn_again(model, model.config, "reranker", np.random.default_rng([seed, 1]))


def first_tokenizer(recipe: Recipe, root: Path) -> Tokenizer:
    """The tokenizer that the recipe names, or else that of the folder `model.init`, which may be a spiece.model.

    Raises:
        InputError: there is none, or they are two that differ: then ids would mean other words than in the weights.
    """
    init = init_folder(recipe.model)
    text = find_tokenizer_json(init) if init else None
    theirs = None if text is None else Tokenizer(Path(init) / "tokenizer.json", text=text)
    if not recipe.data.tokenizer:
        if theirs is None:
            raise InputError(f"{init}", "a folder with tokenizer.json or spiece.model", "neither", "set data.tokenizer")
        return theirs
    path = root / recipe.data.tokenizer
    if not path.is_file():
        raise InputError(f"{path}", "the recipe's tokenizer", "no such file", "set --data or data.root")
    named = Tokenizer(path)
    if theirs is not None and json.loads(named.json) != json.loads(theirs.json):
        raise InputError(
            f"data.tokenizer: {path}", f"the tokenizer of {init}", "another", 'data.tokenizer = "" takes that one'
        )
    return named
