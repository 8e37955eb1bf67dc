"""Kernels whose arguments are groups of operands: numba gets each field as an argument."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from typing import Any


def flat(loop: Callable[..., None], groups: dict[str, Any]) -> Callable[..., None]:
    """A function that takes the fields of the groups as single arguments, builds the groups, and runs the loop."""
    lines, start = inspect.getsourcelines(loop)
    (function,) = ast.parse("".join(lines)).body
    assert isinstance(function, ast.FunctionDef)
    arguments = []
    for name in inspect.signature(loop).parameters:
        fields = [f"{name}_{field}" for field in groups[name]._fields] if name in groups else [name]
        arguments += [ast.arg(field) for field in fields]
        if name in groups:
            function.body[:0] = ast.parse(f"{name} = {groups[name].__name__}({', '.join(fields)})").body
    function.decorator_list, function.args.args = [], arguments
    ast.increment_lineno(function, start - 1)
    made: dict[str, Any] = {}
    module = ast.fix_missing_locations(ast.Module([function], []))
    exec(compile(module, loop.__code__.co_filename, "exec"), loop.__globals__, made)
    return made[loop.__name__]
