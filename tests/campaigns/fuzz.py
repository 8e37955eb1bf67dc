"""Fuzzing: every reader of files or of command lines in this package gets hostile input.

    python tests/campaigns/fuzz.py [--runs 1000000] [--jobs 2] [--only manifest] [--into docs/reliability.md]
    python tests/campaigns/fuzz.py --short                                              half a minute of it

A run changes a valid file and reads it. The reader may accept it, or refuse it in one line that is safe on a terminal.
Anything else is a finding: another exception, a run of over two seconds, more than a GiB of memory, a process that
dies, output on stdout or stderr. Run i of a target is the same on every machine: `--only manifest --first 123 --runs 1`
repeats it. Exit code 0: no findings.

This is a plain loop and not a coverage-guided fuzzer. The readers are Python code for JSON and short binary formats:
changes that know the format reach every branch, and a run can be repeated without installing anything.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fuzz_targets import SHARES, TARGETS
from reporting import into

from glimmer_ref.errors import InputError, shown
from glimmer_ref.golden.check import Unusable
from glimmer_ref.progress import progress

SLOWEST, MOST_BYTES = 2.0, 2**30
CHUNK = 5000  # runs in each process
STUCK = 120.0  # a process is killed after so many seconds without a new run


def one(target: Any, seed: int, number: int, folder: Path) -> str | None:
    """Do one run; return the finding, or None."""
    rng = random.Random(f"{seed}|{target.name}|{number}")
    call = target.prepared(rng, folder)
    begun = time.process_time()
    try:
        call()
    except (InputError, Unusable) as error:
        if str(error) != shown(str(error)):
            return f"an error that a terminal would obey: {ascii(str(error))[:200]}"
    except SystemExit as error:
        if error.code not in (0, 2):
            return f"exit code {error.code}"
    except BaseException as error:  # a panic in a library is not an Exception
        if isinstance(error, KeyboardInterrupt):
            raise
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "glimmer_ref" in f.filename]
        where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
        return f"{type(error).__name__} at {where}: {ascii(str(error))[:160]}"
    took = time.process_time() - begun
    return f"{took:.1f} s" if took > SLOWEST else None


def child(args: argparse.Namespace) -> int:
    """Do `runs` runs of one target, from number `first`; findings go to the original stdout as JSON lines."""
    import resource

    out = os.fdopen(os.dup(1), "w", buffering=1)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as name:
        folder = Path(name)
        target = TARGETS[args.only[0]](folder)
        words = open(folder / "said", "w+b")  # noqa: SIM115 - stdout and stderr go to it until the end
        os.dup2(words.fileno(), 1)
        os.dup2(words.fileno(), 2)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, used + MOST_BYTES))
        os.chdir(folder)
        for number in range(args.first, args.first + args.runs):
            out.write(f"{number}\n")
            found = one(target, args.seed, number, folder)
            sys.stdout.flush()
            sys.stderr.flush()
            if target.silent and words.tell():
                words.seek(0)
                found = found or f"said: {words.read(200).decode(errors='replace')!a}"
            words.seek(0)
            words.truncate()
            if found:
                out.write(json.dumps({"run": number, "found": found}) + "\n")
    return 0


def chunk(name: str, seed: int, first: int, runs: int) -> list[dict[str, Any]]:
    """The findings of a child process, its death included; after a death, another child does the remaining runs."""
    findings: list[dict[str, Any]] = []
    while runs > 0:
        words = ["--child", "--only", name, "--seed", str(seed), "--first", str(first), "--runs", str(runs)]
        process = subprocess.Popen([sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True)
        last, dead = watched(process, findings)
        if dead is None:
            return findings
        if last is None:
            return [*findings, {"run": first, "found": f"the target could not be made: {dead}"}]
        findings.append({"run": last, "found": dead})
        runs, first = first + runs - last - 1, last + 1
    return findings


def watched(process: subprocess.Popen[str], findings: list[dict[str, Any]]) -> tuple[int | None, str | None]:
    """Watch a child process: the last run that it began, and how it died, if it did not end by itself."""
    last, observed = None, [time.monotonic()]

    def ends_what_is_stuck() -> None:
        while process.poll() is None:
            time.sleep(1)
            if time.monotonic() - observed[0] > STUCK:
                process.kill()

    assert process.stdout is not None
    with ThreadPoolExecutor(1) as watcher:
        watcher.submit(ends_what_is_stuck)
        for line in process.stdout:
            observed[0] = time.monotonic()
            if line.startswith("{"):
                findings.append(json.loads(line))
            else:
                last = int(line)
        code = process.wait()
    if code == 0:
        return last, None
    return last, f"died: {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"


def chunks(names: list[str], runs: int, first: int) -> Iterator[tuple[str, int, int]]:
    """Divide the runs into parts of the targets in turn, so that all targets advance together."""
    shares = {name: SHARES.get(name, 1.0) for name in names}
    each = {name: -(-int(runs * share) // sum(shares.values())) for name, share in shares.items()}
    for begin in range(0, int(max(each.values())), CHUNK):
        for name in names:
            if begin < each[name]:
                yield name, first + begin, min(CHUNK, int(each[name]) - begin)


def table(
    names: list[str], runs: dict[str, int], found: dict[str, list[dict[str, Any]]], seconds: dict[str, float]
) -> list[str]:
    """A Markdown table with one row for each target."""
    rows = [f"| {n} | {runs[n]:,} | {len(found[n])} | {1e3 * seconds[n] / max(runs[n], 1):.2f} |" for n in names]
    total = f"| all | {sum(runs.values()):,} | {sum(map(len, found.values()))} | |"
    return ["| reader | runs | findings | ms a run |", "|---|---|---|---|", *rows, total]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1_000_000, help="of all targets together")
    parser.add_argument("--first", type=int, default=0, help="number of the first run of each target")
    parser.add_argument("--seed", type=int, default=15)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no part later than that")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--short", action="store_true", help="150 runs of each target")
    parser.add_argument("--into", metavar="FILE.md", help="print the table into this page too")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.short:
        args.runs = 150 * len(args.only)
    return args


def main() -> int:
    args = parsed()
    if args.child:
        return child(args)
    runs, seconds = dict.fromkeys(args.only, 0), dict.fromkeys(args.only, 0.0)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in args.only}

    end = time.monotonic() + 60 * args.minutes

    def work(part: tuple[str, int, int]) -> None:
        begun = time.monotonic()
        if begun > end:
            return
        some = chunk(part[0], args.seed, *part[1:])
        found[part[0]] += some
        runs[part[0]] += part[2]
        seconds[part[0]] += time.monotonic() - begun
        for finding in some:
            print(f"\n{part[0]} --first {finding['run']}: {finding['found']}", flush=True)

    parts = list(chunks(args.only, args.runs, args.first))
    with ThreadPoolExecutor(args.jobs) as pool, contextlib.suppress(KeyboardInterrupt):
        for _ in progress(pool.map(work, parts), len(parts), "fuzzing"):
            pass
    lines = table(args.only, runs, found, seconds)
    print("\n".join(lines))
    if args.into:
        into(args.into, "fuzzing", lines)
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
