"""Writes files completely or not at all, and computes their checksums."""

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

NEW = ".new"  # the end of the temporary name of a file or folder that is being written
TEMPORARY = re.compile(r"\.(.+)\.(?:\d{1,3}|[0-9a-f]{32})\.new")
MAX_WRITERS = 100  # at most so many processes write one file at the same time


def _target(path: PathLike) -> tuple[Path, bool]:
    """The file that a path leads to after links, and whether it exists and is not a regular file."""
    if not os.fspath(path):
        raise InputError("file name", "a path to write to", "an empty one", "perhaps a shell variable is not set")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return Path(os.path.realpath(path)), False
    except ValueError:  # a NUL in the name
        raise InputError(f"{path}", "the name of a file", "a character that no name has") from None
    if stat.S_ISDIR(mode):
        raise InputError(f"{path}", "a file to write to", "a folder", "name a file in it")
    return (Path(os.path.realpath(path)), False) if stat.S_ISREG(mode) else (Path(path), True)


def _refusal(path: PathLike, error: OSError) -> InputError:
    """The error for a file that cannot be written."""
    folder = os.path.dirname(os.path.realpath(path))
    if isinstance(error, FileNotFoundError) and not os.path.exists(folder):
        return InputError(f"{path}", "a place that can be written", "no such folder", f"make the folder {folder} first")
    return InputError(f"{path}", "a place that can be written", reason_of(error))


@contextmanager
def _write_through(path: Path) -> Iterator[BinaryIO]:
    """Write directly into a device or a pipe; a regular file must not replace it."""
    flags = os.O_WRONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)  # the system refuses a pipe without a reader at once
    if hasattr(os, "set_blocking"):
        os.set_blocking(descriptor, True)
    with open(path, "wb", opener=lambda *_: descriptor) as file:
        yield file


def _temporary(path: Path, number: int | str) -> Path:
    return path.with_name(f".{path.name}.{number}{NEW}")


def _claim(path: Path) -> tuple[Path, int]:
    """An empty temporary file beside the target that this writer alone uses, and its descriptor.

    The file of a killed writer is reused. A lock shows that a living writer still uses its file. Further leftover
    files are removed.
    """
    for number in range(MAX_WRITERS):
        temporary = _temporary(path, number)
        try:
            taken = try_lock(temporary)
        except OSError:
            if os.path.lexists(temporary):  # it belongs to another user
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
    temporary = _temporary(path, uuid.uuid4().hex)  # without locks: a name that no other writer has
    return temporary, os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)


def _remove_if_dead(temporary: Path) -> None:
    """Remove a temporary file if its writer has ended. It stays if the file system has no locks."""
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
    """The final name of a temporary file; None if the name is not a temporary one."""
    found = TEMPORARY.fullmatch(name)
    return found[1] if found else None


def clean_leftovers(folder: PathLike, ours: Callable[[str], object] = bool) -> None:
    """Remove the temporary files that killed writers left in a folder; files that are being written stay.

    Args:
        ours: True for the final names whose temporary files are removed; all others stay.
    """
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
    """A file beside the target, which replaces it once all bytes are on the disk."""
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
                if not WINDOWS:  # replace it while it is locked
                    _finish(temporary, path, whole)
    finally:
        if WINDOWS:  # Windows can neither rename nor remove an open file
            _finish(temporary, path, whole)


@contextmanager
def written(path: PathLike) -> Iterator[BinaryIO]:
    """Open a file for writing that appears completely or not at all; the old file stays until then.

    A link is followed. A device or a pipe is written directly.

    Raises:
        InputError: a folder, an empty name, a place that cannot be written, a full disk; or writing fails within the
            block.
    """
    try:
        target, special = _target(path)
        with _write_through(target) if special else _replacing(target) as file:
            yield file
    except OSError as error:
        raise _refusal(path, error) from None


def check_place(path: PathLike) -> None:
    """Check a path before the work starts, and refuse what `written` would refuse later, as far as this can be known.

    Raises:
        InputError: a folder, an empty name, or a parent folder that does not exist.
    """
    try:
        target, _ = _target(path)
        os.stat(target.parent)
    except OSError as error:
        raise _refusal(path, error) from None


def write_text(path: PathLike, text: str) -> None:
    """Write text with `written`, in UTF-8; a line ends in one character on every system.

    Raises:
        InputError: as `written`, or the text has half of a surrogate pair.
    """
    try:
        content = text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{path}", "valid Unicode", "half of a surrogate pair") from None
    with written(path) as file:
        file.write(content)


def json_text(document: object) -> str:
    """JSON in the form of our files: in ASCII, indented by one. NaN raises ValueError."""
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def write_json(path: PathLike, document: object) -> None:
    """Write data as `json_text` with `written`.

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
