"""The reports of a run: a line for each step in log.jsonl, a status line on the terminal, and a picture of curves."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any, TextIO

from ..disk.read import parse_json, read_text, reason_of
from ..disk.write import write_text
from ..errors import InputError, shown
from ..pictures import picture
from ..terminal import note, watched

LOG, CURVES = "log.jsonl", "curves.png"
MOST_LOG_BYTES = 2**32
SHARES = ("exact_match", "exact_match_of_gold", "recall_at_m", "recall_at_m_of_retrieval")
REDRAWN, LINES = 0.2, 30.0  # seconds between two updates: on a terminal, and elsewhere
SMOOTH, POINTS = 50, 40  # each point of a curve is the mean of so many steps; of fewer, if there are too few points


def _is_number(x: Any) -> bool:
    return type(x) in (int, float)


def is_evaluation(record: Any) -> bool:
    """Whether it is the record of an evaluation."""
    if not isinstance(record, dict) or not isinstance(record.get("tasks"), dict):
        return False
    shares = [record.get(name, "") for name in SHARES] + list(record["tasks"].values())
    return type(record.get("step")) is int and all(x is None or _is_number(x) for x in shares)


def _is_record(record: Any) -> bool:
    """Whether it is the record of a step or of an evaluation."""
    if isinstance(record, dict) and "exact_match" in record:
        return is_evaluation(record)
    return isinstance(record, dict) and type(record.get("step")) is int and all(map(_is_number, record.values()))


def read_log(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a log. The last line is left out if it is incomplete because the run was killed.

    Raises:
        InputError: any other line is not a record of a log.
    """
    records: list[dict[str, Any]] = []
    text = read_text(path, MOST_LOG_BYTES) if path.exists() else ""
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if not line.endswith("\n"):
            break
        record = parse_json(line, f"{path}, line {number}", "a line of a log")
        if not _is_record(record):
            raise InputError(f"{path}, line {number}", "a line of a log", "another", "move it away")
        records.append(record)
    return records


class Log:
    """Appends lines to log.jsonl. A resumed run first removes the lines that are newer than its checkpoint.

    Args:
        done: number of steps before the checkpoint.
        evaluated: number of steps before the last evaluation; -1: there was none.

    Raises:
        InputError: the file cannot be written.
    """

    def __init__(self, folder: Path, done: int = 0, evaluated: int = -1) -> None:
        self.path = folder / LOG
        lines = read_log(self.path)
        kept = [line for line in lines if line["step"] <= (evaluated if "exact_match" in line else done)]
        write_text(self.path, "".join(json.dumps(r, allow_nan=False) + "\n" for r in kept))
        try:
            self._file: TextIO = self.path.open("a", encoding="utf-8", newline="\n")
        except OSError as error:
            raise InputError(f"{self.path}", "a file that can be written", reason_of(error)) from None

    def write(self, record: dict[str, Any]) -> None:
        """Append one line. Other processes can read it at once."""
        try:
            self._file.write(json.dumps(record, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise InputError(f"{self.path}", "room for a line", reason_of(error), "make room") from None

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # `write` has already reported an error
            self._file.close()


class StatusLine:
    """The progress of a run on stderr: on a terminal one line that is redrawn, elsewhere a new line now and then.

    Args:
        steps: number of steps of the whole recipe.
    """

    def __init__(self, steps: int) -> None:
        self.steps, self.terminal = steps, watched()
        self.begin: tuple[float, int] | None = None  # when which step ended: the first of this run
        self.updated = time.monotonic()
        self.exact_match: float | None = None  # of the last evaluation

    def update(self, record: dict[str, Any], stage: str) -> None:
        """Show the numbers of a step, those of the last evaluation, and the estimated time left."""
        now = time.monotonic()
        if self.begin is None:  # the first step may also compile kernels, so it says nothing about the time left
            self.begin = now, record["step"]
            return
        if now - self.updated < (REDRAWN if self.terminal else LINES) and record["step"] < self.steps:
            return
        self.updated = now
        if self.terminal:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r\x1b[K{self._text(record, stage, now, self.begin, width)}")
            sys.stderr.flush()
        else:
            note(self._text(record, stage, now, self.begin, 200))

    def _text(self, record: dict[str, Any], stage: str, now: float, begin: tuple[float, int], width: int) -> str:
        """As many of the numbers as the width allows. The time left is always among them."""
        rate = (record["step"] - begin[1]) / max(now - begin[0], 1e-9)
        parts = [f"{stage} {record['step']}/{self.steps}", f"{_time((self.steps - record['step']) / rate)} left"]
        more = [f"loss {record['loss']:.2f}"]
        more += [] if self.exact_match is None else [f"dev {self.exact_match:.1f}"]
        more += [f"{rate:.1f} steps/s"]
        more += [f"{name} {record[name]:.2f}" for name in ("recall", "lm", "pdist") if name in record]
        for part in more:
            if len("  ".join([*parts, part])) <= width:
                parts.insert(-1, part)
        return "  ".join(parts)[:width]

    def clear(self) -> None:
        """Erase the line, so that another line can be printed in its place."""
        if self.terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _time(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 90 else f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def describe(record: dict[str, Any]) -> str:
    """An evaluation as one readable line."""
    parts = []
    if record["exact_match"] is not None:
        gold = record["exact_match_of_gold"]
        parts.append(f"exact match {record['exact_match']:.1f}" + ("" if gold is None else f" (of gold {gold:.1f})"))
    if record["recall_at_m"] is not None:
        parts.append(f"recall@m {record['recall_at_m']:.1f} (retrieval {record['recall_at_m_of_retrieval']:.1f})")
    return ", ".join(parts)


def _smoothed(records: list[dict[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """Means over `SMOOTH` steps, or fewer in a short run: the last step of each mean, and the means."""
    some = [r for r in records if name in r and "exact_match" not in r]
    n = min(SMOOTH, len(some) // POINTS + 1)
    runs = [some[i : i + n] for i in range(0, len(some), n)]
    return [run[-1]["step"] for run in runs], [fmean(r[name] for r in run) for run in runs]


def plot_curves(folder: Path) -> None:
    """Write curves.png from log.jsonl: losses, exact match by task, recall of the reranker and of retrieval.

    Raises:
        InputError: as `pictures.picture`.
    """
    records = read_log(folder / LOG)
    with picture(folder / CURVES, 1, 3, (16, 4), dpi=110) as (_, (row,)):
        _curves(row, records, [r for r in records if "exact_match" in r])


def _curves(row: Iterable[Any], records: list[dict[str, Any]], evaluations: list[dict[str, Any]]) -> None:
    left, middle, right = row
    for name, label in (("lm", "of the answers (lm)"), ("pdist", "of the scores (pdist)")):
        steps, means = _smoothed(records, name)
        if steps:
            left.plot(steps, means, marker="." if len(steps) == 1 else "", label=label)
    left.set_title("losses of training")
    left.set_ylim(bottom=0)
    _tasks(middle, evaluations)
    recalls = (
        ("recall_at_m", "the model's m best", "black"),
        ("recall_at_m_of_retrieval", "retrieval's first m", "tab:gray"),
    )
    for name, label, color in recalls:
        right.plot(
            [r["step"] for r in evaluations], [r[name] for r in evaluations], marker=".", color=color, label=label
        )
    right.set_title("gold passages found, dev, percent")
    for axes in (middle, right):
        axes.set_ylim(-2, 102)
    stages = [b["step"] - 1 for a, b in pairwise(r for r in records if "stage" in r) if a["stage"] != b["stage"]]
    last = max([1, *(r["step"] for r in records)])
    for axes in (left, middle, right):
        axes.set_xlim(-0.02 * last, 1.02 * last)
        axes.grid(alpha=0.25)
        for step in stages:
            axes.axvline(step, color="gray", linewidth=0.8, linestyle="--")
        axes.set_xlabel("step; a dashed line ends a stage" if stages else "step")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def _tasks(axes: Any, evaluations: Iterable[dict[str, Any]]) -> None:
    """Exact match: a thin line for each task, a thick one for their mean."""
    evaluations = list(evaluations)
    steps = [r["step"] for r in evaluations]
    look: dict[str, Any] = {"marker": "."}  # a single evaluation has no line
    for task in evaluations[-1]["tasks"] if evaluations else ():
        axes.plot(steps, [r["tasks"].get(task) for r in evaluations], linewidth=0.8, label=shown(task), **look)
    look |= {"linewidth": 2.2, "color": "black"}
    axes.plot(steps, [r["exact_match"] for r in evaluations], label="mean of tasks", **look)
    of_gold = [r["exact_match_of_gold"] for r in evaluations]
    axes.plot(steps, of_gold, linestyle=":", label="of gold passages alone", **look)
    axes.set_title("exact match, dev, percent")
