"""Processors without AVX-512, or its bfloat16 or int8: the same tests pass, and the sums of a tile stay in registers.

A process of its own plays each one: NUMBA_CPU_NAME alone removes no features, so NUMBA_CPU_FEATURES says which.
The quick tests play the two older processors with what needs no kernel but tiles, which are quickly compiled; the slow
ones play the others, and the rest of these files.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

from glimmer_ref.ops.cpu.kernels.llvm_ir import FEATURES

AVX2 = "+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+f16c,+bmi,+bmi2"
AVX512 = f"{AVX2},+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl"
PROCESSORS = {"avx2": AVX2, "sse2": "+sse2", "avx512": AVX512, "avx512vnni": f"{AVX512},+avx512vnni"}
ROWS = {"avx2": 6, "sse2": 2, "avx512": 14, "avx512vnni": 14}
HERE = Path(__file__).parent
TILES, BLOCKS = (HERE / "test_vectors.py", HERE / "test_tiles.py"), HERE / "test_blocks.py"
QUICK = "power or softmax or gelu or epilogue or a_tile or int8_at or row_has_the_same or packing"
REST = f"test_blocks or not ({QUICK})"

x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="not an x86 processor")
SLOW = pytest.mark.slow

ASSEMBLY = """
import re, sys, numba
from numba.core import types
from glimmer_ref.ops.cpu.kernels import microkernel as tiles
for precision in tiles.GROUP:
    loop = numba.cfunc(types.void(*tiles.TILE_ARGS), nopython=True)(getattr(tiles, precision + "_tile"))
    text = loop._library.get_asm_str()
    start = re.search(rf"^tile_{precision}_{tiles.ROWS}:", text, re.M).start()
    print("TILE", precision, tiles.ROWS)
    print(text[start : text.index(".Lfunc_end", start)])
"""


def play(processor: str, *command: str | Path) -> str:
    """What a process prints that takes this processor for such a one; it must end well."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    if processor != "this":
        env |= {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": PROCESSORS[processor]}
    got = subprocess.run(
        [sys.executable, *command], env=env, cwd=ROOT, timeout=300, capture_output=True, text=True, encoding="utf-8"
    )
    assert got.returncode == 0, got.stdout + got.stderr
    return got.stdout


def able(processor: str) -> None:
    lacking = {f[1:] for f in PROCESSORS.get(processor, "").split(",") if f} - FEATURES
    if lacking:
        pytest.skip(f"this processor has no {', '.join(sorted(lacking))}")


@x86
@pytest.mark.parametrize(
    ("processor", "chosen", "files", "least"),
    [
        *(pytest.param(p, QUICK, TILES, 60, id=f"{p}, tiles", marks=() if p == "avx2" else SLOW) for p in PROCESSORS),
        *(pytest.param(p, REST, (*TILES, BLOCKS), 80, id=f"{p}, rest", marks=SLOW) for p in PROCESSORS),
    ],
)
def test_the_same_tests_pass(processor: str, chosen: str, files: tuple[Path, ...], least: int) -> None:
    able(processor)
    options = ("-q", "-p", "no:cacheprovider", "-k", chosen)
    out = play(processor, "-m", "pytest", *options, *files)
    assert int(re.findall(r"(\d+) passed", out)[-1]) > least and "failed" not in out and "skipped" not in out


def loops(text: str) -> list[str]:
    """Innermost loops: from a label to the jump back to it, without another label between."""
    return re.findall(r"^(\.LBB\w+):\n((?:(?!\.LBB\w+:).*\n)*?\tj\w+\t\1\n)", text, re.M)


@x86
@pytest.mark.parametrize("processor", [*(pytest.param(p, marks=SLOW) for p in PROCESSORS), "this"])
def test_sums_stay_in_registers(processor: str) -> None:
    """No vector goes to the stack in the loop of the largest tile, which would halve its speed.

    `test_tile_code` says this of more processors; here numba compiles.
    """
    able(processor)
    parts = re.split(r"^TILE (\w+) (\d+)$", play(processor, "-c", ASSEMBLY), flags=re.M)[1:]
    for precision, rows, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        assert processor == "this" or int(rows) == ROWS[processor]
        inner = [body for _, body in loops(text)]
        assert inner and all(body.count("\n") > int(rows) for body in inner)
        on_stack = [line for body in inner for line in body.splitlines() if "(%rsp" in line]
        assert not on_stack, (precision, on_stack)
    assert len(parts) == 9
