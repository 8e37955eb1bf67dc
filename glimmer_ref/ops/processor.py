"""The kind of the processor: a short word for the vector instructions that decide how fast products are."""

from __future__ import annotations

import os
from collections.abc import Set

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
