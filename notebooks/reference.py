"""The API reference in Markdown, with a page for each folder of the package, made from signatures and docstrings.

The source is parsed and never imported, so no optional package, GPU or compiler is needed.
"""

from __future__ import annotations

import ast
import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SECTION = re.compile(r"^(Args|Returns|Raises|Yields):\n(.*(?:\n(?:[ \t].*)?)*)", re.MULTILINE)
ITEM = re.compile(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*): (.*(?:\n[ \t].*)*)", re.MULTILINE)
MARKS = re.compile(r"([\\*_\[\]<>#|$~^&])")
WIDTH = 100  # the longest signature on one line

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Module(NamedTuple):
    """A file of the package: its dotted name, its text and its syntax tree."""

    name: str
    text: str
    tree: ast.Module


def modules(package: Path) -> dict[str, list[Module]]:
    """Public modules of a package by their folder, under dotted names; a folder's own module comes first."""
    folders: dict[str, list[Module]] = {}
    for path in sorted(package.rglob("*.py"), key=lambda p: (p.parent, p.name != "__init__.py", p.name)):
        parts = (package.name, *path.relative_to(package).with_suffix("").parts)
        folder, stem = parts[:-1], parts[-1]
        if stem == "__init__" or not any(part.startswith("_") for part in parts):
            text = path.read_text("utf-8")
            name = ".".join(folder if stem == "__init__" else parts)
            folders.setdefault(".".join(folder), []).append(Module(name, text, ast.parse(text)))
    return folders


def page_name(folder: str) -> str:
    """The file name of a folder's page."""
    return f"api.{folder}.html"


def pages(package: Path) -> dict[str, str]:
    """Each folder's page in Markdown: its contents, then each module with its functions and classes."""
    folders = modules(package)
    places = {
        name: page_name(folder) + (f"#{name}" if name != folder else "")  # a folder links to its whole page
        for folder, files in folders.items()
        for name in defined(files)
    }
    texts = {}
    for folder, files in folders.items():
        inner = [f"[`{name}`]({page_name(name)})" for name in folders if name.rpartition(".")[0] == folder]
        contents = [
            f"- [`{x.name.removeprefix(f'{folder}.')}`](#{x.name}) {summary(x.tree)}" for x in files if x.name != folder
        ]
        parts = [f"# {folder}"]
        for module in files:
            own = module.name == folder
            parts += [] if own else [heading(2, module.name, module.name)]
            parts += [prose(ast.get_docstring(module.tree) or "")]
            parts += [f"**Names**: {', '.join(f'`{x}`' for x in imported(module))}"] if own and imported(module) else []
            parts += [f"**Folders**: {', '.join(inner)}"] if own and inner else []
            parts += ["\n".join(contents)] if own else []
            parts += list(module_parts(module))
        texts[folder] = linked("\n\n".join(part for part in parts if part), places)
    return texts


def defined(files: list[Module]) -> Iterator[str]:
    """The dotted names of modules, of their public functions and classes, and of the methods of these."""
    for module in files:
        yield module.name
        for node in module.tree.body:
            if isinstance(node, Definition) and public(node.name):
                yield f"{module.name}.{node.name}"
                inner = node.body if isinstance(node, ast.ClassDef) else []
                yield from (
                    f"{module.name}.{node.name}.{x.name}"
                    for x in inner
                    if isinstance(x, ast.FunctionDef) and public(x.name)
                )


def imported(module: Module) -> list[str]:
    """The names that a folder's own file imports from the modules below it, each as `module.name`."""
    found = [node for node in ast.walk(module.tree) if isinstance(node, ast.ImportFrom) and node.level == 1]
    return sorted(f"{node.module}.{x.name}" for node in found if node.module for x in node.names)


def linked(text: str, places: dict[str, str]) -> str:
    """A page with links from `Names` and `module.names` in prose to their definition, if there is only one.

    Single lower-case words are not linked, since most of them are arguments.
    """
    ends: dict[str, list[str]] = {}
    for name, place in places.items():
        parts = name.split(".")
        for i in range(len(parts)):
            ends.setdefault(".".join(parts[i:]), []).append(place)

    def link(found: re.Match[str]) -> str:
        meant = ends.get(found[1], [])
        clear = len(meant) == 1 and ("." in found[1] or found[1][0].isupper())
        return f"[`{found[1]}`]({meant[0]})" if clear else found[0]

    blocks = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(x if i % 2 else re.sub(r"(?<!\[)`([\w.]+)`(?!\()", link, x) for i, x in enumerate(blocks))


def module_parts(module: Module) -> Iterator[str]:
    """A module's public constants, functions and classes, in the order of the file."""
    lines = module.text.splitlines()
    constants = [
        lines[node.lineno - 1]
        for node in module.tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.lineno == node.end_lineno and public(assigned(node))
    ]
    if constants:
        yield code("\n".join(constants))
    for node in module.tree.body:
        if isinstance(node, Definition) and public(node.name):
            yield from definition(node, f"{module.name}.{node.name}", node.name)


def definition(node: Definition, name: str, shown: str) -> Iterator[str]:
    """A function or class with its signature and docstring; then the public methods of a class."""
    yield heading(3 + shown.count("."), name, shown)
    decorators = [f"@{ast.unparse(x)}" for x in node.decorator_list]
    if not isinstance(node, ast.ClassDef):
        yield code("\n".join([*decorators, signature(node)]))
        yield prose(ast.get_docstring(node) or "")
        return
    bases = ", ".join(ast.unparse(x) for x in [*node.bases, *node.keywords])
    head = [*decorators, f"class {node.name}({bases}):" if bases else f"class {node.name}:"]
    head += [f"    {ast.unparse(x)}" for x in node.body if isinstance(x, ast.AnnAssign) and public(assigned(x))]
    methods = [x for x in node.body if isinstance(x, ast.FunctionDef)]
    head += [signature(x, "    ") for x in methods if x.name == "__init__"]
    yield code("\n".join(head))
    yield prose(ast.get_docstring(node) or "")
    for method in methods:
        if public(method.name):
            yield from definition(method, f"{name}.{method.name}", f"{shown}.{method.name}")


def signature(node: ast.FunctionDef | ast.AsyncFunctionDef, indent: str = "") -> str:
    """A function's first line; if that is too long, one line for each argument."""
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    short = f"{indent}def {node.name}({ast.unparse(node.args)}){result}"
    if len(short) <= WIDTH:
        return short
    below = f",\n{indent}    ".join(arguments(node.args))
    return f"{indent}def {node.name}(\n{indent}    {below},\n{indent}){result}"


def arguments(args: ast.arguments) -> list[str]:
    """Each argument with its type and default, and the marks `/` and `*` between them."""
    plain = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(plain) - len(args.defaults)) + list(args.defaults)

    def told(arg: ast.arg, default: ast.expr | None) -> str:
        equals = " = " if arg.annotation else "="
        return ast.unparse(arg) + (f"{equals}{ast.unparse(default)}" if default else "")

    found = [told(*pair) for pair in zip(plain, defaults, strict=True)]
    if args.posonlyargs:
        found.insert(len(args.posonlyargs), "/")
    if args.vararg or args.kwonlyargs:
        found.append(f"*{ast.unparse(args.vararg)}" if args.vararg else "*")
    found += [told(*pair) for pair in zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    return found + ([f"**{ast.unparse(args.kwarg)}"] if args.kwarg else [])


def prose(docstring: str) -> str:
    """A docstring as Markdown: paragraphs, and sections like Args as lists."""
    parts, end = [], 0
    for found in SECTION.finditer(docstring):
        parts += [paragraphs(docstring[end : found.start()]), f"**{found[1]}**", section(found[2])]
        end = found.end()
    return "\n\n".join(part for part in [*parts, paragraphs(docstring[end:])] if part)


def section(text: str) -> str:
    """The text below Args, Returns or Raises: a list if it has named items, else paragraphs."""
    lines = text.splitlines()
    body = "\n".join(line.removeprefix("    ") for line in lines)
    items = [f"- `{name}`: {plain(words)}" for name, words in ITEM.findall(body)]
    return "\n".join(items) or paragraphs(body)


def paragraphs(text: str) -> str:
    """Text as Markdown; an indented block becomes code."""
    blocks = re.split(r"\n\s*\n", text.strip("\n"))
    return "\n\n".join(code(block) if block.startswith("    ") else plain(block) for block in blocks if block.strip())


def plain(text: str) -> str:
    """Text in which Markdown's marks are escaped, except those of `code`."""
    spans = re.split(r"(`[^`]+`)", " ".join(text.split()))
    return "".join(span if i % 2 else MARKS.sub(r"\\\1", span) for i, span in enumerate(spans))


def summary(tree: ast.Module) -> str:
    """The first paragraph of a module's docstring."""
    return plain(re.split(r"\n\s*\n", ast.get_docstring(tree) or "")[0])


def heading(level: int, anchor: str, words: str) -> str:
    return f'<h{level} id="{html.escape(anchor)}"><code>{html.escape(words)}</code></h{level}>'


def code(text: str) -> str:
    return f"```python\n{text}\n```"


def public(name: str) -> bool:
    return bool(name) and not name.startswith("_")


def assigned(node: ast.Assign | ast.AnnAssign) -> str:
    """The name that is assigned; "" if the target is not a single name."""
    target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
    return target.id if isinstance(target, ast.Name) else ""
