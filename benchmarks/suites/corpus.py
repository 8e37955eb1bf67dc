"""A corpus over several hosts, rehearsed: python benchmarks/suites/corpus.py [--quick].

A synthetic corpus is encoded and indexed, and a task is evaluated, by a dask cluster of 1, 2 and 4 workers; scheduler,
workers and the commands are hosts of their own, see `hosts.py`. The report gives the speed-up, the bytes over the
network for each shard, what a killed worker costs, the hours of `memory plan` beside the true ones, and what follows
for 21 million passages. Every result is compared with that of one process, byte by byte and score by score.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "helpers"))

import results
from gtr_folder import write_gtr
from suites.dask_cluster import Cluster, Commander, cluster
from suites.hosts import can_isolate, hosts, seconds_of

from glimmer_ref import tables
from glimmer_ref.evaluation.evaluate import BATCH
from glimmer_ref.inference.reader import bundled

COUNTS = (1, 2, 4)
WIKIPEDIA, SHARD = 21_000_000, 512  # passages in all, and in a shard of `memory build`
TIMED = ("seconds", "questions_per_second")  # of a result of `evaluate`: all else must be equal


class Size(NamedTuple):
    """Passages in all and in the small build that warms up, in a shard of the memory and of the index; questions."""

    passages: int
    small: int
    shard: int
    questions: int


FULL, QUICK = Size(4096, 1024, 128, 160), Size(64, 32, 16, 32)


def write_corpus(path: Path, passages: int, seed: int = 0) -> None:
    """Passages of 40 to 120 words, drawn from those of the bundled corpus."""
    lines = (bundled() / "passages.jsonl").read_text("utf-8").splitlines()
    words = [word for line in lines for word in json.loads(line)["text"].split()]
    rng = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for i in range(passages):
            text = " ".join(rng.choices(words, k=rng.randint(40, 120)))
            file.write(json.dumps({"id": f"{i}:0", "title": " ".join(rng.choices(words, k=2)), "text": text}) + "\n")


class Place(NamedTuple):
    """The files of a rehearsal."""

    folder: Path
    size: Size

    @property
    def jobs(self) -> dict[str, list[str]]:
        """The commands without the options of workers; OUT stands for the folder that each writes."""
        memory, small = str(self.folder / "passages.jsonl"), str(self.folder / "small.jsonl")
        shard = ["--shard-passages", str(self.size.shard)]
        task = ["evaluate", str(self.folder / "questions.jsonl"), "--memory", str(self.folder / "known"), "--json"]
        return {
            "small": ["memory", "build", small, "OUT", *shard],
            "memory": ["memory", "build", memory, "OUT", *shard],
            "index": ["index", "build", memory, "OUT", *shard, "--gtr", str(self.folder / "gtr")],
            "evaluate": [*task, "--out", "OUT", "--threads", "1"],
        }


def prepare(folder: Path, size: Size) -> Place:
    """Write the corpus, a tiny random GTR, and the questions of the bundled model."""
    write_corpus(folder / "passages.jsonl", size.passages)
    write_corpus(folder / "small.jsonl", size.small)
    write_gtr(folder / "gtr", most=128)
    questions = (bundled() / "questions.jsonl").read_text("utf-8").splitlines()[: size.questions]
    (folder / "questions.jsonl").write_text("\n".join(questions) + "\n", "utf-8")
    return Place(folder, size)


def digest(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a folder."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def scores(folder: Path, out: str) -> tuple[Any, ...]:
    """All that an evaluation says but for its times: the summary, and the line of each question."""
    lines = [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]
    return tuple({k: v for k, v in row.items() if k not in TIMED} for row in (json.loads(out), *lines))


def tasks_of(place: Place, job: str) -> int:
    """How many tasks a job has: shards, or batches of questions."""
    size = place.size
    if job == "evaluate":
        return -(-size.questions // BATCH)
    return -(-(size.small if job == "small" else size.passages) // size.shard)


def spread(place: Place, made: Cluster, job: str, right: Any, kill: bool = False) -> dict[str, Any]:
    """Do a job with the cluster, compare its result with that of one process, and measure it.

    Args:
        kill: end the first worker when a third of the shards are there.
    """
    out = place.folder / f"{job}-{len(made.workers)}{'-killed' if kill else ''}"
    words = [str(out) if word == "OUT" else word for word in place.jobs[job]] + ["--scheduler", made.address]
    processes, tasks, killed, lost = [*made.workers, made.scheduler], tasks_of(place, job), list[int](), list[float]()

    def during() -> None:
        there = len(list(out.glob("shard-*"))) if kill and not killed else 0
        if there > tasks // 3:
            lost.append(seconds_of(made.workers[0]))
            made.workers[0].send_signal(signal.SIGKILL)
            killed.append(there)

    before, bytes_before = [seconds_of(p) for p in processes], made.host.bytes()
    done = made.commander.run(words, during)
    after = [*lost, *map(seconds_of, processes[len(lost) :])]  # a dead process tells nothing
    cpu = [round(a - b, 3) for a, b in zip(after, before, strict=True)]
    bytes_after = made.host.bytes()
    traffic = None if bytes_before is None or bytes_after is None else bytes_after - bytes_before
    found = scores(out, done.out) if job == "evaluate" else digest(out)
    return {
        "job": job,
        "workers": len(made.workers),
        "killed_at": killed[0] if killed else None,
        "tasks": tasks,
        "same": found == right,
        "wall": done.wall,
        "command_cpu": done.cpu,
        "worker_cpu": cpu[:-1],
        "scheduler_cpu": cpu[-1],
        "bytes": traffic,
        "stored": sum(path.stat().st_size for path in out.glob("shard-*")),
        "load": os.getloadavg()[0],
    }


def alone(place: Place, commander: Commander) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Each job in one process without a cluster: its name, its record, and the result that others must equal."""
    for job in place.jobs:
        out = place.folder / f"{job}-alone"
        words = [str(out) if word == "OUT" else word for word in place.jobs[job]]
        done = commander.run(words)
        right = scores(out, done.out) if job == "evaluate" else digest(out)
        yield job, {"job": job, "workers": 0, "tasks": tasks_of(place, job), "wall": done.wall, "cpu": done.cpu}, right


def planned(place: Place, commander: Commander, count: int) -> dict[str, Any]:
    """The plan of the memory for so many workers, made just before the build."""
    words = ["memory", "plan", str(place.folder / "passages.jsonl"), "--workers", str(count), "--json"]
    done = commander.run([*words, "--threads", "1", "--shard-passages", str(place.size.shard)])
    return {"job": "plan", "workers": count, "load": os.getloadavg()[0], **json.loads(done.out)}


def rehearse(size: Size, out: Path) -> dict[str, Any]:
    """Run everything, and write the document after every step."""
    document = results.begin("corpus", "mini", 1, {}) | {"settings": size._asdict(), "isolated": can_isolate()}
    runs, right = document["runs"], dict[str, Any]()

    def add(record: dict[str, Any]) -> None:
        runs.append(record)
        results.say(f"{record['job']}, {record['workers']} workers: {record.get('wall', 0):.1f} s")
        results.write(out, document)

    with (
        tempfile.TemporaryDirectory() as name,
        hosts(2 + max(COUNTS), Path(name)) as some,
        cluster(some, Path(name) / "log") as made,
    ):
        place, commander = prepare(Path(name), size), made.commander
        commander.run(["memory", "build", str(bundled() / "passages.jsonl"), str(place.folder / "known")])
        for job, record, found in alone(place, commander):
            right[job] = found
            add(record)
        for count in COUNTS:
            made.grow(count)
            document[f"idle_{count}"] = made.idle(1 if size is QUICK else 3)
            add(spread(place, made, "small", right["small"]))  # loads the model into the workers
            add(planned(place, commander, count))
            for job in ("memory", "index", "evaluate"):
                add(spread(place, made, job, right[job]))
        add(spread(place, made, "memory", right["memory"], kill=True))
    return document


def of(document: dict[str, Any], job: str, workers: int, killed: bool = False) -> dict[str, Any]:
    """The record of a job."""
    return next(
        r for r in document["runs"]
        if (r["job"], r["workers"], bool(r.get("killed_at"))) == (job, workers, killed)
    )  # fmt: skip


def job_rows(document: dict[str, Any]) -> Iterator[list[str]]:
    """A row for each spread job."""
    for r in (r for r in document["runs"] if "worker_cpu" in r):
        one = of(document, r["job"], 1)
        work, most = sum(r["worker_cpu"]), max(r["worker_cpu"])
        lost = f", one killed after {r['killed_at']} shards" if r["killed_at"] else ""
        size = "-" if r["bytes"] is None else f"{r['bytes'] / r['tasks'] / 1e3:.1f}"
        stored = f"{r['stored'] / r['tasks'] / 1e3:.0f}" if r["stored"] else "-"
        yield [
            r["job"], f"{r['workers']}{lost}", str(r["tasks"]), f"{r['wall']:.1f}", f"{one['wall'] / r['wall']:.2f}",
            f"{work:.2f}", "-" if lost else f"{one['worker_cpu'][0] / most:.2f}", f"{r['command_cpu']:.1f}",
            f"{r['scheduler_cpu']:.2f}", size, stored, "yes" if r["same"] else "NO",
        ]  # fmt: skip


HEAD = ["job", "workers", "tasks", "wall s", "speed-up by wall", "workers' CPU s", "by CPU", "command's CPU s",
        "scheduler's CPU s", "kB at the scheduler a task", "kB stored a task", "same as one process"]  # fmt: skip


def plan_rows(document: dict[str, Any]) -> Iterator[list[str]]:
    """The plan's seconds beside the true ones, for each number of workers."""
    for count in COUNTS:
        plan, r = of(document, "plan", count), of(document, "memory", count)
        expected, rate = plan["hours"] * 3600, plan["tokens"] / sum(r["worker_cpu"])
        row = [f"{plan['tokens_per_second_and_worker']:,.0f}", f"{rate:,.0f}", f"{expected:.1f}", f"{r['wall']:.1f}"]
        size = f"{plan['bytes'] / 1e6:.3f}"
        yield [str(count), *row, f"{r['wall'] / expected:.2f}", f"{plan['load']:.0f}, {r['load']:.0f}", size]


PLAN_HEAD = ["workers", "plan: tokens a second and worker", "true: tokens a CPU second", "plan: seconds"]
PLAN_HEAD += ["true: wall seconds", "true / plan", "load of the machine at both", "plan: MB"]


def extrapolated(document: dict[str, Any]) -> list[str]:
    """What 21 million passages take, by the slopes between the small and the whole build with one worker."""
    size, shards = Size(**document["settings"]), -(-WIKIPEDIA // SHARD)
    small, whole = of(document, "small", 1), of(document, "memory", 1)
    more, parts = size.passages - size.small, whole["tasks"] - small["tasks"]
    command_each = max(1e-6, whole["command_cpu"] - small["command_cpu"]) / more
    worker_each = whole["worker_cpu"][0] / size.passages
    scheduler_each = whole["scheduler_cpu"] / whole["tasks"]
    between = f"from {size.small:,} to {size.passages:,} passages"
    lines = [
        f"- The command, {between}: {1e6 * command_each:.0f} microseconds of CPU for each more, so "
        f"{command_each * WIKIPEDIA / 3600:.2f} hours for {WIKIPEDIA:,}, beside the workers.",
        f"- A worker with the bundled model: {1e3 * worker_each:.2f} ms of CPU for each passage, so "
        f"{worker_each * WIKIPEDIA / 3600:.1f} CPU hours in all, as much as the command's for "
        f"{worker_each / command_each:,.0f} workers at once.",
        f"- The scheduler: {1e3 * scheduler_each:.1f} ms of CPU for each shard. In shards of {SHARD} passages, "
        f"{WIKIPEDIA:,} are {shards:,} shards and {scheduler_each * shards / 3600:.2f} hours.",
    ]
    if whole["bytes"] is not None:
        each = (whole["bytes"] - small["bytes"]) / parts
        lines.append(
            f"- The network at the scheduler, {between}: {each / 1e3:.1f} kB for each more shard, heartbeats included: "
            f"{each * shards / 1e9:.2f} GB in all. Workers write the shards to the files that all see."
        )
    return lines


def report(document: dict[str, Any], path: Path) -> list[str]:
    """Write the page beside the file; the page's lines are returned."""
    size, hosted = Size(**document["settings"]), document["isolated"]
    idle = [f"{count}: {document[f'idle_{count}'] / 1e3:.1f} kB" for count in COUNTS if document[f"idle_{count}"]]
    cores = document["machine"]["cores"]
    where = "Each host is a network namespace." if hosted else "Hosts share 127.0.0.1; traffic is not counted."
    lines = [
        f"{size.passages:,} synthetic passages in shards of {size.shard}, {size.questions} questions in batches of "
        f"{BATCH}, the bundled model and a tiny random GTR, one thread for each worker. {where}",
        "",
        *tables.markdown(list(job_rows(document)), HEAD),
        "",
        '- The job "small" comes first and loads the model into the workers.',
        f"- All processes share {cores} cores with whatever else runs on the machine. So the wall time can show no "
        f"speed-up above {cores} on a quiet machine, and on a busy one it shows what share of it more processes get. "
        '"By CPU" is the CPU time of the one worker divided by that of the busiest of several: the speed-up if every '
        "worker had a core.",
    ]
    if idle:
        lines.append(f"- At the scheduler of an idle cluster, bytes a second by its workers: {', '.join(idle)}.")
    each = [f"{r['job']} {r['wall']:.1f} s ({r['cpu']:.1f} s CPU)" for r in document["runs"] if r["workers"] == 0]
    lines += [f"- One process without dask: {', '.join(each)}.", "", "## The plan's hours and the true ones", ""]
    lines += [*tables.markdown(list(plan_rows(document)), PLAN_HEAD), ""]
    lines += ["## 21 million passages", "", *extrapolated(document)]
    return results.write_page(path, document, lines)


def main() -> int:
    """Rehearse and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="some hundred passages")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    size = QUICK if args.quick else FULL
    out = args.out or results.place("corpus")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the hosts are removed
    document = rehearse(size, out)
    print("\n".join(report(document, out)))
    results.say(f"written to {out}")
    return 0 if all(r.get("same", True) for r in document["runs"]) else 1


if __name__ == "__main__":
    results.run(main, __file__)
