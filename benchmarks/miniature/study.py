"""One study: a base recipe with the experiments that change it, and which tests in a runs file are of it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from miniature import runs
from miniature.experiments import EXPERIMENTS, Shape
from miniature.recipes import recipe_digest, recipe_of
from miniature.structure import Experiment, Point, Training

from glimmer_ref.training.recipe_file import read_recipe

HERE = Path(__file__).resolve().parent
BASE = HERE / "trends.toml"


class Study:
    """All experiments on a base recipe.

    Args:
        base: the recipe's file.
        ops: the backend that trains.
        ends: only the first and last point of each line.
    """

    def __init__(self, base: Path = BASE, ops: str = "numba", ends: bool = False) -> None:
        self.base, self.ops = str(base.resolve()), ops
        self.recipe = read_recipe(self.base)
        self.shape = Shape.of(self.recipe)
        made = {name: make(self.shape) for name, make in EXPERIMENTS.items()}
        self.experiments: dict[str, Experiment] = {name: e.ends() if ends else e for name, e in made.items()}

    @cached_property
    def points(self) -> dict[Training, list[Point]]:
        """The tests of each training, of all experiments together, each once."""
        found: dict[Training, dict[tuple[str, int, int], Point]] = {}
        for experiment in self.experiments.values():
            for point in experiment.points():
                found.setdefault(point.training, {}).setdefault((point.system, point.k, point.m), point)
        return {training: list(some.values()) for training, some in found.items()}

    @cached_property
    def _named(self) -> dict[str, Training]:
        return {training.name: training for training in self.points}

    def digest(self, name: str, seed: int) -> str | None:
        """The digest of a training's recipe with a seed; None if there is no such training."""
        training = self._named.get(name)
        return None if training is None else recipe_digest(recipe_of(training, self.base, seed), self.ops)

    def start(self, name: str) -> str | None:
        """What a training starts from; None if there is no such training."""
        training = self._named.get(name)
        return None if training is None else training.start

    def select(self, path: Path, source: runs.Source | None = None) -> runs.Sorted:
        """The tests in a file that are of this study; see `runs.select`."""
        return runs.select(runs.read(path), self.digest, self.start, source)
