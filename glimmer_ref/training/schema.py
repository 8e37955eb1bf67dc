"""A table of a TOML file as a dataclass: every key known, every value of its type and in its range."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, TypeVar

from ..errors import InputError, brief

T = TypeVar("T")


@dataclass(frozen=True)
class Rule:
    """What one key may hold.

    Args:
        kind: "whole", "number", "flag", "text", "texts" (a list), "shares" (names with numbers) or "table".
        least, most: the range of a number, of each share.
        open: the range leaves out `least` ("below"), `most` ("above") or neither ("").
        choices: of a text.
    """

    kind: str
    least: float = -math.inf
    most: float = math.inf
    open: str = ""
    choices: tuple[str, ...] = ()

    def read(self, place: str, value: Any) -> Any:
        """The value as the dataclass holds it.

        Raises:
            InputError: another type, or out of range.
        """
        if not self._fits(value):
            raise InputError(place, self.wanted, brief(value))
        if self.kind == "number":
            return float(value)
        if self.kind == "shares":
            return {name: float(share) for name, share in value.items()}
        return tuple(value) if self.kind == "texts" else value

    def _fits(self, value: Any) -> bool:
        if self.kind == "texts":
            return isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)
        if self.kind == "shares":
            return isinstance(value, Mapping) and all(self._in_range(v) for v in value.values())
        if self.kind == "text":
            return isinstance(value, str) and (not self.choices or value in self.choices)
        if self.kind in ("flag", "table"):
            return isinstance(value, bool if self.kind == "flag" else Mapping)
        return (self.kind == "number" or isinstance(value, int)) and self._in_range(value)

    def _in_range(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        above = value > self.least if self.open == "below" else value >= self.least
        return above and (value < self.most if self.open == "above" else value <= self.most)

    @property
    def wanted(self) -> str:
        """The rule in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        low = "" if self.least == -math.inf else f" {'above' if self.open == 'below' else 'from'} {self.least:g}"
        high = "" if self.most == math.inf else f" {'below' if self.open == 'above' else 'up to'} {self.most:g}"
        words = {
            "whole": "a whole number",
            "number": "a number",
            "flag": "true or false",
            "text": "a string",
            "texts": "a list of strings",
            "shares": "a table of numbers",
            "table": "a table",
        }
        return words[self.kind] + low + high


def rule(kind: str, **more: Any) -> dict[str, Rule]:
    """The metadata of a dataclass's field that `read` fills."""
    return {"rule": Rule(kind, **more)}


def key(kind: str, default: Any = MISSING, **more: Any) -> Any:
    """A field that `read` fills; without a default the key must be there."""
    return field(default=default, metadata=rule(kind, **more))


def spelled(f: Field[Any]) -> str:
    """The key of a field: its name, without the underscore that keeps it apart from Python's words."""
    return f.name.rstrip("_")


def check_known(place: str, got: Iterable[str], known: Iterable[str]) -> None:
    """Hold keys against those that there are.

    Raises:
        InputError: an unknown one, with the known one that is most like it.
    """
    known = list(known)
    for name in got:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            raise InputError(place, f"keys among {', '.join(known)}", name, f"did you mean {near[0]}?" if near else "")


def read(cls: type[T], data: Any, place: str) -> T:
    """The dataclass from a table.

    Args:
        cls: a dataclass whose fields were made by `key`.
        place: the file and the table's name, for errors.

    Raises:
        InputError: a key unknown or missing, a value of another type or out of range.
    """
    if not isinstance(data, Mapping):
        raise InputError(place, "a table", brief(data))
    known = {spelled(f): f for f in fields(cls)}  # type: ignore[arg-type]
    check_known(place, data, known)
    for name, f in known.items():
        if name not in data and f.default is MISSING and f.default_factory is MISSING:
            raise InputError(place, f'a key "{name}", {f.metadata["rule"].wanted}', "none")
    rules = {name: known[name].metadata["rule"] for name in data}
    return cls(**{known[name].name: one.read(f"{place}.{name}", data[name]) for name, one in rules.items()})
