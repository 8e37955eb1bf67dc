"""The tasks of worlds for pre-training: masked text whose answer the gold passage has."""

from __future__ import annotations

import json
import re

import pytest

from glimmer_ref.world.facts import SIZES, make_world
from glimmer_ref.world.generate import files_of
from glimmer_ref.world.names import MASKS, NAMES, PRETRAIN
from glimmer_ref.world.pretraining import PRETRAINING_TASKS
from glimmer_ref.world.questions import questions_of

WORLD = make_world(0, PRETRAIN, 0, SIZES["small"])
RECORDS = list(questions_of(WORLD, 60, PRETRAINING_TASKS))
TEXTS = {p.id: f"{p.title} : {p.text}" for p in WORLD.passages}


def words(text: str) -> list[str]:
    return re.findall(r"<\w+>|\w+|[^\w\s]", text)


def of(task: str) -> list[tuple[str, str, list[str]]]:
    return [(r["input"], r["output"][0]["answer"], r["gold"]) for r in RECORDS if r["task"] == task]


def test_spans_put_back_give_the_passage() -> None:
    assert len(of("spans")) == 60
    for question, answer, gold in of("spans"):
        found = dict(zip(*[iter(re.split("(<extra_id_.>)", answer)[1:])] * 2, strict=True))
        assert list(found) == [w for w in dict.fromkeys(words(question)) if w in MASKS], "masks in order"
        restored = question
        for mask, span in found.items():
            assert span.strip() and f" {span.strip()} " not in f" {question} ", "nothing to copy from the question"
            restored = restored.replace(mask, span.strip())
        assert words(restored) == words(TEXTS[gold[0]])


@pytest.mark.parametrize("task", ["cloze", "denoise"])
def test_the_gold_passage_has_what_is_missing(task: str) -> None:
    assert len(of(task)) == 60
    for question, answer, gold in of(task):
        assert MASKS[0] in question
        assert answer in TEXTS[gold[0]]
        assert answer not in question


def test_names_are_those_of_training_and_facts_are_not() -> None:
    train = make_world(0, "train", 0, SIZES["small"])
    assert {e.name.split()[0] for e in WORLD.entities if e.kind == "person"} <= set(NAMES["given name"].train)
    assert not {p.text for p in WORLD.passages if "was born" in p.text} & {p.text for p in train.passages}


def test_a_world_for_pretraining_is_the_same_every_time() -> None:
    first, second = (files_of(0, PRETRAIN, 0, SIZES["small"]) for _ in range(2))
    assert first == second
    tasks = {json.loads(line)["task"] for line in first["pretrain-0/questions.jsonl"].splitlines()}
    assert tasks == set(PRETRAINING_TASKS)
