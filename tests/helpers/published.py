"""Weights of a model under published names, written out independently of the tables that are tested."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from glimmer_ref.params.model import Attention, EncoderLayer, FeedForward, Model

Named = dict[str, np.ndarray]


def _attention(at: str, kind: str, w: Attention) -> Named:
    kernels = {f"{at}.{kind}.{x}.weight": getattr(w, x).T for x in "qkvo"}
    return kernels | {f"{at}.layer_norm.weight": w.norm}


def _feed_forward(at: str, w: FeedForward) -> Named:
    kernels = {"wi": w.wi_0} if w.wi_1 is None else {"wi_0": w.wi_0, "wi_1": w.wi_1}
    named = {f"{at}.DenseReluDense.{x}.weight": k.T for x, k in (kernels | {"wo": w.wo}).items()}
    return named | {f"{at}.layer_norm.weight": w.norm}


def _encoder_layer(i: int, w: EncoderLayer) -> Named:
    at = f"encoder.block.{i}.layer"
    return _attention(f"{at}.0", "SelfAttention", w.attention) | _feed_forward(f"{at}.1", w.feed_forward)


def hugging_face(model: Model, score: bool = False) -> Named:
    """The names of transformers' T5ForConditionalGeneration; kernels are [out in]."""
    table = "layer.0.SelfAttention.relative_attention_bias.weight"
    result = {"shared.weight": model.embedding, f"encoder.block.0.{table}": model.memory.relative_attention_bias}
    for i, layer in enumerate(model.memory.layers + model.live.layers):
        result |= _encoder_layer(i, layer)
    result |= {"encoder.final_layer_norm.weight": model.final_norm}
    result |= {f"decoder.block.0.{table}": model.decoder.relative_attention_bias}
    for i, layer in enumerate(model.decoder.layers):
        at = f"decoder.block.{i}.layer"
        result |= _attention(f"{at}.0", "SelfAttention", layer.self_attention)
        result |= _attention(f"{at}.1", "EncDecAttention", layer.cross_attention)
        result |= _feed_forward(f"{at}.2", layer.feed_forward)
    result |= {"decoder.final_layer_norm.weight": model.decoder.final_norm}
    if model.decoder.lm_head is not None:
        result["lm_head.weight"] = model.decoder.lm_head
    if score:
        result["score.weight"] = model.score.weight.T
    if score and model.score.norm is not None:
        result["score_norm.weight"] = model.score.norm
    return result


def fid(named: Named) -> Named:
    """Hugging Face's names as FiD's EncoderWrapper and CheckpointWrapper rename them."""
    result = {}
    for name, x in named.items():
        words = name.split(".")
        if words[0] == "encoder":
            words.insert(0, "encoder")
            if words[2] == "block":
                words.insert(4, "module")
        result[".".join(words)] = x
    return result


_T5X = {
    "encoder": ("pre_attention_layer_norm", "pre_mlp_layer_norm"),
    "decoder": ("pre_self_attention_layer_norm", "pre_cross_attention_layer_norm", "pre_mlp_layer_norm"),
    "q": "query", "k": "key", "v": "value", "o": "out",
    "shared.weight": "token_embedder/embedding", "lm_head.weight": "decoder/logits_dense/kernel",
    "encoder.final_layer_norm.weight": "encoder/encoder_norm/scale",
    "decoder.final_layer_norm.weight": "decoder/decoder_norm/scale",
}  # fmt: skip


def t5x(named: Named) -> Named:
    """Hugging Face's names converted back to those of t5x; kernels are [in out], tables [heads buckets]."""
    result = {}
    for name, x in named.items():
        words = name.split(".")
        if name in _T5X:
            result[str(_T5X[name])] = x.T if name == "lm_head.weight" else x
        elif "relative_attention_bias" in words:
            result[f"{words[0]}/relpos_bias/rel_embedding"] = x.T
        elif "layer_norm" in words:
            result[f"{words[0]}/layers_{words[2]}/{_T5X[words[0]][int(words[4])]}/scale"] = x
        elif "DenseReluDense" in words:
            result[f"{words[0]}/layers_{words[2]}/mlp/{words[6]}/kernel"] = x.T
        else:
            kind = "encoder_decoder_attention" if words[5] == "EncDecAttention" else "self_attention"
            kind = "attention" if words[0] == "encoder" else kind
            result[f"{words[0]}/layers_{words[2]}/{kind}/{_T5X[words[6]]}/kernel"] = x.T
    return result


def write_t5(folder: Path, named: Named, config: dict[str, Any]) -> Path:
    """Write a T5 folder in the format of other programs."""
    folder.mkdir(exist_ok=True)
    save_file({name: np.ascontiguousarray(x) for name, x in named.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder
