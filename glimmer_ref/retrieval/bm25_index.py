"""The baseline that retrieval is held against: BM25 over words, by the bm25s library, as an index on disk."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import Refused
from ..params.tensors import map_tensors, write_tensors
from ..progress import Show, progress
from ..text.inputs import read_passages
from ..text.words import RULE, distinct, words
from .bm25 import K1, B
from .gtr import passage_text
from .index_files import Ids, building, read_facts
from .source import read_source
from .top import best

KIND = "bm25"
IDS = "ids.safetensors"
FILES = ("data.csc.index.npy", "indices.csc.index.npy", "indptr.csc.index.npy", "params.index.json", "vocab.index.json")


def _library() -> Any:
    """bm25s, which is not among the packages that everything needs.

    Raises:
        Refused: it is not installed.
    """
    if find_spec("bm25s") is None:
        raise Refused("BM25", "the package bm25s", "none", "pip install 'glimmer_ref[bm25]'")
    import bm25s

    return bm25s


def build(passages_path: str | Path, folder: str | Path, show: Show = progress) -> BM25Index:
    """Count the words of a JSON-lines file of passages into an index; all words are held in RAM meanwhile.

    Title and text are cut as `text.words` says; k1 = 0.9 and b = 0.4.

    Raises:
        Refused: no bm25s; broken passages, none, or none with a word; a folder with anything else in it, another build
            or a running one; no room.
    """
    library, source = _library(), read_source(passages_path)
    if not any(words(passage_text(passage)) for passage in read_passages(passages_path)):
        raise Refused(str(passages_path), "a passage with a word, of letters or digits", "none")
    facts = {"version": 1, "kind": KIND, "bm25s": version("bm25s"), "k1": K1, "b": B, "passages": source.passages,
             "passages_sha256": source.sha256, "words": RULE}  # fmt: skip
    with building(Path(folder), facts, (*FILES, IDS)):
        ids, counted = [], []
        for passage in show(read_passages(passages_path), source.passages, "passages"):
            ids.append(passage.id)
            counted.append(words(passage_text(passage)))
        source.check()
        index = library.BM25(method="lucene", k1=K1, b=B)
        index.index(counted, show_progress=False)
        index.save(folder, show_progress=False)
        write_tensors(Path(folder) / IDS, Ids.arrays(ids))
    return BM25Index(folder)


class BM25Index:
    """An index of words on disk, made by `build`.

    Raises:
        Refused: no bm25s, no index there, a damaged one, or one of embeddings.
    """

    def __init__(self, folder: str | Path) -> None:
        facts = read_facts(folder)
        if facts["kind"] != KIND:
            raise Refused(str(folder), "an index of words", "one of embeddings", "name its retriever")
        if facts.get("words") != RULE:
            raise Refused(
                str(folder), "an index whose words were cut as those of questions are", "an older one", "build anew"
            )
        library = _library()
        self.ids = Ids.of(map_tensors(Path(folder) / IDS), facts["passages"], str(Path(folder) / IDS))
        try:
            self._index = library.BM25.load(folder, mmap=True, show_progress=False)
        except (OSError, ValueError, KeyError) as error:
            raise Refused(
                str(folder), "an index that bm25s can read", str(error).split("\n")[0], "build anew"
            ) from None

    def __len__(self) -> int:
        return len(self.ids)

    def search(self, questions: Sequence[str], k: int, show: Show = progress) -> list[tuple[list[str], np.ndarray]]:
        """For each question the ids of the k passages that share most with it, ties to the lower row, and their scores.

        Raises:
            Refused: k below 1 or above the number of passages.
        """
        if not 1 <= k <= len(self):
            raise Refused("k", f"at least 1 and at most the {len(self)} passages of the index", str(k), "lower k")
        result = []
        for question in show(questions, len(questions), "retrieve"):
            known = [word for word in distinct(question) if word in self._index.vocab_dict]
            scores = np.asarray(self._index.get_scores(known)) if known else np.zeros(len(self), np.float32)
            found, rows = best(scores, np.arange(len(self)), k)
            result.append(([self.ids[int(r)] for r in rows], found))
        return result
