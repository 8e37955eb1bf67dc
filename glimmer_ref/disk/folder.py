"""Folders that are replaced completely or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import InputError
from .lock import LOCK, WINDOWS, drop_stale, locked
from .read import reason_of
from .write import NEW

BEFORE = ".before"  # suffix of the old folder's name while the new folder takes its place


def _sibling(folder: Path, end: str) -> Path:
    return folder.with_name(f".{folder.name}{end}")


def _sync(folder: Path) -> None:
    """Make renames in a folder survive a power cut, if the system can."""
    if not WINDOWS:
        handle = os.open(folder, os.O_RDONLY)
        try:
            with suppress(OSError):  # some file systems do not support it
                os.fsync(handle)
        finally:
            os.close(handle)


def recover(folder: Path) -> None:
    """Clean up after a killed process: the folder is then the old or the new one, complete, with nothing beside it.

    The caller must hold the folder or its parent: see `lock_folder` and `replacing`.
    """
    before = _sibling(folder, BEFORE)
    if before.exists() and not folder.exists():
        before.rename(folder)
    for left in (before, _sibling(folder, NEW)):
        shutil.rmtree(left, ignore_errors=True)


def _put(new: Path, folder: Path) -> None:
    """Put a finished folder in the place of another; `recover` can restore one of them at any moment."""
    before = _sibling(folder, BEFORE)
    if folder.exists():
        folder.rename(before)
    new.rename(folder)
    _sync(folder.parent)
    shutil.rmtree(before, ignore_errors=True)


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder`, and replace `folder` by it once the block has filled it.

    The caller must hold the folder or its parent: see `lock_folder` and `replacing`. If the block fails, the old folder
    stays.

    Raises:
        OSError: the disk is full, or permission is missing.
    """
    recover(folder)
    new = _sibling(folder, NEW)
    try:
        new.mkdir()
        yield new
        _sync(new)
        _put(new, folder)
    finally:
        recover(folder)


def check_free(folder: str | os.PathLike[str], check: Callable[[Path], object]) -> None:
    """The first check of `replacing`, for callers that have work to do before it.

    If the check fails, a lock file that a killed process left is removed.

    Raises:
        InputError: as `check`.
    """
    path = Path(folder).absolute()
    try:
        check(path)
    except InputError:
        drop_stale(_sibling(path, LOCK))
        raise


@contextmanager
def replacing(folder: str | os.PathLike[str], check: Callable[[Path], object], parents: bool = False) -> Iterator[Path]:
    """As `replaced`, with a lock file beside the folder, so that no other process writes it at the same time.

    Args:
        check: raises if the folder must not be replaced. It runs before anything is changed, and again before the
            replacement.
        parents: create the parent folder if there is none.

    Raises:
        InputError: as `check`; another process is at work; the disk is full or permission is missing, also within the
            block.
    """
    path = Path(folder).absolute()
    try:
        check_free(path, check)
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        with locked(_sibling(path, LOCK), path):
            recover(path)
            check(path)
            with replaced(path) as new:
                yield new
                check(path)
    except OSError as error:
        raise InputError(f"{folder}", "a place that can be written", reason_of(error)) from None
