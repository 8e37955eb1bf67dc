"""The GPU for the CUDA backend: arrays, kernels that are compiled when first launched, and errors if there is none."""

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

SIZES = {"float32": Sizes(), "float64": Sizes(queries=32, keys=16)}  # a tile of float64 takes twice the shared memory


class Device:
    """Arrays on a GPU and launches of kernels, all on one stream: only copies to the host wait for the GPU.

    Args:
        cuda: numba's `cuda`, or a simulator's.
        intrinsics: `cuda.kernels.intrinsics`, or a simulator's.
        address: gives the address of an array's first byte.
        sizes: sizes of blocks and tiles by dtype; `SIZES` if None.
    """

    def __init__(
        self, cuda: Any, intrinsics: Any, address: Callable[[Array], int], sizes: dict[str, Sizes] | None = None
    ) -> None:
        self.address = address
        self.cuda, self.sizes = cuda, sizes or SIZES
        self.bytes = SimpleNamespace(persistent=0, temporary=0)  # bytes of weights and memory; bytes of results
        self.bodies = cache(lambda dtype: build(cuda, np.dtype(dtype).type, intrinsics, self.sizes[dtype]))
        self.kernel = cache(self._compiled)
        self.ints = lru_cache(256)(self._ints)

    def to_device(self, x: np.ndarray) -> Array:
        """A copy of a host array on the GPU, which is freed when nothing refers to it.

        Raises:
            InputError: it does not fit into memory.
        """
        x = np.ascontiguousarray(x)
        x = x.copy() if 0 in x.strides else x  # a broadcast array, whose rows share memory
        return self._counted(x.shape, x.dtype, "persistent", lambda: self.cuda.to_device(x))

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array for a result.

        Raises:
            InputError: it does not fit into memory.
        """
        return self._counted(shape, np.dtype(dtype), "temporary", lambda: self.cuda.device_array(shape, dtype))

    def table(self, x: Ints) -> Array:
        """Integers of the host as int64 on the GPU; equal arrays are copied only once."""
        x = np.ascontiguousarray(x, np.int64)
        return self.ints(x.tobytes(), x.shape)

    def _ints(self, numbers: bytes, shape: tuple[int, ...]) -> Array:
        return self.cuda.to_device(np.frombuffer(numbers, np.int64).reshape(shape))

    def run(self, dtype: Any, name: str, grid: Any, *args: Any) -> None:
        """Launches a kernel of a dtype on a grid of blocks; does nothing if the grid is empty.

        Raises:
            InputError: an array has another dtype, or does not begin at a multiple of sixteen bytes, as may happen
                with a slice.
        """
        kernel, body = self.kernel(np.dtype(dtype).name, name)
        for arg, letter in zip(args, body.takes, strict=True):
            if letter in "xv" and arg.dtype != dtype:
                raise InputError(name, f"all arrays in {dtype}", str(arg.dtype), "convert it first")
            if letter in "xv" and arg.size and self.address(arg) % 16:
                raise InputError(
                    name, "an array that begins at a multiple of sixteen bytes", "a part of another", "copy it"
                )
        if math.prod(grid) if isinstance(grid, tuple) else grid:
            kernel[grid, body.block](*args)

    def _compiled(self, dtype: str, name: str) -> tuple[Any, Body]:
        """A compiled kernel and its body. The compiler divides an SM's registers by the launch bounds."""
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
        """The error with the needed and the free memory, and advice: results grow with the number of tokens."""
        memory, temporary = self.cuda.current_context().get_memory_info(), self.bytes.temporary
        share = (memory.free + temporary) / (temporary + size)
        do = "compute with precision='bfloat16', or use a smaller model"
        if kind == "temporary":
            fit = f"about {int(shape[0] * share)} of {shape[0]} rows fit, {share:.0%}"
            do = fit if share < 1 else "the free memory is in smaller pieces"
            do += ": lower k in proportion, or process the passages in smaller chunks"
            do += ", or dtype float32" if dtype == np.float64 else ""
        weights = _size(self.bytes.persistent)
        got = f"{_size(memory.free)} free of {_size(memory.total)}, {weights} of it weights and memory"
        sizes = " ".join(map(str, shape))
        return InputError("GPU memory", f"{_size(size)} for an array [{sizes}] of {dtype}", got, do)


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.2f} MB"


def open_gpu() -> Device:
    """The first GPU that numba finds, after a first kernel has run on it.

    Raises:
        InputError: there is no numba-cuda, driver or GPU, or kernels do not run on it. There is no fallback.
    """
    if find_spec("numba_cuda") is None:
        raise InputError(
            "ops=cuda", "the package numba-cuda", "none", "install it: pip install 'glimmer_ref[cuda12]', or cuda13"
        )
    from numba import cuda

    if cuda.config.ENABLE_CUDASIM:
        raise InputError("ops=cuda", "a GPU", "numba's simulator", "unset NUMBA_ENABLE_CUDASIM")
    if not cuda.is_available():
        raise InputError("ops=cuda", "an NVIDIA GPU and its driver", _first_line(cuda.cuda_error()), "or use ops=numba")
    from ..kernels import intrinsics
    from . import memory_pool

    cuda.set_memory_manager(memory_pool.Pool)  # for contexts that are made from now on
    cuda.config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # a decoder's step has few blocks
    try:
        opened = Device(cuda, intrinsics, lambda x: int(x.gpu_data.device_pointer_value))
        x = opened.to_device(np.ones(4, np.float32))
        opened.run("float32", "add", 1, x, x, x)
        cuda.synchronize()
    except InputError:
        raise
    except Exception as error:  # the toolkit is missing or newer than the driver: errors of many classes
        expected = "a GPU, driver and toolkit that fit each other"
        raise InputError(
            "ops=cuda", expected, _first_line(error), "try the other one of glimmer_ref[cuda12] and glimmer_ref[cuda13]"
        ) from None
    return opened


def _first_line(error: Any) -> str:
    """The first line of an error's message, without numba's heading."""
    lines = (line.strip(" :.") for line in str(error or "none").replace("Error at driver init:", "").splitlines())
    return next(filter(None, lines), type(error).__name__)


@cache
def device() -> Device:
    """The GPU, opened once; see `open_gpu`."""
    return open_gpu()
