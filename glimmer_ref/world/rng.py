"""Random draws that are the same bytes on every machine and with every version of NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Draw:
    """Draws from the raw 64-bit words of PCG64.

    NumPy promises that these words never change, but not what `Generator` makes of them.

    Args:
        seed: whole numbers from 0 on; other numbers, other draws.
    """

    def __init__(self, *seed: int) -> None:
        self._words = np.random.PCG64(list(seed))

    def below(self, n: int) -> int:
        """A whole number from 0 to n - 1."""
        return int(self._words.random_raw()) * n >> 64

    def chance(self, share: float) -> bool:
        """True in this share of the cases, to a millionth."""
        return self.below(1_000_000) < round(1_000_000 * share)

    def pick(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[self.below(len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in random order."""
        rest = list(items)
        for i in range(len(rest) - 1, 0, -1):
            j = self.below(i + 1)
            rest[i], rest[j] = rest[j], rest[i]
        return rest

    def some(self, items: Sequence[T], n: int) -> list[T]:
        """n different ones of the items, or all of them where there are fewer, in random order."""
        rest, n = list(items), min(n, len(items))
        for i in range(n):
            j = i + self.below(len(rest) - i)
            rest[i], rest[j] = rest[j], rest[i]
        return rest[:n]
