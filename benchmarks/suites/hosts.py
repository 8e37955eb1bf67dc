"""Simulated hosts: each a network namespace with an address of its own, whose traffic the kernel counts.

Only root can make namespaces, on Linux with the command `ip`. Elsewhere a host is a working directory, all hosts share
127.0.0.1, and their traffic is not counted. All hosts see the same files, as machines with a shared file system do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from glimmer_ref.bench.process import environment

TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class Host(NamedTuple):
    """A host: its address, how a command is started on it, its working directory, and its counters of bytes."""

    address: str
    prefix: tuple[str, ...]
    folder: Path
    counters: Path | None

    def start(self, words: Sequence[str], log: Path) -> subprocess.Popen[str]:
        """Start Python with these words on the host, with one thread for each library."""
        with log.open("a") as file:
            return subprocess.Popen(
                [*self.prefix, sys.executable, *words], cwd=self.folder, env=environment(1), text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file,
            )  # fmt: skip

    def bytes(self) -> int | None:
        """Bytes that the host has sent and received so far; None if they are not counted."""
        if self.counters is None:
            return None
        return sum(int((self.counters / name).read_text()) for name in ("rx_bytes", "tx_bytes"))


def seconds_of(process: subprocess.Popen[str]) -> float:
    """Processor seconds of a running process so far; 0 where the system does not tell, or if it has ended."""
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS
    except (OSError, IndexError):
        return 0.0


def can_isolate() -> bool:
    """Can this process make network namespaces?"""
    if not (sys.platform == "linux" and os.geteuid() == 0 and shutil.which("ip")):
        return False
    name = f"glimmer-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    if made:
        subprocess.run(["ip", "netns", "del", name], check=True)
    return made


@contextmanager
def hosts(count: int, place: Path) -> Iterator[list[Host]]:
    """So many hosts in one network, each with a working directory in `place`."""
    folders = [place / f"host-{i}" for i in range(count)]
    for folder in folders:
        folder.mkdir()
    if not can_isolate():
        yield [Host("127.0.0.1", (), folder, None) for folder in folders]
        return
    own, bridge = f"g{os.getpid() % 10**6}", f"g{os.getpid() % 10**6}b"  # names of interfaces have 15 letters at most

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    made: list[tuple[str, ...]] = []
    try:
        ip("link", "add", bridge, "type", "bridge")
        made.append(("link", "del", bridge))
        ip("link", "set", bridge, "up")
        result = []
        for i, folder in enumerate(folders):
            name, outer, address = f"{own}-{i}", f"{own}v{i}", f"10.213.77.{i + 1}"
            ip("netns", "add", name)
            made.append(("netns", "del", name))
            ip("link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", outer, "master", bridge, "up")
            for words in (("addr", "add", f"{address}/24", "dev", "eth0"), ("link", "set", "eth0", "up")):
                ip("-n", name, *words)
            ip("-n", name, "link", "set", "lo", "up")
            counters = Path("/sys/class/net") / outer / "statistics"
            result.append(Host(address, ("ip", "netns", "exec", name), folder, counters))
        yield result
    finally:
        for words in reversed(made):
            subprocess.run(["ip", *words], check=False, capture_output=True)
