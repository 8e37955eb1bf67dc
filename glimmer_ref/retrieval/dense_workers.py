"""Many workers make the shards of an index of embeddings, as `memory.workers` makes those of a memory.

A shard does not depend on the worker: GTR embeds each shard's texts in batches of its own.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..data.inputs import Passage
from ..data.passages_file import Source
from ..disk.journal import entry_of
from ..errors import InputError
from ..ops import bind
from ..params.safetensors_io import shard_name, write_tensors
from ..workers.parts import Part, read_part, split_passages
from ..workers.tasks import TRIES, Failed, Workers, as_finished
from .gtr import GTR, load, passage_text
from .names import Names


class Task(NamedTuple):
    """One shard to make: the retriever, the part of the passages, the folder, and the dtype of the embeddings."""

    workers: tuple[str, str, str, str, int | None]
    retriever: str
    source: str
    part: Part
    folder: str
    dtype: str


class Written(NamedTuple):
    """A shard that was written."""

    name: str
    passages: int
    bytes: int
    sha256: str


def shard_arrays(passages: Iterable[Passage], embed: GTR, dtype: str) -> dict[str, np.ndarray]:
    """The tensors of a shard's file: embeddings [n e], ids and titles."""
    names: list[tuple[str, str]] = []

    def texts() -> Iterator[str]:
        for passage in passages:
            names.append((passage.id, passage.title))
            yield passage_text(passage)

    embeddings = embed(texts()).astype(dtype)
    return {"embeddings": embeddings, **Names.arrays(names)}


@lru_cache(1)
def _opened(folder: str, ops_name: str, dtype: str) -> GTR:
    """The retriever, which a worker keeps for its next tasks."""
    return load(folder, bind(ops_name), dtype)


def write(task: Task) -> Written:
    """Make one shard; workers run this function.

    Raises:
        InputError: the retriever or the file is not the orchestrator's; a bad passage; a place that cannot be written.
    """
    folder, ops_name, dtype, _, threads = task.workers
    embed = _opened(folder, ops_name, dtype)
    if embed.digest != task.retriever:
        raise InputError(
            f"worker's retriever {folder}", "the one of the build", "another", "give every worker the same files"
        )
    passages = read_part(task.source, task.part)
    with embed.ops.limited(threads):
        arrays = shard_arrays(passages, embed, task.dtype)
    path = Path(task.folder) / shard_name(task.part.number)
    write_tensors(path, arrays)
    return Written(path.name, task.part.passages, **entry_of(path))


def embed_shards(
    workers: Workers,
    names: Collection[str],
    source: Source,
    folder: Path,
    embed: GTR,
    dtype: str,
    shard_passages: int,
) -> Iterator[Written]:
    """Make the shards of these names with some worker, in the order in which they finish.

    Raises:
        InputError: some shards failed; all others are written then.
    """
    what, place, failed = (os.path.abspath(workers.folder), *workers[3:]), os.path.abspath(folder), list[Failed[Task]]()
    tasks = (
        Task(what, embed.digest, os.path.abspath(source.path), part, place, dtype)
        for part in split_passages(source.path, shard_passages)
        if shard_name(part.number) in names
    )
    for _, written in as_finished(workers, write, tasks, failed, source.check):
        yield written
    if failed:
        first = min(failed, key=lambda f: f.task.part.number)
        raise InputError(
            f"{folder}: {len(failed)} shard{'s' * (len(failed) > 1)}", f"every shard after {TRIES} tries",
            f"{shard_name(first.task.part.number)}: {first.error}",
            "the others are kept: mend it, and run the same command again",
        )  # fmt: skip
