"""A file of passages that is read twice. The first time, every line is checked. The file must not change afterwards."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from ..disk.read import reason_of
from ..disk.write import sha256
from ..errors import InputError
from .inputs import read_passages


class Source(NamedTuple):
    """A passages file that was read and checked once.

    Args:
        passages: number of passages.
        stamp: inode, size and modification time, with which `check` notices a change.
    """

    path: str | Path
    passages: int
    sha256: str
    stamp: tuple[int, ...]

    def check(self) -> None:
        """Check that the file has not changed.

        Raises:
            InputError: the file has changed.
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
    """Read a passages file the first time: check every line before the work begins.

    Raises:
        InputError: the file is not regular, a line is broken, a text is not valid Unicode, or there is no passage.
    """
    stamp = _stamp(path)
    if not Path(path).is_file():
        raise InputError(
            str(path),
            "a regular file, since it is read twice",
            "a pipe or a device",
            "save its content to a file first",
        )
    count = 0
    for _ in read_passages(path):
        count += 1
    if not count:
        raise InputError(str(path), "at least one passage", "none")
    return Source(path, count, sha256(Path(path)), stamp)
