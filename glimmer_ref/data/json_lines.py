"""JSON lines: one object per line, in UTF-8. If a file has another format, the error message names this format."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..disk import kinds
from ..disk.read import MAX_JSON_BYTES, decode, open_regular, parse_json
from ..errors import InputError

WHAT = "one JSON object"
MARK = b"\xef\xbb\xbf"  # a byte order mark in UTF-8
MOST_LINE = MAX_JSON_BYTES


def _instead(text: str) -> tuple[str, str]:
    """A description of a line that is not a JSON object, and advice; both are empty if the format is unknown."""
    if text.startswith("["):
        return "a JSON array", "write one object on each line, without the brackets"
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError as error:
        cut = error.pos >= len(text) or error.msg.startswith("Unterminated")
        return ("the beginning of one", "write all of it on this line") if cut else ("", "")
    except (ValueError, RecursionError):
        return "", ""
    behind = text[end:].strip()
    if not behind:
        return "", ""
    return (
        ("a comma after it", "remove the comma") if behind == "," else ("more than one value", "write one on each line")
    )


def _line(raw: bytes, first: bool, location: str) -> str:
    """The text of a line. Only the first line of a file may begin with a byte order mark."""
    if len(raw) > MOST_LINE:
        raise InputError(location, f"at most {MOST_LINE:,} bytes", "more")
    if raw.startswith(MARK) and not first:
        raise InputError(
            location,
            "a byte order mark only at the beginning of the file",
            "one here",
            "perhaps two files were joined: remove it",
        )
    text = decode(raw, location).strip()
    if "\0" in text:
        raise InputError(location, "text in UTF-8", "NUL bytes, perhaps of UTF-16", "save it as UTF-8")
    return text


def _object(text: str, location: str) -> dict[str, Any]:
    try:
        record = parse_json(text, location, WHAT)
    except InputError:
        got, do = _instead(text)
        if not got:
            raise
        raise InputError(location, WHAT, got, do) from None
    if not isinstance(record, dict):
        got, do = _instead(text)
        raise InputError(location, WHAT, got or type(record).__name__, do)
    return record


def jsonl(lines: Iterable[bytes], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects in JSON lines, each with its place for error messages. Blank lines are skipped.

    Raises:
        InputError: a line is not a JSON object. The message has its number.
    """
    for number, raw in enumerate(lines, start=1):
        location = f"{name}, line {number}"
        if raw.strip() and (text := _line(raw, number == 1, location)):
            yield location, _object(text, location)


def read_jsonl(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects in a JSON-lines file, see `jsonl`.

    Raises:
        InputError: there is no such file, it is not a regular file, or a line is broken.
    """
    with open_regular(path) as file:
        # UTF-16 is reported for the line, like other encodings.
        kinds.refuse(file.peek(kinds.HEAD), str(path), "JSON, one object a line", kinds.UTF_16)
        yield from jsonl(iter(lambda: file.readline(MOST_LINE + 1), b""), str(path))
