"""The size of a stored memory, the bytes that a question reads, and after how many questions it has paid off."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from .flops import Number, Setting
from .modes import full, total

WIDTHS = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}  # bytes for each number
SCALES = {"float32": 0, "float16": 0, "bfloat16": 0, "int8": 4}  # extra bytes for each token: int8 has a float32 scale
CORPORA = {"21 M passages": 21_000_000, "36 M passages": 36_000_000}


def passage_bytes(s: Setting, width: Number, scale: Number = 0) -> Number:
    """Bytes of one passage's memory: n_p tokens of d numbers, and the scale of each token."""
    return s.n_p * (s.d * width + scale)


def corpus_bytes(s: Setting, width: Number, passages: Number, scale: Number = 0) -> Number:
    """Bytes of a corpus's memory; every passage has n_p tokens."""
    return passages * passage_bytes(s, width, scale)


def read_bytes(s: Setting, width: Number, scale: Number = 0) -> Number:
    """Bytes of the memory that LUMEN or GLIMMER reads for one question: those of k passages."""
    return s.k * passage_bytes(s, width, scale)


def offline_macs(s: Setting, passages: Number) -> Number:
    """Multiply-adds to encode a corpus once."""
    macs = full(replace(s, k=1, m=1), "lumen")
    return passages * (macs["memory"] + macs["memory.attention"])


def repaid_after(s: Setting, passages: Number, system: str) -> Fraction | None:
    """How many questions it takes to save, compared with FiD, the cost of encoding the corpus once; None if never."""
    saved = total(s, "fid", "full") - total(s, system, "full")
    return Fraction(offline_macs(s, passages)) / saved if saved > 0 else None
