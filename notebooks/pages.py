"""Makes static pages that work offline from notebooks, docs and docstrings: python notebooks/pages.py OUT."""

from __future__ import annotations

import html
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import reference
from check import joined, read, said, tags_of
from make import HERE

ROOT = HERE.parent
PACKAGE = ROOT / "glimmer_ref"
DOCS = ("README.md", "glimmer_ref/PAPER.md", "docs/*.md", "benchmarks/README.md", "CONTRIBUTING.md", "CHANGELOG.md")
SLIDERS, LIVE = "what-if.html", "explore.html"
TITLE = "GLIMMER, LUMEN and FiD"
FORMAT = "gfm+tex_math_dollars"
LINK = re.compile(r'<a\s+href="(?![a-z+]+:|#)([^"#]*)(#[^"]*)?"[^>]*>(.*?)</a>', re.DOTALL)


class Page(NamedTuple):
    """A file of the repository, or a folder of the package, and the name of its page."""

    source: Path
    name: str
    text: str


def pages() -> dict[str, list[Page]]:
    """All pages by the headings of the start page, except the two that are not made from a file."""
    names = {"README.md": "overview.html", "benchmarks/README.md": "benchmarks.html"}
    notebooks = [
        Page(path, f"{path.stem}.html", as_markdown(read(path))) for path in sorted(HERE.glob("[0-9][0-9]_*.ipynb"))
    ]
    docs = [
        Page(path, names.get(path.relative_to(ROOT).as_posix(), f"{path.stem.lower()}.html"), path.read_text("utf-8"))
        for pattern in DOCS
        for path in sorted(ROOT.glob(pattern))
    ]
    api = [
        Page(ROOT.joinpath(*folder.split(".")), reference.page_name(folder), text)
        for folder, text in reference.pages(PACKAGE).items()
    ]
    return {"Notebooks": notebooks, "Docs": docs, "API reference": api}


def places(groups: dict[str, list[Page]]) -> dict[Path, str]:
    """The page, or the place in a page, that describes each file and folder of the repository."""
    found = {page.source.resolve(): page.name for group in groups.values() for page in group}
    found |= {page.source.with_suffix(".py").resolve(): page.name for page in groups["Notebooks"]}
    for folder, files in reference.modules(PACKAGE).items():
        found[ROOT.joinpath(*folder.split("."), "__init__.py")] = reference.page_name(folder)
        for name in {module.name for module in files} - {folder}:
            found[ROOT.joinpath(*name.split(".")).with_suffix(".py")] = f"{reference.page_name(folder)}#{name}"
    return found


def as_markdown(cells: Sequence[Any]) -> str:
    """A notebook as one Markdown text with its pictures; solutions and the code of pictures are folded."""
    parts = []
    for cell in cells:
        source = joined(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        comment, rest = opening(source)
        code = f"```python\n{rest if 'solution' in tags_of(cell) else source}\n```"
        outputs = "\n\n".join(as_html(output, source) for output in cell["outputs"])
        if "widget" in tags_of(cell):
            outputs = (
                f'<p class="note">JupyterLab shows sliders here; <a href="{SLIDERS}">this page</a> has some too.</p>'
            )
        if "solution" in tags_of(cell):
            number, _, words = comment.partition(".")
            parts.append(folded(number, f"{html.escape(words.strip())}\n\n{code}\n\n{outputs}"))
        elif source.startswith("# Picture: "):
            parts.append(f"{outputs}\n\n{folded('The code of this picture', code)}")
        else:
            parts.append(f"{code}\n\n{outputs}")
    return "\n\n".join(parts)


def opening(source: str) -> tuple[str, str]:
    """The comment at the start of a cell, as one line, and the rest of the cell."""
    lines = source.split("\n")
    count = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return " ".join(line.removeprefix("#").strip() for line in lines[:count]), "\n".join(lines[count:])


def folded(summary: str, text: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"


def as_html(output: Any, source: str) -> str:
    """One output, as HTML or Markdown."""
    text = said(output)
    if text is None:
        alternative = html.escape(opening(source)[0].removeprefix("Picture: "))
        shown = f'<img src="data:image/png;base64,{joined(output["data"]["image/png"]).strip()}" alt="{alternative}">'
        return f'<div class="picture">{shown}</div>'
    data = output.get("data", {})
    if "text/markdown" in data or "text/latex" in data:
        return f'<div class="said">\n\n{text}\n\n</div>'
    if "text/html" in data:
        whole = re.sub(r"\n\s*\n", "\n", text)  # a blank line would end the HTML block
        return f'<div class="said">\n{whole}\n</div>'
    return f'<pre class="output">{html.escape(text.rstrip())}</pre>'


def title_of(text: str) -> str:
    """The first heading, without Markdown's marks."""
    found = re.search(r"^# (.+)$", text, re.MULTILINE)
    return re.sub(r"[`*]", "", found.group(1)) if found else "glimmer_ref"


def about(text: str) -> str:
    """The first paragraph after the first heading, without Markdown's marks."""
    body = re.split(r"^# .*$", text, maxsplit=1, flags=re.MULTILINE)[-1]  # a later "# " may be a comment in code
    body = re.sub(r"```.*?```|<!--.*?-->", "", body, flags=re.DOTALL)
    blocks = (block.strip() for block in re.split(r"\n\s*\n", body))
    paragraph = next((x for x in blocks if x and not x.startswith(("#", "*", "|", "- ", "<"))), "")
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"(?<!\\)[`*]", "", " ".join(paragraph.split())))
    return re.sub(r"\\(.)", r"\1", plain).rstrip(":")


def relinked(page: str, source: Path, names: dict[Path, str]) -> str:
    """Make links to files with a page lead to that page; of links to other files, keep only the words."""
    own = {*(name.partition("#")[0] for name in names.values()), SLIDERS, LIVE, "index.html"}

    def link(found: re.Match[str]) -> str:
        target, anchor, words = found.groups()
        name = target if target in own else names.get((source.parent / target).resolve())
        if name is None:
            return words
        there = name if "#" in name else f"{name}{anchor or ''}"
        return f'<a href="{there}">{words}</a>'

    return LINK.sub(link, page)


def navigation(name: str, order: Sequence[Page]) -> str:
    """Links to the start page, and to the previous and the next page."""
    i = [page.name for page in order].index(name)
    ways = [("index.html", "all pages")]
    ways += [(order[i - 1].name, "before")] if i else []
    ways += [(order[i + 1].name, "next")] if i + 1 < len(order) else []
    return " ".join(f'<a href="{target}">{word}</a>' for target, word in ways)


def rendered(text: str, title: str, ways: str, folder: Path) -> str:
    """Markdown as one HTML page that needs nothing else: mathematics as MathML, pictures inside.

    Raises:
        RuntimeError: pandoc cannot convert some mathematics or embed a picture.
    """
    import pypandoc

    words = ["--standalone", "--embed-resources", "--mathml", "--fail-if-warnings", "--columns=10000"]
    words += [f"--template={HERE / 'pages.html'}", f"--resource-path={folder}", "--variable", f"ways={ways}"]
    words += ["--metadata", f"pagetitle={title}"]
    return str(pypandoc.convert_text(text, "html5", format=FORMAT, extra_args=words))


def start_page(groups: dict[str, list[Page]]) -> str:
    """The start page in Markdown: the title of each page, and its first paragraph."""
    parts = [
        f"# {TITLE}",
        "Retrieval-augmented reading with late interaction and a reranker inside (de Jong et al. 2023), as a reference "
        "implementation: teaching notebooks with their outputs, the docs, and the reference of the Python package.",
    ]
    for heading, group in groups.items():
        parts.append(f"## {heading}")
        if heading == "Notebooks":
            parts.append(f"- [GLIMMER, live]({LIVE})  \n  Watch a question go through the model, with a guided tour.")
        parts += [f"- [{title_of(page.text)}]({page.name})  \n  {reference.plain(about(page.text))}" for page in group]
        if heading == "Notebooks":
            parts.append(f"- [What if?]({SLIDERS})  \n  Sliders: k, m, alpha, beta, lengths, size, storage, hardware.")
    return "\n\n".join(parts)


def write(folder: Path) -> int:
    """Write all pages into an existing folder; return how many there are."""
    from glimmer_ref.costs.page.page import write_page
    from glimmer_ref.live.page import write_page as write_live

    groups = pages()
    order = [page for group in groups.values() for page in group]
    names = places(groups)
    for page in order:
        beside = page.source if page.source.is_dir() else page.source.parent
        made = rendered(page.text, title_of(page.text), navigation(page.name, order), beside)
        (folder / page.name).write_text(relinked(made, page.source, names), encoding="utf-8")
    (folder / "index.html").write_text(rendered(start_page(groups), TITLE, "", HERE), encoding="utf-8")
    write_page(folder / SLIDERS)
    write_live(folder / LIVE)
    return len(order) + 3


def main(words: Sequence[str]) -> int:
    if len(words) != 1 or words[0].startswith("-"):
        raise SystemExit("pages: one folder to write into; usage: python notebooks/pages.py OUT")
    out = Path(words[0])
    try:
        import pypandoc  # noqa: F401
    except ImportError:
        raise SystemExit("pages: pypandoc is missing; pip install '.[notebooks]'") from None
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SystemExit(f"pages: {out}: a new or empty folder; got one that holds something")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".pages-") as work:
            folder = Path(work) / "pages"
            folder.mkdir()
            count = write(folder)
            if out.exists():
                out.rmdir()
            os.replace(folder, out)
    except OSError as error:
        raise SystemExit(f"pages: {error.filename or out}: {error.strerror or error}") from None
    print(f"{count} pages: {out / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
