"""What is common to indexes on disk: a folder that says what it is of, its checksums, and the passages' ids."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..disk import kinds
from ..disk.facts import difference, digest_of
from ..disk.journal import JOURNAL, RESTORE, Journal, check_finished, entry_of, is_entry, sample
from ..disk.lock import LOCK, held
from ..disk.read import decode, read_json, read_text
from ..disk.write import clean_leftovers, json_text, sha256, temporary_of, write_json, write_text
from ..errors import InputError, brief
from ..params.safetensors_io import Stored
from ..progress import Show, progress
from ..ragged import Ints, offsets

BUILD_AGAIN = "build it again, into a new folder"
INDEX, FACTS = "index.json", "build.json"
VERSION = 2
WHAT = "the words of an index"


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise InputError(str(path.parent), f"an index, with {path.name}", *kinds.instead_of_folder(path.parent))
    document = read_json(path, WHAT)
    if not isinstance(document, dict):
        raise InputError(str(path), WHAT, "something else", BUILD_AGAIN)
    return document


def _read_facts(path: Path) -> dict[str, Any]:
    """What a build is of, of an index that need not be finished."""
    facts = _read(path)
    if facts.get("version") != VERSION:
        raise InputError(str(path), f"version {VERSION} of an index", brief(facts.get("version"), 20), BUILD_AGAIN)
    for name, kind in (("kind", str), ("passages", int), ("passages_sha256", str)):
        if type(facts.get(name)) is not kind:
            raise InputError(f"{path}: {name}", WHAT, brief(facts.get(name), 20), BUILD_AGAIN)
    return facts


def _summary(files: Mapping[str, Any], facts: Path) -> dict[str, Any]:
    """What index.json holds: its files, and digests of these words and of build.json, so that neither is changed."""
    told = {"build": sha256(facts), "files": files}
    return {**told, "digest": digest_of(told)}


def _is_file(entry: Any) -> bool:
    return isinstance(entry, dict) and is_entry({k: v for k, v in entry.items() if k != "sample"}) and "sample" in entry


def read_files(folder: str | Path) -> dict[str, dict[str, Any]]:
    """The files of a finished index, each with its "bytes", "sha256" and "sample".

    Raises:
        InputError: no index there, one that was not finished, a file of another length, or words that were changed.
    """
    path = Path(folder)
    if (path / FACTS).exists() and not (path / INDEX).exists():
        raise InputError(str(folder), "a finished index", "one whose build was stopped", "run the same build again")
    document = _read(path / INDEX)
    _read_facts(path / FACTS)
    files = document.get("files")
    if not isinstance(files, dict) or not files or not all(map(_is_file, files.values())):
        raise InputError(str(path / INDEX), WHAT, "something else", BUILD_AGAIN)
    if document != _summary(files, path / FACTS):
        raise InputError(str(path / INDEX), f"what a build has written, with {FACTS}", "a change in one", BUILD_AGAIN)
    for name, entry in files.items():
        try:
            right = (path / name).stat().st_size == entry["bytes"]
        except (OSError, ValueError):
            right = False
        if Path(name).name != name or not right:
            raise InputError(str(path / name), "the file that was built", "another, or none", RESTORE)
    return files


def read_facts(folder: str | Path) -> dict[str, Any]:
    """What a finished index is of: its "kind", how many "passages", and what else its build has told.

    Raises:
        InputError: as `read_files`.
    """
    read_files(folder)
    return _read_facts(Path(folder) / FACTS)


def check_sample(path: Path, entry: Mapping[str, Any]) -> None:
    """Hold a file against its `sample`, which is cheap; `verify` reads all of it.

    Raises:
        InputError: it is another.
    """
    if sample(path) != entry["sample"]:
        raise InputError(str(path), "the file that was built", "another", RESTORE)


def verify(folder: str | Path, show: Show = progress) -> None:
    """Read every file once and compare its SHA-256 with the one that was written down.

    Raises:
        InputError: the first file that differs.
    """
    check_finished(Path(folder), read_files(folder), show)


def _check_folder(folder: Path, names: Collection[str]) -> None:
    """Refuse a folder in which there is anything, but for an index that was begun."""
    ours = {LOCK, FACTS, INDEX, JOURNAL, *names}
    others = sorted(x.name for x in folder.iterdir() if (temporary_of(x.name) or x.name) not in ours)
    left = sorted(x.name for x in folder.iterdir() if x.name in ours - {LOCK, FACTS})
    if others or (left and not (folder / FACTS).exists()):
        raise InputError(
            str(folder), "a folder of its own for the index", (others or left)[0], "name another, or a new one"
        )


class IndexBuild:
    """An index that is being built, in a folder that is held.

    Files of which an earlier run has written down what they are must be so still; others are made again.

    Args:
        names: of the files.

    Raises:
        InputError: a build of other facts, or a damaged file.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any], names: Collection[str], show: Show) -> None:
        self.folder, self.names = folder, names
        before = _read_facts(folder / FACTS) if (folder / FACTS).exists() else facts
        if apart := difference(facts, before):
            raise InputError(str(folder), f"an index with {apart[0]}", apart[1], "name another folder")
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
    def lacking(self) -> list[str]:
        """The files that are to be made."""
        return [name for name in self.names if name not in self.journal.files]

    def add(self, name: str) -> None:
        """A file is finished.

        Raises:
            InputError: it was lost, and is another than before.
        """
        entry = entry_of(self.folder / name)
        if self.sealed.get(name, entry) != entry:
            raise InputError(
                str(self.folder / name), f"the file of which {INDEX} has the SHA-256", "another", BUILD_AGAIN
            )
        self.journal.add(name, entry)

    def seal(self) -> None:
        """Write down what all files are: from now on the index opens."""
        files = {n: {**self.journal.files[n], "sample": sample(self.folder / n)} for n in self.names}
        text = json_text(_summary(files, self.folder / FACTS))
        if not self.sealed or read_text(self.folder / INDEX) != text:
            write_text(self.folder / INDEX, text)
        self.journal.end()


def _sealed(folder: Path, names: Collection[str]) -> dict[str, dict[str, Any]]:
    """What is written down of a finished index, of which files may be lost."""
    files = _read(folder / INDEX).get("files")
    if not isinstance(files, dict) or files.keys() != {*names} or not all(map(_is_file, files.values())):
        raise InputError(str(folder / INDEX), WHAT, "something else", RESTORE)
    return files


@contextmanager
def building(folder: Path, facts: Mapping[str, Any], names: Collection[str], show: Show) -> Iterator[IndexBuild]:
    """Hold a folder while the block makes the files that are `lacking`, and then write down what all of them are.

    Raises:
        InputError: a folder with anything else in it, or an index of other facts; another build at work; a place that
            cannot be written or is full; a file that was there, and is damaged.
    """
    with held(folder, lambda path: _check_folder(path, names)):
        work = IndexBuild(folder, facts, names, show)
        try:
            yield work
        except BaseException:
            if not work.journal.files:  # nothing that could be gone on with
                for path in (folder / FACTS, folder / JOURNAL):
                    path.unlink(missing_ok=True)
            raise
        work.seal()


@dataclass(frozen=True, eq=False)
class Strings(Sequence[str]):
    """Strings of a file as UTF-8 that lies end to end: [S] bytes, and [n+1] where each begins."""

    text: np.ndarray
    ends: Ints
    name: str

    @classmethod
    def of(cls, tensors: Mapping[str, Stored], n: int, file: str, key: str) -> Strings:
        """From the tensors `key` and "offsets" of a file.

        Raises:
            InputError: they are not those of n strings.
        """
        text, ends = tensors.get(key), tensors.get("offsets")
        right = (
            text is not None
            and ends is not None
            and (text.dtype, len(text.shape), ends.dtype, ends.shape) == ("U8", 1, "I64", (n + 1,))
        )
        if text is None or ends is None or not right:
            raise InputError(file, f"{n} {key}", "other tensors", RESTORE)
        if (np.diff(ends.raw) < 0).any() or ends.raw[0] != 0 or ends.raw[-1] != text.raw.size:
            raise InputError(file, f"{n} {key} that lie end to end", "other places", RESTORE)
        return cls(text.raw, ends.raw, f"{file}: {key}")

    @staticmethod
    def arrays(strings: Iterable[str], key: str) -> dict[str, np.ndarray]:
        """What is written to a file."""
        encoded = [s.encode() for s in strings]
        ends = offsets(np.array([len(s) for s in encoded], np.int64))
        return {key: np.frombuffer(b"".join(encoded), np.uint8), "offsets": ends}

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, i: Any) -> Any:
        return decode(bytes(self.text[self.ends[i] : self.ends[i + 1]]), f"{self.name}, {i}")
