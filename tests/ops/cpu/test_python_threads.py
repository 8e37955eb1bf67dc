"""Several Python threads, forked and spawned processes, all with one reader's kernels: right answers, no hanging.

Each script is a process of its own with a time limit, and shares even the smallest work out to two threads.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BEGIN = """
import os, sys, threading, warnings
import glimmer_ref
from glimmer_ref.ops.cpu.runtime import thread_pool
thread_pool.WORTH_A_THREAD = 1
QUESTION = "Who wrote The Crooked Sailor?"
TEXT = "{} was written by Jorian Nettleworth . he earned a living as a tailor ."
FACTS = [{"title": "The Crooked Sailor", "text": TEXT.format("The Crooked Sailor") * n} for n in (1, 3)]
FACTS.append({"title": "The Crooked Ladder", "text": "The Crooked Ladder is set in Ashford ."})

def ask(reader, source=FACTS):
    answer = reader.ask(QUESTION, source, m=2)
    assert answer.text == "Jorian Nettleworth", answer.text
    return answer.log_probability, answer.scores.tobytes(), tuple(answer.selected)
"""

TOGETHER = """
readers = [glimmer_ref.load(threads=n, precision=p) for n in (1, 2) for p in ("float32", "bfloat16", "int8")]
alone, failed = [ask(r) for r in readers], []
assert alone[:3] == alone[3:], "the number of threads changes no bit"
def often(n):
    try:
        for i in range(12):
            which = (n + i) % 6
            assert ask(readers[which]) == alone[which]
            if i % 4 == 0:
                ask(readers[which], readers[which].memorize(FACTS))
    except BaseException as error:
        failed.append(repr(error))
callers = [threading.Thread(target=often, args=(n,)) for n in range(6)]
[c.start() for c in callers]
[c.join() for c in callers]
assert not failed, failed
print("done")
"""

FORKED = """
warnings.simplefilter("ignore", DeprecationWarning)
reader = glimmer_ref.load(threads=2)
before = ask(reader)
busy = threading.Thread(target=lambda: [ask(reader) for _ in range(20)])
busy.start()
for _ in range(3):
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if ask(reader) == before == ask(reader) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
busy.join()
assert ask(reader) == before
print("done")
"""

SPAWNED = """
import multiprocessing
def again(_):
    return ask(glimmer_ref.load(threads=2))
if __name__ == "__main__":
    before = ask(glimmer_ref.load(threads=2))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(again, range(3)) == [before] * 3
    print("done")
"""


def run(tmp_path: Path, script: str) -> None:
    (tmp_path / "script.py").write_text(BEGIN + script)
    env = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")} | {"NUMBA_NUM_THREADS": "2"}
    got = subprocess.run(
        [sys.executable, tmp_path / "script.py"], env=env, timeout=120, capture_output=True, text=True, check=False
    )
    assert (got.returncode, got.stdout) == (0, "done\n"), got.stderr


def test_python_threads_at_once(tmp_path: Path) -> None:
    run(tmp_path, TOGETHER)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_forks_while_another_thread_asks(tmp_path: Path) -> None:
    run(tmp_path, FORKED)


def test_spawned_processes(tmp_path: Path) -> None:
    run(tmp_path, SPAWNED)
