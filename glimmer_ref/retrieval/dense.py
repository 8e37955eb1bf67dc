"""An index of embeddings on disk, and the exact search in it: the k largest inner products, block by block.

A folder holds shards of some passages each, `SHARD` unless the build says otherwise, with their embeddings, ids and
titles. Search reads every embedding once for a batch of q questions. Beside the mapped files it holds one block in
float32 [BLOCK e], its scores [q BLOCK] and the best so far [q k]: about 4 BLOCK (e + 2 q) + 24 q k bytes, whatever the
number of passages.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np

from ..data.inputs import Passage, read_passages
from ..data.passages_file import read_source
from ..disk.journal import RESTORE
from ..disk.read import max_open_files
from ..disk.write import clean_leftovers
from ..errors import InputError
from ..params.safetensors_io import Stored, map_tensors, shard_name, write_tensors
from ..progress import Show, progress
from ..ragged import Ints
from ..workers.tasks import Workers
from .dense_workers import Written, embed_shards, shard_arrays
from .gtr import GTR
from .index_files import REBUILD, VERSION, IndexBuild, building, check_sample, read_facts, read_files
from .names import Index, Names
from .top_k import BLOCK, top_k

KIND = "dense"
SHARD, QUESTIONS = 16384, 256
OPEN_SHARDS = 128  # shards that stay mapped, at most: each takes one of the files that a process may have open
DTYPES = {"float32": "F32", "float16": "F16"}


@dataclass(frozen=True, eq=False)
class _Shard:
    """The embeddings [n e] of n passages, and their ids and titles."""

    embeddings: Stored
    names: Names

    @classmethod
    def map(cls, path: Path, dtype: str, n: int, size: int) -> _Shard:
        tensors = map_tensors(path)
        e = tensors.get("embeddings")
        if e is None or (e.dtype, e.shape) != (DTYPES[dtype], (n, size)):
            got = "none" if e is None else f"{list(e.shape)} in {e.dtype}"
            raise InputError(str(path), f"embeddings [{n} {size}] in {dtype}", got, RESTORE)
        return cls(e, Names.of(tensors, n, str(path)))


def _counts(total: int, shard: int) -> dict[str, int]:
    """How many passages each file has."""
    return {shard_name(i): min(shard, total - i * shard) for i in range(-(-total // shard))}


class DenseIndex(Index):
    """Embeddings of passages on disk, made by `build`, and opened with the retriever that made them.

    Args:
        embed: the retriever, which embeds questions.

    Raises:
        InputError: there is no index, or it is damaged or of another retriever.
    """

    def __init__(self, folder: str | Path, embed: GTR) -> None:
        self.folder, self.embed = Path(folder), embed
        facts, files = read_facts(folder), read_files(folder)
        if facts["kind"] != KIND or facts.get("retriever") != embed.digest:
            got = "one of words" if facts["kind"] != KIND else "one of another model"
            raise InputError(
                str(folder),
                "an index that this retriever made",
                got,
                "name the retriever that made it, or build the index again",
            )
        self.total: int = facts["passages"]
        self.dtype, self.shard_passages = str(facts.get("dtype")), facts.get("shard_passages", 0)
        right = self.dtype in DTYPES and type(self.shard_passages) is int and self.shard_passages > 0
        counts = _counts(self.total, self.shard_passages) if right else {}
        if files.keys() != counts.keys():
            raise InputError(str(folder), "the files that its build.json implies", "others", REBUILD)

        # It does not refer to `self`: a reference cycle would keep the files mapped until the next garbage collection.
        folder, dtype, size, unchecked = self.folder, self.dtype, embed.size, {*files}

        @lru_cache(maxsize=max(1, min(OPEN_SHARDS, max_open_files() // 8)))
        def load(number: int) -> _Shard:
            path = folder / shard_name(number)
            if path.name in unchecked:
                check_sample(path, files[path.name])
                unchecked.discard(path.name)
            return _Shard.map(path, dtype, counts[path.name], size)

        self._shard = load

    def __len__(self) -> int:
        return self.total

    def named(self, row: int) -> tuple[Names, int]:
        """As `Index.named`: the names of the row's shard."""
        number, i = divmod(row, self.shard_passages)
        return self._shard(number).names, i

    def blocks(self) -> Iterator[np.ndarray]:
        """All embeddings in order, in the stored dtype."""
        for number in range(-(-self.total // self.shard_passages)):
            raw = self._shard(number).embeddings.raw
            yield from (raw[i : i + BLOCK] for i in range(0, len(raw), BLOCK))

    def rows(self, questions: Sequence[str], k: int, show: Show = progress) -> list[tuple[Ints, np.ndarray]]:
        """For each question the rows of the k nearest passages, best first, ties to the lower row, and their scores.

        Raises:
            InputError: k below 1 or above the number of passages, or a question that cannot be embedded.
        """
        if not 1 <= k <= self.total:
            raise InputError("k", f"a number from 1 to {self.total}, the passages of the index", str(k))
        result: list[tuple[Ints, np.ndarray]] = []
        batches = [questions[i : i + QUESTIONS] for i in range(0, len(questions), QUESTIONS)]
        for batch in show(batches, len(batches), "retrieve"):
            scores, rows = top_k(self.embed(batch).astype(np.float32), self.blocks(), k)
            result += zip(rows, scores, strict=True)
        return result


def build(
    passages_path: str | Path,
    folder: str | Path,
    embed: GTR,
    dtype: str = "float32",
    show: Show = progress,
    shard_passages: int | None = None,
    workers: Workers | None = None,
) -> DenseIndex:
    """Embed a JSON-lines file of passages into an index.

    A build that is killed leaves whole shards. The next run keeps them and makes the others, with the same bytes,
    however many workers there are.

    Args:
        dtype: the dtype of the stored embeddings, "float32" or "float16".
        shard_passages: passages in each shard, `SHARD` if None; the last may have fewer.
        workers: the workers that embed the shards; this process embeds them if none are given.

    Raises:
        InputError: broken passages, or none; a folder that holds anything else, another build or a running one; a full
            disk; shards that workers could not make.
    """
    size = SHARD if shard_passages is None else shard_passages
    if size < 1:
        raise InputError("shard_passages", "at least 1", str(size))
    if dtype not in DTYPES:
        raise InputError("dtype", f"one of {', '.join(DTYPES)}", repr(dtype))
    path, source = Path(folder), read_source(passages_path)
    total = source.passages
    facts = {"version": VERSION, "kind": KIND, "retriever": embed.digest, "dtype": dtype, "size": embed.size,
             "passages": total, "passages_sha256": source.sha256, "shard_passages": size}  # fmt: skip
    counts = _counts(total, size)
    with building(path, facts, counts, show) as index_build:
        names = index_build.missing
        done = total - sum(counts[name] for name in names)
        if workers is None:
            missing = _of_shards(read_passages(passages_path), counts, names)
            bar = iter(show(missing, total, "passages", done))
            for name in names:
                write_tensors(path / name, shard_arrays(islice(bar, counts[name]), embed, dtype))
                index_build.add(name)
            next(bar, None)  # lets the progress bar end its line
        elif names:
            some = embed_shards(workers, names, source, path, embed, dtype, size)
            for _ in show(_recorded(index_build, some), total, "passages", done):
                pass
            clean_leftovers(path, counts.__contains__)  # left by workers that were killed
        source.check()
    return DenseIndex(folder, embed)


def _recorded(index_build: IndexBuild, shards: Iterable[Written]) -> Iterator[None]:
    """Record each shard that a worker has written, and yield once for each of its passages."""
    for written in shards:
        index_build.add(written.name, {"bytes": written.bytes, "sha256": written.sha256})
        yield from [None] * written.passages


def _of_shards(passages: Iterable[Passage], counts: Mapping[str, int], missing: Collection[str]) -> Iterator[Passage]:
    """The passages of the missing shards."""
    source = iter(passages)
    for name, count in counts.items():
        some = islice(source, count)
        if name in missing:
            yield from some
        else:
            deque(some, maxlen=0)
