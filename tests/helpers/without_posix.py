"""Simulates Python on a system without POSIX: `hide` removes the names that only POSIX has."""

from __future__ import annotations

import builtins
import mmap
import os
import shutil
import sys
import warnings
from typing import Any

# Names that `os` lacks on Windows, and that the standard library itself does not need in the tests.
CALLS = (
    "fork", "forkpty", "register_at_fork", "sched_getaffinity", "sched_setaffinity", "posix_fadvise",
    "posix_fallocate", "uname", "sysconf", "nice", "mkfifo", "mknod", "chown", "fchown", "getuid", "geteuid",
    "getgid", "getpgid", "killpg", "setsid", "set_blocking", "pread", "pwrite", "sync", "fdatasync", "O_NONBLOCK",
    "O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC",
)  # fmt: skip
MODULES = ("resource", "pwd", "grp", "termios", "fcntl")  # filelock works without fcntl

_import = builtins.__import__


class Map(mmap.mmap):
    """A memory map without `madvise`."""

    @property
    def madvise(self) -> Any:  # type: ignore[override]
        raise AttributeError("madvise")


def _theirs(name: str, globals: Any = None, *more: Any, **named: Any) -> Any:
    """Import a module; for this package and filelock, a module that only POSIX has is not found."""
    who = str((globals or {}).get("__name__", ""))
    if name in MODULES and who.startswith(("glimmer_ref", "filelock")):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return _import(name, globals, *more, **named)


def hide() -> None:
    """Hide POSIX from now on.

    Libraries that need no POSIX on other systems, but do need it on this one, are imported before.
    """
    import matplotlib.figure  # noqa: F401
    import numba  # noqa: F401

    for name in CALLS:
        if hasattr(os, name):
            delattr(os, name)
    for name in [name for name in vars(mmap) if name.startswith(("MADV_", "MAP_"))]:
        delattr(mmap, name)
    mmap.mmap = Map  # type: ignore[misc]
    builtins.__import__ = _theirs
    shutil._use_fd_functions = False  # type: ignore[attr-defined]  # how the library removes folders elsewhere
    sys.modules.pop("resource", None)
    # Text in the encoding of the locale would differ between systems.
    warnings.filterwarnings("error", category=EncodingWarning, module=r"glimmer_ref(\.|$)")
