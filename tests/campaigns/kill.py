"""kill -9 during every command that writes a folder: no incomplete folder looks finished, and a resumed run is equal.

    python tests/campaigns/kill.py [--times 100] [--jobs 2] [--only train] [--into docs/reliability.md]
    python tests/campaigns/kill.py --short                                                   half a minute of it

Each time a command is started in a folder of its own and killed with its children. In half of the cases this happens
at a random time, otherwise at a random one of its calls that open, rename or remove a file. The folder must then be
refused as unfinished, or be complete to the byte. The same command is run again to its end. Its files must equal those
of an uninterrupted run, with nothing left over beside them. Exit code 0: this held each time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "helpers"))
import learning
from reporting import into

from glimmer_ref.inference.reader import bundled
from glimmer_ref.progress import progress

RUN = [sys.executable, "-m", "glimmer_ref"]
TIMED = ("seconds", "questions_per_second", "date")  # fields that depend on the time
LIMIT = 300.0  # seconds that a command may take
# Runs a command that kills itself at its `moment`-th call on files below a folder; if it survives, it counts the calls.
HOOKED = """
import os, signal, sys
moment, folder, counted = int(sys.argv[1]), sys.argv[2], sys.argv[3]
calls, EVENTS = 0, {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link"}
def hook(event, arguments):
    global calls
    if event in EVENTS and isinstance(arguments[0], (str, os.PathLike)) and os.fspath(arguments[0]).startswith(folder):
        calls += 1
        if calls == moment:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
from glimmer_ref.cli import main
code = main(sys.argv[4:])
with open(counted, "w") as file:
    file.write(str(calls))
sys.exit(code)
"""


@dataclass
class Command:
    """A command that writes the folder OUT.

    Args:
        words: the words of the command; OUT stands for the folder.
        again: additional words of a second run.
        looks: a command that checks OUT: exit code 0 if it is complete, another if it is unfinished. It is empty if
            complete files are enough.
    """

    name: str
    words: list[str]
    again: list[str] = field(default_factory=list)
    looks: list[str] = field(default_factory=list)
    seconds: float = 0.0
    calls: int = 0
    files: dict[str, Any] = field(default_factory=dict)

    def argv(self, out: Path) -> list[str]:
        """The command's words for a new folder."""
        return [w.replace("OUT", str(out)) for w in self.words]

    def next_argv(self, out: Path) -> list[str]:
        """The command's words for a folder that was begun: a training can be resumed only from a checkpoint."""
        saved = any((out / name).exists() for name in ("last", ".last.before"))  # between two renames
        return [*self.argv(out), *(self.again if saved else [])]


def commands(place: Path) -> list[Command]:
    """All commands; their inputs are written to `place`."""
    corpus, questions = (bundled() / f"{n}.jsonl" for n in ("passages", "questions"))
    few = place / "passages.jsonl"
    few.write_text("\n".join(corpus.read_text("utf-8").splitlines()[:240]) + "\n", "utf-8")
    some = place / "questions.jsonl"
    some.write_text("\n".join(questions.read_text("utf-8").splitlines()[::40]) + "\n", "utf-8")
    recipe = place / "recipe.toml"
    recipe.write_text(learning.write_world(place), "utf-8")
    finished(["memory", "build", str(corpus), str(place / "memory")])
    finished(["world", str(place / "world"), "--train-worlds", "1", "--size", "small"])
    test = place / "world" / "test"
    memory = ["memory", "build", str(few), "OUT", "--shard-passages", "20"]
    return [
        Command("memory build", memory, looks=["memory", "info", "OUT", "--verify"]),
        Command("memory build --workers 2", [*memory, "--workers", "2"], looks=["memory", "info", "OUT", "--verify"]),
        Command("index build --bm25", ["index", "build", str(corpus), "OUT", "--bm25"],
                looks=["index", "info", "OUT", "--verify"]),
        Command("evaluate --out", ["evaluate", str(some), "--memory", str(place / "memory"), "--sweep", "k=5,10", "m=1",
                                   "--out", "OUT"]),
        Command("train", ["train", str(recipe), "--out", "OUT", "--ops", "numpy"], again=["--resume"],
                looks=["trace", "--weights", "OUT/best", "--ops", "numpy", "--inputs", str(ids(place)),
                       "--out", "OUT/../t"]),
        Command("world", ["world", "OUT", "--seed", "1", "--train-worlds", "1", "--size", "small"]),
        Command("chunks", ["chunks", str(test / "knowledge.jsonl"), "OUT", "--tasks", str(test / "questions.jsonl"),
                           "--paragraphs"]),
    ]  # fmt: skip


def ids(place: Path) -> Path:
    """Token ids for a run of a trained model."""
    (place / "ids.json").write_text(json.dumps({"question": [3, 4, 1], "passages": [[5, 6], [7]]}), "utf-8")
    return place / "ids.json"


def finished(words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run([*RUN, *words], capture_output=True, text=True, timeout=LIMIT, check=True)


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in TIMED}
    return [_timeless(v) for v in value] if isinstance(value, list) else value


def content(folder: Path) -> dict[str, Any]:
    """The content of a folder's files, without JSON fields that depend on the time; pictures only have to exist."""
    result: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name, raw = str(path.relative_to(folder)), path.read_bytes() if path.is_file() else b""
        if path.suffix == ".png":
            result[name] = raw[:4]
        elif path.suffix == ".json":
            result[name] = _timeless(json.loads(raw))
        elif path.suffix == ".jsonl":
            result[name] = [_timeless(json.loads(line)) for line in raw.splitlines()]
        elif not path.is_dir():
            result[name] = raw
    return result


def measured(command: Command, place: Path) -> None:
    """Run a command without interruption, and store its time, its number of calls on files and its files."""
    out, counted = place / "whole" / "out", place / "counted"
    for _ in range(2):  # the second time, every kernel is compiled
        shutil.rmtree(out.parent, ignore_errors=True)
        out.parent.mkdir(parents=True)
        begun = time.monotonic()
        hooked = [sys.executable, "-c", HOOKED, "0", str(out.parent), str(counted), *command.argv(out)]
        subprocess.run(hooked, capture_output=True, timeout=LIMIT, check=True)
        command.seconds = time.monotonic() - begun
    command.calls, command.files = int(counted.read_text()), content(out)
    beside = [p.name for p in out.parent.iterdir() if p != out]
    if beside:
        raise SystemExit(f"{command.name}: an unbroken run leaves {beside} beside its folder")


def killed(command: Command, folder: Path, rng: random.Random) -> str:
    """Start the command in a folder and kill it; return a description of the moment."""
    out = folder / "out"
    by_call = rng.random() < 0.5
    moment = rng.randint(1, command.calls) if by_call else 0
    argv = [sys.executable, "-c", HOOKED, str(moment), str(folder), os.devnull, *command.argv(out)]
    with open(folder / "said", "wb") as said:
        process = subprocess.Popen(argv, stdout=said, stderr=said, start_new_session=True)
        after = rng.uniform(0.25, 1.0) * command.seconds
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LIMIT if by_call else after)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    (folder / "said").unlink()
    return f"at call {moment} of {command.calls}" if by_call else f"after {after:.2f} of {command.seconds:.2f} s"


def torn(command: Command, out: Path) -> str | None:
    """Describe the error if a killed command left a folder that looks finished but is not; else None."""
    if not out.exists():
        return None
    if command.looks:
        words = [w.replace("OUT", str(out)) for w in command.looks]
        look = subprocess.run([*RUN, *words], capture_output=True, text=True, timeout=LIMIT, check=False)
        if look.returncode not in (0, 2) or (look.returncode == 2 and look.stderr.count("\n") != 1):
            return f"looking at it: exit code {look.returncode}, {look.stderr[-300:]}"
        found = content(out)  # besides, there may be a lock that no process holds, or a journal
        apart = sorted(n for n in command.files if found.get(n) != command.files[n])
        if look.returncode == 0 and command.name != "train" and apart:
            return f"it looks finished, and is another: {', '.join(apart)}"
        return None
    for path in out.rglob("*.json"):
        try:
            json.loads(path.read_bytes())
        except ValueError:
            return f"{path.name} is torn"
    return None


def one(command: Command, place: Path, number: int, seed: int) -> str | None:
    """Kill a command, check its folder and run it again; return the error, if any."""
    rng = random.Random(f"{seed}|{command.name}|{number}")
    folder = Path(tempfile.mkdtemp(dir=place, prefix="killed-"))
    out = folder / "out"
    try:
        when = killed(command, folder, rng)
        wrong = torn(command, out)
        end = subprocess.run(
            [*RUN, *command.next_argv(out)], capture_output=True, text=True, timeout=LIMIT, check=False
        )
        in_place = end.returncode == 2 and "a new folder; got one that exists" in end.stderr  # it had already finished
        if not wrong and end.returncode and not in_place:
            wrong = f"going on: exit code {end.returncode}, {end.stderr[-300:]}"
        if not wrong and (after := content(out)) != command.files:
            names = sorted(n for n in {*after, *command.files} if after.get(n) != command.files.get(n))
            wrong = f"gone on with, it ends otherwise: {', '.join(names)[:300]}"
        left = sorted(p.name for p in folder.iterdir() if p.name not in ("out", "t"))
        if not wrong and left:
            wrong = f"left over: {', '.join(left)}"
        return wrong and f"{command.name}, run {number}, killed {when}: {wrong}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=100, help="kills of each command")
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--seed", type=int, default=15)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no kill later than that")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="names of commands")
    parser.add_argument("--short", action="store_true", help="twice each")
    parser.add_argument("--into", metavar="FILE.md", help="print the table into this page too")
    args = parser.parse_args()
    args.times = 2 if args.short else args.times
    return args


def main() -> int:
    args, rows, failed = parsed(), [], 0
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        some = [c for c in commands(place) if not args.only or c.name in args.only]
        for command in some:
            measured(command, place)
        tasks = [(c, i) for i in range(args.first, args.first + args.times) for c in some]
        wrong: dict[str, list[str]] = {c.name: [] for c in some}
        kills, end = {c.name: 0 for c in some}, time.monotonic() + 60 * args.minutes

        def work(task: tuple[Command, int]) -> None:
            if time.monotonic() > end:
                return
            found = one(task[0], place, task[1], args.seed)
            kills[task[0].name] += 1
            if found:
                wrong[task[0].name].append(found)
                print(f"\n{found}", flush=True)

        with ThreadPoolExecutor(args.jobs) as pool:
            for _ in progress(pool.map(work, tasks), len(tasks), "killing"):
                pass
    for c in some:
        failed += len(wrong[c.name])
        rows.append(f"| {c.name} | {kills[c.name]} | {len(c.files)} | {c.calls} | {len(wrong[c.name])} |")
    head = [
        "| command | kills | files it leaves | calls on files | torn, or another end |",
        "|---|---|---|---|---|",
    ]
    print("\n".join([*head, *rows]))
    if args.into:
        into(args.into, "kill", [*head, *rows])
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
