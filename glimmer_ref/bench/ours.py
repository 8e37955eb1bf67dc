"""This package as an engine: python -m glimmer_ref.bench.ours --size base --precision float32."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from typing import Any

import numpy as np

from ..ops import BACKENDS, PRECISIONS, Ops, bind
from ..paper.decoding import greedy
from ..paper.fid import encode_pairs
from ..params.model import prepare_params
from ..ragged import States
from .measure import Job, RunDetails, Stages
from .process import serve
from .workload import SHAPES, Workload, parse, prepare, question_and_passages, shape, weights

CHECKED = Workload(
    "encoder", k=2, n_q=24, n_p=136, steps=8
)  # the input on which all engines must agree; it is longer than the largest distance of the position buckets


class Ours:
    """This package on random weights.

    Args:
        size: a size of T5.1.1.
        precision: the precision of matrix products.
        backend: "numba", or "numpy", the reference backend.
        threads: used for the hardware peaks only; the threads of all workloads follow the environment.
    """

    def __init__(self, size: str, precision: str = "float32", backend: str = "numba", threads: int = 1) -> None:
        self.backend, self.precision, self.threads = backend, precision, threads
        self.ops = bind(backend)
        self.model = prepare_params(self.ops, weights(shape(size)), precision)

    def about(self) -> dict[str, Any]:
        """Versions, backend and precision."""
        import numba

        return {"numpy": np.__version__, "numba": numba.__version__, "ops": self.backend, "precision": self.precision}

    def job(self, workload: str) -> Job:
        """The workload, or "peaks" or "peaks-cpu", which measure the hardware peaks by one of two clocks."""
        if workload in ("peaks", "peaks-cpu"):
            from .hardware_peaks import measure_peaks

            clock = time.process_time if workload == "peaks-cpu" else time.perf_counter
            return lambda: RunDetails(asdict(measure_peaks(self.threads, clock=clock)))
        task = parse(workload)
        runs = prepare(task, self.ops, self.model)

        def run() -> RunDetails:
            stages = Stages(self.ops)
            runs.run(stages)
            wall, cpu = stages.seconds()
            return RunDetails(wall, stages.since("decoder", 1) if task.kind == "decode" else None, cpu)

        return run

    def check(self, path: str) -> list[str]:
        """Write the encoder's output and the first ids decoded from it."""
        results: dict[str, Any] = checked(self.ops, self.model)
        np.savez(path, **results)
        return sorted(results)


def checked(ops: Ops, model: Any) -> dict[str, np.ndarray]:
    """The values on which all engines must agree.

    They are the encoder's output [2n d], the ids decoded from both pairs, and the ids decoded from the first alone.
    """
    q, p, _ = question_and_passages(CHECKED, model.config.t5)
    pairs = encode_pairs(ops, model, q, p, np.array([CHECKED.k]))
    n = int(pairs.lengths[0])
    both = States(pairs.states, pairs.lengths.sum(keepdims=True), pairs.positions)
    first = States(
        ops.gather_sequences(pairs.states, pairs.lengths, np.array([0])), pairs.lengths[:1], pairs.positions[:n]
    )
    return {
        "encoder": np.array(ops.to_host(pairs.states)),
        "ids": np.array(greedy(ops, model, both, CHECKED.steps)[0].ids),
        "first_ids": np.array(greedy(ops, model, first, CHECKED.steps)[0].ids),
    }


def main() -> None:
    """Answer requests until stdin ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=SHAPES, default="base")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--ops", choices=BACKENDS, default="numba")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    serve(lambda: Ours(args.size, args.precision, args.ops, args.threads))


if __name__ == "__main__":
    main()
