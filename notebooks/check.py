"""Checks the notebooks against their .py: python notebooks/check.py [NAMES] executes them and compares the outputs.

`flaws` needs neither execution nor the packages of the notebooks extra; the tests call it.
"""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from make import executed, sources
from matplotlib import image

RELATIVE, ABSOLUTE = 1e-3, 1e-3  # tolerances for numbers in the old and the new output
SIZE = 0.05  # tolerance for the sides of a picture, since fonts differ
NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:e[-+]?\d+)?")
FREE = 12  # whole numbers up to this need no source
REFERENCE = re.compile(r"\b(?:Figures?|Tables?|[Ss]ections?|[Ee]quations?|Exercises?|Solutions?)\s+[\d., and]*\d")
UNREAD = re.compile(r"```.*?```|\$\$.*?\$\$|`[^`]*`|\$[^$]*\$|\]\([^)]*\)|<[^>]*>", re.DOTALL)
FOREIGN = re.compile(r"(?<![\w.])/(?:tmp|home|root|work|usr|opt|Users)/")
TIME = re.compile(r"^\*[^*]* to read, [^*]* to run\.\*$", re.MULTILINE)


def cells_of(source: str) -> list[tuple[str, list[str], str]]:
    """Kind, tags and text of each cell of a .py in jupytext's percent format, as far as our notebooks use it."""
    cells = []
    for part in re.split(r"^# %%", source, flags=re.MULTILINE)[1:]:
        head, _, body = part.partition("\n")
        tags = re.search(r"tags=(\[.*?\])", head)
        kind = "markdown" if "[markdown]" in head else "code"
        lines = body.strip("\n").split("\n")
        text = "\n".join(line.removeprefix("#").removeprefix(" ") if kind == "markdown" else line for line in lines)
        cells.append((kind, json.loads(tags.group(1)) if tags else [], text))
    return cells


def joined(text: str | list[str]) -> str:
    """A text of a notebook, which its file may hold as a list of lines."""
    return text if isinstance(text, str) else "".join(text)


def tags_of(cell: Any) -> list[str]:
    return list(cell["metadata"].get("tags", []))


def read(path: Path) -> list[Any]:
    """The cells of a committed notebook."""
    return list(json.loads(path.read_text("utf-8"))["cells"])


def said(output: Any) -> str | None:
    """The text of an output; None if it is a picture."""
    if output["output_type"] == "stream":
        return joined(output["text"])
    data = output.get("data", {})
    if "image/png" in data:
        return None
    kinds = [kind for kind in ("text/markdown", "text/latex", "text/html", "text/plain") if kind in data]
    return joined(data[kinds[0]]) if kinds else ""


def pixels(output: Any) -> np.ndarray:
    """A picture [height width channels]."""
    return np.asarray(image.imread(io.BytesIO(base64.b64decode(joined(output["data"]["image/png"]))), format="png"))


def blank(output: Any) -> bool:
    return float(pixels(output)[..., :3].std()) < 0.01


def number(text: str) -> float:
    return float(text.replace(",", ""))


def differing(old: Any, new: Any) -> str | None:
    """How two outputs differ; None if they agree."""
    a, b = said(old), said(new)
    if (a is None) != (b is None):
        return "a picture on one side only"
    if a is None or b is None:
        sides = [(x, y) for x, y in zip(pixels(old).shape[:2], pixels(new).shape[:2], strict=True)]
        if blank(new):
            return "a picture is now blank"
        return f"a picture's sides {sides}" if any(abs(x - y) > SIZE * max(x, y) for x, y in sides) else None
    if " ".join(NUMBER.sub("#", a).split()) != " ".join(NUMBER.sub("#", b).split()):
        return f"{a[:200]!r} is now {b[:200]!r}"
    for x, y in zip(NUMBER.findall(a), NUMBER.findall(b), strict=True):
        if abs(number(x) - number(y)) > RELATIVE * max(abs(number(x)), abs(number(y))) + ABSOLUTE:
            return f"{x} is now {y}"
    return None


def differences(old: Sequence[Any], new: Sequence[Any]) -> list[str]:
    """Where the cells of two notebooks differ: source, tags, and outputs unless tagged `varies`."""
    found = [] if len(old) == len(new) else [f"{len(old)} cells are now {len(new)}"]
    for i, (a, b) in enumerate(zip(old, new, strict=False)):
        if (joined(a["source"]), tags_of(a)) != (joined(b["source"]), tags_of(b)):
            found.append(f"cell {i}: another source or tags")
        was, now = a.get("outputs", []), b.get("outputs", [])
        if [said(x) is None for x in was] != [said(x) is None for x in now]:
            found.append(f"cell {i}: other outputs")
        elif "varies" not in tags_of(a):
            found += [f"cell {i}: {text}" for x, y in zip(was, now, strict=True) if (text := differing(x, y))]
    return found


def _numbers(text: str) -> set[float]:
    found = re.findall(r"\d[\d,_]*\.?\d*(?:e-?\d+)?", text)
    return {float(x.replace(",", "").replace("_", "")) for x in found}


def unfounded(cells: Sequence[Any]) -> list[str]:
    """Numbers of the prose that neither the output of a cell above nor any code has, to the digits in the prose."""
    found, known = [], set[float]()
    for cell in cells:
        known |= _numbers(joined(cell["source"])) if cell["cell_type"] == "code" else set()
    for i, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            for output in cell["outputs"] if "varies" not in tags_of(cell) else []:
                known |= _numbers(said(output) or "")
            continue
        text = REFERENCE.sub("", UNREAD.sub("", joined(cell["source"]))) if i else ""
        for word in re.findall(r"(?<![\w.-])\d[\d,]*(?:\.\d+)?", re.sub(r"^\s*\d+\. ", "", text, flags=re.MULTILINE)):
            x, digits = number(word.rstrip(",")), len(word.partition(".")[2])
            if not digits and (x <= FREE or 1900 <= x < 2100):
                continue
            if all(abs(x - factor * y) > 0.5001 * 10**-digits for y in known for factor in (1, 100)):  # 0.25 is 25%
                found.append(f"cell {i}: {word} is neither said above nor in any code")
    return found


def flaws(source: Path) -> list[str]:
    """The violations of README.md's rules in a notebook and its .py, without executing it."""
    committed = source.with_suffix(".ipynb")
    if not committed.exists():
        return [f"no {committed.name}: python notebooks/make.py {source.stem}"]
    cells = read(committed)
    found = _layout(cells)
    if cells_of(source.read_text("utf-8")) != [(c["cell_type"], tags_of(c), joined(c["source"])) for c in cells]:
        found.append(f"another source than the .py: python notebooks/make.py {source.stem}")
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    if [cell["execution_count"] for cell in code] != list(range(1, len(code) + 1)):
        found.append("not executed from clean, in order")
    for i, cell in enumerate(cells):
        found += [f"cell {i}: {text}" for text in _outputs(cell)]
    return found + unfounded(cells)


def _layout(cells: Sequence[Any]) -> list[str]:
    prose = "\n\n".join(joined(c["source"]) for c in cells if c["cell_type"] == "markdown")
    solutions = [joined(c["source"]) for c in cells if "solution" in tags_of(c)]
    wanted = {
        "one heading of the first level, in the first cell": joined(cells[0]["source"]).startswith("# ")
        and len(re.findall(r"^# ", prose, re.MULTILINE)) == 1,
        "*.. to read, .. to run.* in the first cell": bool(TIME.search(joined(cells[0]["source"]))),
        "the style in the first cell of code": "style.mplstyle" in joined(cells[1]["source"]),
        "three exercises": re.findall(r"\*\*Exercise (\d)\.\*\*", prose) == ["1", "2", "3"],
        "three solutions": [text[:13] for text in solutions] == [f"# Solution {i}." for i in (1, 2, 3)],
    }
    return [f"wanted: {what}" for what, there in wanted.items() if not there]


def _outputs(cell: Any) -> Iterator[str]:
    for output in cell.get("outputs", []):
        if output["output_type"] == "error":
            yield f"an error, {output['ename']}"
        elif output.get("name") == "stderr":
            yield f"on stderr: {joined(output['text'])[:100]}"
        elif (text := said(output)) is not None:
            if FOREIGN.search(text):
                yield f"a path of the machine: {text[:100]}"
        else:
            if blank(output):
                yield "a blank picture"
            if not joined(cell["source"]).startswith("# Picture: "):
                yield "a picture whose cell does not open with # Picture: .."


def compared(source: Path) -> list[str]:
    """Execute the notebook in a temporary copy of its folder, and compare it with the committed one."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(
            shutil.copytree(source.parent, Path(work) / "notebooks", ignore=shutil.ignore_patterns("*.ipynb"))
        )
        for beside in ("benchmarks", "tests"):  # some notebooks use the results or the GPU simulator in these
            (Path(work) / beside).symlink_to(source.parent.parent / beside)
        try:
            notebook = executed(folder / source.name, folder)
        except RuntimeError as error:
            return [str(error)]
    return differences(read(source.with_suffix(".ipynb")), notebook["cells"])


def main(words: Sequence[str]) -> int:
    wrong = 0
    for source in sources(words):
        found = flaws(source) or compared(source)
        print(f"{source.stem}:", *(found or ["as committed"]), sep="\n  " if found else " ", flush=True)
        wrong += bool(found)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
