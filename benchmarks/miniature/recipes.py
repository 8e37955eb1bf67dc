"""The recipe of a training: the base recipe with the training's changes, as a file, as a digest, and in differences."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, fields
from typing import Any

from miniature.structure import Training

from glimmer_ref.disk.facts import digest_of
from glimmer_ref.disk.toml import key_of
from glimmer_ref.training.recipe import Recipe
from glimmer_ref.training.recipe_file import read_recipe

TABLES = ("model", "data", "optimizer", "evaluation")
SHORT = 16  # digits of a digest that are written
ELSEWHERE = {"init", "root", "save"}  # settings that say where files are, or how often the same is written


def recipe_of(training: Training, base: str, seed: int, start: str = "") -> Recipe:
    """The complete recipe of a training.

    Args:
        base: a recipe's name or file.
        start: the folder of the model that it starts from; "": the base recipe's.

    Raises:
        InputError: the base does not take the changes.
    """
    changes = [f"seed={seed}", *training.changes, *([f"model.init={json.dumps(start)}"] if start else [])]
    return read_recipe(training.recipe or base, [*([f"extends={base}"] if training.recipe else []), *changes])


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

    parts = [table(recipe.top), *(f"[{name}]\n{table(getattr(recipe, name))}" for name in TABLES)]
    return "\n".join([*parts, *(f"[[stages]]\n{table(stage)}" for stage in recipe.stages)])


def _is_default(f: Field[Any], value: Any) -> bool:
    default = f.default if f.default is not MISSING else f.default_factory() if callable(f.default_factory) else MISSING
    return bool(value == default)


def recipe_digest(recipe: Recipe, ops: str) -> str:
    """A digest of all settings that affect the scores, without names of folders.

    A setting with its default value is left out, so that a new key of recipes does not change it.
    """

    def said(part: Any) -> dict[str, Any]:
        own = ((f, getattr(part, f.name)) for f in fields(part) if f.name not in ELSEWHERE)
        return {key_of(f): value for f, value in own if not _is_default(f, value)}

    tables = {name: said(getattr(recipe, name)) for name in ("top", *TABLES)}
    return digest_of({**tables, "stages": [said(stage) for stage in recipe.stages], "ops": ops})[:SHORT]


def differences(recipe: Recipe, base: Recipe) -> dict[str, list[Any]]:
    """The differences of a training's recipe from the base: for each key, [the base's value, its own]."""
    found: dict[str, list[Any]] = {}

    def compare(a: Any, b: Any, place: str) -> None:
        if isinstance(a, Mapping) and isinstance(b, Mapping) and not place.endswith(".tasks"):
            for name in dict.fromkeys([*a, *b]):
                compare(a.get(name), b.get(name), f"{place}.{name.removesuffix('_')}" if place else name)
        elif a != b:
            found[place] = [a, b]

    def plain(some: Recipe) -> dict[str, Any]:
        tables = {name: asdict(getattr(some, name)) for name in TABLES}
        for name, key in (("model", "init"), ("data", "root"), ("evaluation", "save")):
            del tables[name][key]
        return {"system": some.top.system, **tables, "stage": {stage.name: asdict(stage) for stage in some.stages}}

    compare(plain(base), plain(recipe), "")
    return found
