"""Commands under adverse conditions: each must end with an error of one line, and the next run must continue.

    python tests/campaigns/adverse.py [--into docs/reliability.md]       as root, on Linux: it mounts small disks
    python tests/campaigns/adverse.py --short                            without the cold kernel cache

The disks are small ones in memory, mounted in a folder of the campaign's own. Exit code 0: every check passed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kill import LIMIT, RUN, Command, commands, content, measured
from reporting import into

from glimmer_ref.inference.reader import bundled

QUESTION = "Who wrote The Crooked Sailor?"
DONE = "a new folder; got one that exists"  # part of the error of a command whose work is already done
NO_PASSWD = "import pwd\ndef none(uid): raise KeyError(uid)\npwd.getpwuid = none\n"
ASK = "import sys\nfrom glimmer_ref.cli import main\nsys.exit(main(sys.argv[1:]))"


def run(words: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run([*RUN, *words], capture_output=True, text=True, timeout=LIMIT, check=False, **more)


def refused(end: subprocess.CompletedProcess[str], word: str) -> str | None:
    """None if the command refused with an error of one line that contains `word`; else a description of its end."""
    if end.returncode == 2 and end.stderr.count("\n") == 1 and word in end.stderr:
        return None
    return f"exit code {end.returncode}, {end.stderr[-300:]!r}"


@contextlib.contextmanager
def disk(place: Path, options: str) -> Iterator[Path]:
    """A disk in memory, mounted for as long as the block runs."""
    folder = Path(tempfile.mkdtemp(dir=place, prefix="disk-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()


def size_of(command: Command) -> int:
    """The bytes of the files that a command writes."""
    return sum(len(x) if isinstance(x, bytes) else len(str(x)) for x in command.files.values())


def full_disk(command: Command, place: Path) -> str | None:
    """A disk with room for a third of the files: one line; once there is enough room, the same command continues."""
    pages = max(size_of(command) // 3 // 4096, 2)
    with disk(place, f"size={4 * pages}k") as folder:
        out = folder / "out"
        wrong = refused(run(command.argv(out)), "No space left")
        if wrong:
            return wrong
        subprocess.run(["mount", "-o", "remount,size=256m", folder], check=True)
        end = run(command.next_argv(out))
        if end.returncode:
            return f"with room again: exit code {end.returncode}, {end.stderr[-300:]!r}"
        left = [p.name for p in folder.iterdir() if p != out]
        return f"left over: {left}" if left else None if content(out) == command.files else "another end"


def read_only(command: Command, place: Path) -> str | None:
    """A place that nobody can write to."""
    with disk(place, "ro,size=4k") as folder:
        return refused(run(command.argv(folder / "out")), "Read-only")


def twice_at_once(command: Command, place: Path) -> str | None:
    """Two processes on one folder: at least one succeeds, the other too or with one line; the folder is complete."""
    folder = Path(tempfile.mkdtemp(dir=place, prefix="two-"))
    argv = [*RUN, *command.argv(folder / "out")]
    pair = [subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [p.communicate(timeout=LIMIT)[1] for p in pair]
    codes = sorted(p.returncode for p in pair)
    wrong = [s for p, s in zip(pair, said, strict=True) if p.returncode and s.count("\n") != 1]
    if codes not in ([0, 0], [0, 2]) or wrong:
        return f"exit codes {codes}, {said}"
    same = content(folder / "out") == command.files and len(list(folder.iterdir())) == 1
    shutil.rmtree(folder)
    return None if same else "the folder is another"


def interrupted(command: Command, place: Path) -> str | None:
    """Ctrl-C at five moments, most of them inside a kernel: code 130 and one line each; the last run finishes."""
    folder, rng = Path(tempfile.mkdtemp(dir=place, prefix="stopped-")), random.Random(command.name)
    out = folder / "out"
    for _ in range(5):
        argv = [*RUN, *command.next_argv(out)]
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(rng.uniform(0.5, 1.0) * command.seconds)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
        if process.returncode == 0 or DONE in said:  # it finished before the signal
            break
        # If the signal comes before main, or in an `exec` of text, Python dies of the signal; a shell reports 130.
        if process.returncode not in (0, 130, -signal.SIGINT) or "\n" in said.strip():
            return f"exit code {process.returncode}, {said[-300:]!r}"
    else:
        end = run(command.next_argv(out))
        if end.returncode and DONE not in end.stderr:
            return f"gone on with: exit code {end.returncode}, {end.stderr[-300:]!r}"
    same = content(out) == command.files and len(list(folder.iterdir())) == 1
    shutil.rmtree(folder)
    return None if same else "another end"


def homeless(place: Path) -> str | None:
    """Without HOME and without an entry in passwd: there is an answer, and nothing named ~ in the working folder."""
    folder = Path(tempfile.mkdtemp(dir=place, prefix="homeless-"))
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR")}
    environment |= {"TMPDIR": str(folder / "tmp"), "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    (folder / "tmp").mkdir()
    (folder / "here").mkdir()
    argv = [sys.executable, "-c", NO_PASSWD + ASK, "ask", QUESTION, "--plot", "why.png"]
    end = subprocess.run(
        argv, cwd=folder / "here", env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    made = [p.name for p in (folder / "here").iterdir()]
    if end.returncode or made != ["why.png"]:
        return f"exit code {end.returncode}, made {made}, {end.stderr[-300:]!r}"
    return None


def few_descriptors(place: Path) -> str | None:
    """A process that may have only 48 open files reads a memory of 240 shards."""
    few = place / "few.jsonl"
    few.write_text("\n".join((bundled() / "passages.jsonl").read_text("utf-8").splitlines()[1600:1840]) + "\n", "utf-8")
    many = place / "many"
    built = run(["memory", "build", str(few), str(many), "--shard-passages", "1", "--ops", "numpy"])
    if built.returncode:
        return built.stderr[-300:]
    end = run(
        ["ask", QUESTION, "--memory", str(many), "--ops", "numpy"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48)),
    )
    return None if end.stdout == "Jorian Nettleworth\n" else f"{end.stdout!r} {end.stderr[-300:]!r}"


def cold_cache(place: Path) -> str | None:
    """Eight processes start at once with an empty kernel cache."""
    environment = os.environ | {"XDG_CACHE_HOME": str(place / "cold")}
    argv = [*RUN, "ask", QUESTION]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    some = [subprocess.Popen(argv, env=environment, **pipes) for _ in range(8)]
    answers = {p.communicate(timeout=LIMIT)[0] for p in some}
    return None if answers == {b"Jorian Nettleworth\n"} else f"{answers}"


EACH: dict[str, Callable[[Command, Path], str | None]] = {
    "a full disk, then room": full_disk,
    "a read-only place": read_only,
    "two at once on one folder": twice_at_once,
    "Ctrl-C, five times": interrupted,
}
ONCE: dict[str, Callable[[Path], str | None]] = {
    "no HOME, no entry in passwd": homeless,
    "240 shards, 48 descriptors": few_descriptors,
    "eight processes, no kernel cache": cold_cache,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="without the cold kernel cache; two commands")
    parser.add_argument("--into", metavar="FILE.md", help="print the table into this page too")
    args = parser.parse_args()
    rows: list[tuple[str, str, str | None]] = []
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        some = commands(place)
        for command in some[::4] if args.short else some:
            measured(command, place)
            rows += [(what, command.name, check(command, place)) for what, check in EACH.items()]
        for what, check in ONCE.items():
            if not (args.short and check is cold_cache):
                rows.append((what, "ask", check(place)))
    lines = [f"| {what} | {name} | {wrong or 'as it must'} |" for what, name, wrong in rows]
    lines = ["| what | command | how it ended |", "|---|---|---|", *lines]
    print("\n".join(lines))
    if args.into:
        into(args.into, "adverse", lines)
    return int(any(wrong for *_, wrong in rows))


if __name__ == "__main__":
    sys.exit(main())
