"""Fixtures of the tests of indexes."""

from __future__ import annotations

from pathlib import Path

import pytest
from few_passages import FEW


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "passages.jsonl"
    path.write_text("\n".join(FEW) + "\n", "utf-8")
    return path
