"""Files and folders of models that are kept in another form: what each is, and what to do about it."""

from __future__ import annotations

from pathlib import Path

from ..disk.read import open_regular
from ..errors import Refused

MOST_MARK_BYTES = 512
WEIGHTS = tuple(f"{name}{rest}" for name in ("model.safetensors", "pytorch_model.bin") for rest in ("", ".index.json"))
FROM_TENSORFLOW = (
    "open it with transformers 4, which reads TensorFlow and Flax (from_tf, from_flax), and save_pretrained"
)
MERGE = "merge it into its model first: merge_and_unload() of peft, then save_pretrained"
DEQUANTIZE = "load it with transformers, dequantize() it and save_pretrained in float32"
GGUF = "take the model that it was made of, in safetensors or PyTorch's format"
SAVE_ANEW = "load it with PyTorch and save it anew"

# First bytes of a file -> what it is, what to do.
MARKS = (
    (b"version https://git-lfs", "a pointer of Git LFS in place of the file", "fetch the file: git lfs pull"),
    (b"GGUF", "a GGUF file, of llama.cpp", GGUF),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, of Keras or TensorFlow", FROM_TENSORFLOW),
    (b"\x93NUMPY", "a NumPy array", "save it as safetensors"),
    (b"<", "a page of the web or XML", "download the file itself"),
    (b"\x1f\x8b\x08", "a gzip archive", "unpack it first"),
)
OLD_TORCH = bytes.fromhex("8a0a6cfc9c46f9206aa85019")  # the number that opens files of PyTorch before 1.6
ZIP = ("a zip archive, as PyTorch 1.6 and later write it", "if it is PyTorch's, name it pytorch_model.bin")
SAFETENSORS = ("a safetensors file", "name it model.safetensors")
# Names in a folder -> what it is, what to do; looked for in this order where no weights of ours or of T5's are.
NAMES = (
    ("adapter_config.json", "a PEFT adapter, which changes another model", MERGE),
    ("adapter_model.*", "a PEFT adapter, which changes another model", MERGE),
    ("*.gguf", "a GGUF model, of llama.cpp", GGUF),
    ("*.h5", "weights of Keras or TensorFlow", FROM_TENSORFLOW),
    ("*.msgpack", "weights of Flax", FROM_TENSORFLOW),
    ("*.ckpt*.index", "a checkpoint of TensorFlow", "convert it with transformers' convert_t5_original_tf_checkpoint"),
    ("target.*", "a checkpoint of t5x", "convert it with transformers' convert_t5x_checkpoint_to_pytorch"),
    ("*.onnx", "a model of ONNX", "take the model that it was exported from"),
    ("*.npz", "arrays of NumPy", "save them as model.safetensors"),
    ("*.safetensors", "safetensors under another name", "name it model.safetensors"),
    ("*.bin", "PyTorch's format under another name, perhaps", "name it pytorch_model.bin"),
    ("*.pt", "PyTorch's format under another name, perhaps", "name it pytorch_model.bin"),
    ("*.pth", "PyTorch's format under another name, perhaps", "name it pytorch_model.bin"),
    ("*.ckpt", "PyTorch's format under another name, perhaps", "name it pytorch_model.bin"),
)


def kind_of(first: bytes) -> tuple[str, str] | None:
    """What a file is by its first bytes, and what to do about it; None where that cannot be told."""
    for mark, what, do in MARKS:
        if first.lstrip().startswith(mark) if mark == b"<" else first.startswith(mark):
            return what, do
    if OLD_TORCH in first[:32]:
        return "the format before PyTorch 1.6", SAVE_ANEW
    if first[257:262] == b"ustar":
        return "a tar archive", "unpack it, or if it is a checkpoint of PyTorch before 0.2, save it anew"
    if first.startswith(b"PK\x03\x04"):
        array = b".npy" in first[30:256]
        return ("an .npz of NumPy", "save it as safetensors") if array else ZIP
    if first[8:9] == b"{" and int.from_bytes(first[:8], "little") < 2**32:
        return SAFETENSORS
    if first[:1] == b"\x80" and first[1:2] in b"\2\3\4\5" and len(first) > 2:
        return "a bare pickle, which is not read", "save it with torch.save(model.state_dict(), 'pytorch_model.bin')"
    return None


def refuse_file(path: Path, wanted: str) -> None:
    """Refuse a file that is no `wanted`, if what it is instead can be told.

    Raises:
        Refused: it can be told.
    """
    with open_regular(path) as file:
        kind = kind_of(file.read(MOST_MARK_BYTES))
    if kind is not None and kind[0] != wanted:
        raise Refused(f"{path}", wanted, *kind)


def refuse_folder(folder: Path) -> None:
    """Refuse a place that is no folder, or a folder whose weights are in another form, if that can be told.

    Raises:
        Refused: it can be told.
    """
    if folder.is_file():
        refuse_file(folder, "the folder of a model")
        raise Refused(f"{folder}", "the folder of a model", "a file", "give the folder that it lies in")
    if any((folder / name).exists() for name in WEIGHTS):
        return
    for pattern, what, do in NAMES:
        found = min(folder.glob(pattern), default=None)
        if found is not None:
            raise Refused(f"{folder}", "model.safetensors or pytorch_model.bin", f"{found.name}: {what}", do)
