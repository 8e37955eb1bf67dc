"""Mutation testing: small seeded faults in the arithmetic that all results depend on; each must make a test fail.

    python tests/campaigns/mutation.py [--jobs 2] [--resume FILE] [--into docs/reliability.md]    the campaign
    python tests/campaigns/mutation.py --short                                                    half a minute of it

Each mutant is written into a copy of the tree, where the tests of its file run until one fails. Mutants that compute
the same as the original are listed in equivalent.toml, each with its reason. Exit code 0: every mutant was killed or is
rightly listed there. Exit code 1: a mutant survived, a listed one was killed, or a listed one does not exist any more.

The libraries for mutation testing do not fit. mutmut chooses the tests itself, from a run of the whole suite;
cosmic-ray mutates files in place and has one test command for all of them. Neither draws a seeded sample or names a
mutant by its text. Names by text keep the sample and the list of reasons valid when lines move.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from mutators import Mutant, mutants, sound
from reporting import into

ROOT = Path(__file__).resolve().parent.parent.parent
LISTED = Path(__file__).with_name("equivalent.toml")
COPIED = ("glimmer_ref", "tests", "weights", "pyproject.toml", "README.md", "docs")
SEED, COUNT, LEAST = 15, 400, 12  # at least so many mutants of each file
CPU_SECONDS, SECONDS, KIB = 30, 300.0, 8 * 2**20  # limits of a run, for mutants that never end or use ever more memory

OPS = ["tests/ops/test_ops.py", "-k", "numpy"]
WHOLE = [
    "tests/paper/test_model.py",
    "tests/paper/test_identities.py",
    "tests/golden/test_golden_cases.py",
    "tests/inference/test_stored.py",
]
SLOW = ("numba", "float32", "mistake", "differences", "threads", "come_out", "every_number", "under_dropout")
PASS = [*WHOLE, "-k", " and ".join(f"not {word}" for word in SLOW)]
BACKWARD = ["tests/paper/test_backward.py", "-k", PASS[-1]]
FLOPS = ["tests/paper/test_flops.py", "tests/costs/test_calculator.py", "-k", "not numba and not cpu_is_measured"]
CHECK = ["tests/golden/test_golden_check.py", "-k", "not plugin and not starter and not filled"]
MANIFEST = ["tests/memory/test_memory.py", "-k", "manifest or info or encoder or foreign or verify or says or facts"]
# The tests that must kill a file's mutants, the fastest first; each list is a run of pytest.
TESTS: dict[str, list[list[str]]] = {
    "glimmer_ref/paper/fid.py": [PASS, BACKWARD],
    "glimmer_ref/paper/decoding.py": [PASS, BACKWARD],
    "glimmer_ref/paper/flops.py": [FLOPS],
    "glimmer_ref/costs/flops.py": [FLOPS],
    "glimmer_ref/paper/glimmer.py": [PASS, BACKWARD],
    "glimmer_ref/paper/lumen.py": [PASS, BACKWARD],
    "glimmer_ref/paper/distillation.py": [BACKWARD, PASS],
    "glimmer_ref/paper/systems.py": [PASS, BACKWARD],
    "glimmer_ref/paper/t5.py": [PASS, BACKWARD],
    "glimmer_ref/ops/numpy_backend.py": [OPS, BACKWARD],
    "glimmer_ref/evaluation/metrics.py": [["tests/evaluation/test_metrics.py"]],
    "glimmer_ref/data/chunks.py": [["tests/data/test_chunks.py"]],
    "glimmer_ref/training/adafactor.py": [["tests/training/test_adafactor.py", "-k", "not transformers"]],
    "glimmer_ref/retrieval/top_k.py": [["tests/retrieval/test_index.py", "-k", "best or top_k or row_alone"]],
    "glimmer_ref/memory/manifest.py": [MANIFEST, ["tests/memory/test_memory.py"]],
    "glimmer_ref/golden/check.py": [CHECK],
}
PYTEST = ["-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider"]
# Only these plugins: loading all takes half of the time.
PYTEST += ["-p", "no_kernels", "-p", "_hypothesis_pytestplugin", "--hypothesis-seed=0"]
# Limits CPU time, since other programs may be running.
LIMITED = ["sh", "-c", f'ulimit -S -t {CPU_SECONDS}; ulimit -v {KIB}; exec "$@"', "sh"]
RUNNING: set[subprocess.Popen[str]] = set()


class Result(NamedTuple):
    """The outcome for a mutant: "killed", "hung" (this counts as killed) or "survived", and the test that failed."""

    name: str
    outcome: str
    by: str
    seconds: float


def drawn(path: str, seed: int) -> list[Mutant]:
    """A file's mutants in an order that depends only on the seed and on each mutant's own text."""

    def place(mutant: Mutant) -> bytes:
        return hashlib.sha256(f"{seed}|{mutant.name}".encode()).digest()

    return sorted(mutants(path, (ROOT / path).read_bytes()), key=place)


def sample(paths: Iterable[str], seed: int, count: int) -> list[Mutant]:
    """`count` mutants in all, from each file in proportion to the number of its mutants."""
    everything = {path: drawn(path, seed) for path in paths}
    total, result = sum(map(len, everything.values())), list[Mutant]()
    for some in everything.values():
        wanted = max(LEAST, round(count * len(some) / total))
        result += islice(filter(sound, some), wanted)
    return result


def first_ones(paths: Iterable[str], seed: int, listed: set[str]) -> list[Mutant]:
    """The first two mutants of each file in the order of `drawn` that are neither equivalent nor an endless loop."""

    def quick(m: Mutant) -> bool:
        return m.name not in listed and not m.before.startswith("while") and sound(m)

    return [m for path in paths for m in islice(filter(quick, drawn(path, seed)), 2)]


def reasons() -> dict[str, str]:
    """The mutants that cannot be killed: name -> the reason why it is equivalent.

    Raises:
        SystemExit: an entry is not a mutant of the present text.
    """
    entries = tomllib.loads(LISTED.read_text("utf-8"))["equivalent"] if LISTED.exists() else []
    today = {path: mutants(path, (ROOT / path).read_bytes()) for path in {e["file"] for e in entries}}
    result, stale = dict[str, str](), list[str]()
    for e in entries:
        found = [
            m.name
            for m in today[e["file"]]
            if (m.function, m.before, m.after) == (e["function"], e["line"], e["mutated"])
        ]
        result |= dict.fromkeys(found, e["why"])
        stale += [] if found else [f"{e['file']}: {e['function']}: {e['mutated']}"]
    if stale:
        raise SystemExit(
            "\n".join([f"{LISTED.name}: no mutants of today's text; remove them or write them anew:", *stale])
        )
    return result


def copied(folder: Path) -> Path:
    """Copy the files that the tests need, without compiled ones."""
    folder.mkdir()
    for name in COPIED:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)
    return folder


def told(tree: Path, words: list[str]) -> tuple[int | None, str]:
    """Exit code and output of a run of pytest in a tree; the code is None if the run hung."""
    paths = f"{tree}{os.pathsep}{tree / 'tests/campaigns'}"
    more = {"PYTHONPATH": paths, "GLIMMER_REF_CACHE": f"{tree}.kernels", "OPENBLAS_NUM_THREADS": "1"}
    more["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    run = subprocess.Popen(
        [*LIMITED, sys.executable, *PYTEST, f"--basetemp={tree}.tmp", *words],
        cwd=tree,
        env=os.environ | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    RUNNING.add(run)
    try:
        output, _ = run.communicate(timeout=SECONDS)
        return None if run.returncode == -signal.SIGXCPU else run.returncode, output
    except subprocess.TimeoutExpired:
        return None, ""
    finally:
        end(run)
        RUNNING.discard(run)


def end(run: subprocess.Popen[str]) -> None:
    """Kill a run and all processes that its tests may have started."""
    if run.poll() is None:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()


def blamed(output: str) -> str:
    """The test that failed, from the output of pytest."""
    lines = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return lines[0].split(" - ")[0].split(" ", 1)[1] if lines else "the run broke off"


def tried(tree: Path, mutant: Mutant) -> Result:
    """Test a mutant in a tree; afterwards the tree is unchanged."""
    path, begin = tree / mutant.path, time.monotonic()
    original = path.read_bytes()
    path.write_bytes(mutant.text)
    for old in (path.parent / "__pycache__").glob(f"{path.stem}.*"):  # another text, maybe of the same second
        old.unlink()
    outcome, by = "survived", ""
    try:
        for words in TESTS[mutant.path]:
            code, output = told(tree, words)
            if code == 5 or "file or directory not found" in output:
                raise SystemExit(f"{mutant.path}: nothing is tested by {' '.join(words)}:\n{output}")
            if code != 0:
                outcome, by = ("hung", "") if code is None else ("killed", blamed(output))
                break
    finally:
        path.write_bytes(original)
    return Result(mutant.name, outcome, by, round(time.monotonic() - begin, 2))


def sure(trees: list[Path], paths: Iterable[str], pool: ThreadPoolExecutor) -> None:
    """Check that the tests pass without a mutant.

    Raises:
        SystemExit: they do not, so a failure would mean nothing.
    """
    runs = sorted({tuple(words) for path in paths for words in TESTS[path]})

    def some(i: int) -> None:
        for words in runs[i :: len(trees)]:
            code, output = told(trees[i], list(words))
            if code != 0:
                raise SystemExit(f"without a mutant, this does not pass: {' '.join(words)}:\n{output}")

    list(pool.map(some, range(len(trees))))


def results(wanted: list[Mutant], folder: Path, jobs: int, checked: bool) -> Iterator[Result]:
    """Test all mutants, and yield each result as soon as it is known."""
    trees, free = [copied(folder / f"tree{i}") for i in range(jobs)], queue.Queue[Path]()
    for tree in trees:
        free.put(tree)

    def one(mutant: Mutant) -> Result:
        tree = free.get()
        try:
            return tried(tree, mutant)
        finally:
            free.put(tree)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            if checked:
                sure(trees, dict.fromkeys(m.path for m in wanted), pool)
            futures = [pool.submit(one, mutant) for mutant in wanted]
            yield from (future.result() for future in as_completed(futures))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for run in list(RUNNING):
                end(run)


def campaign(wanted: list[Mutant], known: dict[str, Result], arguments: argparse.Namespace) -> dict[str, Result]:
    """The result of every wanted mutant; those that were killed in an earlier run are not tested again."""
    done = {m.name: known[m.name] for m in wanted if m.name in known and known[m.name].outcome != "survived"}
    left, begin = [m for m in wanted if m.name not in done], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutation") as name:
        for n, result in enumerate(results(left, Path(name), arguments.jobs, not arguments.short), start=1):
            done[result.name] = result
            if arguments.resume:
                with open(arguments.resume, "a", encoding="utf-8") as file:
                    file.write(json.dumps(result._asdict()) + "\n")
            survived = sum(r.outcome == "survived" for r in done.values())
            rest = (time.monotonic() - begin) / n * (len(left) - n)
            if sys.stderr.isatty():
                line = f"\r{n}/{len(left)} mutants, {survived} survived, {rest:,.0f} s left  "
                print(line, end="\n" if n == len(left) else "", file=sys.stderr, flush=True)
    return done


def read_results(path: Path | None) -> dict[str, Result]:
    """The results that an earlier run wrote."""
    if path is None or not path.exists():
        return {}
    rows = (Result(**json.loads(line)) for line in path.read_text("utf-8").splitlines())
    return {row.name: row for row in rows}


def table(wanted: list[Mutant], done: dict[str, Result], why: dict[str, str]) -> list[str]:
    """A Markdown table with one line for each file and one for all."""
    head = ["file", "possible mutants", "drawn", "killed by a test", "by the time limit", "equivalent", "survived"]
    rows: list[list[Any]] = []
    for path in dict.fromkeys(m.path for m in wanted):
        some = [done[m.name] for m in wanted if m.path == path]
        left = [r for r in some if r.outcome == "survived"]
        same = sum(r.name in why for r in left)
        counts = [sum(r.outcome == kind for r in some) for kind in ("killed", "hung")]
        rows.append([f"`{path}`", len(drawn(path, 0)), len(some), *counts, same, len(left) - same])
    rows.append(["all", *(sum(column) for column in list(zip(*rows, strict=True))[1:])])
    rule = "|---" + "|--:" * (len(head) - 1) + "|"
    return [f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(map(str, row))} |" for row in rows)]


def summary(done: dict[str, Result], why: dict[str, str], seed: int) -> str:
    """The score, in a sentence."""
    killed = sum(r.outcome != "survived" for r in done.values())
    same = sum(r.outcome == "survived" and r.name in why for r in done.values())
    share = 100 * killed / max(1, len(done) - same)
    return (
        f"Seed {seed}: {killed} of {len(done) - same} mutants that can be killed were killed ({share:.1f} %), "
        f"{same} more are equivalent."
    )


def complaints(wanted: list[Mutant], done: dict[str, Result], why: dict[str, str]) -> list[str]:
    """Everything that is wrong, with the lines to look at."""
    result = []
    for m in wanted:
        if (survived := done[m.name].outcome == "survived") == (m.name in why):
            continue
        what = "survived" if survived else f"listed as equivalent, but killed by {done[m.name].by}"
        result.append(f"{m.path}:{m.line}: {m.function}: {what} ({m.operator})\n  - {m.before}\n  + {m.after}")
    return result


def main() -> int:
    """Draw mutants, test them and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--count", type=int, default=COUNT, help="mutants in all")
    parser.add_argument("--only", metavar="PATH", choices=sorted(TESTS), action="append", help="of this file")
    parser.add_argument("--short", action="store_true", help="two mutants a file, without trying the tests alone first")
    parser.add_argument("--jobs", type=int, default=1, help="how many at once")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="results as they come; killed ones stay killed")
    parser.add_argument("--into", type=Path, metavar="FILE.md", help="print the table into this page too")
    arguments = parser.parse_args()
    os.nice(10)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that started processes end and copies are removed
    why, paths = reasons(), arguments.only or list(TESTS)
    wanted = (
        first_ones(paths, arguments.seed, set(why))
        if arguments.short
        else sample(paths, arguments.seed, arguments.count)
    )
    done = campaign(wanted, read_results(arguments.resume), arguments)
    lines = [*table(wanted, done, why), "", summary(done, why, arguments.seed)]
    wrong = complaints(wanted, done, why)
    print("\n".join([*lines, *wrong]))
    if arguments.into:
        into(arguments.into, "mutation", lines)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
