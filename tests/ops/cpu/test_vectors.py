"""Vectorised 2^x, softmax and GELU over all float32 exponents, against float64, to the bounds that they state.

They hold for every float32 there is, as a run of all took ten minutes to show; here every exponent is tried with
some two thousand mantissas, and with half a million in the slow tests.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numba
import numpy as np
import pytest
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from glimmer_ref.ops.cpu.kernels import epilogue
from glimmer_ref.ops.cpu.kernels import simd as vectors
from glimmer_ref.ops.cpu.kernels.llvm_ir import BYTES, FEATURES, FLOATS, I64, LANES, POINTER, VectorBuilder
from glimmer_ref.ops.cpu.runtime.allocator import aligned

FUSED = not {"fma", "avx512f", "neon"}.isdisjoint(FEATURES)  # x y + z is rounded once
POWER, GELU_OF_Y, ULP = 1.72e-7 if FUSED else 1.94e-7, 1.3e-7, 2.0**-23  # as their docstrings state
LARGEST, TINY = float(np.finfo("float32").max), float(np.finfo("float32").smallest_normal)


@intrinsic
def powers(typing: Any, x: Any, count: Any, out: Any) -> Any:
    """out = 2^x for 16 `count` numbers at an address: `power` and nothing else."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> ir.Value:
        code, x, out = VectorBuilder(builder), builder.inttoptr(args[0], POINTER), builder.inttoptr(args[2], POINTER)

        def one(i: ir.Value) -> list[ir.Value]:
            at = builder.mul(i, I64(BYTES))
            return code.store(vectors.power(code, code.load(x, at, FLOATS)), out, at) or []

        code.loop(args[1], [], one)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@numba.njit
def run_power(x: int, count: int, out: int) -> None:
    powers(x, count, out)


@numba.njit
def run_softmax(scores: Any, bias: Any, count: int, sums: Any) -> None:
    """Every row of scores by itself, all with one bias."""
    for i in range(len(scores)):
        sums[i] = vectors.softmax_row(scores[i].ctypes.data, bias.ctypes.data, count)


@numba.njit
def run_finish(mode: int, rows: int, tile: int, x: int, out: int, out_row: int) -> None:
    """`finish` for a tile [rows 32] of float32 sums."""
    epilogue.finish(mode, 0, rows, tile, tile, tile, tile, tile, tile, x, 128, out, out_row)


def power(x: np.ndarray) -> np.ndarray:
    padded = np.zeros((x.size // LANES + 1) * LANES, np.float32)  # at least one vector
    padded[: x.size] = x
    out = np.empty_like(padded)
    run_power(padded.ctypes.data, len(padded) // LANES, out.ctypes.data)
    return out[: x.size]


def finish(mode: int, tile: np.ndarray, x: np.ndarray | None = None) -> np.ndarray:
    """What becomes of sums [rows 32]: [rows 32], with GATE [rows 16]."""
    at, out = aligned(*tile.shape), np.empty((len(tile), 16 if mode == epilogue.GATE else 32), np.float32)
    at[:] = tile
    with_x = at if x is None else np.ascontiguousarray(x)
    run_finish(mode, len(tile), at.ctypes.data, with_x.ctypes.data, out.ctypes.data, 4 * out.shape[1])
    return out


def gelu(y: np.ndarray) -> np.ndarray:
    """What the epilogue makes of y where the gate is 1."""
    tile = np.ones((-(-y.size // LANES), 2 * LANES), np.float32)
    padded = np.zeros(len(tile) * LANES, np.float32)
    padded[: y.size] = y
    tile[:, :LANES] = padded.reshape(-1, LANES)
    return finish(epilogue.GATE, tile).reshape(-1)[: y.size]


def gelu64(y: np.ndarray) -> np.ndarray:
    y = y.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        return y / (1 + np.exp(-2 * math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))


densities = pytest.mark.parametrize("every", [0, pytest.param(15, marks=pytest.mark.slow)], ids=["some", "every 15th"])


def of_every_exponent(sign: int, every: int) -> Iterator[np.ndarray]:
    """Numbers of one sign: of each of the 255 finite exponents, from the subnormals up, many mantissas.

    Args:
        sign: 1 or -1.
        every: the distance from one mantissa to the next; 0 for the first, middle and last ones and 2,040 others.
    """
    rng = np.random.default_rng(0)
    for exponent in range(255):
        if every:
            mantissas = np.arange(0, 2**23, every, dtype=np.uint32)
        else:
            ends = np.array([0, 1, 2, 2**22 - 1, 2**22, 2**22 + 1, 2**23 - 2, 2**23 - 1])
            mantissas = np.concatenate([ends, rng.integers(0, 2**23, 2040)]).astype(np.uint32)
        bits = mantissas | np.uint32(exponent << 23) | np.uint32(0 if sign > 0 else 1 << 31)
        yield bits.view(np.float32)


@densities
@pytest.mark.parametrize("sign", [1, -1])
def test_powers_keep_their_bound_at_every_exponent(sign: int, every: int) -> None:
    for x in of_every_exponent(sign, every):
        x = x[x < 128]
        result, inside = power(x), x >= -126
        exact = np.exp2(x[inside].astype(np.float64))
        np.testing.assert_array_less(np.abs(result[inside] / exact - 1), POWER)
        assert not result[~inside].any()


def test_powers_where_error_and_rounding_are_largest() -> None:
    """Between two whole numbers and around each half, where n changes: 4 million numbers of [-126, 128)."""
    worst = 0.0
    for n in range(-126, 128):
        x = np.unique(np.concatenate([np.linspace(n, n + 1, 16384), n + 0.5 + np.linspace(-2e-5, 2e-5, 64)]))
        x = x.astype(np.float32)[:-1]
        worst = max(worst, np.abs(power(x) / np.exp2(x.astype(np.float64)) - 1).max())
    assert POWER - 0.15e-7 < worst < POWER  # the bound is no larger than it must be


def test_powers_of_whole_numbers_are_exact() -> None:
    n = np.arange(-126, 128)
    np.testing.assert_array_equal(power(n.astype(np.float32)), np.exp2(n))
    np.testing.assert_array_equal(power(np.float32([0, -0.0, 1e-45, -1e-45, -126.1, -np.inf])), [1, 1, 1, 1, 0, 0])
    assert np.isnan(power(np.float32([np.nan]))).all()


def softmax(rows: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows [n count] of scores, and their sums; what lies behind a row and the bias is as bad as it may be."""
    count = rows.shape[1]
    wide = aligned(len(rows), -(-count // LANES) * LANES)
    wide[:] = np.nan
    wide[:, :count] = rows
    long_bias = np.full(wide.shape[1], 1e30, np.float32)
    long_bias[:count] = bias
    sums = np.empty(len(rows), np.float32)
    run_softmax(wide, long_bias, count, sums)
    return wide, sums


@densities
def test_softmax_sees_every_number_below_the_top(every: int) -> None:
    """Rows of 0 and 31 negative numbers, so that each of these is a distance from the top."""
    for x in of_every_exponent(-1, every):
        rows = np.zeros((-(-x.size // 31), 32), np.float32)
        rows[:, 1:].flat[: x.size] = x
        weights, sums = softmax(rows, np.zeros(32, np.float32))
        exact = np.where(rows < -126, 0, np.exp2(rows.astype(np.float64)))
        np.testing.assert_allclose(weights, exact, rtol=POWER, atol=0)
        np.testing.assert_allclose(sums, exact.sum(axis=1), rtol=POWER + 5 * ULP, atol=0)


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 31, 33, 352])
def test_softmax_takes_the_top_off_and_ends_where_it_must(count: int) -> None:
    rng = np.random.default_rng(count)
    rows, bias = (30 * rng.standard_normal(shape).astype(np.float32) for shape in ((9, count), count))
    rows[0] += 1e6
    rows[1] -= 1e6
    weights, sums = softmax(rows, bias)
    added = rows + bias  # in float32, as the kernel adds
    exact = np.exp2(added.astype(np.float64) - added.max(axis=1, keepdims=True))
    np.testing.assert_allclose(weights[:, :count], exact, rtol=1.3e-5, atol=TINY)  # of a difference of up to 200
    assert not weights[:, count:].any(), "what lies behind the row has no weight"
    np.testing.assert_allclose(sums, exact.sum(axis=1), rtol=1.3e-5)


def test_softmax_shows_what_is_not_a_number() -> None:
    for count in (1, 16, 20, 33):
        for at in {0, count // 2, count - 1}:
            rows = np.zeros((2, count), np.float32)
            rows[1, at] = np.nan
            _, sums = softmax(rows, np.zeros(count, np.float32))
            assert sums[0] == count and np.isnan(sums[1])
            rows[1, at] = np.inf
            assert np.isnan(softmax(rows, np.zeros(count, np.float32))[1][1])


@densities
@pytest.mark.parametrize("sign", [1, -1])
def test_gelu_keeps_its_bounds_at_every_exponent(sign: int, every: int) -> None:
    for y in of_every_exponent(sign, every):
        result, exact = gelu(y).astype(np.float64), gelu64(y)
        error = np.abs(result - exact)
        assert (error <= GELU_OF_Y * np.abs(y).astype(np.float64) + 2.0**-149).all()
        normal = (np.abs(exact) >= TINY) & (y >= -10)  # subnormal numbers have fewer digits
        share = np.where(y > 0, 1.7e-7, np.where(y >= -4, 1e-6, 1e-5))
        assert (error[normal] <= (share * np.abs(exact))[normal]).all()
        assert not result[y < -10.1].any()


def test_gelu_of_what_is_no_number() -> None:
    with np.errstate(invalid="ignore"):
        result = gelu(np.float32([np.inf, -np.inf, np.nan, LARGEST, -LARGEST, 0]))
    np.testing.assert_array_equal(result, [np.inf, np.nan, np.nan, LARGEST, 0, 0])


def test_the_other_epilogues() -> None:
    rng = np.random.default_rng(0)
    tile, x = (rng.standard_normal((5, 32)).astype(np.float32) for _ in range(2))
    tile[2, 3], tile[3, 20] = np.nan, np.inf
    np.testing.assert_array_equal(finish(epilogue.STORE, tile), tile)
    np.testing.assert_array_equal(finish(epilogue.ADD, tile, x), x + tile)
    np.testing.assert_array_equal(finish(epilogue.RELU, tile), np.maximum(tile, 0))
    gated = finish(epilogue.GATE, tile)
    np.testing.assert_array_equal(gated, gelu(tile[:, :16].ravel()).reshape(5, 16) * tile[:, 16:])
