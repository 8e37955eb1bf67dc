"""The options --workers and --scheduler: processes of this machine, or a dask cluster, that do a command's work."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import InputError


def add(parser: Any, do: str) -> None:
    """--workers or --scheduler; `do` is what the workers do."""
    workers = parser.add_mutually_exclusive_group()
    workers.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help=f"number of processes that {do}, which share the threads (default: this process alone)",
    )
    workers.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help=f"address of the scheduler of a dask cluster, whose workers {do} and see the same files",
    )


def chosen(args: argparse.Namespace) -> str | None:
    """The option that was given, after checking it.

    Raises:
        InputError: no worker at all.
    """
    if args.workers is not None and args.workers < 1:
        raise InputError("--workers", "at least 1", str(args.workers))
    return "--workers" if args.workers else "--scheduler" if args.scheduler is not None else None


@contextmanager
def opened(args: argparse.Namespace, folder: Path) -> Iterator[Any]:
    """The workers for a model's folder; None if this process works alone. They end with the block, also on SIGTERM."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _opened(args, str(folder)) as workers:
            yield workers
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _opened(args: argparse.Namespace, folder: str) -> Iterator[Any]:
    from ..bench.machine import cores
    from ..workers.process_pool import processes
    from ..workers.tasks import Workers

    if chosen(args) is None:
        yield None
        return
    given = vars(args)
    count, threads = args.workers or 0, given.get("threads")
    each = threads or max(1, cores() // max(count, 1))
    what = (folder, args.ops, given.get("dtype", "float32"), given.get("precision", "float32"))
    own = each if args.ops == "numba" and what[2] == "float32" and count else None
    if args.workers:
        with processes(count, each) as executor:
            yield Workers(executor, count, *what, own)
        return
    with _cluster(args.scheduler) as client:
        at_once = max(1, sum(client.nthreads().values()))
        yield Workers(client.get_executor(pure=False), at_once, *what, threads)


@contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """A client of a dask cluster.

    Raises:
        InputError: the package distributed is not installed, or there is no scheduler at the address.
    """
    if find_spec("distributed") is None:
        raise InputError(
            "--scheduler", "the package distributed", "none", "install it: pip install 'glimmer_ref[distributed]'"
        )
    from distributed import Client

    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        raise InputError("--scheduler", "the address of a dask scheduler", str(error).split("\n")[0][:80]) from None
    with client:
        yield client
