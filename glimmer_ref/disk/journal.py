"""The finished files of a build: their recorded sizes and checksums, and the check that they still match."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..progress import Show
from .read import open_regular, parse_json, read_text, reason_of
from .write import sha256, write_text

JOURNAL = "finished.jsonl"  # in the folder of an unfinished build: one line for each finished file
MAX_JOURNAL_BYTES = 2**30
WHOLE, BLOCKS, BLOCK = 4 * 2**20, 64, 4096  # for `sample`; sizes are in bytes

RESUME = "run the same build again, which makes what is missing"
RESTORE = f"remove this file, then {RESUME}"
SHA256 = re.compile("[0-9a-f]{64}")


def is_entry(entry: Any) -> bool:
    """Is it the record of a file, which has "bytes" and "sha256" and nothing else?"""
    right = isinstance(entry, dict) and entry.keys() == {"bytes", "sha256"} and type(entry["bytes"]) is int
    return right and isinstance(entry["sha256"], str) and bool(SHA256.fullmatch(entry["sha256"]))


def entry_of(path: Path) -> dict[str, Any]:
    """A file's "bytes" and "sha256".

    Raises:
        InputError: it cannot be read.
    """
    return {"bytes": os.path.getsize(path), "sha256": sha256(path)}


def sample(path: Path) -> str:
    """SHA-256 of the whole file if it has at most 4 MiB, else of its length and 64 evenly spaced blocks of 4 KiB.

    It detects a file of another build, a truncated one and a mix of two. It misses a change between the blocks of a
    long file, which only reading the whole file detects.

    Raises:
        InputError: it cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size <= WHOLE:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256(str(size).encode())
        for i in range(BLOCKS):
            file.seek(i * (size - BLOCK) // (BLOCKS - 1))  # includes the first and the last block
            digest.update(file.read(BLOCK))
        return digest.hexdigest()


def check_finished(folder: Path, known: Mapping[str, Mapping[str, Any]], show: Show) -> None:
    """Read the files that have a record, and compare each with it.

    Raises:
        InputError: the first file that differs.
    """
    for name, entry in show(known.items(), len(known), "checksums") if known else ():
        path = folder / name
        if path.stat().st_size != entry["bytes"] or sha256(path) != entry["sha256"]:
            raise InputError(str(path), "the file that was built", "other bytes", RESTORE)


class Journal:
    """The records of the files that a build has finished so far. Only one process at a time may use it.

    A line that is incomplete or damaged is ignored, and its file is made again.

    Raises:
        InputError: it cannot be read or written.
    """

    def __init__(self, folder: Path, names: Collection[str]) -> None:
        self.path, self.files = folder / JOURNAL, dict[str, dict[str, Any]]()
        before = self._text()
        for line in before.splitlines():
            try:
                record = parse_json(line, str(self.path))
            except InputError:
                continue
            name = record.pop("file", None) if isinstance(record, dict) else None
            if isinstance(name, str) and name in names and is_entry(record) and (folder / name).is_file():
                self.files[name] = record
        now = "".join(self._line(name) for name in self.files)
        if now != before:  # there were incomplete lines
            write_text(self.path, now)

    def _text(self) -> str:
        try:
            return read_text(self.path, MAX_JOURNAL_BYTES) if self.path.exists() else ""
        except InputError:
            return "\n"

    def _line(self, name: str) -> str:
        return json.dumps({"file": name, **self.files[name]}) + "\n"

    def add(self, name: str, entry: dict[str, Any] | None = None) -> None:
        """Record a finished file.

        Args:
            entry: its "bytes" and "sha256"; read from the file if not given.

        Raises:
            InputError: the disk is full.
        """
        self.files[name] = entry or entry_of(self.path.parent / name)
        try:
            with open(self.path, "ab") as file:
                file.write(self._line(name).encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InputError(str(self.path), "a place that can be written", reason_of(error)) from None

    def end(self) -> None:
        """Remove the journal: its records are stored elsewhere now."""
        self.path.unlink(missing_ok=True)
