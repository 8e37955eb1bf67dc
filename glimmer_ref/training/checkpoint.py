"""Checkpoints: a model folder with the optimizer's state and the position, there whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..config import GlimmerConfig
from ..disk.folder import recover, replaced
from ..disk.read import read_json
from ..disk.write import write_json
from ..errors import InputError
from ..params import checkpoint
from ..params.model import from_arrays, leaves
from ..params.safetensors_io import map_tensors, write_tensors
from .adafactor import Weights
from .log import is_judged

MOMENTS, POSITION = "optimizer.safetensors", "position.json"
TOLD = ("step", "judged", "best", "seconds")  # of a state, in its position
KINDS: dict[str, Callable[[Any], bool]] = {
    "step": lambda x: type(x) is int and x >= 0,
    "judged": lambda x: type(x) is int and x >= -1,
    "best": lambda x: x is None or is_judged(x),
    "seconds": lambda x: type(x) in (int, float) and x >= 0,
    "recipe": lambda x: isinstance(x, dict),
}


@dataclass(frozen=True, eq=False)
class State:
    """All that the next step depends on, and what is told of the steps before.

    Args:
        config: of the model.
        weights, moments: by name; the optimizer's state holds the number of its updates.
        step: steps done, of all stages.
        judged: after how many of them it was evaluated last.
        best: the best evaluation so far, as it stands in the log; none: not evaluated yet.
        seconds: spent so far, in all runs together.
    """

    config: GlimmerConfig
    weights: Weights
    moments: Weights
    step: int = 0
    judged: int = -1
    best: dict[str, Any] | None = None
    seconds: float = 0.0

    def moved(self, **changes: Any) -> State:
        """The same with some parts new."""
        return replace(self, **changes)


def save(folder: Path, state: State, tokenizer_json: str, recipe: Mapping[str, Any], whole: bool = True) -> None:
    """Write a checkpoint in place of the one before, in a folder that the caller holds.

    Args:
        recipe: the facts of the recipe that it belongs to.
        whole: with what is needed to go on; else the model alone, with what it scored.

    Raises:
        InputError: the place cannot be written, or is full; the one before is still there then.
    """
    position = {name: getattr(state, name) for name in TOLD} | {"recipe": dict(recipe)}
    try:
        with replaced(folder) as new:
            checkpoint.write_model(new, from_arrays(state.config, state.weights), tokenizer_json)
            if whole:
                write_tensors(new / MOMENTS, state.moments)
            write_json(new / POSITION, position)
    except (OSError, InputError) as error:
        kept = f"{folder} is still the one before" if folder.exists() else "nothing was kept"
        raise InputError(
            f"{folder}", "a place where a checkpoint can be written", str(error), f"make room; {kept}"
        ) from None


def open_checkpoint(folder: Path, recipe: Mapping[str, Any]) -> State:
    """A checkpoint that was written whole.

    Args:
        recipe: the facts that it must have been written under.

    Raises:
        InputError: none there, damaged, or of another recipe, by the first key that differs.
    """
    recover(folder)
    if not (folder / POSITION).is_file():
        raise InputError(f"{folder}", "a checkpoint of an earlier run", "none", "start without --resume")
    position = read_json(folder / POSITION)
    if not isinstance(position, dict) or not all(is_right(position.get(name)) for name, is_right in KINDS.items()):
        raise InputError(f"{folder / POSITION}", "the position of an earlier run", "something else", "damaged?")
    _same(position["recipe"], json.loads(json.dumps(dict(recipe))), f"{folder}: recipe")
    model = checkpoint.load(folder)
    moments = {name: np.array(x.raw) for name, x in map_tensors(folder / MOMENTS).items()}
    return State(model.config, leaves(model), moments, **{name: position[name] for name in TOLD})


def _same(then: Any, now: Any, place: str) -> None:
    if isinstance(then, dict) and isinstance(now, dict):
        for name in sorted(then.keys() | now.keys()):
            _same(then.get(name), now.get(name), f"{place}.{name}")
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for i, (a, b) in enumerate(zip(then, now, strict=True)):
            _same(a, b, f"{place}.{i}")
    elif then != now:
        raise InputError(
            place, f"{json.dumps(then)}, as the run began", json.dumps(now), "another recipe: another --out"
        )
