"""A folder that one build at a time has."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import Refused

LOCK = ".lock"


@contextmanager
def _flock(folder: Path) -> Iterator[None]:
    import fcntl  # not on every system, where a memory can still be read

    path = folder / LOCK
    with open(path, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = path.stat().st_ino == os.fstat(file.fileno()).st_ino
        except (BlockingIOError, FileNotFoundError):
            mine = False
        if not mine:  # held by another, or removed by another that held it a moment ago
            raise Refused(str(folder), "one build at a time", "another at work", "wait until it is done")
        try:
            yield
        finally:
            path.unlink()


@contextmanager
def held(folder: str | Path, check: Callable[[Path], None]) -> Iterator[None]:
    """A folder, made if there is none, held while the block runs; the lock ends with the process, however it ends.

    Args:
        check: refuses a folder of somebody else's before anything in it is touched.

    Raises:
        Refused: as `check`; another build at work, or no room or permission to write there, in the block too.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        check(Path(folder))
        with _flock(Path(folder)):
            yield
    except OSError as error:
        place = error.filename if isinstance(error.filename, str) else str(folder)
        raise Refused(place, "a place that can be written", error.strerror or type(error).__name__) from None
