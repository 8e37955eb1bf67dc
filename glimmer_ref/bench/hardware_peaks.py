"""The peaks of this CPU: multiply-adds in kernels that use only registers, and bytes read in a stream through memory.

The share of a peak is meaningful only if both were measured in the same minute, so measuring the peaks takes a fraction
of a second. Each kernel is one loop in LLVM's intermediate representation, whose sums stay in vector registers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any

import llvmlite.binding as llvm
import llvmlite.ir as ir
import numba
import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

STREAM_BYTES = 1 << 29  # 512 MB, many times any cache
BLOCK = 4  # vectors for each step through memory: loads in the order of their addresses keep the prefetcher busy
I32, I64, FLOAT = ir.IntType(32), ir.IntType(64), ir.FloatType()
settings: Any = numba.config
Clock = Callable[[], float]  # seconds
kernel_of: Any = intrinsic  # its declared type includes the typing context, an argument that callers leave out


@dataclass(frozen=True)
class HardwarePeaks:
    """The highest rates that a number of threads reached together.

    Args:
        threads: how many ran at once.
        float32, bfloat16, int8: operations per second, two for each multiply-add; 0 if the CPU has no
            instruction for it.
        reads: bytes per second.
    """

    threads: int
    float32: float
    bfloat16: float
    int8: float
    reads: float

    def peak(self, precision: str) -> float:
        """Operations per second in a precision; those of float32 if the CPU has no instruction for it."""
        return float(asdict(self)[precision]) or self.float32


@cache
def features() -> frozenset[str]:
    """The CPU features that numba compiles for: its own setting if there is one, else those of the host."""
    if chosen := settings.CPU_FEATURES:
        return frozenset(word[1:] for word in chosen.split(",") if word.startswith("+"))
    return frozenset(name for name, present in llvm.get_host_cpu_features().items() if present)


def shape() -> tuple[int, int]:
    """The lanes of a float32 vector, and how many sums fit into the registers beside two operands."""
    if "avx512f" in features():
        return 16, 24
    return (8, 12) if "avx" in features() else (4, 12)


def _loop(builder: ir.IRBuilder, count: Any, sums: list[Any], step: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
    """for i in range(count): sums = step(i, sums), each sum a value that never leaves its register."""
    before, body = builder.block, builder.append_basic_block("body")
    after = builder.append_basic_block("after")
    builder.branch(body)
    builder.position_at_end(body)
    i = builder.phi(I64)
    kept = [builder.phi(x.type) for x in sums]
    new = step(i, kept)
    following = builder.add(i, I64(1))
    i.add_incoming(I64(0), before)
    i.add_incoming(following, body)
    for phi, start, value in zip(kept, sums, new, strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(value, body)
    builder.cbranch(builder.icmp_signed("<", following, count), body, after)
    builder.position_at_end(after)
    return new


def _splat(builder: ir.IRBuilder, x: Any, lanes: int) -> Any:
    kind = ir.VectorType(x.type, lanes)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), x, I32(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))


def _declared(builder: ir.IRBuilder, name: str, returns: Any, *takes: Any) -> Any:
    """One of LLVM's own functions, under its full name."""
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(returns, takes), name)


def _total(builder: ir.IRBuilder, sums: list[Any], floats: bool) -> Any:
    """One number that depends on every sum, so that the compiler removes none as unused."""
    add = builder.fadd if floats else builder.add
    whole = sums[0]
    for x in sums[1:]:
        whole = add(whole, x)
    return builder.extract_element(whole, I32(0))


@kernel_of
def fma_burst(typingctx: Any, count: Any, a: Any, b: Any) -> Any:
    """Compute sum = sum * a + b for every sum, `count` times, in float32 vectors."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        lanes, many = shape()
        kind = ir.VectorType(FLOAT, lanes)
        function = _declared(builder, f"llvm.fmuladd.v{lanes}f32", kind, kind, kind, kind)
        x, y = (_splat(builder, arg, lanes) for arg in args[1:])
        sums = [_splat(builder, ir.Constant(FLOAT, float(i)), lanes) for i in range(many)]
        sums = _loop(builder, args[0], sums, lambda _, old: [builder.call(function, [s, x, y]) for s in old])
        return _total(builder, sums, floats=True)

    return types.float32(types.int64, types.float32, types.float32), codegen


def _dot_burst(name: str, floats: bool) -> Any:
    """A kernel that repeats one of AVX-512's dot products of short numbers, which are added up in 16 lanes."""

    @kernel_of
    def burst(typingctx: Any, count: Any, a: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            lane = FLOAT if floats else I32
            kind, raw = ir.VectorType(lane, 16), ir.VectorType(I32, 16)
            function = _declared(builder, name, kind, kind, raw, raw)
            x = _splat(builder, args[1], 16)
            sums = [_splat(builder, ir.Constant(lane, i), 16) for i in range(24)]
            sums = _loop(builder, args[0], sums, lambda _, old: [builder.call(function, [s, x, x]) for s in old])
            return _total(builder, sums, floats)

        return (types.float32 if floats else types.int32)(types.int64, types.int32), codegen

    @numba.njit(nogil=True)
    def kernel(count: Any, a: Any) -> Any:
        return burst(count, a)

    return kernel


@kernel_of
def stream_sum(typingctx: Any, address: Any, count: Any) -> Any:
    """The sum of `count` blocks of four vectors each, read one after the other from an address."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        lanes = shape()[0]
        kind = ir.VectorType(FLOAT, lanes)
        base = builder.inttoptr(args[0], kind.as_pointer())

        def step(i: Any, old: list[Any]) -> list[Any]:
            first = builder.mul(i, I64(BLOCK))
            pointers = [builder.gep(base, [builder.add(first, I64(j))]) for j in range(BLOCK)]
            return [builder.fadd(x, builder.load(at, align=4 * lanes)) for x, at in zip(old, pointers, strict=True)]

        sums = [_splat(builder, ir.Constant(FLOAT, 0.0), lanes) for _ in range(BLOCK)]
        return _total(builder, _loop(builder, args[1], sums, step), floats=True)

    return types.float32(types.int64, types.int64), codegen


@numba.njit(nogil=True)
def _fma(count: Any, a: Any, b: Any) -> Any:
    return fma_burst(count, a, b)


@numba.njit(nogil=True)
def _stream(address: Any, count: Any) -> Any:
    return stream_sum(address, count)


@cache
def _dots() -> dict[str, tuple[Any, int]]:
    """The kernels for the lower precisions that this CPU has, and the multiply-adds of one lane's product."""
    names = {
        "bfloat16": ("avx512bf16", "llvm.x86.avx512bf16.dpbf16ps.512", 2),
        "int8": ("avx512vnni", "llvm.x86.avx512.vpdpbusd.512", 4),
    }
    return {
        precision: (_dot_burst(name, precision == "bfloat16"), macs)
        for precision, (feature, name, macs) in names.items()
        if feature in features()
    }


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "hardware-peaks")


def together(task: Callable[[int], object], threads: int, clock: Clock) -> float:
    """Call task(i) in each of `threads` threads at once, and return the seconds until all have finished."""
    start = clock()
    for _ in _pool(threads).map(task, range(threads)):
        pass
    return clock() - start


def _rate(burst: Callable[[int], object], amount: float, threads: int, seconds: float, clock: Clock) -> float:
    """Operations per second in the fastest of three bursts on each thread; one count is `amount` operations."""

    def seconds_of(count: int) -> float:
        return together(lambda _: burst(count), threads, clock)

    count = 1 << 16
    burst(16)  # compiles the kernel outside the measurement
    while (first := seconds_of(count)) < seconds / 4:
        count *= 4
    count = max(1, int(count * seconds / first))
    return threads * count * amount / min(seconds_of(count) for _ in range(3))


@cache
def _memory() -> np.ndarray:
    """Half a gigabyte of memory, aligned for vectors; all its pages have been written, so they exist."""
    raw = np.ones(STREAM_BYTES // 4 + 16, np.float32)
    return raw[-raw.ctypes.data % 64 // 4 :][: STREAM_BYTES // 4]


def _reads(threads: int, clock: Clock) -> float:
    """Bytes per second in the fastest of three passes, in which each thread reads its own part."""
    address, block = _memory().ctypes.data, BLOCK * 4 * shape()[0]
    count = STREAM_BYTES // threads // block
    _stream(address, 1)
    starts = [address + i * count * block for i in range(threads)]
    return (
        threads * count * block / min(together(lambda i: _stream(starts[i], count), threads, clock) for _ in range(3))
    )


def _repeat(kernel: Any, count: int) -> None:
    kernel(count, 0x01010101)


def measure_peaks(threads: int, seconds: float = 0.04, clock: Clock = time.perf_counter) -> HardwarePeaks:
    """This CPU's peaks for a number of threads at once, in about half a second.

    Args:
        seconds: the length of each burst; the fastest of three counts.
        clock: what measures them. `time.process_time` is for one thread alone, on a machine that others use, too.
    """
    lanes, many = shape()
    fma = _rate(lambda n: _fma(n, np.float32(0.999), np.float32(0.001)), 2 * lanes * many, threads, seconds, clock)
    lower = {
        precision: _rate(partial(_repeat, kernel), 2 * 16 * 24 * macs, threads, seconds, clock)
        for precision, (kernel, macs) in _dots().items()
    }
    return HardwarePeaks(threads, fma, lower.get("bfloat16", 0.0), lower.get("int8", 0.0), _reads(threads, clock))
