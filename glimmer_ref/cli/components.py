"""The components of a cost: their titles and their order in tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

TITLES = {
    "retrieval": "retrieval",
    "text": "text to tokens",
    "memory": "passages",
    "read": "waited for memory",
    "question": "question",
    "encoder": "encoder",
    "live": "live encoder",
    "live_a": "live-A",
    "reranker": "separate reranker",
    "score": "score",
    "live_b": "live-B",
    "cross": "cross keys and values",
    "decoder": "decoder",
    "head": "logits",
    "other": "other",
}
ORDER = [*TITLES, "Encoder and cross-attention", "Encoder", "Reranking", "Cross-attention", "Decoder"]


def component(name: str) -> str:
    """A component's title; the printed formulas have titles of their own."""
    stage, _, kind = name.partition(".")
    return TITLES.get(stage, stage) + (f", {kind}" if kind else "")


def in_order(parts: Iterable[Mapping[str, Any]]) -> list[str]:
    """The components that cost something in some system, encoders before decoders."""
    return sorted({name for part in parts for name, x in part.items() if x}, key=_order)


def _order(name: str) -> tuple[int, str]:
    stage = name.partition(".")[0]
    return (ORDER.index(stage), name)
