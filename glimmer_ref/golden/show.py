"""A golden case as text that can be copied: its config, its inputs, and the names and shapes of all tensors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import numpy as np

from .check import Case

MOST_VALUES = 64  # larger float arrays are not printed


def literal(x: np.ndarray, lengths: np.ndarray | None) -> str:
    """An array as a list literal; a ragged one as a list of sequences."""
    if lengths is None:
        return json.dumps(x.tolist())
    return json.dumps([part.tolist() for part in np.split(x, np.cumsum(lengths)[:-1])])


def inputs(arrays: Mapping[str, np.ndarray]) -> Iterator[str]:
    """One line per input: integers in full, floats if there are few."""
    for name, x in arrays.items():
        if name.removesuffix(".lengths") != name and name.removesuffix(".lengths") in arrays:
            continue
        lengths = arrays.get(f"{name}.lengths")
        about = f"{x.dtype} {list(x.shape)}" + (f", lengths {lengths.tolist()}" if lengths is not None else "")
        if x.dtype.kind == "f" and x.size > MOST_VALUES:
            yield f"{name}: {about}, in inputs.safetensors"
        else:
            yield f"{name} = {literal(x, lengths)}  # {about}"


def lines(case: Case) -> Iterator[str]:
    """The whole case, line by line."""
    about = case.about
    yield f"# {about['case']}: {about['pins']}"
    yield f"# {about['kind']} {about.get('system', '')}, k = {about.get('k')}, m = {about.get('m')}; {about['licence']}"
    yield from (f"# {name}: {sentence}" for name, sentence in about.get("decisions", {}).items())
    yield ""
    yield from f"config = {json.dumps(about['config'], indent=1, ensure_ascii=False)}".split("\n")
    yield from ("", "# inputs")
    yield from inputs(case.read("inputs"))
    yield from ("", "# weights, in weights.safetensors")
    yield from (f"{name} {x.dtype} {list(x.shape)}" for name, x in case.read("weights").items())
    yield from ("", "# expected, in forward order: name, symbol, shape, largest NMSE in float32")
    for entry in about["tensors"]:
        most = f"{entry['tolerance']['float32']['nmse']:.1e}" if entry.get("tolerance") else "equal"
        yield f"{entry['name']:43} {entry.get('symbol') or '':24} {entry['shape']!s:10} {most}"
    for refusal in about.get("refusals", []):
        yield from ("", f"# {refusal['name']}: {json.dumps(refusal['change'])}")
        yield f"# must end in: {refusal['expected']}"
