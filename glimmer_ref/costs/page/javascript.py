"""The cost formulas as JavaScript, made by running the Python formulas on symbols."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .. import roofline, storage
from ..flops import SYSTEMS, Number, Setting, online
from ..modes import full

NUMBERS = ("d", "hc", "f", "v", "matrices", "L", "decoder_layers", "k", "m", "n_q", "n_p", "n_t")


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


def formulas() -> str:
    """JavaScript functions of an object s: MACS, TOTAL, SECONDS, RESIDENT by system, and STORAGE.

    s has the numbers of `Setting`, live and live_a in layers, width (bytes per number), scale (extra bytes per
    stored token), batch, flops (peak FLOP/s) and bandwidth (bytes/s). All results but SECONDS are whole
    numbers. JavaScript's doubles hold them exactly up to 2^53, about ten times what XXL costs with all sliders at their
    ends.
    """
    numbers: dict[str, Any] = {name: Symbol(f"s.{name}") for name in NUMBERS}
    s = Layers(**numbers, alpha=None, beta=None)
    width, scale, batch, flops, bandwidth = (
        Symbol(f"s.{name}") for name in ("width", "scale", "batch", "flops", "bandwidth")
    )
    stages = {
        system: "{" + ", ".join(f'"{stage}": {_function(x)}' for stage, x in _stages(s, system).items()) + "}"
        for system in SYSTEMS
    }
    seconds = {system: roofline.seconds(s, system, width, batch, flops, bandwidth) for system in SYSTEMS}
    resident = {system: roofline.resident_bytes(s, system, width, batch) for system in SYSTEMS}
    stored = {
        "passage": storage.passage_bytes(s, width, scale),
        "question": storage.read_bytes(s, width, scale),
        **{name: storage.corpus_bytes(s, width, count, scale) for name, count in storage.CORPORA.items()},
    }
    return (
        _table("MACS", stages)
        + _table("TOTAL", {system: _function(online(full(s, system))) for system in SYSTEMS})
        + _table("SECONDS", {system: _function(x) for system, x in seconds.items()})
        + _table("RESIDENT", {system: _function(x) for system, x in resident.items()})
        + _table("STORAGE", {name: _function(x) for name, x in stored.items()})
    )
