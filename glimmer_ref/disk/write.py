"""Files that are there whole or not at all, and their checksums."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError
from .lock import WINDOWS, try_lock
from .read import PathLike, open_regular, reason_of

NEW = ".new"  # the end of a name that stands until a file, or a folder, takes its place
TEMPORARY = re.compile(r"\.(.+)\.(?:\d{1,3}|[0-9a-f]{32})\.new")
MAX_WRITERS = 100  # of one file at once


def _target(path: PathLike) -> tuple[Path, bool]:
    """Where a name leads, links followed, and whether something that is not a regular file is there already."""
    if not os.fspath(path):
        raise InputError("file name", "a path to write to", "an empty one", "is a shell variable not set?")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return Path(os.path.realpath(path)), False
    except ValueError:  # a NUL in the name
        raise InputError(f"{path}", "the name of a file", "a character that no name has") from None
    if stat.S_ISDIR(mode):
        raise InputError(f"{path}", "a file to write to", "a folder", "name a file in it")
    return (Path(os.path.realpath(path)), False) if stat.S_ISREG(mode) else (Path(path), True)


@contextmanager
def _write_through(path: Path) -> Iterator[BinaryIO]:
    """A device or a pipe, written to as it stands: put in its place, a file would take its name away."""
    flags = os.O_WRONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)  # of a pipe that nobody reads: refused by the system, at once
    if hasattr(os, "set_blocking"):
        os.set_blocking(descriptor, True)
    with open(path, "wb", opener=lambda *_: descriptor) as file:
        yield file


def _temporary(path: Path, number: int | str) -> Path:
    return path.with_name(f".{path.name}.{number}{NEW}")


def _claim(path: Path) -> tuple[Path, int]:
    """An empty file beside the place that this writer alone has, and its descriptor.

    What a killed writer left is taken over: a lock tells it from what another is writing. Files left after it go.
    """
    for number in range(MAX_WRITERS):
        temporary = _temporary(path, number)
        try:
            taken = try_lock(temporary)
        except OSError:
            if os.path.lexists(temporary):  # somebody else's
                continue
            raise
        if taken is None:
            continue
        descriptor, locks = taken
        if locks:
            os.truncate(descriptor, 0)
            _clean_from(path, number + 1)
            return temporary, descriptor
        os.close(descriptor)
        temporary.unlink(missing_ok=True)
        break
    temporary = _temporary(path, uuid.uuid4().hex)  # no locks here: a name that nobody else has
    return temporary, os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)


def _remove_if_dead(temporary: Path) -> None:
    """Remove a temporary file if nobody is writing it; where there are no locks, it stays."""
    with suppress(OSError):
        if (taken := try_lock(temporary)) is not None:
            try:
                if taken[1] and not WINDOWS:
                    temporary.unlink()
            finally:
                os.close(taken[0])
            if taken[1] and WINDOWS:
                temporary.unlink()


def _clean_from(path: Path, number: int) -> None:
    while (left := _temporary(path, number)).exists():
        _remove_if_dead(left)
        number += 1


def temporary_of(name: str) -> str | None:
    """The name of the file that a temporary one was to become; None for other names."""
    found = TEMPORARY.fullmatch(name)
    return found[1] if found else None


def clean_leftovers(folder: PathLike, ours: Callable[[str], object] = bool) -> None:
    """Remove what killed writers left in a folder of files of ours; what somebody is writing stays."""
    for entry in Path(folder).iterdir():
        name = temporary_of(entry.name)
        if name is not None and ours(name):
            _remove_if_dead(entry)


def _finish(temporary: Path, path: Path, whole: bool) -> None:
    if whole:
        os.replace(temporary, path)
    else:
        temporary.unlink(missing_ok=True)


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A file beside the place, which takes the place once all of it is on the disk."""
    temporary, descriptor = _claim(path)
    whole = False
    try:
        with open(temporary, "wb", opener=lambda *_: descriptor) as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                whole = True
            finally:
                if not WINDOWS:  # while it is locked
                    _finish(temporary, path, whole)
    finally:
        if WINDOWS:  # where an open file can be neither renamed nor removed
            _finish(temporary, path, whole)


@contextmanager
def written(path: PathLike) -> Iterator[BinaryIO]:
    """Where a block writes a file that appears whole or not at all; what was there before stays until then.

    A link is followed. A device or a pipe is written to as it stands.

    Raises:
        InputError: a folder, an empty name, a place that cannot be written or is full; a failure in the block too.
    """
    try:
        target, special = _target(path)
        with _write_through(target) if special else _replacing(target) as file:
            yield file
    except OSError as error:
        raise InputError(f"{path}", "a place that can be written", reason_of(error)) from None


def check_place(path: PathLike) -> None:
    """Refuse a place that `written` would, where that can be seen before the work.

    Raises:
        InputError: a folder, an empty name, or a name that leads nowhere.
    """
    try:
        target, _ = _target(path)
        os.stat(target.parent)
    except OSError as error:
        raise InputError(f"{path}", "a place that can be written", reason_of(error)) from None


def write_text(path: PathLike, text: str) -> None:
    """`written`, in UTF-8, lines ending in one character on every system.

    Raises:
        InputError: as `written`, or half of a surrogate pair.
    """
    try:
        content = text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{path}", "valid Unicode", "half of a surrogate pair") from None
    with written(path) as file:
        file.write(content)


def json_text(document: object) -> str:
    """JSON as our files hold it: in ASCII, indented by one. A ValueError where there is NaN, which is no JSON."""
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def write_json(path: PathLike, document: object) -> None:
    """`json_text`, `written`.

    Raises:
        InputError: as `written`.
    """
    write_text(path, json_text(document))


def sha256(path: PathLike) -> str:
    """A file's SHA-256, in hexadecimal.

    Raises:
        InputError: it cannot be read.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
