"""Locks that end with the process, however it ends; and a folder that one process at a time has."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import InputError
from .read import reason_of

LOCK = ".lock"
WINDOWS = os.name == "nt"
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)  # of file systems that have none


def lock(descriptor: int) -> bool | None:
    """Lock an open file without waiting: True; False where another has it; None where there are no locks."""
    from filelock import lock_descriptor  # takes some 50 ms to import, and only who writes needs it

    try:
        return lock_descriptor(descriptor, blocking=False)
    except OSError as error:
        if error.errno in NO_LOCKS:
            return None
        raise


def _is_at(descriptor: int, path: Path) -> bool:
    """Is the open file still the one of that name? Another may have removed or renamed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def try_lock(path: Path) -> tuple[int, bool] | None:
    """Open a file, made if there is none, and lock it; None where another has it.

    Returns:
        The descriptor, to be closed by the caller, and whether there are locks at all.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    while True:
        descriptor = os.open(path, flags, 0o666)
        try:
            taken = lock(descriptor)
            if taken is not False and _is_at(descriptor, path):
                return descriptor, taken is True
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if taken is False:
            return None


@contextmanager
def locked(path: Path, folder: Path) -> Iterator[None]:
    """Hold a lock file, which is there only meanwhile.

    Args:
        folder: what it is of, for the error.

    Raises:
        InputError: another has it.
        OSError: no room or permission.
    """
    taken = try_lock(path)
    if taken is None:
        raise InputError(f"{folder}", "one writer at a time", "another at work", "wait until it is done")
    try:
        yield
    finally:
        if WINDOWS:  # where an open file cannot be removed
            os.close(taken[0])
        with suppress(OSError):  # somebody has removed it, or on Windows opened it
            path.unlink()
        if not WINDOWS:
            os.close(taken[0])


@contextmanager
def held(folder: str | os.PathLike[str], check: Callable[[Path], object]) -> Iterator[None]:
    """A folder, made if there is none, that nobody else writes into while the block runs.

    The lock ends with the process, however it ends. Where the file system has no locks, there is none.

    Args:
        check: refuses a folder of somebody else's, before anything in it is touched, and again once it is held.

    Raises:
        InputError: as `check`; another at work, or no room or permission to write there, in the block too.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        check(path)
        with locked(path / LOCK, path):
            check(path)
            yield
    except OSError as error:
        place = error.filename if isinstance(error.filename, str) else f"{folder}"
        raise InputError(place, "a place that can be written", reason_of(error)) from None
