"""The interactive page: one HTML file that works offline, its formulas generated from the Python ones."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from ...config import SIZES
from ...disk.write import write_text
from ..flops import shapes_of
from ..hardware import CITED, shipped
from ..models import PUBLISHED, model_named
from ..modes import MODES
from ..parse import PAPER
from ..serving import BATCHES, HOURS
from ..serving_report import NOTE
from ..storage import SCALES, WIDTHS
from .javascript import formulas

MODELS = (*SIZES, *(name for name in PUBLISHED if "t5-v1_1" not in name and "flan" not in name))  # no shapes twice
ASSUMPTION = (
    MODES["full"].leaves_out
    + " One multiply-add (MAC) is two FLOPs. Every passage has n_p tokens; 64 decoder steps are inferred from the "
    "paper's Figure 2. " + NOTE
)
SCRIPTS = ("page.js", "serving.js")


def data() -> dict[str, Any]:
    """The values that the page's sliders and menus offer."""
    accelerators, stores = shipped()
    return {
        "sizes": {name: shapes_of(*model_named(name)) for name in MODELS},
        "start": {**{name: x for name, x in PAPER.items() if isinstance(x, int)}, "size": "xxl", "batch": 1},
        "alpha": str(PAPER["alpha"]),
        "beta": str(PAPER["beta"]),
        "widths": WIDTHS,
        "scales": SCALES,
        "hours": HOURS,
        "batches": BATCHES,
        "efficiency": {"arithmetic": float(CITED.arithmetic), "bandwidth": float(CITED.bandwidth)},
        "stores": {n: {"name": p.name, "capacity": p.capacity, "bandwidth": p.bandwidth} for n, p in stores.items()},
        "hardware": {
            key: {"name": h.name, "flops": h.flops, "bandwidth": h.bandwidth, "memory": h.memory, "link": h.link}
            for key, h in accelerators.items()
        },
        "assumption": ASSUMPTION,
    }


def page() -> str:
    """The page as text, which is always the same."""
    here = files(__package__)
    template = (here / "page.html").read_text(encoding="utf-8")
    for placeholder, text in (
        ("/*FORMULAS*/", formulas()),
        ("/*DATA*/", f"const DATA = {json.dumps(data(), indent=1, allow_nan=False)};\n"),
        ("/*SCRIPT*/", "".join((here / name).read_text(encoding="utf-8") for name in SCRIPTS)),
    ):
        template = template.replace(placeholder, text, 1)
    return template


def write_page(path: str | Path) -> int:
    """Write the page and return its bytes.

    Raises:
        InputError: as `disk.write.written`.
    """
    text = page()
    write_text(path, text)
    return len(text.encode())
