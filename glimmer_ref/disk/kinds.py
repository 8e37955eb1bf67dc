"""Guesses the kind of a file from its first bytes and that of a folder from its files, for helpful error messages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError

HEAD = 1024  # bytes that are examined
OLD_TORCH = bytes.fromhex("8a0a6cfc9c46f9206aa85019")  # the first number in files of PyTorch before 1.6


class Kind(NamedTuple):
    """The kind of a file or folder, and what the user can do about it."""

    words: str
    do: str = ""


UNPACK, EXPORT = "unpack it first", "export its rows as JSON, one object a line"
FROM_TENSORFLOW = (
    "open it with transformers 4, which reads TensorFlow and Flax (from_tf, from_flax), and save_pretrained"
)
MERGE = "merge it into its model first: merge_and_unload() of peft, then save_pretrained"
SAVE_DICT = "save its arrays as safetensors, or a model by torch.save(model.state_dict(), 'pytorch_model.bin')"
TORCH_DO = (
    "name it pytorch_model.bin if it is a model's; "
    "safetensors.torch.save_file(torch.load(OLD), NEW) converts a state dict"
)

NPZ = Kind("an .npz file of NumPy", "safetensors.numpy.save_file(dict(numpy.load(OLD)), NEW) converts it")
NPY = Kind("an .npy file of NumPy", "safetensors.numpy.save_file({NAME: numpy.load(OLD)}, NEW) converts it")
TORCH = Kind("a PyTorch file, a zip archive as PyTorch 1.6 and later write it", TORCH_DO)
TORCH_BEFORE = Kind("a PyTorch file of the format before PyTorch 1.6", "load it with PyTorch and save it anew")
PICKLE = Kind("a pickle, which is not read", SAVE_DICT)
TAR = Kind("a tar archive", "unpack it first, or save it anew if it is a checkpoint of PyTorch before 0.2")
ZIP = Kind("a zip archive", UNPACK)
HDF5 = Kind("an HDF5 file, perhaps of Keras or TensorFlow", FROM_TENSORFLOW)
GGUF = Kind("a GGUF file of llama.cpp", "take the model that it was made from, in safetensors or PyTorch's format")
LFS = Kind("a pointer of Git LFS, in place of the file itself", "git lfs pull fetches it")
WEB = Kind("a web page", "download the file itself")
UTF_16 = Kind("UTF-16", "save it as UTF-8")
SAFETENSORS = Kind("a safetensors file", "name it model.safetensors if it is a model's")
ADAPTER = Kind("a PEFT adapter, which changes another model", MERGE)
BEGINS: tuple[tuple[bytes, Kind], ...] = (
    (b"\x93NUMPY", NPY),
    (b"\x1f\x8b", Kind("a file packed by gzip", UNPACK)),
    (b"\x28\xb5\x2f\xfd", Kind("a file packed by zstd", UNPACK)),
    (b"\xfd7zXZ\0", Kind("a file packed by xz", UNPACK)),
    (b"BZh", Kind("a file packed by bzip2", UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", Kind("a 7z archive", UNPACK)),
    (b"\x89HDF\r\n\x1a\n", HDF5),
    (b"PAR1", Kind("a Parquet file", EXPORT)),
    (b"ARROW1", Kind("an Arrow file", EXPORT)),
    (b"SQLite format 3\0", Kind("an SQLite database", EXPORT)),
    (b"GGUF", GGUF),
    (b"\x89PNG\r\n", Kind("a PNG picture")),
    (b"\xff\xd8\xff", Kind("a JPEG picture")),
    (b"%PDF", Kind("a PDF")),
    (b"\x7fELF", Kind("a program")),
    (b"version https://git-lfs", LFS),
    (b"\xff\xfe\0\0", Kind("UTF-32", "save it as UTF-8")),
    (b"\xff\xfe", UTF_16),
    (b"\xfe\xff", UTF_16),
)
FOLDERS: tuple[tuple[str, Kind], ...] = (  # for each kind, a file that such a folder has
    ("manifest.json", Kind("a memory", "it goes with --memory")),
    ("build.json", Kind("an index", "it goes with --index")),
    ("adapter_config.json", ADAPTER),
    ("case.json", Kind("a golden case")),
    ("config.json", Kind("a model's folder", "it goes with --weights")),
    ("passages.jsonl", Kind("a folder with passages.jsonl", "name that file")),
)


def _of_zip(head: bytes) -> Kind:
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    if name.endswith(b".npy"):
        return NPZ
    return TORCH if name.endswith(b"data.pkl") else ZIP


def _of_text(head: bytes) -> Kind | None:
    text = head.decode("utf-8", "ignore").lstrip("\ufeff \t\r\n")
    if re.match(r"<(!doctype html|html|head)\b", text, re.I):
        return WEB
    if text.startswith("<"):
        return Kind("XML", EXPORT)
    first = text.split("\n", 1)[0]
    for mark, words in ((",", "comma-separated values"), ("\t", "tab-separated values"), (";", "values in columns")):
        if first.count(mark) and not re.search(r"[{}\[\]:\x00-\x08]", first):
            return Kind(words, "make each row a JSON object on a line of its own")
    return None


def of_bytes(head: bytes) -> Kind | None:
    """The kind of a file with these first bytes; None if unknown."""
    if head.startswith(b"PK\x03\x04"):
        return _of_zip(head)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32:
        return SAFETENSORS
    if re.match(rb"\x80[\x02-\x05]", head):
        return TORCH_BEFORE if OLD_TORCH in head[:32] else PICKLE
    if head[257:262] == b"ustar":
        return TAR
    if re.match(rb"([\t-~]\0){4}", head):  # UTF-16 without a byte order mark
        return UTF_16
    known = next((kind for begin, kind in BEGINS if head.startswith(begin)), None)
    return known or _of_text(head[:HEAD])


def refuse(head: bytes, location: str, wanted: str, *fits: Kind) -> None:
    """Refuse a file whose first bytes show that it is none of the kinds that fit.

    Raises:
        InputError: it is of another kind.
    """
    kind = of_bytes(head[:HEAD])
    if kind is not None and kind not in fits:
        raise InputError(location, wanted, *kind)


def of_folder(folder: Path) -> Kind | None:
    """The kind of a folder, from the names of its files; None if unknown."""
    return next((kind for name, kind in FOLDERS if (folder / name).is_file()), None)


def instead_of_folder(folder: Path, file: str) -> Kind:
    """What a path is that should be a folder with a certain file: nothing, a file, or a folder without it."""
    if folder.is_dir():
        return of_folder(folder) or Kind(f"no {file}")
    return Kind("a file, not a folder") if folder.exists() else is_published(str(folder)) or Kind("no such folder")


def is_published(name: str) -> Kind | None:
    """Does a path that does not exist look like OWNER/NAME, a model or data set on a hub?"""
    owner, _, rest = name.partition("/")
    if not re.fullmatch(r"[\w-]+/[\w.-]+", name) or re.search(r"\.[a-z]+\d?$", rest) or Path(owner).exists():
        return None
    return Kind("no such file or folder", "if it is a name at Hugging Face, download it and give the path of the copy")
