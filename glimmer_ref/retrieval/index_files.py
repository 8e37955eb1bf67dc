"""Common parts of indexes on disk: the facts of the build, and the checksums of the files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..disk import kinds
from ..disk.facts import difference, digest_of
from ..disk.journal import JOURNAL, RESTORE, Journal, check_finished, entry_of, is_entry, sample
from ..disk.lock import LOCK, lock_folder
from ..disk.read import read_json, read_text
from ..disk.write import clean_leftovers, json_text, sha256, temporary_of, write_json, write_text
from ..errors import InputError, brief
from ..progress import Show, progress

REBUILD = "build the index again, into a new folder"
INDEX, FACTS = "index.json", "build.json"
VERSION = 2
WHAT = "what glimmer-ref index build writes"


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise InputError(
            str(path.parent), f"an index, with {path.name}", *kinds.instead_of_folder(path.parent, path.name)
        )
    document = read_json(path, WHAT)
    if not isinstance(document, dict):
        raise InputError(str(path), WHAT, "something else", REBUILD)
    return document


def _read_facts(path: Path) -> dict[str, Any]:
    """The facts of a build, which need not be finished."""
    facts = _read(path)
    if facts.get("version") != VERSION:
        raise InputError(str(path), f"version {VERSION} of an index", brief(facts.get("version"), 20), REBUILD)
    for name, kind in (("kind", str), ("passages", int), ("passages_sha256", str)):
        if type(facts.get(name)) is not kind:
            raise InputError(f"{path}: {name}", WHAT, brief(facts.get(name), 20), REBUILD)
    return facts


def _summary(files: Mapping[str, Any], facts: Path) -> dict[str, Any]:
    """The content of index.json: the files, and digests of itself and of build.json, which detect changes."""
    summary = {"build": sha256(facts), "files": files}
    return {**summary, "digest": digest_of(summary)}


def _is_file(entry: Any) -> bool:
    return isinstance(entry, dict) and is_entry({k: v for k, v in entry.items() if k != "sample"}) and "sample" in entry


def read_files(folder: str | Path) -> dict[str, dict[str, Any]]:
    """The files of a finished index, each with its "bytes", "sha256" and "sample".

    Raises:
        InputError: there is no index, or it is not finished; a file has another length; index.json or build.json was
            changed.
    """
    path = Path(folder)
    if (path / FACTS).exists() and not (path / INDEX).exists():
        raise InputError(str(folder), "a finished index", "one whose build was stopped", "run the same build again")
    document = _read(path / INDEX)
    _read_facts(path / FACTS)
    files = document.get("files")
    if not isinstance(files, dict) or not files or not all(map(_is_file, files.values())):
        raise InputError(str(path / INDEX), WHAT, "something else", REBUILD)
    if document != _summary(files, path / FACTS):
        raise InputError(
            str(path / INDEX), f"the file as it was built, and {FACTS} as well", "a change in one of them", REBUILD
        )
    for name, entry in files.items():
        try:
            right = (path / name).stat().st_size == entry["bytes"]
        except (OSError, ValueError):
            right = False
        if Path(name).name != name or not right:
            raise InputError(str(path / name), "the file that was built", "another, or none", RESTORE)
    return files


def read_facts(folder: str | Path) -> dict[str, Any]:
    """The facts of a finished index: its "kind", how many "passages", and what else its build recorded.

    Raises:
        InputError: as `read_files`.
    """
    read_files(folder)
    return _read_facts(Path(folder) / FACTS)


def check_sample(path: Path, entry: Mapping[str, Any]) -> None:
    """Compare a file with its recorded `sample`, which is cheap; `verify` reads all of the file.

    Raises:
        InputError: the file differs.
    """
    if sample(path) != entry["sample"]:
        raise InputError(str(path), "the file that was built", "another", RESTORE)


def verify(folder: str | Path, show: Show = progress) -> None:
    """Read every file once and compare its SHA-256 with the recorded one.

    Raises:
        InputError: the first file that differs.
    """
    check_finished(Path(folder), read_files(folder), show)


def _check_folder(folder: Path, names: Collection[str]) -> None:
    """Refuse a folder that is not empty and holds no index that was begun."""
    ours = {LOCK, FACTS, INDEX, JOURNAL, *names}
    others = sorted(x.name for x in folder.iterdir() if (temporary_of(x.name) or x.name) not in ours)
    left = sorted(x.name for x in folder.iterdir() if x.name in ours - {LOCK, FACTS})
    if others or (left and not (folder / FACTS).exists()):
        raise InputError(str(folder), "a folder of its own for the index", (others or left)[0], "name another folder")


class IndexBuild:
    """An index that is being built, in a locked folder.

    A file that an earlier run has recorded must still match its record; other files are made again.

    Args:
        names: the names of all files of the index.

    Raises:
        InputError: a build with other facts, or a damaged file.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any], names: Collection[str], show: Show) -> None:
        self.folder, self.names = folder, names
        before = _read_facts(folder / FACTS) if (folder / FACTS).exists() else facts
        if differs := difference(facts, before):
            raise InputError(str(folder), f"an index with {differs[0]}", differs[1], "name another folder")
        clean_leftovers(folder, {INDEX, FACTS, JOURNAL, *names}.__contains__)
        self.journal, self.sealed = Journal(folder, names), {}
        if (folder / INDEX).exists():
            self.sealed = {n: {k: e[k] for k in ("bytes", "sha256")} for n, e in _sealed(folder, names).items()}
        known = {n: e for n, e in (self.sealed or self.journal.files).items() if (folder / n).exists()}
        check_finished(folder, known, show)
        self.journal.files = known
        if not (folder / FACTS).exists():
            write_json(folder / FACTS, facts)

    @property
    def missing(self) -> list[str]:
        """The names of the missing files."""
        return [name for name in self.names if name not in self.journal.files]

    def add(self, name: str, entry: dict[str, Any] | None = None) -> None:
        """Record a finished file.

        Args:
            entry: its "bytes" and "sha256"; read from the file if not given.

        Raises:
            InputError: it replaces a lost file and differs from it.
        """
        entry = entry or entry_of(self.folder / name)
        if self.sealed.get(name, entry) != entry:
            raise InputError(str(self.folder / name), f"the file of which {INDEX} has the SHA-256", "another", REBUILD)
        self.journal.add(name, entry)

    def seal(self) -> None:
        """Record all files: the index can be opened from now on."""
        files = {n: {**self.journal.files[n], "sample": sample(self.folder / n)} for n in self.names}
        text = json_text(_summary(files, self.folder / FACTS))
        if not self.sealed or read_text(self.folder / INDEX) != text:
            write_text(self.folder / INDEX, text)
        self.journal.end()


def _sealed(folder: Path, names: Collection[str]) -> dict[str, dict[str, Any]]:
    """The records of a finished index, some of whose files may be lost."""
    files = _read(folder / INDEX).get("files")
    if not isinstance(files, dict) or files.keys() != {*names} or not all(map(_is_file, files.values())):
        raise InputError(str(folder / INDEX), WHAT, "something else", RESTORE)
    return files


@contextmanager
def building(folder: Path, facts: Mapping[str, Any], names: Collection[str], show: Show) -> Iterator[IndexBuild]:
    """Lock a folder while the block makes the files that are `missing`, and record all files at the end.

    Raises:
        InputError: the folder holds anything else, or an index with other facts; another build is at work; the place
            cannot be written or is full; a file is damaged.
    """
    with lock_folder(folder, lambda path: _check_folder(path, names)):
        build = IndexBuild(folder, facts, names, show)
        try:
            yield build
        except BaseException:
            if not build.journal.files:  # nothing to resume from
                for path in (folder / FACTS, folder / JOURNAL):
                    path.unlink(missing_ok=True)
            raise
        build.seal()
