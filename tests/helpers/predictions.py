"""A small task in KILT's format, with right and wrong predictions: for our tests and for KILT's own evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chunk_pages import provenance

from glimmer_ref.data.chunks import Chunk, cut, gold
from glimmer_ref.data.kilt import Datapoint, prediction, read_knowledge, read_task, write_lines, write_predictions

PAGES, DATAPOINTS = 30, 84
COLOURS = ("red", "The Blue", "deep-green", "café noir", "grey, or gray")


def write_task(folder: Path) -> list[Datapoint]:
    """Write pages about houses and their colours, and questions.

    Some questions have one output or two; others have answers and provenance in separate outputs.
    """
    pages = (
        {
            "wikipedia_id": str(100 + i),
            "wikipedia_title": f"House {i}",
            "text": [
                f"House {i}\n",
                f"House {i} is {COLOURS[i % 5]}.\n",
                "Section::::Inside.\n",
                f"It has {i} rooms.\n",
            ],
        }
        for i in range(PAGES)
    )
    write_lines(folder / "pages.jsonl", pages)

    def outputs(i: int) -> list[dict[str, Any]]:
        here, next_door = (
            {"wikipedia_id": str(100 + n % PAGES), "title": f"House {n % PAGES}", "start_paragraph_id": 1 + 2 * (n % 2)}
            for n in (i, i + 1)
        )
        answer = {"answer": COLOURS[i % 5]}
        return [
            [{**answer, "provenance": [here]}],
            [{**answer, "provenance": [here, next_door]}, {"answer": "painted", "provenance": [next_door]}],
            [answer, {"provenance": [here]}, {"provenance": [here]}, {"provenance": [next_door]}],
            [{"answer": ""}, {**answer, "provenance": [here, next_door, here]}, {"answer": "of stone"}],
        ][i % 4]

    lines = ({"id": i if i % 2 else f"q{i}", "input": f"House {i}?", "output": outputs(i)} for i in range(DATAPOINTS))
    write_lines(folder / "task.jsonl", lines)
    return list(read_task(folder / "task.jsonl"))


def predict(folder: Path) -> bytes:
    """Write guess.jsonl: answers that are right, nearly right, wrong or empty, with pages in different orders.

    The right pages come first, late or in reverse; in some predictions they are incomplete, wrong or absent.
    """
    chunks = {page.id: cut(page) for page in read_knowledge(folder / "pages.jsonl")}
    by_id = {chunk.id: chunk for some in chunks.values() for chunk in some}
    others, task = list(by_id.values()), list(read_task(folder / "task.jsonl"))

    def found(i: int, datapoint: Datapoint) -> list[Chunk]:
        right, noise = [by_id[id] for id in gold(datapoint, chunks)], others[i % 50 : i % 50 + 4]
        return [right + noise, noise[:2] + right, right[:1], noise, [], right[::-1]][i % 6]

    def answer(i: int, datapoint: Datapoint) -> str:
        right = datapoint.answers[-1]
        return [right, f"The {right}!", f"{right} or so", "another", right, "", right][i % 7]

    lines = (prediction(d.id, answer(i, d), (provenance(c) for c in found(i, d))) for i, d in enumerate(task))
    write_predictions(folder / "guess.jsonl", lines, {d.id for d in task})
    return (folder / "guess.jsonl").read_bytes()
