"""PyTorch checkpoints (pytorch_model.bin) read without PyTorch, and without running anything in them.

Such a file is a zip archive: data.pkl, a pickle that describes the tensors, and their bytes in data/0,
data/1 .. A pickle is a program for a small stack machine, which can call any Python function. Here it
is run by a machine that knows some 30 instructions and calls nothing: names stay words.
"""

from __future__ import annotations

import math
import os
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import Refused
from .tensors import MOST_TENSORS, TYPES, Stored

MOST_PICKLE_BYTES = 2 * 2**20
MOST_AXES = 8
_OLD_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa85019")  # the number that opens files of PyTorch before 1.6

STORAGES = {
    "BoolStorage": "BOOL",
    "ByteStorage": "U8",
    "CharStorage": "I8",
    "ShortStorage": "I16",
    "IntStorage": "I32",
    "LongStorage": "I64",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "FloatStorage": "F32",
    "DoubleStorage": "F64",
}


@dataclass(frozen=True)
class Word:
    """A name of Python that the pickle mentions; it is never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"[:80]


@dataclass(frozen=True)
class Storage:
    """A run of numbers in the archive."""

    tag: str
    key: str
    size: int


@dataclass(frozen=True)
class Tensor:
    """A view of a storage: offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Bad(Exception):
    """What the pickle holds and should not."""


def _counts(value: Any) -> bool:
    fits = isinstance(value, tuple) and len(value) <= MOST_AXES
    return fits and all(type(n) is int and 0 <= n < 2**62 for n in value)


def _storage(pid: Any) -> Storage:
    """A persistent id: ("storage", type, key, device, number of elements)."""
    if not (isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage" and isinstance(pid[1], Word)):
        raise _Bad("a persistent id that is no storage")
    word, key, size = pid[1], pid[2], pid[4]
    if word.module != "torch" or word.name not in STORAGES:
        raise _Bad(f"the storage {word}")
    if not (isinstance(key, str) and _counts((size,))):
        raise _Bad("a storage without key or size")
    return Storage(STORAGES[word.name], key, size)


def _tensor(args: tuple[Any, ...]) -> Tensor:
    """torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks, metadata)."""
    if len(args) not in (6, 7) or not isinstance(args[0], Storage):
        raise _Bad("a tensor without storage")
    storage, offset, shape, strides = args[:4]
    if not (_counts((offset,)) and _counts(shape) and _counts(strides) and len(shape) == len(strides)):
        raise _Bad("a tensor with a bad shape or strides")
    if args[6:] and args[6]:
        raise _Bad("a tensor with metadata, such as a negated view")
    count = math.prod(shape)
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if count and (last >= storage.size or count > storage.size):
        raise _Bad("a tensor that reaches past its storage")
    return Tensor(storage, offset, shape, strides)


def _call(word: Any, args: Any) -> Any:
    """What a known name makes of its arguments; all others are refused."""
    if not (isinstance(word, Word) and isinstance(args, tuple)):
        raise _Bad("a call of something that is no name")
    match str(word):
        case "collections.OrderedDict" if not args:
            return {}
        case "torch._utils._rebuild_tensor_v2":
            return _tensor(args)
        case "torch._utils._rebuild_parameter" if args and isinstance(args[0], Tensor):
            return args[0]
    raise _Bad(f"a call of {word}")


class _Machine:
    """The stack machine: its instructions are the methods below, under the names that pickletools gives them."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def since_mark(self) -> list[Any]:
        at = self.marks.pop()
        items, self.stack[at:] = self.stack[at:], []
        return items

    def top(self, n: int) -> tuple[Any, ...]:
        if len(self.stack) < n:
            raise IndexError
        items, self.stack[-n:] = tuple(self.stack[-n:]), []
        return items

    def fill(self, items: list[Any]) -> None:
        into = self.stack[-1]
        # Only strings are keys: hashing a deeply nested tuple would overflow C's own stack.
        if not isinstance(into, dict) or len(items) % 2 or not all(isinstance(key, str) for key in items[::2]):
            raise _Bad("something other than a dictionary with strings as keys")
        into.update(zip(items[::2], items[1::2], strict=True))

    def build(self) -> None:
        target, _ = self.top(2)
        if not isinstance(target, dict):  # a state dict carries versions as attributes, which nobody needs
            raise _Bad("attributes of something that is no dictionary")
        self.stack.append(target)

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def step(self, name: str, arg: Any) -> None:
        known = _INSTRUCTIONS.get(name)
        if known is None:
            raise _Bad(f"the pickle instruction {name}")
        known(self, arg)


_INSTRUCTIONS: dict[str, Callable[[_Machine, Any], Any]] = {
    "PROTO": lambda m, _: None,
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    **dict.fromkeys(
        ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE"), lambda m, arg: m.push(arg)
    ),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "TUPLE": lambda m, _: m.push(tuple(m.since_mark())),
    "TUPLE1": lambda m, _: m.push(m.top(1)),
    "TUPLE2": lambda m, _: m.push(m.top(2)),
    "TUPLE3": lambda m, _: m.push(m.top(3)),
    "SETITEM": lambda m, _: m.fill(list(m.top(2))),
    "SETITEMS": lambda m, _: m.fill(m.since_mark()),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), lambda m, arg: m.memo.__setitem__(arg, m.stack[-1])),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda m, arg: m.push(m.memo[arg])),
    "GLOBAL": lambda m, arg: m.push(Word(*arg.split(" ", 1))),
    "BINPERSID": lambda m, _: m.push(_storage(m.stack.pop())),
    "REDUCE": lambda m, _: m.push(_call(*m.top(2))),
    "BUILD": lambda m, _: m.build(),
    "STOP": lambda m, _: None,
}


def _unpickle(program: bytes, where: str) -> dict[str, Tensor]:
    """Run data.pkl, which must leave a dictionary of tensors and nothing else."""
    machine = _Machine()
    try:
        for instruction, arg, _ in pickletools.genops(program):
            machine.step(instruction.name, arg)
        (result,) = machine.stack
    except _Bad as e:
        raise Refused(where, "tensors by name and nothing else", str(e), "only a plain state dict is read") from None
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as e:
        raise Refused(where, "a whole pickle of tensors", type(e).__name__, "damaged?") from None
    if not isinstance(result, dict):
        raise Refused(where, "a dictionary of tensors", type(result).__name__)
    for name, tensor in result.items():
        if not isinstance(tensor, Tensor):
            raise Refused(f"{where}: {str(name)[:80]}", "a tensor", type(tensor).__name__, "give a plain state dict")
    return result


def _entries(path: Path) -> tuple[str, dict[str, zipfile.ZipInfo]]:
    """Name of the archive's own folder, and what lies in it."""
    try:
        with path.open("rb") as file:
            old = file.read(len(_OLD_MAGIC)) == _OLD_MAGIC
            infos = [] if old else zipfile.ZipFile(file).infolist()
    except OSError as e:
        raise Refused(f"{path}", "a readable file", e.strerror or str(e)) from None
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, EOFError) as e:
        raise Refused(f"{path}", "a zip file of PyTorch", str(e)[:80] or type(e).__name__, "truncated?") from None
    if old:
        do = "load it with PyTorch and save it anew"
        raise Refused(f"{path}", "the zip format of PyTorch 1.6 and later", "the format before it", do)
    names = {info.filename: info for info in infos}
    folders = [name.removesuffix("/data.pkl") for name in names if name.endswith("/data.pkl")]
    if len(names) < len(infos) or len(infos) > 2 * MOST_TENSORS or len(folders) != 1:
        raise Refused(f"{path}", "one data.pkl, and no name twice", f"{len(folders)} in {len(infos)} entries")
    packed = [info.filename for info in infos if info.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise Refused(f"{path}: {packed[0]}", "bytes as they are", "compressed ones", "not of PyTorch")
    return folders[0], names


def _bytes(path: Path, info: zipfile.ZipInfo, file: np.ndarray) -> np.ndarray:
    """An entry's bytes within the mapped file, checked against its CRC."""
    where, at = f"{path}: {info.filename}", info.header_offset
    local = file[at : at + 30].tobytes()
    begin = at + 30 + (sum(struct.unpack("<HH", local[26:30])) if len(local) == 30 else 0)
    content = file[begin : begin + info.file_size]
    if not local.startswith(b"PK\x03\x04") or content.size != info.file_size:
        raise Refused(where, f"{info.file_size} bytes inside the file", "fewer", "truncated?")
    if zlib.crc32(content.data) != info.CRC:
        raise Refused(where, f"the checksum {info.CRC:08x}", f"{zlib.crc32(content.data):08x}", "damaged?")
    return content


def _stored(where: str, tensor: Tensor, content: np.ndarray) -> Stored:
    kind = np.dtype(TYPES[tensor.storage.tag])
    if content.size != tensor.storage.size * kind.itemsize:
        raise Refused(where, f"{tensor.storage.size} numbers of {tensor.storage.tag}", f"{content.size} bytes")
    flat = content.view(kind)[tensor.offset :] if math.prod(tensor.shape) else np.zeros(0, kind)
    steps = [stride * kind.itemsize for stride in tensor.strides]
    try:
        return Stored(tensor.storage.tag, np.lib.stride_tricks.as_strided(flat, tensor.shape, steps, writeable=False))
    except (ValueError, OverflowError):
        raise Refused(where, "a shape that NumPy can hold", f"{str(tensor.shape)[:80]}") from None


def read_torch(path: str | os.PathLike[str]) -> dict[str, Stored]:
    """Every tensor of a PyTorch checkpoint, memory-mapped: a state dict saved by PyTorch 1.6 or later.

    Raises:
        Refused: no such file, truncated or damaged, compressed, big-endian, the format before 1.6, a
            tensor outside its storage, or anything in the pickle that is no tensor, by its name.

    Source: PyTorch's torch/serialization.py and torch/_utils.py: archive entries, persistent ids and
        the arguments of _rebuild_tensor_v2.
    """
    path = Path(path)
    if not path.is_file():
        raise Refused(f"{path}", "a PyTorch checkpoint", "no such file")
    folder, entries = _entries(path)
    file = np.asarray(np.memmap(path, np.uint8, "r"))
    order = entries.get(f"{folder}/byteorder")
    if order is not None and _bytes(path, order, file).tobytes() != b"little":
        raise Refused(f"{path}", "little-endian numbers", "big-endian", "save it anew on another machine")
    program = entries[f"{folder}/data.pkl"]
    if program.file_size > MOST_PICKLE_BYTES:
        raise Refused(f"{path}", f"a data.pkl of at most {MOST_PICKLE_BYTES} bytes", f"{program.file_size}")
    tensors = _unpickle(_bytes(path, program, file).tobytes(), f"{path}")
    contents: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        key = f"{folder}/data/{tensor.storage.key}"
        if key not in entries:
            raise Refused(f"{path}: {name}", f"its storage {key[:80]}", "no such entry", "truncated?")
        if key not in contents:
            contents[key] = _bytes(path, entries[key], file)
    return {
        name: _stored(f"{path}: {name}", tensor, contents[f"{folder}/data/{tensor.storage.key}"])
        for name, tensor in tensors.items()
    }
