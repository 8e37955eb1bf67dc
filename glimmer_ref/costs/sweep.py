"""The cost along one axis: k, m, alpha, beta, a length, or the model's size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import InputError, brief
from .flops import Number, Setting
from .models import model_named
from .modes import samples_per_tflop, total
from .parse import COUNTS, PROPORTIONS, change, checked, fraction, number

AXES = (*COUNTS, *PROPORTIONS, "size")
MOST = 2000


def parse_axis(spec: str) -> tuple[str, list[Number | str]]:
    """Parse an axis and its values: "k=5:100:5" (with the end), "alpha=1/24,1/3", "size=base,xxl".

    Raises:
        InputError: another form, an unknown axis, a value that is not possible, or more than 2000 values.
    """
    name, _, text = spec.partition("=")
    name = name.strip().replace("-", "_")
    if name not in AXES or not text.strip():
        raise InputError(
            "--over", f"AXIS=FROM:TO:STEP or AXIS=V,V,.. where AXIS is one of {', '.join(AXES)}", repr(spec)
        )
    words = [word.strip() for word in text.split(":" if ":" in text else ",")]
    if name == "size":
        if ":" in text:
            raise InputError("--over", "size=V,V,.. without FROM:TO:STEP", repr(spec))
        for word in words:
            model_named(word)
        return name, list(words)
    return name, _range(spec, name, words) if ":" in text else [number(name, word) for word in words]


def _range(spec: str, name: str, words: Sequence[str]) -> list[Number | str]:
    """FROM, FROM + STEP, .. up to and including TO."""
    numbers = [x for x in map(fraction, words) if x is not None]
    if len(numbers) != 3 or len(words) != 3:
        raise InputError("--over", "three numbers FROM:TO:STEP", brief(spec))
    first, last, step = numbers
    if step <= 0 or last < first:
        raise InputError("--over", "FROM at most TO, and STEP above 0", repr(spec))
    steps = (last - first) // step
    if steps >= MOST:
        raise InputError("--over", f"at most {MOST} values", str(steps + 1))
    values = [first + i * step for i in range(steps + 1)]
    return [number(name, int(v) if v.denominator == 1 and name in COUNTS else str(v)) for v in values]


def sweep(
    s: Setting, axis: str, values: Sequence[Number | str], systems: Sequence[str], mode: str
) -> list[dict[str, Any]]:
    """A row for each value and system; all else is as in the setting.

    Raises:
        InputError: some value is not possible in this setting, for example m > k.
    """
    rows = []
    for value in values:
        try:
            here = checked(change(s, **{axis: value}), whole=mode != "printed", systems=systems)
        except InputError as error:
            raise error.at(f"--over {axis}={value}") from None
        for system in systems:
            macs = total(here, system, mode)
            rows.append({axis: value, "system": system, "macs": macs, "samples_per_tflop": samples_per_tflop(macs)})
    return rows
