"""The GPU as the CUDA backend sees it: arrays, kernels compiled when first run, and what it says when there is none."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from functools import cache, lru_cache
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np

from ....errors import InputError
from ....ragged import Array, Ints
from ..kernels.registry import build, signature
from ..kernels.spec import Body, Sizes

SIZES = {"float32": Sizes(), "float64": Sizes(queries=32, keys=16)}  # float64's tiles take twice the shared memory


class Device:
    """Arrays on a GPU and launches of kernels, all on one stream: nothing waits for the host but `get`.

    Args:
        cuda: numba's `cuda`; the tests' simulator hands its own.
        words: `cuda.kernels.intrinsics`, likewise.
        address: of an array's first byte, likewise.
        sizes: by dtype.
    """

    def __init__(
        self, cuda: Any, words: Any, address: Callable[[Array], int], sizes: dict[str, Sizes] | None = None
    ) -> None:
        self.address = address
        self.cuda, self.sizes = cuda, sizes or SIZES
        self.bytes = SimpleNamespace(kept=0, passing=0)  # of weights and memory, and of what is made on the way
        self.bodies = cache(lambda dtype: build(cuda, np.dtype(dtype).type, words, self.sizes[dtype]))
        self.kernel = cache(self._compiled)
        self.ints = lru_cache(256)(self._ints)

    def put(self, x: np.ndarray) -> Array:
        """A host array's copy on the device, kept until nobody has it any more.

        Raises:
            InputError: no room.
        """
        x = np.ascontiguousarray(x)
        x = x.copy() if 0 in x.strides else x  # one row that was seen many times
        return self._counted(x.shape, x.dtype, "kept", lambda: self.cuda.to_device(x))

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Room for a result.

        Raises:
            InputError: there is none.
        """
        return self._counted(shape, np.dtype(dtype), "passing", lambda: self.cuda.device_array(shape, dtype))

    def table(self, x: Ints) -> Array:
        """Whole numbers of the host as int64; the same ones are sent once."""
        x = np.ascontiguousarray(x, np.int64)
        return self.ints(x.tobytes(), x.shape)

    def _ints(self, numbers: bytes, shape: tuple[int, ...]) -> Array:
        return self.cuda.to_device(np.frombuffer(numbers, np.int64).reshape(shape))

    def run(self, dtype: Any, name: str, grid: Any, *args: Any) -> None:
        """Launch a kernel of that dtype on `grid` of its blocks; nothing if there are none.

        Raises:
            InputError: an array of another dtype, or one that does not begin at a multiple of sixteen bytes, as a part
                of another may.
        """
        kernel, body = self.kernel(np.dtype(dtype).name, name)
        for arg, letter in zip(args, body.takes, strict=True):
            if letter in "xv" and arg.dtype != dtype:
                raise InputError(name, f"all arrays in {dtype}", str(arg.dtype), "convert it first")
            if letter in "xv" and arg.size and self.address(arg) % 16:
                raise InputError(name, "an array that begins at sixteen bytes", "a part of another", "copy it")
        if math.prod(grid) if isinstance(grid, tuple) else grid:
            kernel[grid, body.block](*args)

    def _compiled(self, dtype: str, name: str) -> tuple[Any, Body]:
        """A kernel as it is launched, and its body. The compiler knows how many threads share an SM's registers."""
        body = self.bodies(dtype)[name]
        compiled = self.cuda.jit(signature(body.takes, dtype), launch_bounds=body.bounds)
        return compiled(body.function), body

    def _counted(self, shape: tuple[int, ...], dtype: Any, kind: str, make: Callable[[], Array]) -> Array:
        size = math.prod(shape) * dtype.itemsize
        try:
            array = make()
        except Exception as error:  # the driver's own class differs between numba-cuda's versions
            if "OUT_OF_MEMORY" not in str(error).upper():
                raise
            raise self._no_room(shape, dtype, kind, size) from None
        setattr(self.bytes, kind, getattr(self.bytes, kind) + size)
        weakref.finalize(array, self._gone, kind, size)
        return array

    def _gone(self, kind: str, size: int) -> None:
        setattr(self.bytes, kind, getattr(self.bytes, kind) - size)

    def _no_room(self, shape: tuple[int, ...], dtype: Any, kind: str, size: int) -> InputError:
        """What was needed, what there is, and what would fit: all that is made on the way grows with the tokens."""
        memory, passing = self.cuda.current_context().get_memory_info(), self.bytes.passing
        share = (memory.free + passing) / (passing + size)
        do = "compute with precision='bfloat16', or take a smaller model"
        if kind == "passing":
            fit = f"about {int(shape[0] * share)} of {shape[0]} rows fit, {share:.0%}"
            do = fit if share < 1 else "what is free lies in smaller pieces"
            do += ": lower k in proportion, or take the passages in smaller chunks"
            do += ", or dtype float32" if dtype == np.float64 else ""
        got = f"{_size(memory.free)} free of {_size(memory.total)}, {_size(self.bytes.kept)} of it weights and memory"
        words = " ".join(map(str, shape))
        return InputError("GPU memory", f"{_size(size)} for an array [{words}] of {dtype}", got, do)


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.2f} MB"


def open_gpu() -> Device:
    """The GPU that numba finds first, when a first kernel has run on it.

    Raises:
        InputError: no numba-cuda, no driver, no GPU, or one on which nothing runs. There is no fallback.
    """
    if find_spec("numba_cuda") is None:
        raise InputError("ops=cuda", "the package numba-cuda", "none", "pip install 'glimmer_ref[cuda12]', or cuda13")
    from numba import cuda

    if cuda.config.ENABLE_CUDASIM:
        raise InputError("ops=cuda", "a GPU", "numba's simulator", "unset NUMBA_ENABLE_CUDASIM")
    if not cuda.is_available():
        raise InputError("ops=cuda", "an NVIDIA GPU and its driver", _first_line(cuda.cuda_error()), "or use ops=numba")
    from ..kernels import intrinsics
    from . import memory_pool

    cuda.set_memory_manager(memory_pool.Pool)  # of contexts that are made from now on
    cuda.config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # a step of a decoder is small
    try:
        opened = Device(cuda, intrinsics, lambda x: int(x.gpu_data.device_pointer_value))
        x = opened.put(np.ones(4, np.float32))
        opened.run("float32", "add", 1, x, x, x)
        cuda.synchronize()
    except InputError:
        raise
    except Exception as error:  # a toolkit that is missing or newer than the driver: many classes, one meaning
        expected = "a GPU, driver and toolkit that fit each other"
        raise InputError(
            "ops=cuda", expected, _first_line(error), "try the other of glimmer_ref[cuda12], [cuda13]"
        ) from None
    return opened


def _first_line(error: Any) -> str:
    """What an error says first, without numba's own heading."""
    lines = (line.strip(" :.") for line in str(error or "none").replace("Error at driver init:", "").splitlines())
    return next(filter(None, lines), type(error).__name__)


@cache
def device() -> Device:
    """The GPU, opened once; see `open_gpu`."""
    return open_gpu()
