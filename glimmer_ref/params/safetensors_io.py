"""Reads safetensors files by memory map, and writes them atomically, with the same bytes every time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open

from ..disk import kinds
from ..disk.read import open_regular, parse_json, reason_of
from ..disk.write import written
from ..errors import InputError

MAX_HEADER_BYTES = 16 * 2**20
MAX_TENSORS = 65_536

# Tag in the file -> little-endian NumPy type, in the order in which the safetensors library ranks them.
# NumPy has no bfloat16: its two bytes are kept as uint16.
TYPES = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "I16": "<i2",
    "U16": "<u2",
    "F16": "<f2",
    "BF16": "<u2",
    "I32": "<i4",
    "U32": "<u4",
    "F32": "<f4",
    "F64": "<f8",
    "I64": "<i8",
    "U64": "<u8",
}
FLOATS = ("F16", "BF16", "F32", "F64")
_TAGS = {np.dtype(code): tag for tag, code in TYPES.items() if tag != "BF16"}
_RANK = {tag: i for i, tag in enumerate(TYPES)}


@dataclass(frozen=True, eq=False)
class Stored:
    """One tensor as it is stored in a file.

    Args:
        dtype: the name of its type in the file, such as "F32" or "BF16".
        raw: the values, read-only when mapped from a file; uint16 where the dtype is "BF16".
    """

    dtype: str
    raw: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self.raw.shape

    def decode(self, dtype: str = "float32") -> np.ndarray:
        """The values as a fresh, writable, C-ordered array.

        Args:
            dtype: "float32" or "float64". A value too large for float32 becomes infinite.

        Raises:
            InputError: the tensor holds integers, or another dtype is asked for.
        """
        if dtype not in ("float32", "float64"):
            raise InputError("dtype", "float32 or float64", repr(dtype))
        if self.dtype not in FLOATS:
            raise InputError("tensor", f"one of {', '.join(FLOATS)}", self.dtype)
        raw = self.raw
        if self.dtype == "BF16":  # bfloat16 is the upper half of a float32
            raw = (raw.astype(np.uint32, order="C") << 16).view(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            return raw.astype(dtype, order="C", copy=raw is self.raw)


def _header(path: Path, file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """The entries of the header, and where the data begin."""
    length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER_BYTES:
        raise InputError(
            f"{path}",
            f"a header of at most {MAX_HEADER_BYTES} bytes",
            f"{length}",
            "perhaps it is not a safetensors file",
        )
    if length > size - 8:
        raise InputError(
            f"{path}",
            f"a header of {length} bytes",
            f"{size - 8} bytes in all",
            "perhaps the file is truncated: get or make it again",
        )
    header = parse_json(file.read(length), f"{path}: header in JSON", "an object of names", once=True)
    if not isinstance(header, dict):
        raise InputError(
            f"{path}", "a header with names", type(header).__name__, "perhaps it is not a safetensors file"
        )
    if len(header) > MAX_TENSORS:
        raise InputError(f"{path}", f"at most {MAX_TENSORS} tensors", f"{len(header)}")
    return header, 8 + length


def _validate(path: Path) -> None:
    """The safetensors library's own checks: offsets without gap or overlap, sizes that fit shapes and types."""
    try:
        with safe_open(path, framework="numpy"):
            pass
    except (SafetensorError, OSError) as e:
        with open_regular(path):  # the library reports every file that it cannot open as missing
            pass
        reason = str(e).removeprefix("Error while deserializing header: ")[:120]
        raise InputError(
            f"{path}",
            "a whole safetensors file",
            reason,
            "perhaps the file is truncated or damaged: get or make it again",
        ) from None


def _view(where: str, entry: Mapping[str, Any], data: np.ndarray) -> Stored:
    tag, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if tag not in TYPES:
        raise InputError(where, f"one of {', '.join(TYPES)}", f"type {tag}", "if it is quantized, dequantize it first")
    try:
        return Stored(tag, data[begin:end].view(TYPES[tag]).reshape(shape))
    except (ValueError, OverflowError, MemoryError) as e:
        raise InputError(where, "a shape that NumPy can hold", f"{str(shape)[:80]} ({e})") from None


def shard_name(number: int) -> str:
    """The name of the file that holds one of many shards, counted from 0."""
    return f"shard-{number:05d}.safetensors"


def map_file(path: str | os.PathLike[str]) -> tuple[dict[str, Stored], dict[str, str]]:
    """Memory-map every tensor of a safetensors file; returns them with the metadata of the header.

    The file must not be changed in place while it is mapped; `write_tensors` replaces it instead. The file stays open
    as long as any of its tensors is in use, and counts as one of the files that a process may have open.

    Raises:
        InputError: the file is missing, truncated or damaged, has a hostile header, or a type that NumPy does not have.

    Source: safetensors checks offsets and sizes but neither the number of tensors nor a name given twice;
        headers of millions of empty tensors keep it busy for minutes, so both are checked before.
    """
    path = Path(path)
    try:
        size = path.stat().st_size if path.is_file() else -1
        if size < 8:
            got = "a folder" if path.is_dir() else "no such file" if size < 0 else f"{size} bytes"
            raise InputError(f"{path}", "a safetensors file", got)
        with path.open("rb") as file:
            kinds.refuse(file.read(kinds.HEAD), f"{path}", "a safetensors file", kinds.SAFETENSORS)
            file.seek(0)
            header, begin = _header(path, file, size)
            _validate(path)
            everything = np.memmap(file, np.uint8, "r")
    except OSError as e:
        raise InputError(f"{path}", "a readable file", reason_of(e)) from None
    metadata = header.pop("__metadata__", None) or {}
    data = np.asarray(everything)[begin:]
    if data.size != max((entry["data_offsets"][1] for entry in header.values()), default=0):
        raise InputError(f"{path}", "a file that no process is writing", "another size than a moment ago")
    return {name: _view(f"{path}: {name}", entry, data) for name, entry in header.items()}, metadata


def map_tensors(path: str | os.PathLike[str]) -> dict[str, Stored]:
    """The tensors of `map_file`.

    Raises:
        InputError: as `map_file`.
    """
    return map_file(path)[0]


def _stored(name: str, x: np.ndarray | Stored) -> Stored:
    tag = x.dtype if isinstance(x, Stored) else _TAGS.get(np.dtype(x.dtype).newbyteorder("<"), str(x.dtype))
    raw = x.raw if isinstance(x, Stored) else np.asarray(x)
    if tag not in TYPES:
        raise InputError(f"tensor {name}", "floats, whole numbers or booleans of NumPy", tag)
    if raw.dtype.newbyteorder("<") != np.dtype(TYPES[tag]):
        raise InputError(f"tensor {name}", f"{tag} held as {np.dtype(TYPES[tag])}", str(raw.dtype))
    return Stored(tag, raw)


def _pack_header(tensors: Mapping[str, Stored], metadata: Mapping[str, str] | None) -> bytes:
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    at = 0
    for name, x in tensors.items():
        header[name] = {"dtype": x.dtype, "shape": list(x.shape), "data_offsets": [at, at + x.raw.nbytes]}
        at += x.raw.nbytes
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    if len(tensors) > MAX_TENSORS or len(text) > MAX_HEADER_BYTES:
        raise InputError(
            "tensors", f"at most {MAX_TENSORS} with short names", f"{len(tensors)}, {len(text)} bytes of names"
        )
    return len(text).to_bytes(8, "little") + text


def _chunks(tensors: Iterable[Stored]) -> Iterable[np.ndarray]:
    for x in tensors:
        # The writer of safetensors saves strided arrays as garbage, so they are made contiguous here.
        yield np.asarray(x.raw, TYPES[x.dtype], order="C").reshape(-1).view(np.uint8)


def _in_order(arrays: Mapping[str, np.ndarray | Stored]) -> dict[str, Stored]:
    tensors = {str(name): _stored(name, x) for name, x in arrays.items()}
    return dict(sorted(tensors.items(), key=lambda item: (-_RANK[item[1].dtype], item[0])))


def file_bytes(arrays: Mapping[str, np.ndarray | Stored], metadata: Mapping[str, str] | None = None) -> int:
    """The length in bytes of the file that `write_tensors` would write."""
    tensors = _in_order(arrays)
    return len(_pack_header(tensors, metadata)) + sum(x.raw.nbytes for x in tensors.values())


def write_tensors(
    path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray | Stored], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file atomically: readers see the old file or the whole new one.

    The same input gives the same bytes on any machine: tensors are in the order of the library (widest type first, then
    by name), metadata are sorted by key, and there are no time stamps.

    Args:
        arrays: by name, NumPy arrays of any strides, or `Stored` for bfloat16.
        metadata: strings for the header.

    Raises:
        InputError: a type that the format does not have, a bad name or metadata, too many tensors, or a place that
            cannot be written.

    Source: safetensors 0.8.0 writes metadata in the random order of a hash map and files with mode 0600,
        so the bytes are composed here, and checked with its reader.
    """
    path, tensors = Path(path), _in_order(arrays)
    if "__metadata__" in tensors or not all(isinstance(v, str) for kv in (metadata or {}).items() for v in kv):
        raise InputError(f"{path}", "texts as metadata, under that name only", "something else")
    try:
        header = _pack_header(tensors, metadata)
    except UnicodeEncodeError:
        raise InputError(f"{path}", "names and metadata in Unicode", "half of a surrogate pair") from None
    with written(path) as file:
        file.write(header)
        for chunk in _chunks(tensors.values()):
            file.write(chunk.data)
        file.flush()
        if Path(file.name).is_file():  # a device or a pipe cannot be read back
            _validate(Path(file.name))
