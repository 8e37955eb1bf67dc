"""The engines that are compared: their precisions and packages, and how an engine is started and checked."""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from comparison.random_checkpoint import EXPECTED

from glimmer_ref.bench.process import Worker
from glimmer_ref.errors import InputError

HERE = Path(__file__).resolve().parent


class Peer(NamedTuple):
    """A library: its file in `peers/`, the precisions that it offers, the packages that it needs."""

    file: str
    precisions: tuple[str, ...]
    needs: tuple[str, ...] = ()


PEERS = {
    "ours": Peer("ours", ("float32", "bfloat16", "int8")),
    "reference": Peer("reference", ("float32",)),
    "transformers": Peer("torch_t5", ("float32", "bfloat16"), ("torch", "transformers")),
    "onnxruntime": Peer("onnx", ("float32", "int8"), ("torch", "transformers", "onnx", "onnxruntime")),
    "ctranslate2": Peer("ct2", ("float32", "int8"), ("torch", "transformers", "ctranslate2")),
}
# The largest error against the reference in float32, relative to the largest value. An engine with a larger error
# computes another function.
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1, "int8": 0.3}


def installed() -> list[str]:
    """All names "peer:precision" whose packages are installed."""
    return [
        f"{name}:{precision}"
        for name, peer in PEERS.items()
        for precision in peer.precisions
        if all(importlib.util.find_spec(module) for module in peer.needs)
    ]


@dataclass
class Engine:
    """A library in one precision, with its threads, in a running process."""

    name: str
    precision: str
    threads: int
    worker: Worker

    @property
    def id(self) -> str:
        """Its name, precision and threads."""
        return f"{self.name}:{self.precision}@{self.threads}"


def start(name: str, size: str, folder: Path, threads: int) -> Engine:
    """Start "peer:precision" with a number of threads.

    Raises:
        InputError: no such peer or precision.
    """
    peer, _, precision = name.partition(":")
    if peer not in PEERS or precision not in PEERS[peer].precisions:
        known = ", ".join(f"{n}:{p}" for n, other in PEERS.items() for p in other.precisions)
        raise InputError("engine", f"one of {known}", repr(name))
    command = [sys.executable, str(HERE / "worker.py"), PEERS[peer].file, "--size", size, "--precision", precision]
    command += ["--folder", str(folder), "--threads", str(threads)]
    return Engine(peer, precision, threads, Worker(command, threads))


def check(engine: Engine, folder: Path) -> dict[str, Any]:
    """Compare its results with those of the reference backend.

    Returns:
        The error of its encoder, and the share of the decoded ids that are the same.

    Raises:
        InputError: the error is larger than its precision explains, so it computes another function.
    """
    got = folder / f"got-{os.getpid()}.npz"
    engine.worker.ask("check", path=str(got))
    with np.load(folder / EXPECTED) as file, np.load(got) as theirs:
        result = compared(dict(theirs), dict(file))
    got.unlink()
    allowed = TOLERANCE[engine.precision]
    if not result["error"] <= allowed:
        raise InputError(
            engine.id, f"the reference backend's encoder output within {allowed:g}", f"{result['error']:.2g} off"
        )
    if engine.precision == "float32" and result.get("same_ids", 1.0) < 1:
        raise InputError(engine.id, "the reference backend's ids", f"{result['same_ids']:.0%} of them")
    return result


def compared(got: dict[str, Any], expected: dict[str, Any]) -> dict[str, float]:
    """Largest error relative to the largest value, and the share of equal ids."""
    scale = float(np.abs(expected["encoder"]).max())
    result = {"error": float(np.abs(got["encoder"] - expected["encoder"]).max()) / scale}
    ids = [got[name] == expected[name] for name in ("ids", "first_ids") if name in got]
    return {**result, "same_ids": float(np.concatenate(ids).mean())} if ids else result
