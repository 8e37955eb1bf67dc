"""The file of all tests: one line for each, with what it was made from, so that trainings are done once for all.

A line counts only if its recipe, base and world are the present ones. Other lines stay in the file and are reported.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from miniature.recipes import SHORT
from miniature.structure import Point, Training

from glimmer_ref.data.json_lines import read_jsonl
from glimmer_ref.disk.facts import digest_of
from glimmer_ref.disk.read import read_json
from glimmer_ref.disk.write import sha256, write_text
from glimmer_ref.errors import InputError

FILE = "trends-runs.jsonl"
Record = Mapping[str, Any]
Key = tuple[str, int, str, int, int]  # training, seed, system, k, m
KEYS = ("training", "seed", "system", "k", "m", "exact_match", "samples_per_tflop", "tasks", "recipe", "base", "world")


class Source(NamedTuple):
    """Digests of what trainings start from and learn from.

    Args:
        bases: of the weights for each `Training.start`.
        world: of the world's files.
    """

    bases: Mapping[str, str]
    world: str


def source_of(starts: Mapping[str, Path], data: Path) -> Source:
    """The digests of the bases' folders, and of a world's folder.

    The worlds for pre-training are left out: they made the base, and no training here reads them.

    Raises:
        InputError: a folder is not what it should be.
    """
    about = read_json(data / "world.json")
    if not isinstance(about, dict) or not isinstance(about.get("sha256"), dict):
        raise InputError(f"{data / 'world.json'}", "what `glimmer-ref world` writes", "something else")
    files = {name: x for name, x in about["sha256"].items() if not name.startswith("pretrain-")}
    bases = {name: sha256(folder / "model.safetensors")[:SHORT] for name, folder in starts.items()}
    return Source(bases, digest_of(files)[:SHORT])


def key_of(training: Training, seed: int, point: Point) -> Key:
    """The key of a test."""
    return training.name, seed, point.system, point.k, point.m


def read(path: Path) -> list[Record]:
    """All lines of the file; none if there is no file.

    Raises:
        InputError: a line is not the record of a test.
    """
    records: list[Record] = []
    for place, record in read_jsonl(path) if path.exists() else ():
        if missing := [name for name in KEYS if name not in record]:
            raise InputError(place, "a test with all its keys", f"none {', '.join(missing)}")
        records.append(record)
    return records


def append(path: Path, record: Record) -> None:
    """Append one line: the file is complete before and after. Only one command at a time may write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_text("utf-8") if path.exists() else ""
    write_text(path, f"{before}{json.dumps(record, allow_nan=False)}\n")


class Sorted(NamedTuple):
    """The tests that count, by key, the later of two lines with the same; and why the others do not."""

    kept: dict[Key, Record]
    ignored: list[str]


def select(
    records: Sequence[Record],
    digest: Callable[[str, int], str | None],
    start: Callable[[str], str | None],
    source: Source | None = None,
) -> Sorted:
    """Which lines count.

    Args:
        digest: the present digest of a training's recipe with a seed; None for a training that does not exist.
        start: what a training starts from.
        source: the present bases and world; None: those of the last lines whose recipe is the present one.
    """
    digests = {pair: digest(*pair) for pair in {(r["training"], r["seed"]) for r in records}}

    def is_present(r: Record) -> bool:
        return digests[r["training"], r["seed"]] == r["recipe"] is not None

    present = [r for r in records if is_present(r)]
    if source is None and present:
        source = Source({str(start(r["training"])): r["base"] for r in present}, present[-1]["world"])
    kept: dict[Key, Record] = {}
    ignored: dict[str, int] = {}
    for r in records:
        now = {} if source is None else {"base": source.bases.get(str(start(r["training"]))), "world": source.world}
        other = [name for name, known in now.items() if r[name] != known]
        name = f"{r['training']}, seed {r['seed']}"
        if digests[r["training"], r["seed"]] is None:
            why = f"{name}: no such training"
        elif not is_present(r) or other:
            why = f"{name}: another {', '.join(['recipe'] * (not is_present(r)) + other)}"
        else:
            kept[r["training"], r["seed"], r["system"], r["k"], r["m"]] = r
            continue
        ignored[why] = ignored.get(why, 0) + 1
    return Sorted(kept, [f"{why} ({n} line{'s' * (n > 1)})" for why, n in ignored.items()])
