"""From raw pages to a score through every stage, as README says it, against the direct path."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bundled_questions import answered

import glimmer_ref
from glimmer_ref.cli import main
from glimmer_ref.data.inputs import read_passages, read_questions
from glimmer_ref.evaluation.evaluate import evaluate


def quiet(items: Iterable[Any], *more: Any) -> Iterable[Any]:
    return items


def pipeline(folder: Path, world: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What the last command prints."""
    corpus, index, memory, scores = (str(folder / name) for name in ("corpus", "index", "memory", "scores"))
    passages, task = f"{corpus}/passages.jsonl", f"{corpus}/questions.jsonl"
    for words in (
        ["chunks", str(world / "knowledge.jsonl"), corpus, "--tasks", str(world / "questions.jsonl"), "--paragraphs"],
        ["index", "build", passages, index, "--bm25"],
        ["memory", "build", passages, memory],
        ["evaluate", "--task", task, "--memory", memory, "--index", index, "--out", scores, "--kilt", "--json"],
    ):
        capsys.readouterr()
        assert main(words) == 0, capsys.readouterr().err
    return dict(json.loads(capsys.readouterr().out))


def test_a_small_world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The world's own passages and candidates, in RAM, give the same answers and scores."""
    assert main(["world", str(tmp_path / "worlds"), "--size", "small", "--train-worlds", "1"]) == 0
    world = tmp_path / "worlds" / "test"
    got = pipeline(tmp_path, world, capsys)
    reader = glimmer_ref.load()
    questions = [replace(q, candidates=q.candidates[: got["k"]]) for q in read_questions(world / "questions.jsonl")]
    memory = reader.memorize(read_passages(world / "passages.jsonl"))
    told, _ = evaluate(reader, questions, memory, "glimmer", got["k"], got["m"], quiet)
    assert got["tasks"] == told["tasks"] and got["score"] == told["score"] > 50
    assert "kilt" not in told, "the world's own passages do not name their pages"
    assert set(got["kilt"]) == set(got["tasks"])
    for task, scores in got["kilt"].items():
        assert scores["questions"] == got["tasks"][task]["questions"]
        assert 0 < scores["kilt_score"] <= min(got["tasks"][task]["score"], scores["r_precision"])
        assert 0 < scores["kilt_f1"] <= scores["f1"] and scores["r_precision"] <= 100
    predictions = (tmp_path / "scores" / f"k{got['k']}-m{got['m']}.questions.jsonl").read_text("ascii").splitlines()
    assert [json.loads(line)["id"] for line in predictions] == [q.id for q in questions]


@pytest.mark.slow
def test_the_bundled_world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its pages give the scores of the bundled questions."""
    assert main(["world", str(tmp_path / "worlds"), "--train-worlds", "1"]) == 0
    got = pipeline(tmp_path, tmp_path / "worlds" / "test", capsys)
    direct, _ = answered(1, "float32", "numba")
    for name in ("score", "exact_match", "recall_at_m", "recall_at_m_of_retrieval", "tasks"):
        assert got[name] == direct[name]
