"""The kind of the processor: a short word for the vector instructions that decide how fast products are."""

from __future__ import annotations

import os
from collections.abc import Set
from typing import NamedTuple

from .cpu.kernels.llvm_ir import FEATURES

# A kind and the features that it needs, in LLVM's names. The first kind whose features are all there is the one.
KINDS: dict[str, frozenset[str]] = {
    "avx512-amx": frozenset({"avx512f", "avx512bf16", "avx512vnni", "amx-bf16", "amx-int8"}),
    "avx512-bf16-vnni": frozenset({"avx512f", "avx512bf16", "avx512vnni"}),
    "avx512-vnni": frozenset({"avx512f", "avx512vnni"}),
    "avx512": frozenset({"avx512f"}),
    "avx-vnni": frozenset({"avx2", "fma", "avxvnni"}),
    "avx2": frozenset({"avx2", "fma"}),
    "sse2": frozenset({"sse2"}),
    "neon-dot": frozenset({"neon", "dotprod"}),
    "neon": frozenset({"neon"}),
}
OTHER = "other"


def kind(features: Set[str] = FEATURES) -> str:
    """The processor's kind: a key of `KINDS`, or "other".

    Args:
        features: names of LLVM; the default is what numba compiles for.
    """
    return next((name for name, needed in KINDS.items() if needed <= features), OTHER)


def described() -> str:
    """The kind, with "-played" behind it if NUMBA_CPU_FEATURES hides features of the processor from numba.

    Other libraries do not know this setting, so their times belong to another kind.
    """
    return kind() + ("-played" if os.environ.get("NUMBA_CPU_FEATURES") is not None else "")


class Factors(NamedTuple):
    """How many times as fast as in float32 a precision is: encoding and decoding, in a small and in a large model."""

    small_encode: float
    small_decode: float
    large_encode: float
    large_decode: float


LARGE = 256  # the least d_model of a large model
SLOWER = 0.9  # a smaller factor is worth a note
# With one thread, from benchmarks/suites/precisions.py, which prints these lines.
FACTORS: dict[tuple[str, str], Factors] = {
    ("avx512-bf16-vnni", "bfloat16"): Factors(1.46, 1.01, 1.84, 1.67),
    ("avx512-bf16-vnni", "int8"): Factors(1.31, 0.94, 3.02, 2.77),
    ("avx2", "bfloat16"): Factors(0.94, 0.97, 0.96, 1.32),
    ("avx2", "int8"): Factors(0.91, 0.98, 1.33, 2.30),
    ("avx512", "bfloat16"): Factors(0.98, 1.00, 0.98, 1.53),
    ("avx512", "int8"): Factors(1.01, 0.96, 1.41, 2.36),
    ("avx512-vnni", "bfloat16"): Factors(0.99, 1.03, 1.00, 1.82),
    ("avx512-vnni", "int8"): Factors(1.24, 1.03, 2.70, 3.73),
}
# A kind that was not measured is taken for another that has the same instructions for these products, or fewer.
NEAREST = {"avx512-amx": "avx512-bf16-vnni"}


def slower(precision: str, d_model: int, kind: str) -> str | None:
    """A sentence about what this precision makes slower on a kind of processor; None if nothing is known to be.

    Args:
        precision: "bfloat16" or "int8".
        d_model: the width of the model.
        kind: see `kind`.
    """
    near = NEAREST.get(kind, "avx2")
    factors = FACTORS.get((kind, precision)) or FACTORS[near, precision]
    encode, decode = factors[2:] if d_model >= LARGE else factors[:2]
    parts = [
        f"{1 / factor:.1f} times as long as float32 to {what}"
        for what, factor in (("encode", encode), ("decode", decode))
        if factor < SLOWER
    ]
    return f"{precision} takes about {' and '.join(parts)} on this processor ({kind})" if parts else None
