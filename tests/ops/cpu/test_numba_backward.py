"""The fast backend's backward against the reference's: shapes, threads, inputs, and a whole model's tape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import numba
import numpy as np
import pytest
from models import T5, config, tokens
from operands import Case, each, read_only, strided

from glimmer_ref.errors import InputError
from glimmer_ref.instruments import Dropout, Tape
from glimmer_ref.ops import Ops, SequenceLayout, numpy_backend
from glimmer_ref.ops.cpu import ops as cpu_ops
from glimmer_ref.ops.cpu.kernels import attention_backward, elementwise_backward, gemm_backward
from glimmer_ref.ops.cpu.runtime import thread_pool
from glimmer_ref.ops.interface import OPERANDS
from glimmer_ref.paper.distillation import Distillation
from glimmer_ref.paper.lumen import encode_passages
from glimmer_ref.paper.systems import loss
from glimmer_ref.params.model import leaves, prepare_params, random
from glimmer_ref.ragged import token_positions

pytestmark = pytest.mark.once
SLOW, FAST = Ops(numpy_backend), Ops(cpu_ops)  # not bound: only the kernels that are called are compiled
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
CLOSE = {"float32": 2e-6, "float64": 5e-14}  # largest seen, relative to the largest number or 1: 1.1e-6, 4.8e-15

CASES = {
    "one": Case([(1, 1)], heads=1, c=2, seed=4),
    "small": Case([(4, 4), (1, 6), (3, 7)], heads=3, c=5),
    "many": Case([(30, 30), (17, 17), (33, 33), (1, 1), (16, 16)] * 5, heads=3, c=32, seed=1),  # more than runs
    "long": Case([(70, 70), (129, 150)], heads=2, c=64, seed=2),  # more than the queries of one block
    "across": Case([(4, 150), (3, 90), (2, 31), (1, 5)], heads=3, c=32, seed=3),
    "wide": Case([(20, 40)], heads=1, c=48, seed=5),
}


def arguments(case: Case, name: str, dtype: str, bias: bool, causal: bool, dropout_mask: bool) -> tuple[Any, ...]:
    args = case.all(dtype, bias, causal)[name]
    if name == "attention" and dropout_mask:
        size = case.heads * int((case.n * case.n_keys).sum())
        args = (*args, ((case.rng.random(size) >= 0.3) / 0.7).astype(dtype))
    return args


def hold(name: str, args: tuple[Any, ...], dtype: str) -> None:
    """Forward and backward against the reference backend's in float64, what went in as it was before."""
    exact = tuple(each(lambda x: x.astype("float64") if x.dtype == dtype else x, args))
    expected_y = getattr(SLOW, name)(*exact)
    dy = np.random.default_rng(1).standard_normal(expected_y.shape).astype(dtype)
    before = each(np.copy, (dy, *args))
    y, got = getattr(FAST, name)(*args), FAST.backward[name](dy, *args)
    expected = SLOW.backward[name](dy.astype("float64"), *exact)
    for x, right in zip((y, *got), (expected_y, *expected), strict=True):
        assert (x is None) is (right is None)
        if x is not None:
            assert x.shape == right.shape and x.dtype == dtype
            assert np.abs(x - right).max(initial=0) <= CLOSE[dtype] * np.abs(right).max(initial=1), name
    for old, new in zip(before, each(np.asarray, (dy, *args)), strict=True):
        if isinstance(old, np.ndarray):
            np.testing.assert_array_equal(old, new)


@dtypes
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", [name for name in OPERANDS if name != "attention"])
def test_an_operation(name: str, case: str, dtype: str) -> None:
    hold(name, arguments(CASES[case], name, dtype, True, False, False), dtype)


@dtypes
@pytest.mark.parametrize("case", CASES)
def test_attention(case: str, dtype: str) -> None:
    for bias, causal, dropout_mask in product((True, False), repeat=3):
        hold("attention", arguments(CASES[case], "attention", dtype, bias, causal, dropout_mask), dtype)


@dtypes
def test_positions_in_any_order(dtype: str) -> None:
    """Distances that do not rise by one from key to key are found one by one."""
    case = CASES["many"]
    q, k, v, _, layout, heads, _ = case.attention(dtype)
    far = SequenceLayout(*layout[:2], case.rng.integers(0, 60, len(q)), case.rng.integers(0, 60, len(k)))
    bias = case.array(121, heads, dtype=dtype)
    for causal in (False, True):
        far.key_positions[layout.key_lengths.cumsum() - 1] = 0  # each query sees one key at least
        hold("attention", (q, k, v, bias, far, heads, causal), dtype)


@dtypes
def test_nothing_at_all(dtype: str) -> None:
    """No queries, no rows, no ids: cotangents of 0."""
    none, lengths = np.zeros((0, 6), dtype), np.zeros(0, np.int64)
    hold("rms_norm", (none, np.ones(6, dtype), 1e-6), dtype)
    hold("gated_gelu", (none, none), dtype)
    hold("embed", (np.ones((3, 2), dtype), lengths), dtype)
    k, layout = (
        np.ones((5, 6), dtype),
        SequenceLayout(np.zeros(2, int), np.array([2, 3]), lengths, token_positions(np.array([2, 3]))),
    )
    for bias in (None, np.ones((11, 2), dtype)):
        got = FAST.backward["attention"](none, none, k, k, bias, layout, 2, False)
        assert [None if g is None else (g.shape, g.any()) for g in got] == [
            ((0, 6), False), ((5, 6), False), ((5, 6), False), None if bias is None else ((11, 2), False)
        ]  # fmt: skip


@dtypes
def test_keys_that_nobody_looks_at(dtype: str) -> None:
    """Their cotangents are 0, and the others' those without them."""
    q, k, v, bias, layout, heads, causal = Case([(4, 9), (3, 7)]).attention(dtype)
    lengths, among = np.array([4, 0, 3]), np.r_[0:9, 0:2, 9:16]
    more = layout._replace(
        query_lengths=lengths, key_lengths=np.array([9, 2, 7]), key_positions=layout.key_positions[among]
    )
    got = FAST.backward["attention"](q, q, k[among], v[among], bias, more, heads, causal)
    expected = FAST.backward["attention"](q, q, k, v, bias, layout, heads, causal)
    for x, right in zip(got, expected, strict=True):
        np.testing.assert_allclose(np.delete(x, [9, 10], axis=0) if len(x) == 18 else x, right, rtol=1e-6, atol=1e-7)
    assert not got[1][9:11].any() and not got[2][9:11].any()


@dtypes
def test_ids_that_come_often(dtype: str) -> None:
    """Rows are added in their order, as the reference backend does it: to the last bit."""
    rng = np.random.default_rng(0)
    table, ids = np.ones((50, 33), dtype), rng.integers(0, 50, 4000) // 3
    dy = rng.standard_normal((4000, 33)).astype(dtype)
    np.testing.assert_array_equal(FAST.backward["embed"](dy, table, ids)[0], SLOW.backward["embed"](dy, table, ids)[0])


SIZES = [(1, 1, 1), (1, 96, 33), (17, 16, 32), (100, 7, 70), (513, 48, 96), (1100, 33, 530), (40, 20, 1024)]


@pytest.mark.parametrize("precision", [None, "float32", "bfloat16", "int8"])
@pytest.mark.parametrize(("n", "a", "o"), SIZES)
def test_products(n: int, a: int, o: int, precision: str | None) -> None:
    """Of many rows and few, of plain weights and packed ones, whose gradients are those of what was packed."""
    rng = np.random.default_rng(n)
    x, w, dy = (rng.standard_normal(shape).astype("float32") for shape in ((n, a), (a, o), (n, o)))
    packed = w if precision is None else cpu_ops.pack(w, precision)
    table = w.T if precision is None else cpu_ops.pack_table(w.T, precision)
    before = each(np.copy, (dy, x, w))
    got = (*FAST.backward["linear"](dy, x, packed), *FAST.backward["lm_head_logits"](dy, table, x))
    dx, dw = dy.astype(float) @ w.T.astype(float), x.T.astype(float) @ dy.astype(float)
    for y, right in zip(got, (dx, dw, dw.T, dx), strict=True):
        assert y.dtype == "float32" and y.shape == right.shape
        assert np.abs(y - right).max() <= CLOSE["float32"] * np.abs(right).max(initial=1)
    for old, new in zip(before, (dy, x, w), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("name", ["linear", "lm_head_logits"])
def test_products_of_no_rows(name: str) -> None:
    x, w, dy = np.ones((0, 5), "float32"), np.ones((5, 7), "float32"), np.ones((0, 7), "float32")
    args = (dy, x, w) if name == "linear" else (dy, w.T, x)
    for got, operand in zip(FAST.backward[name](*args), args[1:], strict=True):
        assert got.shape == operand.shape and not got.any()


@pytest.fixture
def two_threads() -> Iterator[None]:
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("one processor")
    before = numba.get_num_threads()
    yield
    numba.set_num_threads(before)


@dtypes
@pytest.mark.usefixtures("two_threads")
def test_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    monkeypatch.setattr(thread_pool, "WORTH_A_THREAD", 1)
    case = Case([(60, 60), (1, 30), (200, 210), (20, 20)] * 6)
    for name, dropout_mask in ((n, k) for n in OPERANDS for k in ((False, True) if n == "attention" else (False,))):
        args, results = arguments(case, name, dtype, True, False, dropout_mask), []
        dy = case.array(*getattr(FAST, name)(*args).shape, dtype=dtype)
        for count in (1, 2, 2):
            numba.set_num_threads(count)
            got = (getattr(FAST, name)(*args), *FAST.backward[name](dy, *args))
            results.append([r.tobytes() for r in got])
        assert results[0] == results[1] == results[2], name


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("n", "a", "o"), SIZES)
def test_threads_change_no_bit_of_products(monkeypatch: pytest.MonkeyPatch, n: int, a: int, o: int) -> None:
    monkeypatch.setattr(thread_pool, "WORTH_A_THREAD", 1)
    rng, results = np.random.default_rng(n), []
    x, w, dy = (rng.standard_normal(shape).astype("float32") for shape in ((n, a), (a, o), (n, o)))
    for count in (1, 2, 2):
        numba.set_num_threads(count)
        got = (*cpu_ops.linear_backward(dy, x, w), *cpu_ops.lm_head_logits_backward(dy, w.T, x))
        results.append([r.tobytes() for r in got])
    assert results[0] == results[1] == results[2]


@dtypes
def test_one_signature_serves_every_layout(dtype: str) -> None:
    kernels = (
        elementwise_backward.rms_norm_backward, elementwise_backward.gated_gelu_backward,
        elementwise_backward.embed_backward,
        elementwise_backward.log_likelihood_backward, attention_backward.attention_backward_kernel,
        attention_backward.dropout_attention_kernel, gemm_backward.products_backward_kernel,
    )  # fmt: skip
    names = ("rms_norm", "gated_gelu", "embed", "log_likelihood", "attention", "linear", "lm_head_logits")
    for change, name in product((strided, read_only), names):
        args = arguments(CASES["small"], name, dtype, True, False, True)
        y = getattr(FAST, name)(*each(change, args))
        got = FAST.backward[name](change(y), *each(change, args))
        # kernels give the same bits; in float64 products are BLAS's, which may sum a strided matrix otherwise
        room = 1e-12 if dtype == "float64" and name in ("linear", "lm_head_logits") else 0
        for x, right in zip(got, FAST.backward[name](y, *args), strict=True):
            np.testing.assert_allclose(x, right, rtol=room, atol=room)
    assert all(len(k.run.signatures) <= 1 for k in kernels)


def test_a_cotangent_that_does_not_fit_is_refused() -> None:
    """Before a kernel could read behind its end."""
    for name in ("embed", "rms_norm", "gated_gelu", "log_likelihood", "attention", "linear", "lm_head_logits"):
        args = arguments(CASES["small"], name, "float32", True, False, True)
        dy = getattr(FAST, name)(*args)
        with pytest.raises(InputError, match=name):
            FAST.backward[name](dy[1:], *args)
    *attention, dropout_mask = arguments(CASES["small"], "attention", "float32", True, False, True)
    for call in (FAST.attention, lambda *a: FAST.backward["attention"](attention[0], *a)):
        with pytest.raises(InputError, match="attention dropout_mask"):
            call(*attention, dropout_mask[1:])
    table, ids = np.ones((3, 2), "float32"), np.array([0, 3])
    with pytest.raises(IndexError):
        FAST.backward["embed"](np.ones((2, 2), "float32"), table, ids)


SETTINGS = config(t5=replace(T5, d_kv=16, vocab_size=61), score_norm=True)
QUESTION, PASSAGES = tokens([5, 7], 2), tokens([4, 9, 1, 6, 12, 3, 17], 3)
COUNTS, TARGET = np.array([4, 3]), tokens([2, 4], 9)


def gradients(ops: Ops, dtype: str, packed: bool, rate: float) -> dict[str, np.ndarray]:
    """Of every weight of a whole GLIMMER that ranks, reads and distils."""
    plain = random(SETTINGS, 0, dtype)
    w, tape = prepare_params(ops, plain) if packed else plain, Tape(ops)
    outer = Dropout(tape, rate, np.random.default_rng(4))
    passages = encode_passages(outer, w, PASSAGES)
    got = loss(outer, w, "glimmer", QUESTION, passages, COUNTS, TARGET, 2, Distillation(gradient=True))
    return tape.gradients(got.output_grads, leaves(w))


@pytest.mark.parametrize(("dtype", "close"), [("float32", 2e-5), ("float64", 2e-13)])  # seen: 3.1e-6, 1.6e-14
@pytest.mark.parametrize("rate", [0.0, 0.2])
def test_every_weight_of_a_whole_model(dtype: str, close: float, rate: float) -> None:
    expected = gradients(SLOW, "float64", False, rate)
    for packed in (False, True):
        got = gradients(FAST, dtype, packed, rate)
        for name, right in expected.items():
            assert got[name].shape == right.shape and got[name].dtype == dtype
            assert np.abs(got[name] - right).max() <= close * max(np.abs(right).max(), 0.1), name
