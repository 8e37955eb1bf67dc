"""Every file of an index and of a memory, damaged in every way: one line that says so, never another answer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gtr_folder import write_gtr
from memories import MODEL, NUMPY, PASSAGES, make_passages, quiet, write_passages, write_tokenizer

from glimmer_ref.errors import InputError
from glimmer_ref.memory.build import build
from glimmer_ref.memory.store import Memory
from glimmer_ref.ops import bind
from glimmer_ref.params.safetensors_io import map_tensors, write_tensors
from glimmer_ref.retrieval import bm25_index, dense, gtr, index_files

VALUES = (None, True, -1, 10**30, 1e308, "", "x", [], [1], {}, {"a": 1})
WHOLE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda raw: b"",
    "half": lambda raw: raw[: len(raw) // 2],
    "longer": lambda raw: raw + b"\0",
    "no UTF-8": lambda raw: b"\xff" * len(raw),
    "deep JSON": lambda raw: b"[" * max(len(raw), 100_000),
    "no object": lambda raw: b"[]",
    "no fields": lambda raw: b"{}",
    "NaN": lambda raw: b'{"version": NaN}',
}


def flipped(raw: bytes, place: float, bit: int) -> bytes:
    at = int(place * (len(raw) - 1))
    return raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :]


def fields(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all values of a JSON document."""
    for key, value in document.items() if isinstance(document, dict) else ():
        yield (*path, key)
        yield from fields(value, (*path, key))


def with_value(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    copy = json.loads(json.dumps(document))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return copy


def damages(path: Path, other: Path) -> Iterator[tuple[str, bytes | None]]:
    """What a file may be instead, with a name; None: it is missing."""
    raw = path.read_bytes()
    yield "missing", None
    yield "another's", (other / path.name).read_bytes()
    for name, damage in WHOLE.items():
        yield name, damage(raw)
    for i in range(16):
        yield f"flipped {i}", flipped(raw, i / 15, i % 8)
    if path.suffix == ".json" and path.name != "vocab.index.json":
        document = json.loads(raw)
        for place in fields(document):
            for value in VALUES:
                yield f"{place} = {value!r}", json.dumps(with_value(document, place, value), indent=1).encode()


def check(folder: Path, other: Path, answer: Callable[[], Any], verify: Callable[[], Any], strict: bool) -> int:
    """All damages of all files: `verify` refuses each; `answer` too, or is as it was (but for not `strict`)."""
    right, count = answer(), 0
    for path in sorted(folder.iterdir()):
        raw = path.read_bytes()
        for name, damage in damages(path, other):
            if damage == raw:
                continue
            path.unlink() if damage is None else path.write_bytes(damage)
            with pytest.raises(InputError) as told:
                verify()
                raise AssertionError(f"{path.name}, {name}: verified")
            assert str(told.value).count("\n") == 0
            with suppress(InputError):
                assert answer() == right or not strict, f"{path.name}, {name}: another answer"
            count += 1
        path.write_bytes(raw)
        verify()
    return count


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two of equal length, whose files have equal sizes where that can be."""
    folder = tmp_path_factory.mktemp("corpora")
    return write_passages(folder / "a.jsonl"), write_passages(folder / "b.jsonl", make_passages(len(PASSAGES), 1))


def test_an_index_of_words(corpora: tuple[Path, Path], tmp_path: Path) -> None:
    for corpus, name in zip(corpora, "ab", strict=True):
        bm25_index.build(corpus, tmp_path / name, quiet)

    def answer() -> Any:
        (found,) = bm25_index.BM25Index(tmp_path / "a").search(["a b title"], 3, quiet)
        return found[0], found[1].tolist()

    verify = partial(index_files.verify, tmp_path / "a", quiet)
    assert check(tmp_path / "a", tmp_path / "b", answer, verify, strict=True) > 250  # measured: 301


ARRAYS = [
    np.zeros(0, np.float32),
    np.zeros((2, 3)),
    np.array([7, -9, 10**9] * 40),
    np.zeros((), np.uint32),
    np.full(3, np.nan),
]


def test_an_index_of_words_of_other_shapes(corpora: tuple[Path, Path], tmp_path: Path) -> None:
    """Where the digests were made anew: whatever the library makes of them is one line, or an answer."""
    folder, refused = tmp_path / "a", 0
    bm25_index.build(corpora[0], folder, quiet)
    sealed = (folder / "index.json").read_bytes()
    for name in (*bm25_index.FILES, bm25_index.IDS):
        raw = (folder / name).read_bytes()
        damaged = [WHOLE[word](raw) for word in ("empty", "half", "no UTF-8", "deep JSON", "no object", "no fields")]
        damaged += [raw.replace(b"p", b"\xff"), b'{"a": "b"}', b'{"a": 99999}', b'{"a": [1]}']
        tensors = map_tensors(folder / name)
        largest = {key: np.full_like(x.raw, np.iinfo(x.raw.dtype).max) for key, x in tensors.items()}
        for key, array in [*product(tensors, ARRAYS), *largest.items()]:
            write_tensors(tmp_path / "other", {**tensors, key: array})
            damaged.append((tmp_path / "other").read_bytes())
        for damage in damaged:
            (folder / name).write_bytes(damage)
            files = {n: {**index_files.entry_of(folder / n), "sample": index_files.sample(folder / n)}
                     for n in (*bm25_index.FILES, bm25_index.IDS)}  # fmt: skip
            (folder / "index.json").write_text(json.dumps(index_files._summary(files, folder / "build.json")))
            try:
                bm25_index.BM25Index(folder).search(["a b title"], 11, quiet)
            except InputError:
                refused += 1
        (folder / name).write_bytes(raw)
    (folder / "index.json").write_bytes(sealed)
    assert refused > 50
    assert len(bm25_index.BM25Index(folder)) == 11


def test_an_index_of_embeddings(corpora: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "SHARD", 4)
    retriever = gtr.load(write_gtr(tmp_path / "gtr"), bind("numpy"))
    for corpus, name in zip(corpora, "ab", strict=True):
        dense.build(corpus, tmp_path / name, retriever, show=quiet)
    question = retriever(["a b title"])
    monkeypatch.setattr(gtr.GTR, "__call__", lambda self, texts: question)

    def answer() -> Any:
        (found,) = dense.DenseIndex(tmp_path / "a", retriever).search(["a b title"], 3, quiet)
        return found[0], found[1].tolist()

    verify = partial(index_files.verify, tmp_path / "a", quiet)
    assert check(tmp_path / "a", tmp_path / "b", answer, verify, strict=True) > 300


def test_a_memory(corpora: tuple[Path, Path], tmp_path: Path) -> None:
    """A look-up reads its rows alone: what is changed in the states of others, or among its own numbers, only
    `verify` sees."""
    tokenizer = write_tokenizer(tmp_path / "tokenizer.json")
    for corpus, name in zip(corpora, "ab", strict=True):
        build(NUMPY, MODEL, tokenizer, corpus, tmp_path / name, shard_passages=4, show=quiet)

    def answer() -> Any:
        memory = Memory.open(tmp_path / "a")
        return memory.read([0, 10, 5]).states.tobytes(), [memory.passage(i) for i in (0, 10, 5)]

    def verify() -> None:
        Memory.open(tmp_path / "a").verify(quiet)

    assert check(tmp_path / "a", tmp_path / "b", answer, verify, strict=False) > 300


def test_another_builds_shard_is_not_looked_up_in(corpora: tuple[Path, Path], tmp_path: Path) -> None:
    """Of equal size, so that only what its header says of its build tells it."""
    import models

    tokenizer = write_tokenizer(tmp_path / "tokenizer.json")
    other = models.model(NUMPY, MODEL.config, seed=1, dtype="float32")
    for model, name in ((MODEL, "a"), (other, "b")):
        build(NUMPY, model, tokenizer, corpora[0], tmp_path / name, shard_passages=4, show=quiet)
    for name in ("shard-00001.safetensors", "index.safetensors"):
        assert (tmp_path / "a" / name).stat().st_size == (tmp_path / "b" / name).stat().st_size
        shutil.copy(tmp_path / "b" / name, tmp_path / "a" / name)
        with pytest.raises(InputError, match=rf"{name}: expected a file of manifest.json's build, weights="):
            Memory.open(tmp_path / "a").read([5])
        build(NUMPY, other, tokenizer, corpora[0], tmp_path / "c", shard_passages=4, show=quiet)
        shutil.rmtree(tmp_path / "a")
        build(NUMPY, MODEL, tokenizer, corpora[0], tmp_path / "a", shard_passages=4, show=quiet)


def test_a_changed_number_is_refused_without_a_warning(corpora: tuple[Path, Path], tmp_path: Path) -> None:
    """An infinity in a stored memory, which used to be a RuntimeWarning as well; warnings are errors here."""
    tokenizer = write_tokenizer(tmp_path / "tokenizer.json")
    memory = build(NUMPY, MODEL, tokenizer, corpora[0], tmp_path / "a", shard_passages=4, show=quiet).memory
    path, bits = tmp_path / "a" / "shard-00000.safetensors", np.float32(memory.read([0]).states[0, 3]).tobytes()
    raw = path.read_bytes()
    for value in (np.inf, np.nan):
        path.write_bytes(raw.replace(bits, np.float32(value).tobytes(), 1))
        with pytest.raises(
            InputError, match=r"shard-00000\.safetensors: tokens: expected finite numbers; got inf or nan"
        ):
            Memory.open(tmp_path / "a").read([0])
