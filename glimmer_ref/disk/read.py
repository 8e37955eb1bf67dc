"""Reads files that a user names: regular files only, limited in size, text in UTF-8, strict JSON."""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EMFILE
from io import BufferedReader
from typing import Any

from ..errors import InputError
from . import kinds

PathLike = str | os.PathLike[str]

MAX_JSON_BYTES = 64 * 2**20
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)
REASONS: tuple[tuple[type[OSError], str], ...] = (
    (FileNotFoundError, "no such file or folder"),
    (FileExistsError, "a file of this name"),
    (NotADirectoryError, "a file where a folder should be"),
    (PermissionError, "no permission"),
)
LATIN = kinds.Kind("other bytes, perhaps of Latin-1 or Windows-1252", "save it as UTF-8")


def kind(mode: int) -> str:
    """The kind of a file that is not regular, from its `st_mode`."""
    return next((name for test, name in KINDS if test(mode)), "another kind of file")


def max_open_files() -> int:
    """How many files this process may have open at a time; 512, the lowest usual limit, if the system has no answer."""
    try:
        from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit  # not on every system
    except ImportError:
        return 512
    most = getrlimit(RLIMIT_NOFILE)[0]
    return 2**20 if most == RLIM_INFINITY else most


def reason_of(error: OSError) -> str:
    """What the system found, in a few words, with the limit on open files if that was the cause."""
    known = next((words for kind, words in REASONS if isinstance(error, kind)), None)
    words = known or error.strerror or type(error).__name__
    limit = f", of which this process may have {max_open_files()} (ulimit -n)" if error.errno == EMFILE else ""
    return words + limit


def _instead(path: PathLike, error: OSError) -> kinds.Kind:
    """What a path is that should be a file."""
    said = kinds.Kind(reason_of(error))
    if os.path.isdir(path):
        return kinds.Kind("a folder", "name a file in it")
    folder = os.path.dirname(os.fspath(path))  # perhaps the folder of a model, one file of which was expected
    names = (os.fspath(path), folder) if isinstance(error, FileNotFoundError) else ()
    return next(filter(None, map(kinds.is_published, names)), said)


def _open(path: PathLike) -> int:
    """Open a file for reading, without waiting for the other end of a pipe, and return its descriptor."""
    if not os.fspath(path):
        raise InputError("file name", "a path", "an empty one", "perhaps a shell variable is not set")
    try:
        return os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise InputError(f"{path}", "a readable file", *_instead(path, error)) from None
    except ValueError:  # a NUL in the name
        raise InputError(f"{path}", "the name of a file", "a character that no name has") from None


@contextmanager
def open_regular(path: PathLike) -> Iterator[BufferedReader]:
    """Open a regular file for reading bytes. Pipes and devices are refused, since they may never end.

    Raises:
        InputError: the file is missing, cannot be read, or is not regular; or reading fails within the block.
    """
    descriptor = _open(path)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            do = "name a file in it" if stat.S_ISDIR(mode) else "save its content to a file first"
            raise InputError(f"{path}", "a regular file", kind(mode), do)
        with open(descriptor, "rb", closefd=False) as file:
            yield file
    except OSError as error:
        raise InputError(f"{path}", "a readable file", reason_of(error)) from None
    finally:
        os.close(descriptor)


def read_bytes(path: PathLike, most: int) -> bytes:
    """All of a regular file of at most `most` bytes.

    Raises:
        InputError: as `open_regular`, or the file is larger.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise InputError(f"{path}", f"at most {most:,} bytes", f"{size:,}")
        return file.read(size)


def decode(raw: bytes, location: str) -> str:
    """Decode UTF-8, without the byte order mark that it may begin with.

    Raises:
        InputError: another encoding, named if it is recognised.
    """
    try:
        return raw.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError:
        kind = kinds.of_bytes(raw[: kinds.HEAD]) or LATIN
    raise InputError(location, "text in UTF-8", *kind)


def read_text(path: PathLike, most: int = MAX_JSON_BYTES) -> str:
    """A text file in UTF-8.

    Raises:
        InputError: as `read_bytes` and `decode`.
    """
    return decode(read_bytes(path, most), f"{path}")


def _no_constant(word: str) -> None:
    raise ValueError(f"{word}, which JSON does not have")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"{digits[:20]}, which is too large")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("an object with the same name twice")
    return result


def parse_json(text: str | bytes, location: str, what: str = "JSON", once: bool = False) -> Any:
    """Parse strict JSON: NaN and infinities are refused.

    Args:
        location: the file, perhaps with a line, for the error.
        what: the expected content, for the error.
        once: refuse an object with the same name twice, since other readers may use the other value.

    Raises:
        InputError: not UTF-8, not JSON, nested too deeply, or a number too large for a float.
    """
    if isinstance(text, bytes):
        text = decode(text, location)
    try:
        return json.loads(
            text, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_once if once else None
        )
    except RecursionError:
        raise InputError(location, what, "values nested too deeply") from None
    except ValueError as error:
        begun = text.lstrip()[:1] in ("", "{", "[") and "\0" not in text[:4]  # JSON, but broken
        kind = None if begun else kinds.of_bytes(text[: kinds.HEAD].encode("utf-8", "replace"))
        said = str(error)[:120]
        if isinstance(error, json.JSONDecodeError):
            line = f"line {error.lineno}, " if "\n" in text else ""
            said = f"text that is not JSON ({error.msg} at {line}column {error.colno})"
            if error.msg == "Extra data":
                said = "more than one value, perhaps one on each line"
        raise InputError(location, what, *(kind or (said,))) from None


def read_json(path: PathLike, what: str = "JSON", most: int = MAX_JSON_BYTES) -> Any:
    """A JSON file.

    Raises:
        InputError: as `read_bytes` and `parse_json`.
    """
    return parse_json(read_bytes(path, most), f"{path}", what)
