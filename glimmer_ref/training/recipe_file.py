"""Recipes from TOML files. A file may extend another file, and the command line may change values. All is checked."""

from __future__ import annotations

import copy
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..config import GlimmerConfig, T5Config
from ..disk.toml import check_known, key_of, read, read_toml
from ..errors import InputError, brief
from .recipe import SOURCES, DataTable, EvaluationTable, ModelTable, OptimizerTable, Recipe, Stage, Top

RECIPES = Path(__file__).resolve().parent / "recipes"
SIZES = tuple(f.name for f in fields(T5Config) if f.name != "vocab_size")
SETTINGS = tuple(
    f.name for f in fields(GlimmerConfig) if f.name not in ("t5", "trained_as") and not f.name.startswith("num_")
)
TABLES = {"model": ModelTable, "data": DataTable, "optimizer": OptimizerTable, "evaluation": EvaluationTable}
TOP_KEYS = tuple(key_of(f) for f in fields(Top))
KEYS = ("extends", *TOP_KEYS, *TABLES, "every_stage", "stages")


def find(recipe: str | Path, relative_to: Path | None = None) -> Path:
    """The file of a recipe.

    Args:
        recipe: a path, or the name of a recipe that comes with the package.
        relative_to: a file. Relative paths start at its folder.

    Raises:
        InputError: there is no such file and no bundled recipe with this name.
    """
    bundled = RECIPES / f"{recipe}.toml"
    if str(recipe) == Path(recipe).name and os.path.isfile(bundled):
        return bundled
    path = Path(recipe) if relative_to is None else relative_to.parent / recipe
    if os.path.exists(path):  # also False for an invalid file name
        return path
    names = sorted(p.stem for p in RECIPES.glob("*.toml"))
    raise InputError(f"recipe {recipe}", f"a TOML file, or one of {', '.join(names)}", "no such file")


def _merge(below: Any, above: Any) -> Any:
    """Merge `above` into `below`: tables key by key. Other values, and tables of shares, are replaced as a whole."""
    if isinstance(below, Mapping) and isinstance(above, Mapping):
        whole = ("negatives", "tasks")
        return {**below, **{n: v if n in whole else _merge(below.get(n), v) for n, v in above.items()}}
    return above


def _merged(path: Path, extends: str | None = None, depth: int = 0) -> dict[str, Any]:
    """The tables of a file, merged into those of the recipe that it extends."""
    data = read_toml(path)
    if extends is not None:
        data["extends"] = extends
    base = data.pop("extends", None)
    if base is None:
        return data
    if not isinstance(base, str) or depth > 8:
        raise InputError(f"{path}: extends", "the name of a recipe, and no circle of recipes", brief(base))
    merged = _merge(_merged(find(base, path), depth=depth + 1), data)
    assert isinstance(merged, dict)
    return merged


def _change(data: dict[str, Any], dotted: str, value: Any) -> None:
    """Set the value of a key such as stages.0.rate."""
    at: Any = data
    words = dotted.split(".")
    for i, word in enumerate(words):
        last = i == len(words) - 1
        if isinstance(at, list):
            if not word.isdigit() or int(word) >= len(at) or last:
                raise InputError(
                    f"--set {dotted}", f"a stage from 0 to {len(at) - 1} and a key of it, such as stages.0.rate", word
                )
            at = at[int(word)]
        elif not isinstance(at, dict):
            raise InputError(f"--set {dotted}", "keys of tables", f"{words[i - 1]}, which is a value")
        elif last:
            at[word] = value
        else:
            at = at.setdefault(word, {})


def _value(text: str) -> Any:
    """A value in TOML's syntax. Any other text is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        return text


def read_recipe(recipe: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """A recipe from a file, or a bundled one by name.

    Args:
        changes: texts such as "seed=3" or "stages.0.rate=0.001", which replace values of the file.

    Raises:
        InputError: there is no such file, it is not TOML, a key is unknown or missing, a value has another type or is
            out of range, or values contradict each other. The message names file and key.
    """
    pairs = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals or not name.strip():
            raise InputError("--set", "KEY=VALUE", change)
        pairs[name.strip()] = _value(text.strip())
    path = find(recipe)
    data = copy.deepcopy(_merged(path, pairs.pop("extends", None)))
    for name, value in pairs.items():
        _change(data, name, value)
    return _checked(str(path), data)


def _checked(path: str, data: dict[str, Any]) -> Recipe:
    check_known(path, data, KEYS)
    top = read(Top, {word: data[word] for word in TOP_KEYS if word in data}, path)
    tables: Any = {name: read(cls, data.get(name, {}), f"{path}: {name}") for name, cls in TABLES.items()}
    stages, shared = data.get("stages", []), data.get("every_stage", {})
    if not isinstance(stages, list) or not stages:
        raise InputError(f"{path}: stages", "at least one table [[stages]]", brief(stages))
    checked = (_stage(f"{path}: stages.{i}", _merge(shared, stage)) for i, stage in enumerate(stages))
    result = Recipe(top, stages=tuple(checked), **tables)
    _check_together(path, result)
    return result


def _stage(location: str, data: Any) -> Stage:
    stage = read(Stage, data, location)
    if stage.m > stage.k:
        raise InputError(f"{location}.m", "a number of at most k", f"k={stage.k}, m={stage.m}")
    if stage.accumulate > stage.batch:
        raise InputError(f"{location}.accumulate", f"at most batch={stage.batch}", str(stage.accumulate))
    check_known(f"{location}.negatives", stage.negatives, SOURCES)
    if not sum(stage.negatives.values()):
        raise InputError(f"{location}.negatives", "a share above 0", str(stage.negatives))
    return stage


def _check_together(path: str, recipe: Recipe) -> None:
    """Check that the tables fit each other."""
    model = recipe.model
    check_known(f"{path}: model.t5", model.t5, SIZES)
    check_known(f"{path}: model.glimmer", model.glimmer, SETTINGS)
    if not model.init and not (model.t5 and model.alpha and model.beta):
        raise InputError(f"{path}: model", "either init, or the table t5 with alpha and beta", "neither")
    if not model.init and model.score == "keep":
        raise InputError(f"{path}: model.score", '"auto" or "draw", since there is no init', '"keep"')
    if not model.init and not recipe.data.tokenizer:
        raise InputError(
            f"{path}: data.tokenizer", "a file, since there is no model.init whose tokenizer could be used", "none"
        )
    for i, stage in enumerate(recipe.stages):
        if stage.rename and not recipe.data.groups:
            raise InputError(f"{path}: stages.{i}.rename", "false, or a file data.groups", "true without it")
