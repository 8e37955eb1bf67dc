"""ONNX Runtime: the encoder of transformers' T5, exported by torch.onnx, in float32 or quantized to int8."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from glimmer_ref.bench.measure import Job
from glimmer_ref.bench.ours import CHECKED
from glimmer_ref.bench.workload import parse
from glimmer_ref.errors import InputError

from . import inputs


def export(folder: Path) -> Path:
    """The encoder as an ONNX file, for any batch and length; kept beside the weights."""
    path = folder / "onnx" / "encoder.onnx"
    if path.exists():
        return path
    import torch
    import transformers

    class Encoder(torch.nn.Module):
        def __init__(self, encoder: Any) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, ids: Any) -> Any:
            return self.encoder(input_ids=ids).last_hidden_state

    model = transformers.T5ForConditionalGeneration.from_pretrained(folder, attn_implementation="eager")
    ids = torch.randint(2, 100, (2, 16))
    temporary = folder / f"onnx.{os.getpid()}"
    temporary.mkdir()
    batch, length = torch.export.Dim("batch", min=1, max=4096), torch.export.Dim("length", min=2, max=4096)
    torch.onnx.export(
        Encoder(model.encoder.eval()),
        (ids,),
        str(temporary / path.name),
        input_names=["ids"],
        output_names=["states"],
        dynamic_shapes=({0: batch, 1: length},),
        external_data=True,
        dynamo=True,
    )
    temporary.rename(path.parent)
    return path


def quantized(path: Path) -> Path:
    """The same with int8 weights; activations are quantized at run time."""
    result = path.with_name("encoder-int8.onnx")
    if not result.exists():
        from onnxruntime.quantization import QuantType, quantize_dynamic

        temporary = result.with_suffix(f".{os.getpid()}")
        quantize_dynamic(path, temporary, weight_type=QuantType.QInt8, per_channel=True)
        temporary.rename(result)
    return result


class Onnx:
    """An inference session over the exported encoder."""

    def __init__(self, precision: str, folder: Path, threads: int) -> None:
        path = export(folder)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        path = quantized(path) if precision == "int8" else path
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.end = int(json.loads((folder / "config.json").read_text())["vocab_size"]) - 1

    def about(self) -> dict[str, Any]:
        """Version."""
        return {"onnxruntime": onnxruntime.__version__}

    def encode(self, ids: np.ndarray) -> np.ndarray:
        """[b n] -> [b n d]."""
        result: np.ndarray = self.session.run(None, {"ids": ids})[0]
        return result

    def job(self, workload: str) -> Job:
        """The encoder."""
        task = parse(workload)
        if task.kind != "encoder":
            raise InputError(workload, "encoder of ONNX Runtime, the part that is exported", task.kind)
        ids = inputs.pairs(task, self.end)

        def run() -> None:
            self.encode(ids)

        return run

    def check(self, path: str) -> list[str]:
        """The encoder's output."""
        states = self.encode(inputs.pairs(CHECKED, self.end))
        np.savez(path, encoder=states.reshape(-1, states.shape[-1]))
        return ["encoder"]


def open_(size: str, precision: str, folder: Path, threads: int) -> Onnx:
    """The engine."""
    return Onnx(precision, folder, threads)
