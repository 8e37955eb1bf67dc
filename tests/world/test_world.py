"""Generated worlds: the same bytes for a seed, no name of dev or test in training, and every question is answerable."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glimmer_ref.cli import main
from glimmer_ref.data.inputs import read_passages, read_questions
from glimmer_ref.errors import InputError
from glimmer_ref.text.tokenizer import Tokenizer
from glimmer_ref.training.dataset import Groups
from glimmer_ref.world import generate as worlds
from glimmer_ref.world.facts import PRONOUNS, SIZES, Fact, Size, World, make_world, sentence
from glimmer_ref.world.names import MASKS, NAMES, SPLITS, UNANSWERABLE, groups
from glimmer_ref.world.questions import HARD_NEGATIVES, TASKS, TRAINING_TASKS, index_facts, questions_of
from glimmer_ref.world.relations.all import FILLER, RELATIONS
from glimmer_ref.world.rng import PortableRng
from glimmer_ref.world.vocabulary import first_words, fixed_words, group_ids, token_ids, tokenizer_json

SMALL = SIZES["small"]
RECORDED_NUMBERS = [881, 289, 871, 125, 176, 317]
RECORDED_SHA256 = "04af791ac58ff14895f724fddba93c12c7cb73810dfadd104ebecf8103271465"
Record = dict[str, Any]


@cache
def small(split: str, seed: int = 0) -> tuple[World, list[Record]]:
    world = make_world(seed, split, 0, SMALL)
    return world, list(questions_of(world, SMALL.questions, TASKS | TRAINING_TASKS if split == "train" else TASKS))


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("words") / "tokenizer.json"
    path.write_text(tokenizer_json(), "utf-8")
    return Tokenizer(path)


def silent(items: Any, *_: Any) -> Any:
    return items


def texts(split: str) -> list[str]:
    world, records = small(split)
    passages = [f"{p.title} : {p.text}" for p in world.passages]
    return passages + [r["input"] for r in records] + [r["output"][0]["answer"] for r in records]


# Random numbers and bytes.


def test_random_numbers_are_the_recorded_ones() -> None:
    rng = PortableRng(0, 1, 2)
    assert [rng.below(1000) for _ in range(6)] == RECORDED_NUMBERS
    assert sorted(rng.shuffled(range(50))) == list(range(50))
    assert len(set(rng.sample(range(50), 20))) == 20 and len(rng.sample(range(3), 20)) == 3
    counts = Counter(rng.below(5) for _ in range(5000))
    assert set(counts) == set(range(5)) and min(counts.values()) > 850
    assert 200 < sum(rng.chance(0.25) for _ in range(1000)) < 300


def test_one_seed_gives_the_same_bytes_everywhere() -> None:
    files = worlds.files_of(0, "dev", 0, SMALL)
    assert list(files) == ["dev/knowledge.jsonl", "dev/passages.jsonl", "dev/questions.jsonl"]
    digest = hashlib.sha256(b"".join(files.values()) + tokenizer_json().encode()).hexdigest()
    assert digest == RECORDED_SHA256
    assert worlds.files_of(0, "dev", 0, SMALL) == files
    others = [worlds.files_of(1, "dev", 0, SMALL), worlds.files_of(0, "train", 0, SMALL)]
    assert all(set(other.values()).isdisjoint(files.values()) for other in others)


# Names.


def test_no_name_of_dev_or_test_occurs_in_training() -> None:
    for kind, names in NAMES.items():
        assert all(names), kind
        assert len(set(names.train + names.dev + names.test)) == sum(map(len, names)), kind
    said = {split: set(re.findall(r"\w+", " ".join(texts(split)))) for split in SPLITS}
    invented = {word for names in NAMES.values() for words in names for word in words}
    for a, b in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert not said[a] & said[b] & invented
        assert not {e.name for e in small(a)[0].entities} & {e.name for e in small(b)[0].entities}
    for place, split in enumerate(SPLITS):
        allowed = {word for names in NAMES.values() for word in names[place]}
        assert said[split] & invented <= allowed and len(said[split] & invented) > 100


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("size", SIZES)
def test_names_are_different(split: str, size: str) -> None:
    world = make_world(3, split, 0, SIZES[size])
    names = [e.name for e in world.entities]
    assert len(set(names)) == len(names) == sum(SIZES[size][:4])
    assert len(world.passages) == SIZES[size].passages == len({p.id for p in world.passages})


# Passages.


def test_every_fact_is_stated_once_and_only_on_its_page() -> None:
    world, _ = small("train")
    assert set(world.passage_of) == set(world.facts) and len(set(world.facts)) == len(world.facts)
    stated = Counter(world.passage_of.values())
    assert set(stated.values()) <= {1, 2, 3} and sum(n > 1 for n in stated.values()) > 0.95 * len(stated)
    for fact, row in world.passage_of.items():
        passage = world.passages[row]
        assert passage.title == fact.subject.name and row in world.pages[passage.title]
        names = {"o": fact.object, "his": PRONOUNS[fact.subject.pronoun]}
        forms = (
            sentence(template.format(s=subject, **names))
            for template in fact.relation.statements
            for subject in (fact.subject.name, fact.subject.pronoun)
        )
        assert any(form in passage.text for form in forms), (fact, passage)
    for row, passage in enumerate(world.passages):
        assert passage.text.count(".") == (stated[row] or 2)


def test_filler_names_its_page_and_states_no_fact() -> None:
    world, _ = small("dev")
    filler = [p for row, p in enumerate(world.passages) if row not in set(world.passage_of.values())]
    assert len(filler) > 50
    for passage in filler:
        assert passage.text.count(passage.title) >= 2
    starts = {re.split(r"\{\w+\}", t)[1].strip() for r in RELATIONS for t in r.statements if t.startswith("{s}")}
    assert not [t for t in FILLER for start in starts if start and start in t]


def test_passages_name_their_subject_by_title_or_pronoun() -> None:
    world, _ = small("dev")
    opened = Counter(s.split()[0] for p in world.passages for s in re.split(r"(?<=\.) ", p.text))
    assert opened["He"] + opened["She"] + opened["It"] + opened["His"] + opened["Her"] + opened["Its"] > 200
    other = {"he": {"she", "her", "it", "its"}, "she": {"he", "his", "it", "its"}, "it": {"he", "his", "she", "her"}}
    pronoun = {e.name: e.pronoun for e in world.entities}
    for passage in world.passages:
        assert not other[pronoun[passage.title]] & set(passage.text.casefold().split()), passage


# Questions.


def test_tasks_are_balanced_and_questions_differ() -> None:
    for split in SPLITS:
        records = small(split)[1]
        tasks = TASKS | TRAINING_TASKS if split == "train" else TASKS
        assert Counter(r["task"] for r in records) == dict.fromkeys(tasks, SMALL.questions)
        assert len({r["id"] for r in records}) == len(records)
        answers: dict[str, set[str]] = {}
        for r in records:
            answers.setdefault(r["input"], set()).add(r["output"][0]["answer"])
        assert all(len(some) == 1 for some in answers.values()), "one question, one answer"


def test_gold_passages_hold_the_answer() -> None:
    for split in SPLITS:
        world, records = small(split)
        by_id = {p.id: p for p in world.passages}
        for r in records:
            gold, answer = [by_id[g] for g in r["gold"]], r["output"][0]["answer"]
            assert len(gold) == (2 if r["task"] == "hotpot-like" else 1)
            if r["task"] in ("tqa-like", "hotpot-like"):
                assert all(p.title == answer for p in gold)
            if r["task"] != "fever-like":
                assert all(answer in f"{p.title} {p.text}" for p in gold)
            if r["task"] == "trex-like":
                assert gold[0].title == answer and r["input"].split(" [SEP] ")[0] in gold[0].text


def test_two_passages_are_needed_where_the_task_says_so() -> None:
    world, _ = small("train")
    index, rng = index_facts(world), PortableRng(1)
    drafts = list(TASKS["hotpot-like"](world, index, rng))
    assert len(drafts) > SMALL.questions

    def fits(fact: Fact) -> set[str]:
        same = (g for g in world.facts if (g.relation.name, g.object) == (fact.relation.name, fact.object))
        return {g.subject.name for g in same}

    for draft in drafts:
        a, b = draft.facts
        assert world.passage_of[a] != world.passage_of[b]
        assert fits(a) & fits(b) == {draft.answer} and min(len(fits(a)), len(fits(b))) > 1
        assert a.object in draft.text and b.object in draft.text
    for draft in TASKS["tqa-like"](world, index, rng):
        a, b = draft.facts
        assert world.passage_of[a] == world.passage_of[b] and fits(a) & fits(b) == {draft.answer}


def test_hints_share_no_word_of_weight_with_any_passage() -> None:
    stated = set(re.findall(r"\w+", " ".join(t for r in RELATIONS for t in r.statements)))
    for relation in RELATIONS:
        content = {w for w in re.findall(r"\w+", re.sub(r"\{\w+\}", "", relation.hint)) if len(w) > 3}
        assert not content & stated - {"with"}, relation.name
        assert bool(relation.hint) == (relation.objects in ("few", "some"))


def test_false_claims_are_contradicted_by_their_passage() -> None:
    world, _ = small("test")
    drafts = list(TASKS["fever-like"](world, index_facts(world), PortableRng(5)))
    true = {i.text for i in drafts if i.answer == "true"}
    false = [i for i in drafts if i.answer == "false"]
    assert len(false) == len(drafts) // 2
    for draft in false:
        (fact,) = draft.facts
        assert draft.text not in true and fact.object not in draft.text.replace(fact.subject.name, "")
        assert fact.object in world.passages[world.passage_of[fact]].text
        assert any(g.object in draft.text for g in world.facts if g.relation == fact.relation)
    chosen = Counter(r["output"][0]["answer"] for r in small("test")[1] if r["task"] == "fever-like")
    assert chosen["true"] == chosen["false"] == SMALL.questions // 2


def test_corrections_are_claims_answered_with_what_the_passage_says() -> None:
    """So that all but the last bit of a claim is learnt like any other question."""
    world, records = small("train")
    corrections = [r for r in records if r["task"] == "correct"]
    objects = {f.object for f in world.facts}
    for r in corrections:
        claim, end, rest = r["input"].partition(" What is true?")
        assert (end, rest) == (" What is true?", "") and claim.endswith(".")
        assert r["output"][0]["answer"] in objects
    wrong = [r for r in corrections if r["output"][0]["answer"] not in r["input"]]
    assert 0.3 * len(corrections) < len(wrong) < 0.7 * len(corrections)
    assert all(r["task"] in TASKS for split in ("dev", "test") for r in small(split)[1])


def test_hard_negatives_state_the_same_relation_of_others() -> None:
    world, records = small("train")
    relations: dict[str, set[str]] = {}
    for fact, row in world.passage_of.items():
        relations.setdefault(world.passages[row].id, set()).add(fact.relation.name)
    for r in records:
        assert 1 <= len(set(r["hard_negatives"])) == len(r["hard_negatives"]) <= HARD_NEGATIVES
        assert not set(r["hard_negatives"]) & set(r["gold"])
        assert all(relations[i] & set(r["meta"]["relations"]) for i in r["hard_negatives"])


def test_retrieval_leaves_a_reranker_room_and_two_passages_within_reach() -> None:
    world = make_world(0, "dev", 0, SIZES["full"])
    found: dict[str, list[tuple[bool, bool]]] = {}
    for r in questions_of(world, 200):
        assert len(set(r["candidates"])) == 25
        hits = tuple(set(r["gold"]) <= set(r["candidates"][:n]) for n in (5, 25))
        found.setdefault(r["task"], []).append(hits)
    share = {task: np.mean(hits, axis=0) for task, hits in found.items()}
    assert min(s[1] for s in share.values()) >= 0.93
    assert 0.6 <= np.mean([s[0] for s in share.values()]) <= 0.75


# Words.


def test_groups_are_apart_and_hold_no_word_with_a_meaning_of_its_own() -> None:
    every = [word for some in groups().values() for word in some]
    assert len(set(every)) == len(every), [w for w, n in Counter(every).items() if n > 1]
    assert not set(every) & set(fixed_words())
    assert not {w[0].upper() + w[1:] for w in first_words()} & set(every)
    ids = sorted(i for some in group_ids().values() for i in some)
    assert len(set(ids)) == len(ids) and max(ids) == len(token_ids()) - 1 - len((*MASKS, UNANSWERABLE))
    assert 1500 <= len(token_ids()) <= 2500
    values = (w for name, some in groups().items() if name not in NAMES and name != "company kind" for w in some)
    assert not [w for w in values if w[0] in "aeiou"], "'a' stands before any of them"


def test_every_text_is_whole_words(words: Tokenizer) -> None:
    for split in SPLITS:
        for text in texts(split):
            assert words.unknown_words(text) == [], text
        for r in small(split)[1]:
            answer = r["output"][0]["answer"]
            assert words.decode(words.encode(answer)) == answer
            assert 1 <= len(words.encode(answer)) <= 4
    assert words.encode("</s>") == [1] and words.encode("<pad>") == [0] and words.unknown_id == 2


def test_first_words_are_read_with_and_without_a_capital(words: Tokenizer) -> None:
    assert words.encode("Who wrote The Silent Orchard?") == words.encode("who wrote The Silent Orchard ?")
    assert words.encode("Her pet") == words.encode("her pet")
    assert words.pieces(words.encode("It opened in 1815.")) == ["it", "opened", "in", "18", "15", "."]
    assert words.decode(words.encode("1815")) == "1815"


def test_words_of_ones_own_are_unknown_and_nothing_worse(words: Tokenizer) -> None:
    text = "Anna Karenina's café (1877) — 3 cats, wrote The Silent Orchard?!"
    assert "Anna" in words.unknown_words(text)
    assert words.encode(text).count(2) >= 4


def contains(whole: list[int], part: list[int]) -> bool:
    return any(whole[i : i + len(part)] == part for i in range(len(whole) - len(part) + 1))


def test_renaming_keeps_answers_in_their_passages_and_reaches_all_names(words: Tokenizer) -> None:
    swapped, rng = Groups(group_ids().values(), words.size), np.random.default_rng(3)
    world, records = small("train")
    by_id = {p.id: p for p in world.passages}
    held_out = {token_ids()[w] for names in NAMES.values() for w in names.dev + names.test}
    reached: set[int] = set()
    for r in records:
        (table,) = swapped.tables(rng, 1)
        assert sorted(table) == list(range(words.size))
        texts = [f"{by_id[g].title} : {by_id[g].text}" for g in r["gold"]]
        question, answer, *gold = (
            table[words.encode(t)].tolist() for t in (r["input"], r["output"][0]["answer"], *texts)
        )
        reached |= set(question)
        if r["task"] != "fever-like":
            assert all(contains(g, answer) for g in gold)
        else:
            assert words.decode(answer) == r["output"][0]["answer"]
    assert len(reached & held_out) > 100, "names of dev and test are learnt as tokens, never as text"
    fixed = [token_ids()[w] for w in fixed_words()]
    assert (table[fixed] == fixed).all()


# Files.


def test_the_folder_reads_back(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    out.parent.mkdir()
    about = worlds.write(out, 5, 2, "small", show=silent)
    assert sorted(p.name for p in out.iterdir()) == sorted(
        ["train-0", "train-1", "dev", "test", "tokenizer.json", "groups.json", "world.json"]
    )
    assert [p.name for p in out.parent.iterdir()] == ["out"], "nothing is left beside it"
    for name, digest in about["sha256"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    assert json.loads((out / "world.json").read_text()) == about
    names = json.loads((out / "groups.json").read_text("utf-8"))
    assert names["groups"] == group_ids()
    read = Tokenizer(out / "tokenizer.json")
    assert all(read.pieces(ids) == names["words"][name] for name, ids in names["groups"].items())
    passages = {p.id: p for p in read_passages(out / "dev" / "passages.jsonl")}
    questions = list(read_questions(out / "dev" / "questions.jsonl"))
    assert len(passages) == SMALL.passages and len(questions) == 6 * SMALL.held_out
    assert all({*q.gold, *q.candidates} <= set(passages) and len(q.candidates) == 25 for q in questions)
    assert len(list(read_questions(out / "train-1" / "questions.jsonl"))) == 7 * SMALL.questions


def test_kilts_provenance_points_at_the_gold_passages(tmp_path: Path) -> None:
    files = worlds.files_of(2, "test", 0, SMALL)
    knowledge, passages, questions = ([json.loads(x) for x in f.decode().splitlines()] for f in files.values())
    pages = {p["wikipedia_id"]: p for p in knowledge}
    by_id = {p["id"]: p for p in passages}
    assert len(pages) == len(knowledge) and all(p["_id"] == p["wikipedia_id"] for p in knowledge)
    assert sum(len(p["text"]) - 1 for p in knowledge) == len(passages)
    for q in questions:
        provenance = q["output"][0]["provenance"]
        assert len(provenance) == len(q["gold"])
        for place, gold in zip(provenance, q["gold"], strict=True):
            page = pages[place["wikipedia_id"]]
            assert page["wikipedia_title"] == place["title"] == by_id[gold]["title"] == page["text"][0].strip()
            assert place["start_paragraph_id"] == place["end_paragraph_id"]
            assert page["text"][place["start_paragraph_id"]] == by_id[gold]["text"]


def test_only_what_we_wrote_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    first = worlds.write(out, 0, 1, "small", show=silent)
    second = worlds.write(out, 1, 2, "small", show=silent)
    assert first["sha256"]["dev/questions.jsonl"] != second["sha256"]["dev/questions.jsonl"]
    assert (out / "train-1").is_dir()
    (out / "dev" / "mine.txt").write_text("x")
    with pytest.raises(InputError, match=r"dev/mine\.txt in it"):
        worlds.write(out, 0, 1, "small", show=silent)
    (out / "dev" / "mine.txt").unlink()
    with open(out / "dev" / "passages.jsonl", "a") as file:
        file.write("\n")
    with pytest.raises(InputError, match=r"passages\.jsonl: expected the file as it was written"):
        worlds.write(out, 0, 1, "small", show=silent)
    assert (out / "train-1").is_dir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="a folder"):
        worlds.write(tmp_path / "file", show=silent)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "world.json").write_text("{}")
    with pytest.raises(InputError, match=r"world\.json in it"):
        worlds.write(tmp_path / "other", show=silent)


def test_a_large_folder_is_refused_at_its_first_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "first").write_text("mine")
    (tmp_path / "later").mkdir()
    seen, walk = [], os.walk
    monkeypatch.setattr(os, "walk", lambda *a, **k: (seen.append(x) or x for x in walk(*a, **k)))
    with pytest.raises(InputError, match="first in it; nothing was changed"):
        worlds.write(tmp_path, size="small")
    assert len(seen) == 1
    with pytest.raises(InputError, match="first/worlds: expected a place that can be written; got "):
        worlds.write(tmp_path / "first" / "worlds", size="small")


def test_a_run_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> str:
        if path.name == "questions.jsonl":
            raise OSError(28, "No space left on device", str(path))
        return put(path, content)

    put = worlds._put
    monkeypatch.setattr(worlds, "_put", full)
    assert main(["world", str(tmp_path / "out"), "--size", "small"]) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seed", "-1"], "seed: expected a whole number from 0"),
        (["--seed", str(2**63)], "seed"),
        (["--train-worlds", "0"], "train worlds: expected 1 to 1000"),
    ],
)
def test_bad_arguments_are_one_line(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["world", str(tmp_path / "out"), *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and said in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("split", "change", "said"),
    [
        ("dew", {}, "split: expected one of train, dev, test"),
        ("dev", {"passages": 50}, "passages: expected at least"),
        ("dev", {"town": 81}, "town: expected 8 to 80"),
        ("dev", {"book": 7}, "book: expected 8 to 200"),
        ("dev", {"person": 10}, "a mayor"),
    ],
)
def test_worlds_that_cannot_be_are_refused(split: str, change: dict[str, int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make_world(0, split, 0, SMALL._replace(**change))


def test_the_smallest_and_the_largest_world_can_be_made() -> None:
    least = Size(8, 8, 8, 8, 400, 3, 3)
    assert len(list(questions_of(make_world(0, "dev", 0, least), 3))) > 12
    most = make_world(0, "test", 0, Size(1000, 80, 180, 200, 8000, 1, 1))
    assert len({e.name for e in most.entities}) == 1460


def test_the_command_prints_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["world", str(tmp_path / "out"), "--size", "small", "--train-worlds", "1"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("train-0", "dev", "test", "recall@25", *TASKS))
    assert max(map(len, out.splitlines()[2:])) <= 80
    assert main([*words, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["seed"] == 0 and data["worlds"]["dev"]["passages"] == SMALL.passages
    assert 15 < data["worlds"]["test"]["passage_tokens"] < 25
    assert data["worlds"]["test"]["tasks"]["zsre-like"]["recall_at_25"] > 0.9
    assert data["vocabulary"] == len(token_ids())
