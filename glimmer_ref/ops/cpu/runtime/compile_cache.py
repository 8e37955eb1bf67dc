"""Kernels: Python loops compiled to machine code, once per machine, and cached on disk between runs.

numba's own cache becomes stale when a function in another module is edited, and fails if a file is damaged or the
installation is read-only. Here, the name of the cache folder contains a digest of everything that could change a
kernel: all files of `ops.cpu`, which define all constants of kernels. A file that is damaged, or belongs to another
kernel, is removed. If no folder can be used, kernels are compiled in every run.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import shutil
import signal
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import llvmlite
import llvmlite.binding as llvm
import numba
import numpy as np
from numba.core import caching
from numba.core.errors import NumbaError

from ....terminal import note
from .operand_groups import flat

SECONDS = 9  # about the time to compile all kernels for float32 if two cores are free; only the message uses it
HARMLESS = ("NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS", "NUMBA_THREADING_LAYER")  # settings that do not change code

KERNELS = Path(__file__).absolute().parent.parent  # every file that holds a kernel, or a part of one
MARK = 16  # bytes of the digest at the start of a file
FOLDER = re.compile("kernels-[0-9a-f]{16}")
FOLDERS = 4  # folders that are kept: the one in use, and the most recently used others
IN_USE = 24 * 3600  # a folder that was not used for so many seconds is unlikely to be needed by a process

settings: Any = numba.config


def _digest() -> str:
    """A digest of the sources of `ops.cpu`, the versions of libraries, and the processor.

    It does not contain where the package is installed, so that equal installations share their kernels.
    """
    parts = [sys.version, numba.__version__, llvmlite.__version__, np.__version__]
    parts += [llvm.get_process_triple(), llvm.get_host_cpu_name()]
    with suppress(RuntimeError):  # features are unknown on some systems, where numba compiles for the processor's name
        parts.append(llvm.get_host_cpu_features().flatten())
    parts += [f"{k}={v}" for k, v in sorted(os.environ.items()) if k.startswith("NUMBA_") and k not in HARMLESS]
    for source in sorted(KERNELS.rglob("*.py")):
        parts += [str(source.relative_to(KERNELS)), source.read_text(encoding="utf-8")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def root() -> Path | None:
    """The folder for caches: $GLIMMER_REF_CACHE, else glimmer_ref in $XDG_CACHE_HOME or in ~/.cache.

    None if the user has no home folder. Containers often run programs with a user number that has no entry.
    """
    if chosen := os.environ.get("GLIMMER_REF_CACHE"):
        return Path(chosen).absolute()
    if caches := os.environ.get("XDG_CACHE_HOME"):
        return Path(caches).absolute() / "glimmer_ref"
    home = Path(os.path.expanduser("~"))  # still "~" if there is no home; "/" if HOME is empty
    return home / ".cache" / "glimmer_ref" if home.is_absolute() and home.name and home.is_dir() else None


def _temporary() -> Path:
    """A folder for this user in the system's temporary folder, in which any user may create folders."""
    return Path(tempfile.gettempdir(), f"glimmer_ref-{os.getuid() if hasattr(os, 'getuid') else 'cache'}").absolute()


def _ours_alone(path: Path) -> bool:
    """Whether only this user can write to a folder. Kernels from it are run, so other users must not put any there."""
    about = path.lstat()
    if not stat.S_ISDIR(about.st_mode):
        return False
    return not hasattr(os, "getuid") or (about.st_uid == os.getuid() and not about.st_mode & 0o022)


def _made(path: Path) -> bool:
    """Creates the folder if it does not exist. Returns whether files can be written to it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError:
        return False
    return True


def _prune(kept: Path) -> None:
    """Remove folders of other digests beside `kept`, except the most recently used ones and those used today.

    A process that still uses a removed folder compiles the kernels that it has not loaded yet. A folder is renamed
    before it is removed, so that no process finds it incomplete.
    """
    with suppress(OSError):
        others = [x for x in kept.parent.iterdir() if FOLDER.fullmatch(x.name) and x != kept and not x.is_symlink()]
        others.sort(key=lambda x: x.stat().st_mtime, reverse=True)
        for other in others[FOLDERS - 1 :]:
            if time.time() - other.stat().st_mtime > IN_USE:
                removed = other.rename(other.with_name(f"removed-{other.name}-{os.getpid()}"))
                shutil.rmtree(removed, ignore_errors=True)


def _used(path: Path) -> Path | None:
    """The folder, marked as used now; None if it cannot be created. If it is new, old folders are removed."""
    new = not path.exists()
    if not _made(path):
        return None
    with suppress(OSError):
        os.utime(path)
    if new:
        _prune(path)
    return path


@cache
def folder() -> Path | None:
    """The folder for this digest, created if necessary: in `root`, else in the temporary folder, else None.

    Folders of other digests may belong to other installed versions. The most recently used ones are kept, see `_prune`.
    """
    name = f"kernels-{_digest()}"
    if (chosen := root()) is not None and (path := _used(chosen / name)) is not None:
        return path
    if "GLIMMER_REF_CACHE" in os.environ:  # the user wants this folder and no other
        return None
    with suppress(OSError):
        other = _temporary()
        other.mkdir(mode=0o700, exist_ok=True)
        if _ours_alone(other):
            return _used(other / name)
    return None


def _note(line: str) -> None:
    note(f"glimmer_ref: {line}")


class _Bound(caching.IndexDataCacheFile):
    """numba's cache files of one kernel. Each begins with a digest of its name and of the rest of the file.

    numba itself does not check a file. If the file is damaged or has the code of another kernel, the process crashes.
    It also compares the time and the size of the source file, which the folder's digest makes unnecessary.
    """

    def __init__(self, cache_path: str, filename_base: str, source_stamp: Any) -> None:
        super().__init__(cache_path, filename_base, None)

    def _mark(self, name: str, data: bytes) -> bytes:
        return hashlib.blake2b(f"{self._index_name}\0{name}\0".encode() + data, digest_size=MARK).digest()

    def _load_data(self, name: str) -> Any:
        content = Path(self._data_path(name)).read_bytes()
        mark, data = content[:MARK], content[MARK:]
        if mark != self._mark(name, data):
            raise ValueError(f"{name} is damaged, or another kernel's")
        return pickle.loads(data)

    def _save_data(self, name: str, data: Any) -> None:
        content = self._dump(data)
        with self._open_for_write(self._data_path(name)) as file:
            file.write(self._mark(name, content) + content)


def _subfolder(source: str) -> str:
    """Where numba keeps the kernels of a source file. numba's own name for it depends on where the file is."""
    return "-".join(Path(source).absolute().parent.relative_to(KERNELS.parent).parts)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """A context that delays Ctrl-C and requests to terminate until its end.

    An exception that a signal raises while LLVM calls back into Python would crash the process.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread receives signals
        yield
        return
    users = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {number: handler for number, handler in users.items() if callable(handler)}
    received: list[tuple[int, Any]] = []
    for number in handlers:
        signal.signal(number, lambda *what: received.append(what))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for which, frame in received[:1]:
            handlers[signal.Signals(which)](which, frame)


def _compiled(loop: Callable[..., None], keep: bool, signature: Any = None) -> Any:
    """The loop as a numba function. numba reads its settings only here, so the user's are restored afterwards.

    With a signature, the loop is compiled at once, to be called by its address.
    """
    locator: Any = caching._CacheLocator
    users = settings.CACHE_DIR, caching.IndexDataCacheFile, vars(locator)["get_suitable_cache_subpath"]
    try:
        if keep:
            settings.CACHE_DIR, caching.IndexDataCacheFile = str(folder()), _Bound
            locator.get_suitable_cache_subpath = staticmethod(_subfolder)
        if signature is not None:
            with _uninterrupted():
                return numba.cfunc(signature, nopython=True, cache=keep)(loop)
        result = numba.njit(cache=keep, nogil=True, error_model="numpy")(loop)
        if not settings.DISABLE_JIT:
            result._compile_for_args = _uninterrupted()(result._compile_for_args)
        return result
    finally:
        settings.CACHE_DIR, caching.IndexDataCacheFile, locator.get_suitable_cache_subpath = users


def _forget() -> None:
    """Remove all cached kernels, because one of them is damaged or cannot be stored."""
    if (kept := folder()) is not None:
        _note(f"a kernel could not be loaded or stored; compiling again (about {SECONDS} s); kept in {kept}")
        for file in kept.glob("*/*.nb[ic]"):  # at worst, another process has to compile again too
            with suppress(OSError):
                file.unlink()


def callback(loop: Callable[..., None], signature: Any) -> Any:
    """The loop, compiled for one signature. Other kernels call it by its `address`."""
    try:
        return _compiled(loop, folder() is not None, signature)
    except (MemoryError, NumbaError):
        raise
    except Exception:  # as in Kernel
        _forget()
        with suppress(Exception):
            return _compiled(loop, folder() is not None, signature)
        return _compiled(loop, False, signature)


class Kernel:
    """A loop, compiled at its first call with each set of types.

    It releases the interpreter lock. fastmath is off, so sums are made in the order of the loop. An argument that is
    annotated as a named tuple is a group of operands. numba takes a third of a microsecond per field to find the type
    of a tuple, a tenth of the time of a decoder step for all its operands. So numba gets single fields.
    """

    def __init__(self, loop: Callable[..., None]) -> None:
        hints = get_type_hints(loop)
        self.loop = loop
        groups = {name: kind for name, kind in hints.items() if hasattr(kind, "_fields")}
        self.groups = frozenset(groups.values())
        self.flat = flat(loop, groups) if groups else loop
        self.run = _compiled(self.flat, keep=folder() is not None)

    def __call__(self, *args: Any) -> None:
        fields: list[Any] = []
        for x in args:
            if type(x) in self.groups:
                fields += x
            else:
                fields.append(x)
        try:
            self.run(*fields)
        except (MemoryError, NumbaError):
            raise
        except Exception:  # a damaged file or a full disk makes numba raise errors of many classes
            self._retry(*fields)

    def _retry(self, *args: Any) -> None:
        """Try again with an empty folder, then without a folder. An error of the loop itself is still raised."""
        _forget()
        with suppress(Exception):
            return self.run(*args)
        self.run = _compiled(self.flat, keep=False)
        return self.run(*args)


def ready(warm: Callable[[], None], module: str = "", parts: Sequence[str] = ()) -> None:
    """Call `warm`, which runs every kernel. Print a message first if kernels must be compiled.

    Args:
        module, parts: functions of a module that run some of the kernels each. If nothing is in the cache, each is
            called in a process of its own first, which keeps what it compiles there.
    """
    kept = folder()
    if settings.DISABLE_JIT:
        pass
    elif kept is None:
        location = root() or "the temporary folder"
        _note(f"compiling kernels (about {SECONDS} s); not kept: {location} cannot be written; set GLIMMER_REF_CACHE")
    elif not any(kept.glob("*/*.nbc")):
        _note(f"compiling kernels for this machine, once (about {SECONDS} s); kept in {kept}")
        if parts:
            from .compile_worker import compile_parts

            compile_parts(module, parts)
    warm()
