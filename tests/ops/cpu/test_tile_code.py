"""The machine code of tiles for every kind of processor, most of which cannot run here: LLVM compiles for any.

A tile's loop must have the instructions that are meant, as many as it has sums, and must not touch the stack.
"""

from __future__ import annotations

import re
from typing import Any

import llvmlite.binding as llvm
import pytest
from any_processor import WITH_LLVM_OF_ALL
from llvmlite import ir

from glimmer_ref.ops.cpu.kernels.microkernel import tile_function
from glimmer_ref.ops.cpu.kernels.multiply import GROUP, Processor, processor
from glimmer_ref.ops.interface import PRECISIONS

SSE2, AVX2, NEON = "sse2", "sse2 avx avx2 fma", "neon"
AVX512 = f"{AVX2} avx512f avx512bw avx512cd avx512dq avx512vl"
VNNI, DOT = f"{AVX512} avx512vnni", f"{NEON} dotprod"
BOTH = f"{VNNI} avx512bf16"
# By LLVM's names: the features that decide, and the instruction of each precision.
FMA = ("vfmadd", "vfmadd")
ARM = ("fmla", "fmla", "sdot")
KINDS = {
    "x86-64": (SSE2, ("mulps", "mulps", "pmaddwd")),
    "haswell": (AVX2, (*FMA, "vpmaddwd")),
    "skylake": (AVX2, (*FMA, "vpmaddwd")),
    "znver1": (AVX2, (*FMA, "vpmaddwd")),
    "znver3": (AVX2, (*FMA, "vpmaddwd")),
    "alderlake": (f"{AVX2} avxvnni", (*FMA, "vpdpbusd")),
    "skylake-avx512": (AVX512, (*FMA, "vpmaddwd")),
    "cascadelake": (VNNI, (*FMA, "vpdpbusd")),
    "icelake-server": (VNNI, (*FMA, "vpdpbusd")),
    "cooperlake": (BOTH, ("vfmadd", "vdpbf16ps", "vpdpbusd")),
    "sapphirerapids": (f"{BOTH} avxvnni", ("vfmadd", "vdpbf16ps", "vpdpbusd")),
    "znver4": (BOTH, ("vfmadd", "vdpbf16ps", "vpdpbusd")),
    "znver5": (f"{BOTH} avxvnni", ("vfmadd", "vdpbf16ps", "vpdpbusd")),
    "apple-m1": (DOT, ARM),
    "neoverse-n1": (DOT, ARM),
    "neoverse-v1": (DOT, ARM),
    "cortex-a76": (DOT, ARM),
}
QUICK = ("haswell", "znver4", "neoverse-n1")
STACK = re.compile(r"\(%[er]sp|\[sp")
LOOP = re.compile(r"^(\.LBB\w+):.*\n((?:(?!\.LBB\w+:).*\n)*?\t(?:j\w+|b\.\w+|cb\w+)\t(?:.*, )?\1\n)", re.M)


def compiled(cpu: str, here: Processor, precision: str, *rows: int) -> tuple[Any, Any]:
    """LLVM's target machine for a processor, and a module with its tiles of some numbers of rows."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = ir.Module(f"{cpu}_{precision}")
    module.triple = f"{'aarch64' if KINDS[cpu][0].startswith(NEON) else 'x86_64'}-unknown-linux-gnu"
    for r in rows:
        tile_function(module, here, precision, r).linkage = ""
    target = llvm.Target.from_triple(module.triple)
    machine = target.create_target_machine(cpu=cpu, opt=3, reloc="pic", codemodel="small")
    parsed = llvm.parse_assembly(str(module))
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(parsed, passes)
    return machine, parsed


def inner_loops(text: str) -> list[list[str]]:
    """The instructions of each innermost loop, without labels, comments and the marks of empty assemblies."""
    loops = [body.replace("{vex}\t", "") for _, body in LOOP.findall(text)]
    return [[x.strip() for x in body.splitlines() if re.match(r"\t\w", x)] for body in loops]


@WITH_LLVM_OF_ALL
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("cpu", [cpu if cpu in QUICK else pytest.param(cpu, marks=pytest.mark.slow) for cpu in KINDS])
def test_the_loop_of_a_tile(cpu: str, precision: str) -> None:
    features, instructions = KINDS[cpu]
    here = processor(set(features.split()))
    way, meant = here.ways[precision], dict(zip(PRECISIONS, instructions, strict=True))[precision]
    for rows in (1, here.rows):
        machine, module = compiled(cpu, here, precision, rows)
        loops = inner_loops(machine.emit_assembly(module))
        together = way.together and rows > 1
        assert len(loops) == (1 if together else 2), "one for both panels, or one each"
        for loop in loops:
            assert not [x for x in loop if STACK.search(x)]
            sums = rows * 16 // way.lanes * (2 if together else 1)
            assert sum(x.startswith(meant) for x in loop) == way.parts * sums, (rows, loop)


def test_a_processor_of_which_nothing_is_known() -> None:
    here = processor(frozenset())
    assert here.rows == 6 and {way.name for way in here.ways.values()} == {"fma", "mul"}
    assert set(here.ways) == set(GROUP) == set(PRECISIONS)
