"""KILT's files, line by line: the knowledge source, the tasks' datapoints, and predictions.

What a line says beyond what is read here stays in its `record`, so that a file read and written again
holds the same JSON. A title or an answer that no UTF-8 file can hold, an id that is missing or there
twice, and a value of another type are refused with file and line; the ids seen are held in RAM.

Source: the keys of facebookresearch/KILT's README and the checks of its `kilt_utils`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..disk.write import written
from ..errors import Refused
from .inputs import read_jsonl

T = TypeVar("T", "Page", "Datapoint")
Record = Mapping[str, Any]
PLACE = ("start_paragraph_id", "start_character", "end_paragraph_id", "end_character")


@dataclass(frozen=True)
class Page:
    """One page of the knowledge source.

    Args:
        id: "wikipedia_id".
        paragraphs: "text": the title first, then headings, paragraphs and list items, as they stand there.
        record: the whole line.
    """

    id: str
    title: str
    paragraphs: tuple[str, ...]
    record: Record


@dataclass(frozen=True)
class Provenance:
    """Where the knowledge source proves an output: characters of some paragraphs of a page.

    Args:
        wikipedia_id: the page; empty where the file has null.
        start_paragraph_id, end_paragraph_id: the first and the last paragraph; None where not known.
        start_character, end_character: the first in the first paragraph and the one behind the last in
            the last; None where not known.
        bleu_score: how near the place comes to the original task's evidence, 0 to 1; None where not told.
    """

    wikipedia_id: str
    title: str
    start_paragraph_id: int | None
    start_character: int | None
    end_paragraph_id: int | None
    end_character: int | None
    bleu_score: float | None


@dataclass(frozen=True)
class Output:
    """One right output: an answer, what proves it, or both; None where the line has no such key."""

    answer: str | None
    provenance: tuple[Provenance, ...] | None


@dataclass(frozen=True)
class Datapoint:
    """One line of a task.

    Args:
        input: a question, a claim, or "subject [SEP] relation".
        outputs: empty in a test set.
        record: the whole line.
    """

    id: str
    input: str
    outputs: tuple[Output, ...]
    record: Record

    @property
    def answers(self) -> tuple[str, ...]:
        """The accepted answers that are not blank, each once."""
        given = (o.answer.strip() for o in self.outputs if o.answer)
        return tuple(dict.fromkeys(answer for answer in given if answer))

    @property
    def evidence(self) -> tuple[frozenset[str], ...]:
        """For each output that names its provenance, its pages: what `metrics` judges found pages by."""
        named = (o.provenance for o in self.outputs if o.provenance is not None)
        return tuple(frozenset(p.wikipedia_id.strip() for p in some) for some in named)


def _text(place: str, record: Record, key: str, default: str | None = None) -> str:
    value = record.get(key, default)
    if not isinstance(value, str):
        raise Refused(place, f'a string "{key}"', "none" if value is None else repr(value)[:60])
    return _unicode(place, key, value)


def _unicode(place: str, key: str, value: str) -> str:
    try:
        value.isascii() or value.encode()
    except UnicodeEncodeError:
        raise Refused(place, f'Unicode in "{key}"', "half of a surrogate pair", "another encoding?") from None
    return value


def _id(place: str, record: Record, key: str) -> str:
    """An id as a string, which is how KILT compares them; some files have numbers."""
    value = record.get(key)
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise Refused(place, f'an id "{key}"', "none" if value is None else repr(value)[:60])
    return _unicode(place, key, str(value).strip())


def _number(place: str, record: Record, key: str) -> int | None:
    """A place in a text; KILT has numbers, numbers as strings, and -1 where it is not known."""
    value = record.get(key)
    if value is None:
        return None
    if isinstance(value, str) and value.strip().removeprefix("-").isdecimal() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refused(place, f'a whole number "{key}"', repr(value)[:60])
    return value if value >= 0 else None


def _score(place: str, record: Record) -> float | None:
    """A BLEU; KILT's scripts have -1 where nothing was found."""
    value = record.get("bleu_score")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1 <= value <= 1:
        raise Refused(place, 'a number from 0 to 1, or -1, "bleu_score"', repr(value)[:60])
    return max(float(value), 0.0)


def _objects(place: str, record: Record, key: str) -> list[Record] | None:
    value = record.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise Refused(place, f'a list of objects "{key}"', repr(value)[:60])
    return value


def _provenance(place: str, record: Record) -> Provenance:
    if "wikipedia_id" not in record:
        raise Refused(place, 'a "wikipedia_id" in each provenance', "none")
    page = "" if record["wikipedia_id"] is None else _id(place, record, "wikipedia_id")
    numbers = {key: _number(place, record, key) for key in PLACE}
    return Provenance(page, _text(place, record, "title", ""), **numbers, bleu_score=_score(place, record))


def _output(place: str, record: Record) -> Output:
    answer = _text(place, record, "answer") if "answer" in record else None
    some = _objects(place, record, "provenance")
    return Output(answer, None if some is None else tuple(_provenance(place, p) for p in some))


def _page(place: str, record: Record) -> Page:
    id, title = _id(place, record, "wikipedia_id"), _text(place, record, "wikipedia_title")
    paragraphs = record.get("text")
    if not isinstance(paragraphs, list) or not all(isinstance(p, str) for p in paragraphs):
        raise Refused(place, 'a list of strings "text"', "none" if paragraphs is None else repr(paragraphs)[:60])
    return Page(id, title, tuple(_unicode(place, "text", p) for p in paragraphs), record)


def _datapoint(place: str, record: Record) -> Datapoint:
    outputs = tuple(_output(place, o) for o in _objects(place, record, "output") or ())
    return Datapoint(_id(place, record, "id"), _text(place, record, "input"), outputs, record)


def _each_once(path: str | Path, read: Callable[[str, Record], T]) -> Iterator[T]:
    seen: dict[str, str] = {}
    for place, record in read_jsonl(path):
        item = read(place, record)
        if item.id in seen:
            raise Refused(place, "ids that occur once", f"{item.id!r} again", f"it is also in {seen[item.id]}")
        seen[item.id] = place.rsplit(", ", 1)[-1]
        yield item


def read_knowledge(path: str | Path) -> Iterator[Page]:
    """The pages of a knowledge source, one at a time.

    Raises:
        Refused: no such file, or a line that is no page, by number.
    """
    return _each_once(path, _page)


def read_task(path: str | Path) -> Iterator[Datapoint]:
    """The datapoints of a task's file, one at a time.

    Raises:
        Refused: no such file, or a line that is no datapoint, by number.
    """
    return _each_once(path, _datapoint)


def write_lines(path: str | Path, records: Iterable[Record]) -> int:
    """Write a JSON-lines file that is there whole or not at all; says how many lines it has.

    All characters beyond ASCII are escaped, as in KILT's own files: its scripts read with the encoding
    of the machine's locale.

    Raises:
        Refused: a place that cannot be written, or is full, or values nested too deeply to write; what was
            there before still is then.
    """
    lines = 0
    try:
        with written(path) as file:
            for record in records:
                file.write((json.dumps(record, allow_nan=False) + "\n").encode("ascii"))
                lines += 1
    except RecursionError:
        raise Refused(str(path), "values that are not nested deeply", "hundreds of levels") from None
    return lines


def prediction(id: str, answer: str, provenance: Iterable[Record]) -> Record:
    """A line of predictions.

    Args:
        answer: may be empty; then it is wrong.
        provenance: places as KILT has them, best first; "wikipedia_id" is what its evaluation looks at.
    """
    return {"id": id, "output": [{"answer": answer, "provenance": list(provenance)}]}


def write_predictions(path: str | Path, predictions: Iterable[Record], ids: Collection[str]) -> int:
    """Write predictions that KILT's evaluation takes for a task: each of its ids once, and no other.

    Args:
        predictions: from `prediction`, in any order.
        ids: of the task's datapoints.

    Raises:
        Refused: an id that the task has not, or twice, or none for a datapoint; a place that cannot be
            written. Nothing is written then.
    """
    missing = set(ids)

    def checked() -> Iterator[Record]:
        for record in predictions:
            if record["id"] not in missing:
                got = f"{record['id']!r} again" if record["id"] in ids else repr(record["id"])
                raise Refused(str(path), "one prediction for each datapoint of the task", got)
            missing.remove(record["id"])
            yield record
        if missing:
            raise Refused(str(path), "a prediction for each datapoint", f"none for {min(missing)!r}")

    return write_lines(path, checked())
