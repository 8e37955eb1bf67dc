"""Mutants of a Python file: small changes of its text, each of which a test should notice.

These parts are not mutated: the texts of errors (only whether they are raised), docstrings, annotations, decorators,
f-strings and the help of a command line.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from dataclasses import dataclass

from edits import EDITS, SILENT_KEYWORDS, Edit, Source, returns, statements


@dataclass(frozen=True)
class Mutant:
    """One change of a file.

    Args:
        path: the path of the file below the project's folder.
        function: the function or class that contains it; "" if none does.
        line: the number of its first line.
        before, after: the changed lines before and after, with single spaces.
        nth: its number among the mutants that have all of this in common.
        text: the mutated text of the whole file.
    """

    path: str
    function: str
    operator: str
    line: int
    before: str
    after: str
    nth: int
    text: bytes

    @property
    def name(self) -> str:
        """A name that does not depend on the line numbers."""
        return f"{self.path}|{self.function}|{self.operator}|{self.before}|{self.after}|{self.nth}"


def _is_main(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "__name__" in ast.dump(node.test)


def _skipped(parent: ast.AST, field: str, node: ast.AST) -> bool:
    """Is this child of a node not mutated? See the docstring of the module."""
    documentation = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    helps = isinstance(node, ast.keyword) and node.arg in SILENT_KEYWORDS
    nothing = documentation or helps or _is_main(node) or isinstance(parent, ast.Raise)
    return nothing or field in ("annotation", "returns", "decorator_list", "bases") or isinstance(node, ast.JoinedStr)


def _assigned(node: ast.stmt, known: set[str]) -> bool:
    """Does a statement only write to variables, elements or attributes that exist before it?"""
    targets = node.targets if isinstance(node, ast.Assign) else []
    return bool(targets) and all(
        isinstance(t, ast.Subscript | ast.Attribute) or (isinstance(t, ast.Name) and t.id in known) for t in targets
    )


def _edits(s: Source, node: ast.AST, function: str, kind: str, known: set[str]) -> Iterator[tuple[str, Edit]]:
    """Every edit of a node and of the nodes below it, with the function that contains it."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        function = f"{function}.{node.name}".lstrip(".")
        if isinstance(node, ast.FunctionDef):
            kind = ast.unparse(node.returns) if node.returns else ""
            known = {a.arg for a in (*node.args.args, *node.args.kwonlyargs)}
    found = list(EDITS[type(node)](s, node)) if type(node) in EDITS else []
    if isinstance(node, ast.Return):
        found += returns(s, node, kind)
    effect = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Yield | ast.YieldFrom)
    if effect or (isinstance(node, ast.stmt) and _assigned(node, known)):
        found += statements(s, node)  # type: ignore[arg-type]
    yield from ((function, edit) for edit in found)
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        known.add(node.id)
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _skipped(node, field, child):
                yield from _edits(s, child, function, kind, known)


def _spaced(text: bytes) -> str:
    return " ".join(text.decode().split())


def _made(path: str, s: Source, function: str, edit: Edit, seen: dict[str, int]) -> Mutant:
    operator, begin, end, new = edit
    first = s.text.rfind(b"\n", 0, begin) + 1
    last = s.text.find(b"\n", end) % (len(s.text) + 1)
    before = _spaced(s.text[first:last])
    after = _spaced(s.text[first:begin] + new.encode() + s.text[end:last])
    key = f"{function}|{operator}|{before}|{after}"
    seen[key] = seen.get(key, -1) + 1
    text = s.text[:begin] + new.encode() + s.text[end:]
    return Mutant(path, function, operator, s.text.count(b"\n", 0, begin) + 1, before, after, seen[key], text)


def mutants(path: str, text: bytes) -> list[Mutant]:
    """All mutants of a file, in the order of its text; some are not valid Python, see `sound`."""
    s, seen = Source(text), dict[str, int]()
    found = _edits(s, ast.parse(text), "", "", set())
    made = (_made(path, s, function, edit, seen) for function, edit in found)
    return [m for m in made if m.before != m.after]


def sound(mutant: Mutant) -> bool:
    """Is the mutant valid Python?"""
    try:
        builtins.compile(mutant.text, mutant.path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True
