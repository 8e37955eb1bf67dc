"""The CUDA backend on a GPU: each kernel, each stage and whole answers, beside PyTorch and the hardware's peaks.

    python benchmarks/suites/cuda.py --dry        # only print what would be measured and what it costs; needs no GPU
    python benchmarks/suites/cuda.py --rehearse   # everything once, at tiny sizes, with the numba backend on the CPU
    python benchmarks/suites/cuda.py [--size base,large,xl] [--quick] [--out FILE.json]

A run measures the hardware's peaks first (a copy, and large products in float32 and in bfloat16, by PyTorch). Then it
measures every kernel and PyTorch's kernel for the same operation; they take turns in being first. At the end it
measures GLIMMER from memory to answer at k=25, m=5, with our kernels and with the same code in eager PyTorch. Each
number is the median of its rounds. A timed run is many launches of a kernel between two waits, so that the GPU's time
and not the time of a launch is measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from glimmer_ref.bench import workload
from glimmer_ref.errors import InputError
from glimmer_ref.ops import Ops, SequenceLayout, bind
from glimmer_ref.params.model import prepare_params
from glimmer_ref.ragged import token_positions

TERA, GIGA = 1e12, 1e9
TARGETS = {  # target shares of PyTorch's speed, or of the speed of a copy
    "linear float32": 0.70, "linear bfloat16": 0.50, "attention": 0.50, "memory": 0.85, "answer": 1.0,
}  # fmt: skip


class Job(NamedTuple):
    """One operation at one size.

    Args:
        kind: a key of TARGETS.
        args: the operands on the host; the second are weights to `pack` if there is a precision.
        amount: operations, two for each multiply-add; or bytes read and written.
        precision: the precision of a product's weights.
    """

    name: str
    kind: str
    operation: str
    args: tuple[Any, ...]
    amount: float
    precision: str = ""


def jobs(size: str, k: int, rng: np.random.Generator) -> Iterator[Job]:
    """Every kernel at its sizes in GLIMMER: k pairs of 48 + 304 tokens, and one token."""
    t5, n = workload.shape(size).t5, 48 + 304
    rows, hc = k * n, t5.num_heads * t5.d_kv
    d, f, v = t5.d_model, t5.d_ff, t5.vocab_size

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32)

    for precision in ("float32", "bfloat16"):
        for a, o in ((d, hc), (d, f), (f, d)):
            product = (draw(rows, a), draw(a, o) * a**-0.5)
            name, flops = f"linear [{rows} {a}] [{a} {o}] {precision}", 2.0 * rows * a * o
            yield Job(name, f"linear {precision}", "linear", product, flops, precision)
        one = (draw(1, d), draw(d, f) * d**-0.5)
        width = 4 if precision == "float32" else 2
        yield Job(f"linear [1 {d}] [{d} {f}] {precision}", "memory", "linear", one, width * d * f, precision)
    yield Job(f"logits [1 {d}] [{v} {d}]", "memory", "lm_head_logits", (draw(v, d), draw(1, d)), 4 * v * d)
    lengths = np.full(k, n)
    layout, bias = (
        SequenceLayout(lengths, lengths, token_positions(lengths), token_positions(lengths)),
        draw(2 * n - 1, t5.num_heads),
    )
    q, keys, values = (draw(rows, hc) * t5.d_kv**-0.25 for _ in range(3))
    args = (q, keys, values, bias, layout, t5.num_heads, False)
    yield Job(f"attention {k} of {n}, {t5.num_heads} heads", "attention", "attention", args, 4 * k * n * n * hc)
    memory, one = np.array([5 * n + 48]), np.array([1])
    step = SequenceLayout(one, memory, token_positions(one), token_positions(memory))
    args = (draw(1, hc), draw(int(memory[0]), hc), draw(int(memory[0]), hc), None, step, t5.num_heads, False)
    yield Job(f"attention, a step, {memory[0]} keys", "memory", "attention", args, 8.0 * memory[0] * hc)
    x, y, wide = draw(rows, d), draw(rows, d), (draw(rows, f), draw(rows, f))
    yield Job(f"rms_norm [{rows} {d}]", "memory", "rms_norm", (x, draw(d), 1e-6), 8 * rows * d)
    yield Job(f"add [{rows} {d}]", "memory", "add", (x, y), 12 * rows * d)
    yield Job(f"gated_gelu [{rows} {f}]", "memory", "gated_gelu", wide, 12 * rows * f)
    yield Job(f"embed {rows} of [{v} {d}]", "memory", "embed", (draw(v, d), rng.integers(0, v, rows)), 8 * rows * d)


def prepared(ops: Ops, job: Job) -> Callable[[], Any]:
    """The operation with its operands on the GPU."""
    args = [ops.to_device(a) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in job.args]
    if job.precision:
        args[1] = ops.pack(job.args[1], job.precision)
    operation = getattr(ops, job.operation)
    return lambda: operation(*args)


def seconds(run: Callable[[], Any], wait: Callable[[], None], least: float) -> float:
    """Seconds of one run, measured over enough runs to take `least` seconds."""
    run()
    wait()
    times, start = 1, time.perf_counter()
    while True:
        for _ in range(times):
            run()
        wait()
        passed = time.perf_counter() - start
        if passed >= least:
            return passed / times
        times, start = max(2 * times, int(1.2 * times * least / max(passed, 1e-9))), time.perf_counter()


def taking_turns(
    runs: dict[str, Callable[[], Any]], wait: Callable[[], None], rounds: int, least: float
) -> dict[str, float]:
    """The median over the rounds of each run; they take turns in being first."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds):
        names = list(runs)
        for name in names[i % len(names) :] + names[: i % len(names)]:
            found[name].append(seconds(runs[name], wait, least))
    return {name: statistics.median(times) for name, times in found.items()}


def hardware_peaks(wait: Callable[[], None], least: float) -> dict[str, float]:
    """Bytes per second, read and written, of a copy; operations per second of a large product."""
    import torch

    here = "cuda" if torch.cuda.is_available() else "cpu"
    n = 8192 if here == "cuda" else 512
    a = torch.randn(n, n, device=here)
    b, half = torch.empty_like(a), a.to(torch.bfloat16)
    found = {"copy": 8 * n * n / seconds(lambda: b.copy_(a), wait, least)}
    for name, x in (("float32", a), ("bfloat16", half)):
        found[name] = 2 * n**3 / seconds(lambda x=x: x @ x, wait, least)
    return found


def kernels(
    size: str, ours: Ops, theirs: Ops, wait: Any, plan: Any, peaks: dict[str, float]
) -> Iterator[dict[str, Any]]:
    """The speed of each kernel, that of PyTorch, and the share that is compared with the target."""
    for job in jobs(size, plan.k, np.random.default_rng(0)):
        runs = {"ours": prepared(ours, job), "torch": prepared(theirs, job)}
        difference = np.abs(ours.to_host(runs["ours"]()) - theirs.to_host(runs["torch"]())).max()
        times = taking_turns(runs, wait, plan.rounds, plan.least)
        share = job.amount / times["ours"] / peaks["copy"] if job.kind == "memory" else times["torch"] / times["ours"]
        yield {
            "size": size,
            "name": job.name,
            "kind": job.kind,
            "seconds": times,
            "per second": job.amount / times["ours"],
            "share": share,
            "target": TARGETS[job.kind],
            "largest difference": float(difference),
        }


def answers(size: str, ours: Ops, theirs: Ops, wait: Any, plan: Any) -> Iterator[dict[str, Any]]:
    """Whole answers and their parts, ours and PyTorch's in float32, and ours in bfloat16."""
    weights = workload.weights(workload.shape(size))
    models = {"ours": prepare_params(ours, weights), "torch": prepare_params(theirs, weights)}
    models["ours, bfloat16"] = prepare_params(ours, weights, "bfloat16")
    for text in (
        f"glimmer-25-5,k={plan.k},steps={plan.steps}",
        f"glimmer-25-5,k={plan.k},steps=0",
        f"decode,steps={plan.steps}",
    ):
        task, runs = workload.parse(text), {}
        for name, model in models.items():
            ops = theirs if name == "torch" else ours
            prepared_run = workload.prepare(task, ops, model).run
            runs[name] = lambda prepared_run=prepared_run, ops=ops: prepared_run(ops)
        times = taking_turns(runs, wait, plan.rounds, 0)
        macs = sum(workload.macs(task, workload.shape(size)).values())
        yield {
            "size": size,
            "name": text,
            "kind": "answer",
            "seconds": times,
            "per second": 2 * macs / times["ours"],
            "share": times["torch"] / times["ours"],
            "target": TARGETS["answer"],
        }


def line(row: dict[str, Any]) -> str:
    """The printed line of one row."""
    rate = (
        f"{row['per second'] / GIGA:9.1f} GB/s"
        if row["kind"] == "memory"
        else f"{row['per second'] / TERA:9.2f} TFLOP/s"
    )
    times = ", ".join(f"{name} {1e6 * s:.0f}" for name, s in row["seconds"].items())
    of = "copy" if row["kind"] == "memory" else "torch"
    verdict = "" if row["share"] >= row["target"] else f"  below the target {row['wanted']:.2f}"
    return f"{row['size']:6} {row['name']:42} {rate}  {row['share']:5.2f} of {of}  us: {times}{verdict}"


def dry(sizes: list[str], plan: Any) -> None:
    """Print the jobs that would run and their costs, which follow from shapes alone."""
    for size in sizes:
        for job in jobs(size, plan.k, Shapes()):
            unit = "GB" if job.kind == "memory" else "TFLOP"
            print(f"{size:6} {job.name:42} {job.amount / (GIGA if unit == 'GB' else TERA):8.4f} {unit}")
        task = workload.parse(f"glimmer-25-5,k={plan.k},steps={plan.steps}")
        macs = sum(workload.macs(task, workload.shape(size)).values())
        print(f"{size:6} {workload.spell(task):42} {2 * macs / TERA:8.4f} TFLOP")


class Shapes:
    """Replaces a random generator by arrays of the same shapes that take no memory."""

    def standard_normal(self, shape: Any, dtype: Any) -> np.ndarray:
        return np.broadcast_to(np.float32(0), shape)

    def integers(self, low: int, high: int, n: int) -> np.ndarray:
        return np.broadcast_to(np.int64(0), n)


def machine() -> dict[str, Any]:
    """The GPU, versions and the date."""
    import torch

    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    found = {"card": card, "date": datetime.now(UTC).date().isoformat(), "torch": torch.__version__}
    return found | {
        name: version(name) for name in ("numpy", "numba", "numba-cuda") if find_spec(name.replace("-", "_"))
    }


def main() -> int:
    """The exit code: 0 if all targets are reached, 1 if not, 2 if the benchmark cannot run here."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="base,large,xl")
    parser.add_argument("--k", type=int, default=25)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--least", type=float, default=0.05, help="seconds that a kernel runs for in a round")
    parser.add_argument("--quick", action="store_true", help="base alone, two rounds")
    parser.add_argument("--rehearse", action="store_true", help="everything once on the CPU, to see that it runs")
    parser.add_argument("--dry", action="store_true", help="only print what would be measured")
    parser.add_argument("--out", type=Path, help="a JSON file for benchmarks/results")
    plan = parser.parse_args()
    if plan.quick:
        plan.size, plan.rounds = "base", 2
    if plan.rehearse:
        plan.size, plan.rounds, plan.least, plan.steps = "tiny", 1, 0, 2
    try:
        return measure(plan)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2


def measure(plan: Any) -> int:
    sizes = plan.size.split(",")
    if plan.dry:
        dry(sizes, plan)
        return 0
    ours = bind("numba" if plan.rehearse else "cuda")
    import torch
    from numba import cuda
    from peers import torch_ops

    theirs, rows = Ops(torch_ops), []

    def wait() -> None:
        if not plan.rehearse:
            cuda.synchronize()
            torch.cuda.synchronize()

    peaks = hardware_peaks(wait, plan.least)
    print(", ".join(f"{name} {x / (GIGA if name == 'copy' else TERA):.1f}" for name, x in peaks.items()), machine())
    for size in sizes:
        for found in (kernels(size, ours, theirs, wait, plan, peaks), answers(size, ours, theirs, wait, plan)):
            for row in found:
                rows.append(row)
                print(line(row), flush=True)
                if plan.out:
                    plan.out.write_text(json.dumps({"machine": machine(), "peaks": peaks, "rows": rows}, indent=1))
    return int(any(row["share"] < row["target"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
