"""Checkpoints: a model folder with the optimizer's state and the position in the run, written completely or not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from errno import ENOSPC
from pathlib import Path
from typing import Any

import numpy as np

from ..config import GlimmerConfig
from ..disk.folder import recover, replaced
from ..disk.read import read_json, reason_of
from ..disk.write import write_json
from ..errors import InputError
from ..params import checkpoint
from ..params.model import from_arrays, leaves
from ..params.safetensors_io import map_tensors, write_tensors
from .adafactor import Weights
from .log import is_evaluation

MOMENTS, POSITION = "optimizer.safetensors", "position.json"
# The attributes of a state that position.json stores: key -> attribute.
KEYS = {"step": "step", "judged": "evaluated", "best": "best", "seconds": "seconds"}
KINDS: dict[str, Callable[[Any], bool]] = {
    "step": lambda x: type(x) is int and x >= 0,
    "judged": lambda x: type(x) is int and x >= -1,
    "best": lambda x: x is None or is_evaluation(x),
    "seconds": lambda x: type(x) in (int, float) and x >= 0,
    "recipe": lambda x: isinstance(x, dict),
}


@dataclass(frozen=True, eq=False)
class State:
    """Everything on which the next step depends, and a summary of the steps so far.

    Args:
        config: the model's config.
        weights, moments: arrays by name. The moments are the optimizer's state, including the number of its updates.
        step: number of steps done, of all stages together.
        evaluated: number of steps before the last evaluation; -1: not evaluated yet.
        best: the log's record of the best evaluation so far; None: not evaluated yet.
        seconds: time spent so far, in all runs together.
    """

    config: GlimmerConfig
    weights: Weights
    moments: Weights
    step: int = 0
    evaluated: int = -1
    best: dict[str, Any] | None = None
    seconds: float = 0.0

    def changed(self, **changes: Any) -> State:
        """The same state with other values of some attributes."""
        return replace(self, **changes)


def save(folder: Path, state: State, tokenizer_json: str, settings: Mapping[str, Any], resumable: bool = True) -> None:
    """Write a checkpoint, which replaces the previous one. The caller holds the lock of the parent folder.

    Args:
        settings: the settings of the run, from `loop.run_settings`.
        resumable: whether to write the optimizer's state too, not only the model and its evaluation.

    Raises:
        InputError: the folder cannot be written, or the disk is full. The previous checkpoint is kept.
    """
    position = {key: getattr(state, name) for key, name in KEYS.items()} | {"recipe": dict(settings)}
    try:
        with replaced(folder) as new:
            checkpoint.write_model(new, from_arrays(state.config, state.weights), tokenizer_json)
            if resumable:
                write_tensors(new / MOMENTS, state.moments)
            write_json(new / POSITION, position)
    except (OSError, InputError) as error:
        kept = "the checkpoint before it is kept" if folder.exists() else "nothing was kept"
        if isinstance(error, InputError):
            raise error.at(do=kept) from None
        do = f"make room; {kept}" if error.errno == ENOSPC else kept
        raise InputError(f"{folder}", "a place where a checkpoint can be written", reason_of(error), do) from None


def open_checkpoint(folder: Path, settings: Mapping[str, Any]) -> State:
    """Read a resumable checkpoint.

    Args:
        settings: the settings with which the run must have started, from `loop.run_settings`.

    Raises:
        InputError: there is no checkpoint, it is damaged, or its settings differ. The message names the first of these.
    """
    recover(folder)
    if not (folder / POSITION).is_file():
        raise InputError(f"{folder}", "a checkpoint of an earlier run", "none", "start without --resume")
    position = read_json(folder / POSITION)
    if not isinstance(position, dict) or not all(is_right(position.get(name)) for name, is_right in KINDS.items()):
        raise InputError(
            f"{folder / POSITION}",
            "the position of an earlier run",
            "something else",
            "perhaps the file is damaged: get or make it again",
        )
    _check_same_settings(position["recipe"], json.loads(json.dumps(dict(settings))), f"{folder}: recipe")
    model = checkpoint.load(folder)
    moments = {name: np.array(x.raw) for name, x in map_tensors(folder / MOMENTS).items()}
    return State(model.config, leaves(model), moments, **{name: position[key] for key, name in KEYS.items()})


def _check_same_settings(saved: Any, current: Any, path: str) -> None:
    if isinstance(saved, dict) and isinstance(current, dict):
        for name in sorted(saved.keys() | current.keys()):
            _check_same_settings(saved.get(name), current.get(name), f"{path}.{name}")
    elif isinstance(saved, list) and isinstance(current, list) and len(saved) == len(current):
        for i, (a, b) in enumerate(zip(saved, current, strict=True)):
            _check_same_settings(a, b, f"{path}.{i}")
    elif saved != current:
        raise InputError(
            path,
            f"{json.dumps(saved)}, as the run began",
            json.dumps(current),
            "use the recipe of this run, or another --out",
        )
