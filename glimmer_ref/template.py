"""A format with {title} and {text}: parsed once, and filled in by joining strings."""

from __future__ import annotations

import string
from functools import lru_cache

from .errors import InputError, brief

MAX_CHARACTERS = 1000  # characters
FIELDS = ("title", "text")


@lru_cache(maxsize=64)
def parse(form: str) -> tuple[tuple[str, str | None], ...]:
    """The literal parts of a format, each with the field that follows it; None after the last.

    A doubled brace stands for a brace. {text} must occur once; {title} may occur once.

    Raises:
        InputError: more than `MAX_CHARACTERS`, another field, a conversion or a format, or a field too often.
    """
    what = "config: passage_format"
    if len(form) > MAX_CHARACTERS:
        raise InputError(what, f"at most {MAX_CHARACTERS} characters", f"{len(form):,}")
    try:
        parts = list(string.Formatter().parse(form))
    except ValueError:
        parts = [("", "", "", None)]
    known = all(field is None or (field in FIELDS and not spec and not how) for _, field, spec, how in parts)
    fields = [field for _, field, _, _ in parts if field is not None]
    if not known or fields.count("text") != 1 or fields.count("title") > 1:
        raise InputError(what, "a string that contains {text} once and may contain {title}", brief(form))
    return tuple((literal, field) for literal, field, _, _ in parts)


def filled(form: str, title: str, text: str) -> str:
    """Fill in the fields of a format; braces in their values are plain text.

    Raises:
        InputError: as `parse`.
    """
    values = {"title": title, "text": text, None: ""}
    return "".join(literal + values[field] for literal, field in parse(form))
