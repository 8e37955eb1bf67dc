"""What it brings to read memory from disk while live-A runs: each alone, one after the other, and overlapped.

    python benchmarks/overlap.py --out benchmarks/results/overlap.json

A memory of random numbers is written to --folder, larger than what is read of it, and dropped from the page
cache before every cold reading (posix_fadvise; /proc/self/io then tells how many bytes the disk gave). What
the machine below a virtual disk keeps in its own cache cannot be dropped. Slower disks are simulated: a part
is held back until its bytes would have come at that rate. "waited" is what the model still had to wait, for
opening the memory and for its parts. The cached rows are the control: nothing comes from a disk there, so how
far their gain is from 1 tells how much of the others' is noise.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numba
import numpy as np

from glimmer_ref.config import SIZES, GlimmerConfig
from glimmer_ref.costs.storage import SCALES, WIDTHS
from glimmer_ref.data.inputs import Passage
from glimmer_ref.instruments import Profiler
from glimmer_ref.memory import store as memories
from glimmer_ref.memory.manifest import INDEX, MANIFEST, VERSION, Manifest, metadata
from glimmer_ref.memory.prefetch import ahead
from glimmer_ref.memory.quantized import QuantizedStates
from glimmer_ref.memory.shard import Index, Shard
from glimmer_ref.memory.store import Memory, bounds
from glimmer_ref.ops import Ops, bind
from glimmer_ref.paper.glimmer import live_a, score
from glimmer_ref.paper.lumen import arriving, encode_question, join
from glimmer_ref.params.model import Model, prepare_params, random
from glimmer_ref.params.safetensors_io import shard_name, write_tensors
from glimmer_ref.ragged import Arriving, States, Tokens

WAYS = ("read", "live_a", "in_turn", "overlapped")
N_Q, N_P, SHARD = 48, 304, 256  # tokens of a question and of a passage, passages of a shard


def write_memory(folder: Path, dtype: str, passages: int, d: int) -> None:
    """A memory of random states, the same in every shard but for the ids."""
    folder.mkdir()
    build = {"version": VERSION, "dtype": dtype, "passages": passages, "passages_sha256": "", "shard_passages": SHARD}
    build |= {"encoder": {"d_model": d, "num_memory_layers": 0}}
    tokens = QuantizedStates.of(np.random.default_rng(0).standard_normal((SHARD * N_P, d), np.float32), dtype)
    lengths, shards, files = np.full(SHARD, N_P), [], {}
    for i in range(passages // SHARD):
        shards.append(Shard.of([Passage(str(i * SHARD + j), "", "") for j in range(SHARD)], lengths, tokens))
        write_tensors(folder / shard_name(i), shards[-1].arrays(), metadata(shard_name(i), build))
    write_tensors(folder / INDEX, Index.of(iter(shards))._asdict(), metadata(INDEX, build))
    for path in folder.iterdir():
        files[path.name] = {"bytes": path.stat().st_size, "sha256": "not made"}
    manifest = Manifest(build, passages * N_P, files)
    (folder / MANIFEST).write_text(json.dumps(manifest.to_json()))


def drop(folder: Path) -> None:
    """Have the kernel forget a memory's pages; none may be mapped."""
    for path in folder.iterdir():
        file = os.open(path, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def disk_bytes() -> int:
    """What the disk has given to this process so far; 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes:"))


@dataclass(frozen=True)
class Bench:
    """A model, a memory, and k rows of it for a question."""

    ops: Ops
    model: Model
    folder: Path
    question: Tokens
    rows: np.ndarray
    rate: float | None  # bytes/s of a simulated disk

    def work(self, passages: States | Arriving) -> list[Any]:
        """MemEnc(Q), live-A and the scores."""
        q, counts = encode_question(self.ops, self.model, self.question), np.array([len(self.rows)])
        pairs = [
            live_a(self.ops, self.model, join(self.ops, self.model, q, p, n)) for p, n in arriving(passages, counts)
        ]
        return [score(self.ops, self.model, part) for part in pairs]

    def lengths(self) -> np.ndarray:
        return np.full(len(self.rows), N_P)

    def stream(self) -> Arriving:
        """The rows as the reader gets them, or as a disk of that rate would give them."""
        memory = Memory.open(self.folder)
        if self.rate is None:
            return memory.stream(self.rows)
        parts = pairwise(bounds(self.lengths(), memories.PART_TOKENS))
        return Arriving(ahead([partial(self.slow, memory, self.rows[a:b]) for a, b in parts]), self.lengths())

    def slow(self, memory: Memory, rows: np.ndarray) -> States:
        assert self.rate is not None
        start, dtype = time.perf_counter(), memory.info()["dtype"]
        part, size = memory.read(rows), len(rows) * N_P * (self.model.config.t5.d_model * WIDTHS[dtype] + SCALES[dtype])
        time.sleep(max(0.0, size / self.rate - (time.perf_counter() - start)))
        return part

    def in_ram(self) -> Arriving:
        """The same parts, read before; copied, so that all pages are ours."""
        parts = list(self.stream().parts)
        return Arriving(iter(parts), self.lengths())


def measure(b: Bench, cold: bool, rng: np.random.Generator) -> dict[str, float]:
    """Seconds of each way once, in any order, and the bytes that the disk gave to the overlapped one."""
    ready, clock, result = b.in_ram(), Profiler(b.ops), {}

    def overlapped() -> None:
        start = time.perf_counter()
        stream = b.stream()
        clock.seconds["read"] = time.perf_counter() - start  # for opening, a part of "read" too
        b.work(Arriving(clock.waits("read", stream.parts), stream.lengths))

    ways: dict[str, Callable[[], Any]] = {
        "read": lambda: list(b.stream().parts),
        "live_a": lambda: b.work(ready),
        "in_turn": lambda: b.work(b.in_ram()),
        "overlapped": overlapped,
    }
    for name in rng.permutation(WAYS):
        if cold:
            drop(b.folder)
        before, start = disk_bytes(), time.perf_counter()
        ways[name]()
        result[name] = time.perf_counter() - start
        if name == "overlapped":
            result["disk_bytes"] = float(disk_bytes() - before)
    return {**result, "waited": clock.seconds["read"]}


def summary(runs: list[dict[str, float]]) -> dict[str, Any]:
    """Medians and ranges in milliseconds; the share of the reading that was not waited for; the gain in time.

    The gain is of the quickest runs: what else the machine does is many times what can be gained.
    """
    middle, least, most = ({name: f(r[name] for r in runs) for name in runs[0]} for f in (statistics.median, min, max))
    ways = [*WAYS, "waited"]
    return {
        "milliseconds": {name: round(1e3 * middle[name], 2) for name in ways},
        "range": {name: [round(1e3 * least[name], 2), round(1e3 * most[name], 2)] for name in ways},
        "hidden": round(1 - middle["waited"] / middle["read"], 3),
        "gain": round(least["in_turn"] / least["overlapped"], 3),
        "disturbed": middle["live_a"] > 1.25 * least["live_a"],  # live-A reads nothing: others were at work
        "megabytes_from_disk": round(middle["disk_bytes"] / 1e6, 2),
    }


def cases(args: argparse.Namespace) -> Iterator[tuple[str, bool, float | None]]:
    """dtype of the memory, whether the cache is cold, rate of the disk."""
    for dtype in args.store:
        yield from ((dtype, True, None), (dtype, False, None), *((dtype, True, 1e6 * rate) for rate in args.slow))


def part_sizes(b: Bench, sizes: list[int], repeat: int) -> dict[int, float]:
    """Milliseconds of live-A by tokens of a part, from main memory: too small parts cost more than they hide."""
    usual, times = memories.PART_TOKENS, {size: [] for size in sizes}  # type: ignore[var-annotated]
    for size in sizes * repeat:
        memories.PART_TOKENS = size
        ready = b.in_ram()
        start = time.perf_counter()
        b.work(ready)
        times[size].append(time.perf_counter() - start)
    memories.PART_TOKENS = usual
    return {size: round(1e3 * statistics.median(seconds), 1) for size, seconds in times.items()}


def run(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    t5 = replace(SIZES[args.size], vocab_size=1000, num_decoder_layers=1)  # neither takes part
    config = GlimmerConfig.from_proportions(t5, "1/3", "1/4")
    ops, rng = bind(args.ops), np.random.default_rng(1)
    model = prepare_params(ops, random(config, 0))
    for dtype in args.store:
        write_memory(folder / dtype, dtype, args.passages // SHARD * SHARD, t5.d_model)
    os.sync()
    question = Tokens.of([rng.integers(3, 1000, N_Q)])

    def bench(dtype: str, rate: float | None) -> Bench:
        rows = rng.choice(args.passages // SHARD * SHARD, args.k, replace=False)
        return Bench(ops, model, folder / dtype, question, rows, rate)

    result: dict[str, Any] = {"live_a_by_part_tokens": part_sizes(bench(args.store[0], None), args.parts, args.repeat)}
    print("live-A by tokens of a part, ms:", result["live_a_by_part_tokens"])
    print(f"{'memory':10}{'disk':>16}" + "".join(f"{name:>11}" for name in (*WAYS, "waited", "gain", "from disk")))
    result["cases"] = []
    for dtype, cold, rate in cases(args):
        found = summary([measure(bench(dtype, rate), cold, rng) for _ in range(args.repeat)])
        disk = "cached" if not cold else "cold" if rate is None else f"{rate / 1e6:.0f} MB/s (sim.)"
        asked = args.k * N_P * (t5.d_model * WIDTHS[dtype] + SCALES[dtype])
        result["cases"].append({"dtype": dtype, "disk": disk, "megabytes_asked_for": round(asked / 1e6, 2), **found})
        times = "".join(f"{x:11.1f}" for x in found["milliseconds"].values())
        print(
            f"{dtype:10}{disk:>16}{times}{found['gain']:11.3f}{found['megabytes_from_disk']:8.1f} MB",
            "disturbed" * found["disturbed"],
        )
    return result


def machine() -> dict[str, Any]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    versions = {"python": platform.python_version(), "numpy": np.__version__, "numba": numba.__version__}
    return {"cpu": cpu, "cores": len(os.sched_getaffinity(0)), "system": platform.system(), **versions}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    about = "T5.1.1, random weights, alpha 1/3, beta 1/4"
    parser.add_argument("--size", choices=("base", "large", "xl", "xxl"), default="base", help=about)
    parser.add_argument("--ops", default="numba")
    parser.add_argument("--store", nargs="+", choices=WIDTHS, default=["float32", "bfloat16", "int8"])
    parser.add_argument("--k", type=int, default=25)
    parser.add_argument("--passages", type=int, default=2048, help="that the memory holds (default 2048)")
    parser.add_argument("--slow", nargs="*", type=float, default=[100.0], help="MB/s of simulated disks")
    parser.add_argument("--parts", nargs="*", type=int, default=[304, 608, 1536, 3072, 10**9], help="tokens of a part")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--folder", help="where to make the memory (default: a temporary folder)")
    parser.add_argument("--out", help="a JSON file")
    args = parser.parse_args()
    if args.passages // SHARD * SHARD < args.k or args.k < 1 or args.repeat < 1:
        sys.exit(f"overlap.py: error: at least {SHARD} passages, no fewer than k, and one repetition")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        result = run(args, Path(folder))
    settings = {name: x for name, x in vars(args).items() if name not in ("out", "folder")}
    document = {"benchmark": "overlap", "machine": machine(), "settings": settings, **result}
    if args.out:
        Path(args.out).write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
