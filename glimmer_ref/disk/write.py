"""Files that are there whole or not at all, and their checksums."""

from __future__ import annotations

import hashlib
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import Refused
from .read import PathLike, open_regular


def _target(path: PathLike) -> tuple[Path, bool]:
    """Where a name leads, links followed, and whether something that is not a regular file is there already."""
    if not os.fspath(path):
        raise Refused("file name", "a path to write to", "an empty one", "is a shell variable not set?")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return Path(os.path.realpath(path)), False
    except ValueError:  # a NUL in the name
        raise Refused(f"{path}", "the name of a file", "a character that no name has") from None
    if stat.S_ISDIR(mode):
        raise Refused(f"{path}", "a file to write to", "a folder", "name a file in it")
    return (Path(os.path.realpath(path)), False) if stat.S_ISREG(mode) else (Path(path), True)


@contextmanager
def _straight(path: Path) -> Iterator[BinaryIO]:
    """A device or a pipe, written to as it stands: put in its place, a file would take its name away."""
    flags = os.O_WRONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)  # of a pipe that nobody reads: refused by the system, at once
    if hasattr(os, "set_blocking"):
        os.set_blocking(descriptor, True)
    with open(descriptor, "wb") as file:
        yield file


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A file beside the place, which takes the place once all of it is on the disk."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def written(path: PathLike) -> Iterator[BinaryIO]:
    """Where a block writes a file that appears whole or not at all; what was there before stays until then.

    A link is followed. A device or a pipe is written to as it stands.

    Raises:
        Refused: a folder, an empty name, a place that cannot be written or is full; a failure in the block too.
    """
    try:
        target, special = _target(path)
        with _straight(target) if special else _replacing(target) as file:
            yield file
    except OSError as error:
        raise Refused(f"{path}", "a place that can be written", error.strerror or type(error).__name__) from None


def write_text(path: PathLike, text: str) -> None:
    """`written`, in UTF-8, lines ending in one character on every system.

    Raises:
        Refused: as `written`, or half of a surrogate pair.
    """
    try:
        content = text.encode()
    except UnicodeEncodeError:
        raise Refused(f"{path}", "valid Unicode", "half of a surrogate pair") from None
    with written(path) as file:
        file.write(content)


def sha256(path: PathLike) -> str:
    """A file's SHA-256, in hexadecimal.

    Raises:
        Refused: it cannot be read.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
