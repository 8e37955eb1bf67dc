"""Settings and fixtures of all tests.

`pytest -n auto` runs them in several processes, `pytest -m slow` the slow ones alone, `pytest -m ""` all.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from glimmer_ref.cli import main

settings.register_profile("here", deadline=None)  # a test must not fail because the machine is busy
settings.load_profile("here")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """How many processes `-n auto` starts: one per processor, but at most 4, since each compiles kernels."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Each process begins with test files of its own, so fixtures are made once; then it takes over tests of others."""
    if config.getvalue("dist") != "load":  # another distribution was asked for
        return None
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile the kernels before several processes start, each of which would compile all of them."""
    if getattr(session.config.option, "numprocesses", None) and not hasattr(session.config, "workerinput"):
        command = [sys.executable, "-c", "from glimmer_ref.ops import bind; bind('numba')"]
        # Outside of the source tree, so that the installed package is imported. An error is seen by the kernels' tests.
        subprocess.run(command, check=False, stderr=subprocess.DEVNULL, cwd=sys.prefix)


@pytest.fixture(scope="session", autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run every test in an empty folder.

    A process that a test starts then imports the installed package, as the test does, and not the source tree. So it
    finds the compiled kernels.
    """
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    yield
    os.chdir(before)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run `glimmer-ref WORDS`, and return its exit code and its output on stdout and on stderr."""

    def call(*words: Any) -> tuple[int, str, str]:
        code = main([str(w) for w in words])
        return code, *capsys.readouterr()

    return call
