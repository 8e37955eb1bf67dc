"""The CUDA backend in numba's simulator, made strict by `cudasim`, compared with the reference backend.

Numba reads NUMBA_ENABLE_CUDASIM when it is imported, so these tests run in a process of their own, which
`test_cuda.py` starts.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from models import NUMPY, QUESTION, T5, config, model, tokens
from operands import SMALL, Case, differ

if os.environ.get("NUMBA_ENABLE_CUDASIM") != "1":
    pytest.skip("in a process of its own, which test_cuda.py starts", allow_module_level=True)

import cudasim

from glimmer_ref.errors import InputError
from glimmer_ref.golden import case as cases
from glimmer_ref.golden import check
from glimmer_ref.golden.cases import CASES
from glimmer_ref.golden.generate import run_case
from glimmer_ref.inference.tracing import trace_ids
from glimmer_ref.instruments import Tape
from glimmer_ref.ops import Instrument, SequenceLayout, bind
from glimmer_ref.ops.cuda.kernels.spec import EVERYONE
from glimmer_ref.ops.cuda.matmul_ops import gated, product
from glimmer_ref.ops.cuda.runtime import device
from glimmer_ref.ops.interface import OPERATIONS
from glimmer_ref.paper.decoding import greedy
from glimmer_ref.paper.glimmer import glimmer
from glimmer_ref.paper.lumen import encode_passages
from glimmer_ref.paper.t5 import attention_block, feed_forward_block
from glimmer_ref.params.model import computed_in, prepare_params
from glimmer_ref.ragged import bfloat16, token_positions

NAMESPACE = cudasim.Namespace()
device.open_gpu = lambda: cudasim.device(NAMESPACE)
OPS = bind("cuda")
TOLERANCE = {"float32": 1e-6, "float64": 2e-15}  # the largest difference of what is tested here: 2.7e-7, 4.5e-16
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
CASES_OF_ALL = {
    "odd": Case([(4, 4), (1, 6), (3, 7)]),
    "in fours": Case([(9, 9), (1, 6), (11, 20)], heads=2, c=8, seed=1),
    "long": Case([(2, 70), (17, 17)], heads=1, c=4, seed=2),
    "one each": Case([(1, 90), (1, 1), (1, 33)], heads=2, c=12, seed=3),
}


def on_gpu(args: Any) -> list[Any]:
    return [OPS.to_device(a) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in args]


def back(x: Any) -> Any:
    return [back(a) for a in x] if isinstance(x, list) else x if isinstance(x, np.ndarray) else OPS.to_host(x)


def run(name: str, args: Any) -> Any:
    return back(getattr(OPS, name)(*on_gpu(args)))


def launched(begin: int = 0) -> set[str]:
    return set(NAMESPACE.launches[begin:])


@dtypes
@pytest.mark.parametrize(("bias", "causal"), [(True, True), (False, False), (True, False)])
@pytest.mark.parametrize("case", CASES_OF_ALL)
def test_every_operation_is_that_of_the_reference_backend(case: str, bias: bool, causal: bool, dtype: str) -> None:
    args = CASES_OF_ALL[case].all(dtype, bias, causal)
    assert {*args, "to_device", "to_host", "pack", "pack_table"} == set(OPERATIONS)
    for name, each_of in args.items():
        assert differ(run(name, each_of), getattr(NUMPY, name)(*each_of)) <= TOLERANCE[dtype], name


@dtypes
@pytest.mark.parametrize("name", SMALL.all("float64"))
def test_rules(name: str, dtype: str) -> None:
    """dtype out is dtype in, inputs stay as they are, and no result is, or shares, an argument."""
    args = SMALL.all(dtype)[name]
    given = on_gpu(args)
    results = getattr(OPS, name)(*given)
    for before, after in zip(args, given, strict=True):
        if isinstance(before, np.ndarray):
            np.testing.assert_array_equal(back(after), before)
    for result in results if isinstance(results, list) else [results]:
        assert result.dtype == (np.int64 if name == "argmax" else dtype)
        if name != "argmax":
            assert not any(np.shares_memory(result._ary, a._ary) for a in given if hasattr(a, "_ary"))


@pytest.mark.parametrize(
    ("n", "a", "o"), [(17, 20, 28), (33, 8, 16), (40, 36, 4), (18, 16, 36), (16, 12, 20), (3, 40, 8)]
)
def test_every_kernel_of_linear_is_the_product(n: int, a: int, o: int) -> None:
    rng = np.random.default_rng(n)
    x, w, y = (rng.standard_normal(shape).astype(np.float32) for shape in ((n, a), (a, o), (n, o)))
    v = rng.standard_normal((a, o)).astype(np.float32)
    here, right = on_gpu([x, w, y, v]), x.astype(float) @ w
    scale = np.abs(right).max()
    begin = len(NAMESPACE.launches)
    got = [product(here[0], here[1]), product(here[0], OPS.to_device(w.T), transposed=True)]
    assert launched(begin) == ({"skinny", "skinny_transposed"} if n <= 16 else {"linear"})
    lowest = OPS.to_device(np.full((n, o), np.nan, np.float32))
    device.device().run("float32", "naive", (-(-o // 4), -(-n // 4)), here[0], here[1], lowest)
    for x_w in (*got, lowest):
        assert np.abs(back(x_w) - right).max() < 1e-6 * scale
    assert np.abs(back(product(here[0], here[1], residual=here[2])) - (right + y)).max() < 1e-6 * scale
    gate = NUMPY.gated_gelu(right, x.astype(float) @ v)
    assert np.abs(back(gated(here[0], here[1], here[3])) - gate).max() < 2e-6 * np.abs(gate).max()


@pytest.mark.parametrize(("n", "a", "o"), [(17, 20, 28), (40, 70, 9), (33, 33, 40), (5, 20, 7), (16, 65, 12)])
def test_tensor_cores_multiply_what_was_rounded(n: int, a: int, o: int) -> None:
    """Exactly the product of the rounded numbers, summed in float32."""
    rng = np.random.default_rng(a)
    x, w, y = (rng.standard_normal(shape).astype(np.float32) for shape in ((n, a), (a, o), (n, o)))
    rounded = [(bfloat16(m).astype(np.uint32) << 16).view(np.float32).astype(float) for m in (x, w)]
    right, begin = rounded[0] @ rounded[1], len(NAMESPACE.launches)
    packed, table = OPS.pack(w, "bfloat16"), OPS.pack_table(np.ascontiguousarray(w.T), "bfloat16")
    got = back(OPS.linear(OPS.to_device(x), packed))
    assert launched(begin) == ({"skinny_bfloat16"} if n <= 16 else {"tensor"})
    assert np.abs(got - right).max() < 1e-6 * np.abs(right).max()
    assert 1e-4 < np.abs(got - x.astype(float) @ w).max() / np.abs(right).max() < 1e-2, "another precision"
    np.testing.assert_array_equal(back(OPS.lm_head_logits(table, OPS.to_device(x))), got)
    added = back(product(OPS.to_device(x), packed, residual=OPS.to_device(y)))
    assert np.abs(added - (right + y)).max() < 1e-6 * np.abs(right).max()
    assert packed.shape == (a, o) and table.shape == (o, a) and packed.precision == "bfloat16"
    np.testing.assert_array_equal(back(packed), rounded[1])
    np.testing.assert_array_equal(back(OPS.embed(table, np.array([o - 1]))), w.T[-1:])


@dtypes
@pytest.mark.parametrize("c", [3, 8, 24, 64, 65, 128])
def test_attention_of_every_width(c: int, dtype: str) -> None:
    case = Case([(5, 9), (1, 17), (13, 13)], heads=1, c=c)
    for bias, causal in ((True, True), (False, False)):
        args = case.attention(dtype, bias, causal)
        assert differ(run("attention", args), NUMPY.attention(*args)) <= 4 * TOLERANCE[dtype]


@dtypes
def test_factors_multiply_the_probabilities(dtype: str) -> None:
    case = Case([(3, 3), (1, 1), (20, 25)], heads=2, c=5)
    args = case.attention(dtype, True, True)
    dropout_mask = ((case.rng.random(2 * (9 + 1 + 500)) >= 0.4) / 0.6).astype(dtype)
    assert differ(run("attention", (*args, dropout_mask)), NUMPY.attention(*args, dropout_mask)) <= TOLERANCE[dtype]
    with pytest.raises(InputError, match="dropout_mask"):
        run("attention", (*args, dropout_mask[:-1]))


@dtypes
def test_large_numbers_do_not_overflow(dtype: str) -> None:
    q, k, v, _, layout, heads, _ = SMALL.attention(dtype)
    assert np.isfinite(run("attention", (1e4 * q, k, v, None, layout, heads, True))).all()
    assert np.isfinite(run("log_likelihood", (1e6 * q, np.zeros(len(q), np.int64), SMALL.n))).all()
    far = np.array([[-1e4, -200, -90, -5, 0, 5, 90, 200, 1e4]], dtype)
    np.testing.assert_allclose(run("gated_gelu", (far, np.ones_like(far))), np.maximum(far, 0), rtol=2e-7, atol=2e-6)


@dtypes
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_a_number_is_not_hidden(bad: float, dtype: str) -> None:
    for at in range(0, 40, 13):
        x = SMALL.array(2, 40, dtype=dtype)
        x[1, at] = bad
        assert not np.isfinite(run("log_likelihood", (x, np.array([1, 1]), np.array([1, 1])))[1])
        assert not np.isfinite(run("gated_gelu", (x, x))[1, at])
        assert np.isnan(run("relu", (np.where(np.isinf(x), np.nan, x),))[1, at])
        assert np.isnan(run("rms_norm", (x, x[0], 1e-6))[1]).any()
        for n in (2, 1):  # tiles, and one query alone
            layout = SequenceLayout(
                np.array([n]), np.array([40]), token_positions(np.array([n])), token_positions(np.array([40]))
            )
            scores = run("attention", (np.ones((n, 1), dtype), x[1][:, None], x[0][:, None], None, layout, 1, False))
            assert np.isnan(scores).all()


@dtypes
def test_ties_go_to_the_lower_index_and_nan_wins(dtype: str) -> None:
    rows = np.array([[1.0, 3, 3], [2, 2, 2], [0, -1, 0], [-np.inf] * 3], dtype)
    np.testing.assert_array_equal(run("argmax", (rows,)), [1, 0, 0, 0])
    wide = np.zeros((3, 200), dtype)
    wide[0, [70, 101, 199]], wide[1, [40, 150]], wide[2, 3] = 5, np.nan, np.nan
    np.testing.assert_array_equal(run("argmax", (wide,)), np.argmax(wide, axis=1))


@dtypes
def test_equal_rows_dot_to_equal_bits(dtype: str) -> None:
    x = np.tile(SMALL.array(1, 65, dtype=dtype), (9, 1))
    assert len(set(run("dot", (x, SMALL.array(65, 1, dtype=dtype))).tolist())) == 1


def test_no_array_of_no_rows_stops_anything() -> None:
    x = np.ones((6, 4), np.float32)
    assert run("gather_sequences", (x, np.array([1, 3, 2]), np.array([], np.int64))).shape == (0, 4)
    assert run("linear", (x[:0], x.T)).shape == (0, 6)


REFUSED = {
    "embed": ((SMALL.array(3, 2), np.array([0, 3])), "embed ids: expected whole numbers from 0 to 2; got"),
    "gather_sequences": (
        (SMALL.array(3, 2), np.array([3]), np.array([-1])),
        "gather_sequences index: expected whole numbers from 0 to 0",
    ),
    "linear": ((SMALL.array(3, 2), SMALL.array(3, 2)), "linear x: expected shape"),
    "add": ((SMALL.array(3, 2), SMALL.array(2, 3)), r"add: expected shape \[3, 2\]; got \[2, 3\]"),
    "rms_norm": ((SMALL.array(3, 2), SMALL.array(3), 1e-6), "rms_norm gain"),
    "log_likelihood": (
        (SMALL.array(1, 5), np.array([5]), np.array([1])),
        "targets: expected whole numbers from 0 to 4",
    ),
    "mean": ((SMALL.array(3, 2), np.array([4])), "mean x: expected shape"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_leave_an_array_is_refused(name: str) -> None:
    args, said = REFUSED[name]
    with pytest.raises(InputError, match=said):
        run(name, args)


def test_what_lies_on_the_host_is_refused_and_not_sent_there() -> None:
    for name, args in SMALL.all("float32").items():
        with pytest.raises(InputError, match="an array on the GPU; got ndarray on the host; call to_device first"):
            getattr(OPS, name)(*args)


def test_arrays_that_a_kernel_would_misread_are_refused() -> None:
    x = OPS.to_device(SMALL.array(5, 8, dtype="float32"))
    with pytest.raises(InputError, match="rms_norm: expected all arrays in float32; got float64"):
        OPS.rms_norm(x, OPS.to_device(SMALL.array(8)), 1e-6)
    part = OPS.to_device(SMALL.array(9, dtype="float32"))[1:]
    with pytest.raises(
        InputError, match="add: expected an array that begins at a multiple of sixteen bytes; got a part of another"
    ):
        OPS.add(part, part)
    np.testing.assert_array_equal(back(OPS.add(x[1:], x[1:])), 2 * back(x)[1:])
    seen_often = np.broadcast_to(np.float32(3), (1, 8))
    np.testing.assert_array_equal(back(OPS.scale(OPS.to_device(seen_often), 2)), np.full((1, 8), 6, "float32"))


def test_precisions_that_there_are_not() -> None:
    w = SMALL.array(4, 4, dtype="float32")
    for pack in (OPS.pack, OPS.pack_table):
        with pytest.raises(InputError, match="float32 or bfloat16 with ops=cuda; got 'int8'"):
            pack(w, "int8")
        with pytest.raises(InputError, match="none below float64 with float64 weights; got 'bfloat16'"):
            pack(w.astype("float64"), "bfloat16")
    with pytest.raises(InputError, match="backward of every operation"):
        Tape(OPS)
    with pytest.raises(InputError, match="threads: expected none with ops=cuda, whose threads are the GPU's; got 2"):
        OPS.limited(2)


def test_memory_that_runs_out_says_what_would_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise RuntimeError("[CUresult.CUDA_ERROR_OUT_OF_MEMORY] Call to cuMemAlloc results in an error")

    gpu = device.device()
    monkeypatch.setattr(gpu.bytes, "persistent", 7 * 10**9)
    monkeypatch.setattr(gpu.bytes, "temporary", 2 * 10**9)
    monkeypatch.setattr(NAMESPACE, "device_array", full, raising=False)
    with pytest.raises(InputError, match=r"36.04 MB for an array \[8800 1024\] of float32; got") as e:
        gpu.empty((8800, 1024), "float32")
    assert "the free memory is in smaller pieces" in str(e.value) and "\n" not in str(e.value)
    with pytest.raises(
        InputError,
        match=r"0.50 GB free of 10.00 GB, 7.00 GB of it weights and memory; about 3688 of 8800 rows fit, 42%: lower k",
    ):
        gpu.empty((8800, 1024 * 110), "float32")
    monkeypatch.setattr(NAMESPACE, "to_device", full)
    with pytest.raises(InputError, match="precision='bfloat16', or use a smaller model"):
        OPS.to_device(np.ones((4, 4), np.float32))


def test_arrays_are_counted_and_let_go() -> None:
    gpu = device.device()
    before = vars(gpu.bytes).copy()
    x = OPS.to_device(np.ones((10, 10), np.float32))
    y = OPS.add(x, x)
    assert gpu.bytes.persistent == before["persistent"] + 400 and gpu.bytes.temporary == before["temporary"] + 400
    del x, y
    assert vars(gpu.bytes) == before


TEXTS = tokens([4, 9, 1, 6], seed=3)
FOURS = replace(T5, d_kv=4, num_heads=4, vocab_size=64)


@pytest.mark.parametrize("proj", ["gated-gelu", "relu"])
@pytest.mark.parametrize("t5", [T5, FOURS], ids=["odd", "in fours"])
def test_blocks_are_their_operations(t5: Any, proj: str) -> None:
    settings = config(t5=replace(t5, feed_forward_proj=proj))
    w = model(OPS, settings, dtype="float32")
    n = np.array([20, 3])
    layout = SequenceLayout(n, n, token_positions(n), token_positions(n))
    rng = np.random.default_rng(0)
    x, bias = on_gpu([rng.standard_normal(shape).astype("float32") for shape in ((23, 20), (39, t5.num_heads))])
    layer, counts, blocks = w.memory.layers[0], [], []
    for ops in (OPS, Instrument(OPS)):
        begin = len(NAMESPACE.launches)
        got = attention_block(ops, settings.t5, layer.attention, x, bias, layout)
        got = [got, feed_forward_block(ops, settings.t5, layer.feed_forward, x, n)]
        counts.append(len(NAMESPACE.launches) - begin)
        blocks.append(got)
    saved = {(T5, "gated-gelu"): 3, (T5, "relu"): 0, (FOURS, "gated-gelu"): 4, (FOURS, "relu"): 1}
    assert counts[1] - counts[0] == saved[t5, proj], "launches"
    for a, b in zip(*blocks, strict=True):
        assert differ(back(a), back(b)) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("system", ["glimmer", "lumen", "fid"])
@pytest.mark.parametrize(
    ("t5", "proj", "pool"), [(T5, "relu", "mean"), (FOURS, "gated-gelu", "first")], ids=["odd", "in fours"]
)
def test_the_systems_are_those_of_the_reference_backend(t5: Any, proj: str, pool: str, system: str) -> None:
    """Every recorded array within 1e-5 of its scale in float32, and the same ids."""
    settings = config(t5=replace(t5, feed_forward_proj=proj), pool=pool, score_norm=pool == "mean")
    found = []
    for ops in (NUMPY, OPS):
        w, ids = model(ops, settings, dtype="float32"), [list(QUESTION.ids), [list(p) for p in TEXTS]]
        found.append(trace_ids(ops, w, *ids, [7, 8, 9, 1], m=2, system=system))
    reference, got = found
    assert list(reference) == list(got)
    for name, expected in reference.items():
        assert got[name].dtype == expected.dtype, name
        off = np.abs(got[name] - expected).max(initial=0)
        assert off <= 1e-5 * np.abs(expected).max(initial=1), name


def test_a_decoded_token_is_all_that_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """For b questions: b integers per step, then their log probabilities; and the answers are right."""
    settings, answers, fetched = config(t5=FOURS), [], []
    for ops in (NUMPY, OPS):
        w = model(ops, settings, dtype="float32")
        got = glimmer(ops, w, QUESTION, encode_passages(ops, w, TEXTS), np.array([len(TEXTS)]), 2)
        array = type(OPS.to_device(np.ones(1, np.float32)))
        copy = array.copy_to_host
        monkeypatch.setattr(array, "copy_to_host", lambda self, copy=copy: fetched.append(self.nbytes) or copy(self))
        answers.append(greedy(ops, w, got.memory, 6)[0])
        monkeypatch.undo()
    assert answers[0].ids == answers[1].ids and len(answers[0].ids) >= 5
    assert answers[0].log_probability == pytest.approx(answers[1].log_probability, abs=1e-5)
    steps = len(fetched) // 2
    assert fetched == [8] * steps + [4] * steps, "an int64 a step, then a float32 a step"


@pytest.mark.slow
def test_bfloat16_is_stated_and_close() -> None:
    settings, found = config(t5=FOURS), {}
    plain = model(NUMPY, settings, dtype="float32")
    for precision in ("float32", "bfloat16"):
        w = prepare_params(OPS, plain, precision)
        assert computed_in(w) == precision
        got = trace_ids(OPS, w, list(QUESTION.ids), [list(p) for p in TEXTS][:2], [7, 1], system="lumen")
        found[precision] = got["decoder.memory"]
    off = np.abs(found["bfloat16"] - found["float32"]).max() / np.abs(found["float32"]).max()
    assert 1e-4 < off < 2e-2


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(n for n, c in CASES.items() if n != "refusals" and not c.learns))
def test_the_golden_cases(name: str) -> None:
    case = CASES[name]
    arrays = run_case.run(OPS, case, cases.model(case, cases.weights(case), "float32"), cases.inputs(case))
    report = check.check(name, arrays, "float32")
    assert report.code == 0, "\n".join(report.lines())


def broken(body: Any, threads: int = 64, dtype: Any = np.float32) -> None:
    """A kernel of one argument, [64] of that dtype, in one block."""
    from numba import types

    x = NAMESPACE.to_device(np.zeros(64, dtype))
    NAMESPACE.jit(types.void(types.Array(getattr(types, np.dtype(dtype).name), 1, "C")), launch_bounds=(threads, 1))(
        body
    )[1, threads](x)


def test_the_simulator_is_strict() -> None:
    cuda = NAMESPACE

    def no_barrier(x: Any) -> None:
        s, i = cuda.shared.array(64, np.float32), cuda.threadIdx.x
        s[i] = i
        x[i] = s[63 - i]

    def written_too_soon(x: Any) -> None:
        s, i = cuda.shared.array(64, np.float32), cuda.threadIdx.x
        s[i] = i
        cuda.syncthreads()
        x[i] = s[(i + 1) % 64]
        s[i] = 0

    def two_writers(x: Any) -> None:
        cuda.shared.array(2, np.float32)[0] = cuda.threadIdx.x

    def some_stop(x: Any) -> None:
        if cuda.threadIdx.x < 40:
            cuda.syncthreads()

    def two_barriers(x: Any) -> None:
        if cuda.threadIdx.x < 40:
            cuda.syncthreads()
        else:
            cuda.syncthreads()

    def half_a_warp(x: Any) -> None:
        if cuda.threadIdx.x < 16:
            cuda.shfl_xor_sync(EVERYONE, 1.0, 1)

    def outside(x: Any) -> None:
        x[cuda.threadIdx.x - 1] = 0

    def wide(x: Any) -> None:
        x[cuda.threadIdx.x] = np.float64(1)

    def much(x: Any) -> None:
        cuda.shared.array((1024, 13), np.float32)

    def astray(x: Any) -> None:
        cudasim.load4(x, 2)

    for body in (no_barrier, written_too_soon, two_writers, some_stop, two_barriers, half_a_warp, outside, wide, much):
        with pytest.raises(cudasim.Broken):
            broken(body)
    with pytest.raises(cudasim.Broken):
        broken(astray, threads=1)
    with pytest.raises(cudasim.Broken, match="argument 0"):
        broken_kernel = NAMESPACE.jit(device.signature("v", "float32"), launch_bounds=(64, 1))(two_writers)
        broken_kernel[1, 64](NAMESPACE.to_device(np.zeros(64)))
    with pytest.raises(cudasim.Broken, match="a block of"):
        broken(two_writers, threads=1025)

    def unset(x: Any) -> None:
        x[cuda.threadIdx.x] = cuda.shared.array(64, np.float32)[cuda.threadIdx.x]

    x = NAMESPACE.to_device(np.zeros(64, np.float32))
    NAMESPACE.jit(device.signature("v", "float32"), launch_bounds=(64, 1))(unset)[1, 64](x)
    assert np.isnan(x.copy_to_host()).all(), "shared memory holds nothing at first"
