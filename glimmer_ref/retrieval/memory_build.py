"""Building the stored memory: a file of passages in, shard by shard of MemEnc out, in a folder that resumes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import safe_open

from ..disk.write import sha256, write_text
from ..errors import Refused
from ..ops import Ops
from ..params.tensors import map_tensors, write_tensors
from ..params.tree import Model
from ..progress import Show, progress
from ..text.inputs import Passage, read_passages
from ..text.tokenizer import Tokenizer
from .encode import encode_shard
from .lock import LOCK, held
from .manifest import (
    INDEX,
    MANIFEST,
    QUARANTINE,
    RESTORE,
    Manifest,
    build_facts,
    difference,
    metadata,
    shard_name,
)
from .memory import Memory
from .memory_workers import Failure, Workers, parts, spread
from .rows import DTYPES
from .shards import Index, Shard
from .source import Source, read_source

NAMES = "|".join(map(re.escape, (MANIFEST, INDEX, LOCK, QUARANTINE)))
OURS = re.compile(rf"{NAMES}|shard-\d{{5,}}\.safetensors")
LEFT_OVER = re.compile(rf"\.({OURS.pattern})\.[0-9a-f]{{32}}")  # files that a killed build was writing


class Built(NamedTuple):
    """A memory that was built, and how many of its passages were encoded now, the others before."""

    memory: Memory
    encoded: int


def _check_folder(folder: str | Path) -> None:
    """Refuse a folder in which there is anything but a memory, before touching it."""
    for entry in sorted(Path(folder).iterdir()):
        if not (OURS.fullmatch(entry.name) or LEFT_OVER.fullmatch(entry.name)):
            raise Refused(str(folder), "a folder of its own for the memory", entry.name, "name another, or a new one")


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
    names = {p.name for p in folder.iterdir() if OURS.fullmatch(p.name)} - {LOCK, QUARANTINE}
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


def _write_here(
    ops: Ops, model: Model, tokenizer: Tokenizer, source: Source, folder: Path, build: dict[str, Any],
    finished: set[str], done: int, show: Show,
) -> None:  # fmt: skip
    """Encode the passages of all shards that are not there yet, in this process."""
    size, tokens = build["shard_passages"], 0

    def missing() -> Iterator[tuple[str, Passage]]:
        for row, passage in enumerate(read_passages(source.path)):
            if shard_name(row // size) not in finished:
                yield shard_name(row // size), passage

    shown = show(missing(), source.passages, "memory", done, lambda: tokens, "tokens")
    for name, group in groupby(shown, key=lambda pair: pair[0]):
        shard = encode_shard(ops, model, tokenizer, (passage for _, passage in group), build["dtype"])
        source.check()
        write_tensors(folder / name, shard.arrays(), metadata(name, build))
        tokens += len(shard.tokens)


def _write_elsewhere(
    workers: Workers, source: Source, folder: Path, build: dict[str, Any], finished: set[str], done: int, show: Show
) -> None:
    """The same by `workers`, whose shards come in any order; one that fails again and again is left out and told.

    Raises:
        Refused: shards that failed, when all others are there.
    """
    tokens, failed = 0, dict[str, Failure]()

    def passages() -> Iterator[None]:
        nonlocal tokens
        lacking = (p for p in parts(source.path, build["shard_passages"]) if shard_name(p.number) not in finished)
        for written in spread(workers, lacking, str(source.path), folder, build, source.check, failed):
            tokens += written.tokens
            yield from [None] * written.passages

    for _ in show(passages(), source.passages, "memory", done, lambda: tokens, "tokens"):
        pass
    _sweep(folder)  # of workers that were killed
    if failed:
        write_text(folder / QUARANTINE, json.dumps({n: f._asdict() for n, f in failed.items()}, indent=1) + "\n")
        name, first = min(failed.items())
        raise Refused(
            f"{folder}: {len(failed)} shard{'s' * (len(failed) > 1)}", "every shard after some tries",
            f"{name}: {first.error}",
            f"see {QUARANTINE}; the others are kept: mend it, and run the same command again",
        )  # fmt: skip


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
    write_tensors(folder / INDEX, Index.of(shards())._asdict(), metadata(INDEX, build))
    files = {}
    for name in show([*names, INDEX], len(names) + 1, "checksums"):
        files[name] = {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)}
        if name in finished and files[name] != known.get(name, files[name]):
            raise Refused(str(folder / name), f"SHA-256 {known[name]['sha256']}", "another", RESTORE)
    write_text(folder / MANIFEST, json.dumps(Manifest(build, tokens, files).to_json(), indent=1) + "\n")
    (folder / QUARANTINE).unlink(missing_ok=True)


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
    workers: Workers | None = None,
) -> Built:
    """Pre-compute MemEnc of a JSON-lines file of passages into a folder.

    Killed at any moment, it leaves finished shards and no manifest; run again, it keeps them and
    makes the rest, with the same bytes, by as many workers as there are. A shard is held in RAM until
    it is written; the ids of all passages are, too.

    Args:
        dtype: "float32", "float16", "bfloat16" or "int8".
        shard_passages: passages of a file, all but the last.
        workers: who encodes; this process if not given.

    Raises:
        Refused: broken passages; a folder with anything else in it, another build or a running one;
            memory that is not finite in `dtype`; no room or permission to write; shards that workers
            could not make.
    """
    _check_settings(dtype, shard_passages)
    source, path = read_source(passages_path), Path(folder)
    facts = build_facts(ops, model, tokenizer.digest, dtype, source.passages, source.sha256, shard_passages)
    with held(path, _check_folder):
        finished = _finished(path, facts)
        _sweep(path)
        done = sum(
            min(shard_passages, source.passages - i)
            for i in range(0, source.passages, shard_passages)
            if shard_name(i // shard_passages) in finished
        )
        if done < source.passages:
            if workers is None:
                _write_here(ops, model, tokenizer, source, path, facts, finished, done, show)
            else:
                _write_elsewhere(workers, source, path, facts, finished, done, show)
        if done < source.passages or not finished >= {MANIFEST, INDEX}:
            _seal(path, facts, finished, show)
    return Built(Memory.open(folder), source.passages - done)
