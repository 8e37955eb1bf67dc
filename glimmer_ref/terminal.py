"""Lines for people on stdout and stderr: escaped, and in characters that the stream can encode."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import Any, TextIO

from .errors import UNSAFE, InputError, escaped


def open_closed() -> None:
    """Replace standard streams that were closed before the start by the null device.

    Python sets such a stream to None, which `print` takes for stdout. Besides, the next file that is opened would get
    the number of the closed stream.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
            with suppress(OSError):
                os.fstat(number)
                continue
            os.dup2(getattr(sys, name).fileno(), number)


def redirect_to_devnull() -> None:
    """Discard further output to stdout: its reader has gone, or the disk is full."""
    with suppress(OSError, ValueError):  # a stream without a file number
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _line(text: str, stream: TextIO) -> str:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return escaped(text).encode(encoding, "backslashreplace").decode(encoding) + "\n"


def say(*lines: str) -> None:
    """Print lines on stdout.

    Raises:
        InputError: the disk is full.
        BrokenPipeError: the reader has gone.
    """
    if sys.stdout is None:
        return
    try:
        sys.stdout.write("".join(_line(line, sys.stdout) for line in lines))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        redirect_to_devnull()
        raise InputError("stdout", "a place that can be written", error.strerror or str(error)) from None


def note(line: str) -> None:
    """Print a line on stderr, if the process has a stderr; a failure is ignored."""
    if sys.stderr is not None:
        with suppress(OSError):
            sys.stderr.write(_line(line, sys.stderr))
            sys.stderr.flush()


def watched() -> bool:
    """Is stderr a terminal, on which a line can be redrawn?"""
    return sys.stderr is not None and sys.stderr.isatty()


def interactive() -> bool:
    """Are stdin and stdout a terminal, so that a prompt is seen and answered by a person?"""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def say_json(data: Any) -> None:
    """Print one JSON document, which may hold NumPy's numbers, on stdout; only in ASCII if stdout is not in UTF-8.

    Raises:
        InputError: a number that JSON does not have; as `say`.
    """
    ascii_only = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "") != "utf8"
    try:
        text = json.dumps(data, indent=1, ensure_ascii=ascii_only, default=_plain, allow_nan=False)
    except ValueError:
        raise InputError("--json", "finite numbers", "NaN or an infinity, which JSON has not") from None
    say(*(UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", line) for line in text.split("\n")))


def _plain(x: Any) -> Any:
    return x.tolist()  # arrays and numbers of NumPy have it; nothing else belongs in a document
