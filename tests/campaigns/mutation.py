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
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from mutant_runs import ROOT, TESTS, Result, results
from mutators import Mutant, mutants, sound
from reporting import into

LISTED = Path(__file__).with_name("equivalent.toml")
SEED, COUNT, LEAST = 15, 400, 12  # at least so many mutants of each file


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
