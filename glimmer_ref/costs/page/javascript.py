"""The cost formulas as JavaScript, made by running the Python formulas on symbols."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .. import roofline, serving, storage
from ..flops import SYSTEMS, Number, Setting, online
from ..modes import full

NUMBERS = ("d", "hc", "f", "v", "matrices", "L", "decoder_layers", "embeddings", "k", "m", "n_q", "n_p", "n_t")


class Symbol:
    """A number whose arithmetic gives JavaScript text. Code cannot branch on it."""

    def __init__(self, text: str) -> None:
        self.text = text

    def _write(sign: str, swapped: bool = False) -> Any:  # type: ignore[misc]
        def write(self: Symbol, other: Any) -> Symbol:
            left, right = self.text, other.text if isinstance(other, Symbol) else repr(other)
            return Symbol(f"({right} {sign} {left})" if swapped else f"({left} {sign} {right})")

        return write

    __add__, __radd__ = _write("+"), _write("+", True)
    __sub__, __rsub__ = _write("-"), _write("-", True)
    __mul__, __rmul__ = _write("*"), _write("*", True)
    __truediv__, __rtruediv__ = _write("/"), _write("/", True)
    __pow__ = _write("**")

    def __neg__(self) -> Symbol:
        return Symbol(f"(-{self.text})")

    def __ceil__(self) -> Symbol:
        return Symbol(f"Math.ceil({self.text})")

    def __abs__(self) -> Symbol:
        return Symbol(f"Math.abs({self.text})")

    def __bool__(self) -> bool:
        raise TypeError("a formula must not branch on its numbers")

    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __int__ = __float__ = __bool__  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Layers(Setting):
    """A setting in whole layers instead of alpha and beta, so that no formula divides."""

    @property
    def live(self) -> Number:
        return Symbol("s.live")

    @property
    def live_a(self) -> Number:
        return Symbol("s.live_a")


def _function(x: Number) -> str:
    return f"s => {x.text if isinstance(x, Symbol) else repr(x)}"


def _table(name: str, rows: dict[str, str]) -> str:
    return f"const {name} = {{\n" + "".join(f'  "{key}": {value},\n' for key, value in rows.items()) + "};\n"


def _stages(s: Setting, system: str) -> dict[str, Number]:
    """Each stage with its attention, and the offline memory."""
    stages: dict[str, Number] = {}
    for name, x in full(s, system).items():
        stage = name.removesuffix(".attention")
        stages[stage] = stages[stage] + x if stage in stages else x
    return stages


def _service() -> serving.Service:
    """A service whose numbers are those of s."""
    group = roofline.Group(*(Symbol(f"s.{name}") for name in roofline.Group._fields))
    return serving.Service(
        **{name: Symbol(f"s.{name}") for name in serving.Service._fields if name != "group"}, group=group
    )


def _parts(parts: dict[str, Number]) -> str:
    return "{" + ", ".join(f'"{name}": {_function(x)}' for name, x in parts.items()) + "}"


def formulas() -> str:
    """JavaScript functions of an object s, one table for each kind of number.

    s has the numbers of `Setting`, live and live_a in layers, those of `Service` and of `Group`, and batch;
    capacity, the bytes of a unit of storage; and for OVERTAKE the numbers of two `Line`s as dear_question and so on.
    Multiply-adds and bytes are whole numbers. JavaScript's doubles hold them exactly up to 2^53, about ten times what
    XXL costs with all sliders at their ends.
    """
    numbers: dict[str, Any] = {name: Symbol(f"s.{name}") for name in NUMBERS}
    s, x = Layers(**numbers, alpha=None, beta=None), _service()
    batch, capacity = Symbol("s.batch"), Symbol("s.capacity")
    dear, cheap = (serving.Line(*(Symbol(f"s.{n}_{part}") for part in serving.Line._fields)) for n in ("dear", "cheap"))
    tables: dict[str, Callable[[str], Number | dict[str, Number]]] = {
        "MACS": lambda y: _stages(s, y),
        "TOTAL": lambda y: online(full(s, y)),
        "SECONDS": lambda y: roofline.seconds(s, y, x.width, batch, x.group),
        "RESIDENT": lambda y: roofline.resident_bytes(s, y, x.width, batch),
        "DEVICE": lambda y: sum(serving.device_bytes(s, y, x, batch).values()),
        "GROUPS": lambda y: serving.groups(s, y, x, batch),
        "LATENCY": lambda y: serving.latency(s, y, x, batch),
        "STORED": lambda y: serving.stored_bytes(s, y, x),
        "READ": lambda y: serving.question_bytes(s, y, x),
        "UNITS": lambda y: dict(zip(("held", "fast"), serving.units(s, y, x, capacity, x.unit_bandwidth), strict=True)),
        "ENCODING": lambda y: {"macs": serving.encoding_macs(s, y, x), "hours": serving.encoding_hours(s, y, x)},
        "MONTH": lambda y: serving.month(s, y, x, batch),
        "LINE": lambda y: serving.line(s, y, x, batch)._asdict(),
    }  # fmt: skip
    stored = {
        "passage": storage.passage_bytes(s, x.stored, x.scale),
        "question": storage.read_bytes(s, x.stored, x.scale),
        **{name: storage.corpus_bytes(s, x.stored, count, x.scale) for name, count in storage.CORPORA.items()},
    }
    search = {
        "bytes": serving.index_bytes(x.passages),
        "devices": serving.search_devices(s, x),
        "seconds": serving.search_seconds(s, x),
    }
    text = ""
    for name, formula in tables.items():
        rows = {y: formula(y) for y in SYSTEMS}
        text += _table(name, {y: _parts(v) if isinstance(v, dict) else _function(v) for y, v in rows.items()})
    for name, parts in (("STORAGE", stored), ("SEARCH", search), ("OVERTAKE", serving.overtakes(dear, cheap, x))):
        text += _table(name, {part: _function(v) for part, v in parts.items()})
    return text
