"""What is common to indexes on disk: a folder that says what it is of, its checksums, and the passages' ids."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Ints, offsets
from ..disk import kinds
from ..disk.read import read_json
from ..disk.write import sha256, write_text
from ..errors import Refused
from ..params.tensors import Stored
from ..progress import Show, progress
from .lock import LOCK, held
from .manifest import RESTORE, difference

INDEX, FACTS = "index.json", "build.json"


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise Refused(str(path.parent), f"an index, with {path.name}", *kinds.instead_of_folder(path.parent))
    document = read_json(path, "the words of an index")
    if not isinstance(document, dict):
        raise Refused(str(path), "the words of an index", "something else", "build it again")
    return document


def read_files(folder: str | Path) -> dict[str, dict[str, Any]]:
    """The files of a finished index, each with its "bytes" and "sha256".

    Raises:
        Refused: no index there, one that was not finished, or a file of another length.
    """
    path = Path(folder)
    if (path / FACTS).exists() and not (path / INDEX).exists():
        raise Refused(str(folder), "a finished index", "one whose build was stopped", "run the same build again")
    files = _read(path / INDEX)
    for name, entry in files.items():
        try:
            right = (path / name).stat().st_size == entry["bytes"]
        except (OSError, TypeError, KeyError):
            right = False
        if Path(name).name != name or not right:
            raise Refused(str(path / name), "the file that was built", "another, or none", RESTORE)
    return files


def read_facts(folder: str | Path) -> dict[str, Any]:
    """What a finished index is of: its "kind", how many "passages", and what else its build has told.

    Raises:
        Refused: as `read_files`.
    """
    read_files(folder)
    facts = _read(Path(folder) / FACTS)
    if not isinstance(facts.get("kind"), str) or not isinstance(facts.get("passages"), int):
        raise Refused(str(Path(folder) / FACTS), "what an index is of", "something else", "build it again")
    return facts


def verify(folder: str | Path, show: Show = progress) -> None:
    """Read every file once and compare its SHA-256 with the one that was written down.

    Raises:
        Refused: the first file that differs.
    """
    files = read_files(folder)
    for name, entry in show(files.items(), len(files), "checksums"):
        if sha256(Path(folder) / name) != entry["sha256"]:
            raise Refused(str(Path(folder) / name), f"SHA-256 {entry['sha256']}", "another", RESTORE)


def _check_folder(folder: Path) -> None:
    """Refuse a folder in which there is anything, but for an index that was begun."""
    others = sorted(x.name for x in folder.iterdir() if x.name != LOCK and not x.name.startswith(f".{FACTS}."))
    if others and not (folder / FACTS).exists():
        raise Refused(str(folder), "a folder of its own for the index", others[0], "name another, or a new one")


def _begin(folder: Path, facts: Mapping[str, Any], names: Iterable[str]) -> None:
    """Say what the index is of, or find the same said; left-over parts of files are swept away."""
    before = _read(folder / FACTS) if (folder / FACTS).exists() else facts
    if apart := difference(facts, before):
        raise Refused(str(folder), f"an index with {apart[0]}", apart[1], "name another folder")
    write_text(folder / FACTS, json.dumps(facts, indent=1) + "\n")
    ours = tuple(f".{name}." for name in (INDEX, FACTS, *names))
    for path in folder.iterdir():
        if path.name.startswith(ours):
            path.unlink()


@contextmanager
def building(folder: Path, facts: Mapping[str, Any], names: Sequence[str] | Mapping[str, Any]) -> Iterator[None]:
    """Hold a folder while the block writes the files `names` into it, and then write down their checksums.

    Where they are written down already, files were lost and made again: the others must be as they were.

    Raises:
        Refused: a folder with anything else in it, or an index of other facts; another build at work; a place that
            cannot be written or is full; a file that was there, and is damaged.
    """
    with held(folder, _check_folder):
        _begin(folder, facts, names)
        known = _read(folder / INDEX) if (folder / INDEX).exists() else {}
        yield
        files = {name: {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)} for name in names}
        for name, entry in files.items():
            if known.get(name, entry) != entry:
                raise Refused(str(folder / name), f"the file of which {INDEX} has the SHA-256", "another", RESTORE)
        write_text(folder / INDEX, json.dumps(files, indent=1) + "\n")


@dataclass(frozen=True, eq=False)
class Ids(Sequence[str]):
    """Ids of n passages as UTF-8 that lie end to end: [S] bytes, [n+1] where each begins."""

    text: np.ndarray
    ends: Ints

    @classmethod
    def of(cls, tensors: Mapping[str, Stored], n: int, name: str) -> Ids:
        """From a file's tensors "ids" and "offsets".

        Raises:
            Refused: they are not those of n ids.
        """
        text, ends = tensors.get("ids"), tensors.get("offsets")
        right = (
            text is not None and ends is not None and (text.dtype, ends.dtype, ends.shape) == ("U8", "I64", (n + 1,))
        )
        if text is None or ends is None or not right:
            raise Refused(name, f"{n} ids", "other tensors", RESTORE)
        if (np.diff(ends.raw) < 0).any() or ends.raw[0] != 0 or ends.raw[-1] != text.raw.size:
            raise Refused(name, f"{n} ids that lie end to end", "other places", RESTORE)
        return cls(text.raw, ends.raw)

    @staticmethod
    def arrays(ids: Iterable[str]) -> dict[str, np.ndarray]:
        """What is written to a file."""
        known = [i.encode() for i in ids]
        ends = offsets(np.array([len(i) for i in known], np.int64))
        return {"ids": np.frombuffer(b"".join(known), np.uint8), "offsets": ends}

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, i: Any) -> Any:
        return bytes(self.text[self.ends[i] : self.ends[i + 1]]).decode()
