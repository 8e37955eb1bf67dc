"""Models by their published names: the sizes of T5.1.1, T5, Flan-T5 and mT5, and any T5's config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ..config import SIZES, GlimmerConfig, T5Config
from ..disk.read import read_json
from ..errors import InputError

MT5_VOCABULARY = 250112
_T5 = {  # T5 1.0 as published: d_model, d_kv, d_ff, layers of encoder and of decoder, heads
    "t5-small": (512, 64, 2048, 6, 8),
    "t5-base": (768, 64, 3072, 12, 12),
    "t5-large": (1024, 64, 4096, 24, 16),
    "t5-3b": (1024, 128, 16384, 24, 32),
    "t5-11b": (1024, 128, 65536, 24, 128),
}


class Model(NamedTuple):
    """The shapes of a T5, and whether its head is its embedding."""

    t5: T5Config
    tied: bool


# Of `models by name` in Raffel et al. 2020, Xue et al. 2021 and Chung et al. 2022, by their config.json.
PUBLISHED: dict[str, Model] = {
    **{
        name: Model(T5Config(32128, d, c, f, n, n, heads, feed_forward_proj="relu"), tied=True)
        for name, (d, c, f, n, heads) in _T5.items()
    },
    **{f"google/t5-v1_1-{size}": Model(t5, tied=False) for size, t5 in SIZES.items()},
    **{f"google/flan-t5-{size}": Model(t5, tied=False) for size, t5 in SIZES.items()},
    **{f"google/mt5-{size}": Model(replace(t5, vocab_size=MT5_VOCABULARY), tied=False) for size, t5 in SIZES.items()},
}


def model_named(name: str, option: str = "size") -> Model:
    """A size of T5.1.1, or a published model. An error names the `option`.

    Raises:
        InputError: no such size or name.
    """
    if name in SIZES:
        return Model(SIZES[name], tied=False)
    if name in PUBLISHED:
        return PUBLISHED[name]
    raise InputError(option, f"one of {', '.join(SIZES)}, or a name such as {', '.join(some_names())}", repr(name))


def some_names() -> list[str]:
    """One published name of each kind, for messages."""
    return ["t5-11b", "google/t5-v1_1-xl", "google/flan-t5-xl", "google/mt5-xl"]


def title(name: str) -> str:
    """A model's name for tables; a size is one of T5.1.1."""
    return f"T5.1.1-{name}" if name in SIZES else name


def config_of(folder: str | Path) -> tuple[Model, GlimmerConfig | None]:
    """The model of a folder's config.json, or of such a file, and the rest of the config if it is one of ours.

    Raises:
        InputError: there is no config.json, or it is neither ours nor a T5's.
    """
    path = Path(folder) / "config.json" if Path(folder).is_dir() else Path(folder)
    data: Any = read_json(path, "a config.json")
    if isinstance(data, Mapping) and "glimmer" in data:
        ours = GlimmerConfig.from_json(data)
        return Model(ours.t5, tied=False), ours
    t5 = T5Config.from_json(data)
    return Model(t5, tied=data.get("tie_word_embeddings", True) is not False), None
