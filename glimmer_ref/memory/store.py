"""The stored memory, MemEnc(Passage_i) of a whole corpus: memory-mapped, and looked up by row or id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..data.inputs import Passage
from ..disk import kinds
from ..disk.facts import difference, digest_of
from ..disk.journal import RESTORE, RESUME, check_finished
from ..disk.lock import LOCK
from ..disk.read import max_open_files, reason_of
from ..errors import InputError, brief
from ..ops import Ops
from ..params.model import Model
from ..params.safetensors_io import shard_name
from ..progress import Show, progress
from ..ragged import Ints, States, offsets, token_positions
from ..text.adapter import PassageReading
from ..text.tokenizer import Tokenizer
from .encode import encode_shard
from .manifest import (
    INDEX,
    MANIFEST,
    QUARANTINE,
    VERSION,
    Manifest,
    encoder_facts,
)
from .shard import Index, Shard

OPEN_SHARDS = 128  # shards that stay mapped, at most


def maps() -> int:
    """How many shards stay mapped. Each counts as one of the files that a process may have open: see `Memory.read`."""
    return max(1, min(OPEN_SHARDS, max_open_files() // 8))


def _check_size(path: Path, size: int) -> None:
    try:
        got = path.stat().st_size
    except OSError as error:
        raise InputError(str(path), f"{size} bytes", reason_of(error), RESUME) from None
    if got != size:
        raise InputError(str(path), f"{size} bytes", f"{got} bytes", RESTORE)


def _refuse_unfinished(folder: str | Path, path: Path) -> None:
    made = "a folder that glimmer-ref memory build made"
    if not path.is_dir():
        raise InputError(f"memory {folder}", made, *kinds.instead_of_folder(path, MANIFEST))
    shards = len(list(path.glob(shard_name(0).replace("00000", "*"))))
    if shards or (path / LOCK).exists():
        raise InputError(
            f"memory {folder}",
            "a finished build",
            f"an unfinished one of {shards} shards",
            "run the same build again to finish it"
            + (f"; {QUARANTINE} says what failed" if (path / QUARANTINE).exists() else ""),
        )
    raise InputError(f"memory {folder}", made, *(kinds.of_folder(path) or (f"no {MANIFEST}",)))


class Memory:
    """MemEnc(Passage_i) of n passages, with their ids, titles and texts.

    Made by `open`, or in main memory by `memorize`. Nothing is read before it is needed.

    Args:
        name: the folder as the user gave it, for errors.
        load: opens the i-th shard.
        index: finds the row of an id.
        reading: how the words of the passages were read; words of questions about them are read in the same way. None
            for a memory on disk, whose passages were read as the tokenizer reads them.
    """

    def __init__(
        self,
        name: str,
        manifest: Manifest,
        load: Callable[[int], Shard],
        index: Index,
        reading: PassageReading | None = None,
    ) -> None:
        self.name, self.manifest, self.reading = name, manifest, reading
        self._shard, self._index = lru_cache(maxsize=maps())(load), index

    @classmethod
    def open(cls, folder: str | Path) -> Memory:
        """Open a memory that was built into a folder.

        Raises:
            InputError: there is no memory, or it is unfinished, damaged or of another version.
        """
        path = Path(folder)
        if not (path / MANIFEST).is_file():
            _refuse_unfinished(folder, path)
        manifest = Manifest.read(path / MANIFEST)
        for name, entry in manifest.files.items():
            _check_size(path / name, entry["bytes"])

        def load(i: int) -> Shard:
            return Shard.map(path / shard_name(i), manifest.build, manifest.passages_of(i))

        return cls(str(folder), manifest, load, Index.map(path / INDEX, manifest.build))

    def __len__(self) -> int:
        return int(self.manifest.build["passages"])

    def check(self, ops: Ops, model: Model, tokenizer_digest: str) -> None:
        """Check that these weights can use the memory.

        Raises:
            InputError: another memory encoder, tokenizer or passage format made it; names what differs.
        """
        differs = difference(encoder_facts(ops, model, tokenizer_digest), self.manifest.build["encoder"])
        if differs:
            raise InputError(
                f"memory {self.name}",
                f"one made by this model's memory encoder and tokenizer, {differs[0]}",
                differs[1],
                "build a memory with this model, or load the model that made it",
            )

    def _locate(self, row: int) -> tuple[Shard, int]:
        number, i = divmod(row, self.manifest.build["shard_passages"])
        return self._shard(number), i

    def _rows(self, rows: Sequence[int] | Ints) -> list[int]:
        given = np.asarray(rows)
        if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
            raise InputError(
                f"memory {self.name}: rows", "a list of whole numbers", f"{given.dtype} {list(given.shape)}"
            )
        for row in given[(given < 0) | (given >= len(self))]:
            raise InputError(f"memory {self.name}: rows", f"numbers from 0 to {len(self) - 1}", str(row))
        return [int(row) for row in given]

    def passage(self, row: int) -> Passage:
        """The strings of one passage.

        Raises:
            InputError: a row that is negative or past the end.
        """
        shard, i = self._locate(self._rows([row])[0])
        return shard.passage(i)

    def passages(self) -> Iterator[Passage]:
        """The strings of all passages, in order."""
        for number in range(self.manifest.shards):
            yield from self._shard(number).passages()

    def rows(self, ids: Iterable[str]) -> Ints:
        """The rows of the passages with some ids: [b].

        Raises:
            InputError: an id that the memory does not hold.
        """
        return np.array([self._row(id) for id in ids], np.int64)

    def _row(self, id: str) -> int:
        for row in self._index.candidates(id):
            shard, i = self._locate(self._rows([row])[0])
            if shard.id(i) == id:
                return row
        raise InputError(f"memory {self.name}", "an id that it holds", brief(id))

    def read(self, rows: Sequence[int] | Ints, dtype: str = "float32") -> States:
        """Read MemEnc of some passages in the given order, repeats allowed; nothing else is read.

        Args:
            rows: [b] of the passages.
            dtype: the dtype of the result, "float32" or "float64"; it does not depend on the stored dtype.

        Returns:
            [N d] new arrays on the host; the caller moves them to the device.

        Raises:
            InputError: a row that is negative or past the end, or another dtype.
        """
        if dtype not in ("float32", "float64"):
            raise InputError("dtype", "float32 or float64", repr(dtype))
        known = self._rows(rows)
        located = map(self._locate, known)
        lengths = np.array([shard.offsets[i + 1] - shard.offsets[i] for shard, i in located], np.int64)
        starts, most = offsets(lengths), maps()
        states = np.empty((starts[-1], self.manifest.build["encoder"]["d_model"]), dtype)
        cuts = list(pairwise(starts))
        for first in range(0, len(known), most):  # no more at a time than stay mapped, which limits the open files
            stored = [shard.states(i) for shard, i in map(self._locate, known[first : first + most])]
            for passage in stored:
                passage.will_read()  # all of them at once
            for passage, (begin, end) in zip(stored, cuts[first : first + most], strict=True):
                passage.decode(states[begin:end])
        return States(states, lengths, token_positions(lengths))

    def info(self) -> dict[str, Any]:
        """A description of the memory, for people and for JSON."""
        manifest, build = self.manifest, self.manifest.build
        return {
            "folder": self.name,
            "version": VERSION,
            "passages": len(self),
            "tokens": manifest.tokens,
            "dtype": build["dtype"],
            **{name: build[name] for name in ("precision",) if name in build},
            "d_model": build["encoder"]["d_model"],
            "num_memory_layers": build["encoder"]["num_memory_layers"],
            "shards": manifest.shards,
            "bytes_on_disk": sum(entry["bytes"] for entry in manifest.files.values()),
            "digest": digest_of(build["encoder"]),
        }

    def verify(self, show: Show = progress) -> None:
        """Read every file once and check it: the SHA-256, the number of tokens and the index.

        Raises:
            InputError: the first file, or the first field of the manifest, that differs.
        """
        folder, build = Path(self.name), self.manifest.build
        if not self.manifest.files:  # in RAM
            return
        check_finished(folder, self.manifest.files, show)

        def shards() -> Iterator[Shard]:  # each is checked against the build, and closed again
            return (
                Shard.map(folder / shard_name(i), build, self.manifest.passages_of(i)) for i in self.manifest.numbers
            )

        tokens = sum(len(shard.tokens) for shard in shards())
        if tokens != self.manifest.tokens:
            raise InputError(
                f"{folder / MANIFEST}: tokens", f"{tokens}, as in the shards", str(self.manifest.tokens), RESTORE
            )
        right = zip(Index.of(shards()), Index.map(folder / INDEX, build), strict=True)
        if not all(np.array_equal(a, b) for a, b in right):
            raise InputError(str(folder / INDEX), "the shards' ids", "others", RESTORE)


def memorize(
    ops: Ops, model: Model, tokenizer: Tokenizer, passages: Iterable[Passage], reading: PassageReading | None = None
) -> Memory:
    """MemEnc of a few passages in main memory, in the dtype of the model.

    Args:
        reading: how the passages are read; as the tokenizer reads them if not given.

    Raises:
        InputError: no passages, an id that occurs twice, an empty text, or values that are not finite.
    """
    shard = encode_shard(ops, model, tokenizer if reading is None else reading.tokenizer, passages)
    index = Index.of(iter([shard]))
    duplicates = [id for id, count in Counter(shard.ids()).items() if count > 1]
    if duplicates:
        raise InputError("passages", "ids that occur once", f"{duplicates[0]!r} again")
    build = {
        "version": VERSION,
        "encoder": encoder_facts(ops, model, tokenizer.digest),
        "dtype": {"F32": "float32", "F64": "float64"}[shard.tokens.values.dtype],
        "passages": len(shard),
        "shard_passages": len(shard),
    }
    return Memory("in RAM", Manifest(build, len(shard.tokens), {}), lambda _: shard, index, reading)
