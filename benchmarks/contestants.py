"""Who takes part: each peer's precisions, what it needs installed, and how it is started, checked and asked."""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from checkpoint import EXPECTED

from glimmer_ref.bench.process import Worker
from glimmer_ref.errors import InputError

HERE = Path(__file__).resolve().parent


class Peer(NamedTuple):
    """A file of `peers/`, the precisions it offers, the packages it needs."""

    file: str
    precisions: tuple[str, ...]
    needs: tuple[str, ...] = ()


PEERS = {
    "ours": Peer("ours", ("float32", "bfloat16", "int8")),
    "oracle": Peer("oracle", ("float32",)),
    "transformers": Peer("torch_t5", ("float32", "bfloat16"), ("torch", "transformers")),
    "onnxruntime": Peer("onnx", ("float32", "int8"), ("torch", "transformers", "onnx", "onnxruntime")),
    "ctranslate2": Peer("ct2", ("float32", "int8"), ("torch", "transformers", "ctranslate2")),
}
# Largest error against the reference's float32, relative to the largest value: above it, it is another function.
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1, "int8": 0.3}


def everybody() -> list[str]:
    """All names "peer:precision" whose packages are here."""
    return [
        f"{name}:{precision}"
        for name, peer in PEERS.items()
        for precision in peer.precisions
        if all(importlib.util.find_spec(module) for module in peer.needs)
    ]


@dataclass
class Contestant:
    """One of them, running."""

    name: str
    precision: str
    threads: int
    worker: Worker

    @property
    def id(self) -> str:
        """Its name, precision and threads."""
        return f"{self.name}:{self.precision}@{self.threads}"


def start(who: str, size: str, folder: Path, threads: int) -> Contestant:
    """Start "peer:precision" with so many threads.

    Raises:
        InputError: no such peer or precision.
    """
    name, _, precision = who.partition(":")
    if name not in PEERS or precision not in PEERS[name].precisions:
        known = ", ".join(f"{n}:{p}" for n, peer in PEERS.items() for p in peer.precisions)
        raise InputError("contestant", f"one of {known}", repr(who))
    command = [sys.executable, str(HERE / "worker.py"), PEERS[name].file, "--size", size, "--precision", precision]
    command += ["--folder", str(folder), "--threads", str(threads)]
    return Contestant(name, precision, threads, Worker(command, threads))


def check(contestant: Contestant, folder: Path) -> dict[str, Any]:
    """How far its encoder is from the reference backend's, and which share of the first ids are the same.

    Raises:
        InputError: further than its precision explains, so that its time would be another function's.
    """
    got = folder / f"got-{os.getpid()}.npz"
    contestant.worker.ask("check", path=str(got))
    with np.load(folder / EXPECTED) as file, np.load(got) as theirs:
        result = compared(dict(theirs), dict(file))
    got.unlink()
    allowed = TOLERANCE[contestant.precision]
    if not result["error"] <= allowed:
        raise InputError(
            contestant.id, f"the reference backend's encoder output within {allowed:g}", f"{result['error']:.2g} off"
        )
    if contestant.precision == "float32" and result.get("same_ids", 1.0) < 1:
        raise InputError(contestant.id, "the reference backend's ids", f"{result['same_ids']:.0%} of them")
    return result


def compared(got: dict[str, Any], expected: dict[str, Any]) -> dict[str, float]:
    """Largest error relative to the largest value, and the share of equal ids."""
    scale = float(np.abs(expected["encoder"]).max())
    result = {"error": float(np.abs(got["encoder"] - expected["encoder"]).max()) / scale}
    ids = [got[name] == expected[name] for name in ("ids", "first_ids") if name in got]
    return {**result, "same_ids": float(np.concatenate(ids).mean())} if ids else result
