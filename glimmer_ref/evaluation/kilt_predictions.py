"""Saved evaluations as predictions for KILT's own evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.chunks import page_of
from ..data.inputs import Passage, Question
from ..data.kilt import prediction, write_predictions
from ..disk.read import open_regular
from ..errors import InputError, brief
from ..memory.store import Memory
from .sweep import SweepPoint, parse_row


def check(files: Mapping[str, Sequence[Question]], source: Memory | Sequence[Passage]) -> None:
    """Check before the work what `write` needs: files of different names, passages with known pages.

    Raises:
        InputError: two files of one name, or passages that `glimmer-ref chunks` did not cut.
    """
    names = [Path(path).name for path in files]
    if len(set(names)) < len(names):
        raise InputError(
            "--kilt", "files of questions with different names", ", ".join(names)[:60], "rename one of them"
        )
    asked = [question for some in files.values() for question in some]
    for id in (id for question in asked for id in question.candidates):
        page_of(id)
    if not all(question.candidates for question in asked):
        for passage in source.passages() if isinstance(source, Memory) else source:
            page_of(passage.id)


def _kilt_line(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A line of an evaluation in KILT's format."""
    ranked = row.get("ranked")
    if not isinstance(ranked, list) or not all(isinstance(id, str) for id in ranked):
        raise InputError("a line of an evaluation", "ranked ids", brief(ranked, 40))
    pages = dict.fromkeys(map(page_of, ranked))
    return prediction(str(row.get("id")), str(row.get("prediction")), [{"wikipedia_id": page} for page in pages])


def write(folder: str | Path, setting: SweepPoint, files: Mapping[str, Sequence[Question]]) -> list[Path]:
    """Write the answers at one setting for KILT's own evaluation, one file k25-m5.NAME for each file of questions.

    The pages are those of all k passages, best first.

    Raises:
        InputError: passages that `glimmer-ref chunks` did not cut, whose pages are not known.
    """
    folder, paths = Path(folder), list[Path]()
    with open_regular(folder / f"{setting.name}.jsonl") as lines:
        for path, questions in files.items():
            said = list[Mapping[str, Any]]()
            for _ in questions:
                row = parse_row(next(lines, b""), f"{folder / setting.name}.jsonl, line {len(said) + 1}")
                said.append(_kilt_line(row))
            paths.append(folder / f"{setting.name}.{Path(path).name}")
            write_predictions(paths[-1], said, [q.id for q in questions])
    return paths
