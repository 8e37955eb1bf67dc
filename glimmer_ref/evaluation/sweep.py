"""Evaluations that are saved in a folder, at one or several k and m; a stopped one can be resumed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import IO, Any, NamedTuple

from .. import __version__
from ..data.inputs import Question
from ..disk.facts import difference, digest_of
from ..disk.lock import LOCK, lock_folder
from ..disk.read import parse_json, read_json
from ..disk.write import clean_leftovers, temporary_of, write_json
from ..errors import InputError, brief
from ..inference.reader import Reader
from ..memory.store import Memory
from ..params.digest import weights_digest
from ..params.model import leaves
from ..pictures import picture
from ..progress import Show
from .evaluate import Batches, batches_of, summary

RUN, RESULTS, PICTURE = "run.json", "results.json", "sweep.png"
MAX_POINTS = 1000


class SweepPoint(NamedTuple):
    """k passages considered, and m read by GLIMMER's decoder; m is None for systems that read all of them."""

    k: int
    m: int | None

    @property
    def name(self) -> str:
        """The name of its file, without the ending."""
        return f"k{self.k}" if self.m is None else f"k{self.k}-m{self.m}"


def parse_values(text: str) -> list[int]:
    """Parse whole numbers: "1,5,10"; "5:40" for 5, 10, 20, 40 (doubled); "5:40:5" for 5, 10, 15 .. 40.

    Raises:
        InputError: another form, a number below 1, or more than a thousand.
    """
    ranged = ":" in text
    words = text.split(":" if ranged else ",")
    whole = all(word.strip().isdecimal() and len(word) < 10 for word in words)
    if not whole or len(words) > (3 if ranged else MAX_POINTS):
        raise InputError(
            "--sweep", "k=V,V,.. or k=FROM:TO or k=FROM:TO:STEP in whole numbers, and the same for m", brief(text)
        )
    numbers = [int(word) for word in words]
    if ranged:
        first, last, *step = numbers
        if not 1 <= first <= last or step == [0]:
            raise InputError("--sweep", "FROM at least 1 and at most TO, and STEP above 0", repr(text))
        if step:
            return list(range(first, last + 1, step[0]))[: MAX_POINTS + 1]
        numbers = [*(first << i for i in range(MAX_POINTS) if first << i < last), last]
    if min(numbers) < 1:
        raise InputError("--sweep", "numbers of at least 1", brief(text))
    return list(dict.fromkeys(numbers))


def settings(axes: Sequence[str], k: int, m: int | None) -> list[SweepPoint]:
    """Parse the axes "k=.." and "m=..": every k with every m that is at most k; an axis that is missing has one value.

    Args:
        m: None for LUMEN and FiD.

    Raises:
        InputError: another axis or one twice, an axis m where there is none, no m that fits any k, too many settings.
    """
    named: dict[str, list[int]] = {}
    for axis in axes:
        name, _, text = axis.partition("=")
        if name not in ("k", "m") or name in named:
            raise InputError("--sweep", "k=.. and m=.., each at most once", brief(axis))
        named[name] = parse_values(text)
    if m is None and "m" in named:
        raise InputError("--sweep", "only k=.. for a system that reads all k passages", "m=..")
    ms: list[int | None] = [None] if m is None else list(named.get("m", [m]))
    found = [SweepPoint(k, m) for k in named.get("k", [k]) for m in ms if m is None or m <= k]
    if not found:
        raise InputError("--sweep", "some m that is at most some k", " ".join(axes))
    if len(found) > MAX_POINTS:
        raise InputError("--sweep", f"at most {MAX_POINTS} settings", str(len(found)))
    return found


def facts(
    reader: Reader, memory: Memory, questions: Sequence[Question], system: str, retrieval: str | None
) -> dict[str, Any]:
    """All facts that decide the lines of a run, except k and m. A run is resumed only if they are equal."""
    asked = [astuple(q if retrieval is None else replace(q, candidates=())) for q in questions]
    texts = hashlib.sha256()
    if "passages_sha256" not in memory.manifest.build:  # in main memory, without a checksum of a file
        for passage in memory.passages():
            texts.update(json.dumps(astuple(passage)).encode())
    return {
        "glimmer_ref": __version__,
        "system": system,
        "precision": reader.precision,
        "weights": weights_digest(reader.ops, leaves(reader.model)),
        "tokenizer": reader.tokenizer.digest,
        "passages": digest_of(memory.manifest.build | {"texts": texts.hexdigest()}),
        "questions": hashlib.sha256(json.dumps(asked).encode()).hexdigest(),
        "index": retrieval,
    }


def _check_folder(folder: Path) -> None:
    """Refuse a folder that is not empty and holds no evaluation that was begun."""
    others = [
        x for x in folder.iterdir() if x.name != LOCK and temporary_of(x.name) != RUN
    ]  # a killed process leaves these
    if others and not (folder / RUN).exists():
        raise InputError(
            str(folder), "a new folder, or one of an evaluation", "one with other files", "name another folder"
        )


def _begin(folder: Path, current: Mapping[str, Any]) -> None:
    """Write the facts of the run, or check that they are those in the folder; remove leftover files."""
    clean_leftovers(folder)
    path = folder / RUN
    if not path.exists():
        write_json(path, current)
        return
    stored = read_json(path, "the facts of an evaluation")
    if not isinstance(stored, dict):
        raise InputError(str(path), "the facts of an evaluation", "something else", "name another folder")
    if differs := difference(current, stored):
        raise InputError(str(folder), f"an evaluation with {differs[0]}", differs[1], "name another folder")


def parse_row(raw: bytes, location: str) -> dict[str, Any]:
    """Parse one complete line of a file."""
    row = parse_json(raw, location, "a line of an evaluation")
    if not isinstance(row, dict):
        raise InputError(location, "a line of an evaluation", "something else", "move the file away")
    return row


def _done(file: IO[bytes], questions: Sequence[Question]) -> list[dict[str, Any]]:
    """The complete lines of a file; an incomplete last line is cut off."""
    rows: list[dict[str, Any]] = []
    end = 0
    for raw in file:
        if not raw.endswith(b"\n"):
            break
        row = parse_row(raw, f"{file.name}, line {len(rows) + 1}")
        if len(rows) >= len(questions) or row.get("id") != questions[len(rows)].id:
            raise InputError(
                file.name,
                "lines in the order of the questions",
                f"another question in line {len(rows) + 1}",
                "move the file away",
            )
        rows.append(row)
        end += len(raw)
    if end < os.fstat(file.fileno()).st_size:
        file.truncate(end)
    file.seek(end)
    return rows


def _summary(rows: list[dict[str, Any]], path: Path) -> dict[str, Any]:
    """`summary` of rows that an earlier run may have written, and that may have been changed since."""
    try:
        return summary(rows)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise InputError(str(path), "lines of an evaluation", "others", "move it away") from None


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, default=lambda x: x.tolist(), allow_nan=False) + "\n"


def _answer(
    path: Path, batches: Batches, questions: Sequence[Question], system: str, setting: SweepPoint, show: Show
) -> list[dict[str, Any]]:
    """The lines of one setting: those in its file, then the missing ones."""
    with open(path, "a+b") as file:
        file.seek(0)
        rows = _done(file, questions)
        rest = questions[len(rows) :]
        for batch in batches(rest, system, *setting, show) if rest else ():
            file.write("".join(map(_line, batch)).encode())
            file.flush()
            rows += batch
    return rows


def run(
    folder: str | Path,
    reader: Reader,
    questions: Sequence[Question],
    memory: Memory,
    system: str,
    points: Sequence[SweepPoint],
    show: Show,
    retrieval: str | None = None,
    batches: Batches | None = None,
) -> list[dict[str, Any]]:
    """Evaluate each setting; a process that is killed loses at most the current batches.

    Args:
        folder: gets k25-m5.jsonl for each setting, with a line for each question; run.json, the facts that decide
            them; results.json, when all settings are done.
        points: the settings.
        retrieval: digest of the index that found the candidates, if any. Then the candidates need not equal those of
            an earlier run in the folder, since a larger k needs more of them.
        batches: see `evaluate`.

    Returns:
        For each setting {"k", "m"} and `summary`.

    Raises:
        InputError: the folder holds something else, or a run of another model, memory or questions; it is in use; the
            disk is full. Lines that are complete stay in the files.
    """
    folder, results = Path(folder), []
    with lock_folder(folder, _check_folder):
        _begin(folder, facts(reader, memory, questions, system, retrieval))
        for setting in points:
            path = folder / f"{setting.name}.jsonl"
            rows = _answer(path, batches or batches_of(reader, memory), questions, system, setting, show)
            results.append({**setting._asdict(), **_summary(rows, path)})
        write_json(folder / RESULTS, {"system": system, "precision": reader.precision, "settings": results})
    return results


def plot(results: Sequence[Mapping[str, Any]], system: str, path: str | Path) -> None:
    """Draw the curves of Figure 3 for this model: score against k and against the algorithm's cost, a line for each m.

    Raises:
        InputError: as `pictures.picture`.
    """
    with picture(path, 1, 2, (11, 4.2), dpi=110, sharey=True) as (figure, (axes,)):
        _curves(axes, results, system)
        figure.legend(loc="outside lower center", ncols=6, frameon=False)


def _curves(axes: Any, results: Sequence[Mapping[str, Any]], system: str) -> None:
    from matplotlib import colormaps

    ms = sorted({r["m"] for r in results}, key=lambda m: m or 0)
    for number, m in enumerate(ms):
        line = sorted((r for r in results if r["m"] == m and r["score"] is not None), key=lambda r: r["k"])
        style = {"marker": "os^Dv<>"[number % 7], "color": colormaps["viridis"](number / len(ms)), "markersize": 5}
        name = system if m is None else f"m = {m}"
        axes[0].plot([r["k"] for r in line], [r["score"] for r in line], label=name, **style)
        axes[1].plot([r["samples_per_tflop"] for r in line], [r["score"] for r in line], **style)
        for r in line if len(results) <= 12 else ():
            point = (r["samples_per_tflop"], r["score"])
            axes[1].annotate(f"k={r['k']}", point, xytext=(4, -10), textcoords="offset points", fontsize=8)
    axes[0].set_xlabel("k, passages retrieved")
    axes[0].set_ylabel("score, mean of tasks (%)")
    axes[1].set_xlabel("questions per 10¹² multiply-adds")
    axes[1].set_xscale("log")
    axes[1].margins(x=0.12)
    for ticks in (axes[1].xaxis.set_major_formatter, axes[1].xaxis.set_minor_formatter):
        ticks(lambda x, _: f"{x:,.5g}")
    axes[1].tick_params(axis="x", which="both", rotation=30)
    ks = sorted({r["k"] for r in results})
    axes[0].set_xticks(ks if len(ks) <= 12 else ks[:: -(-len(ks) // 12)])
    for each in axes:
        each.grid(alpha=0.3)
