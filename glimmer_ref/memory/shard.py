"""One shard of a stored memory, and the index from ids to rows: arrays in a file or in main memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data.inputs import Passage
from ..errors import InputError
from ..params.safetensors_io import Stored, map_file
from ..ragged import Ints, offsets
from .manifest import check_build
from .quantized import DTYPES, QuantizedStates, few_will_be_read, will_read


def _map(path: Path) -> tuple[dict[str, Stored], dict[str, str]]:
    """Map a file of which little will be read: its tensors, and the metadata of its header."""
    tensors, header = map_file(path)
    for x in tensors.values():
        few_will_be_read(x.raw)
    return tensors, header


def _tensor(path: Path, tensors: dict[str, Stored], name: str, dtype: str, *sizes: int | None) -> Stored:
    """One tensor of a shard or index, checked for its type and the known sizes."""
    x = tensors.get(name)
    shape = ", ".join("any" if size is None else str(size) for size in sizes)
    wanted = f"{dtype} of shape [{shape}]"
    if x is None:
        raise InputError(f"{path}: {name}", wanted, "none")
    if (
        x.dtype != dtype
        or len(x.shape) != len(sizes)
        or any(size not in (None, got) for size, got in zip(sizes, x.shape, strict=True))
    ):
        raise InputError(f"{path}: {name}", wanted, f"{x.dtype} of shape {list(x.shape)}")
    return x


def _bounds(path: Path, tensors: dict[str, Stored], name: str, count: int, end: int, min_step: int) -> Ints:
    """Offsets [count+1] that rise from 0 to `end` in steps of at least `min_step`."""
    x = _tensor(path, tensors, name, "I64", count + 1).raw
    if x[0] != 0 or x[-1] != end or (np.diff(x) < min_step).any():
        raise InputError(
            f"{path}: {name}",
            f"offsets that rise from 0 to {end}",
            "others",
            "perhaps the file is damaged: get or make it again",
        )
    return x


@dataclass(frozen=True, eq=False)
class Shard:
    """The memory of n consecutive passages.

    Args:
        tokens: MemEnc of all their T tokens.
        offsets: [n+1] where the tokens of each passage begin.
        strings: [S] uint8, id, title and text of each passage as UTF-8.
        string_offsets: [3n+1] where each string begins.
        name: the file, for errors.
    """

    tokens: QuantizedStates
    offsets: Ints
    strings: np.ndarray
    string_offsets: Ints
    name: str = "memory"

    @classmethod
    def of(cls, passages: Sequence[Passage], lengths: Ints, tokens: QuantizedStates) -> Shard:
        """A shard in main memory: n passages, their lengths [n], and the states of their T tokens."""
        strings = [s.encode() for p in passages for s in (p.id, p.title, p.text)]
        ends = offsets(np.array([len(s) for s in strings], np.int64))
        return cls(tokens, offsets(lengths), np.frombuffer(b"".join(strings), np.uint8), ends)

    @classmethod
    def map(cls, path: Path, build: Mapping[str, Any], passages: int) -> Shard:
        """Memory-map a shard: only its header and offsets are read.

        Args:
            build: the facts of the memory, see `Manifest`.

        Raises:
            InputError: the file is missing, damaged or of another build, or a tensor has another shape or type.
        """
        (tensors, header), dtype, d_model = _map(path), build["dtype"], build["encoder"]["d_model"]
        values = _tensor(path, tensors, "tokens", DTYPES[dtype], None, d_model)
        scales = _tensor(path, tensors, "scales", "F32", values.shape[0]).raw if dtype == "int8" else None
        strings = _tensor(path, tensors, "strings", "U8", None).raw
        shard = cls(
            QuantizedStates(values, scales, str(path)),
            _bounds(path, tensors, "offsets", passages, values.shape[0], min_step=1),
            strings,
            _bounds(path, tensors, "string_offsets", 3 * passages, strings.size, min_step=0),
            str(path),
        )
        check_build(path, header, build)
        return shard

    def arrays(self) -> dict[str, np.ndarray | Stored]:
        """The arrays of the shard's file, by name."""
        return {
            "tokens": self.tokens.values,
            **({} if self.tokens.scales is None else {"scales": self.tokens.scales}),
            "offsets": self.offsets,
            "strings": self.strings,
            "string_offsets": self.string_offsets,
        }

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def _string(self, i: int) -> str:
        try:
            return bytes(self.strings[self.string_offsets[i] : self.string_offsets[i + 1]]).decode()
        except UnicodeDecodeError:
            raise InputError(
                f"{self.name}: strings", "UTF-8", "other bytes", "perhaps the file is damaged: get or make it again"
            ) from None

    def id(self, i: int) -> str:
        """The i-th passage's id."""
        return self._string(3 * i)

    def passage(self, i: int) -> Passage:
        """The i-th passage's strings."""
        return Passage(self._string(3 * i), self._string(3 * i + 1), self._string(3 * i + 2))

    def states(self, i: int) -> QuantizedStates:
        """The i-th passage's states [n_i d]."""
        return self.tokens[int(self.offsets[i]) : int(self.offsets[i + 1])]

    def ids(self) -> Iterator[str]:
        """All ids, in order."""
        will_read(self.strings)
        return (self.id(i) for i in range(len(self)))

    def passages(self) -> Iterator[Passage]:
        """The strings of all passages, in order."""
        will_read(self.strings)
        return (self.passage(i) for i in range(len(self)))


def id_hash(id: str) -> int:
    """The first 64 bits of an id's BLAKE2b, the key of the index."""
    return int.from_bytes(hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


class Index(NamedTuple):
    """Finds the row of an id by binary search, in some twenty steps for a million ids; no id is read in advance.

    Args:
        hashes: [n] uint64, rising.
        rows: [n] int64, the row of the passage whose id has that hash.
    """

    hashes: np.ndarray
    rows: Ints

    @classmethod
    def of(cls, shards: Iterator[Shard]) -> Index:
        """The index of the ids of all shards; rows are counted across shards."""
        hashes = np.fromiter((id_hash(id) for shard in shards for id in shard.ids()), np.uint64)
        rows = np.argsort(hashes, kind="stable")
        return cls(hashes[rows], rows.astype(np.int64))

    @classmethod
    def map(cls, path: Path, build: Mapping[str, Any]) -> Index:
        """Memory-map the index of a file.

        Raises:
            InputError: the file is missing, damaged, or of another size or build.
        """
        (tensors, header), n = _map(path), build["passages"]
        index = cls(_tensor(path, tensors, "hashes", "U64", n).raw, _tensor(path, tensors, "rows", "I64", n).raw)
        check_build(path, header, build)
        return index

    def candidates(self, id: str) -> list[int]:
        """The rows whose id has the same hash: almost always one, or none."""
        key = np.uint64(id_hash(id))
        first, last = (int(np.searchsorted(self.hashes, key, side)) for side in ("left", "right"))
        return [int(row) for row in self.rows[first:last]]
