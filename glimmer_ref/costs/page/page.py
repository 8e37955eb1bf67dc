"""The interactive page: one HTML file that works offline, its formulas generated from the Python ones."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from ...config import SIZES
from ...disk.write import write_text
from ..flops import shapes_of
from ..hardware import shipped
from ..models import PUBLISHED, model_named
from ..modes import MODES
from ..parse import PAPER
from ..storage import CORPORA, SCALES, WIDTHS
from .javascript import formulas

MODELS = (*SIZES, *(name for name in PUBLISHED if "t5-v1_1" not in name and "flan" not in name))  # no shapes twice
ASSUMPTION = (
    MODES["full"].leaves_out
    + " One multiply-add (MAC) is two FLOPs. Every passage has n_p tokens; 64 decoder steps are "
    "inferred from the paper's Figure 2. Latency is a roofline: each stage takes as long as its arithmetic at the "
    "datasheet's peak or its traffic at the datasheet's bandwidth, whichever is longer, so real systems are slower. "
    "Stored int8 has one scale of 4 bytes for each token; the latency leaves it out."
)


def data() -> dict[str, Any]:
    """The values that the page's sliders and menus offer."""
    accelerators, _ = shipped()
    return {
        "sizes": {name: shapes_of(*model_named(name)) for name in MODELS},
        "start": {**{name: x for name, x in PAPER.items() if isinstance(x, int)}, "size": "xxl", "batch": 1},
        "alpha": str(PAPER["alpha"]),
        "beta": str(PAPER["beta"]),
        "widths": WIDTHS,
        "scales": SCALES,
        "corpora": list(CORPORA),
        "hardware": {
            key: {"name": h.name, "flops": h.flops, "bandwidth": h.bandwidth, "memory": h.memory, "link": h.link}
            for key, h in accelerators.items()
        },
        "assumption": ASSUMPTION,
    }


def page() -> str:
    """The page as text, which is always the same."""
    template = (files(__package__) / "page.html").read_text(encoding="utf-8")
    for place, text in (
        ("/*FORMULAS*/", formulas()),
        ("/*DATA*/", f"const DATA = {json.dumps(data(), indent=1, allow_nan=False)};\n"),
    ):
        template = template.replace(place, text, 1)
    return template


def write_page(path: str | Path) -> int:
    """Write the page and return its bytes.

    Raises:
        InputError: as `disk.write.written`.
    """
    text = page()
    write_text(path, text)
    return len(text.encode())
