"""A small stored memory for tests: passages, a tokenizer, a model, and functions that inspect or edit its files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
import tokenizers

from glimmer_ref.data.inputs import Passage
from glimmer_ref.errors import InputError
from glimmer_ref.text.tokenizer import Tokenizer

NUMPY = models.NUMPY
WORDS = [*"abcdefghijklmnopqrstuvwxyz:0123456789", "title", "context"]
CONFIG = models.config(passage_tokens=20)
MODEL = models.model(NUMPY, CONFIG, dtype="float32")


def make_passages(count: int, seed: int = 0) -> list[Passage]:
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 25))) for _ in range(count)]
    return [Passage(f"p{i * 7 % count}ü", "z y" if i % 3 else "", text) for i, text in enumerate(texts)]


PASSAGES = make_passages(11)


def write_tokenizer(path: Path, words: list[str] = WORDS) -> Tokenizer:
    inner = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({w: i for i, w in enumerate(["<pad>", "</s>", "<unk>", *words])}, "<unk>")
    )
    inner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    inner.save(str(path))
    return Tokenizer(path)


def write_passages(path: Path, passages: Iterable[Passage] = PASSAGES) -> Path:
    path.write_text("".join(json.dumps(vars(p)) + "\n" for p in passages), encoding="utf-8")
    return path


def quiet(items: Iterable[Any], total: int, what: str, done: int = 0, *more: Any) -> Iterable[Any]:
    return items


def refused(text: str) -> Any:
    """The block must raise an InputError of one line that contains `text`."""
    return pytest.raises(InputError, match=f"(?s)^(?!.*\n).*{text}")


def made_of(folder: Path) -> dict[str, Any]:
    """The build that a memory's files belong to."""
    build: dict[str, Any] = json.loads((folder / "manifest.json").read_text())["build"]
    return build


def edit(folder: Path, **changes: Any) -> None:
    """Change the manifest: name__inner=value."""
    path = folder / "manifest.json"
    data = json.loads(path.read_bytes())
    for name, value in changes.items():
        at, *inner = name.split("__")
        if inner:
            data[at][inner[0]] = value
        else:
            data[at] = value
    path.write_text(json.dumps(data))


class Spy:
    """An array that records which of its rows were read."""

    def __init__(self, inner: np.ndarray, read: list[int]) -> None:
        self.inner, self.read, self.shape, self.size = inner, read, inner.shape, inner.size

    def __getitem__(self, at: Any) -> np.ndarray:
        self.read.append(self.inner[at].size)
        return self.inner[at]
