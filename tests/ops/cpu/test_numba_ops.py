"""What the numba backend promises beyond the op interface: threads, layouts, and refusals before a kernel runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numba
import numpy as np
import pytest
from operands import SMALL, Case, arrays, each, read_only, strided
from unwarmed import FAST

from glimmer_ref.errors import InputError
from glimmer_ref.ops import SequenceLayout, numpy_backend
from glimmer_ref.ops.cpu import encoder_fused
from glimmer_ref.ops.cpu import ops as cpu_ops
from glimmer_ref.ops.cpu.kernels import elementwise
from glimmer_ref.ops.cpu.runtime import thread_pool

dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def test_one_signature_serves_every_layout_and_float64_none() -> None:
    kernels = (encoder_fused.attention_block_kernel, elementwise.rms_norm, elementwise.gated_gelu)
    kernels = (*kernels, elementwise.log_probs)
    names = ("attention", "rms_norm", "gated_gelu", "log_likelihood")
    for change, dtype, name in product((strided, read_only), ("float32", "float64"), names):
        getattr(FAST, name)(*each(change, SMALL.all(dtype)[name]))
    assert all(len(k.run.signatures) == 1 for k in kernels)


@pytest.mark.parametrize("name", SMALL.all("float64"))
def test_float64_is_the_reference_backends(name: str) -> None:
    args = SMALL.all("float64")[name]
    for x, right in zip(arrays(getattr(FAST, name)(*args)), arrays(getattr(numpy_backend, name)(*args)), strict=True):
        assert x.dtype == right.dtype and x.tobytes() == right.tobytes()


@pytest.fixture
def two_threads() -> Iterator[None]:
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("one processor")
    before = numba.get_num_threads()
    numba.set_num_threads(2)
    yield
    numba.set_num_threads(before)


@dtypes
@pytest.mark.usefixtures("two_threads")
def test_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    monkeypatch.setattr(thread_pool, "WORTH_A_THREAD", 1)
    for name, args in Case([(60, 60), (1, 30), (200, 210)]).all(dtype).items():
        results = []
        for count in (1, 2, 2):
            numba.set_num_threads(count)
            results.append([r.tobytes() for r in arrays(getattr(FAST, name)(*args))])
        assert results[0] == results[1] == results[2], name


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("tasks", "cost", "expected"), [(5, 1, 1), (5, 10**7, 2), (1, 10**9, 1), (0, 1, 1)])
def test_every_task_is_done_once(tasks: int, cost: int, expected: int) -> None:
    seen: list[tuple[int, int]] = []
    thread_pool.parallel_for(lambda first, last: seen.append((first, last)), tasks, cost)
    assert len(seen) == expected
    assert [t for first, last in sorted(seen) for t in range(first, last)] == list(range(tasks))


@pytest.mark.usefixtures("two_threads")
def test_a_failure_in_any_thread_comes_out() -> None:
    def second_fails(first: int, last: int) -> None:
        if first:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        thread_pool.parallel_for(second_fails, 2, 10**9)


@pytest.mark.parametrize("dtype", ["float16", "int32", "complex64", ">f4"])
def test_to_device_refuses(dtype: str) -> None:
    with pytest.raises(InputError, match=r"to_device: expected float32 or float64; got .*; convert it first"):
        FAST.to_device(np.ones((2, 2), dtype))


@dtypes
@pytest.mark.parametrize("change", [strided, read_only, np.asfortranarray, np.copy])
def test_to_device_lays_out(change: Callable[..., Any], dtype: str) -> None:
    x = SMALL.array(3, 4, dtype=dtype)
    put = FAST.to_device(change(x))
    assert put.flags.carray and put.dtype == dtype
    np.testing.assert_array_equal(FAST.to_host(put), x)


def broken(
    q: Any, k: Any, v: Any, bias: Any, layout: SequenceLayout, heads: int, causal: bool
) -> dict[str, tuple[Any, ...]]:
    """Calls of attention that a kernel must not be given, by what is said of them."""
    far = layout._replace(key_positions=layout.key_positions + 100)
    none = layout._replace(key_lengths=np.array([0, 10, 7]))
    return {
        "attention q": (q[1:], k, v, bias, layout, heads, causal),
        "attention k": (q, k[:, 1:], v, bias, layout, heads, causal),
        "attention v": (q, k, v[1:], bias, layout, heads, causal),
        "query positions": (q, k, v, bias, layout._replace(query_positions=np.zeros(1, int)), heads, causal),
        "key positions": (q, k, v, bias, layout._replace(key_positions=np.zeros(1, int)), heads, causal),
        "attention: expected columns": (q, k, v, None, layout, 4, causal),
        "attention: expected at least one key": (q, k, v, None, none, heads, causal),
        "attention bias: expected shape": (q, k, v, bias[:, :2], layout, heads, causal),
        "attention bias: expected a row": (q, k, v, bias, far, heads, causal),
    }


@pytest.mark.parametrize("said", broken(*SMALL.attention("float64")))
def test_attention_refuses(said: str) -> None:
    args = broken(*SMALL.attention("float64"))[said]
    with pytest.raises(InputError, match=f"^{said}"):
        FAST.attention(*args)
    if " v" not in said:
        with pytest.raises(InputError, match=f"^{said}"):
            FAST.attention_probs(*args[:2], *args[3:])


def test_rows_that_do_not_fit_are_refused() -> None:
    x = np.ones((3, 4))
    with pytest.raises(InputError, match=r"^rms_norm gain"):
        FAST.rms_norm(x, np.ones(5), 1e-6)
    with pytest.raises(InputError, match=r"^gated_gelu b"):
        FAST.gated_gelu(x, np.ones((3, 5)))
    with pytest.raises(IndexError):
        FAST.log_likelihood(x, np.array([0, 4, 0]), np.array([3]))


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_no_rows_are_no_rows(precision: str) -> None:
    w = cpu_ops.pack(np.ones((40, 24), np.float32), precision)
    assert cpu_ops.linear(np.zeros((0, 40), np.float32), w).shape == (0, 24)
