"""Polynomials, which show that two cost formulas are the same function."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any


class Polynomial:
    """A sum of monomials, {sorted letters: coefficient}; two are equal if they are the same function."""

    def __init__(self, terms: Mapping[tuple[str, ...], Any]) -> None:
        self.terms = {letters: Fraction(x) for letters, x in terms.items() if x}

    @classmethod
    def of(cls, x: Any) -> Polynomial:
        return x if isinstance(x, cls) else cls({(): x})

    def __add__(self, other: Any) -> Polynomial:
        terms = dict(self.terms)
        for letters, x in Polynomial.of(other).terms.items():
            terms[letters] = terms.get(letters, 0) + x
        return Polynomial(terms)

    def __mul__(self, other: Any) -> Polynomial:
        result = Polynomial({})
        for a, x in self.terms.items():
            for b, y in Polynomial.of(other).terms.items():
                result += Polynomial({tuple(sorted(a + b)): x * y})
        return result

    def __sub__(self, other: Any) -> Polynomial:
        return self + Polynomial.of(other) * -1

    def __rsub__(self, other: Any) -> Polynomial:
        return self * -1 + other

    def __pow__(self, power: int) -> Polynomial:
        return self * self ** (power - 1) if power > 1 else self

    __radd__, __rmul__ = __add__, __mul__

    def __eq__(self, other: object) -> bool:
        return self.terms == Polynomial.of(other).terms

    def __bool__(self) -> bool:
        raise TypeError("a formula must not branch on its numbers")

    __lt__ = __le__ = __gt__ = __ge__ = __int__ = __float__ = __bool__  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


def letters(names: str) -> dict[str, Polynomial]:
    return {name: Polynomial({(name,): 1}) for name in names.split()}
