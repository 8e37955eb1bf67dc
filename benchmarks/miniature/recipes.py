"""The recipe of a training: the base recipe with the training's changes."""

from __future__ import annotations

from dataclasses import replace

from miniature.experiments import Training

from glimmer_ref.training.recipe import OTHERS, Recipe, Stage
from glimmer_ref.training.recipe_file import read_recipe
from glimmer_ref.world.questions import TASKS, TRAINING_TASKS


def _one_task(stage: Stage, training: Training) -> Stage:
    """The stage with one task only; with `same_questions`, its steps are cut to that task's share of the questions."""
    if not training.task:
        return stage
    weights = {task: stage.tasks.get(task, stage.tasks.get(OTHERS, 1.0)) for task in TASKS | TRAINING_TASKS}
    share = weights[training.task] / sum(weights.values()) if training.same_questions else 1.0
    return replace(_scaled(stage, share), tasks={training.task: 1.0, OTHERS: 0.0})


def _scaled(stage: Stage, scale: float) -> Stage:
    """The stage with `scale` times the steps, and warm-up and decay in proportion."""
    if scale == 1:
        return stage
    parts = {name: round(scale * getattr(stage, name)) for name in ("warmup", "decay")}
    return replace(stage, steps=max(1, round(scale * stage.steps)), **parts)


def recipe_of(training: Training, base: str, seed: int, scale: float = 1.0, begins: str = "") -> Recipe:
    """The complete recipe of a training.

    The model is evaluated on dev only at the end of each stage, since a point is the last model, not the best on dev.

    Args:
        base: a recipe's name or file.
        scale: the factor on the steps of the base.
        begins: the folder of the weights at the start, which are cut as the recipe says; "" if they are random.

    Raises:
        InputError: the base does not take the changes.
    """
    extends = [f"extends={base}"] if training.recipe else []
    found = read_recipe(training.recipe or base, [*extends, f"seed={seed}", *training.changes])
    stages = tuple(_one_task(_scaled(s, scale), training) for s in found.stages[training.first : training.last])
    model = found.model if training.begins is None else replace(found.model, init=begins)
    steps = sum(stage.steps for stage in stages)
    return replace(found, stages=stages, model=model, evaluation=replace(found.evaluation, every=steps))
