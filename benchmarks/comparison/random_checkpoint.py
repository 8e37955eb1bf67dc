"""Random weights as a folder that every engine can read: python benchmarks/comparison/random_checkpoint.py SIZE DIR."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

from glimmer_ref.bench.ours import checked
from glimmer_ref.bench.workload import shape, weights
from glimmer_ref.ops import bind
from glimmer_ref.params.model import Model, leaves, prepare_params
from glimmer_ref.params.name_maps import HUGGING_FACE, lines, split_encoder
from glimmer_ref.params.safetensors_io import write_tensors

EXPECTED = "expected.npz"  # the values that the reference backend computes with these weights


def published(model: Model) -> dict[str, np.ndarray]:
    """The weights under the names and in the orientation of transformers' T5."""
    ours, result = leaves(model), {}
    for line in lines(HUGGING_FACE, model.config.t5):
        leaf = split_encoder(line.ours, model.config)[0]
        if line.how != "copy" and not leaf.startswith("score."):
            result[line.theirs] = np.ascontiguousarray(ours[leaf].T if line.transposed else ours[leaf])
    return result


def write(size: str, folder: Path) -> None:
    """Write config.json and model.safetensors, then the reference's values, which show that both files are complete."""
    folder.mkdir(parents=True, exist_ok=True)
    model = weights(shape(size))
    more = {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "tie_word_embeddings": False}
    config = {**asdict(model.config.t5), **more, "pad_token_id": 0, "dropout_rate": 0.0, "is_encoder_decoder": True}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    write_tensors(folder / "model.safetensors", published(model))
    ops = bind("numpy")
    np.savez(folder / EXPECTED, **checked(ops, prepare_params(ops, model)))


if __name__ == "__main__":
    write(sys.argv[1], Path(sys.argv[2]))
