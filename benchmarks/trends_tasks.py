"""The trainings of the trends one by one: recipe, folder, how far each is, and how long what is left takes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from trends_points import Point, Training, recipe_of

from glimmer_ref.disk.read import read_json
from glimmer_ref.errors import InputError
from glimmer_ref.training.checkpoint import POSITION
from glimmer_ref.training.log import LOG, read_log
from glimmer_ref.training.loop import LAST, run_settings
from glimmer_ref.training.recipe import Recipe
from glimmer_ref.training.schema import key_of

Key = tuple[str, int, int, int]  # of a stage: the system, and batch, k, m


def _toml(value: Any) -> str:
    """A value as TOML writes it on one line."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(name)} = {_toml(x)}" for name, x in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def written(recipe: Recipe) -> str:
    """A recipe as a TOML file that says everything."""

    def table(part: Any) -> str:
        return "".join(f"{json.dumps(key_of(f))} = {_toml(getattr(part, f.name))}\n" for f in fields(part))

    parts = [table(recipe.top)]
    parts += [f"[{name}]\n{table(getattr(recipe, name))}" for name in ("model", "data", "optimizer", "evaluation")]
    return "\n".join([*parts, *(f"[[stages]]\n{table(stage)}" for stage in recipe.stages)])


class Task(NamedTuple):
    """One training with one seed: what is run, and where it lies."""

    training: Training
    seed: int
    recipe: Recipe
    folder: Path

    def position(self) -> dict[str, Any] | None:
        """How far it is; None where it has not begun."""
        path = self.folder / LAST / POSITION
        found: dict[str, Any] | None = read_json(path) if path.is_file() else None
        return found

    def finished(self, ops: str) -> bool:
        """Is nothing left to train?

        Raises:
            InputError: what lies there was trained by another recipe.
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
        """The file of what it scores with the point's system, k and m."""
        return self.folder / f"test-{point.system}-{point.k}-{point.m}.json"


def slug(training: Training) -> str:
    """Its name as a folder's."""
    return "-".join("".join(c if c.isalnum() or c == "." else " " for c in training.name).split())


def tasks(trainings: Iterable[Training], base: str, seeds: Sequence[int], scale: float, out: Path) -> list[Task]:
    """Every training with every seed, what others begin from before those."""
    wanted = dict.fromkeys(t for training in trainings for t in (training.begins, training) if t is not None)
    result = []
    for training in sorted(wanted, key=lambda t: t.begins is not None):
        for seed in seeds:
            begins = "" if training.begins is None else str(out / slug(training.begins) / str(seed) / LAST)
            recipe = recipe_of(training, base, seed, scale, begins)
            result.append(Task(training, seed, recipe, out / slug(training) / str(seed)))
    return result


def stage_keys(recipe: Recipe) -> Iterator[tuple[Key, int]]:
    """Of each stage what its pace depends on most, and its steps."""
    for stage in recipe.stages:
        yield (recipe.top.system, stage.batch, stage.k, stage.m), stage.steps


def _paces(folder: Path) -> Iterator[tuple[Key, float, int]]:
    """Seconds and steps between neighbouring evaluations of a run, both in one stage."""
    with suppress(OSError, KeyError, TypeError, InputError):
        recipe = read_json(folder / LAST / POSITION)["recipe"]
        begin = 0
        told = [(0, 0.0), *((r["step"], r["seconds"]) for r in read_log(folder / LOG) if "seconds" in r)]
        for stage in recipe["stages"]:
            here = [(step, seconds) for step, seconds in told if begin <= step <= begin + stage["steps"]]
            key = (recipe["top"]["system"], stage["batch"], stage["k"], stage["m"])
            begin += stage["steps"]
            for (a, start), (b, end) in pairwise(here):
                yield key, end - start, b - a


class Pace:
    """Seconds that a step takes, as measured by runs before, evaluations on dev included."""

    def __init__(self, folders: Iterable[Path]) -> None:
        sums: dict[Key, tuple[float, int]] = {}
        for folder in folders:
            for key, seconds, steps in _paces(folder):
                before = sums.get(key, (0.0, 0))
                sums[key] = (before[0] + seconds, before[1] + steps)
        self.known = {key: seconds / steps for key, (seconds, steps) in sums.items() if steps}

    def step(self, key: Key) -> float | None:
        """Of a stage; of another system's with the same batch, k and m where its own was not measured."""
        like = [pace for other, pace in self.known.items() if other[1:] == key[1:]]
        return self.known.get(key, max(like, default=None))

    def seconds(self, recipe: Recipe, done: int = 0) -> float | None:
        """Of what is left of a recipe; None where a stage like one of its was never measured."""
        total = 0.0
        for key, steps in stage_keys(recipe):
            left, done = max(0, steps - done), max(0, done - steps)
            pace = self.step(key)
            if left and pace is None:
                return None
            total += left * (pace or 0.0)
        return total


def steps_done(task: Task) -> int:
    """By the last line of its log, which is ahead of its checkpoint."""
    with suppress(OSError, ValueError, IndexError, KeyError), (task.folder / LOG).open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - 4096))
        return int(json.loads(file.read().splitlines()[-1])["step"])
    position = task.position()
    return 0 if position is None else int(position["step"])


def minutes(seconds: float | None) -> str:
    """As people say it."""
    return (
        "not known" if seconds is None else f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
    )


def remaining(wanted: Sequence[Task], pace: Pace) -> float | None:
    """Seconds of one process for what is not trained yet."""
    some = [pace.seconds(task.recipe, steps_done(task)) for task in wanted]
    return None if None in some else sum(x for x in some if x is not None)


def differences(recipe: Recipe, base: Recipe, training: Training) -> dict[str, list[Any]]:
    """What a training's recipe has otherwise than the base's: by key, [base's, its own].

    Of stages that it goes through; where it begins from another training, of the model only what it sets; a single
    task by its name.
    """
    found: dict[str, list[Any]] = {}

    def compare(a: Any, b: Any, place: str) -> None:
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            for name in dict.fromkeys([*a, *b]):
                compare(a.get(name), b.get(name), f"{place}.{name.removesuffix('_')}" if place else name)
        elif a != b:
            found[place] = [a, b]

    def told(some: Recipe, stages: Sequence[Any]) -> dict[str, Any]:
        parts = {name: part for name, part in asdict(some).items() if name in ("model", "optimizer")}
        return {"system": some.top.system, **parts, "stage": {stage.name: asdict(stage) for stage in stages}}

    own = base.stages[training.first : training.last]
    compare(told(base, own), told(recipe, recipe.stages), "")
    if training.begins is not None:
        drawn = ("model.t5", "model.alpha", "model.beta")
        found = {name: pair for name, pair in found.items() if not name.startswith(drawn)}
    if training.task:
        found = {name: pair for name, pair in found.items() if ".tasks." not in name}
        found["tasks"] = ["as the base weighs them", training.task]
    if len(own) != len(base.stages):
        found["stages"] = [[stage.name for stage in stages] for stages in (base.stages, own)]
    return found
