"""How a processor multiplies, by its features: the instructions of each precision, and the rows of the largest tile.

Prepared rows, the left operands of products, depend on it. If a processor multiplies numbers of 8 or 16 bits only after
they are widened, rows are widened once, when they are prepared. Panels always stay narrow, because reading them takes
most of the time when there are few rows.

bfloat16 needs no choice by measurement. Even at half rate, one product of 16 pairs a cycle, its instruction multiplies
as many terms as two multiply-adds of 16 numbers of float32, for which the panels would have to be widened first.
"""

from __future__ import annotations

from collections.abc import Set
from typing import NamedTuple

from .llvm_ir import FEATURES

GROUP = {"float32": 1, "bfloat16": 2, "int8": 4}  # terms that one lane of 32 bits of a panel holds


class Way(NamedTuple):
    """How a tile multiplies in one precision.

    Args:
        name: the instruction; "fma" for the multiply-add of float32, "mul" for that of int32.
        lanes: lanes of 32 bits in its registers.
        parts: parts in which a line of a panel is widened, and lanes of a left operand for each of its lanes.
        zero: what int8's prepared rows hold for 0: 128 if the instruction takes unsigned left operands.
        together: whether a tile of many rows multiplies by its two panels at once.
    """

    name: str
    lanes: int
    parts: int
    zero: int
    together: bool


class Processor(NamedTuple):
    """The rows of its largest tile, LLVM's letter for its registers if known, and how it multiplies."""

    rows: int
    register: str
    ways: dict[str, Way]


def processor(features: Set[str]) -> Processor:
    """The processor with these features, named as by LLVM. Without any it is one of which nothing is known."""
    wide = "avx512f" in features  # 32 registers of 16 lanes
    lanes = 16 if wide else 8 if "avx2" in features else 4
    # AVX-512's registers hold 14 x 2 sums, 2 vectors of columns and 2 of the left operand; those of AVX2 6 x 2 sums of
    # half a vector; NEON's 6 x 4 of a quarter; SSE's only 2 x 4.
    rows = 14 if wide else 2 if lanes == 4 and "sse2" in features else 6
    bfloat16 = Way("fma", lanes, 2, 0, False)
    if "avx512bf16" in features:
        bfloat16 = Way("vdpbf16ps", 16, 1, 0, True)
    int8 = Way("mul", lanes, 2, 0, False)
    if "avx512vnni" in features and wide:
        int8 = Way("vpdpbusd", 16, 1, 128, True)
    elif "avxvnni" in features:
        int8 = Way("vpdpbusd", 8, 1, 128, False)
    elif "sse2" in features:  # its products need a register more than others, so there is one panel at a time
        int8 = Way("pmaddwd", lanes if "avx512bw" in features or not wide else 8, 2, 0, wide)
    elif "dotprod" in features:
        int8 = Way("sdot", 4, 1, 0, False)
    register = "v" if wide else "x" if "sse2" in features else "w" if "neon" in features else ""
    return Processor(rows, register, {"float32": Way("fma", lanes, 1, 0, wide), "bfloat16": bfloat16, "int8": int8})


HERE = processor(FEATURES)
ZERO = HERE.ways["int8"].zero
# Whether prepared rows are widened, by the terms in a lane.
WIDE = {GROUP[precision]: way.parts == 2 for precision, way in HERE.ways.items()}
