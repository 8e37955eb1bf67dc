"""The backends: each follows the rules, the reference backend is compared with loops, the others with it."""

from __future__ import annotations

import math
import types
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operands import SMALL, Case, arrays, differ, each, read_only, strided
from unwarmed import FAST

from glimmer_ref.errors import InputError
from glimmer_ref.ops import Ops, SequenceLayout, bind, numpy_backend
from glimmer_ref.ops.interface import DIRECTIONS, OPERATIONS
from glimmer_ref.ragged import offsets, token_positions

REFERENCE = bind("numpy")
TOLERANCE = {"float32": 3e-6, "float64": 6e-15}  # largest difference in 1500 examples: 1.1e-6, 1.9e-15
few = settings(max_examples=25)
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


@pytest.fixture(params=["numpy", "numba"])  # "cuda" has tests of its own
def ops(request: pytest.FixtureRequest) -> Ops:
    return bind(request.param)


def test_the_cases_are_all_operations() -> None:
    assert {*SMALL.all("float64"), "to_device", "to_host", "pack", "pack_table"} == set(OPERATIONS)


@dtypes
@pytest.mark.parametrize("name", SMALL.all("float64"))
def test_rules(ops: Ops, name: str, dtype: str) -> None:
    """dtype out is dtype in, inputs stay as they are, and no result is, or shares, an argument."""
    args = SMALL.all(dtype)[name]
    before = each(np.copy, args)
    results = arrays(getattr(ops, name)(*args))
    assert all(r.dtype == (np.int64 if name == "argmax" else dtype) for r in results)
    for old, new in zip(before, args, strict=True):
        for a, b in zip(old, new, strict=True) if isinstance(old, SequenceLayout) else ():
            np.testing.assert_array_equal(a, b)
        if isinstance(old, np.ndarray):
            np.testing.assert_array_equal(old, new)
            assert not any(np.shares_memory(new, r) for r in results)


@dtypes
@pytest.mark.parametrize("change", [strided, read_only, np.asfortranarray])
@pytest.mark.parametrize("name", SMALL.all("float64"))
def test_any_layout_gives_the_same(ops: Ops, name: str, change: Callable[..., Any], dtype: str) -> None:
    args = SMALL.all(dtype)[name]
    result = getattr(ops, name)(*each(change, args))
    assert differ(result, getattr(ops, name)(*args)) <= TOLERANCE[dtype]


lengths = st.lists(
    st.tuples(st.sampled_from([1, 1, 2, 3, 8, 17, 40, 195]), st.sampled_from([0, 0, 1, 9, 60])).map(
        lambda t: (t[0], t[0] + t[1])
    ),
    min_size=1,
    max_size=4,
)
cases = st.builds(Case, lengths, st.sampled_from([1, 2, 3, 5]), st.sampled_from([1, 3, 8, 13, 16]), st.integers(0, 99))


@dtypes
@few
@given(case=cases, bias=st.booleans(), causal=st.booleans())
def test_the_cpu_backend_is_the_reference_backend(case: Case, bias: bool, causal: bool, dtype: str) -> None:
    for name, args in case.all(dtype, bias, causal).items():
        assert differ(getattr(FAST, name)(*args), getattr(REFERENCE, name)(*args)) <= TOLERANCE[dtype], name


def naive_probs(
    q: np.ndarray, k: np.ndarray, bias: Any, layout: SequenceLayout, heads: int, causal: bool
) -> list[np.ndarray]:
    """softmax_j(sum_c q_ic k_jc + bias[D + position_j - position_i]), number by number."""
    result, c = [], q.shape[1] // heads
    qs, ks = offsets(layout.query_lengths), offsets(layout.key_lengths)
    for s in range(len(layout.query_lengths)):
        probs = np.zeros((heads, layout.query_lengths[s], layout.key_lengths[s]))
        for h, i in np.ndindex(*probs.shape[:2]):
            weights = []
            for j in range(probs.shape[2]):
                distance = int(layout.key_positions[ks[s] + j]) - int(layout.query_positions[qs[s] + i])
                score = math.fsum(q[qs[s] + i, h * c + e] * k[ks[s] + j, h * c + e] for e in range(c))
                score += 0 if bias is None else bias[len(bias) // 2 + distance, h]
                weights.append(0.0 if causal and distance > 0 else math.exp(score))
            probs[h, i] = np.array(weights) / math.fsum(weights)
        result.append(probs)
    return result


@pytest.mark.parametrize(("bias", "causal"), list(product([True, False], repeat=2)))
def test_attention_is_its_definition(ops: Ops, bias: bool, causal: bool) -> None:
    case = Case([(3, 3), (1, 1), (2, 5)], heads=2, c=3)
    args = case.attention("float64", bias, causal)
    v, probs = args[2], naive_probs(*args[:2], *args[3:])
    mixed = []
    for s, start in enumerate(offsets(case.n_keys)[:-1]):
        for i in range(case.n[s]):
            row = [
                math.fsum(probs[s][h, i, j] * v[start + j, 3 * h + e] for j in range(case.n_keys[s]))
                for h, e in product(range(2), range(3))
            ]
            mixed.append(row)
    assert differ(ops.attention_probs(*args[:2], *args[3:]), probs) < 1e-15 * 8
    assert differ(ops.attention(*args), np.array(mixed)) < 1e-15 * 8


@dtypes
@pytest.mark.parametrize(("bias", "causal"), list(product([True, False], repeat=2)))
def test_factors_multiply_the_probabilities(ops: Ops, bias: bool, causal: bool, dtype: str) -> None:
    """softmax * dropout_mask times v, the mask in the order sequence, head, query, key; of ones it changes nothing."""
    case = Case([(3, 3), (1, 1), (20, 50)], heads=2, c=5)
    args = case.attention(dtype, bias, causal)
    dropout_mask = ((case.rng.random(2 * (9 + 1 + 1000)) >= 0.4) / 0.6).astype(dtype)
    mixed, place, keys = [], 0, offsets(case.n_keys)
    for s, probs in enumerate(REFERENCE.attention_probs(*args[:2], *args[3:])):
        values = args[2][keys[s] : keys[s + 1]].reshape(-1, 2, 5)
        weights = dropout_mask[place : place + probs.size].reshape(probs.shape) * probs
        mixed.append(np.stack([weights[h] @ values[:, h] for h in range(2)], axis=1).reshape(-1, 10))
        place += probs.size
    assert differ(ops.attention(*args, dropout_mask), np.concatenate(mixed)) <= TOLERANCE[dtype]
    assert differ(ops.attention(*args, np.ones_like(dropout_mask)), ops.attention(*args)) <= TOLERANCE[dtype]
    with pytest.raises(ValueError):  # the reference backend's is NumPy's own
        ops.attention(*args, dropout_mask[:-1])


def test_rank_kl_is_its_definition(ops: Ops) -> None:
    scores, log_p = np.array([1.0, 2, -1, 0.5, 3]), np.array([-2.0, -9, -4, -1, -30])
    for direction in DIRECTIONS:
        expected = []
        for part in (slice(0, 3), slice(3, 5)):
            shares = [[math.exp(a / 0.8) for a in x[part]] for x in (scores, log_p)]
            p, q = ([w / math.fsum(x) for w in x] for x in (shares if direction == "printed" else shares[::-1]))
            expected.append(math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
        got = ops.rank_kl(scores, log_p, np.array([3, 2]), 0.8, direction)
        np.testing.assert_allclose(got, expected, rtol=1e-14)
    assert ops.rank_kl(scores, scores, np.array([4, 1]), 0.1, "printed").tolist() == [0, 0]


def test_rows_are_their_definitions(ops: Ops) -> None:
    x, y, gain = SMALL.array(4, 7), SMALL.array(4, 7), SMALL.array(7)
    norm, gelu = np.zeros_like(x), np.zeros_like(x)
    for i, j in np.ndindex(*x.shape):
        a = x[i, j]
        norm[i, j] = a / math.sqrt(math.fsum(e * e for e in x[i]) / 7 + 1e-6) * gain[j]
        gelu[i, j] = a / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3))) * y[i, j]
    assert differ(ops.rms_norm(x, gain, 1e-6), norm) < 1e-15
    assert differ(ops.gated_gelu(x, y), gelu) < 1e-15
    targets, lengths = np.array([3, 0, 6, 6]), np.array([1, 3])
    log_p = [x[t, targets[t]] - math.log(math.fsum(map(math.exp, x[t]))) for t in range(4)]
    assert differ(ops.log_likelihood(x, targets, lengths), np.array([log_p[0], math.fsum(log_p[1:])])) < 1e-15


def test_eps_and_the_tanh_form_count(ops: Ops) -> None:
    """Two mistakes that looser tolerances would not find: another eps, and the exact GELU."""
    x = SMALL.array(3, 8, size=0.1)
    assert differ(ops.rms_norm(x, x[0], 1e-5), ops.rms_norm(x, x[0], 1e-6)) > 1e-5
    exact = np.vectorize(lambda a: a / 2 * (1 + math.erf(a / math.sqrt(2))))(5 * x)
    assert differ(ops.gated_gelu(5 * x, np.ones_like(x)), exact) > 1e-6


def test_ragged_moves(ops: Ops) -> None:
    x, y = np.arange(12.0).reshape(6, 2), -np.arange(6.0).reshape(3, 2)
    n = np.array([1, 3, 2])
    np.testing.assert_array_equal(
        ops.interleave_concat(x, n, y, np.array([1, 1, 1]))[:, 0], [0, 0, 2, 4, 6, -2, 8, 10, -4]
    )
    np.testing.assert_array_equal(ops.gather_sequences(x, n, np.array([2, 0, 2]))[:, 0], [8, 10, 0, 8, 10])
    assert ops.gather_sequences(x, n, np.array([], np.int64)).shape == (0, 2)
    np.testing.assert_array_equal(ops.first_token(x, n)[:, 0], [0, 2, 8])
    np.testing.assert_array_equal(ops.mean(x, n)[:, 0], [0, 4, 9])


def test_ties_go_to_the_lower_index(ops: Ops) -> None:
    np.testing.assert_array_equal(ops.argmax(np.array([[1.0, 3, 3], [2, 2, 2], [0, -1, 0]])), [1, 0, 0])


@dtypes
def test_equal_rows_dot_to_equal_bits(ops: Ops, dtype: str) -> None:
    x = np.tile(SMALL.array(1, 65, dtype=dtype), (9, 1))
    assert len(set(ops.dot(x, SMALL.array(65, 1, dtype=dtype)).tolist())) == 1


@dtypes
def test_large_numbers_do_not_overflow(ops: Ops, dtype: str) -> None:
    """Softmax subtracts the largest score first; GELU of a large number is the number or 0."""
    q, k, v, _, layout, heads, _ = SMALL.attention(dtype)
    for name in ("attention", "log_likelihood"):
        args = (1e4 * q, k, v, None, layout, heads, True) if name == "attention" else ()
        args = args or (1e6 * q, np.zeros(len(q), np.int64), SMALL.n)
        assert np.isfinite(getattr(ops, name)(*args)).all()
    far = np.array([[-1e4, -200, -90, -5, 0, 5, 90, 200, 1e4]], dtype)
    gelu = ops.gated_gelu(far, np.ones_like(far))
    np.testing.assert_allclose(gelu, np.maximum(far, 0), rtol=2e-7, atol=2e-6)
    probs = ops.attention_probs(np.array([[1e4]], dtype), np.array([[1], [0.5], [-1]], dtype), None, FAR, 1, False)
    np.testing.assert_array_equal(probs[0], [[[1, 0, 0]]])


FAR = SequenceLayout(np.array([1]), np.array([3]), np.zeros(1, np.int32), np.arange(3, dtype=np.int32))


@dtypes
def test_softmax_is_exact_for_every_distance(ops: Ops, dtype: str) -> None:
    """Each number to a few units in its last place; differences relative to the largest number would not show these."""
    below = np.linspace(-80, 0, 5001).astype(dtype)
    layout = SequenceLayout(np.array([1]), np.array([5001]), np.zeros(1, np.int32), token_positions(np.array([5001])))
    (probs,) = ops.attention_probs(np.ones((1, 1), dtype), below[:, None], None, layout, 1, False)
    np.testing.assert_allclose(probs[0, 0] / probs.max(), np.exp(below.astype("float64")), rtol=3 * np.finfo(dtype).eps)


@dtypes
@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_a_number_is_not_hidden(ops: Ops, bad: float, dtype: str) -> None:
    """NaN or infinity in an operand gives NaN or infinity in the result, at every position of a row."""
    for at in range(0, 40, 13):
        x = SMALL.array(2, 40, dtype=dtype)
        x[1, at] = bad
        assert not np.isfinite(ops.log_likelihood(x, np.array([1, 1]), np.array([1, 1]))[1])
        assert not np.isfinite(ops.gated_gelu(x, x)[1, at])
        assert np.isnan(ops.rms_norm(x, x[0], 1e-6)[1]).any()
        layout = SequenceLayout(
            np.array([2]), np.array([40]), token_positions(np.array([2])), token_positions(np.array([40]))
        )
        scores = ops.attention(x[:, :1] * 0 + 1, x[1][:, None], x[0][:, None], None, layout, 1, False)
        assert np.isnan(scores).all()


def test_a_backend_must_be_complete() -> None:
    backend = types.ModuleType("half")
    for name in OPERATIONS:
        setattr(backend, name, getattr(numpy_backend, name))
    Ops(backend)
    backend.relu = lambda x: x
    del backend.argmax
    with pytest.raises(
        InputError, match=r"half: expected every operation of the op interface; got no relu\(a\), argmax"
    ):
        Ops(backend)
    with pytest.raises(InputError, match="one of numpy, numba, cuda; got 'jax'"):
        bind("jax")


@pytest.mark.parametrize("direction", ["printed", "reverse"])
def test_a_scalar_of_numpy_widens_nothing_with_numpy(direction: str) -> None:
    """A float64 scalar of NumPy would make a float32 product float64: the same bits as from Python's number."""
    x, dy, counts, tau = SMALL.array(5, dtype="float32"), SMALL.array(2, dtype="float32"), np.array([3, 2]), 0.7
    y = SMALL.array(5, dtype="float32")
    for plain, wide in (
        [numpy_backend.scale(x, factor) for factor in (tau, np.float64(tau))],
        [numpy_backend.scale_backward(x, x, factor)[0] for factor in (tau, np.float64(tau))],
        [numpy_backend.rank_kl(x, y, counts, t, direction) for t in (tau, np.float64(tau))],
        [np.stack(numpy_backend.rank_kl_backward(dy, x, y, counts, t, direction)) for t in (tau, np.float64(tau))],
    ):
        assert wide.dtype == np.float32
        np.testing.assert_array_equal(wide, plain)
