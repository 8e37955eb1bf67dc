"""Questions and passages as a model reads them: prefixes, titles, end of sequence, length limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..arrays import Tokens
from ..config import GlimmerConfig
from ..disk import kinds
from ..disk.read import open_regular, parse_json
from ..errors import Refused
from .tokenizer import Tokenizer


@dataclass(frozen=True)
class Passage:
    """One passage: a name that is unique in its file, its page's title (may be empty), its text."""

    id: str
    title: str
    text: str


@dataclass(frozen=True)
class Question:
    """One line of a questions file.

    Args:
        answers: accepted answers; empty where they are withheld.
        gold: ids of passages that hold the answer.
        candidates: ids of retrieved passages, best first; empty where none were retrieved yet.
        hard_negatives: ids of passages that are easily taken for gold, to learn from.
    """

    id: str
    task: str
    text: str
    answers: tuple[str, ...]
    gold: tuple[str, ...]
    candidates: tuple[str, ...]
    hard_negatives: tuple[str, ...] = ()


def jsonl(lines: Iterable[bytes], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of JSON lines, each with the place to name in an error; blank lines skipped.

    Raises:
        Refused: a line that is no JSON object, by number.
    """
    for number, raw in enumerate(lines, start=1):
        place = f"{name}, line {number}"
        if not raw.strip():
            continue
        record = parse_json(raw, place, "one JSON object")
        if not isinstance(record, dict):
            raise Refused(place, "one JSON object", type(record).__name__)
        yield place, record


def read_jsonl(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """`jsonl` of a file.

    Raises:
        Refused: no such file, or as `jsonl`.
    """
    with open_regular(path) as file:
        kind = kinds.of_bytes(file.peek(kinds.HEAD)[: kinds.HEAD])
        if kind is not None and kind != kinds.UTF_16:  # which is told by line, as other encodings are
            raise Refused(str(path), "JSON, one object a line", *kind)
        yield from jsonl(file, str(path))


def _string(place: str, record: dict[str, Any], key: str, default: str | None = None) -> str:
    value = record.get(key, default)
    if not isinstance(value, str):
        raise Refused(place, f'a string "{key}"', "none" if value is None else repr(value)[:60])
    return value


def _strings(place: str, record: dict[str, Any], key: str) -> tuple[str, ...]:
    value = record.get(key, [])
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise Refused(place, f'a list of strings "{key}"', repr(value)[:60])
    return tuple(value)


def _id(place: str, record: dict[str, Any], count: int) -> str:
    """A string, or a whole number, which some of KILT's files have; the line's count where there is none."""
    value = record.get("id", str(count))
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _string(place, record, "id", value)


def _answers(place: str, record: dict[str, Any]) -> tuple[str, ...]:
    """The accepted answers of "output": strings, or KILT's objects, of which some have only a provenance."""
    value, what = record.get("output", []), 'a list of strings "output", or of objects with "answer"'
    if not isinstance(value, list):
        raise Refused(place, what, repr(value)[:60])
    answers = [v["answer"] if isinstance(v, dict) else v for v in value if not isinstance(v, dict) or "answer" in v]
    if not all(isinstance(answer, str) for answer in answers):
        raise Refused(place, what, repr(value)[:60])
    return tuple(answers)


def passages_of(records: Iterable[tuple[str, dict[str, Any]]], first: int = 0) -> Iterator[Passage]:
    """Passages from objects with "text", and perhaps "id" (else their count from `first`) and "title".

    Raises:
        Refused: an empty text, or an id that came before, by its place.
    """
    seen: dict[str, str] = {}
    for place, record in records:
        passage = Passage(
            _string(place, record, "id", str(first + len(seen))),
            _string(place, record, "title", ""),
            _string(place, record, "text"),
        )
        if not passage.text.strip():
            raise Refused(place, "a text that is not empty", repr(passage.text))
        if passage.id in seen:
            raise Refused(place, "ids that occur once", f"{passage.id!r} again", f"it is also in {seen[passage.id]}")
        seen[passage.id] = place.rsplit(", ", 1)[-1]
        yield passage


def read_passages(path: str | Path) -> Iterator[Passage]:
    """`passages_of` a JSON-lines file.

    Raises:
        Refused: a broken line, an empty text, or an id that came before, by line number.
    """
    return passages_of(read_jsonl(path))


def read_questions(path: str | Path, task: str = "all") -> Iterator[Question]:
    """Questions of a JSON-lines file: "input", and perhaps "id", "task", "output" and lists of passages.

    These are "gold", "candidates" and "hard_negatives".

    Args:
        task: of lines that name none.

    The answers in "output" are strings, or objects with "answer" as KILT has them.

    Raises:
        Refused: a broken line, by number.
    """
    for count, (place, record) in enumerate(read_jsonl(path)):
        text = _string(place, record, "input")
        if not text.strip():
            raise Refused(place, "a question that is not empty", repr(text))
        yield Question(
            _id(place, record, count),
            _string(place, record, "task", task),
            text,
            _answers(place, record),
            _strings(place, record, "gold"),
            _strings(place, record, "candidates"),
            _strings(place, record, "hard_negatives"),
        )


def as_passages(source: Iterable[Passage | str | Mapping[str, str]]) -> list[Passage]:
    """Passages from strings, from {"title": .., "text": ..}, or as they are.

    Raises:
        Refused: something else among them.
    """
    result = []
    for i, item in enumerate(source):
        if isinstance(item, str):
            item = Passage(str(i), "", item)
        elif isinstance(item, Mapping) and isinstance(item.get("text"), str):
            item = Passage(str(item.get("id", i)), str(item.get("title", "")), item["text"])
        elif not isinstance(item, Passage):
            raise Refused(f"passage {i}", 'a string, or {"title": .., "text": ..}', repr(item)[:60])
        result.append(item)
    return result


def _close(ids: list[int], limit: int, eos: int | None) -> list[int]:
    """Cut from the right to `limit` tokens, the end of sequence, if any, among them (D13)."""
    return ids[:limit] if eos is None else [*ids[: limit - 1], eos]


def question_text(config: GlimmerConfig, text: str) -> str:
    """The question behind its task's prefix: the model's first, unless it comes with one."""
    prefixes = config.question_prefixes
    return text if not prefixes or text.lstrip().startswith(prefixes) else f"{prefixes[0]} {text.strip()}"


def passage_text(config: GlimmerConfig, passage: Passage) -> str:
    """Title and text as one string."""
    if not passage.title:
        return passage.text
    return config.passage_format.format(title=passage.title, text=passage.text)


def question_tokens(config: GlimmerConfig, tokenizer: Tokenizer, texts: Iterable[str]) -> Tokens:
    """Questions as ids, closed by EOS, at most `question_tokens` each.

    Raises:
        Refused: an empty question (D17).
    """
    eos = config.t5.eos_token_id if config.question_eos else None
    rows = []
    for text in texts:
        if not text.strip():
            raise Refused("question", "some text", repr(text))
        rows.append(_close(tokenizer.encode(question_text(config, text)), config.question_tokens, eos))
    return Tokens.of(rows, "question")


def passage_tokens(config: GlimmerConfig, tokenizer: Tokenizer, passages: Iterable[Passage]) -> Tokens:
    """Passages as ids, at most `passage_tokens` each.

    Raises:
        Refused: an empty passage, by id (D17).
    """
    eos = config.t5.eos_token_id if config.passage_eos else None
    rows = []
    for passage in passages:
        if not passage.text.strip():
            raise Refused(f"passage {passage.id!r}", "some text", repr(passage.text))
        ids = _close(tokenizer.encode(passage_text(config, passage)), config.passage_tokens, eos)
        if not ids:
            raise Refused(f"passage {passage.id!r}", "a text that gives at least one token", "none")
        rows.append(ids)
    return Tokens.of(rows, "passage")
