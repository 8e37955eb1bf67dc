"""TOML files: read within bounds; their tables become dataclasses, with every key known and every value checked."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, TypeVar

from ..errors import InputError, brief
from .read import PathLike, read_text

T = TypeVar("T")
MOST_BYTES = 2**20


def read_toml(path: PathLike) -> dict[str, Any]:
    """The tables of a TOML file of at most 1 MiB.

    Raises:
        InputError: there is no such file, or it is not TOML.
    """
    try:
        return tomllib.loads(read_text(path, MOST_BYTES))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(str(path), "TOML", str(error)[:120]) from None


@dataclass(frozen=True)
class Rule:
    """The allowed values of one key.

    Args:
        kind: "whole" (integer), "number", "flag", "text", "texts" (a list), "shares" (names with numbers) or "table".
        at_least, above, at_most, below: the range of a number, or of each share.
        choices: the allowed texts; empty: any text.
    """

    kind: str
    at_least: float = -math.inf
    above: float = -math.inf
    at_most: float = math.inf
    below: float = math.inf
    choices: tuple[str, ...] = ()

    def read(self, location: str, value: Any) -> Any:
        """The value, converted for the dataclass.

        Raises:
            InputError: the value has another type, or is out of range.
        """
        if not self._fits(value):
            raise InputError(location, self.expected, brief(value))
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
        return self.at_least <= value <= self.at_most and self.above < value < self.below

    @property
    def expected(self) -> str:
        """The rule in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        bounds = {"from": self.at_least, "above": self.above, "up to": self.at_most, "below": self.below}
        limits = "".join(f" {word} {bound:g}" for word, bound in bounds.items() if math.isfinite(bound))
        words = {
            "whole": "a whole number",
            "number": "a number",
            "flag": "true or false",
            "text": "a string",
            "texts": "a list of strings",
            "shares": "a table of numbers",
            "table": "a table",
        }
        return words[self.kind] + limits


def rule(kind: str, **more: Any) -> dict[str, Rule]:
    """The metadata of a dataclass field that `read` fills."""
    return {"rule": Rule(kind, **more)}


def key(kind: str, default: Any = MISSING, **more: Any) -> Any:
    """A dataclass field that `read` fills. The key is required if there is no default."""
    return field(default=default, metadata=rule(kind, **more))


def key_of(f: Field[Any]) -> str:
    """The key of a field: its name, without the final underscore of a name that is a keyword of Python."""
    return f.name.rstrip("_")


def check_known(location: str, got: Iterable[str], known: Iterable[str]) -> None:
    """Check that all keys are known.

    Raises:
        InputError: an unknown key. The message suggests the known key that is most similar.
    """
    known = list(known)
    for name in got:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            raise InputError(
                location, f"only the keys {', '.join(known)}", name, f"did you mean {near[0]}?" if near else ""
            )


def read(cls: type[T], data: Any, location: str) -> T:
    """A dataclass with the values of a table.

    Args:
        cls: a dataclass whose fields were made by `key`.
        location: the file and the table's name, for error messages.

    Raises:
        InputError: a key is unknown or missing, or a value has another type or is out of range.
    """
    if not isinstance(data, Mapping):
        raise InputError(location, "a table", brief(data))
    known = {key_of(f): f for f in fields(cls)}  # type: ignore[arg-type]
    check_known(location, data, known)
    for name, f in known.items():
        if name not in data and f.default is MISSING and f.default_factory is MISSING:
            raise InputError(location, f'a key "{name}", {f.metadata["rule"].expected}', "none")
    rules = {name: known[name].metadata["rule"] for name in data}
    return cls(
        **{
            known[name].name: one.read(f"{location}{'.' if ': ' in location else ': '}{name}", data[name])
            for name, one in rules.items()
        }
    )
