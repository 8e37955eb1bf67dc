"""Makes the golden cases, with expected tensors from the reference backend in float64 and measured tolerances."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from ... import __version__
from ...disk.write import write_text
from ...errors import InputError
from ...ops import bind
from ...params.safetensors_io import Stored, write_tensors
from ...ragged import bfloat16
from ...terminal import say
from .. import case as cases
from ..case import Case
from ..cases import CASES
from ..check import FORMAT, FORMAT_VERSION, open_case
from . import operations, run_case
from .measure import STEPS, arrays_of_case, check_quality, margins, measure, mistakes, names_of, require
from .run_case import Arrays

LICENCE = "CC0-1.0 for the files of this folder"
SYMBOLS = (
    (r".*attention\.k", "n W_k"),
    (r".*attention\.v", "n W_v"),
    (r".*attention\.q", "n W_q"),
    (r".*cross_attention\.mixed", "softmax(q k^T) v"),
    (r".*attention\.mixed", "softmax(q k^T + B) v"),
    (r".*attention\.out", "x + mixed W_o"),
    (r".*feed_forward\.hidden", "gelu(n W_i0) * (n W_i1), or relu(n W_i0)"),
    (r".*feed_forward\.out", "x + hidden W_o"),
    (r"cross\..*\.k", "memory W_k"),
    (r"cross\..*\.v", "memory W_v"),
    (r"question\.out", "MemEnc(Q)"),
    (r"memory\.out", "MemEnc(Passage_i)"),
    (r"pairs", "H_i"),
    (r"live_a\.out", "H'_i"),
    (r"scores", "Score(H'_i)"),
    (r"selected|top_m\.selected", "the passages of R_1 .. R_m"),
    (r"live_b\.out", "LiveEncB(R_j)"),
    (r"live\.out", "LiveEnc(H_i)"),
    (r"encoder\.out", "Enc(Q; Passage_i)"),
    (r"decoder\.memory", "[Q; pair_1; ..]"),
    (r"decoder\.(step_\d+\.)?logits", "norm(x) W_head"),
    (r"decoder\.log_likelihood", "log p(target)"),
    (r"decoder\.ids", "argmax, step by step"),
    (r"log_p_lm", "log p_LM(Answer | Passage_k, Q)"),
    (r"loss\.lm", "-log p(target) / t"),
    (r"loss\.pdist", "KL(p_rank, p_LM)"),
    (r"gradient\..*", "d(loss.lm + loss.pdist)"),
)


MOST_BYTES = 350_000


def decisions() -> dict[str, str]:
    """The decisions D1 .. in PAPER.md, each with its sentence."""
    text = (files("glimmer_ref") / "PAPER.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| (D\d+) \| (.+?) \|", text, re.MULTILINE))


def entries(case: Case, truth: Arrays, tolerances: Mapping[str, Any], gaps: Mapping[str, float]) -> list[Any]:
    """The entry of every tensor in case.json, in forward order."""
    result = []
    for name in names_of(truth):
        x = truth[name]
        allowed = {p: {"nmse": t[0], "max": t[1]} for p, t in tolerances[name].items()} if name in tolerances else None
        entry = {
            "name": name,
            "symbol": next((symbol for pattern, symbol in SYMBOLS if re.fullmatch(pattern, name)), ""),
            "shape": list(x.shape),
            "dtype": str(x.dtype),
            "ragged": f"{name}.lengths" in truth,
            "scale": float(np.abs(x).max()),
            "margin": float(f"{gaps[name]:.2g}") if name in gaps else None,
            "tolerance": allowed,
        }
        result.append(entry)
    return result


def about(case: Case, tensors: list[Any], known: list[Any], written: Mapping[str, Path]) -> dict[str, Any]:
    """The content of case.json."""
    sentences = decisions()
    result = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "case": case.name,
        "licence": LICENCE,
        "pins": case.pins,
        "kind": case.kind,
        "system": case.system,
        "k": case.k,
        "m": case.m,
        "config": case.config.to_json(),
        "seed": case.seed,
        "decisions": {d: sentences[d] for d in case.decisions},
        "made_with": {"glimmer_ref": __version__, "numpy": np.__version__},
        "files": {
            name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
            for name, path in written.items()
        },
        "tensors": tensors,
        "mistakes": known,
    }
    if case.refusals:
        result["refusals"] = list(case.refusals)
    if case.kind == "ops":
        result["operations"] = {name: each._asdict() for name, each in operations.TABLE.items()}
    return result


def as_text(content: Mapping[str, Any]) -> str:
    """The text of case.json."""
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def build(case: Case, folder: Path) -> None:
    """Writes one case.

    Raises:
        InputError: the case cannot detect mistakes, or correct runs fail it.
    """
    weights, named = cases.weights(case), cases.inputs(case)
    everything = run_case.run(
        bind("numpy"), case, cases.model(case, weights), named, only="|".join((*case.holds, STEPS))
    )
    check_quality(case, everything)
    tolerances = measure(case, weights, named, everything)
    gaps = margins(case, everything, tolerances)
    truth = arrays_of_case(case, everything)
    known = mistakes(case, weights, named, truth, tolerances) if case.kind != "refuse" else []
    tensors = entries(case, truth, tolerances, gaps)
    folder.mkdir(parents=True, exist_ok=True)
    parts: dict[str, Mapping[str, Any]] = {"inputs": named, "weights": packed(case, weights), "expected": truth}
    written = {f"{part}.safetensors": folder / f"{part}.safetensors" for part in parts}
    for part, arrays in parts.items():
        write_tensors(written[f"{part}.safetensors"], arrays)
    write_text(folder / "case.json", as_text(about(case, tensors, known, written)))
    size = sum(path.stat().st_size for path in folder.iterdir())
    require(case, size < MOST_BYTES, f"fewer than {MOST_BYTES} bytes", size)


def known_names(names: Sequence[str]) -> Sequence[str]:
    """The names of the cases to write: these, or all.

    Raises:
        InputError: a name is unknown.
    """
    unknown = [name for name in names if name not in CASES]
    if unknown:
        raise InputError("golden case", f"one of {', '.join(CASES)}", ", ".join(unknown))
    return names or list(CASES)


def packed(case: Case, weights: Arrays) -> Mapping[str, Any]:
    """The weights in the form in which the file stores them."""
    return {name: Stored("BF16", bfloat16(x)) for name, x in weights.items()} if case.stored == "BF16" else weights


def make(names: Sequence[str], folder: Path, show: Callable[[str], Any] = say) -> None:
    """Writes the cases with these names, or all of them, each into a folder of its name.

    Raises:
        InputError: a name is unknown, or a case cannot detect mistakes.
    """
    for name in known_names(names):
        build(CASES[name], Path(folder) / name)
        size = sum(path.stat().st_size for path in (Path(folder) / name).iterdir())
        show(f"{name}: {size} bytes")


def renew_mistakes(names: Sequence[str], folder: Path, show: Callable[[str], Any] = say) -> None:
    """Computes the errors of the known mistakes again for cases in a folder. All else in the cases stays as it is.

    Raises:
        InputError: a name is unknown.
        Unusable: a case cannot be read.
    """
    for name in known_names(names):
        case, known = CASES[name], open_case(Path(folder) / name)
        stated = {e["name"]: e["tolerance"] for e in known.about["tensors"] if e.get("tolerance")}
        tolerances = {tensor: {p: (t["nmse"], t["max"]) for p, t in by.items()} for tensor, by in stated.items()}
        truth = {e["name"]: known.expected[e["name"]] for e in known.about["tensors"]}
        path = known.folder / "case.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        if case.kind != "refuse":
            content["mistakes"] = mistakes(case, cases.weights(case), cases.inputs(case), truth, tolerances)
        write_text(path, as_text(content))
        show(f"{name}: {len(content['mistakes'])} known mistakes")
