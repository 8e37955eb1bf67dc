"""The keys in config.json of a published T5 that change what the model computes, under our names.

Source: T5Config and MT5Config of transformers 5.23, and the keys that its modeling_t5.py uses. The head depends on
`tie_word_embeddings`, `scale_decoder_outputs` and the weights: see params/head.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import InputError, brief

FILE = "config.json"
ALIASES = {
    "hidden_size": "d_model",
    "num_attention_heads": "num_heads",
    "num_hidden_layers": "num_layers",
    "head_dim": "d_kv",
}
# The feed-forward of each kind of model, if its config does not name one.
FEED_FORWARD = {"t5": "relu", "mt5": "gated-gelu"}
OTHER_KINDS = {
    "umt5": "it has a position table in every layer",
    "longt5": "its encoder attends locally",
    "switch_transformers": "its feed-forwards are mixtures of experts",
}
# (activation, gated) -> ours; the tanh form of GELU has two names.
ACTIVATIONS = {
    ("relu", False): "relu",
    ("gelu_new", True): "gated-gelu",
    ("gelu_pytorch_tanh", True): "gated-gelu",
}
# Keys that change what the model computes or stores, and what to do about each.
OTHER_MODELS = {
    "quantization_config": "load it with transformers, dequantize() it and save_pretrained in float32",
    "per_layer_config": "all layers have the same shapes here",
}


def _kind(data: Mapping[str, Any]) -> str:
    kind = data.get("model_type")
    if kind is None:
        return "t5"
    if not isinstance(kind, str) or kind not in FEED_FORWARD:
        reason = OTHER_KINDS.get(str(kind), "another architecture is another function")
        raise InputError(f"{FILE}: model_type", " or ".join(FEED_FORWARD), brief(kind), reason)
    return kind


def _unaliased(data: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that have a value, under T5's own names."""
    values = {key: value for key, value in data.items() if value is not None}
    for alias, name in ALIASES.items():
        value = values.pop(alias, None)
        if value is not None and values.setdefault(name, value) != value:
            raise InputError(f"{FILE}: {alias}", f"the same as {name}={brief(values[name])}", brief(value))
    return values


def _feed_forward(values: Mapping[str, Any], default: str) -> str:
    """The value of `feed_forward_proj`, which `dense_act_fn` and `is_gated_act` override."""
    said = values.get("feed_forward_proj", default)
    words = str(said).split("-")
    activation = values.get("dense_act_fn", "gelu_new" if said == "gated-gelu" else words[-1])
    gated = values.get("is_gated_act", words[0] == "gated")
    known = isinstance(gated, bool) and (len(words) == 1 or (len(words) == 2 and words[0] == "gated"))
    ours = ACTIVATIONS.get((str(activation), gated)) if known else None
    if ours is None:
        raise InputError(
            f"{FILE}: feed_forward_proj",
            "gated-gelu (in its tanh form, gelu_new) or relu",
            f"feed_forward_proj={brief(said, 40)}, dense_act_fn={brief(activation, 40)}, "
            f"is_gated_act={brief(gated, 40)}",
            "another activation is another function",
        )
    return ours


def _end(data: Mapping[str, Any]) -> Any:
    """The token that ends an answer; a list of one token means that token."""
    end = data.get("eos_token_id", 1)
    if isinstance(end, list) and len(end) == 1:
        return end[0]
    if end is None or isinstance(end, list):
        raise InputError(f"{FILE}: eos_token_id", "one token that ends an answer", brief(end), "give one id")
    return end


def published(data: Any) -> dict[str, Any]:
    """A published config.json under the names of T5, with aliases and overrides resolved.

    Keys that do not concern the forward pass are kept unchanged.

    Raises:
        InputError: no object, another kind of model, an unsupported activation, a quantized model, two names of one
            size that disagree, or several tokens that end an answer.
    """
    if not isinstance(data, Mapping):
        raise InputError(FILE, "an object with T5's sizes", type(data).__name__)
    kind, values = _kind(data), _unaliased(data)
    for key, do in OTHER_MODELS.items():
        if key in values:
            raise InputError(f"{FILE}: {key}", "none", brief(values[key], 80), do)
    values["feed_forward_proj"] = _feed_forward(values, FEED_FORWARD[kind])
    values["eos_token_id"] = _end(data)
    # T5 starts an answer with its padding.
    values.setdefault("decoder_start_token_id", values.get("pad_token_id", 0))
    if "num_layers" in values:
        values.setdefault("num_decoder_layers", values["num_layers"])
    return values
