"""Writes a campaign's table into its place in a page."""

from __future__ import annotations

import datetime
import platform
from pathlib import Path

import numba
import numpy as np


def into(page: str | Path, name: str, lines: list[str]) -> None:
    """Put lines between the marks `<!-- name -->` and `<!-- /name -->` of a page, with the day and the versions."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = Path(page).read_text("utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{page}: no place for it: {begin} .. {end}")
    today = datetime.datetime.now(datetime.UTC).date()
    versions = f"Python {platform.python_version()}, numpy {np.__version__}, numba {numba.__version__}"
    about = f"{today}, {platform.system()} {platform.machine()}, {versions}."
    Path(page).write_text(f"{before}{begin}\n{about}\n\n" + "\n".join(lines) + f"\n{end}{after}", "utf-8")
