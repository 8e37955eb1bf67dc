"""A dask cluster on several hosts, and a process that runs the commands of glimmer-ref which use it."""

from __future__ import annotations

import io
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from suites.hosts import Host, can_isolate

from glimmer_ref.cli import main as glimmer_ref
from glimmer_ref.errors import InputError


class Done(NamedTuple):
    """A command that has ended: what it printed, its wall and processor seconds."""

    out: str
    wall: float
    cpu: float


class Commander:
    """A process on a host that runs commands of glimmer-ref, one after the other, so that Python starts once."""

    def __init__(self, host: Host, log: Path) -> None:
        self.log, self.process = log, host.start([__file__], log)

    def run(self, words: Sequence[str], during: Callable[[], None] = lambda: None) -> Done:
        """Run a command.

        Args:
            during: called again and again while it runs.

        Raises:
            InputError: the command failed.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(list(words)) + "\n")
        self.process.stdin.flush()
        while not select.select([self.process.stdout], [], [], 0.02)[0]:
            during()
        answer = self.process.stdout.readline()
        done = json.loads(answer) if answer else {"code": self.process.wait()}
        if done.pop("code"):
            raise InputError(" ".join(words[:2]), "a command that succeeds", self.log.read_text()[-500:])
        return Done(**done)


def serve() -> None:
    """Run the commands of stdin; one whose first word is "wait" waits until a cluster has so many workers."""
    for line in sys.stdin:
        words, told = json.loads(line), io.StringIO()
        start, cpu = time.perf_counter(), time.process_time()
        with redirect_stdout(told):
            if words[0] == "wait":
                from distributed import Client

                with Client(words[1]) as client:
                    client.wait_for_workers(int(words[2]), timeout=300)
                code = 0
            else:
                code = glimmer_ref(words)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - start
        print(json.dumps({"code": code, "out": told.getvalue(), "wall": wall, "cpu": cpu}), flush=True)


class Cluster:
    """A dask scheduler and its workers, each on a host; workers are added while it runs."""

    def __init__(self, some: list[Host], commander: Commander, log: Path) -> None:
        self.free, self.commander, self.log = iter(some[2:]), commander, log
        self.host, self.workers = some[0], list[subprocess.Popen[str]]()
        # Hosts without a network of their own share one address, so that the port must be free there.
        port = 8786 if can_isolate() else 20000 + os.getpid() % 20000
        self.address = f"tcp://{self.host.address}:{port}"
        self.scheduler = self._start(self.host, "scheduler", "--port", str(port))

    def _start(self, host: Host, what: str, *words: str) -> subprocess.Popen[str]:
        plain = ["--no-dashboard", "--host", host.address]
        return host.start(["-m", f"distributed.cli.dask_{what}", *words, *plain], self.log)

    def grow(self, count: int) -> None:
        """Add workers until there are so many, and wait for them."""
        while len(self.workers) < count:
            words = (self.address, "--no-nanny", "--nthreads", "1", "--local-directory", ".")
            self.workers.append(self._start(next(self.free), "worker", *words))
        self.commander.run(["wait", self.address, str(count)])

    def idle(self, seconds: float) -> float | None:
        """Bytes a second at the scheduler while nothing is done."""
        before = self.host.bytes()
        time.sleep(seconds)
        after = self.host.bytes()
        return None if before is None or after is None else (after - before) / seconds

    def end(self) -> None:
        """End all processes."""
        for process in (self.commander.process, *self.workers, self.scheduler):
            process.kill()
            process.communicate()


@contextmanager
def cluster(some: list[Host], log: Path) -> Iterator[Cluster]:
    """A cluster without workers, which ends with the block."""
    made = Cluster(some, Commander(some[1], log), log)
    try:
        yield made
    finally:
        made.end()


if __name__ == "__main__":
    serve()
