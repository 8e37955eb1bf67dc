"""Recognises folders of models in other formats: names the format, and what to do about it."""

from __future__ import annotations

from pathlib import Path

from ..disk import kinds
from ..disk.kinds import Kind
from ..disk.read import open_regular
from ..errors import InputError

WEIGHTS = tuple(f"{name}{rest}" for name in ("model.safetensors", "pytorch_model.bin") for rest in ("", ".index.json"))
RENAME = Kind("a file that may be in PyTorch's format", "name it pytorch_model.bin")
# File names and what they mean, tried in this order if a folder has no weights that can be read.
NAMES = (
    ("adapter_config.json", kinds.ADAPTER),
    ("adapter_model.*", kinds.ADAPTER),
    ("*.gguf", kinds.GGUF),
    ("*.h5", kinds.HDF5),
    ("*.msgpack", Kind("weights of Flax", kinds.FROM_TENSORFLOW)),
    (
        "*.ckpt*.index",
        Kind("a checkpoint of TensorFlow", "convert it with transformers' convert_t5_original_tf_checkpoint"),
    ),
    ("target.*", Kind("a checkpoint of t5x", "convert it with transformers' convert_t5x_checkpoint_to_pytorch")),
    ("*.onnx", Kind("a model of ONNX", "take the model that it was exported from")),
    ("*.npz", kinds.NPZ),
    ("*.safetensors", kinds.SAFETENSORS),
    ("*.bin", RENAME),
    ("*.pt", RENAME),
    ("*.pth", RENAME),
    ("*.ckpt", RENAME),
)


def refuse_folder(folder: Path) -> None:
    """Refuse a path that is no folder, or a folder whose weights are in a known other format.

    Raises:
        InputError: it is one of these.
    """
    if folder.is_file():
        with open_regular(folder) as file:
            kinds.refuse(file.read(kinds.HEAD), f"{folder}", "the folder of a model", kinds.SAFETENSORS, kinds.TORCH)
        raise InputError(f"{folder}", "the folder of a model", "a file", "give the folder that contains it")
    if any((folder / name).exists() for name in WEIGHTS):
        return
    for pattern, kind in NAMES:
        found = min(folder.glob(pattern), default=None)
        if found is not None:
            raise InputError(
                f"{folder}", "model.safetensors or pytorch_model.bin", f"{found.name}: {kind.words}", kind.do
            )
