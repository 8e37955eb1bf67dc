"""One job for each training and seed: its recipe, its folder, its progress and the time that it still needs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from miniature.experiments import Point, Training
from miniature.recipes import recipe_of

from glimmer_ref.disk.read import read_json
from glimmer_ref.disk.toml import key_of
from glimmer_ref.errors import InputError
from glimmer_ref.training.checkpoint import POSITION
from glimmer_ref.training.log import LOG, read_log
from glimmer_ref.training.loop import LAST, run_settings
from glimmer_ref.training.recipe import Recipe

Key = tuple[str, int, int, int]  # the key of a stage: system, batch, k, m


def _toml(value: Any) -> str:
    """A value as TOML writes it on one line."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(name)} = {_toml(x)}" for name, x in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def written(recipe: Recipe) -> str:
    """A recipe as a TOML file with every setting."""

    def table(part: Any) -> str:
        return "".join(f"{json.dumps(key_of(f))} = {_toml(getattr(part, f.name))}\n" for f in fields(part))

    parts = [table(recipe.top)]
    parts += [f"[{name}]\n{table(getattr(recipe, name))}" for name in ("model", "data", "optimizer", "evaluation")]
    return "\n".join([*parts, *(f"[[stages]]\n{table(stage)}" for stage in recipe.stages)])


class Job(NamedTuple):
    """One training with one seed: its recipe, and the folder of its run."""

    training: Training
    seed: int
    recipe: Recipe
    folder: Path

    @property
    def name(self) -> str:
        """Its printed name."""
        return f"{self.training.name}, seed {self.seed}"

    def position(self) -> dict[str, Any] | None:
        """Its last checkpoint's position; None if it has not begun."""
        path = self.folder / LAST / POSITION
        found: dict[str, Any] | None = read_json(path) if path.is_file() else None
        return found

    def finished(self, ops: str) -> bool:
        """True if the training is complete.

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

    def test(self, point: Point) -> Path:
        """The file with its scores at the point's system, k and m."""
        return self.folder / f"test-{point.system}-{point.k}-{point.m}.json"


def slug(training: Training) -> str:
    """The training's name as the name of a folder."""
    return "-".join("".join(c if c.isalnum() or c == "." else " " for c in training.name).split())


def jobs_of(trainings: Iterable[Training], base: str, seeds: Sequence[int], scale: float, out: Path) -> list[Job]:
    """Every training with every seed. If a training begins from another, the other comes first."""
    needed = dict.fromkeys(t for training in trainings for t in (training.begins, training) if t is not None)
    result = []
    for training in sorted(needed, key=lambda t: t.begins is not None):
        for seed in seeds:
            begins = "" if training.begins is None else str(out / slug(training.begins) / str(seed) / LAST)
            recipe = recipe_of(training, base, seed, scale, begins)
            result.append(Job(training, seed, recipe, out / slug(training) / str(seed)))
    return result


def stage_keys(recipe: Recipe) -> Iterator[tuple[Key, int]]:
    """For each stage its steps, and the key on which its pace depends most."""
    for stage in recipe.stages:
        yield (recipe.top.system, stage.batch, stage.k, stage.m), stage.steps


def _paces(folder: Path) -> Iterator[tuple[Key, float, int]]:
    """Seconds and steps between successive evaluations of a run within a stage."""
    with suppress(OSError, KeyError, TypeError, InputError):
        recipe = read_json(folder / LAST / POSITION)["recipe"]
        begin = 0
        log = [(0, 0.0), *((r["step"], r["seconds"]) for r in read_log(folder / LOG) if "seconds" in r)]
        for stage in recipe["stages"]:
            here = [(step, seconds) for step, seconds in log if begin <= step <= begin + stage["steps"]]
            key = (recipe["top"]["system"], stage["batch"], stage["k"], stage["m"])
            begin += stage["steps"]
            for (a, start), (b, end) in pairwise(here):
                yield key, end - start, b - a


class Pace:
    """Seconds per step, measured from earlier runs; evaluations on dev are included."""

    def __init__(self, folders: Iterable[Path]) -> None:
        sums: dict[Key, tuple[float, int]] = {}
        for folder in folders:
            for key, seconds, steps in _paces(folder):
                before = sums.get(key, (0.0, 0))
                sums[key] = (before[0] + seconds, before[1] + steps)
        self.known = {key: seconds / steps for key, (seconds, steps) in sums.items() if steps}

    def step(self, key: Key) -> float | None:
        """Seconds per step of a stage; if not measured, those of another system with the same batch, k and m."""
        similar = [pace for other, pace in self.known.items() if other[1:] == key[1:]]
        return self.known.get(key, max(similar, default=None))

    def seconds(self, recipe: Recipe, done: int = 0) -> float | None:
        """Seconds that the rest of a recipe takes; None if one of its stages was never measured."""
        total = 0.0
        for key, steps in stage_keys(recipe):
            left, done = max(0, steps - done), max(0, done - steps)
            pace = self.step(key)
            if left and pace is None:
                return None
            total += left * (pace or 0.0)
        return total


def steps_done(job: Job) -> int:
    """Steps according to the last line of its log, which is ahead of its checkpoint."""
    with suppress(OSError, ValueError, IndexError, KeyError), (job.folder / LOG).open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - 4096))
        return int(json.loads(file.read().splitlines()[-1])["step"])
    position = job.position()
    return 0 if position is None else int(position["step"])


def minutes(seconds: float | None) -> str:
    """A time in minutes or hours."""
    return (
        "not known" if seconds is None else f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
    )


def remaining(jobs: Sequence[Job], pace: Pace) -> float | None:
    """Seconds that one process takes for the rest of these jobs; None if it cannot be estimated."""
    some = [pace.seconds(job.recipe, steps_done(job)) for job in jobs]
    return None if None in some else sum(x for x in some if x is not None)


def differences(recipe: Recipe, base: Recipe, training: Training) -> dict[str, list[Any]]:
    """The differences of a training's recipe from the base: for each key, [the base's value, its own].

    Only the stages that the training goes through are compared. For training on a single task, the difference is the
    task's name.
    """
    found: dict[str, list[Any]] = {}

    def compare(a: Any, b: Any, place: str) -> None:
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            for name in dict.fromkeys([*a, *b]):
                compare(a.get(name), b.get(name), f"{place}.{name.removesuffix('_')}" if place else name)
        elif a != b:
            found[place] = [a, b]

    def plain(some: Recipe, stages: Sequence[Any]) -> dict[str, Any]:
        parts = {name: part for name, part in asdict(some).items() if name in ("model", "optimizer")}
        return {"system": some.top.system, **parts, "stage": {stage.name: asdict(stage) for stage in stages}}

    own = base.stages[training.first : training.last]
    compare(plain(base, own), plain(recipe, recipe.stages), "")
    if training.task:
        found = {name: pair for name, pair in found.items() if ".tasks." not in name}
        found["tasks"] = ["as the base weighs them", training.task]
    if len(own) != len(base.stages):
        found["stages"] = [[stage.name for stage in stages] for stages in (base.stages, own)]
    return found
