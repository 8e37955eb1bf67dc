"""Conversion of KILT's files into a folder for the other commands: passages.jsonl, and questions with gold passages."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..disk.folder import check_free, replacing
from ..disk.read import open_regular
from ..errors import InputError
from ..progress import Show, progress
from .chunks import WORDS, Chunk, cut, gold
from .kilt import Datapoint, read_knowledge, read_task, write_lines
from .relevance import check_threshold, relevant

PASSAGES = "passages.jsonl"
# Keys that are removed from a line, because they refer to passages that were cut differently.
DROPPED = ("candidates", "hard_negatives")


def _lines(path: str | Path) -> int:
    """The number of lines of a file, for the progress bar."""
    with open_regular(path) as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 22), b""))


def task_name(path: str | Path) -> str:
    """The task in the name of a KILT file, for example nq in nq-train-kilt.jsonl."""
    return Path(path).name.split(".")[0].split("-")[0]


def question(datapoint: Datapoint, task: str, chunks: Mapping[str, Sequence[Chunk]]) -> dict[str, Any]:
    """A datapoint as a line of a questions file, with its own keys, its task and its gold passages.

    Args:
        task: name of the task, if the line does not state one.
        chunks: id of a page -> its chunks.
    """
    read = zip(datapoint.record.get("output") or (), datapoint.outputs, strict=True)
    outputs = [o if output.answers else {k: v for k, v in o.items() if k != "answer"} for o, output in read]
    derived = {"id": datapoint.id, "output": outputs, "gold": gold(datapoint, chunks)}
    return {"task": task, **{k: v for k, v in datapoint.record.items() if k not in DROPPED}, **derived}


def _pages_named(tasks: Iterable[str | Path]) -> set[str]:
    provenance = (p for path in tasks for d in read_task(path) for o in d.outputs for p in o.provenance or ())
    return {p.wikipedia_id for p in provenance if p.wikipedia_id}


class _Cutting:
    """Cuts a knowledge source into chunks, counts them, and keeps those of some pages.

    Args:
        named: ids of the pages whose chunks are kept, because questions refer to them.
    """

    def __init__(self, named: set[str], words: int, fill: bool) -> None:
        self.named, self.words, self.fill = named, words, fill
        self.chunks: dict[str, list[Chunk]] = {}
        self.counts = {"pages": 0, "pages_without_text": 0, "passages": 0}

    def passages(self, pages: Iterable[Any]) -> Iterator[dict[str, Any]]:
        """The lines of passages.jsonl."""
        for page in pages:
            chunks = cut(page, self.words, self.fill)
            self.counts["pages"] += 1
            self.counts["pages_without_text"] += not chunks
            self.counts["passages"] += len(chunks)
            if page.id in self.named:
                self.chunks[page.id] = chunks
            yield from (chunk.record() for chunk in chunks)

    def questions(self, path: str | Path, threshold: float | None, counts: dict[str, int]) -> Iterator[dict[str, Any]]:
        """The lines of one task's questions. Counts the questions that are dropped or have no gold passages."""
        for datapoint in read_task(path):
            if threshold is not None and not relevant(datapoint, threshold):
                counts["dropped"] += 1
                continue
            line = question(datapoint, task_name(path), self.chunks)
            counts["without_gold"] += not line["gold"]
            yield line


def _check_new(folder: Path) -> None:
    if os.path.lexists(folder):
        raise InputError(str(folder), "a new folder", "one that exists", "name another, or move this one away")


def _names(folder: str | Path, tasks: Sequence[str | Path]) -> list[str]:
    """The names of the questions files."""
    stems = [Path(path).name.removesuffix(".jsonl") for path in tasks]
    names = [f"{stem}.jsonl" if "questions" in stem else f"{stem}.questions.jsonl" for stem in stems]
    duplicates = [name for name in names if names.count(name) > 1]
    if duplicates:
        raise InputError(
            str(folder),
            "task files with different names",
            f"two whose questions would both go to {duplicates[0]}",
            "rename one",
        )
    return names


def write_folder(
    folder: str | Path,
    pages: str | Path,
    tasks: Sequence[str | Path] = (),
    words: int = WORDS,
    fill: bool = True,
    threshold: float | None = None,
    show: Show = progress,
) -> dict[str, Any]:
    """Cut a knowledge source into passages, and find the gold passages of the datapoints of some tasks.

    The folder is written completely or not at all. Pages are read one at a time. The chunks of pages to which a task
    refers are held in RAM.

    Args:
        folder: a new folder. It gets passages.jsonl, and for example nq-dev-kilt.questions.jsonl for the task file
            nq-dev-kilt.jsonl.
        pages: file of the knowledge source.
        tasks: files of tasks.
        words, fill: see `chunks.cut`.
        threshold: datapoints that are not `relevant` with this threshold are dropped; None: none is dropped.

    Returns:
        Counts: "pages", "pages_without_text", "passages", and "tasks", which has for each file "questions", "dropped"
        and "without_gold" (the provenance is missing, or is not in these pages).

    Raises:
        InputError: the folder exists or another process is writing it, a file is broken, no page has text, `words` is
            below 1, or the threshold is not above 0 and at most 1.
    """
    check_free(folder, _check_new)
    names = _names(folder, tasks)
    if threshold is not None:  # check it before the work begins
        check_threshold(threshold)
    cutting = _Cutting(_pages_named(tasks), words, fill)
    task_counts: dict[str, dict[str, int]] = {}
    with replacing(folder, _check_new, parents=True) as new:
        write_lines(new / PASSAGES, cutting.passages(show(read_knowledge(pages), _lines(pages), "chunks")))
        if not cutting.counts["passages"]:
            raise InputError(str(pages), "at least one page with text", f"{cutting.counts['pages']} pages without text")
        for name, path in zip(names, tasks, strict=True):
            counts = task_counts[name] = {"questions": 0, "dropped": 0, "without_gold": 0}
            counts["questions"] = write_lines(new / name, cutting.questions(path, threshold, counts))
    return {**cutting.counts, "tasks": task_counts}
