"""Runs of the tests on mutants: each mutant is written into a copy of the tree, where its file's tests run."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from mutators import Mutant

ROOT = Path(__file__).resolve().parent.parent.parent
COPIED = ("glimmer_ref", "tests", "weights", "pyproject.toml", "README.md", "docs")
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


def copy_tree(folder: Path) -> Path:
    """Copy the files that the tests need, without compiled ones."""
    folder.mkdir()
    for name in COPIED:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)
    return folder


def run_pytest(tree: Path, words: list[str]) -> tuple[int | None, str]:
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


def failed_test(output: str) -> str:
    """The test that failed, from the output of pytest."""
    lines = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return lines[0].split(" - ")[0].split(" ", 1)[1] if lines else "the run broke off"


def run_mutant(tree: Path, mutant: Mutant) -> Result:
    """Test a mutant in a tree; afterwards the tree is unchanged."""
    path, begin = tree / mutant.path, time.monotonic()
    original = path.read_bytes()
    path.write_bytes(mutant.text)
    for old in (path.parent / "__pycache__").glob(f"{path.stem}.*"):  # another text, maybe of the same second
        old.unlink()
    outcome, by = "survived", ""
    try:
        for words in TESTS[mutant.path]:
            code, output = run_pytest(tree, words)
            if code == 5 or "file or directory not found" in output:
                raise SystemExit(f"{mutant.path}: nothing is tested by {' '.join(words)}:\n{output}")
            if code != 0:
                outcome, by = ("hung", "") if code is None else ("killed", failed_test(output))
                break
    finally:
        path.write_bytes(original)
    return Result(mutant.name, outcome, by, round(time.monotonic() - begin, 2))


def check_unmutated(trees: list[Path], paths: Iterable[str], pool: ThreadPoolExecutor) -> None:
    """Check that the tests pass without a mutant.

    Raises:
        SystemExit: they do not, so a failure would mean nothing.
    """
    runs = sorted({tuple(words) for path in paths for words in TESTS[path]})

    def run_part(i: int) -> None:
        for words in runs[i :: len(trees)]:
            code, output = run_pytest(trees[i], list(words))
            if code != 0:
                raise SystemExit(f"without a mutant, this does not pass: {' '.join(words)}:\n{output}")

    list(pool.map(run_part, range(len(trees))))


def results(wanted: list[Mutant], folder: Path, jobs: int, checked: bool) -> Iterator[Result]:
    """Test all mutants, and yield each result as soon as it is known."""
    trees, free = [copy_tree(folder / f"tree{i}") for i in range(jobs)], queue.Queue[Path]()
    for tree in trees:
        free.put(tree)

    def one(mutant: Mutant) -> Result:
        tree = free.get()
        try:
            return run_mutant(tree, mutant)
        finally:
            free.put(tree)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            if checked:
                check_unmutated(trees, dict.fromkeys(m.path for m in wanted), pool)
            futures = [pool.submit(one, mutant) for mutant in wanted]
            yield from (future.result() for future in as_completed(futures))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for run in list(RUNNING):
                end(run)
