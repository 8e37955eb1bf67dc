"""Our BM25 beside the library bm25s: python benchmarks/bm25.py [--passages 100000] [--out FILE.json].

Both rank the bundled passages and a synthetic corpus whose words are drawn by Zipf's law. The table gives seconds to
count the words of all passages and to write the index, milliseconds to find the 25 best passages for a question, bytes
on disk, and how many of bm25s's 25 passages ours finds too. Both rank by the same words. Times are processor times.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import bm25s
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import results

from glimmer_ref import tables
from glimmer_ref.data.inputs import Passage, read_passages, read_questions
from glimmer_ref.inference.reader import bundled
from glimmer_ref.params.safetensors_io import write_tensors
from glimmer_ref.retrieval.bm25 import K1, B, Postings, passage_words
from glimmer_ref.retrieval.bm25_index import arrays_of, mapped
from glimmer_ref.retrieval.top_k import best
from glimmer_ref.text.words import distinct

K, QUESTIONS, ROUNDS = 25, 200, 3
VOCABULARY, LENGTH, EXPONENT = 200_000, 100, 1.1  # number of different words; words per passage; exponent of Zipf's law

Search = Callable[[str], np.ndarray]
Maker = Callable[[Sequence[Passage], Path], Search]


class Measured(NamedTuple):
    """One ranker: seconds to build, milliseconds for a question, bytes on disk, and the rows that it found."""

    build_s: float
    question_ms: float
    bytes: int
    rows: list[list[int]]


def synthetic(passages: int) -> tuple[list[Passage], list[str]]:
    """Passages of words drawn by Zipf's law, and questions of eight words from one passage each."""
    rng = np.random.default_rng(0)
    share = np.arange(1, VOCABULARY + 1) ** -EXPONENT
    drawn = rng.choice(VOCABULARY, (passages, LENGTH), p=share / share.sum())
    made = [Passage(str(i), "", " ".join(f"w{x}" for x in words)) for i, words in enumerate(drawn.tolist())]
    asked = [" ".join(rng.choice(made[i].text.split(), 8)) for i in rng.integers(0, passages, QUESTIONS)]
    return made, asked


def ours(passages: Sequence[Passage], folder: Path) -> Search:
    """Our postings, written and mapped."""
    write_tensors(folder / "words", arrays_of(Postings.of(passages)))
    postings, rows = mapped(folder / "words", len(passages)), np.arange(len(passages))
    return lambda question: best(postings.scores(question), rows, K)[1]


def library(passages: Sequence[Passage], folder: Path) -> Search:
    """bm25s with the same constants, written and mapped; words are numbered in the order in which they first occur."""
    numbers: dict[str, int] = {}
    counted = [[numbers.setdefault(word, len(numbers)) for word in passage_words(p)] for p in passages]
    made = bm25s.BM25(method="lucene", k1=K1, b=B)
    made.index((counted, numbers), show_progress=False)
    made.save(folder, show_progress=False)
    index = bm25s.BM25.load(folder, mmap=True, show_progress=False)

    def search(question: str) -> np.ndarray:
        known = [word for word in distinct(question) if word in index.vocab_dict]
        return best(np.asarray(index.get_scores(known)), np.arange(len(passages)), K)[1]

    return search


def measure(makers: Sequence[Maker], passages: list[Passage], asked: list[str]) -> list[Measured]:
    """For each ranker, the fastest of `ROUNDS` builds and of as many rounds of questions; the rankers take turns."""
    runs: list[list[Measured]] = [[] for _ in makers]
    for _ in range(ROUNDS):
        for make, done in zip(makers, runs, strict=True):
            with tempfile.TemporaryDirectory() as name:
                start = time.process_time()
                search = make(passages, Path(name))
                build = time.process_time() - start
                size = sum(path.stat().st_size for path in Path(name).iterdir())
                found = [search(question).tolist() for question in asked]  # reads the mapped files
                start = time.process_time()
                for question in asked:
                    search(question)
                done.append(Measured(build, 1e3 * (time.process_time() - start) / len(asked), size, found))
    return [Measured(min(x.build_s for x in done), min(x.question_ms for x in done), *done[0][2:]) for done in runs]


def shared(a: Iterable[list[int]], b: Iterable[list[int]]) -> float:
    """The share of passages that both found, over all questions."""
    return float(np.mean([len({*x} & {*y}) / K for x, y in zip(a, b, strict=True)]))


def compare(name: str, passages: list[Passage], asked: list[str]) -> dict[str, Any]:
    """Both rankers on one corpus."""
    mine, theirs = measure((ours, library), passages, asked)
    same = sum(x == y for x, y in zip(mine.rows, theirs.rows, strict=True))
    return {
        "corpus": name, "passages": len(passages), "questions": len(asked),
        **{f"{who}_{key}": value for who, m in (("ours", mine), ("bm25s", theirs))
           for key, value in m._asdict().items() if key != "rows"},
        "shared": shared(mine.rows, theirs.rows), "same_order": same / len(asked),
    }  # fmt: skip


def lines_of(corpora: Iterable[dict[str, Any]]) -> list[str]:
    """The comparison in markdown."""
    rows = []
    for x in corpora:
        for who in ("ours", "bm25s"):
            same = f"{100 * x['shared']:.2f} %" if who == "ours" else ""
            build, ask, size = (x[f"{who}_{key}"] for key in ("build_s", "question_ms", "bytes"))
            name = f"{x['corpus']}, {x['passages']:,} passages, {who}"
            rows.append([name, f"{build:.2f}", f"{ask:.3f}", f"{size / 1e6:.1f}", same])
    return tables.markdown(rows, ["corpus and ranker", "build, s", "a question, ms", "MB on disk", "of bm25s's 25"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--passages", type=int, default=100_000, help="of the synthetic corpus")
    parser.add_argument("--out", help="the JSON file of the figures; the table goes beside it")
    args = parser.parse_args()
    folder = bundled()
    questions = [q.text for q in read_questions(folder / "questions.jsonl")][:: 2400 // QUESTIONS]
    rows = [
        compare("bundled", list(read_passages(folder / "passages.jsonl")), questions),
        compare("synthetic", *synthetic(args.passages)),
    ]
    table = lines_of(rows)
    print("\n".join(table))
    out = Path(args.out) if args.out else results.place("bm25")
    document = results.begin("bm25", "", ROUNDS, {})
    results.write(out, document | {"versions": {**document["versions"], "bm25s": bm25s.__version__}, "runs": rows})
    out.with_suffix(".md").write_text("\n".join(table) + "\n", "utf-8")


if __name__ == "__main__":
    main()
