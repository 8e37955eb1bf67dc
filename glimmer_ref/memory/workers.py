"""Shards of the memory made by many workers: processes of this machine, threads, or other machines.

The orchestrator knows `concurrent.futures.Executor` and nothing of what is behind it. A task is a part of the
passages file by its place in bytes; whoever takes it reads that part and the model from disk, writes the shard
atomically, and sends back its name and its checksum. Nothing large is sent, and shards do not depend on who made
them: any number of workers gives the same bytes. (With ops="numpy" as far as BLAS does: it may sum in another order
where it has another number of threads.)
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

TRIES = 3  # of a shard, before it is left out
IN_A_ROW = 5  # shards that are left out one after the other, before all of it is given up
QUEUED = 2  # tasks for each worker that are handed out before it asks


class Part(NamedTuple):
    """The passages of one shard in their file.

    Args:
        number: of the shard.
        offset, length: its bytes.
        first, passages: row of its first passage, and how many there are.
        sha256: of its bytes, so that nobody encodes another file of that name.
    """

    number: int
    offset: int
    length: int
    first: int
    passages: int
    sha256: str


class Workers(NamedTuple):
    """Who encodes, and with what.

    Args:
        executor: whoever made it ends it.
        at_once: workers behind it, about.
        folder: of the model, where every worker finds it.
        ops, dtype, precision, threads: as in `glimmer_ref.load`, of each worker.
    """

    executor: Executor
    at_once: int
    folder: str
    ops: str = "numba"
    dtype: str = "float32"
    precision: str = "float32"
    threads: int | None = None


class Task(NamedTuple):
    """One shard to be made: the model, the part, where it goes, and what the memory is of."""

    workers: tuple[str, str, str, str, int | None]
    source: str
    part: Part
    folder: str
    build: Mapping[str, Any]


class Written(NamedTuple):
    """A shard that is there now."""

    name: str
    passages: int
    tokens: int
    bytes: int
    sha256: str


class Failure(NamedTuple):
    """A shard that could not be made: its passages' rows, how often it was tried, and the last error."""

    first: int
    last: int
    tries: int
    error: str


def split_passages(path: str | Path, size: int) -> Iterator[Part]:
    """The parts of a file of passages, `size` of them each but the last; the file is read once, line by line."""
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
    """The model as a worker keeps it from one task to the next."""
    ops = bind(ops_name)
    model = prepare_params(ops, load(folder, dtype), precision)
    tokenizer = Tokenizer(Path(folder) / "tokenizer.json", model.config.t5.vocab_size)
    return ops, model, tokenizer, encoder_facts(ops, model, tokenizer.digest)


def write(task: Task) -> Written:
    """Make one shard; this is what a worker runs.

    Raises:
        InputError: another model or another file than the orchestrator's; a passage or a place that will not do.
    """
    *what, threads = task.workers
    ops, model, tokenizer, mine = _opened(*what)
    if apart := difference(task.build["encoder"], mine):
        raise InputError(f"worker's model {what[0]}", apart[0], apart[1], "give every worker the same files")
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
    """What is at work, and how often each shard was tried.

    Args:
        check: called at every failure; it raises where going on is of no use.
        failed: shards that are left out, by name, filled here.
    """

    def __init__(self, workers: Workers, check: Callable[[], None], failed: dict[str, Failure]) -> None:
        self.workers, self.check, self.failed = workers, check, failed
        self.running: dict[Future[Written], Task] = {}
        self.again, self.tries, self.in_a_row = deque[Task](), Counter[str](), 0

    def fill(self, tasks: Iterator[Task]) -> None:
        """Hand out tasks, those first that failed before."""
        while len(self.running) < QUEUED * self.workers.at_once:
            task = self.again.popleft() if self.again else next(tasks, None)
            if task is None:
                return
            self.running[self.workers.executor.submit(write, task)] = task

    def results(self) -> Iterator[Written]:
        """Those that are done, at least one; failures are sorted out."""
        done, _ = wait(self.running, return_when=FIRST_COMPLETED)
        for future in done:
            task = self.running.pop(future)
            try:
                written = future.result()
            except Exception as error:
                self._failed(task, str(error) or type(error).__name__)
            else:
                self.in_a_row = 0
                yield written

    def close(self) -> None:
        """Nobody waits for what is still at work."""
        for future in self.running:
            future.cancel()

    def _failed(self, task: Task, error: str) -> None:
        self.check()
        name, part = shard_name(task.part.number), task.part
        self.tries[name] += 1
        if self.tries[name] < TRIES:
            self.again.append(task)
            return
        self.failed[name] = Failure(part.first, part.first + part.passages - 1, TRIES, error)
        self.in_a_row += 1


def encode_parts(
    workers: Workers,
    some: Iterable[Part],
    source: str,
    folder: Path,
    build: Mapping[str, Any],
    check: Callable[[], None],
    failed: dict[str, Failure],
) -> Iterator[Written]:
    """Have every part made by somebody, a few more than there are workers handed out at a time.

    A part that fails, or whose worker dies of it, is tried three times.

    Args:
        check: called at every failure; it raises where going on is of no use.
        failed: filled with the parts that failed, which are left out.
    """
    what = (os.path.abspath(workers.folder), *workers[3:])
    tasks = (Task(what, os.path.abspath(source), part, os.path.abspath(folder), build) for part in some)
    now = _Round(workers, check, failed)
    try:
        while now.in_a_row < IN_A_ROW:
            now.fill(tasks)
            if not now.running:
                return
            yield from now.results()
    finally:
        now.close()
