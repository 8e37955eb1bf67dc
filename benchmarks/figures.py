"""What a result file says: times, ratios round by round, shares of the ceilings of the same rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from glimmer_ref.bench.measure import Spread
from glimmer_ref.bench.session import share

Run = Mapping[str, Any]
DECODING = ("cross", "decoder")  # stages of a run that are not the encoder's side
DECODER_MACS = ("cross", "decoder", "decoder.attention", "head")


class Figures:
    """A document of `run.py`, and questions to it.

    A run is named by its group (the number of threads that most had), its work and its contestant.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.works: dict[str, Any] = document["works"]
        self.runs: dict[tuple[int, str, str], dict[int, Run]] = {}
        for run in document["runs"]:
            self.runs.setdefault((run["group"], run["work"], run["contestant"]), {})[run["round"]] = run
        self.tops: dict[tuple[int, str, int], dict[int, Run]] = {}
        for top in document["ceilings"]:
            self.tops.setdefault((top["group"], top["work"], top["threads"]), {})[top["round"]] = top

    @property
    def groups(self) -> list[int]:
        """Numbers of threads."""
        return sorted({group for group, _, _ in self.runs})

    def contestants(self, group: int, work: str) -> list[str]:
        """Who did a work, in the order of the document."""
        return [who for who in self.document["contestants"] if (group, work, who) in self.runs]

    def spread(self, group: int, work: str, who: str, field: str = "wall") -> Spread | None:
        """Of a field of all rounds; None if there is no such run."""
        runs = self.runs.get((group, work, who))
        return Spread.of([run[field] for run in runs.values()]) if runs else None

    def ratio(
        self, group: int, a: tuple[str, str], b: tuple[str, str], of: Callable[[Run], float] = lambda run: run["wall"]
    ) -> Spread | None:
        """How many times as long (work, contestant) a took as b, round by round."""
        left, right = self.runs.get((group, *a), {}), self.runs.get((group, *b), {})
        rounds = sorted(set(left) & set(right))
        return Spread.of([of(left[r]) / of(right[r]) for r in rounds]) if rounds else None

    def share(self, group: int, work: str, who: str) -> Spread | None:
        """The part of the ceiling of the same round, for its threads and precision."""
        runs, about = self.runs.get((group, work, who), {}), self.document["contestants"].get(who, {})
        tops = self.tops.get((group, work, about.get("threads", 0)), {})
        facts = self.works.get(work, {})
        if not runs:
            return None
        counted, read = sum(facts["macs"].values()), facts["bytes"][about["precision"]]
        parts = [share(tops[r], about["precision"], counted, read, run["wall"]) for r, run in runs.items() if r in tops]
        return Spread.of(parts) if parts else None

    def ceiling(self, group: int, threads: int, name: str) -> Spread | None:
        """Of all rounds of a group."""
        told = [top[name] for top in self.document["ceilings"] if (top["group"], top["threads"]) == (group, threads)]
        return Spread.of(told) if told else None

    def encoder_macs(self, work: str) -> int:
        """Multiply-adds of a system before its decoder."""
        return sum(n for name, n in self.works[work]["macs"].items() if name not in DECODER_MACS)


def encoder_seconds(run: Run) -> float:
    """Seconds of a system before its decoder."""
    return sum(s for name, s in run["stages"].items() if name not in DECODING)


def stage_macs(macs: Mapping[str, int]) -> dict[str, int]:
    """Multiply-adds by the stages that a run is timed in: attention with its stage, logits with the decoder."""
    result: dict[str, int] = {}
    for name, n in macs.items():
        stage = "decoder" if name == "head" else name.removesuffix(".attention")
        result[stage] = result.get(stage, 0) + n
    return result
