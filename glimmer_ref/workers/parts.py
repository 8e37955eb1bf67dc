"""Parts of a passages file, one for each shard: a task names a part by its bytes, and a worker reads it from disk."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..data.inputs import Passage, passages_of
from ..data.json_lines import jsonl
from ..disk.read import reason_of
from ..errors import InputError


class Part(NamedTuple):
    """The passages of one shard in their file.

    Args:
        number: the number of the shard.
        offset, length: where the part begins in the file, and its length, in bytes.
        first, passages: the row of its first passage, and the number of its passages.
        sha256: the checksum of the part, so that no worker encodes another file of the same name.
    """

    number: int
    offset: int
    length: int
    first: int
    passages: int
    sha256: str


def split_passages(path: str | Path, size: int) -> Iterator[Part]:
    """Split a file of passages into parts of `size` passages; the last may have fewer. The file is read once."""
    with open(path, "rb") as file:
        number, offset, length, passages, digest = 0, 0, 0, 0, hashlib.sha256()
        for line in file:
            if line.strip() and passages == size:
                yield Part(number, offset, length, number * size, passages, digest.hexdigest())
                number, offset, length, passages, digest = number + 1, offset + length, 0, 0, hashlib.sha256()
            length, passages = length + len(line), passages + bool(line.strip())
            digest.update(line)
        if passages:
            yield Part(number, offset, length, number * size, passages, digest.hexdigest())


def read_part(source: str, part: Part) -> Iterator[Passage]:
    """The passages of a part.

    Raises:
        InputError: the file cannot be read here, or is not the one that was split; a bad passage.
    """
    try:
        with open(source, "rb") as file:
            file.seek(part.offset)
            data = file.read(part.length)
    except OSError as error:
        raise InputError(source, "a file that workers can read", reason_of(error)) from None
    if hashlib.sha256(data).hexdigest() != part.sha256:
        raise InputError(source, "the file that the build began with", "another", "give every worker the same files")
    return passages_of(jsonl(io.BytesIO(data), f"{source} from byte {part.offset}"), part.first)
