"""The fields of a JSON line, read and checked in the same way for all files. null counts as a missing key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import InputError, brief

Record = Mapping[str, Any]


def given(value: object) -> str:
    """A value in the form in which error messages show it."""
    return "none" if value is None else brief(value)


def valid(location: str, key: str, value: str) -> str:
    """The string itself, after a check.

    Raises:
        InputError: the string is not valid Unicode.
    """
    try:
        value.isascii() or value.encode()
    except UnicodeEncodeError:
        raise InputError(
            location,
            f'valid Unicode in "{key}"',
            "half of a surrogate pair",
            "perhaps the file was in another encoding",
        ) from None
    return value


def string(location: str, record: Record, key: str, default: str | None = None) -> str:
    """A field with a string.

    Raises:
        InputError: the value has another type, or there is no value and no default.
    """
    value = default if record.get(key) is None else record[key]
    if not isinstance(value, str):
        raise InputError(location, f'a key "{key}" with a string', given(value))
    return valid(location, key, value)


def _as_id(value: object) -> str | None:
    """A string, or the digits of a whole number, which some files have; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None


def identity(location: str, record: Record, key: str, default: str | None = None) -> str:
    """A field with an id, which is a string or an integer.

    Raises:
        InputError: the value has another type or is blank, or there is no value and no default.
    """
    value = default if record.get(key) is None else record[key]
    id = _as_id(value)
    if id is None or not id.strip():
        raise InputError(location, f'a key "{key}" with a string or a whole number', given(value))
    return valid(location, key, id)


def identities(location: str, record: Record, key: str) -> tuple[str, ...]:
    """A field with a list of ids, each a string or an integer; empty if the field is missing.

    Raises:
        InputError: the value has another type.
    """
    value = [] if record.get(key) is None else record[key]
    ids = [_as_id(v) for v in value] if isinstance(value, list) else [None]
    known = tuple(valid(location, key, id) for id in ids if id is not None)
    if len(known) < len(ids):
        raise InputError(location, f'a key "{key}" with a list of strings or of whole numbers', given(value))
    return known


def objects(location: str, record: Record, key: str) -> list[Record] | None:
    """A field with a list of objects; None if the field is missing.

    Raises:
        InputError: the value has another type.
    """
    value = record.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise InputError(location, f'a key "{key}" with a list of objects', given(value))
    return value


def page(location: str, record: Record) -> str | None:
    """The id of the page in a provenance of KILT: empty for null, None if the key is missing.

    Raises:
        InputError: the value is not an id.
    """
    if record.get("wikipedia_id") is None:
        return "" if "wikipedia_id" in record else None
    return identity(location, record, "wikipedia_id").strip()


def accepted(answers: Iterable[str]) -> tuple[str, ...]:
    """Answers without white space around them. Repeated and blank answers are left out."""
    return tuple(dict.fromkeys(answer.strip() for answer in answers if answer.strip()))


def answers(location: str, record: Record, key: str = "answer") -> tuple[str, ...]:
    """The answers in a field, which is a string or a list of strings.

    Raises:
        InputError: the value has another type.
    """
    value = record.get(key)
    some = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(some, list) or not all(isinstance(answer, str) for answer in some):
        raise InputError(location, f'a key "{key}" with a string or a list of strings', given(value))
    return accepted(valid(location, key, answer) for answer in some)
