"""ARM's tiles, compiled here for several of its processors and run by qemu in user mode: exact on whole numbers.

They need Debian's packages qemu-user and gcc-aarch64-linux-gnu; without these the tests are skipped.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from any_processor import WITH_LLVM_OF_ALL
from test_tile_code import KINDS, compiled
from test_tiles import in_halves

from glimmer_ref.ops.cpu.kernels.multiply import GROUP, Processor, processor
from glimmer_ref.ops.interface import PRECISIONS
from glimmer_ref.ragged import bfloat16

GCC, QEMU = (shutil.which(x) for x in ("aarch64-linux-gnu-gcc", "qemu-aarch64"))
EMULATED = {"apple-m1": "max", "neoverse-n1": "neoverse-n1", "cortex-a76": "cortex-a76"}  # by qemu's names
# Reads rows, steps, and the bytes of a, of each panel, and writes c: all of one tile.
MAIN = """
#include <stdio.h>
#include <stdlib.h>
void *take(long n) {
    void *x = aligned_alloc(64, (n + 63) / 64 * 64);
    if (fread(x, 1, n, stdin) != n) exit(2);
    return x;
}
%s
int main(void) {
    long n[3];
    void (*tile[])(void *, long, void *, void *, long, void *, long) = {%s};
    while (fread(n, 8, 3, stdin) == 3) {
        void *a = take(n[0] * n[2]), *b0 = take(n[1] * 64), *b1 = take(n[1] * 64), *c = aligned_alloc(64, n[0] * 128);
        tile[n[0] - 1](a, n[2], b0, b1, n[1], c, 128);
        fwrite(c, 128, n[0], stdout);
    }
    return 0;
}
"""
DECLARED = "void %s(void *, long, void *, void *, long, void *, long);"


def built(cpu: str, here: Processor, precision: str, folder: Path) -> Path:
    """A program with the tiles of all numbers of rows."""
    several = range(1, here.rows + 1)
    machine, module = compiled(cpu, here, precision, *several)
    names = [f"tile_{precision}_{rows}" for rows in several]
    (folder / "tile.o").write_bytes(machine.emit_object(module))
    (folder / "main.c").write_text(MAIN % ("\n".join(DECLARED % name for name in names), ", ".join(names)))
    files = [folder / x for x in ("main.c", "tile.o", "tile")]
    subprocess.run([str(GCC), "-O1", "-static", *files[:2], "-o", files[2]], check=True, timeout=60)
    return files[2]


def operands(precision: str, wide: bool, rows: int, n: int) -> tuple[np.ndarray, ...]:
    """Whole numbers as the tile takes them, and as int64. The ends of 8 bits are among them."""
    rng = np.random.default_rng(rows * n)
    least, most = (-128, 127) if precision == "int8" else (-100, 100)
    a, b = (rng.integers(least, most + 1, shape) for shape in ((rows, n), (n, 32)))
    if precision == "int8":
        a[:, : n // 2], b[: n // 2] = -128, rng.choice([-128, 127], 32)
        return a.astype(np.int16 if wide else np.int8), b.astype(np.int8), a, b
    if precision == "float32":
        return a.astype(np.float32), b.astype(np.float32), a, b
    return (a.astype(np.float32) if wide else bfloat16(a.astype(np.float32))), bfloat16(b.astype(np.float32)), a, b


@pytest.mark.slow
@pytest.mark.skipif(GCC is None or QEMU is None, reason="qemu-user or gcc-aarch64-linux-gnu is missing")
@WITH_LLVM_OF_ALL
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("cpu", EMULATED)
def test_tiles_of_whole_numbers_under_emulation(cpu: str, precision: str, tmp_path: Path) -> None:
    here, group = processor(set(KINDS[cpu][0].split())), GROUP[precision]
    program = built(cpu, here, precision, tmp_path)
    given, expected = [], []
    for rows in range(1, here.rows + 1):
        for steps in (1, 3, 64):
            n = steps * group
            wide = here.ways[precision].parts == 2
            left, right, a, b = operands(precision, wide, rows, n)
            panels = np.ascontiguousarray(right.reshape(steps, group, 2, 16).transpose(2, 0, 3, 1))
            panels = in_halves(panels) if precision == "int8" and wide else panels
            sizes = np.array([rows, steps, left.shape[1] * left.itemsize], np.int64)
            given += [sizes.tobytes(), left.tobytes(), panels.tobytes()]
            expected.append(a @ b)
    run = subprocess.run(
        [str(QEMU), "-cpu", EMULATED[cpu], program], input=b"".join(given), capture_output=True, check=True, timeout=120
    )
    got = np.frombuffer(run.stdout, np.int32 if precision == "int8" else np.float32)
    np.testing.assert_array_equal(got.reshape(-1, 32), np.concatenate(expected))
