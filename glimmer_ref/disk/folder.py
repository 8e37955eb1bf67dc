"""Folders that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import InputError
from .lock import LOCK, WINDOWS, drop, locked
from .read import reason_of
from .write import NEW

BEFORE = ".before"  # the end of the name of what was in a folder's place, while another takes it


def _beside(folder: Path, end: str) -> Path:
    return folder.with_name(f".{folder.name}{end}")


def _sync(folder: Path) -> None:
    """Make renames in a folder last through a power cut, where the system can."""
    if not WINDOWS:
        handle = os.open(folder, os.O_RDONLY)
        try:
            with suppress(OSError):  # not every file system can
                os.fsync(handle)
        finally:
            os.close(handle)


def recover(folder: Path) -> None:
    """Tidy up after a kill: the folder is the new one or the one before, whole, and nothing is beside it.

    The caller holds the folder, or the one that it lies in: see `held` and `replacing`.
    """
    before = _beside(folder, BEFORE)
    if before.exists() and not folder.exists():
        before.rename(folder)
    for left in (before, _beside(folder, NEW)):
        shutil.rmtree(left, ignore_errors=True)


def _put(new: Path, folder: Path) -> None:
    """A finished folder in place of another; at every moment one of them can be recovered."""
    before = _beside(folder, BEFORE)
    if folder.exists():
        folder.rename(before)
    new.rename(folder)
    _sync(folder.parent)
    shutil.rmtree(before, ignore_errors=True)


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder`, which takes its place once the block has filled it.

    The caller holds the folder, or the one that it lies in: see `held` and `replacing`. After an error of the block
    all is as it was.

    Raises:
        OSError: no room or permission.
    """
    recover(folder)
    new = _beside(folder, NEW)
    try:
        new.mkdir()
        yield new
        _sync(new)
        _put(new, folder)
    finally:
        recover(folder)


def check_free(folder: str | os.PathLike[str], check: Callable[[Path], object]) -> None:
    """What `replacing` does first, for work that comes before it. A lock that a kill left is none.

    Raises:
        InputError: as `check`.
    """
    place = Path(folder).absolute()
    try:
        check(place)
    except InputError:
        drop(_beside(place, LOCK))
        raise


@contextmanager
def replacing(folder: str | os.PathLike[str], check: Callable[[Path], object], parents: bool = False) -> Iterator[Path]:
    """`replaced`, of a folder that nobody else writes meanwhile: the lock is a file beside it.

    Args:
        check: refuses to lose what is there, before anything is touched, and again before it is replaced.
        parents: make the folder that it is to lie in, if there is none.

    Raises:
        InputError: as `check`; another at work, or no room or permission to write there, in the block too.
    """
    place = Path(folder).absolute()
    try:
        check_free(place, check)
        if parents:
            place.parent.mkdir(parents=True, exist_ok=True)
        with locked(_beside(place, LOCK), place):
            recover(place)
            check(place)
            with replaced(place) as new:
                yield new
                check(place)
    except OSError as error:
        raise InputError(f"{folder}", "a place that can be written", reason_of(error)) from None
