"""Reads PyTorch checkpoints (pytorch_model.bin) without PyTorch, and without running code from them.

Such a file is a zip archive: data.pkl, a pickle that describes the tensors, and their bytes in data/0,
data/1 .. The stack machine of torch_pickle.py runs the pickle.
"""

from __future__ import annotations

import math
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from ..disk import kinds
from ..disk.read import open_regular, reason_of
from ..errors import InputError
from .safetensors_io import MAX_TENSORS, TYPES, Stored
from .torch_pickle import PLAIN, Tensor, unpickle

MAX_PICKLE_BYTES = 2 * 2**20


def _refuse_other(path: Path) -> None:
    with open_regular(path) as file:
        kinds.refuse(file.read(kinds.HEAD), f"{path}", kinds.TORCH.words, kinds.TORCH, kinds.ZIP)


def _entries(path: Path) -> tuple[str, dict[str, zipfile.ZipInfo]]:
    """The name of the folder in the archive, and its entries."""
    try:
        with path.open("rb") as file:
            infos = zipfile.ZipFile(file).infolist()
    except OSError as e:
        raise InputError(f"{path}", "a readable file", reason_of(e)) from None
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, EOFError) as e:
        _refuse_other(path)
        raise InputError(
            f"{path}",
            kinds.TORCH.words,
            str(e)[:80] or type(e).__name__,
            "perhaps the file is truncated: get or make it again",
        ) from None
    names = {info.filename: info for info in infos}
    if any(name.endswith("/constants.pkl") for name in names):
        raise InputError(f"{path}", kinds.TORCH.words, "a whole module, as TorchScript saves it", PLAIN)
    folders = [name.removesuffix("/data.pkl") for name in names if name.endswith("/data.pkl")]
    if not folders:
        _refuse_other(path)
    if len(names) < len(infos) or len(infos) > 2 * MAX_TENSORS or len(folders) != 1:
        raise InputError(f"{path}", "one data.pkl, and no name twice", f"{len(folders)} in {len(infos)} entries")
    packed = [info.filename for info in infos if info.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise InputError(
            f"{path}: {packed[0]}", "uncompressed bytes", "compressed ones", "PyTorch does not write such files"
        )
    return folders[0], names


def _bytes(path: Path, info: zipfile.ZipInfo, file: np.ndarray) -> np.ndarray:
    """The bytes of an entry within the mapped file, checked against its CRC."""
    where, at = f"{path}: {info.filename}", info.header_offset
    local = file[at : at + 30].tobytes()
    begin = at + 30 + (sum(struct.unpack("<HH", local[26:30])) if len(local) == 30 else 0)
    content = file[begin : begin + info.file_size]
    if not local.startswith(b"PK\x03\x04") or content.size != info.file_size:
        raise InputError(
            where,
            f"{info.file_size} bytes inside the file",
            "fewer",
            "perhaps the file is truncated: get or make it again",
        )
    if zlib.crc32(content.data) != info.CRC:
        raise InputError(
            where,
            f"the checksum {info.CRC:08x}",
            f"{zlib.crc32(content.data):08x}",
            "perhaps the file is damaged: get or make it again",
        )
    return content


def _stored(where: str, tensor: Tensor, content: np.ndarray) -> Stored:
    kind = np.dtype(TYPES[tensor.storage.tag])
    if content.size != tensor.storage.size * kind.itemsize:
        raise InputError(where, f"{tensor.storage.size} numbers of {tensor.storage.tag}", f"{content.size} bytes")
    flat = content.view(kind)[tensor.offset :] if math.prod(tensor.shape) else np.zeros(0, kind)
    steps = [stride * kind.itemsize for stride in tensor.strides]
    try:
        return Stored(tensor.storage.tag, np.lib.stride_tricks.as_strided(flat, tensor.shape, steps, writeable=False))
    except (ValueError, OverflowError):
        raise InputError(where, "a shape that NumPy can hold", f"{str(tensor.shape)[:80]}") from None


def read_torch(path: str | os.PathLike[str]) -> dict[str, Stored]:
    """Memory-map every tensor of a PyTorch checkpoint: a state dict saved by PyTorch 1.6 or later.

    Raises:
        InputError: the file is missing, truncated, damaged, compressed, big-endian, or in the format before 1.6; a
            tensor lies outside its storage; the pickle holds anything but tensors, which is named.

    Source: PyTorch's torch/serialization.py and torch/_utils.py: archive entries, persistent ids and
        the arguments of _rebuild_tensor_v2.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}", "a PyTorch checkpoint", "no such file")
    folder, entries = _entries(path)
    file = np.asarray(np.memmap(path, np.uint8, "r"))
    order = entries.get(f"{folder}/byteorder")
    if order is not None and _bytes(path, order, file).tobytes() != b"little":
        raise InputError(f"{path}", "little-endian numbers", "big-endian", "save it anew on another machine")
    program = entries[f"{folder}/data.pkl"]
    if program.file_size > MAX_PICKLE_BYTES:
        raise InputError(f"{path}", f"a data.pkl of at most {MAX_PICKLE_BYTES} bytes", f"{program.file_size}")
    tensors = unpickle(_bytes(path, program, file).tobytes(), f"{path}")
    contents: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        key = f"{folder}/data/{tensor.storage.key}"
        if key not in entries:
            raise InputError(
                f"{path}: {name}",
                f"its storage {key[:80]}",
                "no such entry",
                "perhaps the file is truncated: get or make it again",
            )
        if key not in contents:
            contents[key] = _bytes(path, entries[key], file)
    return {
        name: _stored(f"{path}: {name}", tensor, contents[f"{folder}/data/{tensor.storage.key}"])
        for name, tensor in tensors.items()
    }
