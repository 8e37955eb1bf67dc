"""Where two systems cost the same, solved exactly, since costs are linear in k, m, alpha and beta."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from ..errors import InputError
from .flops import Number, Setting
from .modes import total

VARIABLES = ("k", "m", "alpha", "beta")


@dataclass(frozen=True)
class BreakEven:
    """The value of one variable at which GLIMMER costs as much as another system.

    Args:
        value: exact; None if the variable changes nothing, or there is no such value.
        low, high: the range of possible values; high is None if there is no upper end.
        whole: the largest value in that range, in whole passages or layers, at which GLIMMER does not cost more;
            None if it costs more everywhere, or nowhere.
    """

    variable: str
    value: Fraction | None
    low: Fraction
    high: Fraction | None
    whole: Fraction | None

    @property
    def inside(self) -> bool:
        """True if the variable can have this value."""
        return self.value is not None and self.low <= self.value and (self.high is None or self.value <= self.high)


def line(cost: Callable[[int], Number]) -> tuple[Fraction, Fraction]:
    """a and b of cost(x) = a + b x.

    Raises:
        ValueError: the cost is not linear.
    """
    a = Fraction(cost(0))
    b = Fraction(cost(1)) - a
    if cost(3) != a + 3 * b:
        raise ValueError("the cost is not linear in this variable")
    return a, b


def limits(s: Setting, variable: str) -> tuple[Fraction, Fraction | None, Fraction]:
    """The smallest and the largest possible value, and the step between values in whole passages or layers.

    For alpha, the live layers must also be whole after beta divides them.
    """
    one = Fraction(1)
    if variable == "k":
        return Fraction(s.m), None, one
    if variable == "m":
        return one, Fraction(s.k), one
    if variable == "alpha":
        return Fraction(0), one, Fraction(Fraction(s.beta).denominator, s.L)
    return Fraction(0), one, one / s.live if s.live else one


def break_even(s: Setting, variable: str, target: Number, mode: str = "full") -> BreakEven:
    """The value of `variable` at which GLIMMER costs `target` multiply-adds; all else is as in the setting.

    Raises:
        InputError: the cost is not linear in this variable.
    """
    if variable not in VARIABLES:
        raise InputError("break-even", f"one of {', '.join(VARIABLES)}", repr(variable))

    def cost(x: int) -> Number:
        changed: dict[str, Any] = {variable: x}
        return total(replace(s, **changed), "glimmer", mode)

    a, b = line(cost)
    low, high, step = limits(s, variable)
    if b == 0:  # the variable changes nothing: either every value is cheap enough, or none
        whole = None if high is None or a > target else high // step * step
        return BreakEven(variable, None, low, high, whole)
    value = (target - a) / b
    whole = (value if high is None else min(value, high)) // step * step
    return BreakEven(variable, value, low, high, whole if whole >= low else None)


def against(s: Setting, system: str, k: int, mode: str = "full") -> dict[str, BreakEven]:
    """All four variables against LUMEN or FiD with k passages, at the setting's own alpha."""
    target = total(replace(s, k=k), system, mode)
    return {variable: break_even(s, variable, target, mode) for variable in VARIABLES}
