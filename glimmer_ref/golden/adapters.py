"""Adapters that check a Python function or a command instead of a file of outputs."""

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
    """A case's config, weights and inputs after the `change` of a refusal; an empty `change` changes nothing."""

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
    """Checks a function against a case: it maps (config, weights, inputs) to arrays by name.

    Exceptions of the function are passed on. But if the case expects an error, any exception is right.

    Raises:
        Unusable: the case does not exist, or the function does not return arrays by name.
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


def _arguments(command: str, paths: Mapping[str, str]) -> str | list[str]:
    """The command as a list of arguments, split like in a shell. On Windows it is one line, which programs split."""
    if WINDOWS:
        for name, path in paths.items():
            command = command.replace(name, subprocess.list2cmdline([path]))
        return command
    try:
        arguments = shlex.split(command)
    except ValueError as error:
        raise InputError("--run", "a command with all its quotation marks", str(error)) from None
    for name, path in paths.items():
        arguments = [argument.replace(name, path) for argument in arguments]
    return arguments


def check_command(case: str | Path, command: str, precision: str = "float32") -> Report:
    """Runs a command, and checks the file that it writes. {case} stands for the case's folder, {out} for the file.

    Raises:
        Unusable: the case does not exist, or the file is unusable.
        InputError: the command lacks {case} or {out}, does not start, fails, or writes nothing.
    """
    known = open_case(case)
    if "{case}" not in command or "{out}" not in command:
        raise InputError("--run", "a command with {case} and {out} in it", repr(command))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.safetensors"
        arguments = _arguments(command, {"{case}": str(known.folder.resolve()), "{out}": str(out)})
        try:
            code = subprocess.run(arguments, stdout=2, check=False).returncode  # stdout is for the report
        except OSError as error:
            raise InputError("--run", "a command that can be started", f"{command}: {error.strerror}") from None
        out = next(
            (path for path in (out, out.with_name(f"{out.name}.npz")) if path.is_file()), out
        )  # np.savez adds it
        if code or not out.is_file():
            got = f"exit code {code}" if code else "no such file"
            raise InputError("--run", "a command that ends with exit code 0 and has written {out}", got)
        return check(known, out, precision)
