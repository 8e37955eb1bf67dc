"""Questions and passages: their files, and their tokens with prefix, title, end of sequence and length limit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ..config import GlimmerConfig
from ..errors import InputError, brief
from ..ragged import Tokens
from ..template import filled
from ..text.tokenizer import Tokenizer
from ..text.truncate import first_ids
from . import fields
from .json_lines import read_jsonl


@dataclass(frozen=True)
class Passage:
    """One passage.

    Args:
        id: id that is unique in its file.
        title: title of its page; may be empty.
    """

    id: str
    title: str
    text: str


@dataclass(frozen=True)
class Question:
    """One line of a questions file.

    Args:
        answers: accepted answers without blank ones; empty if the file has none.
        gold: ids of the passages that prove the answer.
        candidates: ids of retrieved passages, best first; empty before retrieval.
        hard_negatives: ids of passages that look like gold passages but are not, for training.
        evidence: for each of KILT's outputs that has a provenance, the ids of its pages.
    """

    id: str
    task: str
    text: str
    answers: tuple[str, ...]
    gold: tuple[str, ...]
    candidates: tuple[str, ...]
    hard_negatives: tuple[str, ...] = ()
    evidence: tuple[tuple[str, ...], ...] = ()


def _answers(location: str, record: fields.Record) -> tuple[str, ...]:
    """The accepted answers in "output": strings, or KILT's objects, some of which have only a provenance."""
    value = [] if record.get("output") is None else record["output"]
    if not isinstance(value, list) or not all(isinstance(v, str | dict) for v in value):
        raise InputError(
            location, 'a key "output" with a list of strings, or of objects with "answer"', fields.given(value)
        )
    outputs = ({"answer": v} if isinstance(v, str) else v for v in value)
    return fields.accepted(answer for output in outputs for answer in fields.answers(location, output))


def _evidence(location: str, record: fields.Record) -> tuple[tuple[str, ...], ...]:
    """The pages that prove each output of a line. `_answers` has already checked the line."""
    outputs = (output for output in record.get("output") or () if isinstance(output, dict))
    provenance = (fields.objects(location, output, "provenance") for output in outputs)
    pages = ([fields.page(location, p) for p in some] for some in provenance if some is not None)
    return tuple(tuple(dict.fromkeys(page for page in some if page is not None)) for some in pages)


class HasId(Protocol):
    """Anything with an id: a passage, a page, a question."""

    @property
    def id(self) -> str:
        """Its id."""
        ...


T = TypeVar("T", bound=HasId)


def each_once(items: Iterable[tuple[str, T]]) -> Iterator[T]:
    """The items, after a check that no id occurs twice.

    Args:
        items: the items, each with its place for error messages.

    Raises:
        InputError: an id occurred before. The message names both places.
    """
    seen: dict[str, str] = {}
    for location, item in items:
        if item.id in seen:
            raise InputError(
                location, "ids that occur once", f"{item.id!r} again", f"{seen[item.id]} has it too: change one of them"
            )
        seen[item.id] = location.rsplit(", ", 1)[-1]
        yield item


def _passage(location: str, record: fields.Record, id: str) -> tuple[str, Passage]:
    passage = Passage(
        fields.identity(location, record, "id", id),
        fields.string(location, record, "title", ""),
        fields.string(location, record, "text"),
    )
    if not passage.text.strip():
        raise InputError(location, "a text that is not empty", brief(passage.text))
    return location, passage


def passages_of(records: Iterable[tuple[str, dict[str, Any]]], first: int = 0) -> Iterator[Passage]:
    """Passages from objects with "text" and optional "id" and "title". Without ids, they are counted from `first`.

    Raises:
        InputError: a text is empty, or an id occurred before. The message names the place.
    """
    return each_once(_passage(location, record, str(first + i)) for i, (location, record) in enumerate(records))


def read_passages(path: str | Path) -> Iterator[Passage]:
    """The passages in a JSON-lines file, see `passages_of`.

    Raises:
        InputError: a line is broken, a text is empty, or an id occurred before. The message names the line.
    """
    return passages_of(read_jsonl(path))


def _question(location: str, record: fields.Record, count: int, task: str) -> tuple[str, Question]:
    text = fields.string(location, record, "input")
    if not text.strip():
        raise InputError(location, "a question that is not empty", brief(text))
    keys = ("gold", "candidates", "hard_negatives")
    gold, candidates, hard = (fields.identities(location, record, key) for key in keys)
    id = fields.identity(location, record, "id", str(count)).strip()
    answers = _answers(location, record)
    named, evidence = fields.string(location, record, "task", task), _evidence(location, record)
    return location, Question(id, named, text, answers, gold, candidates, hard, evidence)


def read_questions(path: str | Path, task: str = "all") -> Iterator[Question]:
    """The questions in a JSON-lines file.

    A line has "input" and optional "id", "task" and "output". It may also have the lists "gold", "candidates" and
    "hard_negatives" with ids of passages. The answers in "output" are strings, or KILT's objects with "answer".

    Args:
        task: the task of lines that do not state one.

    Raises:
        InputError: a line is broken, or an id occurred before. The message names the line.
    """
    return each_once(_question(location, record, i, task) for i, (location, record) in enumerate(read_jsonl(path)))


def as_passages(source: Iterable[Passage | str | Mapping[str, str]]) -> list[Passage]:
    """A list of passages.

    Args:
        source: strings, objects {"title": .., "text": ..}, or passages.

    Raises:
        InputError: an item has another type.
    """
    result = []
    for i, item in enumerate(source):
        if isinstance(item, str):
            item = Passage(str(i), "", item)
        elif isinstance(item, Mapping) and isinstance(item.get("text"), str):
            item = Passage(str(item.get("id", i)), str(item.get("title", "")), item["text"])
        elif not isinstance(item, Passage):
            raise InputError(f"passage {i}", 'a string, or {"title": .., "text": ..}', brief(item))
        result.append(item)
    return result


def _close(ids: list[int], limit: int, eos: int | None) -> list[int]:
    """The first `limit` tokens; if there is an end of sequence, it is the last of them (D13)."""
    return ids[:limit] if eos is None else [*ids[: limit - 1], eos]


def question_text(config: GlimmerConfig, text: str) -> str:
    """The question with a task prefix: the model's first prefix is added unless the question begins with a prefix."""
    prefixes = config.question_prefixes
    return text if not prefixes or text.lstrip().startswith(prefixes) else f"{prefixes[0]} {text.strip()}"


def passage_text(config: GlimmerConfig, passage: Passage) -> str:
    """Title and text as one string."""
    if not passage.title:
        return passage.text
    return filled(config.passage_format, passage.title, passage.text)


def question_tokens(config: GlimmerConfig, tokenizer: Tokenizer, texts: Iterable[str]) -> Tokens:
    """The tokens of questions, at most `question_tokens` each, EOS included if the model closes questions with it.

    Raises:
        InputError: a question is empty (D17).
    """
    eos = config.t5.eos_token_id if config.question_eos else None
    rows = []
    for text in texts:
        if not text.strip():
            raise InputError("question", "some text", repr(text))
        ids, _ = first_ids(tokenizer, question_text(config, text), config.question_tokens)
        rows.append(_close(ids, config.question_tokens, eos))
    return Tokens.of(rows, "question")


def passage_tokens(config: GlimmerConfig, tokenizer: Tokenizer, passages: Iterable[Passage]) -> Tokens:
    """The tokens of passages, at most `passage_tokens` each, EOS included if the model closes passages with it.

    Raises:
        InputError: a passage is empty (D17). The message names its id.
    """
    eos = config.t5.eos_token_id if config.passage_eos else None
    rows = []
    for passage in passages:
        if not passage.text.strip():
            raise InputError(f"passage {passage.id!r}", "some text", repr(passage.text))
        first, _ = first_ids(tokenizer, passage_text(config, passage), config.passage_tokens)
        ids = _close(first, config.passage_tokens, eos)
        if not ids:
            raise InputError(f"passage {passage.id!r}", "a text that gives at least one token", "none")
        rows.append(ids)
    return Tokens.of(rows, "passage")
