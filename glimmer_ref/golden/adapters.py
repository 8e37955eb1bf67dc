"""Two more ways to be checked than a file of outputs: a Python function, and a command."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..disk.lock import WINDOWS
from ..errors import InputError
from .check import Case, Report, check, open_case

Function = Callable[[Any, Any, Any], Mapping[str, Any]]


def changed(case: Case, change: Mapping[str, Any]) -> tuple[Any, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A case's config, weights and inputs with the change of one of its refusals made."""

    def merged(old: Any, new: Any) -> Any:
        return old | {key: merged(old.get(key), new[key]) for key in new} if isinstance(new, Mapping) else new

    config, weights, inputs = case.about["config"], case.read("weights"), case.read("inputs")
    config = merged(config, change.get("config", {}))
    if "m" in change:
        config = merged(config, {"glimmer": {"m": change["m"]}})
    for name, value in change.get("inputs", {}).items():
        inputs[name] = np.array(value, inputs[name].dtype)
    for name, value in change.get("weights", {}).items():
        old = weights.pop(name)
        if value is not None:
            weights[name] = np.full_like(old, float(value))
    return config, weights, inputs


def check_callable(case: str | Path, function: Function, precision: str = "float32") -> Report:
    """Hold function(config, weights, inputs) -> arrays by name against a case.

    What it raises passes through, but where the case asks for an error: there any exception is one.

    Raises:
        Unusable: no such case, or something else than arrays by name.
    """
    known = open_case(case)
    outputs = function(*changed(known, {}))
    refused = {}
    for refusal in known.about.get("refusals", []):
        name = f"refused.{refusal['name']}"
        try:
            function(*changed(known, refusal["change"]))
            refused[name] = np.zeros(1, np.int64)
        except Exception:
            refused[name] = np.ones(1, np.int64)
    return check(known, {**outputs, **refused} if refused else outputs, precision)


def _words(command: str, places: Mapping[str, str]) -> str | list[str]:
    """What to start: words that a shell would split, or, on Windows, whose programs split it themselves, the line."""
    if WINDOWS:
        for name, place in places.items():
            command = command.replace(name, subprocess.list2cmdline([place]))
        return command
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InputError("--run", "a command as a shell would split it", str(error)) from None
    for name, place in places.items():
        words = [word.replace(name, place) for word in words]
    return words


def check_command(case: str | Path, command: str, precision: str = "float32") -> Report:
    """Run a command, its {case} being the case's folder and its {out} the file to write, and check that file.

    Raises:
        Unusable: no such case, or an unusable file.
        InputError: a command without {case} or {out}, that cannot be started, fails, or writes nothing.
    """
    known = open_case(case)
    if "{case}" not in command or "{out}" not in command:
        raise InputError("--run", "a command with {case} and {out} in it", repr(command))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.safetensors"
        words = _words(command, {"{case}": str(known.folder.resolve()), "{out}": str(out)})
        try:
            code = subprocess.run(words, stdout=2, check=False).returncode  # our own stdout is for the report
        except OSError as error:
            raise InputError("--run", "a command that can be started", f"{command}: {error.strerror}") from None
        if code or not out.is_file():
            got = f"exit code {code}" if code else "no such file"
            raise InputError("--run", "a command that ends with exit code 0 and has written {out}", got)
        return check(known, out, precision)
