"""The tile of each precision against exact arithmetic, and how weights and rows are laid out for it."""

from __future__ import annotations

import ctypes
from itertools import product
from typing import Any

import numba
import numpy as np
import pytest

from glimmer_ref.errors import InputError
from glimmer_ref.ops.cpu import encoder_fused as blocks
from glimmer_ref.ops.cpu import ops as FAST  # not bound: only the kernels that are called are compiled
from glimmer_ref.ops.cpu.kernels.gemm import Packed, as_table, pack, row_stride, tile_address
from glimmer_ref.ops.cpu.kernels.microkernel import ROWS
from glimmer_ref.ops.cpu.kernels.multiply import GROUP, WIDE, ZERO
from glimmer_ref.ops.cpu.kernels.rows import prepare
from glimmer_ref.ops.cpu.runtime.allocator import aligned
from glimmer_ref.ops.interface import PRECISIONS
from glimmer_ref.ragged import bfloat16

precisions = pytest.mark.parametrize("precision", PRECISIONS)
TYPES = {"float32": np.float32, "bfloat16": np.uint16, "int8": np.int8}
LEFT = np.uint8 if ZERO else np.int8  # of int8's left operands
UNIT = 2.0**-24


def to_bfloat16(x: np.ndarray) -> np.ndarray:
    """The nearest bfloat16, as float32."""
    return (bfloat16(x.astype(np.float32)).astype(np.uint32) << 16).view(np.float32)


def in_halves(panels: np.ndarray) -> np.ndarray:
    """int8's panels [2 steps 16 4] on processors that widen them: in half a line, two terms of all columns."""
    return panels.reshape(2, -1, 16, 2, 2).transpose(0, 1, 3, 2, 4).reshape(panels.shape)


def widened(precision: str, a: np.ndarray) -> np.ndarray:
    """Rows as left operands of the tile: on some processors wider than a panel's numbers."""
    if not WIDE[GROUP[precision]]:
        return a
    if precision == "bfloat16":
        return (a.astype(np.uint32) << 16).view(np.float32)
    return a.astype(np.int16)


def tile(precision: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a [rows n] b [n 32] by the compiled tile: whole lanes of n, numbers in the panels' own type."""
    group, (rows, n) = GROUP[precision], a.shape
    left, own = aligned(rows, row_stride(n, group), dtype=np.uint8), widened(precision, a)
    left[:, : n * own.itemsize] = np.ascontiguousarray(own).view(np.uint8)
    panels = aligned(2, n // group, 16, group, dtype=b.dtype)
    panels[:] = b.reshape(n // group, group, 2, 16).transpose(2, 0, 3, 1)
    if precision == "int8" and WIDE[group]:
        panels[:] = in_halves(panels)
    out = aligned(rows, 32, dtype=np.int32 if precision == "int8" else np.float32)
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 8)(tile_address(precision))
    at = [x.ctypes.data for x in (left, panels[0], panels[1], out)]
    call(rows, at[0], left.shape[1], at[1], at[2], n // group, at[3], 128)
    return out.copy()


def operands(precision: str, rows: int, n: int, largest: int) -> tuple[np.ndarray, ...]:
    """Whole numbers as the tile takes them, and as int64."""
    rng = np.random.default_rng(100 * rows + n)
    if precision == "int8":
        a, b = rng.integers(-128, 128, (rows, n)) + ZERO, rng.integers(-128, 128, (n, 32))
        return a.astype(LEFT), b.astype(np.int8), a, b
    a, b = (rng.integers(-largest, largest + 1, shape) for shape in ((rows, n), (n, 32)))
    own = [x.astype(np.float32) for x in (a, b)]
    return (*(own if precision == "float32" else map(bfloat16, own)), a, b)


@precisions
@pytest.mark.parametrize("lanes", [1, 2, 3, 16, 353])
def test_a_tile_of_whole_numbers_is_exact(precision: str, lanes: int) -> None:
    """Numbers so small that no sum is rounded: whatever is in the wrong place shows."""
    for rows in range(1, ROWS + 1):
        a, b, a_exact, b_exact = operands(precision, rows, lanes * GROUP[precision], largest=100)
        np.testing.assert_array_equal(tile(precision, a, b), a_exact @ b_exact)


def test_int8_at_its_ends_does_not_saturate() -> None:
    """255 * 127 * 4 does not fit 16 bits, which some processors' products of 8 bits go through."""
    for end in (ZERO - 128, ZERO + 127):
        a, b = np.full((ROWS, 4096), end, LEFT), np.full((4096, 32), 127, np.int8)
        b[:, ::2] = -128
        np.testing.assert_array_equal(tile("int8", a, b), a.astype(np.int64) @ b)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("lanes", [1, 7, 384])
def test_a_tile_of_any_numbers_is_off_by_its_roundings(precision: str, lanes: int) -> None:
    """Products in one precision, sums in float32: at most one rounding a term, and one a product."""
    rng, n = np.random.default_rng(lanes), lanes * GROUP[precision]
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((ROWS, n), (n, 32)))
    if precision == "bfloat16":
        a, b = to_bfloat16(a), to_bfloat16(b)
    own = (a, b) if precision == "float32" else (bfloat16(a), bfloat16(b))
    size = np.abs(a).astype(np.float64) @ np.abs(b)
    off = np.abs(tile(precision, *own) - a.astype(np.float64) @ b)
    assert (off <= (n + 1) * UNIT * size).all()
    assert (off <= 8 * UNIT * size).all()  # measured over 20 seeds: 3.4 in float32, 2.2 in bfloat16


@precisions
def test_a_row_has_the_same_bits_alone_and_among_others(precision: str) -> None:
    rng, n = np.random.default_rng(0), 40 * GROUP[precision]
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((ROWS, n), (n, 32)))
    if precision == "int8":
        a, b = ((50 * x).astype(kind) for x, kind in ((np.abs(a) / 2, LEFT), (b / 2, np.int8)))
    elif precision == "bfloat16":
        a, b = bfloat16(a), bfloat16(b)
    whole = tile(precision, a, b)
    for rows in range(1, ROWS + 1):
        for first in (0, ROWS - rows):
            got = tile(precision, np.ascontiguousarray(a[first : first + rows]), b)
            assert got.tobytes() == whole[first : first + rows].tobytes(), (rows, first)


@precisions
def test_a_row_of_a_product_has_the_same_bits_in_any_batch(precision: str) -> None:
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((5 * ROWS + 3, 70)).astype(np.float32), rng.standard_normal((70, 100)).astype("float32")
    packed = pack(w, precision)
    whole = FAST.linear(x, packed)
    for first, last in ((0, 1), (3, 4), (5, 5 + ROWS), (7, 2 * ROWS + 8), (len(x) - 1, len(x))):
        assert FAST.linear(x[first:last], packed).tobytes() == whole[first:last].tobytes()


def unpacked(w: Packed) -> np.ndarray:
    """The weight that the panels hold, in float64."""
    count, steps, _ = w.panels.shape
    terms = w.panels.view(TYPES[w.precision]).reshape(count, steps, 16, w.group)
    if w.precision == "int8" and WIDE[4]:
        terms = terms.reshape(count, steps, 2, 16, 2).transpose(0, 1, 3, 2, 4).reshape(terms.shape)
    if w.precision == "bfloat16":
        terms = (terms.astype(np.uint32) << 16).view(np.float32)
    rows = terms.transpose(1, 3, 0, 2).reshape(steps * w.group, 16 * count).astype(np.float64)
    a, o = w.shape
    assert not rows[a:].any() and not rows[:, o:].any(), "what is behind the end is zero"
    scaled = rows * w.scales if w.precision == "int8" else rows
    return scaled[:a, :o]


SHAPES = [(1, 1), (16, 16), (16, 32), (3, 33), (17, 47), (5, 1), (1, 65), (64, 2010)]


@precisions
@pytest.mark.parametrize("shape", SHAPES)
def test_packing_keeps_every_number(precision: str, shape: tuple[int, int]) -> None:
    w = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    packed = pack(w, precision)
    assert packed.panels.ctypes.data % 64 == 0 and len(packed.panels) % 2 == 0
    got = unpacked(packed)
    if precision == "int8":
        assert (np.abs(got - w) <= np.abs(w).max(axis=0) / 254 * (1 + 1e-6)).all(), "half a step, a column's own"
        assert np.abs(packed.panels.view(np.int8)).max() == 127
        whole = packed.panels.view(np.int8).reshape(len(packed.panels), -1, 16, 4)
        np.testing.assert_array_equal(packed.offsets, ZERO * whole.sum(axis=(1, 3), dtype=np.int64).ravel())
    else:
        np.testing.assert_array_equal(got, w if precision == "float32" else to_bfloat16(w))
    assert FAST.to_host(packed) is w


@precisions
@pytest.mark.parametrize("shape", SHAPES)
def test_products_of_every_size(precision: str, shape: tuple[int, int]) -> None:
    """Against the same product in float64 of what the numbers became; of whole numbers, for int8, bit by bit."""
    rng = np.random.default_rng(2)
    w, x = rng.integers(-127, 128, shape).astype(np.float32), rng.integers(-127, 128, (ROWS + 1, shape[0]))
    w[0], x[:, 0] = 127, 127  # so that the largest is 127, and int8's scale 1
    x = x.astype(np.float32)
    np.testing.assert_array_equal(FAST.linear(x, pack(w, precision)), x.astype(np.float64) @ w)
    table = as_table(pack(w.T.copy().T, precision), w.T.copy())
    np.testing.assert_array_equal(FAST.lm_head_logits(table, x), x.astype(np.float64) @ w)
    np.testing.assert_array_equal(FAST.embed(table, np.array([0, shape[1] - 1])), w.T[[0, -1]])


def test_int8_columns_and_rows_of_zeros() -> None:
    w, x = np.ones((6, 40), np.float32), np.ones((3, 6), np.float32)
    w[:, 5], x[1] = 0, 0
    exact = x @ w
    got = FAST.linear(x, pack(w, "int8"))
    np.testing.assert_allclose(got, exact, rtol=2e-7)
    assert not got[:, 5].any() and not got[1].any()
    assert not FAST.linear(x, pack(np.zeros((6, 3), np.float32), "int8")).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_int8_refuses_weights_that_are_no_numbers(bad: float) -> None:
    w = np.ones((5, 7), np.float32)
    w[2, 3] = bad
    with pytest.raises(
        InputError, match=r"int8 weights: expected finite numbers; got inf or nan; use float32 or bfloat16"
    ):
        pack(w, "int8")
    for precision in ("float32", "bfloat16"):  # these can say it
        got = FAST.linear(np.ones((1, 5), np.float32), pack(w, precision))[0]
        assert not np.isfinite(got[3]) and np.isfinite(np.delete(got, 3)).all()


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(InputError, match=r"precision: expected one of float32, bfloat16, int8; got 'int4'"):
        pack(np.ones((2, 2), np.float32), "int4")


@numba.njit
def run_prepare(x: Any, gain: Any, eps: float, terms: int, out: Any, scales: Any) -> None:
    prepare(x, gain, eps, terms, out, scales, 0, len(x))


def prepared(x: np.ndarray, precision: str, gain: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Rows [N n] in the panels' own type, whole lanes of n, and int8's scales."""
    group = GROUP[precision]
    out, scales = aligned(len(x), row_stride(x.shape[1], group), dtype=np.uint8), np.zeros(len(x), np.float32)
    out[:] = 77
    run_prepare(x, np.empty(0, np.float32) if gain is None else gain, 1e-6, group, out, scales)
    kind = LEFT if precision == "int8" else TYPES[precision]
    terms, wide = -(-x.shape[1] // group) * group, {"bfloat16": np.uint32, "int8": np.int16}
    if not WIDE[group]:
        return np.ascontiguousarray(out[:, : terms * np.dtype(kind).itemsize]).view(kind), scales
    rows = np.ascontiguousarray(out[:, : terms * np.dtype(wide[precision]).itemsize]).view(wide[precision])
    if precision == "bfloat16":
        assert not (rows & 0xFFFF).any()
        return (rows >> 16).astype(kind), scales
    return rows.astype(kind), scales


@pytest.mark.parametrize("n", [1, 3, 16, 37, 128])
def test_rows_are_prepared(n: int) -> None:
    x = (np.random.default_rng(n).standard_normal((5, n)) * np.array([[1e-30], [1e-3], [1], [1e5], [1e30]])).astype(
        "f4"
    )
    np.testing.assert_array_equal(prepared(x, "float32")[0], x)
    halves, _ = prepared(x, "bfloat16")
    np.testing.assert_array_equal(halves[:, :n], bfloat16(x))
    assert not halves[:, n:].any()
    whole, scales = prepared(x, "int8")
    np.testing.assert_allclose(scales, np.abs(x).max(axis=1) / 127, rtol=2e-7)
    assert (whole[:, n:] == ZERO).all() and whole.min() >= ZERO - 127
    back = (whole[:, :n].astype(np.float64) - ZERO) * scales[:, None]
    assert (np.abs(back - x) <= 0.5001 * scales[:, None]).all()


@pytest.mark.parametrize("n", [1, 16, 37, 768])
def test_rows_are_normalised_first(n: int) -> None:
    x, gain = np.random.default_rng(n).standard_normal((4, n)).astype(np.float32), np.linspace(0.5, 2, n, dtype="f4")
    exact = x / np.sqrt((x.astype(np.float64) ** 2).mean(axis=1, keepdims=True) + 1e-6) * gain
    np.testing.assert_allclose(prepared(x, "float32", gain)[0], exact, rtol=4e-7)  # measured: 2.0e-7


@pytest.mark.parametrize(("precision", "bad"), [*product(PRECISIONS, [np.nan, np.inf, -np.inf])])
def test_rows_that_are_no_numbers_give_none(precision: str, bad: float) -> None:
    """Wherever it stands in its row, and only that row."""
    w = pack(np.ones((37, 20), np.float32), precision)
    for at in (0, 15, 16, 36):
        x = np.ones((3, 37), np.float32)
        x[1, at] = bad
        got = FAST.linear(x, w)
        assert not np.isfinite(got[1]).any()
        np.testing.assert_allclose(got[[0, 2]], 37, rtol=1e-6)


def test_bfloat16_rounds_to_nearest_even() -> None:
    cases = {0x3F800000: 0x3F80, 0x3F808000: 0x3F80, 0x3F818000: 0x3F82, 0x3F808001: 0x3F81, 0x7F7FFFFF: 0x7F80}
    cases |= {0xFF800000: 0xFF80, 0x7F800001: 0x7FC0, 0x80000001: 0x8000}
    x = np.array(list(cases), np.uint32).view(np.float32)
    np.testing.assert_array_equal(bfloat16(x), list(cases.values()))
    np.testing.assert_array_equal(prepared(x[None], "bfloat16")[0][0], list(cases.values()))


def test_rows_lie_an_odd_number_of_cache_lines_apart() -> None:
    for terms, group in product((1, 16, 17, 768, 1024, 2048), (1, 2, 4)):
        lines, rest = divmod(row_stride(terms, group), 64)
        assert rest == 0 and lines % 2 == 1 and row_stride(terms, group) * group >= 4 * terms
    assert blocks.prepared(np.zeros((2, 40), np.float32), 40, pack(np.ones((40, 8), np.float32), "int8"))[1].size == 2
