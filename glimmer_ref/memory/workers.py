"""Many workers make the shards of a memory: processes of this machine, threads, or other machines.

A task names a part of the passages file by its bytes. The worker reads this part and the model from disk, writes the
shard atomically, and sends back its name and checksum, so nothing large is sent. Shards do not depend on the worker:
any number of workers gives the same bytes. (With ops="numpy" this needs the same number of BLAS threads, since BLAS may
sum in another order otherwise.)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ..disk.facts import difference
from ..disk.write import sha256
from ..errors import InputError
from ..ops import Ops, bind
from ..params.checkpoint import load
from ..params.model import Model, prepare_params
from ..params.safetensors_io import shard_name, write_tensors
from ..text.tokenizer import Tokenizer
from ..workers.parts import Part, read_part
from ..workers.tasks import Failed, Workers, as_finished
from .encode import encode_shard
from .manifest import encoder_facts, metadata


class Task(NamedTuple):
    """One shard to make: the model, the part of the passages, the folder, and the facts of the build."""

    workers: tuple[str, str, str, str, int | None]
    source: str
    part: Part
    folder: str
    build: Mapping[str, Any]


class Written(NamedTuple):
    """A shard that was written."""

    name: str
    passages: int
    tokens: int
    bytes: int
    sha256: str


@lru_cache(1)
def _opened(folder: str, ops_name: str, dtype: str, precision: str) -> tuple[Ops, Model, Tokenizer, dict[str, Any]]:
    """The model, which a worker keeps for its next tasks."""
    ops = bind(ops_name)
    model = prepare_params(ops, load(folder, dtype), precision)
    tokenizer = Tokenizer(Path(folder) / "tokenizer.json", model.config.t5.vocab_size)
    return ops, model, tokenizer, encoder_facts(ops, model, tokenizer.digest)


def write(task: Task) -> Written:
    """Make one shard; workers run this function.

    Raises:
        InputError: the model or the file is not the orchestrator's; a bad passage; a place that cannot be written.
    """
    *what, threads = task.workers
    ops, model, tokenizer, encoder = _opened(*what)
    if differs := difference(task.build["encoder"], encoder):
        raise InputError(f"worker's model {what[0]}", differs[0], differs[1], "give every worker the same files")
    part, name = task.part, shard_name(task.part.number)
    passages = read_part(task.source, part)
    with ops.limited(threads):
        shard = encode_shard(ops, model, tokenizer, passages, task.build["dtype"])
    path = Path(task.folder) / name
    write_tensors(path, shard.arrays(), metadata(name, task.build))
    return Written(name, part.passages, len(shard.tokens), path.stat().st_size, sha256(path))


def encode_parts(
    workers: Workers,
    some: Iterable[Part],
    source: str,
    folder: Path,
    build: Mapping[str, Any],
    check: Callable[[], None],
    failed: list[Failed[Task]],
) -> Iterator[Written]:
    """Encode every part with some worker, in the order in which they finish.

    Args:
        check, failed: see `as_finished`.
    """
    what = (os.path.abspath(workers.folder), *workers[3:])
    tasks = (Task(what, os.path.abspath(source), part, os.path.abspath(folder), build) for part in some)
    for _, written in as_finished(workers, write, tasks, failed, check):
        yield written
