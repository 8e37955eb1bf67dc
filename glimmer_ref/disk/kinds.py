"""What a file looks like by its first bytes, and a folder by what is in it: for errors that help."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

HEAD = 1024  # bytes that are looked at


class Kind(NamedTuple):
    """What something is, and what to do with it where it is not wanted."""

    words: str
    do: str = ""


UNPACK, ANEW = "unpack it first", "export its rows as JSON, one object a line"
NPZ = Kind("an .npz file of NumPy", "safetensors.numpy.save_file(dict(numpy.load(OLD)), NEW) converts it")
NPY = Kind("an .npy file of NumPy", "safetensors.numpy.save_file({NAME: numpy.load(OLD)}, NEW) converts it")
TORCH = Kind("a PyTorch file", "safetensors.torch.save_file(torch.load(OLD), NEW) converts a state dict")
LFS = Kind("a pointer of Git LFS, in place of the file itself", "git lfs pull fetches it")
WEB = Kind("a web page", "was it downloaded from a site's page of it? take the file itself")
UTF_16 = Kind("UTF-16", "save it as UTF-8")
SAFETENSORS = Kind("a safetensors file")
BEGINS: tuple[tuple[bytes, Kind], ...] = (
    (b"\x93NUMPY", NPY),
    (b"\x1f\x8b", Kind("a file packed by gzip", UNPACK)),
    (b"\x28\xb5\x2f\xfd", Kind("a file packed by zstd", UNPACK)),
    (b"\xfd7zXZ\0", Kind("a file packed by xz", UNPACK)),
    (b"BZh", Kind("a file packed by bzip2", UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", Kind("a 7z archive", UNPACK)),
    (b"\x89HDF\r\n\x1a\n", Kind("an HDF5 file", "a T5 in this form is TensorFlow's: save it with transformers")),
    (b"PAR1", Kind("a Parquet file", ANEW)),
    (b"ARROW1", Kind("an Arrow file", ANEW)),
    (b"SQLite format 3\0", Kind("an SQLite database", ANEW)),
    (b"GGUF", Kind("a GGUF file of llama.cpp", "take the checkpoint that it was made from")),
    (b"\x89PNG\r\n", Kind("a PNG picture")),
    (b"\xff\xd8\xff", Kind("a JPEG picture")),
    (b"%PDF", Kind("a PDF")),
    (b"\x7fELF", Kind("a program")),
    (b"version https://git-lfs", LFS),
    (b"\xff\xfe", UTF_16),
    (b"\xfe\xff", UTF_16),
)
FOLDERS: tuple[tuple[str, Kind], ...] = (  # a file that is in it
    ("manifest.json", Kind("a memory", "it goes with --memory")),
    ("build.json", Kind("an index", "it goes with --index")),
    ("adapter_config.json", Kind("a PEFT adapter", "merge it into its model and save that")),
    ("case.json", Kind("a golden case")),
    ("config.json", Kind("a model's folder", "it goes with --weights")),
    ("passages.jsonl", Kind("a folder with passages.jsonl", "name that file")),
)


def _of_zip(head: bytes) -> Kind:
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    if name.endswith(b".npy"):
        return NPZ
    return TORCH if name.endswith(b"data.pkl") else Kind("a zip archive", UNPACK)


def _of_text(head: bytes) -> Kind | None:
    text = head.decode("utf-8", "ignore").lstrip("\ufeff \t\r\n")
    if re.match(r"<(!doctype html|html|head)\b", text, re.I):
        return WEB
    if text.startswith("<"):
        return Kind("XML", ANEW)
    first = text.split("\n", 1)[0]
    for mark, words in ((",", "comma-separated values"), ("\t", "tab-separated values"), (";", "values in columns")):
        if first.count(mark) and not re.search(r"[{}\[\]:\x00-\x08]", first):
            return Kind(words, "make each row a JSON object on a line of its own")
    return None


def of_bytes(head: bytes) -> Kind | None:
    """What a file is that begins so; None if that cannot be told."""
    if head.startswith(b"PK\x03\x04"):
        return _of_zip(head)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32:
        return SAFETENSORS
    if re.match(rb"\x80[\x02-\x05]", head):
        return Kind("a pickle", "of Python's or of an old PyTorch's: save its arrays as safetensors")
    if head[257:262] == b"ustar":
        return Kind("a tar archive", UNPACK)
    if re.match(rb"([\t-~]\0){4}", head):  # without a mark
        return UTF_16
    known = next((kind for begin, kind in BEGINS if head.startswith(begin)), None)
    return known or _of_text(head[:HEAD])


def of_folder(folder: Path) -> Kind | None:
    """What a folder is that holds a file of such a name; None if that cannot be told."""
    return next((kind for name, kind in FOLDERS if (folder / name).is_file()), None)


def instead_of_folder(folder: Path) -> Kind:
    """What is where a folder of another kind was wanted: nothing, a file, or a folder of some kind."""
    if folder.is_dir():
        return of_folder(folder) or Kind("another folder")
    return Kind("a file, not a folder") if folder.exists() else is_published(str(folder)) or Kind("no such folder")


def is_published(name: str) -> Kind | None:
    """Is a name that leads nowhere perhaps that of a model or data set on a hub, as OWNER/NAME?"""
    owner, _, rest = name.partition("/")
    if not re.fullmatch(r"[\w-]+/[\w.-]+", name) or re.search(r"\.[a-z]+\d?$", rest) or Path(owner).exists():
        return None
    return Kind("no such place; a name on the Hugging Face hub, perhaps", "download it, and give the path of its copy")
