"""Evaluates a result file: times, ratios in each round, and shares of the hardware peaks of the same round."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from glimmer_ref.bench.measure import Spread
from glimmer_ref.bench.session import share

Run = Mapping[str, Any]
DECODING = ("cross", "decoder")  # stages of a run that come after the encoder
DECODER_MACS = ("cross", "decoder", "decoder.attention", "head")


class Result:
    """The document of a result file, and the numbers that follow from it.

    The key of a run is its group (the number of threads that most engines had), its workload and its engine.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.workloads: dict[str, Any] = document["works"]
        self.runs: dict[tuple[int, str, str], dict[int, Run]] = {}
        for run in document["runs"]:
            self.runs.setdefault((run["group"], run["work"], run["engine"]), {})[run["round"]] = run
        self.peaks: dict[tuple[int, str, int], dict[int, Run]] = {}
        for peaks in document["peaks"]:
            self.peaks.setdefault((peaks["group"], peaks["work"], peaks["threads"]), {})[peaks["round"]] = peaks

    @property
    def kind(self) -> str:
        """The kind of the processor, see `glimmer_ref.ops.processor`."""
        return str(self.document["machine"]["kind"])

    @property
    def groups(self) -> list[int]:
        """Numbers of threads."""
        return sorted({group for group, _, _ in self.runs})

    def engines(self, group: int, workload: str) -> list[str]:
        """The engines that did a workload, in the order of the document."""
        return [engine for engine in self.document["engines"] if (group, workload, engine) in self.runs]

    def spread(self, group: int, workload: str, engine: str, field: str = "wall") -> Spread | None:
        """A field over all rounds; None if there is no such run."""
        runs = self.runs.get((group, workload, engine))
        return Spread.of([run[field] for run in runs.values()]) if runs else None

    def ratio(
        self, group: int, a: tuple[str, str], b: tuple[str, str], of: Callable[[Run], float] = lambda run: run["wall"]
    ) -> Spread | None:
        """The seconds of a divided by those of b in each round; each is (workload, engine)."""
        left, right = self.runs.get((group, *a), {}), self.runs.get((group, *b), {})
        rounds = sorted(set(left) & set(right))
        return Spread.of([of(left[r]) / of(right[r]) for r in rounds]) if rounds else None

    def share(self, group: int, workload: str, engine: str) -> Spread | None:
        """The share of the hardware peak of the same round, for the engine's threads and precision."""
        runs, about = self.runs.get((group, workload, engine), {}), self.document["engines"].get(engine, {})
        peaks = self.peaks.get((group, workload, about.get("threads", 0)), {})
        if not runs:
            return None
        costs = self.workloads[workload]
        macs, read, precision = sum(costs["macs"].values()), costs["bytes"][about["precision"]], about["precision"]
        parts = [share(peaks[r], precision, macs, read, run["wall"]) for r, run in runs.items() if r in peaks]
        return Spread.of(parts) if parts else None

    def peak(self, group: int, threads: int, name: str) -> Spread | None:
        """A hardware peak over all rounds of a group."""
        some = [
            peaks[name] for peaks in self.document["peaks"] if (peaks["group"], peaks["threads"]) == (group, threads)
        ]
        return Spread.of(some) if some else None

    def encoder_macs(self, workload: str) -> int:
        """Multiply-adds of a system before its decoder."""
        return sum(n for name, n in self.workloads[workload]["macs"].items() if name not in DECODER_MACS)


def encoder_seconds(run: Run) -> float:
    """Seconds of a system before its decoder."""
    return sum(s for name, s in run["stages"].items() if name not in DECODING)


def stage_macs(macs: Mapping[str, int]) -> dict[str, int]:
    """Multiply-adds by timed stage: attention belongs to its stage, and the logits belong to the decoder."""
    result: dict[str, int] = {}
    for name, n in macs.items():
        stage = "decoder" if name == "head" else name.removesuffix(".attention")
        result[stage] = result.get(stage, 0) + n
    return result
