"""The edits of a Python file that make its mutants: for each kind of syntax node, the small changes of its text."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
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
