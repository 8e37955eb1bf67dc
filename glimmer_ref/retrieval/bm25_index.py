"""The baseline that retrieval is held against: BM25 over words, by the bm25s library, as an index on disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from errno import ENOSPC
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..data.inputs import read_passages
from ..data.passages_file import Source, read_source
from ..disk.journal import RESTORE
from ..errors import InputError
from ..params.safetensors_io import map_tensors, write_tensors
from ..progress import Show, progress
from ..text.words import RULE, distinct, words
from .bm25 import K1, B
from .gtr import passage_text
from .index_files import BUILD_AGAIN, VERSION, Ids, Work, building, check_sample, read_facts, read_files
from .top_k import best

KIND = "bm25"
IDS = "ids.safetensors"
FILES = ("data.csc.index.npy", "indices.csc.index.npy", "indptr.csc.index.npy", "params.index.json", "vocab.index.json")


def _library() -> Any:
    """bm25s, which is not among the packages that everything needs.

    Raises:
        InputError: it is not installed.
    """
    if find_spec("bm25s") is None:
        raise InputError("BM25", "the package bm25s", "none", "pip install 'glimmer_ref[bm25]'")
    import bm25s

    return bm25s


def _numbers(texts: Sequence[Sequence[str]]) -> tuple[list[list[int]], dict[str, int]]:
    """Words as numbers in the order in which they come first, so that a build gives the same bytes every time.

    Source: bm25s numbers the words of a set, whose order is another in each process.
    """
    numbers: dict[str, int] = {}
    return [[numbers.setdefault(word, len(numbers)) for word in text] for text in texts], numbers


def _save(index: Any, work: Work) -> None:
    """The index's files, each put in its place whole."""
    parts = work.parts()
    try:
        index.save(parts, show_progress=False)
    except OSError as error:
        if error.errno is None:  # NumPy says only how many numbers of how many it wrote
            raise OSError(ENOSPC, os.strerror(ENOSPC)) from None
        raise
    for name in FILES:
        if name in work.lacking:
            with open(parts / name, "r+b") as file:
                os.fsync(file.fileno())
            os.replace(parts / name, work.folder / name)
            work.add(name)


def build(passages_path: str | Path, folder: str | Path, show: Show = progress) -> BM25Index:
    """Count the words of a JSON-lines file of passages into an index; all words are held in RAM meanwhile.

    Title and text are cut as `text.words` says; k1 = 0.9 and b = 0.4. A finished index is read and left as it is.

    Raises:
        InputError: no bm25s; broken passages, or none, or none with a word; a folder with anything else in it, another
            build or a running one; no room.
    """
    library, source = _library(), read_source(passages_path)
    if not any(words(passage_text(passage)) for passage in read_passages(passages_path)):
        raise InputError(str(passages_path), "a passage with a word, of letters or digits", "none")
    facts = {"version": VERSION, "kind": KIND, "bm25s": version("bm25s"), "k1": K1, "b": B, "passages": source.passages,
             "passages_sha256": source.sha256, "words": RULE}  # fmt: skip
    with building(Path(folder), facts, (*FILES, IDS), show) as work:
        if work.lacking:
            _count(library, source, work, show)
    return BM25Index(folder)


def _count(library: Any, source: Source, work: Work, show: Show) -> None:
    ids, counted = [], []
    for passage in show(read_passages(source.path), source.passages, "passages"):
        ids.append(passage.id)
        counted.append(words(passage_text(passage)))
    source.check()
    index, numbered = library.BM25(method="lucene", k1=K1, b=B), _numbers(counted)
    index.index(numbered, show_progress=False)
    _save(index, work)
    if IDS in work.lacking:
        write_tensors(work.folder / IDS, Ids.arrays(ids))
        work.add(IDS)


def _load(library: Any, folder: Path, passages: int) -> Any:
    """The library's index, whose arrays fit each other; whatever it raises becomes a line."""
    broken = InputError(str(folder), "an index that bm25s can read", "another", BUILD_AGAIN)
    try:
        index = library.BM25.load(folder, mmap=True, show_progress=False)
        data, rows, starts = (index.scores[name] for name in ("data", "indices", "indptr"))
        places = np.asarray([n for word, n in index.vocab_dict.items() if word], np.int64)
        right = (
            index.scores["num_docs"] == passages
            and data.shape == rows.shape == (starts[-1],)
            and starts[0] == 0
            and (np.diff(starts) >= 0).all()
            and (places >= 0).all()
            and (places < len(starts) - 1).all()
        )
    except Exception:  # it checks nothing itself: any kind of error may come
        raise broken from None
    if not right:
        raise broken
    return index


class BM25Index:
    """An index of words on disk, made by `build`.

    Raises:
        InputError: no bm25s, no index there, a damaged one, or one of embeddings.
    """

    def __init__(self, folder: str | Path) -> None:
        facts, files = read_facts(folder), read_files(folder)
        if facts["kind"] != KIND:
            raise InputError(str(folder), "an index of words", "one of embeddings", "name its retriever")
        if facts.get("words") != RULE:
            raise InputError(
                str(folder), "an index whose words were cut as those of questions are", "an older one", "build anew"
            )
        library = _library()
        if files.keys() != {*FILES, IDS}:
            raise InputError(str(folder), "the files of an index of words", "others", BUILD_AGAIN)
        self.folder = Path(folder)
        for name, entry in files.items():
            check_sample(self.folder / name, entry)
        self.ids = Ids.of(map_tensors(self.folder / IDS), facts["passages"], str(self.folder / IDS))
        self._index = _load(library, self.folder, facts["passages"])

    def __len__(self) -> int:
        return len(self.ids)

    def search(self, questions: Sequence[str], k: int, show: Show = progress) -> list[tuple[list[str], np.ndarray]]:
        """For each question the ids of the k passages that share most with it, ties to the lower row, and their scores.

        Raises:
            InputError: k below 1 or above the number of passages.
        """
        if not 1 <= k <= len(self):
            raise InputError("k", f"at least 1 and at most the {len(self)} passages of the index", str(k), "lower k")
        result = []
        for question in show(questions, len(questions), "retrieve"):
            known = [word for word in distinct(question) if word in self._index.vocab_dict]
            scores = self._scores(known)
            found, rows = best(scores, np.arange(len(self)), k)
            result.append(([self.ids[int(r)] for r in rows], found))
        return result

    def _scores(self, known: list[str]) -> np.ndarray:
        if not known:
            return np.zeros(len(self), np.float32)
        try:
            return np.asarray(self._index.get_scores(known))
        except (IndexError, ValueError) as error:  # places that lie outside, which are only read now
            raise InputError(str(self.folder), "an index that bm25s can read", str(error)[:80], RESTORE) from None
