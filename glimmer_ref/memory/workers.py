"""Many workers make the shards of a memory: processes of this machine, threads, or other machines.

The orchestrator needs only a `concurrent.futures.Executor`. A task names a part of the passages file by its bytes. The
worker reads this part and the model from disk, writes the shard atomically, and sends back its name and checksum, so
nothing large is sent. Shards do not depend on the worker: any number of workers gives the same bytes. (With ops="numpy"
this needs the same number of BLAS threads, since BLAS may sum in another order otherwise.)
"""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ..data.inputs import passages_of
from ..data.json_lines import jsonl
from ..disk.facts import difference
from ..disk.read import reason_of
from ..disk.write import sha256
from ..errors import InputError
from ..ops import Ops, bind
from ..params.checkpoint import load
from ..params.model import Model, prepare_params
from ..params.safetensors_io import shard_name, write_tensors
from ..text.tokenizer import Tokenizer
from .encode import encode_shard
from .manifest import encoder_facts, metadata

TRIES = 3  # how often a shard is tried before it is left out
IN_A_ROW = 5  # when so many shards in a row were left out, the build gives up
QUEUED = 2  # tasks that are submitted for each worker at a time


class Part(NamedTuple):
    """The passages of one shard in their file.

    Args:
        number: the number of the shard.
        offset, length: where the part begins in the file, and its length, in bytes.
        first, passages: the row of its first passage, and the number of its passages.
        sha256: the checksum of the part, so that no worker encodes another file of the same name.
    """

    number: int
    offset: int
    length: int
    first: int
    passages: int
    sha256: str


class Workers(NamedTuple):
    """The workers that encode, and their settings.

    Args:
        executor: runs the tasks; its owner shuts it down.
        at_once: about how many workers the executor has.
        folder: the folder of the model; every worker must find it at this path.
        ops, dtype, precision, threads: the arguments of `glimmer_ref.load` in each worker.
    """

    executor: Executor
    at_once: int
    folder: str
    ops: str = "numba"
    dtype: str = "float32"
    precision: str = "float32"
    threads: int | None = None


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


class Failure(NamedTuple):
    """A shard that could not be made: the rows of its passages, how often it was tried, and the last error."""

    first: int
    last: int
    tries: int
    error: str


def split_passages(path: str | Path, size: int) -> Iterator[Part]:
    """Split a file of passages into parts of `size` passages; the last may have fewer. The file is read once."""
    with open(path, "rb") as file:
        number, offset, length, passages, digest = 0, 0, 0, 0, hashlib.sha256()
        for line in file:
            if line.strip() and passages == size:
                yield Part(number, offset, length, number * size, passages, digest.hexdigest())
                number, offset, length, passages, digest = number + 1, offset + length, 0, 0, hashlib.sha256()
            length, passages = length + len(line), passages + bool(line.strip())
            digest.update(line)
        if passages:
            yield Part(number, offset, length, number * size, passages, digest.hexdigest())


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
    try:
        with open(task.source, "rb") as file:
            file.seek(part.offset)
            data = file.read(part.length)
    except OSError as error:
        raise InputError(task.source, "a file that workers can read", reason_of(error)) from None
    if hashlib.sha256(data).hexdigest() != part.sha256:
        raise InputError(
            task.source, "the file that the build began with", "another", "give every worker the same files"
        )
    passages = passages_of(jsonl(io.BytesIO(data), f"{task.source} from byte {part.offset}"), part.first)
    with ops.limited(threads):
        shard = encode_shard(ops, model, tokenizer, passages, task.build["dtype"])
    path = Path(task.folder) / name
    write_tensors(path, shard.arrays(), metadata(name, task.build))
    return Written(name, part.passages, len(shard.tokens), path.stat().st_size, sha256(path))


class _Round:
    """The running tasks, and how often each shard was tried.

    Args:
        check: called at every failure; it raises if going on makes no sense.
        failed: filled with the shards that are left out, by name.
    """

    def __init__(self, workers: Workers, check: Callable[[], None], failed: dict[str, Failure]) -> None:
        self.workers, self.check, self.failed = workers, check, failed
        self.running: dict[Future[Written], Task] = {}
        self.retries, self.tries, self.failures_in_a_row = deque[Task](), Counter[str](), 0

    def fill(self, tasks: Iterator[Task]) -> None:
        """Submit tasks, failed ones first."""
        while len(self.running) < QUEUED * self.workers.at_once:
            task = self.retries.popleft() if self.retries else next(tasks, None)
            if task is None:
                return
            self.running[self.workers.executor.submit(write, task)] = task

    def results(self) -> Iterator[Written]:
        """Wait for at least one task, and yield the shards that were written; failures are recorded."""
        done, _ = wait(self.running, return_when=FIRST_COMPLETED)
        for future in done:
            task = self.running.pop(future)
            try:
                written = future.result()
            except Exception as error:
                self._failed(task, str(error) or type(error).__name__)
            else:
                self.failures_in_a_row = 0
                yield written

    def close(self) -> None:
        """Cancel the tasks that have not begun."""
        for future in self.running:
            future.cancel()

    def _failed(self, task: Task, error: str) -> None:
        self.check()
        name, part = shard_name(task.part.number), task.part
        self.tries[name] += 1
        if self.tries[name] < TRIES:
            self.retries.append(task)
            return
        self.failed[name] = Failure(part.first, part.first + part.passages - 1, TRIES, error)
        self.failures_in_a_row += 1


def encode_parts(
    workers: Workers,
    some: Iterable[Part],
    source: str,
    folder: Path,
    build: Mapping[str, Any],
    check: Callable[[], None],
    failed: dict[str, Failure],
) -> Iterator[Written]:
    """Encode every part with some worker; a few more tasks than workers are submitted at a time.

    A part that fails, or that kills its worker, is tried three times.

    Args:
        check: called at every failure; it raises if going on makes no sense.
        failed: filled with the parts that failed, which are left out.
    """
    what = (os.path.abspath(workers.folder), *workers[3:])
    tasks = (Task(what, os.path.abspath(source), part, os.path.abspath(folder), build) for part in some)
    now = _Round(workers, check, failed)
    try:
        while now.failures_in_a_row < IN_A_ROW:
            now.fill(tasks)
            if not now.running:
                return
            yield from now.results()
    finally:
        now.close()
