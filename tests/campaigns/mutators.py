"""Mutants of a Python file: small changes of its text, each of which a test should notice.

These parts are not mutated: the texts of errors (only whether they are raised), docstrings, annotations, decorators,
f-strings and the help of a command line.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

COMPARISONS = {
    ast.Lt: ("<", ("<=", ">=")),
    ast.LtE: ("<=", ("<", ">")),
    ast.Gt: (">", (">=", "<=")),
    ast.GtE: (">=", (">", "<")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.Is: ("is", ("is not",)),
    ast.IsNot: (r"is\s+not", ("is",)),
    ast.In: ("in", ("not in",)),
    ast.NotIn: (r"not\s+in", ("in",)),
}
ARITHMETIC = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
    ast.LShift: ("<<", ">>"),
    ast.BitOr: ("|", "&"),
    ast.BitAnd: ("&", "|"),
    ast.BitXor: ("^", "|"),
}
ORDERED = {ast.Sub: "-", ast.Div: "/", ast.FloorDiv: "//", ast.MatMult: "@", ast.Pow: "**"}  # a - b is not b - a
OTHER_NAMES = {
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "sorted": "list",
    "minimum": "maximum",
    "maximum": "minimum",
    "zeros": "ones",
    "zeros_like": "ones_like",
    "sum": "mean",
    "mean": "sum",
    "argsort": "argmax",
}
IDENTITIES = ("copy", "strip", "lower", "ravel", "sort", "flush", "abs", "float", "int", "sqrt", "exp")
ALWAYS = ("ops", "model", "t5")  # nearly always the first arguments: swapped, they raise at once
# Texts for people, and guards against impossible cases: no result depends on them.
SILENT_KEYWORDS = {"help", "metavar", "description", "default_factory", "strict"}
WORD = re.compile(r"[A-Za-z_.]+")

Edit = tuple[str, int, int, str]  # operator, begin, end, and the new text in between


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


class Source:
    """A file's text, addressed as in syntax trees: by line, and by byte within the line."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.starts = [0, *(match.end() for match in re.finditer(rb"\n", text))]

    def span(self, node: Any) -> tuple[int, int]:
        """The offsets in bytes where a node begins and ends."""
        return (
            self.starts[node.lineno - 1] + node.col_offset,
            self.starts[node.end_lineno - 1] + node.end_col_offset,
        )

    def of(self, node: ast.AST) -> str:
        """The text of a node."""
        begin, end = self.span(node)
        return self.text[begin:end].decode()

    def whole(self, node: ast.AST, operator: str, new: str) -> Edit:
        """The edit that replaces a node."""
        return operator, *self.span(node), new

    def between(self, left: ast.AST, right: ast.AST, token: str, operator: str, new: str) -> Edit:
        """The edit that replaces a word or sign between two nodes."""
        begin, end = self.span(left)[1], self.span(right)[0]
        found = re.search(token.encode(), self.text[begin:end])
        assert found is not None, self.text[begin:end]
        return operator, begin + found.start(), begin + found.end(), new


def comparisons(s: Source, node: ast.Compare) -> Iterator[Edit]:
    sides = [node.left, *node.comparators]
    for (left, right), op in zip(pairwise(sides), node.ops, strict=True):
        token, others = COMPARISONS[type(op)]
        for other in others:
            yield s.between(left, right, rf"\b{token}\b" if token[0].isalpha() else token, "comparison", other)


def arithmetic(s: Source, node: ast.BinOp) -> Iterator[Edit]:
    if type(node.op) in ARITHMETIC:
        old, new = ARITHMETIC[type(node.op)]
        yield s.between(node.left, node.right, re.escape(old), "arithmetic", new)
    if type(node.op) in ORDERED:
        sign = ORDERED[type(node.op)]
        yield s.whole(node, "swapped operands", f"({s.of(node.right)}) {sign} ({s.of(node.left)})")


def updates(s: Source, node: ast.AugAssign) -> Iterator[Edit]:
    yield s.whole(node, "dropped statement", "pass")
    if type(node.op) in ARITHMETIC:
        old, new = ARITHMETIC[type(node.op)]
        yield s.between(node.target, node.value, re.escape(old + "="), "arithmetic", f"{new}=")
    yield s.between(node.target, node.value, r"\S+=", "assignment", "=")


def logic(s: Source, node: ast.BoolOp) -> Iterator[Edit]:
    both = isinstance(node.op, ast.And)
    for left, right in pairwise(node.values):
        yield s.between(left, right, r"\band\b" if both else r"\bor\b", "logic", "or" if both else "and")
    for value in node.values:
        yield s.whole(value, "dropped condition", str(both))


def signs(s: Source, node: ast.UnaryOp) -> Iterator[Edit]:
    yield s.whole(node, "dropped sign", f"({s.of(node.operand)})")


def negations(s: Source, test: ast.expr) -> Iterator[Edit]:
    simple = isinstance(test, ast.Compare) and len(test.ops) == 1
    if not simple and not (isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)):
        yield s.whole(test, "negated condition", f"(not ({s.of(test)}))")


def constants(s: Source, node: ast.Constant) -> Iterator[Edit]:
    x = node.value
    if isinstance(x, bool):
        yield s.whole(node, "constant", str(not x))
    elif isinstance(x, int):
        yield s.whole(node, "constant", str(x + 1))
        yield s.whole(node, "constant", str(x - 1) if x else "(-1)")
    elif isinstance(x, float):
        yield s.whole(node, "constant", repr(x * 1.5 if x else 1.0))
        yield s.whole(node, "constant", repr(x / 2 if x else -1.0))
    elif isinstance(x, str) and WORD.fullmatch(x):
        yield s.whole(node, "constant", repr(f"{x}_"))


def calls(s: Source, node: ast.Call) -> Iterator[Edit]:
    for left, right in pairwise(node.args):
        if s.of(left) != s.of(right) and s.of(left) not in ALWAYS and not isinstance(right, ast.Starred):
            begin, end = s.span(left)[0], s.span(right)[1]
            gap = s.text[s.span(left)[1] : s.span(right)[0]].decode()
            yield "swapped arguments", begin, end, s.of(right) + gap + s.of(left)
    yield from keywords(s, node)
    yield from names(s, node)


def keywords(s: Source, node: ast.Call) -> Iterator[Edit]:
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg in SILENT_KEYWORDS or (before := _before(s, node, keyword)) is None:
            continue
        yield "dropped argument", before, s.span(keyword)[1], ""


def _before(s: Source, node: ast.Call, keyword: ast.keyword) -> int | None:
    """Where the argument before a keyword ends, so that the comma goes too; None for the first of several."""
    ends = [s.span(x)[1] for x in (*node.args, *node.keywords) if s.span(x)[1] < s.span(keyword)[0]]
    return max(ends, default=s.span(keyword)[0] if len(node.args) + len(node.keywords) == 1 else None)


def names(s: Source, node: ast.Call) -> Iterator[Edit]:
    f = node.func
    name = f.attr if isinstance(f, ast.Attribute) else f.id if isinstance(f, ast.Name) else ""
    if name in OTHER_NAMES:
        end = s.span(f)[1]
        yield "other function", end - len(name), end, OTHER_NAMES[name]
    if name in IDENTITIES and not node.keywords:
        if isinstance(f, ast.Attribute) and not node.args:
            yield s.whole(node, "dropped call", s.of(f.value))
        elif len(node.args) == 1:
            yield s.whole(node, "dropped call", f"({s.of(node.args[0])})")


def slices(s: Source, node: ast.Slice) -> Iterator[Edit]:
    for end in (node.lower, node.upper, node.step):
        if end is not None:
            yield s.whole(end, "slice", "")
            yield s.whole(end, "slice", f"({s.of(end)}) + 1")


def statements(s: Source, node: ast.stmt) -> Iterator[Edit]:
    yield s.whole(node, "dropped statement", "pass")


def tuples(s: Source, node: ast.Tuple) -> Iterator[Edit]:
    for left, right in pairwise(node.elts):
        if isinstance(node.ctx, ast.Load) and s.of(left) != s.of(right):
            gap = s.text[s.span(left)[1] : s.span(right)[0]].decode()
            yield "swapped elements", s.span(left)[0], s.span(right)[1], s.of(right) + gap + s.of(left)


def returns(s: Source, node: ast.Return, kind: str) -> Iterator[Edit]:
    if node.value is None:
        return
    was = s.of(node.value)
    new = {"bool": f"not ({was})", "str": '""', "float": f"({was}) + 1", "int": f"({was}) + 1"}
    number = kind in ("Array", "Ints", "Number", "np.ndarray")
    yield s.whole(node.value, "returned value", new.get(kind, f"({was}) * 2" if number else "None"))


def tests(s: Source, node: Any) -> Iterator[Edit]:
    yield from negations(s, node.test)


def conditions(s: Source, node: ast.comprehension) -> Iterator[Edit]:
    for test in node.ifs:
        yield from negations(s, test)


EDITS: dict[type[ast.AST], Callable[[Source, Any], Iterator[Edit]]] = {
    ast.Compare: comparisons,
    ast.BinOp: arithmetic,
    ast.AugAssign: updates,
    ast.BoolOp: logic,
    ast.UnaryOp: signs,
    ast.If: tests,
    ast.IfExp: tests,
    ast.While: tests,
    ast.comprehension: conditions,
    ast.Constant: constants,
    ast.Call: calls,
    ast.Slice: slices,
    ast.Tuple: tuples,
    ast.Raise: statements,
    ast.Break: statements,
    ast.Continue: statements,
}


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
