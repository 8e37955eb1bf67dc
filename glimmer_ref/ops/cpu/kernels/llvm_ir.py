"""LLVM IR for vector loops: the features of the processor, and the instructions of which micro-kernels consist.

A vector has 16 numbers of 32 bits. This is one register of AVX-512, two of AVX2, four of NEON or SSE; LLVM splits it.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba
from llvmlite import ir

settings: Any = numba.config

LANES = 16
BYTES = 4 * LANES  # of a vector

BYTE, I32, I64, F32 = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
POINTER, VOID = BYTE.as_pointer(), ir.VoidType()
INTS, FLOATS, BITS = (ir.VectorType(t, LANES) for t in (I32, F32, ir.IntType(1)))


CPUINFO = Path("/proc/cpuinfo")


def _unseen() -> set[str]:
    """Features of ARM processors that LLVM does not find by itself."""
    if (sys.platform, platform.machine()) == ("darwin", "arm64"):
        return {"neon", "dotprod"}  # all of Apple's own processors have these
    # Linux calls the dot product asimddp. LLVM compiles it only for a processor that it knows by its name.
    if (sys.platform, platform.machine()) == ("linux", "aarch64"):
        named = (settings.CPU_NAME or llvm.get_host_cpu_name()) != "generic"
        with suppress(OSError):
            if named and "asimddp" in CPUINFO.read_text(encoding="utf-8", errors="replace").split():
                return {"dotprod"}
    return set()


def _features() -> set[str]:
    """The features of the processor for which numba compiles; NUMBA_CPU_FEATURES overrides them."""
    if settings.CPU_FEATURES is not None:
        return {name[1:] for name in settings.CPU_FEATURES.split(",") if name.startswith("+")}
    found: set[str] = set()
    with suppress(RuntimeError):  # the features of the processor are unknown on some systems
        found = {name for name, present in llvm.get_host_cpu_features().items() if present}
    return found | _unseen()


FEATURES = _features()


def constant(kind: ir.Type, value: float) -> ir.Constant:
    """A vector that holds one number 16 times."""
    return ir.Constant(kind, [ir.Constant(kind.element, value)] * LANES)


def function(module: ir.Module, name: str, result: ir.Type, *args: ir.Type) -> ir.Function:
    """The LLVM function with that name, declared once per module."""
    known = module.globals.get(name)
    return known if known is not None else ir.Function(module, ir.FunctionType(result, args), name)


class VectorBuilder:
    """An LLVM builder with the instructions that vector loops need."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.to = builder

    def at(self, base: ir.Value, bytes: ir.Value, kind: ir.Type) -> ir.Value:
        """The address `bytes` behind `base`, as a pointer to `kind`."""
        return self.to.bitcast(self.to.gep(base, [bytes]), kind.as_pointer())

    def load(self, base: ir.Value, bytes: ir.Value, kind: ir.Type, align: int = 4) -> ir.Value:
        return self.to.load(self.at(base, bytes, kind), align=align)

    def store(self, x: ir.Value, base: ir.Value, bytes: ir.Value, align: int = 4) -> None:
        self.to.store(x, self.at(base, bytes, x.type), align=align)

    def spread(self, x: ir.Value) -> ir.Value:
        """A vector that holds x 16 times."""
        kind = ir.VectorType(x.type, LANES)
        one = self.to.insert_element(ir.Constant(kind, ir.Undefined), x, ir.Constant(I32, 0))
        return self.to.shuffle_vector(one, ir.Constant(kind, ir.Undefined), constant(INTS, 0))

    def fma(self, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
        """x y + z, rounded only once if the processor has such an instruction."""
        name = "llvm.fmuladd.v16f32"
        return self.to.call(function(self.to.module, name, FLOATS, FLOATS, FLOATS, FLOATS), [x, y, z])

    def barrier(self, *computed: ir.Value, register: str = "") -> None:
        """An empty assembly, across which LLVM moves no load. It takes values that must be computed before, if any."""
        takes = ",".join([register] * len(computed) + ["~{memory}"])
        kind = ir.FunctionType(VOID, [x.type for x in computed])
        self.to.asm(kind, "", takes, computed, side_effect=True)

    def opaque(self, x: ir.Value, register: str = "r") -> ir.Value:
        """x, of which LLVM no longer knows how it was computed; `register` is the constraint of an empty assembly."""
        return self.to.asm(ir.FunctionType(x.type, [x.type]), "", f"={register},0", [x], side_effect=False)

    def loop(self, count: ir.Value, state: list[ir.Value], body: Callable[..., list[ir.Value]]) -> list[ir.Value]:
        """state = body(i, *state) for i = 0 .. count-1; returns the last state. `count` is at least 1.

        The barrier keeps LLVM from unrolling the loop. If LLVM unrolls it, it loads the numbers of the next
        iterations early, runs out of registers, and keeps sums in memory.
        """
        before, inside = self.to.block, self.to.append_basic_block()
        after = self.to.append_basic_block()
        self.to.branch(inside)
        self.to.position_at_end(inside)
        i = self.to.phi(I64)
        i.add_incoming(ir.Constant(I64, 0), before)
        now = [self.to.phi(x.type) for x in state]
        new = body(i, *now)
        self.barrier()
        following = self.to.add(i, ir.Constant(I64, 1))
        end = self.to.block
        for phi, first, last in zip([i, *now], [None, *state], [following, *new], strict=True):
            if first is not None:
                phi.add_incoming(first, before)
            phi.add_incoming(last, end)
        self.to.cbranch(self.to.icmp_signed("<", following, count), inside, after)
        self.to.position_at_end(after)
        return new
