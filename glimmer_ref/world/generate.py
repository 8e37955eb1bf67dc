"""Fictional encyclopedias for training and tests, in KILT's format. The same seed gives the same bytes everywhere."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from .. import __version__
from ..data.inputs import Question, read_passages, read_questions
from ..data.json_lines import read_jsonl
from ..disk.folder import replacing
from ..disk.read import read_json
from ..disk.write import json_text, sha256
from ..errors import InputError
from ..progress import Show, progress
from ..text.tokenizer import Tokenizer
from .facts import SIZES, Size, World, make_world
from .names import PRETRAIN, groups
from .pretraining import PRETRAINING_TASKS
from .questions import TASKS, TRAINING_TASKS, page_id, questions_of
from .vocabulary import group_ids, tokenizer_json

ABOUT = "world.json"
MADE_BY = "glimmer-ref world"
KNOWLEDGE, PASSAGES, QUESTIONS = "knowledge.jsonl", "passages.jsonl", "questions.jsonl"
MOST_WORLDS = 1000
CUTS = (1, 5, 25)


def _lines(records: Iterable[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(r, ensure_ascii=False, allow_nan=False) + "\n" for r in records).encode()


def _pages(world: World) -> Iterator[dict[str, Any]]:
    """The lines of KILT's knowledge source: one page each, with the title as paragraph 0."""
    for title, rows in world.pages.items():
        name = page_id(world, title)
        text = [f"{title}\n", *(world.passages[row].text for row in rows)]
        yield {"_id": name, "wikipedia_id": name, "wikipedia_title": title, "text": text}


def files_of(seed: int, split: str, number: int, size: Size) -> dict[str, bytes]:
    """One world as the files of its folder.

    Args:
        split: "train", "dev", "test" or "pretrain".
        number: number of the world in its split.

    Raises:
        InputError: the split is unknown, or there are too few passages for the facts.
    """
    world = make_world(seed, split, number, size)
    held_out = split in ("dev", "test")
    tasks = {"train": TASKS | TRAINING_TASKS, PRETRAIN: PRETRAINING_TASKS}.get(split, TASKS)
    questions = questions_of(world, size.held_out if held_out else size.questions, tasks)
    passages = ({"id": p.id, "title": p.title, "text": p.text} for p in world.passages)
    return {
        f"{world.name}/{KNOWLEDGE}": _lines(_pages(world)),
        f"{world.name}/{PASSAGES}": _lines(passages),
        f"{world.name}/{QUESTIONS}": _lines(questions),
    }


def _all_files(
    seed: int, train_worlds: int, pretrain_worlds: int, size: Size, show: Show
) -> Iterator[tuple[str, bytes]]:
    names = {"groups": group_ids(), "words": groups()}
    yield "tokenizer.json", tokenizer_json().encode()
    yield "groups.json", (json.dumps(names, ensure_ascii=False) + "\n").encode()
    many = {PRETRAIN: pretrain_worlds, "train": train_worlds, "dev": 1, "test": 1}
    worlds = [(split, i) for split, n in many.items() for i in range(n)]
    for split, number in show(worlds, len(worlds), "worlds"):
        yield from files_of(seed, split, number, size).items()


def _check(seed: int, train_worlds: int, pretrain_worlds: int, size: str) -> None:
    if not 0 <= seed < 2**63:
        raise InputError("world: seed", "a whole number from 0 to 2^63 - 1", str(seed))
    if not 1 <= train_worlds <= MOST_WORLDS:
        raise InputError("world: train worlds", f"1 to {MOST_WORLDS}", str(train_worlds))
    if not 0 <= pretrain_worlds <= MOST_WORLDS:
        raise InputError("world: worlds for pre-training", f"0 to {MOST_WORLDS}", str(pretrain_worlds))
    if size not in SIZES:
        raise InputError("world: size", f"one of {', '.join(SIZES)}", repr(size))


def _about(folder: Path) -> dict[str, Any]:
    """The world.json of an earlier run; empty if there is none."""
    try:
        about = read_json(folder / ABOUT)
    except InputError:
        return {}
    ours = isinstance(about, dict) and about.get("made_by") == MADE_BY and isinstance(about.get("sha256"), dict)
    return about if ours else {}


def _refuse(error: OSError) -> None:
    raise error


def _files(folder: Path) -> Iterator[Path]:
    """All files in a folder and its subfolders, one at a time, because the caller may stop at the first."""
    for parent, folders, files in os.walk(folder, onerror=_refuse):
        folders.sort()
        yield from (Path(parent, name) for name in sorted([*files, *folders]) if not _is_folder(Path(parent, name)))


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _check_free(folder: Path) -> None:
    """Check that the folder may be replaced: it may only contain unchanged files of an earlier run."""
    do = "nothing was changed; name another folder, or a new one"
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir():
        raise InputError(str(folder), "a folder", "a file", do)
    known = _about(folder).get("sha256", {})
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        if name == ABOUT and known:
            continue
        if name not in known:
            raise InputError(str(folder), "an empty folder, or one that glimmer-ref world wrote", f"{name} in it", do)
        if sha256(path) != known[name]:
            raise InputError(str(path), "the file as it was written", "another content", do)


def _put(path: Path, content: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def write(
    folder: str | Path,
    seed: int = 0,
    train_worlds: int = 8,
    size: str = "full",
    show: Show = progress,
    pretrain_worlds: int = 0,
) -> dict[str, Any]:
    """Write worlds for training, a world for dev, a world for test, their tokenizer and their groups of names.

    Worlds for pre-training have other facts than all others, and other tasks: see `pretraining.PRETRAINING_TASKS`.

    Everything is written to a temporary folder, which is renamed at the end. So the folder is complete or is missing.

    Returns:
        The content of world.json: the seed, the sizes and each file's SHA-256.

    Raises:
        InputError: an argument is invalid, the folder contains something else than the files of an earlier run, or
            another process is writing it.
    """
    _check(seed, train_worlds, pretrain_worlds, size)
    about = {"made_by": MADE_BY, "version": __version__, "seed": seed, "train_worlds": train_worlds, "size": size}
    about |= {"pretrain_worlds": pretrain_worlds}
    about |= {"counts": SIZES[size]._asdict()}
    with replacing(folder, _check_free, parents=True) as new:
        files = _all_files(seed, train_worlds, pretrain_worlds, SIZES[size], show)
        hashes = {name: _put(new / name, data) for name, data in files}
        about["sha256"] = hashes
        _put(new / ABOUT, json_text(about).encode())
    return about


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return fmean(known) if known else 0.0


def _task(tokenizer: Tokenizer, questions: list[Question]) -> dict[str, Any]:
    """Counts, mean lengths in tokens, and recall of the gold passages among the first candidates."""
    answers = [q.answers[0] for q in questions if q.answers]
    found = {n: [set(q.gold) <= set(q.candidates[:n]) for q in questions] for n in CUTS}
    return {
        "questions": len(questions),
        "question_tokens": _mean(len(tokenizer.encode(q.text)) for q in questions),
        "answer_tokens": _mean(len(tokenizer.encode(a)) for a in answers),
        **{f"recall_at_{n}": _mean(values) for n, values in found.items()},
    }


def statistics(folder: str | Path, tokenizer: Tokenizer) -> dict[str, Any]:
    """Counts for one world's folder, mean lengths in tokens, and recall of its candidates.

    Recall at n is the share of the questions whose gold passages are all among the first n candidates.

    Raises:
        InputError: files are missing or broken.
    """
    passages = list(read_passages(Path(folder) / PASSAGES))
    tasks: dict[str, list[Question]] = {}
    for question in read_questions(Path(folder) / QUESTIONS):
        tasks.setdefault(question.task, []).append(question)
    by_task = {name: _task(tokenizer, some) for name, some in tasks.items()}
    return {
        "pages": sum(1 for _ in read_jsonl(Path(folder) / KNOWLEDGE)),
        "passages": len(passages),
        "passage_tokens": _mean(len(tokenizer.encode(f"{p.title} : {p.text}")) for p in passages),
        "questions": sum(map(len, tasks.values())),
        **{f"recall_at_{n}": _mean(t[f"recall_at_{n}"] for t in by_task.values()) for n in CUTS},
        "tasks": by_task,
    }
