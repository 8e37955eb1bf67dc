"""A tiny GTR with random weights, in the format of sentence-transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from glimmer_ref.config import T5Config
from glimmer_ref.inference.reader import bundled
from glimmer_ref.params.model import build_stack
from glimmer_ref.params.name_maps import HUGGING_FACE, lines
from glimmer_ref.params.safetensors_io import write_tensors

VOCABULARY = json.loads((bundled() / "config.json").read_text("utf-8"))["vocab_size"]  # of the bundled tokenizer
SIZES = {
    "vocab_size": VOCABULARY, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4, "model_type": "t5",
    "architectures": ["T5EncoderModel"], "eos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip
OUT = 12
FIRST, FOLDERS = "Transformer", ("1_Pooling", "2_Dense", "3_Normalize")
CLOSES = {
    "type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}},
                                             {"SpecialToken": {"id": "</s>", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
    "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
}  # fmt: skip


def write_gtr(folder: Path, seed: int = 0, projection: str = "relu", new: bool = True, most: int = 16) -> Path:
    """Write the folder: if `new`, in the format of sentence-transformers 6, else in that of the published models."""
    rng, t5 = np.random.default_rng(seed), T5Config.from_json({**SIZES, "feed_forward_proj": projection})
    table = {x.ours: x for x in lines(HUGGING_FACE, t5) if x.how != "copy"}
    arrays: dict[str, Any] = {}

    def param(ours: str, shape: tuple[int, ...]) -> Any:
        x = 1 + 0.1 * rng.standard_normal(shape) if len(shape) == 1 else 0.3 * rng.standard_normal(shape)
        line = table[ours]
        arrays[line.theirs] = np.ascontiguousarray(x.T if line.transposed else x, np.float32)

    param("embedding", (t5.vocab_size, t5.d_model))
    build_stack(t5, param, "encoder", t5.num_layers)
    param("final_norm", (t5.d_model,))
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
    write_tensors(folder / "model.safetensors", arrays)
    dense = 0.3 * rng.standard_normal((OUT, t5.d_model))
    write_tensors(folder / "2_Dense" / "model.safetensors", {"linear.weight": dense.astype(np.float32)})
    tokenizer = json.loads((bundled() / "tokenizer.json").read_text("utf-8"))
    flags = {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    files: dict[str, Any] = {
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{path[2:] or FIRST}"}
            for i, path in enumerate(("", *FOLDERS))
        ],
        "config.json": {**SIZES, "feed_forward_proj": projection},
        "tokenizer.json": {**tokenizer, "post_processor": CLOSES},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": most, "eos_token": "</s>",
            "pad_token": "<pad>", "unk_token": "<unk>",
        },
        "1_Pooling/config.json": {"embedding_dimension": 16, "pooling_mode": "mean"} if new else flags,
        "2_Dense/config.json": {
            "in_features": 16, "out_features": OUT, "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
        },
        "3_Normalize/config.json": {},
    }  # fmt: skip
    if not new:
        files["sentence_bert_config.json"] = {"max_seq_length": most, "do_lower_case": False}
        files["tokenizer_config.json"]["model_max_length"] = 512
    for name, data in files.items():
        (folder / name).write_text(json.dumps(data), "utf-8")
    return folder
