"""KILT's measures: what its own evaluation says, by hand, and what holds for any answers and pages."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import cache, reduce
from operator import add
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paths import FIXTURES
from predictions import predict, write_task

from glimmer_ref.data.inputs import Question, read_questions
from glimmer_ref.errors import InputError
from glimmer_ref.evaluation.evaluate import kilt_scores
from glimmer_ref.evaluation.metrics import (
    accuracy,
    exact_match,
    f1,
    kilt_accuracy,
    kilt_exact_match,
    kilt_f1,
    measure_of,
    normalise,
    r_precision,
    recall_at_k,
)

KS = (1, 2, 5)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(["a cat", "The cat", "cat."])
PAGES = st.lists(st.sampled_from("123456"), max_size=3)


@cache
def recorded() -> list[dict[str, Any]]:
    """Questions and predictions with the scores of KILT's evaluation: see data/record_kilt_scores.py."""
    text = (FIXTURES / "kilt_scores.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def ours(case: dict[str, Any]) -> dict[str, float]:
    answer, pages = (case["answer"], case["accepted"]), (case["found"], case["evidence"])
    return {
        "accuracy": accuracy(*answer),
        "em": exact_match(*answer),
        "f1": f1(*answer),
        "KILT-accuracy": kilt_accuracy(*answer, *pages),
        "KILT-em": kilt_exact_match(*answer, *pages),
        "KILT-f1": kilt_f1(*answer, *pages),
        "Rprec": r_precision(*pages),
        **{f"recall@{k}": recall_at_k(*pages, k) for k in KS},
    }


def test_scores_are_those_of_kilts_evaluation_to_the_last_bit() -> None:
    wrong = [case for case in recorded() if ours(case) != case["kilt"]]
    assert not wrong, wrong[:3]
    for name in recorded()[0]["kilt"]:  # the record can tell right from wrong, whatever the measure
        values = [case["kilt"][name] for case in recorded()]
        assert min(values) == 0 and max(values) == 1 and sum(v > 0 for v in values) > 30, name


def test_kilts_own_cases_give_what_its_tests_assert() -> None:
    def mean(name: str, source: str) -> float:
        values = [ours(case)[name] for case in recorded() if case["from"] == source]
        return sum(values) / len(values)

    assert mean("em", "gold1 guess1_1") == 2 / 3 and mean("KILT-em", "gold1 guess1_1") == 1 / 3
    assert mean("f1", "gold1 guess1_1") == 0.8333333333333334
    assert mean("Rprec", "gold2 guess2_1") == 1 / 2 and mean("recall@5", "gold2 guess2_1") == 2 / 3
    assert mean("Rprec", "gold2 guess2_2") == 1 and mean("recall@5", "gold2 guess2_2") == 1 / 3
    assert mean("f1", "gold3 guess3_1") == 0.5102040816326531
    assert mean("KILT-f1", "gold3 guess3_1") == 0.25510204081632654


def test_kilts_evaluation_of_our_predictions_is_ours(tmp_path: Path) -> None:
    """The very file that KILT's evaluation took, and what it said of it as a whole."""
    said = json.loads((FIXTURES / "kilt_file.json").read_text())
    task, content = write_task(tmp_path), predict(tmp_path)
    assert hashlib.sha256(content).hexdigest() == said["sha256"]
    guesses = [json.loads(line)["output"][0] for line in content.splitlines()]
    cases = [
        {"answer": guess["answer"], "accepted": d.answers, "found": pages, "evidence": d.evidence}
        for d, guess in zip(task, guesses, strict=True)
        for pages in [[p["wikipedia_id"] for p in guess["provenance"]]]
    ]
    rows = [ours(case) for case in cases]
    # KILT's script adds with +=, one after the other; `sum` does not, from Python 3.12 on.
    means = {name: reduce(add, (row[name] for row in rows)) / len(rows) for name in said["kilt"]}
    assert means == said["kilt"] and len(set(means.values())) == len(means) and min(means.values()) > 0


def test_a_page_set_counts_where_its_last_page_was_found() -> None:
    evidence = [["1", "2"], ["5"], ["7", "8", "9"]]
    assert r_precision(["1", "5", "2"], evidence) == 0.5
    assert r_precision(["5"], evidence) == 1
    assert r_precision(["5", "5", "1"], [["5", "1"]]) == 1, "a page found twice counts once"
    found = ["1", "3", "2", "5"]  # 1 makes room: 3, {1, 2}, 5
    assert [recall_at_k(found, evidence, k) for k in (1, 2, 3)] == [0, 1 / 3, 2 / 3]
    assert recall_at_k(["1"], [["1"], ["1"], ["1", "2"]], 1) == 1 / 2, "the same set twice is one"
    assert recall_at_k(["1"], [["1"], []], 1) == 1 / 2, "nothing is never found"
    assert recall_at_k(["1", "2"], [["1"], ["1", "2"]], 1) == 1 / 2


def test_accuracy_is_letter_for_letter() -> None:
    assert accuracy(" SUPPORTS ", ["REFUTES", "SUPPORTS "])
    assert not accuracy("supports", ["SUPPORTS"]) and exact_match("supports", ["SUPPORTS"])


def test_nothing_said_and_nothing_accepted_are_never_right() -> None:
    for answer, accepted in (("", ["", "the"]), (" ", ["the"]), ("x", []), ("the", [" "])):
        assert not exact_match(answer, accepted) and not accuracy(answer, accepted) and f1(answer, accepted) == 0
    assert exact_match("the", ["A"]) and f1("the", ["A"]) == 0, "KILT's: both are nothing but articles"
    assert r_precision([], [["1"]]) == r_precision(["1"], []) == r_precision(["1"], [[]]) == 0
    assert recall_at_k([], [["1"]], 3) == recall_at_k(["1"], [], 3) == 0


def test_a_question_with_evidence_has_kilts_scores_by_its_pages() -> None:
    question = Question("1", "nq", "Who?", ("The Cat",), (), (), (), (("17",), ("5", "9")))
    found = {"r_precision": 1.0, "recall_at_5": 0.5, "f1": 1.0, "kilt_score": 1.0, "kilt_f1": 1.0}
    assert kilt_scores(question, "cat", ["17:3", "17:0", "8:1"]) == found
    assert kilt_scores(question, "a cat sat", ["8:1", "17:0"]) == {
        "r_precision": 0.0, "recall_at_5": 0.5, "f1": 2 / 3, "kilt_score": 0.0, "kilt_f1": 0.0
    }  # fmt: skip
    strict = kilt_scores(replace(question, task="fever"), "cat", ["17:0"])
    assert strict is not None and (strict["f1"], strict["kilt_score"]) == (1.0, 0.0), "accuracy does not normalise"
    assert kilt_scores(question, "cat", ["test-1"]) is None, "a passage whose page is not known"
    assert kilt_scores(replace(question, evidence=()), "cat", ["17:0"]) is None


def test_evidence_is_read_from_kilts_outputs(tmp_path: Path) -> None:
    outputs = [{"answer": "x", "provenance": [{"wikipedia_id": 17}, {"wikipedia_id": "17"}, {"title": "none"}]},
               {"answer": "y"}, {"provenance": [{"wikipedia_id": "5"}]}, "z"]  # fmt: skip
    (tmp_path / "q.jsonl").write_text(json.dumps({"input": "Who?", "output": outputs}))
    (question,) = read_questions(tmp_path / "q.jsonl")
    assert question.evidence == (("17",), ("5",)) and question.answers == ("x", "y", "z")


@pytest.mark.parametrize("k", [0, -1])
def test_no_recall_at_nothing(k: int) -> None:
    with pytest.raises(InputError, match="k: expected at least 1"):
        recall_at_k(["1"], [["1"]], k)


@given(TEXT, st.lists(TEXT, max_size=3))
def test_any_answer_is_judged_soundly(answer: str, accepted: list[str]) -> None:
    assert normalise(normalise(answer)) == normalise(answer) or "İ" in answer
    assert accuracy(answer, accepted) <= exact_match(answer, accepted)
    score = f1(answer, accepted)
    assert 0 <= score <= 1
    if exact_match(answer, accepted) and normalise(answer):
        assert score == 1
    more = [*accepted, "another"]
    assert f1(answer, more) >= score and exact_match(answer, more) >= exact_match(answer, accepted)
    assert f1(answer, accepted[::-1]) == score
    if answer.strip():
        assert accuracy(answer, [*accepted, f" {answer}\t"])


@given(st.lists(st.sampled_from("123456"), max_size=8), st.lists(PAGES, max_size=4))
def test_any_ranking_is_judged_soundly(found: list[str], evidence: list[list[str]]) -> None:
    recalls = [recall_at_k(found, evidence, k) for k in range(1, 12)]
    assert recalls == sorted(recalls) and recalls[0] >= 0 and recalls[-1] <= 1
    score = r_precision(found, evidence)
    assert 0 <= score <= 1
    assert (score == 1) == any(s and set(list(dict.fromkeys(found))[: len(set(s))]) == set(s) for s in evidence)
    assert r_precision([*found, *found], evidence) == score
    assert recall_at_k([*found, *found], evidence, 5) == recall_at_k(found, evidence, 5)
    assert kilt_f1("x", ["x"], found, evidence) == kilt_accuracy("x", ["x"], found, evidence) == (score == 1)
    assert kilt_exact_match("y", ["x"], found, evidence) == 0
    assert {type(x) for x in (kilt_exact_match("x", ["x"], found, evidence), score)} == {float}


def test_a_task_has_its_measure() -> None:
    """Accuracy for fact verification and slot filling, exact match for questions, and for what is not KILT's."""
    judged = {name: measure_of(name) for name in ("fever", "trex", "zsre", "structured_zeroshot")}
    assert set(judged.values()) == {"accuracy"}
    assert measure_of("trex-like") == measure_of("trex")
    assert {measure_of(name) for name in ("nq", "nq-like", "triviaqa", "hotpotqa", "", "another")} == {"exact match"}
