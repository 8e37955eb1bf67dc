"""The names of the rows of an index: ids and titles of passages, as files hold them, and the search for them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..disk.journal import RESTORE
from ..disk.read import decode
from ..errors import InputError
from ..params.safetensors_io import Stored
from ..progress import Show, progress
from ..ragged import Ints, offsets

TITLE_OFFSETS = "title_offsets"


@dataclass(frozen=True, eq=False)
class Strings(Sequence[str]):
    """Concatenated strings of a file in UTF-8: [S] bytes, and [n+1] where each string begins."""

    text: np.ndarray
    ends: Ints
    name: str

    @classmethod
    def of(cls, tensors: Mapping[str, Stored], n: int, file: str, key: str, places: str = "offsets") -> Strings:
        """From the tensors `key` and `places` of a file.

        Raises:
            InputError: they do not hold n strings.
        """
        text, ends = tensors.get(key), tensors.get(places)
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
    def arrays(strings: Iterable[str], key: str, places: str = "offsets") -> dict[str, np.ndarray]:
        """The tensors that a file stores."""
        encoded = [s.encode() for s in strings]
        ends = offsets(np.array([len(s) for s in encoded], np.int64))
        return {key: np.frombuffer(b"".join(encoded), np.uint8), places: ends}

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, i: Any) -> Any:
        return decode(bytes(self.text[self.ends[i] : self.ends[i + 1]]), f"{self.name}, {i}")


@dataclass(frozen=True, eq=False)
class Names:
    """The ids of the passages of a file, and their titles; None in a file of an older build, which has no titles."""

    ids: Strings
    titles: Strings | None

    @classmethod
    def of(cls, tensors: Mapping[str, Stored], n: int, file: str) -> Names:
        """From the tensors of a file.

        Raises:
            InputError: they do not hold n ids, or titles but not n of them.
        """
        titles = Strings.of(tensors, n, file, "titles", TITLE_OFFSETS) if "titles" in tensors else None
        return cls(Strings.of(tensors, n, file, "ids"), titles)

    @staticmethod
    def arrays(passages: Sequence[tuple[str, str]]) -> dict[str, np.ndarray]:
        """The tensors that a file stores for passages, each with its id and title."""
        ids, titles = ([passage[i] for passage in passages] for i in (0, 1))
        return Strings.arrays(ids, "ids") | Strings.arrays(titles, "titles", TITLE_OFFSETS)


class Index(ABC):
    """An index that finds the rows of passages, and knows their ids and titles."""

    @abstractmethod
    def rows(self, questions: Sequence[str], k: int, show: Show = progress) -> list[tuple[Ints, np.ndarray]]:
        """For each question the rows of the k best passages, best first, ties to the lower row, and their scores.

        Raises:
            InputError: k below 1 or above the number of passages, or a question that cannot be read.
        """

    @abstractmethod
    def named(self, row: int) -> tuple[Names, int]:
        """The names among which those of a row are, and its place there."""

    def id(self, row: int) -> str:
        """The id of the passage of a row."""
        names, i = self.named(row)
        return str(names.ids[i])

    def title(self, row: int) -> str | None:
        """The title of the passage of a row, which may be empty; None if the index has no titles."""
        names, i = self.named(row)
        return None if names.titles is None else str(names.titles[i])

    def search(self, questions: Sequence[str], k: int, show: Show = progress) -> list[tuple[list[str], np.ndarray]]:
        """`rows`, with the ids of the passages in place of their rows."""
        return [([self.id(int(row)) for row in rows], scores) for rows, scores in self.rows(questions, k, show)]
