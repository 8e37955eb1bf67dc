"""The page on which a question goes through the model: one HTML file that works offline, with all it needs."""

from __future__ import annotations

import base64
import json
import re
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..data.inputs import read_passages, read_questions
from ..disk.read import read_json
from ..disk.write import write_text
from ..inference.reader import bundled
from ..params.checkpoint import load
from ..params.model import leaves
from ..params.safetensors_io import Stored, write_tensors
from ..ragged import bfloat16

MODULES = (  # each imports only from those before it
    "operations", "t5", "model", "safetensors", "tokenizer", "names", "bm25", "reader", "tour", "views", "charts",
    "explore", "events",
)  # fmt: skip
FIRST = "Who employed Yarosta Umberby?"  # the question that the page shows first


def bundle() -> str:
    """The modules as one script without imports: each is a function that returns its exports.

    A module of a page from the disk cannot import a file.
    """
    parts = []
    for name in MODULES:
        source = (files(__package__) / f"{name}.js").read_text(encoding="utf-8")
        source = re.sub(r'^import \{(.+)\} from "\./(\w+)\.js";$', r"const {\1} = \2_js;", source, flags=re.MULTILINE)
        exports = re.findall(r"^export (?:const|function|class) ([\w$]+)", source, re.MULTILINE)
        source = re.sub(r"^export ", "", source, flags=re.MULTILINE)
        parts.append(f"const {name}_js = (() => {{\n{source}\nreturn {{{', '.join(exports)}}};\n}})();\n")
    return "\n".join(parts) + "events_js.start();\n"


def data(folder: Path) -> dict[str, Any]:
    """All that the page needs of a model's folder, except the weights."""
    return {
        "config": read_json(folder / "config.json"),
        "tokenizer": read_json(folder / "tokenizer.json"),
        "groups": read_json(folder / "groups.json")["groups"],
        "passages": [{"id": p.id, "title": p.title, "text": p.text} for p in read_passages(folder / "passages.jsonl")],
        "questions": [
            {"id": q.id, "task": q.task, "text": q.text, "answers": list(q.answers), "gold": list(q.gold)}
            for q in read_questions(folder / "questions.jsonl")
        ],
        "first": FIRST,
    }


def weights(folder: Path) -> bytes:
    """A model's weights, rounded to bfloat16, as a safetensors file."""
    rounded = {name: Stored("BF16", bfloat16(x)) for name, x in leaves(load(folder)).items()}
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "weights.safetensors"
        write_tensors(path, rounded)
        return path.read_bytes()


def page() -> str:
    """The page of the bundled model as text, which is always the same."""
    folder = bundled()
    document = json.dumps(data(folder), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    text = (files(__package__) / "page.html").read_text(encoding="utf-8")
    for placeholder, content in (
        ("/*WEIGHTS*/", base64.b64encode(weights(folder)).decode()),
        ("/*DATA*/", document.replace("<", "\\u003c")),  # so that no text can end the element
        ("/*MODULES*/", bundle()),
    ):
        text = text.replace(placeholder, content, 1)
    return text


def write_page(path: str | Path) -> int:
    """Write the page and return its bytes.

    Raises:
        InputError: as `disk.write.written`.
    """
    text = page()
    write_text(path, text)
    return len(text.encode())
