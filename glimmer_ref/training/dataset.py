"""Training data: the passages and questions of some folders, converted to tokens once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..config import GlimmerConfig
from ..data.inputs import Passage, Question, passage_tokens, question_tokens, read_passages, read_questions
from ..disk.read import read_json
from ..errors import InputError, brief
from ..ragged import Ints
from ..text.tokenizer import Tokenizer
from ..text.truncate import first_ids


@dataclass(frozen=True, eq=False)
class CorpusQuestion:
    """One question as tokens. Its passages are rows of the corpus.

    Args:
        ids: the question's token ids.
        answers: token ids of each accepted answer, including EOS.
        gold, candidates, hard: rows of its gold passages, retrieved passages and hard negatives.
        folder: the passages of its folder are the rows folder[0] .. folder[1] - 1.
    """

    ids: Ints
    answers: tuple[Ints, ...]
    gold: tuple[int, ...]
    candidates: Ints
    hard: Ints
    folder: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Corpus:
    """The tokens of all passages, by row, the questions of each task, and the answer that means that there is none."""

    passages: list[Ints]
    tasks: dict[str, list[CorpusQuestion]]
    no_answer: Ints

    def __len__(self) -> int:
        return sum(len(questions) for questions in self.tasks.values())


def folders(root: str | Path, patterns: Iterable[str]) -> list[Path]:
    """The folders in `root` that match some patterns, in the order of the patterns.

    Raises:
        InputError: a pattern that no folder matches.
    """
    found: list[Path] = []
    for pattern in patterns:
        new = sorted(p for p in Path(root).glob(pattern) if p.is_dir()) if pattern else []
        if not new:
            raise InputError(
                f"{Path(root) / pattern}",
                "a folder with passages.jsonl and questions",
                "none",
                "--data or data.root names the folder that contains it",
            )
        found += [p for p in new if p not in found]
    return found


def read_folder(folder: Path) -> tuple[list[Passage], list[Question]]:
    """The passages of passages.jsonl and the questions of *questions*.jsonl.

    Raises:
        InputError: a file missing, empty or broken.
    """
    passages = list(read_passages(folder / "passages.jsonl"))
    files = sorted(folder.glob("*questions*.jsonl"))
    questions = [question for file in files for question in read_questions(file)]
    for what, got in (("passages.jsonl", passages), ("*questions*.jsonl", questions)):
        if not got:
            raise InputError(f"{folder / what}", "at least one line", "none")
    return passages, questions


def answer_ids(config: GlimmerConfig, tokenizer: Tokenizer, answer: str) -> Ints:
    """The token ids of an answer, which the decoder learns to write: cut to the model's limit, with EOS last: [n]."""
    ids, _ = first_ids(tokenizer, answer, config.answer_tokens - 1)
    return np.array([*ids, config.t5.eos_token_id], np.int32)


def read_corpus(config: GlimmerConfig, tokenizer: Tokenizer, paths: Sequence[Path]) -> Corpus:
    """The corpus from the passages and questions of some folders.

    Raises:
        InputError: a broken file, a question without an answer, or a question with a passage that its folder lacks.
    """
    passages: list[Ints] = []
    tasks: dict[str, list[CorpusQuestion]] = {}
    answers: dict[str, Ints] = {}

    def encoded(answer: str) -> Ints:
        if answer not in answers:
            answers[answer] = answer_ids(config, tokenizer, answer)
        return answers[answer]

    for folder in paths:
        texts, questions = read_folder(folder)
        first = len(passages)
        rows = {passage.id: first + i for i, passage in enumerate(texts)}
        passages += [passage_tokens(config, tokenizer, [text]).ids for text in texts]
        for question in questions:
            if not question.answers:
                raise InputError(f"{folder}, question {question.id!r}", 'an answer in "output"', "none")
            ids = question_tokens(config, tokenizer, [question.text]).ids
            gold, candidates, hard = (
                np.array([row_of(folder, question, rows, id) for id in some], np.int64)
                for some in (question.gold, question.candidates, question.hard_negatives)
            )
            targets, span = tuple(map(encoded, question.answers)), (first, len(passages))
            item = CorpusQuestion(ids, targets, tuple(gold.tolist()), candidates, hard, span)
            tasks.setdefault(question.task, []).append(item)
    return Corpus(passages, tasks, encoded(config.no_answer))


def row_of(folder: Path, question: Question, rows: Mapping[str, int], id: str) -> int:
    """The row of the passage `id` of a question.

    Raises:
        InputError: the question's folder does not have this passage.
    """
    if id not in rows:
        raise InputError(f"{folder}, question {question.id!r}", "ids of passages in its folder", brief(id))
    return rows[id]


class Groups:
    """Groups of interchangeable tokens: names, professions, years ..

    Args:
        groups: lists of ids. No id is in two lists.
        size: size of the vocabulary.

    Raises:
        InputError: an id is not an integer, is outside the vocabulary, or occurs twice.
    """

    def __init__(self, groups: Iterable[Iterable[int]], size: int, location: str = "groups") -> None:
        lists = [list(group) for group in groups]
        flat = [id for group in lists for id in group]
        for id in flat:
            if type(id) is not int or not 0 <= id < size:
                raise InputError(location, f"token ids below {size}", brief(id, 40))
        if len(set(flat)) < len(flat):
            raise InputError(location, "each token in one group", f"{len(flat) - len(set(flat))} in several")
        self.size = size
        self.tokens = np.array(flat, np.int32)
        self.group = np.repeat(np.arange(len(lists)), [len(group) for group in lists])

    @classmethod
    def read(cls, path: Path, size: int) -> Groups:
        """Groups from a JSON file: a list or an object of lists of ids, at the top level or under the key "groups"."""
        data = read_json(path)
        data = data.get("groups", data) if isinstance(data, dict) else data
        lists = list(data.values()) if isinstance(data, dict) else data
        if not isinstance(lists, list) or not all(isinstance(group, list) for group in lists):
            raise InputError(f"{path}", "lists of token ids", type(data).__name__)
        return cls(lists, size, str(path))

    def tables(self, rng: np.random.Generator, b: int) -> Ints:
        """For each of b examples, a random permutation of each group: token -> the token that replaces it: [b v]."""
        tables = np.tile(np.arange(self.size, dtype=np.int32), (b, 1))
        # Sorting by group first and by a random number second puts the tokens of each group in random order.
        order = np.argsort(self.group + rng.random((b, self.tokens.size)), axis=1)
        tables[:, self.tokens] = self.tokens[order]
        return tables
