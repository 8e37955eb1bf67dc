"""A strict version of numba's CUDA simulator: it reports mistakes that a GPU would not report; runs are repeatable.

Numba launches the kernels and holds their arrays. The threads of a block run here as greenlets, which switch only at
barriers and warp operations. Shared memory starts as NaN. It is an error if two threads use the same element of shared
memory between two barriers and one of them writes; if not all threads reach a barrier or a shuffle; if an index is
outside an array; if a float64 is stored in a float32 array; and if a limit of a GPU is exceeded. `device` replaces the
device that `runtime.device` opens on a GPU. This module needs NUMBA_ENABLE_CUDASIM=1 in a process of its own.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
from greenlet import getcurrent, greenlet
from numba import cuda
from numba.cuda.simulator import kernel as simulator
from ptx_fragments import multiply_add, rounded, unpack

from glimmer_ref.ops.cuda.kernels.spec import EVERYONE, WARP, Sizes
from glimmer_ref.ops.cuda.runtime.device import Device

THREADS, SHARED, GRID = 1024, 48 * 1024, (2**31 - 1, 65535, 65535)  # limits of a block and a grid
TINY = Sizes(
    threads=32, small_block=8, tile=4, rows=16, columns=16, terms=8, skinny_rows=2, slices=8, queries=8, keys=8,
    one_query=32, splits=3, warps_down=1, warps_across=2, tiles_down=1, tiles_across=2,
)  # fmt: skip


class Broken(AssertionError):
    """A kernel made a mistake that a GPU would not report."""


def unset(dtype: Any) -> Any:
    """The content of memory before anything is written: NaN, or an impossible index."""
    return np.nan if np.dtype(dtype).kind == "f" else np.iinfo(dtype).min


class Memory:
    """An array inside a kernel, which checks indices and refuses to store float64 in float32."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.size, self.ndim = array, array.shape, array.size, array.ndim
        self.dtype, self.flat = array.dtype, array.reshape(-1)

    def place(self, at: Any) -> Any:
        """Return `at`, which must be an index inside the array."""
        shape = self.shape
        if type(at) is not tuple:
            inside = self.ndim == 1 and 0 <= at < shape[0]
        else:
            inside = self.ndim == len(at) and 0 <= at[0] < shape[0] and 0 <= at[1] < shape[1]
            inside = inside and (len(at) == 2 or 0 <= at[2] < shape[2])
        if not inside:
            raise Broken(f"index {at} of an array {list(shape)}")
        return at

    def fits(self, value: Any) -> Any:
        """Return `value`, which storing must not round."""
        if self.dtype == np.float32 and isinstance(value, np.float64):
            raise Broken("float64 stored as float32")
        return value

    def __getitem__(self, at: Any) -> Any:
        return self.array[self.place(at)]

    def __setitem__(self, at: Any, value: Any) -> None:
        self.array[self.place(at)] = self.fits(value)


class Shared(Memory):
    """Shared memory: NaN at first; it remembers which threads read and wrote since the last barrier."""

    def __init__(self, shape: Any, dtype: Any, block: Block) -> None:
        super().__init__(np.full(shape, unset(dtype), dtype))
        self.block = block
        self.writers: dict[Any, tuple[int, int]] = {}
        self.readers: dict[Any, tuple[int, int]] = {}

    def __getitem__(self, at: Any) -> Any:
        now, me = self.block.barriers, getcurrent().number
        when, who = self.writers.get(at, (-1, me))
        if when == now and who != me:
            raise Broken(f"thread {me} reads {at}, which thread {who} writes before the same barrier")
        when, who = self.readers.get(at, (-1, me))
        self.readers[at] = (now, me if when != now or who == me else -1)  # -1 stands for several threads
        return super().__getitem__(at)

    def __setitem__(self, at: Any, value: Any) -> None:
        now, me = self.block.barriers, getcurrent().number
        for others in (self.writers, self.readers):
            when, who = others.get(at, (-1, me))
            if when == now and who != me:
                raise Broken(f"threads {me} and {who} use {at} before the same barrier")
        self.writers[at] = (now, me)
        super().__setitem__(at, value)


class Thread(greenlet):
    """One thread of a block. `waits`: the line at which it waits, and the warp, or None for the whole block."""

    def __init__(self, number: int, place: tuple[int, ...], run: Any) -> None:
        super().__init__(run)
        self.number, self.place, self.waits = number, SimpleNamespace(x=place[0], y=place[1], z=place[2]), None
        self.allocated, self.given, self.combine, self.taken = 0, None, None, None


class Block:
    """Replaces numba's BlockManager: runs a block's threads in turn, from barrier to barrier."""

    now: Any = None  # the block that is running

    def __init__(self, function: Any, grid: Any, block: Any, debug: bool) -> None:
        self.function, self.grid, self.shape, self.barriers = function, grid, block, 0
        self.shared: list[Shared] = []
        if np.prod(block) > THREADS or any(n > most for n, most in zip(grid, GRID, strict=False)):
            raise Broken(f"a block of {block} threads in a grid of {grid}")

    def run(self, place: Any, *args: Any) -> None:
        """Runs all threads to their end."""
        inside = [Memory(a._item._ary) if hasattr(a, "_item") else a for a in args]

        def run() -> None:
            with np.errstate(all="ignore"):
                self.function(*inside)

        names = ("x", "y", "z")
        self.at, self.size, self.blocks = (
            SimpleNamespace(**dict(zip(names, (*p, 1, 1, 1)[:3], strict=True)))
            for p in ((*place, 0, 0)[:3], self.shape, self.grid)
        )
        order = [(x, y, z) for z in range(self.size.z) for y in range(self.size.y) for x in range(self.size.x)]
        self.threads = [Thread(n, p, run) for n, p in enumerate(order)]
        Block.now = self
        live = self.threads
        while live:
            for thread in live:
                thread.waits = None
                thread.switch()
            ended, live = [t for t in live if t.dead], [t for t in live if not t.dead]
            self._release(live, len(ended))

    def _release(self, live: list[Thread], ended: int) -> None:
        """Performs the shuffles that threads wait for, and checks that all waiting threads may go on."""
        while live and any(t.waits[1] is not None for t in live):
            warps = {t.waits[1] for t in live if t.waits[1] is not None}
            for warp in warps:
                mine = [t for t in self.threads if t.number // WARP == warp]
                lines = {None if t.dead or t.waits is None else t.waits for t in mine}
                if len(lines) != 1:
                    raise Broken(f"a shuffle that not all threads of warp {warp} reach: {lines}")
                for t, result in zip(mine, mine[0].combine([t.given for t in mine]), strict=True):
                    t.taken = result
                for t in mine:
                    t.waits = None
                    t.switch()
            alive = [t for t in live if not t.dead]
            ended, live[:] = ended + len(live) - len(alive), alive
        if live and (ended or len({t.waits for t in live}) != 1):
            raise Broken(f"a barrier that not all threads reach: {len(live)} wait at {[t.waits for t in live][:3]}")
        self.barriers += 1

    def wait(self, line: int, warp: int | None) -> None:
        """Stops the calling thread at a line."""
        getcurrent().waits = (line, warp)
        greenlet.getcurrent().parent.switch()

    def array(self, shape: Any, dtype: Any) -> Shared:
        """The calling thread's next shared array, the same one for all threads."""
        thread = getcurrent()
        if thread.allocated == len(self.shared):
            self.shared.append(Shared(shape, dtype, self))
            if sum(s.array.nbytes for s in self.shared) > SHARED:
                raise Broken(f"{sum(s.array.nbytes for s in self.shared)} bytes of shared memory")
        thread.allocated += 1
        return self.shared[thread.allocated - 1]


class Namespace:
    """The part of `cuda` that kernels and `cuda.runtime.device` use."""

    shared = SimpleNamespace(array=lambda shape, dtype, alignment=None: Block.now.array(shape, dtype))
    local = SimpleNamespace(array=lambda shape, dtype: np.full(shape, unset(dtype), dtype))
    threadIdx = property(lambda self: getcurrent().place)
    blockIdx = property(lambda self: Block.now.at)
    gridDim = property(lambda self: Block.now.blocks)
    to_device = staticmethod(cuda.to_device)

    def __init__(self) -> None:
        self.launches: list[str] = []

    def jit(self, signature: Any = None, device: bool = False, launch_bounds: tuple[int, int] = (0, 0)) -> Any:
        """Returns a device function unchanged, and a kernel with a check of its arguments against the signature."""
        if device:
            return lambda function: function

        def kernel(function: Any) -> Any:
            whole = simulator.FakeCUDAKernel(function, device=False)

            class Launch:
                def __getitem__(self, configuration: Any) -> Any:
                    return lambda *args: launch(configuration, args)

            def launch(configuration: Any, args: Any) -> None:
                self.launches.append(function.__name__)
                assert np.prod(configuration[1]) == launch_bounds[0]
                assert len(args) == len(signature.args), function.__name__
                for i, (arg, kind) in enumerate(zip(args, signature.args, strict=True)):
                    if hasattr(kind, "ndim"):
                        right = hasattr(arg, "copy_to_host") and arg.is_c_contiguous()
                        if not right or (arg.ndim, str(arg.dtype)) != (kind.ndim, str(kind.dtype)):
                            raise Broken(f"{function.__name__}: argument {i} is {arg.dtype} {arg.shape}, not {kind}")
                    elif not isinstance(arg, (int, float)):
                        raise Broken(f"{function.__name__}: argument {i} is {type(arg).__name__}, not {kind}")
                narrow = [
                    np.float32(a) if str(k) == "float32" else a for a, k in zip(args, signature.args, strict=True)
                ]
                whole[configuration](*narrow)

            return Launch()

        return kernel

    def current_context(self) -> Any:
        """A GPU of 10 GB with half a gigabyte free."""
        return SimpleNamespace(get_memory_info=lambda: SimpleNamespace(free=5 * 10**8, total=10**10))

    def device_array(self, shape: Any, dtype: Any) -> Any:
        """A new array, filled with `unset` values."""
        return cuda.to_device(np.full(shape, unset(dtype), dtype))

    def grid(self, dimensions: int) -> Any:
        at, size, thread = Block.now.at, Block.now.size, getcurrent().place
        x, y = at.x * size.x + thread.x, at.y * size.y + thread.y
        return x if dimensions == 1 else (x, y)

    def gridsize(self, dimensions: int) -> int:
        assert dimensions == 1
        return Block.now.size.x * Block.now.blocks.x

    def syncthreads(self) -> None:
        Block.now.wait(sys._getframe(1).f_lineno, None)

    def shfl_xor_sync(self, mask: int, value: Any, offset: int) -> Any:
        """The value of the thread whose lane differs in the bits of `offset`; all threads of a warp must call it."""
        assert mask == EVERYONE
        return together(value, lambda given: [given[lane ^ offset] for lane in range(len(given))])


def together(value: Any, combine: Any) -> Any:
    """The calling thread's part of `combine` of the values that all threads of its warp give at the same line."""
    thread = getcurrent()
    thread.given, thread.combine = value, combine
    Block.now.wait(sys._getframe(2).f_lineno, thread.number // WARP)
    return thread.taken


def load4(array: Memory, at: int) -> tuple[Any, ...]:
    if at % 4 or array.flat.ctypes.data % 16 or not 0 <= at <= array.size - 4:
        raise Broken(f"sixteen bytes from {at} of {array.size}")
    return tuple(array.flat[at : at + 4])


def store4(array: Memory, at: int, *four: Any) -> None:
    load4(array, at)
    for i, value in enumerate(four):
        array.flat[at + i] = array.fits(value)


def pack2(low: Any, high: Any) -> np.int32:
    if any(isinstance(x, np.float64) for x in (low, high)):
        raise Broken("float64 packed as bfloat16")
    return np.uint32(rounded(high) << 16 | rounded(low)).view(np.int32)


def unpack2(word: Any) -> tuple[np.float32, np.float32]:
    return tuple(unpack(word))


def mma(*mine: Any) -> tuple[Any, ...]:
    """c + a b with the fragments of the PTX instruction set: a0..a3, b0, b1, c0..c3 of 32 threads."""
    return together(mine, multiply_add)


INTRINSICS = SimpleNamespace(load4=load4, store4=store4, pack2=pack2, unpack2=unpack2, mma=mma)
simulator.BlockManager = Block


def device(namespace: Namespace, sizes: Sizes = TINY) -> Device:
    """Replaces the device that `cuda.runtime.device` opens on a GPU."""
    return Device(namespace, INTRINSICS, lambda x: x._ary.ctypes.data, {"float32": sizes, "float64": sizes})
