"""The targets of fuzzing: each reader, with valid files to start from."""

from __future__ import annotations

import io
import json
import random
import shutil
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hostile import mutated_bytes, mutated_json, mutated_lines

from glimmer_ref.cli import main
from glimmer_ref.config import GlimmerConfig, T5Config
from glimmer_ref.data.inputs import read_passages, read_questions
from glimmer_ref.data.kilt import read_knowledge, read_task
from glimmer_ref.disk.read import parse_json
from glimmer_ref.golden import check
from glimmer_ref.inference.reader import bundled, load
from glimmer_ref.memory.build import build
from glimmer_ref.memory.manifest import Manifest
from glimmer_ref.memory.store import Memory
from glimmer_ref.params.safetensors_io import FLOATS, map_tensors, write_tensors
from glimmer_ref.params.torch_checkpoint import read_torch
from glimmer_ref.text.sentencepiece import tokenizer_json
from glimmer_ref.training.recipe_file import RECIPES, read_recipe

DATA = Path(__file__).resolve().parent.parent / "fixtures"
Make = Callable[[random.Random, Path], Callable[[], Any]]


@dataclass(frozen=True)
class Target:
    """A reader: `prepared` writes a hostile file into a folder, and returns the function that reads it."""

    name: str
    prepared: Make
    silent: bool = True


SHARES = {"golden": 0.2, "cli": 0.1}  # these get only so many runs, relative to the others, since each takes longer


def quiet(items: Iterable[Any], *more: Any, **words: Any) -> Iterable[Any]:
    """Replaces `progress`, without a progress line."""
    return items


def _of_file(name: str, content: Callable[[random.Random], bytes], read: Callable[[Path], Any]) -> Target:
    """The target of a reader of one file."""

    def prepared(rng: random.Random, folder: Path) -> Callable[[], Any]:
        path = folder / f"hostile-{name}"
        path.write_bytes(content(rng))
        return lambda: read(path)

    return Target(name, prepared)


def safetensors(folder: Path) -> Target:
    """Safetensors files, mapped and decoded."""
    arrays = {"a.weight": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.array([1, 2], np.int64)}
    write_tensors(folder / "seed", arrays, {"of": "a test"})
    raw = (folder / "seed").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]

    def content(rng: random.Random) -> bytes:
        if rng.random() < 0.4:
            return mutated_bytes(rng, raw)
        text = mutated_json(rng, header)
        return len(text).to_bytes(8, "little") + text + data

    def read(path: Path) -> None:
        for x in map_tensors(path).values():
            if x.dtype in FLOATS:
                x.decode()

    return _of_file("safetensors", content, read)


def torch_bin(folder: Path) -> Target:
    """PyTorch checkpoints: the archive or the pickle in it is changed."""
    raw = (DATA / "tiny_torch.bin").read_bytes()
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        parts = {info.filename: archive.read(info) for info in archive.infolist()}
    pickle = next(name for name in parts if name.endswith("data.pkl"))

    def content(rng: random.Random) -> bytes:
        if rng.random() < 0.3:
            return mutated_bytes(rng, raw)
        result = io.BytesIO()
        with zipfile.ZipFile(result, "w") as archive:
            for name, part in parts.items():
                archive.writestr(name, mutated_bytes(rng, part) if name == pickle else part)
        return result.getvalue()

    return _of_file("torch_bin", content, read_torch)


def sentencepiece(folder: Path) -> Target:
    """spiece.model."""
    raw = (DATA / "tiny_spiece.model").read_bytes()
    return _of_file("sentencepiece", lambda rng: mutated_bytes(rng, raw), tokenizer_json)


def _records(path: Path, count: int) -> list[Any]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(next(file)) for _ in range(count)]


def jsonl(folder: Path) -> Target:
    """Passages, questions, pages and tasks."""
    page = {"wikipedia_id": "7", "wikipedia_title": "A", "text": ["A\n", "b c.\n"], "anchors": [{"href": "x"}]}
    files = {"passages": _records(bundled() / "passages.jsonl", 3), "pages": [page, page | {"wikipedia_id": 8}]}
    files["questions"] = files["tasks"] = _records(bundled() / "questions.jsonl", 3)
    readers: dict[str, Callable[[Path], Any]] = {
        "passages": read_passages, "questions": read_questions, "pages": read_knowledge, "tasks": read_task,
    }  # fmt: skip

    def prepared(rng: random.Random, folder: Path) -> Callable[[], Any]:
        kind = rng.choice(list(files))
        (folder / "lines.jsonl").write_bytes(mutated_lines(rng, files[kind]))
        return lambda: list(readers[kind](folder / "lines.jsonl"))

    return Target("jsonl", prepared)


def recipe(folder: Path) -> Target:
    """Recipes, and the changes of --set."""
    seeds = [path.read_bytes() for path in sorted(RECIPES.glob("*.toml"))]
    changes = ["seed=3", "stages.0.rate=0.001", "extends=mini", "every_stage.k=[1", "a.b.c=1", "stages.99.m=x", "=", ""]

    def prepared(rng: random.Random, folder: Path) -> Callable[[], Any]:
        (folder / "recipe.toml").write_bytes(mutated_bytes(rng, rng.choice(seeds)))
        some = [rng.choice(changes)] if rng.random() < 0.3 else []
        return lambda: read_recipe(folder / "recipe.toml", some)

    return Target("recipe", prepared)


def config(folder: Path) -> Target:
    """config.json, in our form and in T5's."""
    seed = json.loads((bundled() / "config.json").read_text("utf-8"))

    def read(path: Path) -> None:
        data = parse_json(path.read_bytes(), "config.json")
        GlimmerConfig.from_json(data)
        T5Config.from_json(data)

    return _of_file("config", lambda rng: mutated_json(rng, seed), read)


def manifest(folder: Path) -> Target:
    """A stored memory with one changed file: it is opened, read, and verified by its checksums."""
    reader = load(ops="numpy")
    few = (bundled() / "passages.jsonl").read_text("utf-8").splitlines()[:7]
    (folder / "passages.jsonl").write_text("\n".join(few), "utf-8")
    memory = folder / "memory"
    build(reader.ops, reader.model, reader.tokenizer, folder / "passages.jsonl", memory, shard_passages=3, show=quiet)
    whole = {path.name: path.read_bytes() for path in memory.iterdir()}
    document = json.loads(whole["manifest.json"])

    def prepared(rng: random.Random, folder: Path) -> Callable[[], Any]:
        name = rng.choice(["manifest.json"] * 3 + sorted(whole))
        for other, content in whole.items():
            (memory / other).write_bytes(content)
        changed = mutated_json(rng, document) if name == "manifest.json" else mutated_bytes(rng, whole[name])
        (memory / name).write_bytes(changed)
        return opened

    def opened() -> None:
        Manifest.read(memory / "manifest.json")
        some = Memory.open(memory)
        some.read([0, len(some) - 1])
        some.verify(quiet)

    return Target("manifest", prepared)


def golden(folder: Path) -> Target:
    """The text of a golden case, and the outputs of an implementation."""
    case = folder / "case"
    shutil.copytree(check.CASES / "encoder_long", case)
    about, outputs = json.loads((case / "case.json").read_text("utf-8")), (case / check.FILES[2]).read_bytes()

    def prepared(rng: random.Random, folder: Path) -> Callable[[], Any]:
        if rng.random() < 0.5:
            (case / "case.json").write_bytes(mutated_json(rng, about))
            return lambda: check.open_case(case)
        (folder / "outputs.safetensors").write_bytes(mutated_bytes(rng, outputs))
        return lambda: list(check.check("encoder_long", folder / "outputs.safetensors").lines())

    return Target("golden", prepared)


WORDS = (
    "flops", "sweep", "breakeven", "figure2", "storage", "latency", "published", "golden", "list", "show", "check",
    "trace", "memory", "info", "plan", "index", "convert", "retrieve", "chunks", "--size", "xxl", "base", "--k", "--m",
    "25", "5", "0", "-1", "1e9", "9" * 30, "k=5:40", "m=1,5", "k=1:999999999", "--alpha", "--beta", "1/3", "1/0", "2/1",
    "nan", "--json", "--csv", "--system", "lumen", "--out", "", "\0", "\x1b[31m", "\udcff", "--passages", "--memory",
    "--index", "--weights", "here", "/", ".", "..", "--batch", "--hardware", "h100", "--dtype", "int8", "--help",
    "serve", "--qps", "--devices", "--efficiency", "21000000", "--inputs", "--only", "(", "--threads", "--ops", "numpy",
    "--gtr", "a/b", "--set", "x=1",
)  # fmt: skip


COMMANDS = (
    "flops", "golden check", "golden show", "memory info", "memory plan --ops numpy", "index info", "trace", "convert",
    "retrieve", "chunks", "ask --weights nowhere",
)  # fmt: skip


def cli(folder: Path) -> Target:
    """Command lines: commands that only read, or whose input is missing."""

    def prepared(rng: random.Random, folder: Path) -> Callable[[], Any]:
        words = [*rng.choice(COMMANDS).split(), *(rng.choice(WORDS) for _ in range(rng.randrange(7)))]

        def call() -> None:
            code = main(words)
            if code not in (0, 1, 2):
                raise AssertionError(f"exit code {code} of {words}")

        return call

    return Target("cli", prepared, silent=False)


TARGETS: dict[str, Callable[[Path], Target]] = {
    make.__name__: make
    for make in (safetensors, torch_bin, sentencepiece, jsonl, recipe, config, manifest, golden, cli)
}
