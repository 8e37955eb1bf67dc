"""Every CUDA kernel, compiled without a GPU: its PTX, and the resources that the linker reports."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from cuda.core import Linker, LinkerOptions, ObjectCode
from numba import cuda
from numba.cuda import dispatcher

from glimmer_ref.ops.cuda.kernels import intrinsics
from glimmer_ref.ops.cuda.kernels.registry import build, signature
from glimmer_ref.ops.cuda.runtime.device import SIZES

ARCHITECTURES = ((8, 0), (9, 0), (10, 0))
USED = r"used (?P<registers>\d+) registers.*?, (?P<stack>\d+) stack(?:, (?P<shared>\d+) bytes smem)?"


class Compiled(NamedTuple):
    """One kernel for one architecture. Sizes are in bytes: shared memory per block, all others per thread."""

    name: str
    architecture: str
    threads: int
    blocks: int
    ptx: str
    registers: int
    shared: int
    stack: int
    spilled: int


def versions() -> dict[str, str]:
    """The versions of packages that the numbers depend on."""
    toolkit = next(v for v in map(_version, ("nvidia-nvjitlink-cu12", "nvidia-nvjitlink")) if v)
    return {"numba-cuda": version("numba-cuda"), "nvjitlink": toolkit}


def _version(package: str) -> str:
    try:
        return version(package)
    except ImportError:
        return ""


def compiled(dtype: str = "float32", architectures: Any = ARCHITECTURES, names: Any = None) -> Iterator[Compiled]:
    """Compiles kernels one by one; all of them if no names are given."""
    for capability in architectures:
        # Device functions ask for the current GPU's capability, even if another one is given.
        dispatcher.get_current_device = lambda capability=capability: SimpleNamespace(compute_capability=capability)
        for name, body in build(cuda, np.dtype(dtype).type, intrinsics, SIZES[dtype]).items():
            if names is None or name in names:
                ptx, _ = cuda.compile(
                    body.function, signature(body.takes, dtype), cc=capability, device=False, output="ptx", abi="numba",
                    launch_bounds=body.bounds,
                )  # fmt: skip
                yield linked(name, "sm_{}{}".format(*capability), *body.bounds, ptx)


def linked(name: str, architecture: str, threads: int, blocks: int, ptx: str) -> Compiled:
    """Links PTX to a cubin with the linker that is installed with numba-cuda."""
    options = LinkerOptions(arch=architecture, verbose=True, ptxas_options=["-v"])
    linker = Linker(ObjectCode.from_ptx(ptx.encode()), options=options)
    linker.link("cubin")
    log = linker.get_info_log()
    used, spilled = re.search(USED, log), re.findall(r"(\d+) bytes spill", log)
    assert used and spilled, log
    sizes = {key: int(number or 0) for key, number in used.groupdict().items()}
    return Compiled(name, architecture, threads, blocks, ptx, spilled=sum(map(int, spilled)), **sizes)
