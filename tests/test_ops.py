"""The tellings of the operations: each by the rules, the oracle by naive loops, the others by the oracle."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glimmer_ref.arrays import offsets, places
from glimmer_ref.errors import Refused
from glimmer_ref.ops import TELLINGS, Ops, Spans, bind, numba_kernels, numpy_ops, threads
from glimmer_ref.ops.contract import OPERATIONS

ORACLE, FAST = bind("numpy"), bind("numba")
TOLERANCE = {"float32": 3e-6, "float64": 6e-15}  # largest difference in 1500 examples: 1.1e-6, 1.9e-15
few = settings(max_examples=25, deadline=None)
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


@pytest.fixture(params=TELLINGS)
def ops(request: pytest.FixtureRequest) -> Ops:
    return bind(request.param)


class Case:
    """Random operands for every operation.

    Args:
        lengths: queries and keys of each sequence.
    """

    def __init__(self, lengths: list[tuple[int, int]], heads: int = 3, c: int = 5, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.heads, self.c = heads, c
        self.n, self.n_keys = (np.array(x, np.int64) for x in zip(*lengths, strict=True))
        past = np.maximum(self.n_keys - self.n, 0)
        self.spans = Spans(self.n, self.n_keys, places(self.n, start=past), places(self.n_keys))
        self.reach = int(max(self.n.max() + past.max(), self.n_keys.max()))

    def array(self, *shape: int, dtype: str = "float64", size: float = 1) -> np.ndarray:
        return (size * self.rng.standard_normal(shape)).astype(dtype)

    def attention(self, dtype: str, bias: bool = True, causal: bool = True) -> tuple[Any, ...]:
        """q, k, v, bias, spans, heads, causal."""
        wide, size = self.heads * self.c, self.c**-0.25
        q = self.array(self.n.sum(), wide, dtype=dtype, size=size)
        k = self.array(self.n_keys.sum(), wide, dtype=dtype, size=size)
        v = self.array(self.n_keys.sum(), wide, dtype=dtype)
        table = self.array(2 * self.reach + 1, self.heads, dtype=dtype) if bias else None
        return q, k, v, table, self.spans, self.heads, causal

    def all(self, dtype: str, bias: bool = True, causal: bool = True) -> dict[str, tuple[Any, ...]]:
        """Arguments for every operation but `put` and `get`."""
        rows, b, d = int(self.n.sum()), len(self.n), self.heads * self.c
        x, y, table = (self.array(n, d, dtype=dtype) for n in (rows, rows, 11))
        attention = self.attention(dtype, bias, causal)
        index = self.rng.integers(0, b, b + 1)
        return {
            "embed": (table, self.rng.integers(0, 11, 7)),
            "unembed": (table, x),
            "linear": (x, self.array(d, 9, dtype=dtype)),
            "dot": (x, self.array(d, 1, dtype=dtype)),
            "add": (x, y),
            "scale": (x, 0.3),
            "rms_norm": (x, x[0] + 1, 1e-6),
            "gated_gelu": (3 * x, y),
            "relu": (x,),
            "attention": attention,
            "attention_probs": (*attention[:2], *attention[3:]),
            "join": (x, self.n, attention[1], self.n_keys),
            "take": (x, self.n, index),
            "first": (x, self.n),
            "mean": (x, self.n),
            "argmax": (x,),
            "log_likelihood": (3 * x, self.rng.integers(0, d, rows), self.n),
        }


SMALL = Case([(4, 4), (1, 6), (3, 7)])


def strided(x: np.ndarray) -> np.ndarray:
    """The same numbers, every second of a larger array."""
    wide = np.repeat(x, 2, axis=-1)
    return wide[..., ::2]


def read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


def each(change: Callable[[np.ndarray], np.ndarray], args: tuple[Any, ...]) -> list[Any]:
    """The arguments with every array changed, those of Spans too."""
    fresh = [Spans(*map(change, a)) if isinstance(a, Spans) else a for a in args]
    return [change(a) if isinstance(a, np.ndarray) else a for a in fresh]


def arrays(x: Any) -> list[np.ndarray]:
    return list(x) if isinstance(x, list) else [x]


def differ(x: Any, y: Any) -> float:
    """Largest difference, relative to the largest number, or to 1, the size of the operands."""
    pairs = list(zip(arrays(x), arrays(y), strict=True))
    assert all(a.shape == b.shape and a.dtype == b.dtype for a, b in pairs)
    return max(np.abs(a - b).max(initial=0) / np.abs(b).max(initial=1) for a, b in pairs)


def test_the_cases_are_all_operations() -> None:
    assert {*SMALL.all("float64"), "put", "get"} == set(OPERATIONS)


@dtypes
@pytest.mark.parametrize("name", SMALL.all("float64"))
def test_rules(ops: Ops, name: str, dtype: str) -> None:
    """dtype out is dtype in, inputs stay as they are, and no result is, or shares, an argument."""
    args = SMALL.all(dtype)[name]
    before = each(np.copy, args)
    results = arrays(getattr(ops, name)(*args))
    assert all(r.dtype == (np.int64 if name == "argmax" else dtype) for r in results)
    for old, new in zip(before, args, strict=True):
        for a, b in zip(old, new, strict=True) if isinstance(old, Spans) else ():
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


def test_one_signature_a_dtype_serves_every_layout() -> None:
    kernels = (numba_kernels.attention, numba_kernels.rms_norm, numba_kernels.gated_gelu, numba_kernels.log_probs)
    for change, dtype, name in product((strided, read_only), ("float32", "float64"), ("attention", "rms_norm")):
        getattr(FAST, name)(*each(change, SMALL.all(dtype)[name]))
    assert all(len(k.run.signatures) <= 2 for k in kernels)


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
def test_the_fast_telling_is_the_oracle(case: Case, bias: bool, causal: bool, dtype: str) -> None:
    for name, args in case.all(dtype, bias, causal).items():
        assert differ(getattr(FAST, name)(*args), getattr(ORACLE, name)(*args)) <= TOLERANCE[dtype], name


def naive_probs(q: np.ndarray, k: np.ndarray, bias: Any, spans: Spans, heads: int, causal: bool) -> list[np.ndarray]:
    """softmax_j(sum_c q_ic k_jc + bias[D + position_j - position_i]), number by number."""
    result, c = [], q.shape[1] // heads
    qs, ks = offsets(spans.query_lengths), offsets(spans.key_lengths)
    for s in range(len(spans.query_lengths)):
        probs = np.zeros((heads, spans.query_lengths[s], spans.key_lengths[s]))
        for h, i in np.ndindex(*probs.shape[:2]):
            weights = []
            for j in range(probs.shape[2]):
                distance = int(spans.key_positions[ks[s] + j]) - int(spans.query_positions[qs[s] + i])
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
    """The two slips that looser tolerances let pass: eps of another size, and the exact GELU."""
    x = SMALL.array(3, 8, size=0.1)
    assert differ(ops.rms_norm(x, x[0], 1e-5), ops.rms_norm(x, x[0], 1e-6)) > 1e-5
    exact = np.vectorize(lambda a: a / 2 * (1 + math.erf(a / math.sqrt(2))))(5 * x)
    assert differ(ops.gated_gelu(5 * x, np.ones_like(x)), exact) > 1e-6


def test_ragged_moves(ops: Ops) -> None:
    x, y = np.arange(12.0).reshape(6, 2), -np.arange(6.0).reshape(3, 2)
    n = np.array([1, 3, 2])
    np.testing.assert_array_equal(ops.join(x, n, y, np.array([1, 1, 1]))[:, 0], [0, 0, 2, 4, 6, -2, 8, 10, -4])
    np.testing.assert_array_equal(ops.take(x, n, np.array([2, 0, 2]))[:, 0], [8, 10, 0, 8, 10])
    assert ops.take(x, n, np.array([], np.int64)).shape == (0, 2)
    np.testing.assert_array_equal(ops.first(x, n)[:, 0], [0, 2, 8])
    np.testing.assert_array_equal(ops.mean(x, n)[:, 0], [0, 4, 9])


def test_ties_go_to_the_lower_index(ops: Ops) -> None:
    np.testing.assert_array_equal(ops.argmax(np.array([[1.0, 3, 3], [2, 2, 2], [0, -1, 0]])), [1, 0, 0])


@dtypes
def test_equal_rows_dot_to_equal_bits(ops: Ops, dtype: str) -> None:
    x = np.tile(SMALL.array(1, 65, dtype=dtype), (9, 1))
    assert len(set(ops.dot(x, SMALL.array(65, 1, dtype=dtype)).tolist())) == 1


@dtypes
def test_large_numbers_do_not_overflow(ops: Ops, dtype: str) -> None:
    """Softmax takes the largest off first; GELU far out is a or 0."""
    q, k, v, _, spans, heads, _ = SMALL.attention(dtype)
    for name in ("attention", "log_likelihood"):
        args = (1e4 * q, k, v, None, spans, heads, True) if name == "attention" else ()
        args = args or (1e6 * q, np.zeros(len(q), np.int64), SMALL.n)
        assert np.isfinite(getattr(ops, name)(*args)).all()
    far = np.array([[-1e4, -200, -90, -5, 0, 5, 90, 200, 1e4]], dtype)
    gelu = ops.gated_gelu(far, np.ones_like(far))
    np.testing.assert_allclose(gelu, np.maximum(far, 0), rtol=2e-7, atol=2e-6)
    probs = ops.attention_probs(np.array([[1e4]], dtype), np.array([[1], [0.5], [-1]], dtype), None, FAR, 1, False)
    np.testing.assert_array_equal(probs[0], [[[1, 0, 0]]])


FAR = Spans(np.array([1]), np.array([3]), np.zeros(1, np.int32), np.arange(3, dtype=np.int32))


@dtypes
def test_softmax_is_exact_for_every_distance(ops: Ops, dtype: str) -> None:
    """Each number to a few units in its last place, which differences relative to the largest do not see."""
    below = np.linspace(-87, 0, 5001).astype(dtype)
    spans = Spans(np.array([1]), np.array([5001]), np.zeros(1, np.int32), places(np.array([5001])))
    (probs,) = ops.attention_probs(np.ones((1, 1), dtype), below[:, None], None, spans, 1, False)
    np.testing.assert_allclose(probs[0, 0] / probs.max(), np.exp(below.astype("float64")), rtol=2 * np.finfo(dtype).eps)


@dtypes
@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_a_number_is_not_hidden(ops: Ops, bad: float, dtype: str) -> None:
    """A NaN or infinity that goes in comes out, wherever in its row it stands."""
    for at in range(0, 40, 13):
        x = SMALL.array(2, 40, dtype=dtype)
        x[1, at] = bad
        assert not np.isfinite(ops.log_likelihood(x, np.array([1, 1]), np.array([1, 1]))[1])
        assert not np.isfinite(ops.gated_gelu(x, x)[1, at])
        assert np.isnan(ops.rms_norm(x, x[0], 1e-6)[1]).any()
        spans = Spans(np.array([2]), np.array([40]), places(np.array([2])), places(np.array([40])))
        scores = ops.attention(x[:, :1] * 0 + 1, x[1][:, None], x[0][:, None], None, spans, 1, False)
        assert np.isnan(scores).all()


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
    monkeypatch.setattr(threads, "WORTH_A_THREAD", 1)
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
    threads.spread(lambda first, last: seen.append((first, last)), tasks, cost)
    assert len(seen) == expected
    assert [t for first, last in sorted(seen) for t in range(first, last)] == list(range(tasks))


@pytest.mark.usefixtures("two_threads")
def test_a_failure_in_any_thread_comes_out() -> None:
    def second_fails(first: int, last: int) -> None:
        if first:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        threads.spread(second_fails, 2, 10**9)


@pytest.mark.parametrize("dtype", ["float16", "int32", "complex64", ">f4"])
def test_put_refuses(dtype: str) -> None:
    with pytest.raises(Refused, match=r"put: float32 or float64; got .*; convert it first"):
        FAST.put(np.ones((2, 2), dtype))


@dtypes
@pytest.mark.parametrize("change", [strided, read_only, np.asfortranarray, np.copy])
def test_put_lays_out(change: Callable[..., Any], dtype: str) -> None:
    x = SMALL.array(3, 4, dtype=dtype)
    put = FAST.put(change(x))
    assert put.flags.carray and put.dtype == dtype
    np.testing.assert_array_equal(FAST.get(put), x)


def broken(q: Any, k: Any, v: Any, bias: Any, spans: Spans, heads: int, causal: bool) -> dict[str, tuple[Any, ...]]:
    """Calls of attention that a kernel must not be given, by what is said of them."""
    far = spans._replace(key_positions=spans.key_positions + 100)
    none = spans._replace(key_lengths=np.array([0, 10, 7]))
    return {
        "attention q": (q[1:], k, v, bias, spans, heads, causal),
        "attention k": (q, k[:, 1:], v, bias, spans, heads, causal),
        "attention v": (q, k, v[1:], bias, spans, heads, causal),
        "query positions": (q, k, v, bias, spans._replace(query_positions=np.zeros(1, int)), heads, causal),
        "key positions": (q, k, v, bias, spans._replace(key_positions=np.zeros(1, int)), heads, causal),
        "attention: columns": (q, k, v, None, spans, 4, causal),
        "attention: at least one key": (q, k, v, None, none, heads, causal),
        "attention bias: shape": (q, k, v, bias[:, :2], spans, heads, causal),
        "attention bias: a row": (q, k, v, bias, far, heads, causal),
    }


@pytest.mark.parametrize("said", broken(*SMALL.attention("float64")))
def test_attention_refuses(said: str) -> None:
    args = broken(*SMALL.attention("float64"))[said]
    with pytest.raises(Refused, match=f"^{said}"):
        FAST.attention(*args)
    if " v" not in said:
        with pytest.raises(Refused, match=f"^{said}"):
            FAST.attention_probs(*args[:2], *args[3:])


def test_rows_that_do_not_fit_are_refused() -> None:
    x = np.ones((3, 4))
    with pytest.raises(Refused, match=r"^rms_norm gain"):
        FAST.rms_norm(x, np.ones(5), 1e-6)
    with pytest.raises(Refused, match=r"^gated_gelu b"):
        FAST.gated_gelu(x, np.ones((3, 5)))
    with pytest.raises(IndexError):
        FAST.log_likelihood(x, np.array([0, 4, 0]), np.array([3]))


def test_a_telling_must_be_whole() -> None:
    telling = types.ModuleType("half")
    for name in OPERATIONS:
        setattr(telling, name, getattr(numpy_ops, name))
    Ops(telling)
    telling.relu = lambda x: x
    del telling.argmax
    with pytest.raises(Refused, match=r"half: every operation of the contract; got no relu\(a\), argmax"):
        Ops(telling)
    with pytest.raises(Refused, match="one of numpy, numba; got 'cuda'"):
        bind("cuda")
