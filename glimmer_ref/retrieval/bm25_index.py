"""The baseline for dense retrieval: an index of words on disk, which keeps the postings of `bm25` in a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..data.inputs import Passage, read_passages
from ..data.passages_file import Source, read_source
from ..disk.journal import RESTORE
from ..errors import InputError
from ..params.safetensors_io import map_tensors, write_tensors
from ..progress import Show, progress
from ..ragged import Ints
from ..text.words import RULE
from .bm25 import K1, UNIT, B, Postings, passage_words
from .index_files import REBUILD, VERSION, IndexBuild, building, check_sample, read_facts, read_files
from .names import Index, Names, Strings
from .top_k import best

KIND = "bm25"
WORDS, IDS = "words.safetensors", "ids.safetensors"
FILES = (WORDS, IDS)


def build(passages_path: str | Path, folder: str | Path, show: Show = progress) -> BM25Index:
    """Count the words of a JSON-lines file of passages into an index.

    The build holds the counts in main memory: some 40 bytes for each distinct word of each passage. A finished index
    is read and left as it is.

    Raises:
        InputError: broken passages, or none, or none with a word; a folder with anything else in it, another build or
            a running one; no room.
    """
    source = read_source(passages_path)
    if not any(map(passage_words, read_passages(passages_path))):
        raise InputError(str(passages_path), "a passage with a word, of letters or digits", "none")
    facts = {"version": VERSION, "kind": KIND, "k1": K1, "b": B, "passages": source.passages,
             "passages_sha256": source.sha256, "words": RULE}  # fmt: skip
    with building(Path(folder), facts, FILES, show) as index_build:
        if index_build.missing:
            _write(source, index_build, show)
    return BM25Index(folder)


def _write(source: Source, index_build: IndexBuild, show: Show) -> None:
    """Count the words of all passages, and write the files that are not there."""
    names: list[tuple[str, str]] = []

    def passages() -> Iterator[Passage]:
        for passage in show(read_passages(source.path), source.passages, "passages"):
            names.append((passage.id, passage.title))
            yield passage

    postings = Postings.of(passages())
    source.check()
    arrays = {WORDS: arrays_of(postings), IDS: Names.arrays(names)}
    for name in index_build.missing:
        write_tensors(index_build.folder / name, arrays[name])
        index_build.add(name)


def arrays_of(postings: Postings) -> dict[str, np.ndarray]:
    """The arrays of a file of postings."""
    numbers = {"starts": postings.starts, "rows": postings.rows, "weights": postings.weights}
    return Strings.arrays(postings.vocabulary, "words") | numbers


def mapped(path: Path, passages: int) -> Postings:
    """The postings of a file.

    Raises:
        InputError: other tensors than a build writes.
    """
    tensors = map_tensors(path)
    starts, rows, weights = (tensors.get(name) for name in ("starts", "rows", "weights"))
    wrong = InputError(str(path), "the postings of an index of words", "other tensors", RESTORE)
    if starts is None or rows is None or weights is None or (starts.dtype, len(starts.shape)) != ("I64", 1):
        raise wrong
    one_size = len(rows.shape) == 1 and rows.shape == weights.shape and rows.dtype == weights.dtype == "U32"
    if not one_size or not starts.raw.size or starts.raw[0] != 0 or starts.raw[-1] != rows.shape[0]:
        raise wrong
    if (np.diff(starts.raw) < 0).any():
        raise wrong
    words = Strings.of(tensors, len(starts.raw) - 1, str(path), "words")
    return Postings(words, starts.raw, rows.raw, weights.raw, passages)


class BM25Index(Index):
    """An index of words on disk, made by `build`.

    Raises:
        InputError: no index there, a damaged one, or one of embeddings.
    """

    def __init__(self, folder: str | Path) -> None:
        facts, files = read_facts(folder), read_files(folder)
        if facts["kind"] != KIND:
            raise InputError(str(folder), "an index of words", "one of embeddings", "name the retriever that made it")
        if facts.get("words") != RULE:
            raise InputError(
                str(folder), "an index with this version's rule for words", "one of another version", REBUILD
            )
        if files.keys() != {*FILES}:
            raise InputError(str(folder), "the files of an index of words", "others", REBUILD)
        self.folder = Path(folder)
        for name, entry in files.items():
            check_sample(self.folder / name, entry)
        self.names = Names.of(map_tensors(self.folder / IDS), facts["passages"], str(self.folder / IDS))
        self._postings = mapped(self.folder / WORDS, facts["passages"])

    def __len__(self) -> int:
        return len(self.names.ids)

    def named(self, row: int) -> tuple[Names, int]:
        """As `Index.named`: one file holds all names."""
        return self.names, row

    def rows(self, questions: Sequence[str], k: int, show: Show = progress) -> list[tuple[Ints, np.ndarray]]:
        """For each question the rows of the k passages with the highest scores, ties to the lower row, and the scores.

        The constant factor k1 + 1 of BM25 is left out of the scores, as Lucene does.

        Raises:
            InputError: k below 1 or above the number of passages.
        """
        if not 1 <= k <= len(self):
            raise InputError("k", f"a number from 1 to {len(self)}, the passages of the index", str(k))
        result = []
        for question in show(questions, len(questions), "retrieve"):
            scores, rows = best(self._scores(question), np.arange(len(self)), k)
            result.append((rows, (scores / (UNIT * (K1 + 1))).astype(np.float32)))
        return result

    def _scores(self, question: str) -> np.ndarray:
        try:
            return self._postings.scores(question)
        except IndexError:  # a row past the last passage; rows are not read before the search
            raise InputError(str(self.folder / WORDS), "rows of its passages", "others", RESTORE) from None
