"""Builds the stored memory: reads a file of passages, writes MemEnc shard by shard, and resumes after a stop."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from ..data.inputs import Passage, read_passages
from ..data.passages_file import Source, read_source
from ..disk.facts import difference
from ..disk.journal import JOURNAL, RESTORE, Journal, check_finished, entry_of
from ..disk.lock import LOCK, lock_folder
from ..disk.write import clean_leftovers, temporary_of, write_json
from ..errors import InputError
from ..ops import Ops
from ..params.model import Model
from ..params.safetensors_io import map_file, shard_name, write_tensors
from ..progress import Show, progress
from ..text.tokenizer import Tokenizer
from ..workers.parts import split_passages
from ..workers.tasks import Failed, Workers
from .encode import encode_shard
from .manifest import (
    INDEX,
    MANIFEST,
    QUARANTINE,
    Manifest,
    build_facts,
    build_of,
    metadata,
    passages_of,
)
from .quantized import DTYPES
from .shard import Index, Shard
from .store import Memory
from .workers import Task, encode_parts

NAMES = "|".join(map(re.escape, (MANIFEST, INDEX, LOCK, QUARANTINE, JOURNAL)))
OURS = re.compile(rf"{NAMES}|shard-\d{{5,}}\.safetensors")


class Built(NamedTuple):
    """A memory that was built, and how many of its passages this run encoded; earlier runs encoded the others."""

    memory: Memory
    encoded: int


def _check_folder(folder: str | Path) -> None:
    """Refuse a folder that holds anything but a memory, before changing it."""
    for entry in sorted(Path(folder).iterdir()):
        if not OURS.fullmatch(temporary_of(entry.name) or entry.name):
            raise InputError(str(folder), "a folder of its own for the memory", entry.name, "name another folder")


def _record(path: Path) -> dict[str, Any]:
    """The build that a shard or a manifest belongs to."""
    if path.name == MANIFEST:
        return Manifest.read(path).build
    try:
        header = map_file(path)[1]
    except InputError as error:
        raise InputError(*error.parts[:3], RESTORE) from None
    return build_of(path, header)


def _check_builds(folder: Path, build: dict[str, Any]) -> None:
    """Refuse files of another build; nothing is deleted."""
    names = {p.name for p in folder.iterdir() if OURS.fullmatch(p.name)} - {LOCK, QUARANTINE, JOURNAL}
    for name in sorted(names):
        if differs := difference(build, _record(folder / name)):
            raise InputError(
                f"{folder / name}",
                f"a build of the same memory, {differs[0]}",
                differs[1],
                "nothing was changed; name another folder",
            )


class _BuildState:
    """A build whose folder is locked: the records of its files, and which shards are finished.

    A file that an earlier run has recorded must still match its record; other files are made again.

    Raises:
        InputError: files of another build, or a damaged file.
    """

    def __init__(self, folder: Path, build: dict[str, Any], show: Show) -> None:
        self.folder, self.build = folder, build
        _check_builds(folder, build)
        clean_leftovers(folder, OURS.fullmatch)
        self.shards = {
            shard_name(i): passages_of(build, i) for i in range(-(-build["passages"] // build["shard_passages"]))
        }
        self.journal = Journal(folder, {*self.shards})
        self.sealed = Manifest.read(folder / MANIFEST).files if (folder / MANIFEST).exists() else {}
        known = {n: e for n, e in (self.sealed or self.journal.files).items() if (folder / n).exists()}
        check_finished(folder, known, show)
        self.journal.files = {name: entry for name, entry in known.items() if name in self.shards}
        self.whole = bool(self.sealed) and known.keys() == self.sealed.keys()

    @property
    def finished(self) -> set[str]:
        """The names of the finished shards."""
        return {*self.journal.files}

    @property
    def done(self) -> int:
        """How many passages the finished shards have."""
        return sum(self.shards[name] for name in self.finished)


def _write_here(ops: Ops, model: Model, tokenizer: Tokenizer, source: Source, state: _BuildState, show: Show) -> None:
    """Encode the passages of all missing shards in this process."""
    build, tokens, finished, done = state.build, 0, state.finished, state.done

    def missing() -> Iterator[tuple[str, Passage]]:
        for row, passage in enumerate(read_passages(source.path)):
            name = shard_name(row // build["shard_passages"])
            if name not in finished:
                yield name, passage

    shown = show(missing(), source.passages, "memory", done, lambda: tokens, "tokens")
    for name, group in groupby(shown, key=lambda pair: pair[0]):
        shard = encode_shard(ops, model, tokenizer, (passage for _, passage in group), build["dtype"])
        source.check()
        write_tensors(state.folder / name, shard.arrays(), metadata(name, build))
        state.journal.add(name)
        tokens += len(shard.tokens)


def _quarantined(failed: Failed[Task]) -> dict[str, Any]:
    """A shard that could not be made: the rows of its passages, how often it was tried, and the last error."""
    part = failed.task.part
    return {
        "first": part.first,
        "last": part.first + part.passages - 1,
        "tries": failed.tries,
        "error": failed.error,
    }


def _write_elsewhere(workers: Workers, source: Source, state: _BuildState, show: Show) -> None:
    """Encode the missing shards with `workers`, which finish them in any order.

    A shard that fails several times is left out and reported at the end.

    Raises:
        InputError: some shards failed; all others are written then.
    """
    folder, size, tokens, failed = state.folder, state.build["shard_passages"], 0, list[Failed[Task]]()
    finished, done = state.finished, state.done

    def passages() -> Iterator[None]:
        nonlocal tokens
        missing = (p for p in split_passages(source.path, size) if shard_name(p.number) not in finished)
        for written in encode_parts(workers, missing, str(source.path), folder, state.build, source.check, failed):
            state.journal.add(written.name, {"bytes": written.bytes, "sha256": written.sha256})
            tokens += written.tokens
            yield from [None] * written.passages

    for _ in show(passages(), source.passages, "memory", done, lambda: tokens, "tokens"):
        pass
    clean_leftovers(folder, OURS.fullmatch)  # left by workers that were killed
    if failed:
        write_json(folder / QUARANTINE, {shard_name(f.task.part.number): _quarantined(f) for f in failed})
        first = min(failed, key=lambda f: f.task.part.number)
        name = shard_name(first.task.part.number)
        raise InputError(
            f"{folder}: {len(failed)} shard{'s' * (len(failed) > 1)}", "every shard after some tries",
            f"{name}: {first.error}",
            f"see {QUARANTINE}; the others are kept: mend it, and run the same command again",
        )  # fmt: skip


def _seal(state: _BuildState) -> None:
    """Write the index and the manifest of finished shards: the memory can be opened from now on."""
    folder, build, files = state.folder, state.build, state.journal.files

    def shards() -> Iterator[Shard]:
        return (Shard.map(folder / name, build, count) for name, count in state.shards.items())

    tokens = sum(len(shard.tokens) for shard in shards())
    write_tensors(folder / INDEX, Index.of(shards())._asdict(), metadata(INDEX, build))
    files = {name: files[name] for name in state.shards} | {INDEX: entry_of(folder / INDEX)}
    write_json(folder / MANIFEST, Manifest(build, tokens, files).to_json())


def _check_settings(dtype: str, shard_passages: int) -> None:
    if dtype not in DTYPES:
        raise InputError("memory build: dtype", f"one of {', '.join(DTYPES)}", repr(dtype))
    if shard_passages < 1:
        raise InputError("memory build: shard_passages", "at least 1", str(shard_passages))


def build(
    ops: Ops,
    model: Model,
    tokenizer: Tokenizer,
    passages_path: str | Path,
    folder: str | Path,
    dtype: str = "float32",
    shard_passages: int = 512,
    show: Show = progress,
    workers: Workers | None = None,
) -> Built:
    """Pre-compute MemEnc of a JSON-lines file of passages into a folder.

    A build that is killed leaves finished shards and no manifest. The next run keeps these shards and makes the
    others; the bytes are the same, however many workers there are. The SHA-256 of each shard is recorded when it is
    finished. Every later run reads all files and compares them with these records, even if the memory is finished.
    Main memory holds each shard until it is written, and the ids of all passages.

    Args:
        dtype: "float32", "float16", "bfloat16" or "int8".
        shard_passages: passages in each shard; the last may have fewer.
        workers: the workers that encode the shards; this process encodes them if none are given.

    Raises:
        InputError: broken passages; a folder that holds anything else, another build or a running one; memory that
            is not finite in `dtype`; a full disk or missing permission; shards that workers could not make.
    """
    _check_settings(dtype, shard_passages)
    source, path = read_source(passages_path), Path(folder)
    facts = build_facts(ops, model, tokenizer.digest, dtype, source.passages, source.sha256, shard_passages)
    with lock_folder(path, _check_folder):
        state = _BuildState(path, facts, show)
        done = state.done
        if done < source.passages:
            if workers is None:
                _write_here(ops, model, tokenizer, source, state, show)
            else:
                _write_elsewhere(workers, source, state, show)
        if not state.whole:
            _seal(state)
        state.journal.end()
        (path / QUARANTINE).unlink(missing_ok=True)
    return Built(Memory.open(folder), source.passages - done)
