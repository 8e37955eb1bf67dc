"""The manifest of a stored memory: the weights, passages and dtype that made it, and the checksums of its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..disk.facts import difference
from ..disk.journal import RESTORE
from ..disk.read import parse_json, read_json
from ..errors import InputError, brief
from ..ops import PRECISIONS, Ops
from ..params.digest import weights_digest
from ..params.model import Model, computed_in, leaves
from ..params.safetensors_io import shard_name
from .quantized import DTYPES

VERSION = 1
FORMAT = "glimmer-ref memory"
MANIFEST = "manifest.json"
INDEX = "index.safetensors"
QUARANTINE = "quarantine.json"
T5_FACTS = (
    "vocab_size",
    "d_model",
    "d_kv",
    "d_ff",
    "num_heads",
    "relative_attention_num_buckets",
    "relative_attention_max_distance",
    "layer_norm_epsilon",
    "feed_forward_proj",
)


def encoder_facts(ops: Ops, model: Model, tokenizer_digest: str) -> dict[str, Any]:
    """Everything that decides MemEnc(Passage): sizes, limits, text format, tokenizer, weights.

    The weights are the embedding and those of the memory encoder, as float32 for every dtype of the model. The live
    encoder, the decoder and the score do not matter: they may change.
    """
    config = model.config
    memory = {"embedding": model.embedding, **{f"memory.{name}": x for name, x in leaves(model.memory).items()}}
    return {name: getattr(config.t5, name) for name in T5_FACTS} | {
        "num_memory_layers": config.num_memory_layers,
        "passage_tokens": config.passage_tokens,
        "passage_eos": config.t5.eos_token_id if config.passage_eos else None,
        "passage_format": config.passage_format,
        "tokenizer": tokenizer_digest,
        "weights": weights_digest(ops, memory),
    }


def build_facts(
    ops: Ops, model: Model, tokenizer_digest: str, dtype: str, passages: int, passages_sha256: str, shard_passages: int
) -> dict[str, Any]:
    """All facts that decide the bytes of a build, as its files record them."""
    facts = {
        "version": VERSION,
        "encoder": encoder_facts(ops, model, tokenizer_digest),
        "dtype": dtype,
        "passages": passages,
        "passages_sha256": passages_sha256,
        "shard_passages": shard_passages,
    }
    if computed_in(model) in PRECISIONS[1:]:  # the bytes differ, so the memory records it
        facts["precision"] = computed_in(model)
    return facts


def metadata(name: str, build: Mapping[str, Any]) -> dict[str, str]:
    """The metadata in the header of a file: its own name, and the build that it belongs to."""
    return {"build": json.dumps(build, sort_keys=True), "file": name}


def build_of(path: Path, header: Mapping[str, str]) -> dict[str, Any]:
    """The build that a file belongs to, from its header.

    Raises:
        InputError: the header names no build, or another file.
    """
    try:
        record = parse_json(header.get("build", ""), str(path))
    except InputError:
        record = None
    if not isinstance(record, dict) or header.get("file") != path.name:
        raise InputError(str(path), "a file that glimmer-ref memory build wrote", "another file", "name another folder")
    return record


def check_build(path: Path, header: Mapping[str, str], build: Mapping[str, Any]) -> None:
    """Compare the header of a file with the build that it should belong to.

    Raises:
        InputError: the header of another file or build; names the first fact that differs.
    """
    if header == metadata(path.name, build):
        return
    theirs = build_of(path, header)
    ours, other = difference(build, theirs) or ("the same metadata", "other metadata")
    do = f"this file or {MANIFEST} was changed: restore it, or build into a new folder"
    raise InputError(f"{path}", f"a file of {MANIFEST}'s build, {ours}", other, do)


def passages_of(build: Mapping[str, Any], number: int) -> int:
    """How many passages a shard of a build has."""
    size: int = build["shard_passages"]
    return min(size, build["passages"] - number * size)


def _field(path: Path, record: Any, name: str, kind: type[Any], least: int = 0) -> Any:
    """A field of the manifest, checked against the type that it must have."""
    words = {int: f"a whole number of at least {least}", str: "a string", dict: "an object"}[kind]
    value: Any = record.get(name) if isinstance(record, dict) else None
    if type(value) is not kind or (kind is int and value < least):
        raise InputError(f"{path}: {name}", words, brief(value, 40), RESTORE)
    return value


@dataclass(frozen=True)
class Manifest:
    """The facts that decide the bytes of a memory, and the files that it has.

    Args:
        build: the facts that decide its bytes: `version` of the format, `encoder` (see `encoder_facts`), `dtype`,
            `passages` and `passages_sha256` (of the file), `shard_passages` in all shards but the last, and
            `precision` if matrix products were computed in a lower one than float32.
        tokens: the number of tokens in all passages together.
        files: name -> {"bytes", "sha256"} of each shard and of the index.
    """

    build: dict[str, Any]
    tokens: int
    files: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read the manifest from a file.

        Raises:
            InputError: the file is unreadable, of another version, or contradicts itself.
        """
        try:
            data = read_json(path, "a manifest in JSON")
        except InputError as error:
            raise error.at(do=RESTORE) from None
        build = _field(path, data, "build", dict)
        version = _field(path, build, "version", int)
        if version != VERSION:
            do = "build the memory again with this program, or use the one that made it"
            raise InputError(str(path), f"version {VERSION}", f"version {version}", do)
        manifest = cls(build, _field(path, data, "tokens", int), _field(path, data, "files", dict))
        if data.keys() != {"format", *vars(manifest)} or data["format"] != FORMAT:
            raise InputError(str(path), f"the fields of a {FORMAT}", ", ".join(data)[:80], RESTORE)
        manifest._check(path)
        return manifest

    def _check(self, path: Path) -> None:
        build = self.build
        for name in ("passages", "shard_passages"):
            _field(path, build, name, int, 1)
        _field(path, build, "passages_sha256", str)
        if _field(path, build, "dtype", str) not in DTYPES:
            raise InputError(f"{path}: dtype", f"one of {', '.join(DTYPES)}", repr(build["dtype"]))
        encoder = _field(path, build, "encoder", dict)
        _field(path, encoder, "d_model", int, 1)
        _field(path, encoder, "num_memory_layers", int, 0)
        count = self.shards + 1
        if len(self.files) != count or set(self.files) != {INDEX, *(shard_name(i) for i in range(count - 1))}:
            raise InputError(f"{path}: files", f"{count - 1} shards and an index", f"{len(self.files)} files", RESTORE)
        for entry in self.files.values():
            _field(path, entry, "bytes", int, 1)
            _field(path, entry, "sha256", str)

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return -(-self.build["passages"] // self.build["shard_passages"])

    @property
    def numbers(self) -> range:
        """The numbers of the shards."""
        return range(self.shards)

    def passages_of(self, number: int) -> int:
        """How many passages a shard has."""
        return passages_of(self.build, number)

    def to_json(self) -> dict[str, Any]:
        """What the file holds."""
        return {"format": FORMAT, **vars(self)}
