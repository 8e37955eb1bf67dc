"""The benchmarks themselves, at tiny sizes: hardware peaks, counted work, workers, and the command."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glimmer_ref.bench import bursts, hardware_peaks, measure, workload
from glimmer_ref.bench.ours import Ours, checked
from glimmer_ref.bench.process import Worker
from glimmer_ref.cli import main
from glimmer_ref.costs.flops import by_shapes, online
from glimmer_ref.errors import InputError
from glimmer_ref.inference import reader
from glimmer_ref.ops import bind
from glimmer_ref.ops.cpu.kernels.llvm_ir import FEATURES
from glimmer_ref.params.model import prepare_params

LITTLE = ",n_q=6,n_p=10,steps=3"


@pytest.fixture(scope="module")
def reference() -> Ours:
    return Ours("tiny", backend="numpy")


def test_hardware_peaks_are_rates_that_a_core_can_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware_peaks, "STREAM_BYTES", 1 << 22)
    hardware_peaks._memory.cache_clear()
    top = hardware_peaks.measure_peaks(1, seconds=0.002)
    hardware_peaks._memory.cache_clear()
    assert top.reads > 1e8
    assert 1e8 < top.float32 < 1e12
    # Any product can be computed in float32. Which is higher is the CPU's affair: AMD's dot product of bfloat16 doubles
    # float32's rate, and what measures them is a few milliseconds of a busy machine.
    assert top.bfloat16 >= top.float32 and 1 <= top.int8 / top.float32 < 100


def test_the_burst_computes_what_it_says() -> None:
    """Three times s = s * a + b in the first lane of every sum, which begin at 0, 1, 2 .."""
    _, many = bursts.shape(FEATURES)
    expected = sum(((s * 0.5 + 2) * 0.5 + 2) * 0.5 + 2 for s in range(many))
    assert hardware_peaks._fma(3, np.float32(0.5), np.float32(2)) == pytest.approx(expected)


def test_the_stream_reads_every_vector_once() -> None:
    """Its sum is that of the first lanes of all vectors."""
    lanes = bursts.shape(FEATURES)[0]
    raw = np.zeros(16 * lanes + 16, np.float32)
    x = raw[-raw.ctypes.data % 64 // 4 :][: 16 * lanes]
    x[:] = np.arange(x.size)
    assert hardware_peaks._stream(x.ctypes.data, 16 // bursts.BLOCK) == x[::lanes].sum()


@pytest.mark.parametrize("name", workload.PRESETS)
def test_every_preset_runs_and_is_counted(reference: Ours, name: str) -> None:
    figures = measure.measure(reference.job(name + LITTLE))
    assert figures["wall"] > 0
    assert figures["peak"] > 1 << 20
    assert sum(workload.macs(workload.parse(name + LITTLE), workload.shape("tiny")).values()) > 0


@pytest.mark.parametrize("system", ["fid", "lumen", "glimmer"])
def test_counts_are_the_calculators(system: str) -> None:
    """Traced by this package's own work, and by the formulas of shapes: the same to the last multiply-add."""
    task = workload.parse(f"{system},k=4,m=2{LITTLE}")
    config = workload.shape("base")
    formula = by_shapes(config, system, 6, [10] * 4, 3, range(2))
    assert sum(workload.macs(task, config).values()) == online(formula)


def test_a_decoded_token_is_counted_without_the_first() -> None:
    task, config = workload.parse("decode"), workload.shape("base")
    counted = workload.macs(task, config)
    assert "cross" not in counted
    assert counted["head"] == 32 * config.t5.d_model * config.t5.vocab_size
    # T5-base over 5 x 352 tokens: 124 million weights, and 14 million more that stand for keys and values.
    assert workload.least_bytes(task, config, "float32") == 32 * 4 * (12 * (8 * 768**2 + 3 * 768 * 2048) + 32128 * 768)


def test_mini_is_the_bundled_models_shape() -> None:
    bundled = json.loads((reader.bundled() / "config.json").read_text())
    assert all(bundled[name] == getattr(workload.MINI, name) for name in ("vocab_size", "d_model", "d_kv", "d_ff"))
    assert all(
        bundled[name] == getattr(workload.MINI, name) for name in ("num_layers", "num_decoder_layers", "num_heads")
    )


def test_nothing_ends_before_its_steps(reference: Ours) -> None:
    got = checked(reference.ops, reference.model)
    assert len(got["ids"]) == len(got["first_ids"]) == 8


def test_another_cut_is_the_same_encoder(reference: Ours) -> None:
    """alpha and beta move the cuts through the same layers: FiD does not change, the counts of LUMEN do."""
    ops, half = reference.ops, workload.with_proportions(reference.model, workload.parse("fid,alpha=1/2,beta=1/2"))
    assert (half.config.num_memory_layers, half.config.num_rerank_layers) == (6, 3)
    for name, array in checked(ops, half).items():
        assert np.array_equal(array, checked(ops, reference.model)[name])
    layers = {
        s: workload.macs(workload.parse(f"lumen,alpha={s},beta=1"), reference.model.config)["live"]
        for s in ("1/3", "1/2", "1")
    }
    assert layers["1/2"] * 2 == layers["1"] == layers["1/3"] * 3


def test_stages_do_not_keep_composites_from_running(reference: Ours) -> None:
    assert measure.Stages(reference.ops).scope("encoder") is reference.ops
    fast = bind("numba")
    assert measure.Stages(fast).fused("attention_block") is fast.fused("attention_block") is not None


def test_stages_add_up(reference: Ours) -> None:
    figures = measure.measure(reference.job("glimmer" + LITTLE))
    assert list(figures["stages"]) == ["question", "live_a", "score", "live_b", "cross", "decoder"]
    assert 0 < sum(figures["stages"].values()) <= figures["whole"]


def test_spread_and_ratio() -> None:
    assert measure.Spread.of([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)
    assert measure.paired_ratio([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == (2.0, 1.0, 3.0)
    assert (measure.repeats_for(3.0), measure.repeats_for(0.03)) == (1, 17)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nothing", "one of encoder-5"),
        ("encoder,x=3", "only the keys alpha, b, beta, k, m, n_p, n_q, steps"),
        ("encoder,k=0", "at least 1"),
        ("encoder,k=many", "at least 1"),
        ("glimmer,k=2,m=3", "m of at most k"),
    ],
)
def test_bad_work_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        workload.parse(text)


@pytest.mark.parametrize("text", ["decode", "glimmer-25-5", "glimmer,k=50,m=5", "fid,k=3,n_p=100,alpha=1/2"])
def test_work_is_spelled_as_it_is_read(text: str) -> None:
    assert workload.parse(workload.spell(workload.parse(text))) == workload.parse(text)


def test_a_worker_answers_refuses_and_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "glimmer_ref.bench.ours", "--size", "tiny", "--ops", "numpy"]
    worker = Worker(command, 1)
    try:
        assert worker.ask("about")["ops"] == "numpy"
        with pytest.raises(InputError, match="m of at most k"):
            worker.ask("prepare", work="glimmer,k=1,m=2")
        assert worker.ask("prepare", work="encoder" + LITTLE)["repeats"] >= 1
        assert worker.ask("run", work="encoder" + LITTLE)["cpu"] > 0
        worker.ask("check", path=str(tmp_path / "got.npz"))
        ops = bind("numpy")
        expected = checked(ops, prepare_params(ops, workload.weights(workload.shape("tiny"))))
        with np.load(tmp_path / "got.npz") as got:
            for name in expected:  # with another number of threads BLAS may round otherwise
                np.testing.assert_allclose(got[name], expected[name], rtol=0, atol=2e-5)  # of 5.1; measured 6.2e-6
    finally:
        worker.close()
    assert worker.process.returncode == 0
    with closing(Worker([sys.executable, "-c", ""], 1)) as nobody, pytest.raises(InputError, match="its end"):
        nobody.ask("about")


def test_the_command_lists(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in workload.PRESETS)
    assert max(map(len, out.splitlines())) <= 100


def test_the_command_measures(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "--size", "tiny", "--work", "encoder:k=1:n_p=8,decode:k=1:steps=2", "--runs", "1"]
    assert main([*words, "--json"]) == 0
    document: Any = json.loads(capsys.readouterr().out)
    assert [row["work"] for row in document["rows"]] == ["encoder,k=1,n_p=8", "decode,k=1,steps=2"]
    assert all(0 < row["share"] < 1 for row in document["rows"])
    assert document["ceilings"][0]["float32"] > 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--work", "nothing"], "work: expected one of"),
        (["--size", "huge"], "size: expected one of tiny"),
        (["--threads", "none"], "--threads: expected whole numbers"),
        (["--runs", "0"], "--runs: expected at least 1"),
    ],
)
def test_the_command_refuses_in_one_line(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert main(["bench", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"glimmer-ref: error: {said}")
    assert err.count("\n") == 1
