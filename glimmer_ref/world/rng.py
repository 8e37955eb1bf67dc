"""Random numbers that are the same on every machine and with every version of NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class PortableRng:
    """Random numbers from the raw 64-bit words of PCG64.

    NumPy promises that these words never change. It makes no such promise for the methods of `Generator`.

    Args:
        seed: integers that are not negative.
    """

    def __init__(self, *seed: int) -> None:
        self._words = np.random.PCG64(list(seed))

    def below(self, n: int) -> int:
        """A random integer from 0 to n - 1."""
        return int(self._words.random_raw()) * n >> 64

    def chance(self, share: float) -> bool:
        """True with the probability `share`, which is rounded to a millionth."""
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

    def sample(self, items: Sequence[T], n: int) -> list[T]:
        """n different items in random order; all items if there are fewer."""
        rest, n = list(items), min(n, len(items))
        for i in range(n):
            j = i + self.below(len(rest) - i)
            rest[i], rest[j] = rest[j], rest[i]
        return rest[:n]
