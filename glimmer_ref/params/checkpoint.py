"""Model folders: reads ours and those of T5, cuts a T5 into a GLIMMER, and writes ours."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..config import GlimmerConfig, T5Config
from ..disk.folder import replacing
from ..disk.read import PathLike, read_json
from ..disk.write import write_json, write_text
from ..errors import InputError
from .foreign import refuse_folder
from .head import NO_OPTIONS, HeadOptions, head
from .model import Model, from_arrays, init_param, leaves, shapes
from .name_maps import plan
from .safetensors_io import FLOATS, Stored, map_tensors, write_tensors
from .torch_checkpoint import read_torch

PREFIXES = ("module.", "model.", "_orig_mod.")
Reader = Callable[[Path], dict[str, Stored]]


def shard_files(index: Path) -> Mapping[str, str]:
    """The file of each tensor, from an index of shards; all files lie beside the index.

    Raises:
        InputError: there is no index, or it names files elsewhere.
    """
    data = read_json(index)
    weight_map = data.get("weight_map") if isinstance(data, Mapping) else None
    if not isinstance(weight_map, Mapping) or {type(file) for file in weight_map.values()} != {str}:
        raise InputError(f"{index}", 'a "weight_map" of tensors to files', "none")
    for shard in sorted(set(weight_map.values())):
        if Path(shard).name != shard or shard in ("", "..") or "\\" in shard:
            raise InputError(f"{index}", "files in its own folder", repr(shard))
    return weight_map


def _shards(index: Path, read: Reader) -> dict[str, Stored]:
    """The tensors of all shards of an index; each shard must hold exactly those that the index names."""
    weight_map = shard_files(index)
    result: dict[str, Stored] = {}
    for shard in sorted(set(weight_map.values())):
        tensors = read(index.with_name(shard))
        named = {name for name, file in weight_map.items() if file == shard}
        for name in sorted(named ^ set(tensors)):
            where = "the index alone" if name in named else "the shard alone"
            raise InputError(f"{index.with_name(shard)}: {name}", "the tensors that the index names", f"it in {where}")
        result.update(tensors)
    return result


def _unprefixed(tensors: dict[str, Stored]) -> dict[str, Stored]:
    """Remove the prefix that wrappers put before every name: DataParallel, Lightning, torch.compile."""
    while tensors:
        first = next(iter(tensors))
        prefix = next((p for p in PREFIXES if first.startswith(p)), None)
        if prefix is None or not all(name.startswith(prefix) for name in tensors):
            break
        tensors = {name.removeprefix(prefix): x for name, x in tensors.items()}
    return tensors


def open_checkpoint(folder: PathLike) -> dict[str, Stored]:
    """Memory-map all tensors of a folder, under their own names.

    The first of these is read: model.safetensors, its shards, pytorch_model.bin, its shards. A prefix that all names
    share, such as "module.", is removed.

    Raises:
        InputError: there is none of them, a file is damaged or in another format, or shards do not fit their index.
    """
    folder = Path(folder)
    for name, read in (("model.safetensors", map_tensors), ("pytorch_model.bin", read_torch)):
        if (folder / name).exists():
            return _unprefixed(read(folder / name))
        if (folder / f"{name}.index.json").exists():
            return _unprefixed(_shards(folder / f"{name}.index.json", read))
    refuse_folder(folder)
    raise InputError(f"{folder}", "model.safetensors or pytorch_model.bin, whole or with an index", "neither")


def _config(folder: Path) -> Any:
    """config.json of a folder, which is first checked for other formats."""
    refuse_folder(folder)
    path = folder / "config.json"
    if not path.exists():
        got = f"no {path.name}" if folder.is_dir() else "no such folder"
        raise InputError(f"{folder}", "the folder of a model", got)
    return read_json(path)


def decode(name: str, stored: Stored, dtype: str, transposed: bool = False) -> np.ndarray:
    """A stored weight, or its transpose, as floats.

    Raises:
        InputError: integers, or values that are not finite; names the tensor.
    """
    if stored.dtype not in FLOATS:
        raise InputError(
            name, f"weights as {', '.join(FLOATS)}", stored.dtype, "if it is quantized, dequantize it first"
        )
    x = Stored(stored.dtype, stored.raw.T if transposed else stored.raw).decode(dtype)
    if not np.isfinite(x).all():
        raise InputError(name, f"finite weights in {dtype}", f"{int((~np.isfinite(x)).sum())} that are NaN or infinite")
    return x


def _scaling(config: GlimmerConfig, scaled: bool) -> GlimmerConfig:
    return replace(config, t5=replace(config.t5, scale_decoder_outputs=scaled))


def _from_published(
    config: GlimmerConfig,
    data: Mapping[str, Any],
    theirs: Mapping[str, Stored],
    dtype: str,
    options: HeadOptions = NO_OPTIONS,
) -> tuple[GlimmerConfig, dict[str, np.ndarray]]:
    """Our weights from published names, each an array of its own; without a score layer if there is none.

    The returned config says whether the head is scaled (D18).
    """
    lines = plan(config, theirs)
    tied, scaled = head(data, "decoder.lm_head" in lines, options)
    if tied:
        lines.pop("decoder.lm_head", None)
    arrays = {ours: decode(line.theirs, theirs[line.theirs], dtype, line.transposed) for ours, line in lines.items()}
    return _scaling(config, scaled), arrays


def _from_ours(config: GlimmerConfig, stored: Mapping[str, Stored], dtype: str) -> Model:
    """The tree from our own names; only a tied head is scaled, unless the config says otherwise (D18)."""
    layers = config.t5.num_layers + config.t5.num_decoder_layers
    if layers > len(stored):
        raise InputError("weights", f"tensors for {layers} layers", f"{len(stored)} tensors")
    if config.t5.scale_decoder_outputs is None:
        config = _scaling(config, "decoder.lm_head" not in stored)
    return from_arrays(config, {name: decode(name, x, dtype) for name, x in stored.items()})


def _is_ours(stored: Mapping[str, Stored]) -> bool:
    """Do the tensors have our names, as `save` writes them?"""
    return any(name.startswith(("memory.", "live.")) for name in stored)


def load(folder: PathLike, dtype: str = "float32") -> Model:
    """Load a model folder of ours: config.json with a section "glimmer", and weights.

    The weights have our names, as `save` writes them, or those of a published T5 with a score layer.

    Args:
        dtype: "float32" or "float64".

    Raises:
        InputError: a file is missing or damaged; the config has no section "glimmer"; a tensor is missing, left over,
            of another shape or not finite.
    """
    folder = Path(folder)
    data = _config(folder)
    config, stored = GlimmerConfig.from_json(data), open_checkpoint(folder)
    if _is_ours(stored):
        return _from_ours(config, stored, dtype)
    config, arrays = _from_published(config, data, stored, dtype)
    if "score.weight" not in arrays:
        raise InputError(f"{folder}", "a score layer beside T5's weights", "none", "glimmer-ref convert adds one")
    return from_arrays(config, arrays)


def _refuse_occupied(folder: Path) -> None:
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder}", "a new or empty folder", "one with files", "name another folder")


def write_model(folder: Path, model: Model, tokenizer_json: str | None = None) -> None:
    """Write the files of a model into an empty folder. Weights keep their dtype.

    Raises:
        InputError: they cannot be written.
    """
    write_tensors(folder / "model.safetensors", leaves(model))
    write_json(folder / "config.json", model.config.to_json())
    if tokenizer_json is not None:
        write_text(folder / "tokenizer.json", tokenizer_json)


def save(folder: PathLike, model: Model, tokenizer_json: str | None = None) -> None:
    """Write a model folder that `load` reads, completely or not at all.

    The folder is written under a temporary name and then renamed.

    Args:
        tokenizer_json: the text of tokenizer.json.

    Raises:
        InputError: the folder is not empty, cannot be written, or is being written by another process.
    """
    with replacing(os.path.realpath(folder), _refuse_occupied) as new:
        write_model(new, model, tokenizer_json)


def _cut(data: Any, alpha: Fraction | str | None, beta: Fraction | str | None, more: dict[str, Any]) -> GlimmerConfig:
    if isinstance(data, Mapping) and "glimmer" in data:
        if alpha is not None or beta is not None:
            raise InputError(
                "alpha and beta",
                'none, since config.json has a section "glimmer"',
                f"{alpha} and {beta}",
                "leave them out",
            )
        return replace(GlimmerConfig.from_json(data), **more)
    if alpha is None or beta is None:
        got = "neither" if alpha is beta else "only one"
        raise InputError("alpha and beta", "both, to cut T5's encoder", got, "give both, such as 1/3 and 1/4")
    return GlimmerConfig.from_proportions(T5Config.from_json(data), alpha, beta, **more)


def from_t5(
    folder: PathLike,
    alpha: Fraction | str | None,
    beta: Fraction | str | None,
    seed: int,
    dtype: str = "float32",
    options: HeadOptions = NO_OPTIONS,
    **more: Any,
) -> Model:
    """Make a GLIMMER from a T5 folder. Its first encoder layers become the memory encoder, the others the live encoder.

    A score layer beside the weights of T5 is used. Otherwise its projection is random at the scale of T5, and its gain,
    if any, is 1.

    Args:
        alpha, beta: as in `GlimmerConfig.from_proportions`; None if config.json has a section "glimmer".
        seed: for the random score layer.
        options: how to compute the head if config.json and the tensors do not decide it (D18).
        more: fields of `GlimmerConfig`.

    Raises:
        InputError: as `load`, or the cut does not give whole layers.
    """
    folder = Path(folder)
    data = _config(folder)
    config, stored = _cut(data, alpha, beta, more), open_checkpoint(folder)
    if _is_ours(stored):
        do = "it needs no conversion: use it as it is, for example with --weights"
        raise InputError(f"{folder}", "the folder of a T5", "that of a GLIMMER model", do)
    config, arrays = _from_published(config, data, stored, dtype, options)
    if "score.weight" not in arrays:
        shape = shapes(config)["score.weight"]
        drawn = init_param(np.random.default_rng(seed), "score.weight", shape, config.t5.d_kv)
        arrays["score.weight"] = drawn.astype(dtype)
        if config.score_norm:
            arrays["score.norm"] = np.ones(config.t5.d_model, dtype)
    return from_arrays(config, arrays)


def convert(
    t5_folder: PathLike,
    out: PathLike,
    alpha: Fraction | str | None,
    beta: Fraction | str | None,
    seed: int,
    tokenizer_json: str | None = None,
    **more: Any,
) -> Model:
    """`from_t5`, saved as a model folder of ours.

    Args:
        out: a new folder.
        tokenizer_json: the text of tokenizer.json.

    Raises:
        InputError: as `from_t5` and `save`.
    """
    with replacing(os.path.realpath(out), _refuse_occupied) as new:
        model = from_t5(t5_folder, alpha, beta, seed, **more)
        write_model(new, model, tokenizer_json)
    return model
