"""Locks that end with the process, however it ends, and folders that one process holds at a time."""

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
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)  # errors of file systems without locks


def lock(descriptor: int) -> bool | None:
    """Lock an open file without waiting.

    Returns:
        True; False if another process has the lock; None if the file system has no locks.
    """
    from filelock import lock_descriptor  # the import takes some 50 ms, and only writing needs it

    try:
        return lock_descriptor(descriptor, blocking=False)
    except OSError as error:
        if error.errno in NO_LOCKS:
            return None
        raise


def _is_at(descriptor: int, path: Path) -> bool:
    """Does the path still name this open file? Another process may have removed or renamed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def try_lock(path: Path) -> tuple[int, bool] | None:
    """Open a file, which is created if missing, and lock it; None if another process has the lock.

    Returns:
        The descriptor, which the caller must close, and whether the file system has locks.
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


def _release(path: Path, descriptor: int) -> None:
    if WINDOWS:  # Windows cannot remove an open file
        os.close(descriptor)
    with suppress(OSError):  # another process has removed it, or, on Windows, has opened it
        path.unlink()
    if not WINDOWS:
        os.close(descriptor)


def drop_stale(path: Path) -> None:
    """Remove a lock file that no process holds, because a killed process left it."""
    with suppress(OSError):
        if path.is_file() and (taken := try_lock(path)) is not None:
            _release(path, taken[0])


@contextmanager
def locked(path: Path, folder: Path) -> Iterator[None]:
    """Hold a lock file, which exists only while the block runs.

    Args:
        folder: the folder that it protects, for the error.

    Raises:
        InputError: another process holds it.
        OSError: the disk is full, or permission is missing.
    """
    taken = try_lock(path)
    if taken is None:
        raise InputError(f"{folder}", "one writer at a time", "a second one", "wait until the first has ended")
    try:
        yield
    finally:
        _release(path, taken[0])


@contextmanager
def lock_folder(folder: str | os.PathLike[str], check: Callable[[Path], object]) -> Iterator[None]:
    """Hold a folder, which is created if missing: no other process that holds it writes there while the block runs.

    The lock ends with the process, however it ends. A file system without locks gives no protection.

    Args:
        check: raises if the folder is not ours. It runs before anything is changed, and again once the lock is held.

    Raises:
        InputError: as `check`; another process is at work; the disk is full or permission is missing, also within the
            block.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        check(path)
        with locked(path / LOCK, path):
            check(path)
            yield
    except OSError as error:
        location = error.filename if isinstance(error.filename, str) else f"{folder}"
        raise InputError(location, "a folder that can be written", reason_of(error)) from None
