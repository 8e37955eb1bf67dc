"""One job for each training and seed: its recipe, its folder, its progress and the time that it still needs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from miniature.recipes import recipe_of
from miniature.runs import Key, Record, key_of
from miniature.structure import Experiment, Point, Training
from miniature.study import Study

from glimmer_ref import tables
from glimmer_ref.disk.read import read_json
from glimmer_ref.errors import InputError
from glimmer_ref.training.checkpoint import POSITION
from glimmer_ref.training.log import LOG
from glimmer_ref.training.loop import LAST, run_settings
from glimmer_ref.training.recipe import Recipe

Kept = Mapping[Key, Record]


class Job(NamedTuple):
    """One training with one seed: its recipe, the folder of its run, and its tests."""

    training: Training
    seed: int
    recipe: Recipe
    folder: Path
    points: Sequence[Point]

    @property
    def name(self) -> str:
        """Its printed name."""
        return f"{self.training.name}, seed {self.seed}"

    def position(self) -> dict[str, Any] | None:
        """Its last checkpoint's position; None if it has not begun, or its folder was deleted."""
        path = self.folder / LAST / POSITION
        found: dict[str, Any] | None = read_json(path) if path.is_file() else None
        return found

    def trained(self, ops: str) -> bool:
        """True if its folder holds the complete training.

        Raises:
            InputError: the folder holds a run of another recipe.
        """
        position = self.position()
        if position is None:
            return False
        if position["recipe"] != json.loads(json.dumps(run_settings(self.recipe, ops))):
            raise InputError(
                f"{self.folder}", "a run of this recipe", "one of another", "another --out, or move it away"
            )
        return bool(position["step"] == position["judged"] == self.recipe.steps)

    def missing(self, kept: Kept) -> list[Point]:
        """Its tests that are not in the file of runs."""
        return [point for point in self.points if key_of(self.training, self.seed, point) not in kept]

    def steps_done(self, kept: Kept) -> int:
        """Its steps: all if it is tested, else by the last line of its log, which is ahead of its checkpoint."""
        if not self.missing(kept):
            return self.recipe.steps
        with suppress(OSError, ValueError, IndexError, KeyError), (self.folder / LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 4096))
            return int(json.loads(file.read().splitlines()[-1])["step"])
        position = self.position()
        return 0 if position is None else int(position["step"])


def slug(training: Training) -> str:
    """The training's name as the name of a folder."""
    return "-".join("".join(c if c.isalnum() or c == "." else " " for c in training.name).split())


def jobs_of(
    study: Study, chosen: Iterable[Experiment], seeds: Sequence[int], starts: Mapping[str, Path], out: Path
) -> list[Job]:
    """Every training of some experiments with every seed: all with the first seed, then all with the next.

    A training has the tests of all experiments that share it, so that it is not needed again for another of them.

    Args:
        starts: the folder for each `Training.start`.
    """
    trainings = dict.fromkeys(t for experiment in chosen for t in experiment.trainings())
    return [
        Job(
            training,
            seed,
            recipe_of(training, study.base, seed, str(starts[training.start])),
            out / slug(training) / str(seed),
            study.points[training],
        )
        for seed in seeds
        for training in trainings
    ]


def pace(kept: Kept, jobs: Iterable[Job]) -> dict[str, float]:
    """Seconds per step of each system, evaluations on dev included: of tested models and of those in training."""
    known = {(name, seed): (r["system"], r["train_seconds"], r["steps"]) for (name, seed, *_), r in kept.items()}
    for job in jobs:
        position = job.position()
        if position and position["step"]:
            known[job.training.name, job.seed] = (job.recipe.top.system, position["seconds"], position["step"])
    sums: dict[str, tuple[float, int]] = {}
    for system, seconds, steps in known.values():
        before = sums.get(system, (0.0, 0))
        sums[system] = (before[0] + seconds, before[1] + steps)
    return {system: seconds / steps for system, (seconds, steps) in sums.items()}


def remaining(jobs: Sequence[Job], kept: Kept, known: Mapping[str, float]) -> float | None:
    """Seconds that one process takes to train the rest of these jobs; None if no pace is known."""
    left = [(job.recipe.top.system, job.recipe.steps - job.steps_done(kept)) for job in jobs]
    if any(steps for _, steps in left) and not known:
        return None
    return sum(steps * known.get(system, max(known.values())) for system, steps in left if steps)


def minutes(seconds: float | None) -> str:
    """A time in minutes or hours."""
    return (
        "not known" if seconds is None else f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
    )


def plan(chosen: Sequence[Experiment], jobs: Sequence[Job], kept: Kept, at_once: int) -> list[str]:
    """Every training with its steps and minutes, and the cost of each figure or table by itself."""
    known, by_name, body = pace(kept, jobs), dict[Training, list[Job]](), []
    for job in jobs:
        by_name.setdefault(job.training, []).append(job)
    for training, some in by_name.items():
        of = [experiment.name for experiment in chosen if training in experiment.trainings()]
        done = sum(not job.missing(kept) for job in some)
        left = minutes(remaining(some, kept, known))
        body.append([training.name, str(len(some)), str(done), f"{some[0].recipe.steps:,}", left, ", ".join(of)])
    lines = [*tables.text(body, ["training", "seeds", "done", "steps each", "left", "for"]), ""]
    costs = []
    for experiment in chosen:
        mine = [job for job in jobs if job.training in experiment.trainings()]
        done = sum(not job.missing(kept) for job in mine)
        costs.append([experiment.name, str(len(mine)), str(done), minutes(remaining(mine, kept, known))])
    lines += [*tables.text(costs, ["by itself", "trainings", "done", "left"]), ""]
    seconds = remaining(jobs, kept, known)
    total, done = minutes(None if seconds is None else seconds / at_once), sum(not job.missing(kept) for job in jobs)
    lines.append(
        f"all together: {len(jobs)} trainings, {done} done, {total} left with {at_once} at once (without testing)"
    )
    return lines


def progress_line(jobs: Sequence[Job], kept: Kept, at_once: int) -> str:
    """Models and steps done, and the time left."""
    done, total = sum(job.steps_done(kept) for job in jobs), sum(job.recipe.steps for job in jobs)
    seconds = remaining(jobs, kept, pace(kept, jobs))
    time_left = minutes(None if seconds is None else seconds / at_once)
    finished = sum(not job.missing(kept) for job in jobs)
    return f"{finished} of {len(jobs)} models tested, {done:,} of {total:,} steps; time left: {time_left}"
