"""KILT's files, line by line: the knowledge source, the tasks' datapoints, and predictions.

`record` keeps all keys of a line, so that a file that is read and written again has the same JSON. Text that is not
valid Unicode, an id that is missing or occurs twice, and a value with another type are errors that name file and line.
The ids so far are held in RAM.

Source: the keys in facebookresearch/KILT's README and the checks in its `kilt_utils`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..disk.write import written
from ..errors import InputError, brief
from . import fields
from .fields import Record
from .inputs import each_once
from .json_lines import read_jsonl

_DECIMAL = re.compile(r"-?\d{1,20}(\.\d{1,40})?(e-?\d{1,3})?", re.ASCII | re.IGNORECASE)
LOCATION = ("start_paragraph_id", "start_character", "end_paragraph_id", "end_character")


@dataclass(frozen=True)
class Page:
    """One page of the knowledge source.

    Args:
        id: the value of "wikipedia_id".
        paragraphs: the values of "text": the title, then headings, paragraphs and list items in order.
        record: the whole line.
    """

    id: str
    title: str
    paragraphs: tuple[str, ...]
    record: Record


@dataclass(frozen=True)
class Provenance:
    """A place in the knowledge source that proves an output: some characters in paragraphs of a page.

    Args:
        wikipedia_id: id of the page; "" if the file has null; None if the key is missing. KILT's evaluation does not
            count a place without the key.
        start_paragraph_id, end_paragraph_id: the first and the last paragraph; None if unknown.
        start_character: the first character, in the first paragraph; None if unknown.
        end_character: the character behind the last one, in the last paragraph; None if unknown.
        bleu_score: similarity of the place to the evidence in the original task, 0 to 1; None if the key is missing.
    """

    wikipedia_id: str | None
    title: str
    start_paragraph_id: int | None
    start_character: int | None
    end_paragraph_id: int | None
    end_character: int | None
    bleu_score: float | None


@dataclass(frozen=True)
class Output:
    """One accepted output: an answer, its provenance, or both.

    Args:
        answers: the accepted answers without blank ones. KILT has one answer per output, exports of TriviaQA have more.
        provenance: the places that prove the output; None if the key is missing.
    """

    answers: tuple[str, ...]
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
        return fields.accepted(answer for output in self.outputs for answer in output.answers)

    @property
    def evidence(self) -> tuple[frozenset[str], ...]:
        """For each output with a provenance, the ids of its pages: the targets of `evaluation.metrics`."""
        named = (o.provenance for o in self.outputs if o.provenance is not None)
        return tuple(frozenset(p.wikipedia_id for p in some if p.wikipedia_id is not None) for some in named)


def _number(location: str, record: Record, key: str) -> int | None:
    """A position. KILT's files have numbers, numbers as strings, and -1 if the position is unknown."""
    value = record.get(key)
    if value is None:
        return None
    if isinstance(value, str) and value.strip().removeprefix("-").isdecimal() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(location, f'a key "{key}" with a whole number', brief(value))
    return value if value >= 0 else None


def _score(location: str, record: Record) -> float | None:
    """A BLEU score. KILT's scripts write -1 where nothing was found."""
    value = record.get("bleu_score")
    if value is None:
        return None
    if isinstance(value, str) and _DECIMAL.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1 <= value <= 1:
        raise InputError(location, 'a key "bleu_score" with a number from 0 to 1, or -1', brief(value))
    return max(float(value), 0.0)


def _provenance(location: str, record: Record) -> Provenance:
    numbers = {key: _number(location, record, key) for key in LOCATION}
    return Provenance(
        fields.page(location, record),
        fields.string(location, record, "title", ""),
        **numbers,
        bleu_score=_score(location, record),
    )


def _output(location: str, record: Record) -> Output:
    objects = fields.objects(location, record, "provenance")
    provenance = None if objects is None else tuple(_provenance(location, p) for p in objects)
    return Output(fields.answers(location, record), provenance)


def _page(location: str, record: Record) -> tuple[str, Page]:
    id, title = fields.identity(location, record, "wikipedia_id"), fields.string(location, record, "wikipedia_title")
    paragraphs = record.get("text")
    if not isinstance(paragraphs, list) or not all(isinstance(p, str) for p in paragraphs):
        raise InputError(location, 'a key "text" with a list of strings', fields.given(paragraphs))
    return location, Page(id.strip(), title, tuple(fields.valid(location, "text", p) for p in paragraphs), record)


def _datapoint(location: str, record: Record) -> tuple[str, Datapoint]:
    outputs = tuple(_output(location, o) for o in fields.objects(location, record, "output") or ())
    id = fields.identity(location, record, "id").strip()
    return location, Datapoint(id, fields.string(location, record, "input"), outputs, record)


def read_knowledge(path: str | Path) -> Iterator[Page]:
    """The pages of a knowledge source, one at a time.

    Raises:
        InputError: there is no such file, or a line is not a page. The message has the line's number.
    """
    return each_once(_page(location, record) for location, record in read_jsonl(path))


def read_task(path: str | Path) -> Iterator[Datapoint]:
    """The datapoints of a task's file, one at a time.

    Raises:
        InputError: there is no such file, or a line is not a datapoint. The message has the line's number.
    """
    return each_once(_datapoint(location, record) for location, record in read_jsonl(path))


def write_lines(path: str | Path, records: Iterable[Record]) -> int:
    """Write a JSON-lines file, completely or not at all.

    All characters beyond ASCII are escaped, as in KILT's own files, because its scripts read files with the encoding of
    the machine's locale.

    Returns:
        The number of lines.

    Raises:
        InputError: the file cannot be written, the disk is full, or values are nested too deeply. A file that existed
            before is not changed.
    """
    lines = 0
    try:
        with written(path) as file:
            for record in records:
                file.write((json.dumps(record, allow_nan=False) + "\n").encode("ascii"))
                lines += 1
    except RecursionError:
        raise InputError(str(path), "values that are not nested deeply", "hundreds of levels") from None
    return lines


def prediction(id: str, answer: str, provenance: Iterable[Record]) -> Record:
    """A line of a predictions file.

    Args:
        answer: the predicted answer. If it is empty, it counts as wrong.
        provenance: places in KILT's form, best first. KILT's evaluation uses their "wikipedia_id".
    """
    return {"id": id, "output": [{"answer": answer, "provenance": list(provenance)}]}


def write_predictions(path: str | Path, predictions: Iterable[Record], ids: Collection[str]) -> int:
    """Write predictions in the form that KILT's evaluation expects for a task: each id of the task once, and no other.

    Args:
        predictions: results of `prediction`, in any order.
        ids: ids of the task's datapoints.

    Raises:
        InputError: an id is unknown or missing or occurs twice, or the file cannot be written. Nothing is written then.
    """
    missing = set(ids)

    def checked() -> Iterator[Record]:
        for record in predictions:
            if record["id"] not in missing:
                got = f"{record['id']!r} again" if record["id"] in ids else repr(record["id"])
                raise InputError(str(path), "one prediction for each datapoint of the task", got)
            missing.remove(record["id"])
            yield record
        if missing:
            raise InputError(str(path), "a prediction for each datapoint", f"none for {min(missing)!r}")

    return write_lines(path, checked())
