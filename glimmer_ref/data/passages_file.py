"""A file of passages that is read twice: checked line by line before the work, and held to what it was after it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from ..disk.read import reason_of
from ..disk.write import sha256
from ..errors import InputError
from .inputs import read_passages


class Source(NamedTuple):
    """A passages file that was read once: how many passages, its SHA-256, and what tells that it changed."""

    path: str | Path
    passages: int
    sha256: str
    stamp: tuple[int, ...]

    def check(self) -> None:
        """Hold the file against what it was.

        Raises:
            InputError: it was changed meanwhile.
        """
        if _stamp(self.path) != self.stamp:
            do = "run the same command again once nobody writes to it"
            raise InputError(str(self.path), "a file that stays as it is during the build", "a change", do)


def _stamp(path: str | Path) -> tuple[int, ...]:
    try:
        stat = os.stat(path)
    except OSError as error:
        raise InputError(str(path), "a readable file", reason_of(error)) from None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def read_source(path: str | Path) -> Source:
    """The first of two readings: every line is checked before anything is encoded.

    Raises:
        InputError: no regular file, a broken line, a string that no file can hold, or no passage at all.
    """
    stamp = _stamp(path)
    if not Path(path).is_file():
        raise InputError(str(path), "a regular file, which is read twice", "another kind")
    count = 0
    for _ in read_passages(path):
        count += 1
    if not count:
        raise InputError(str(path), "at least one passage", "none")
    return Source(path, count, sha256(Path(path)), stamp)
