"""Lines for people, on stdout and stderr: escaped, in what the stream can encode, and each to its own stream."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import Any, TextIO

from .errors import UNSAFE, InputError, escaped


def open_closed() -> None:
    """Streams that were closed before we began lead nowhere.

    Python has None in their place, by which `print` means stdout, and the next file opened would take their number.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
            with suppress(OSError):
                os.fstat(number)
                continue
            os.dup2(getattr(sys, name).fileno(), number)


def lead_nowhere() -> None:
    """What is still to be written to stdout is lost: whoever read it has gone, or there is no room."""
    with suppress(OSError, ValueError):  # a stream without a number
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _line(text: str, stream: TextIO) -> str:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return escaped(text).encode(encoding, "backslashreplace").decode(encoding) + "\n"


def say(*lines: str) -> None:
    """Lines on stdout.

    Raises:
        InputError: a place that is full.
        BrokenPipeError: nobody reads them any more.
    """
    if sys.stdout is None:
        return
    try:
        sys.stdout.write("".join(_line(line, sys.stdout) for line in lines))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        lead_nowhere()
        raise InputError("stdout", "a place that can be written", error.strerror or str(error)) from None


def note(line: str) -> None:
    """A line on stderr, if there is one: nothing hangs on it."""
    if sys.stderr is not None:
        with suppress(OSError):
            sys.stderr.write(_line(line, sys.stderr))
            sys.stderr.flush()


def watched() -> bool:
    """Is stderr a terminal, on which a line may be drawn again and again?"""
    return sys.stderr is not None and sys.stderr.isatty()


def say_json(data: Any) -> None:
    """One JSON document on stdout, NumPy's numbers as numbers; ASCII alone where stdout is not in UTF-8.

    Raises:
        InputError: a number that JSON has not; as `say`.
    """
    ascii_only = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "") != "utf8"
    try:
        text = json.dumps(data, indent=1, ensure_ascii=ascii_only, default=_plain, allow_nan=False)
    except ValueError:
        raise InputError("--json", "finite numbers", "NaN or an infinity, which JSON has not") from None
    say(*(UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", line) for line in text.split("\n")))


def _plain(x: Any) -> Any:
    return x.tolist()  # NumPy's arrays and numbers have it; anything else has no place in a document
