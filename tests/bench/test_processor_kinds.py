"""Kinds of processors: their names, the loops that measure their peaks, and their targets."""

from __future__ import annotations

import platform
import re
import sys
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest
from any_processor import WITH_LLVM_OF_ALL
from llvmlite import ir
from paths import ROOT

from glimmer_ref.bench import bursts, hardware_peaks
from glimmer_ref.ops import processor
from glimmer_ref.ops.cpu.kernels import llvm_ir
from glimmer_ref.ops.cpu.kernels.llvm_ir import FEATURES

BENCHMARKS = ROOT / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
from comparison import targets  # noqa: E402
from comparison.ratios import Result  # noqa: E402

sys.path.remove(str(BENCHMARKS))

X86, ARM, APPLE = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "arm64-apple-darwin"
AVX2 = "+sse2,+avx,+avx2,+fma"
AVX512 = f"{AVX2},+avx512f,+avx512bw,+avx512vl"
# A processor, its features, its kind, and the instructions of bfloat16's and int8's loops: one for each sum.
PROCESSORS = [
    (X86, "x86-64", "+sse2", "sse2", {"pmaddwd": 12}),
    (X86, "haswell", AVX2, "avx2", {"vpmaddwd": 12, "vfmadd": 12}),
    (X86, "alderlake", f"{AVX2},+avxvnni", "avx-vnni", {"vpdpbusd": 12, "vfmadd": 12}),
    (X86, "skylake-avx512", AVX512, "avx512", {"vpmaddwd": 24, "vfmadd": 24}),
    (X86, "icelake-server", f"{AVX512},+avx512vnni", "avx512-vnni", {"vpdpbusd": 24, "vfmadd": 24}),
    (X86, "znver4", f"{AVX512},+avx512vnni,+avx512bf16", "avx512-bf16-vnni", {"vpdpbusd": 24, "vdpbf16ps": 24}),
    (
        X86,
        "sapphirerapids",
        f"{AVX512},+avx512vnni,+avx512bf16,+amx-tile,+amx-bf16,+amx-int8",
        "avx512-amx",
        {"vpdpbusd": 24, "vdpbf16ps": 24},
    ),
    (ARM, "cortex-a72", "+neon", "neon", {"smlal": 24, "fmla": 24}),
    (ARM, "neoverse-n1", "+neon,+dotprod", "neon-dot", {"sdot": 24, "fmla": 24}),
    (APPLE, "apple-m1", "+neon,+dotprod", "neon-dot", {"sdot": 24, "fmla": 24}),
]
processors = pytest.mark.parametrize(
    ("triple", "cpu", "flags", "kind", "instructions"), PROCESSORS, ids=[row[1] for row in PROCESSORS]
)


def features_of(flags: str) -> set[str]:
    return {word[1:] for word in flags.split(",")}


@pytest.mark.parametrize(
    ("system", "name", "flags", "unseen"),
    [
        ("darwin arm64", "apple-m1", None, {"neon", "dotprod"}),
        ("linux aarch64", "neoverse-n1", "fp asimd asimddp", {"dotprod"}),
        ("linux aarch64", "cortex-a72", "fp asimd", set()),
        ("linux aarch64", "generic", "fp asimd asimddp", set()),  # LLVM would not compile the instruction
        ("linux aarch64", "neoverse-n1", None, set()),
        ("linux x86_64", "znver3", "asimddp", set()),
    ],
)
def test_features_that_llvm_does_not_see(
    system: str, name: str, flags: str | None, unseen: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, machine = system.split()
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nFeatures\t: {flags}\n", "utf-8")
    monkeypatch.setattr(llvm_ir, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(llvm, "get_host_cpu_name", lambda: name)
    monkeypatch.setattr(llvm_ir.settings, "CPU_NAME", None)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(sys, "platform", system)
    assert llvm_ir._unseen() == unseen


@processors
def test_a_kind_has_one_name(triple: str, cpu: str, flags: str, kind: str, instructions: dict[str, int]) -> None:
    assert processor.kind(features_of(flags)) == kind


def test_the_best_kind_comes_first() -> None:
    """A kind whose features include those of another must be asked for first, or it would never be the one."""
    kinds = list(processor.KINDS.values())
    assert all(not earlier < later for i, earlier in enumerate(kinds) for later in kinds[i + 1 :])
    assert processor.kind(set()) == processor.OTHER


def test_a_played_processor_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_CPU_FEATURES", raising=False)
    assert processor.described() == processor.kind()
    monkeypatch.setenv("NUMBA_CPU_FEATURES", "+sse2")
    assert processor.described() == f"{processor.kind()}-played"


def assembly(triple: str, cpu: str, flags: str) -> str:
    """The loops of this processor, as LLVM compiles them for it."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module, features = ir.Module(), features_of(flags)
    module.triple = triple

    def function(name: str, floats: bool, *more: ir.Type) -> tuple[ir.IRBuilder, Any]:
        kind = ir.FunctionType(bursts.FLOAT if floats else bursts.I32, [bursts.I64, *more])
        made = ir.Function(module, kind, name)
        return ir.IRBuilder(made.append_basic_block()), made.args

    for precision in ("bfloat16", "int8"):
        if (dot := bursts.dot_of(features, precision)) is not None:
            builder, args = function(precision, dot.floats, bursts.I32)
            builder.ret(bursts.dots(builder, dot, *args))
    builder, args = function("float32", True, bursts.FLOAT, bursts.FLOAT)
    builder.ret(bursts.fma(builder, features, *args))
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, features=flags, opt=3)
    return str(machine.emit_assembly(llvm.parse_assembly(str(module))))


@WITH_LLVM_OF_ALL
@processors
def test_a_burst_is_the_instruction_that_is_meant(
    triple: str, cpu: str, flags: str, kind: str, instructions: dict[str, int]
) -> None:
    """One instruction for each sum, none of them before the loop, and no sum on the stack within it."""
    text = assembly(triple, cpu, flags)
    inner = re.findall(r"^(\S*BB\w+):[^\n]*\n((?:(?!\S*BB\w+:).*\n)*?.*\s\1\n)", text, re.M)
    loops = "".join(body for _, body in inner)
    counted = {name: len(re.findall(rf"^\s+({{vex}}\s+)?{name}", loops, re.M)) for name in instructions}
    assert counted == instructions
    assert not re.search(r"\(%rsp|\[sp", loops)


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_a_dot_burst_computes_what_it_says(precision: str) -> None:
    """Each sum begins with its number and gets a lane's products of ones three times."""
    dot = bursts.dot_of(FEATURES, precision)
    if dot is None:
        pytest.skip(f"this processor has no instruction for {precision}")
    got = hardware_peaks._dot_burst(dot)(3, np.int32(dot.ones))
    assert got == sum(i + 3 * dot.macs for i in range(dot.sums))


def document(kind: str, *walls: tuple[str, str, float]) -> Result:
    """A result with one round of these works, engines and seconds."""
    runs = [{"group": 1, "round": 0, "work": w, "engine": f"{e}@1", "wall": s} for w, e, s in walls]
    engines = {f"{e}@1": {"precision": e.split(":")[1], "threads": 1} for _, e, _ in walls}
    works = {w: {"macs": {"encoder": 1}, "bytes": {"float32": 0}} for w, _, _ in walls}
    return Result({"machine": {"kind": kind}, "works": works, "runs": runs, "peaks": [], "engines": engines})


@pytest.mark.parametrize(
    ("kind", "goal", "verdict"),
    [
        ("avx2", "at least 1.80x", "reached"),
        ("avx2-played", "at least 1.80x", "reached"),
        ("neon-dot", "at least 1.80x", "reached"),
        ("avx512", "at least 2.90x", "below target"),
        ("avx512-bf16-vnni", "at least 2.90x", "below target"),
    ],
)
def test_each_kind_has_its_own_targets(kind: str, goal: str, verdict: str) -> None:
    r = document(kind, ("encoder-5", "ours:float32", 2.0), ("encoder-5", "ours:int8", 1.0))
    (line,) = [line for line in targets.table(targets.rows(r)) if "encoder int8" in line]
    assert [cell.strip() for cell in line.strip("|").split("|")][-2:] == [goal, verdict]


def test_a_quantity_without_a_target_is_shown() -> None:
    """AVX2 has no target against transformers."""
    r = document("avx2", ("encoder-5", "ours:float32", 1.0), ("encoder-5", "transformers:float32", 1.2))
    (line,) = [line for line in targets.table(targets.rows(r)) if "transformers" in line]
    assert "1.20x" in line and line.rstrip("| ").endswith("no target")


def test_no_target_is_left_unused() -> None:
    """Every target belongs to a row: the names are put together from engines, precisions and works."""
    asked = set()

    class Recorded(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            asked.add(name)
            return super().__getitem__(name)

    r = document("avx2", *((w, "ours:float32", 1.0) for w in ("encoder-5", "fid-25", "lumen-10", "glimmer-25-5")))
    for run in r.runs.values():
        run[0] = {**run[0], "stages": {"encoder": 1.0}}
    r.runs = {(2, w, e): run for (_, w, e), run in r.runs.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(targets, "TARGETS", Recorded(targets.TARGETS))
        targets.rows(r)
    assert asked == set(targets.TARGETS)
