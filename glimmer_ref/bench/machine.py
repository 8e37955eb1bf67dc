"""The machine that a measurement comes from."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def cpu_name() -> str:
    """The processor's name, as the system reports it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return " ".join(line.split(":", 1)[1].split())
    return platform.processor() or platform.machine()


def processor_kind() -> str:
    """The kind of the processor, see `ops.processor`."""
    from ..ops.processor import described  # numba takes most of a second to import

    return described()


def cores() -> int:
    """How many cores this process may use."""
    with suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    """Bytes of main memory; 0 if the system does not report it."""
    with suppress(AttributeError, ValueError, OSError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 0


def machine() -> dict[str, Any]:
    """Processor, its kind, cores, memory, system."""
    return {
        "cpu": cpu_name(),
        "kind": processor_kind(),
        "cores": cores(),
        "memory_bytes": memory_bytes(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def slug() -> str:
    """The processor's kind and cores, as part of a file name."""
    return f"{processor_kind()}-{cores()}-cores"


def versions(*packages: str) -> dict[str, str]:
    """The versions of these packages, as far as they are installed."""
    result = {}
    for name in packages:
        with suppress(PackageNotFoundError):
            result[name] = version(name)
    return result
