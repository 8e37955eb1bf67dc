"""The CUDA backend without a GPU: its errors, the simulator in a process of its own, and compiled kernels.

Tests marked `cuda` need a GPU and are skipped without one.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import FIXTURES, ROOT

from glimmer_ref.cli import main
from glimmer_ref.errors import InputError
from glimmer_ref.golden import case as cases
from glimmer_ref.golden import check
from glimmer_ref.golden.cases import CASES
from glimmer_ref.golden.generate import run_case
from glimmer_ref.ops import bind
from glimmer_ref.ops.cuda.runtime import device

needs_extra = pytest.mark.skipif(find_spec("numba_cuda") is None, reason="needs the extra cuda12 or cuda13")
SLOW = pytest.mark.slow


@pytest.fixture
def unopened() -> Any:
    device.device.cache_clear()
    yield
    device.device.cache_clear()


def test_without_numba_cuda_it_says_what_to_install(unopened: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"^ops=cuda: expected the package numba-cuda; got none; install it: pip install"
    ):
        bind("cuda")


def fake(monkeypatch: pytest.MonkeyPatch, available: bool, error: str) -> None:
    """Makes numba's `cuda` behave as with numba-cuda and a driver that reports `error`."""
    import numba
    from numba import cuda

    monkeypatch.setattr(device, "find_spec", lambda name: name)
    monkeypatch.setattr(cuda, "is_available", lambda: available)
    monkeypatch.setattr(cuda, "cuda_error", lambda: error or None)
    assert not numba.config.ENABLE_CUDASIM


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("Error at driver init: \n\nCUDA driver library cannot be found.\n:", "CUDA driver library cannot be found"),
        ("Error at driver init: Call to cuInit results in CUDA_ERROR_NO_DEVICE", "CUDA_ERROR_NO_DEVICE"),
        ("", "none"),
    ],
)
def test_without_a_driver_or_a_gpu_it_says_so(
    unopened: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: str, said: str
) -> None:
    fake(monkeypatch, False, error)
    with pytest.raises(
        InputError, match=rf"^ops=cuda: expected an NVIDIA GPU and its driver; got .*{said}; or use ops=numba$"
    ):
        bind("cuda")
    assert main(["ask", "who?", "--ops", "cuda"]) != 0
    message = capsys.readouterr().err.strip()
    assert "an NVIDIA GPU and its driver" in message and "\n" not in message and "Traceback" not in message


def test_numbas_simulator_is_no_gpu() -> None:
    """With NUMBA_ENABLE_CUDASIM an answer would take hours."""
    code = "from glimmer_ref.ops import bind; bind('cuda')"
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert re.search(
        "ops=cuda: expected (a GPU; got numba's simulator; unset NUMBA_ENABLE_CUDASIM|the package numba-cuda)", last
    )


@pytest.mark.skipif(find_spec("greenlet") is None, reason="needs the extra cuda-test; .ci/run installs it")
@pytest.mark.parametrize("chosen", ["not slow", pytest.param("slow", marks=SLOW)])
def test_everything_in_the_simulator(chosen: str) -> None:
    """`test_cuda_simulator.py` in a process whose numba is the simulator."""
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", chosen]
    command += [Path(__file__).with_name("test_cuda_simulator.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout.strip().splitlines()[-1])


MOST_SHARED, REGISTERS = (
    48 * 1024,
    64 * 1024,
)  # bytes of shared memory per block by default; registers of an SM
ON_TENSOR_CORES = ("tensor", "tensor_add")
SIXTEEN_BYTES = ("linear", "linear_transposed", "linear_add", "linear_gate", "skinny", "skinny_transposed")
SIXTEEN_BYTES += ("rms_norm", "rows", "add")


SOME = {"add", "rms_norm", "linear", "attend_one", "skinny_bfloat16"}


@needs_extra
@pytest.mark.parametrize(
    ("architecture", "only"), [((9, 0), SOME), *(pytest.param((n, 0), None, marks=SLOW) for n in (8, 9, 10))]
)
def test_every_kernel_compiles_and_spills_nothing(architecture: tuple[int, int], only: set[str] | None) -> None:
    from cubins import compiled, versions

    kept = json.loads((FIXTURES / "cuda_kernels.json").read_text())
    recorded = {(row["name"], row["architecture"]): row for row in kept["kernels"]}
    names = {name for name, _ in recorded}
    found = list(compiled("float32", [architecture], only))
    assert {k.name for k in found} == (only or names)
    for k in found:
        assert (k.stack, k.spilled) == (0, 0), k.name
        assert k.shared <= MOST_SHARED, k.name
        assert -(-k.registers // 8) * 8 * k.threads * k.blocks <= REGISTERS, k.name
        assert ".f64" not in k.ptx, f"{k.name} computes in float64"
        assert ("mma.sync.aligned.m16n8k16" in k.ptx) == (k.name in ON_TENSOR_CORES), k.name
        assert k.name not in SIXTEEN_BYTES or "ld.global.v4.f32" in k.ptx, k.name
        if versions() == kept["versions"]:
            row = recorded[k.name, k.architecture]
            assert k._asdict() | row == k._asdict(), (
                f"{k.name} takes other resources than tests/fixtures/cuda_kernels.json says; see record_cuda.py"
            )


@needs_extra
@SLOW
def test_float64_compiles_too() -> None:
    from cubins import compiled

    only = {"add", "rms_norm", "rows", "tiled", "tiled_transposed"}
    only |= {"attention_8", "attention_64", "attend_one", "merge"}
    for k in compiled("float64", [(9, 0)], only):
        assert (k.shared <= MOST_SHARED and ".f64" in k.ptx) or k.name == "rows", k.name


@pytest.mark.cuda
def test_on_a_gpu() -> None:
    """`python -m glimmer_ref.ops.selftest cuda`, as a test."""
    from glimmer_ref.ops import selftest

    try:
        bind("cuda")
    except InputError as refused:
        pytest.skip(str(refused))
    report = selftest.run("cuda")
    assert all(line.ok for line in report), "\n".join(map(str, report))
    assert np.isfinite([line.error for line in report]).all()


@pytest.mark.cuda
@pytest.mark.parametrize("name", sorted(n for n, c in CASES.items() if n != "refusals" and not c.learns))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_golden_cases_on_a_gpu(name: str, dtype: str) -> None:
    try:
        ops, case = bind("cuda"), CASES[name]
    except InputError as refused:
        pytest.skip(str(refused))
    arrays = run_case.run(ops, case, cases.model(case, cases.weights(case), dtype), cases.inputs(case))
    report = check.check(name, arrays, dtype)
    assert report.code == 0, "\n".join(report.lines())


class FakeDriver:
    """Allocates until it would be more than `most` bytes in total."""

    def __init__(self, error: Any, pointer: Any, most: int) -> None:
        self.error, self.pointer, self.most = error, pointer, most
        self.blocks: dict[int, int] = {}
        self.made = 0

    def cuMemAlloc(self, size: int) -> Any:
        if sum(self.blocks.values()) + size > self.most:
            raise self.error(2, "CUDA_ERROR_OUT_OF_MEMORY")
        self.made += 1
        self.blocks[1024 * self.made] = size
        return self.pointer(1024 * self.made)

    def cuMemFree(self, block: Any) -> None:
        del self.blocks[int(block)]


@needs_extra
def test_memory_is_used_again_and_given_back_before_it_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.cuda.cudadrv import driver

    from glimmer_ref.ops.cuda.runtime import memory_pool

    assert [memory_pool.rounded(n) for n in (1, 513, 2 << 20, (2 << 20) + 1)] == [512, 1024, 2 << 20, 4 << 20]
    fake_driver = FakeDriver(driver.CudaAPIError, driver.binding.CUdeviceptr, 4096)
    monkeypatch.setattr(driver, "driver", fake_driver)
    context = type("Context", (), {})()
    pool = memory_pool.Pool(context=context)
    a, b = pool.memalloc(1000), pool.memalloc(900)
    assert fake_driver.blocks == {1024: 1024, 2048: 1024} and a.size == 1000
    part = a.view(100, 200)
    del a, b
    c = pool.memalloc(600)
    assert fake_driver.made == 2 and c.device_pointer_value == 2048, "b's block; a's has a part that lives"
    del part
    d = pool.memalloc(1024)
    assert fake_driver.made == 2 and d.device_pointer_value == 1024
    del c
    e = pool.memalloc(2048)
    assert fake_driver.made == 3, "there is room"
    with pytest.raises(driver.CudaAPIError):
        pool.memalloc(3000)
    assert set(fake_driver.blocks) == {1024, 3072}, "what nobody had went back first"
    del d, e
    pool.reset()
    assert not fake_driver.blocks
