"""Building the stored memory: a file of passages in, shard by shard of MemEnc out, in a folder that resumes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import safe_open

from ..errors import Refused
from ..ops import PRECISIONS, Ops
from ..params.tensors import map_tensors, write_tensors
from ..params.tree import Model, computed_in
from ..progress import progress
from ..text.inputs import Passage, read_passages
from ..text.tokenizer import Tokenizer
from .encode import check_unicode, encode_shard
from .manifest import INDEX, LOCK, MANIFEST, RESTORE, VERSION, Manifest, difference, encoder_facts, sha256, shard_name
from .memory import Memory, Show
from .rows import DTYPES
from .shards import Index, Shard

OURS = re.compile(rf"{re.escape(MANIFEST)}|{re.escape(INDEX)}|{re.escape(LOCK)}|shard-\d{{5,}}\.safetensors")
LEFT_OVER = re.compile(rf"\.({OURS.pattern})\.[0-9a-f]{{32}}")  # files that a killed build was writing


class Built(NamedTuple):
    """A memory that was built, and how many of its passages were encoded now, the others before."""

    memory: Memory
    encoded: int


class _Source(NamedTuple):
    """A passages file that was read once: how many passages, its SHA-256, and what tells that it changed."""

    path: str | Path
    passages: int
    sha256: str
    stamp: tuple[int, ...]

    def check(self) -> None:
        if _stamp(self.path) != self.stamp:
            do = "run the same command again once nobody writes to it"
            raise Refused(str(self.path), "a file that stays as it is during the build", "a change", do)


def _stamp(path: str | Path) -> tuple[int, ...]:
    try:
        stat = os.stat(path)
    except OSError as error:
        raise Refused(str(path), "a readable file", error.strerror or type(error).__name__) from None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _read_source(path: str | Path) -> _Source:
    """The first of two readings: every line is checked before anything is encoded."""
    stamp = _stamp(path)
    if not Path(path).is_file():
        raise Refused(str(path), "a regular file, which is read twice", "another kind")
    count = 0
    for passage in read_passages(path):
        check_unicode(passage)
        count += 1
    if not count:
        raise Refused(str(path), "at least one passage", "none")
    return _Source(path, count, sha256(Path(path)), stamp)


def _check_folder(folder: str | Path) -> None:
    """Refuse a folder in which there is anything but a memory, before touching it."""
    for entry in sorted(Path(folder).iterdir()):
        if not (OURS.fullmatch(entry.name) or LEFT_OVER.fullmatch(entry.name)):
            raise Refused(str(folder), "a folder of its own for the memory", entry.name, "name another, or a new one")


@contextmanager
def _flock(folder: str | Path) -> Iterator[None]:
    """Hold a folder against a second build; the lock ends with the process, however it ends."""
    import fcntl

    path = Path(folder) / LOCK
    with open(path, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = path.stat().st_ino == os.fstat(file.fileno()).st_ino
        except (BlockingIOError, FileNotFoundError):
            mine = False
        if not mine:  # held by another, or removed by another that held it a moment ago
            raise Refused(str(folder), "one build at a time", "another at work", "wait until it is done")
        try:
            yield
        finally:
            path.unlink()


@contextmanager
def _locked(folder: str | Path) -> Iterator[None]:
    """A folder of our own, made if there is none, held while the block runs.

    Raises:
        Refused: other files in it, another build at work, or no room or permission to write.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        _check_folder(folder)
        with _flock(folder):
            yield
    except OSError as error:
        place = error.filename if isinstance(error.filename, str) else str(folder)
        raise Refused(place, "a place that can be written", error.strerror or type(error).__name__) from None


def _record(path: Path) -> dict[str, Any]:
    """The build that a shard or a manifest belongs to."""
    if path.name == MANIFEST:
        return Manifest.read(path).build
    map_tensors(path)  # refuses what is damaged
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
    try:
        record = json.loads(metadata.get("build", ""))
    except ValueError:
        record = None
    if not isinstance(record, dict) or metadata.get("file") != path.name:
        raise Refused(str(path), "a file of: glimmer-ref memory build", "another", "name another folder")
    return record


def _finished(folder: Path, build: dict[str, Any]) -> set[str]:
    """The files that an earlier run of the same build left finished.

    Raises:
        Refused: files of another build; nothing is deleted.
    """
    names = {p.name for p in folder.iterdir() if OURS.fullmatch(p.name) and p.name != LOCK}
    for name in sorted(names):
        differs = difference(build, _record(folder / name))
        if differs:
            raise Refused(
                f"{folder / name}",
                f"a build of the same memory, {differs[0]}",
                differs[1],
                "nothing was changed; name another folder",
            )
    return names


def _sweep(folder: Path) -> None:
    """Remove what a killed run of this build was writing."""
    for path in folder.iterdir():
        if LEFT_OVER.fullmatch(path.name):
            path.unlink()


def _write_shards(
    ops: Ops,
    model: Model,
    tokenizer: Tokenizer,
    source: _Source,
    folder: Path,
    build: dict[str, Any],
    finished: set[str],
    show: Show,
) -> int:
    """Encode the passages of all shards that are not there yet; returns how many."""
    size = build["shard_passages"]

    def missing() -> Iterator[tuple[str, Passage]]:
        for row, passage in enumerate(read_passages(source.path)):
            if shard_name(row // size) not in finished:
                yield shard_name(row // size), passage

    done = sum(
        min(size, source.passages - i) for i in range(0, source.passages, size) if shard_name(i // size) in finished
    )
    shown = show(missing(), source.passages, "memory", done)
    for name, group in groupby(shown, key=lambda pair: pair[0]):
        shard = encode_shard(ops, model, tokenizer, (passage for _, passage in group), build["dtype"])
        source.check()
        write_tensors(folder / name, shard.arrays(), _metadata(name, build))
    return source.passages - done


def _metadata(name: str, build: dict[str, Any]) -> dict[str, str]:
    return {"build": json.dumps(build, sort_keys=True), "file": name}


def _seal(folder: Path, build: dict[str, Any], finished: set[str], show: Show) -> None:
    """Write index and manifest over finished shards: from now on the memory opens.

    Where there is a manifest already, files were lost and made again: the others must be as it says.
    """
    known = Manifest.read(folder / MANIFEST).files if MANIFEST in finished else {}
    count, size, d = build["passages"], build["shard_passages"], build["encoder"]["d_model"]
    names = [shard_name(i) for i in range(-(-count // size))]

    def shards() -> Iterator[Shard]:
        for i, name in enumerate(names):
            yield Shard.map(folder / name, build["dtype"], min(size, count - i * size), d)

    tokens = sum(len(shard.tokens) for shard in shards())
    write_tensors(folder / INDEX, Index.of(shards())._asdict(), _metadata(INDEX, build))
    files = {}
    for name in show([*names, INDEX], len(names) + 1, "checksums"):
        files[name] = {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)}
        if name in finished and files[name] != known.get(name, files[name]):
            raise Refused(str(folder / name), f"SHA-256 {known[name]['sha256']}", "another", RESTORE)
    _write_text(folder / MANIFEST, json.dumps(Manifest(build, tokens, files).to_json(), indent=1) + "\n")


def _write_text(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.urandom(16).hex()}")
    try:
        with open(temporary, "x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _check_settings(dtype: str, shard_passages: int) -> None:
    if dtype not in DTYPES:
        raise Refused("memory build: dtype", f"one of {', '.join(DTYPES)}", repr(dtype))
    if shard_passages < 1:
        raise Refused("memory build: shard_passages", "at least 1", str(shard_passages))


def build(
    ops: Ops,
    model: Model,
    tokenizer: Tokenizer,
    passages_path: str | Path,
    folder: str | Path,
    dtype: str = "float32",
    shard_passages: int = 512,
    show: Show = progress,
) -> Built:
    """Pre-compute MemEnc of a JSON-lines file of passages into a folder.

    Killed at any moment, it leaves finished shards and no manifest; run again, it keeps them and
    makes the rest, with the same bytes. A shard is held in RAM until it is written.

    Args:
        dtype: "float32", "float16", "bfloat16" or "int8".
        shard_passages: passages of a file, all but the last.

    Raises:
        Refused: broken passages; a folder with anything else in it, another build or a running one;
            memory that is not finite in `dtype`; no room or permission to write.
    """
    _check_settings(dtype, shard_passages)
    source, path = _read_source(passages_path), Path(folder)
    facts = {
        "version": VERSION,
        "encoder": encoder_facts(ops, model, tokenizer.digest),
        "dtype": dtype,
        "passages": source.passages,
        "passages_sha256": source.sha256,
        "shard_passages": shard_passages,
    }
    if computed_in(model) in PRECISIONS[1:]:  # other bytes, and an honest memory says so
        facts["precision"] = computed_in(model)
    with _locked(folder):
        finished = _finished(path, facts)
        _sweep(path)
        encoded = _write_shards(ops, model, tokenizer, source, path, facts, finished, show)
        if encoded or not finished >= {MANIFEST, INDEX}:
            _seal(path, facts, finished, show)
    return Built(Memory.open(folder), encoded)
