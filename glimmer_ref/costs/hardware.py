"""Accelerators and places of storage: those of hardware.toml, those of a user's file, and measurements of this machine.

All rates are exact: the decimals of a file become fractions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ..disk.read import PathLike, read_json
from ..disk.toml import check_known, key, read, read_toml, rule
from ..errors import InputError, brief
from .flops import Number
from .roofline import Group
from .storage import WIDTHS

SHIPPED = Path(__file__).with_name("hardware.toml")
GIGA, TERA = 10**9, 10**12
MOST = 10**9  # of a number in a file of hardware; a larger one is a typing error


class Efficiency(NamedTuple):
    """The shares of the peak FLOP/s and of the memory's bandwidth that are reached, and where they come from."""

    arithmetic: Number
    bandwidth: Number
    source: str


FULL = Efficiency(Fraction(1), Fraction(1), "the peaks themselves")
# By no measurement of this package: it has none on an accelerator.
CITED = Efficiency(
    Fraction("0.76"),
    Fraction("0.685"),
    "0.76 of the peak: Pope et al. 2023, PaLM 540B on TPU v4, input tokens in large batches; 0.685 of the bandwidth: "
    "gpt-fast's README, 1,397 of 2,039 GB/s, Llama-2-7B on an A100",
)


class Hardware(NamedTuple):
    """An accelerator, or a CPU.

    Args:
        flops: peak FLOP/s by dtype, two for each multiply-add.
        bandwidth: bytes/s of its memory.
        memory: bytes; 0 if unknown.
        link: bytes/s to the other devices of a group, in one direction; 0 if there is none.
        source: where these numbers come from.
        efficiency: what is reached of them; None if unknown.
    """

    name: str
    flops: dict[str, Number]
    bandwidth: Number
    memory: Number
    link: Number = 0
    source: str = ""
    efficiency: Efficiency | None = None


class Store(NamedTuple):
    """A place for passages: bytes that one unit holds (0: no limit), and the bytes/s that it gives."""

    name: str
    capacity: Number
    bandwidth: Number
    source: str


@dataclass(frozen=True)
class _EfficiencyTable:
    arithmetic: float = key("number", above=0, at_most=1)
    bandwidth: float = key("number", above=0, at_most=1)
    source: str = key("text", "the file of hardware")


@dataclass(frozen=True)
class _AcceleratorTable:
    name: str = key("text")
    memory: float = key("number", above=0, at_most=MOST)
    bandwidth: float = key("number", above=0, at_most=MOST)
    tflops: dict[str, float] = field(default_factory=dict, metadata=rule("shares", above=0, at_most=MOST))
    link: float = key("number", 0, at_least=0, at_most=MOST)
    source: str = key("text", "")
    url: str = key("text", "")
    efficiency: dict[str, Any] = field(default_factory=dict, metadata=rule("table"))


@dataclass(frozen=True)
class _StoreTable:
    name: str = key("text")
    capacity: float = key("number", at_least=0, at_most=MOST)
    bandwidth: float = key("number", above=0, at_most=MOST)
    source: str = key("text", "")
    url: str = key("text", "")


def _times(number: float, unit: int) -> int:
    """A number of a file in its unit, rounded to a whole one; 989.4 tera is exactly 989,400 giga."""
    return round(Fraction(str(number)) * unit)


def _hardware(data: Any, location: str) -> Hardware:
    table = read(_AcceleratorTable, data, location)
    check_known(f"{location}.tflops", table.tflops, WIDTHS)
    if not table.tflops:
        raise InputError(f"{location}.tflops", "the peak of at least one dtype, like { bfloat16 = 312 }", "none")
    reached = None
    if table.efficiency:
        e = read(_EfficiencyTable, table.efficiency, f"{location}.efficiency")
        reached = Efficiency(Fraction(str(e.arithmetic)), Fraction(str(e.bandwidth)), e.source)
    return Hardware(
        table.name,
        {dtype: _times(peak, TERA) for dtype, peak in table.tflops.items()},
        _times(table.bandwidth, GIGA),
        _times(table.memory, GIGA),
        _times(table.link, GIGA),
        table.source,
        reached,
    )


def _store(data: Any, location: str) -> Store:
    table = read(_StoreTable, data, location)
    return Store(table.name, _times(table.capacity, GIGA), _times(table.bandwidth, GIGA), table.source)


def hardware_file(path: PathLike) -> tuple[dict[str, Hardware], dict[str, Store]]:
    """The accelerators and the stores of a TOML file in the form of hardware.toml.

    Raises:
        InputError: no TOML, an unknown or a missing key, or a value that is out of range.
    """
    data = read_toml(path)
    check_known(str(path), data, ("accelerators", "stores"))
    tables = {name: data.get(name, {}) for name in ("accelerators", "stores")}
    for name, rows in tables.items():
        if not isinstance(rows, Mapping):
            raise InputError(f"{path}: {name}", f"tables like [{name}.mine]", brief(rows))
    accelerators = {n: _hardware(x, f"{path}: accelerators.{n}") for n, x in tables["accelerators"].items()}
    return accelerators, {n: _store(x, f"{path}: stores.{n}") for n, x in tables["stores"].items()}


@cache
def shipped() -> tuple[dict[str, Hardware], dict[str, Store]]:
    """The accelerators and the stores of hardware.toml."""
    return hardware_file(SHIPPED)


def _share(report: Mapping[str, Any], threads: int, reads: bool) -> Fraction | None:
    """The measured share of the bandwidth, or of the peak by an encoder, in a report of `glimmer-ref bench`."""
    for row in report["rows"]:
        right = row["bound"] == "reads" if reads else row["work"].startswith("encoder")
        if right and row["threads"] == threads:
            return Fraction(min(row["share"], 1)).limit_denominator(1000)
    return None


def bench_file(path: PathLike) -> Hardware:
    """The machine that a report of `glimmer-ref bench --json` was measured on, with its largest number of threads.

    Its efficiency is what the report's encoder and decoder reached.

    Raises:
        InputError: the file is no such report.
    """
    report = read_json(path, "a report of glimmer-ref bench --json")
    try:
        peaks = max(report["ceilings"], key=lambda peaks: int(peaks["threads"]))
        arithmetic, bandwidth = (_share(report, peaks["threads"], reads) for reads in (False, True))
        flops = {dtype: round(peaks[dtype]) for dtype in WIDTHS if peaks.get(dtype)}
        if not flops or min(*flops.values(), peaks["reads"]) <= 0:
            raise ValueError
        about, memory = report["machine"], int(report["machine"]["memory_bytes"])
        name, reads = f"{about['cpu']}, threads: {peaks['threads']}", round(peaks["reads"])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise InputError(str(path), "a report of glimmer-ref bench --json", "another file") from None
    reached = None if arithmetic is None or bandwidth is None else Efficiency(arithmetic, bandwidth, f"bench: {path}")
    return Hardware(name, flops, reads, memory, 0, f"measured, {path}", reached)


def accelerator(name: str) -> Hardware:
    """An accelerator by its name in hardware.toml, or of a file: FILE.toml, FILE.toml:NAME, or bench's FILE.json.

    Raises:
        InputError: no such accelerator, a file with several and no name, or as `hardware_file` and `bench_file`.
    """
    if name in shipped()[0]:
        return shipped()[0][name]
    if name.endswith(".json"):
        return bench_file(name)
    path, _, which = name.rpartition(":") if ".toml:" in name else (name, "", "")
    if not path.endswith(".toml"):
        names = ", ".join(shipped()[0])
        raise InputError(
            "hardware", f"one of {names}, cpu; or FILE.toml, or FILE.json of glimmer-ref bench", repr(name)
        )
    found = hardware_file(path)[0]
    if not found or ((which or len(found) > 1) and which not in found):
        got = repr(which) if which else f"{len(found)} accelerators"
        raise InputError(name, f"one of its accelerators, like {path}:{next(iter(found), 'NAME')}", got)
    return found[which] if which else next(iter(found.values()))


def store(name: str) -> Store:
    """A place of storage by its name in hardware.toml, or of a file: FILE.toml:NAME.

    Raises:
        InputError: no such place, or as `hardware_file`.
    """
    path, _, which = name.rpartition(":") if ".toml:" in name else ("", "", name)
    found = hardware_file(path)[1] if path else shipped()[1]
    if which not in found:
        raise InputError("storage", f"one of {', '.join(found)}; or FILE.toml:NAME", repr(which))
    return found[which]


def group_of(hardware: Hardware, dtype: str, efficiency: Efficiency, devices: int) -> Group:
    """A group of devices at the shares of their peaks that are reached.

    Raises:
        InputError: several devices without a link between them.
    """
    if devices > 1 and not hardware.link:
        raise InputError("devices", "1, or hardware whose link is known", str(devices), "state link in a TOML file")
    flops, bandwidth = hardware.flops[dtype] * efficiency.arithmetic, hardware.bandwidth * efficiency.bandwidth
    return Group(flops, bandwidth, devices, hardware.link or 1)
