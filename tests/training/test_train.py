"""Training: recipes, batches, the step, and that nothing is lost whatever happens."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import learning
import numpy as np
import pytest
from models import config as settings
from paths import FIXTURES
from published import hugging_face, write_t5

from glimmer_ref.cli import main
from glimmer_ref.config import T5Config
from glimmer_ref.errors import InputError
from glimmer_ref.inference.reader import Reader
from glimmer_ref.ops import bind
from glimmer_ref.params import checkpoint as files
from glimmer_ref.params.model import leaves, random
from glimmer_ref.text.tokenizer import Tokenizer
from glimmer_ref.training import checkpoint, loop
from glimmer_ref.training import log as report
from glimmer_ref.training.batches import Batch, sample_batch, task_shares
from glimmer_ref.training.dataset import Corpus, CorpusQuestion, Groups, folders, read_corpus
from glimmer_ref.training.dev_eval import evaluate_dev, read_dev
from glimmer_ref.training.init import first_model
from glimmer_ref.training.recipe import Stage
from glimmer_ref.training.recipe_file import RECIPES, read_recipe
from glimmer_ref.training.step import StepContext, force_gold, frozen_names

NUMPY = bind("numpy")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("world")
    (place / "recipe.toml").write_text(learning.write_world(place), "utf-8")
    return place


@pytest.fixture
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take longer than the steps of these runs."""
    monkeypatch.setattr(loop, "plot_curves", lambda out: None)


@pytest.fixture
def recipe(root: Path) -> Path:
    return root / "recipe.toml"


def run(recipe: Path, out: Path, *changes: str, resume: bool = False) -> checkpoint.State:
    said: list[str] = []
    return loop.train(read_recipe(recipe, changes), out, "numpy", resume=resume, say=said.append)


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a checkpoint but the seconds in its position."""
    found = {p.name: p.read_bytes() for p in folder.iterdir()}
    position = json.loads(found.pop("position.json"))
    del position["seconds"]
    return {**found, "position": json.dumps(position).encode()}


def log(out: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (out / "log.jsonl").read_text("utf-8").splitlines()]
    return [{name: x for name, x in record.items() if name != "seconds"} for record in records]


# Recipes


KS = {"lumen": 10, "fid": 5, "mini": 12, "t5_mini": 10, "t5_mini_reader": 10, "quick": 8}


@pytest.mark.parametrize("name", sorted(p.stem for p in RECIPES.glob("*.toml")))
def test_every_bundled_recipe_is_whole(name: str) -> None:
    recipe = read_recipe(name)
    assert recipe.steps > 0
    assert recipe.stages[-1].rate_at(0) > 0
    assert recipe.stages[-1].k == KS.get(name, 25)
    assert recipe.top.system == {"lumen": "lumen", "fid": "fid", "t5_mini": "fid", "t5_mini_reader": "fid"}.get(
        name, "glimmer"
    )


def test_the_papers_recipe_is_section_4_1() -> None:
    recipe = read_recipe("paper")
    stage = recipe.stages[0]
    assert (stage.batch, stage.rate, stage.dropout, stage.k, stage.m) == (128, 1e-4, 0.1, 25, 5)
    assert (stage.lambda_, stage.tau, stage.direction) == (1.0, 1.0, "printed")
    assert (recipe.model.alpha, recipe.model.beta) == ("1/3", "1/4")


BROKEN = [
    ("seed = 3", "seed = 3\nsed = 4", "sed; did you mean seed?"),
    ("seed = 3", "seed = -3", "seed: expected a whole number from 0; got -3"),
    ("seed = 3", 'seed = 3\nsystem = "glimer"', "system: expected one of glimmer, lumen, fid; got 'glimer'"),
    ("seed = 3", "seed = ", "recipe.toml: expected TOML; got Invalid value"),
    ("rate = 1e-2", "rte = 1e-2", "stages.0: expected only the keys"),
    ("rate = 1e-2", "rate = 0", "stages.0.rate: expected a number above 0; got 0"),
    ("rate = 1e-2", 'rate = "fast"', "stages.0.rate: expected a number above 0; got 'fast'"),
    ("rate = 1e-2", "rate = nan", "stages.0.rate: expected a number above 0; got nan"),
    ("rate = 1e-2", "", 'stages.0: expected a key "rate", a number above 0; got none'),
    ("steps = 4", "steps = true", "stages.1.steps: expected a whole number from 1; got True"),
    ("steps = 4", "steps = 4.0", "stages.1.steps: expected a whole number from 1; got 4.0"),
    ("dropout = 0.1", "dropout = 1.0", "stages.1.dropout: expected a number from 0 below 1; got 1.0"),
    ("dropout = 0.1", "dropuot = 0.1", "did you mean dropout?"),
    ("k = 5\nm = 2", "k = 5\nm = 6", "stages.1.m: expected a number of at most k; got k=5, m=6"),
    (
        "hard = 0.5",
        "hrd = 0.5",
        "stages.1.negatives: expected only the keys candidates, hard, random; got hrd; did you mean hard?",
    ),
    ("hard = 0.5", "hard = -0.5", "stages.1.negatives: expected a table of numbers from 0"),
    ("dropout = 0.1", 'frozen = ["memry"]', "stages.1.frozen: expected names of weights"),
    ("dropout = 0.1", "frozen = ['*']", "stages.1.frozen: expected weights that are left to learn; got none"),
    ("dropout = 0.1", 'frozen = "memory"', "stages.1.frozen: expected a list of strings"),
    ("dropout = 0.1", "tasks = { jobs = 2 }", "stages.1.tasks: expected tasks among job, town; got jobs"),
    ("dropout = 0.1", "tasks = { '*' = 0 }", "stages.1.tasks: expected a task with a weight above 0"),
    ("dropout = 0.1", "accumulate = 5", "stages.1.accumulate: expected at most batch=4; got 5"),
    ("k = 5", "k = 25", "stages.1.k: expected at most 24, the passages of the smallest folder; got 25"),
    ('groups = "groups.json"', "", "stages.0.rename: expected false, or a file data.groups; got true without it"),
    ('tokenizer = "tokenizer.json"', "", "data.tokenizer: expected a file"),
    ("d_model = 16", "d_modle = 16", "model.t5: expected only the keys"),
    ("d_model = 16", "d_model = 0", "config: d_model: expected a whole number of at least 1; got 0"),
    ('alpha = "2/3"', 'alpha = "1/2"', "alpha: expected a share of 3 layers"),
    (
        'alpha = "2/3"',
        'score = "keep"\nalpha = "2/3"',
        'model.score: expected "auto" or "draw", since there is no init',
    ),
    ('alpha = "2/3"', 'score = "kep"\nalpha = "2/3"', "model.score: expected one of auto, keep, draw; got 'kep'"),
    ("score_norm = true", "score_nrm = true", "did you mean score_norm?"),
    ("score_norm = true", 'trained_as = "fid"', "model.glimmer: expected only the keys"),
    ("[evaluation]", "[evaluation]\nk = 1.5", "evaluation.k: expected a whole number from 0; got 1.5"),
    ("[evaluation]", "[[evaluation]]", "evaluation: expected a table; got ["),
    ("[data]", "[data]\ntrain = ['trian-*']", "trian-*: expected a folder with passages.jsonl and questions; got none"),
]


@pytest.mark.parametrize(("old", "new", "said"), BROKEN, ids=[new or f"no {old}" for old, new, _ in BROKEN])
def test_a_broken_recipe_is_refused(recipe: Path, tmp_path: Path, old: str, new: str, said: str) -> None:
    text = recipe.read_text("utf-8")
    assert old in text
    broken = tmp_path / "recipe.toml"
    broken.write_text(text.replace(old, new), "utf-8")
    with pytest.raises(InputError) as error:
        run(broken, tmp_path / "out")
    assert said in str(error.value)
    assert not (tmp_path / "out" / "last").exists()


def test_values_are_set_over_the_files(recipe: Path) -> None:
    got = read_recipe(recipe, ["seed=9", "stages.1.rate=0.5", 'stages.0.name="new"', "every_stage.tau = 2.0"])
    assert (got.top.seed, got.stages[1].rate, got.stages[0].name, got.stages[0].tau) == (9, 0.5, "new", 2.0)
    assert read_recipe(recipe, ["stages.0.name=bare words"]).stages[0].name == "bare words"
    for change, said in [
        ("seed", "KEY=VALUE"),
        ("stages.7.rate=1", "a stage from 0 to 1"),
        ("seed.x=1", "keys of tables"),
        ("nosuch=1", "only the keys"),
    ]:
        with pytest.raises(InputError, match=said):
            read_recipe(recipe, [change])


def test_a_recipe_may_extend_another(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "more.toml").write_text(f'extends = "{recipe.as_posix()}"\n[every_stage]\ntau = 5.0\n', "utf-8")
    got = read_recipe(tmp_path / "more.toml")
    assert [s.tau for s in got.stages] == [5.0, 5.0]
    assert got.stages[1].negatives == read_recipe(recipe).stages[1].negatives
    assert read_recipe("table3_tau_5", ["extends=mini"]).stages[2].tau == 5.0
    for name in ("x" * 300, "x/" + "y" * 300, "a\0b"):  # no file can have it
        (tmp_path / "long.toml").write_text(f"extends = {json.dumps(name)}", "utf-8")
        with pytest.raises(InputError, match="no such file"):
            read_recipe(tmp_path / "long.toml")
    (tmp_path / "circle.toml").write_text('extends = "circle.toml"', "utf-8")
    with pytest.raises(InputError, match="no circle"):
        read_recipe(tmp_path / "circle.toml")


def test_rates_warm_up_and_decay() -> None:
    stage = Stage(steps=10, batch=1, k=1, m=1, rate=1.0, warmup=4, decay=5)
    np.testing.assert_allclose(
        [stage.rate_at(i) for i in range(10)], [0.25, 0.5, 0.75, 1, 1, 1, 0.8, 0.6, 0.4, 0.2], rtol=1e-15
    )


# Batches


@pytest.fixture(scope="module")
def corpus(root: Path) -> Corpus:
    tokenizer = Tokenizer(root / "tokenizer.json")
    model = first_model(read_recipe(root / "recipe.toml").model, 0, tokenizer.size)
    return read_corpus(model.config, tokenizer, folders(root, ["train-*"]))


@pytest.fixture(scope="module")
def groups(root: Path) -> Groups:
    return Groups.read(root / "groups.json", Tokenizer(root / "tokenizer.json").size)


def stage(**changes: Any) -> Stage:
    return Stage(**{"steps": 1, "batch": 400, "k": 6, "m": 2, "rate": 1e-2, **changes})


def drawn(corpus: Corpus, how: Stage, groups: Groups | None = None, seed: int = 0) -> Batch:
    return sample_batch(corpus, how, task_shares(corpus, how.tasks, "tasks"), groups, np.random.default_rng(seed))


def rows(batch: Batch) -> list[list[bytes]]:
    """The passages of each example."""
    ends = np.cumsum(batch.counts)
    return [[batch.passages[j].tobytes() for j in range(e - n, e)] for n, e in zip(batch.counts, ends, strict=True)]


def changed(root: Path, folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    """The first training folder again, its questions changed."""
    folder.mkdir(parents=True)
    source = folders(root, ["train-*"])[0]
    (folder / "passages.jsonl").write_bytes((source / "passages.jsonl").read_bytes())
    lines = [change(json.loads(line)) for line in (source / "questions.jsonl").read_text("utf-8").splitlines()]
    (folder / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return folder


def test_blank_answers_are_not_learnt(root: Path, corpus: Corpus, tmp_path: Path) -> None:
    tokenizer = Tokenizer(root / "tokenizer.json")
    config = first_model(read_recipe(root / "recipe.toml").model, 0, tokenizer.size).config

    def answers(items: Iterable[CorpusQuestion]) -> list[list[list[int]]]:
        return [[answer.tolist() for answer in item.answers] for item in items]

    beside = changed(root, tmp_path / "a", lambda q: {**q, "output": ["", *q["output"], {"answer": " "}]})
    learnt = read_corpus(config, tokenizer, [beside])
    for task, items in learnt.tasks.items():
        assert answers(items) == answers(corpus.tasks[task][: len(items)])
    only = changed(root, tmp_path / "b", lambda q: {**q, "output": [{"answer": ""}]})
    with pytest.raises(InputError, match='an answer in "output"; got none'):
        read_corpus(config, tokenizer, [only])


def test_questions_whose_answers_are_withheld_do_not_count(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither with their candidates nor with their gold passages alone; everything said is right here."""
    for module in ("training.dev_eval", "evaluation.evaluate"):
        monkeypatch.setattr(f"glimmer_ref.{module}.exact_match", lambda said, accepted: bool(accepted))
    recipe = read_recipe(root / "recipe.toml", ['data.dev="dev"'])
    tokenizer = Tokenizer(root / "tokenizer.json")
    reader = Reader(first_model(recipe.model, 0, tokenizer.size), tokenizer, "numpy")
    half = {q.id for q in read_dev(root, recipe).questions[::2]}
    folder = changed(root, tmp_path / "dev", lambda q: {**q, "output": [""]} if q["id"] in half else q)
    result = evaluate_dev(reader, read_dev(folder.parent, recipe), recipe)
    assert result["exact_match"] == result["exact_match_of_gold"] == 100


def test_dev_questions_are_checked_before_the_work(root: Path, tmp_path: Path) -> None:
    recipe = read_recipe(root / "recipe.toml", ['data.dev="dev"', "evaluation.m=3"])
    for name in ("gold", "candidates"):
        other = changed(root, tmp_path / name / "dev", lambda q, name=name: {**q, name: ["nobody"]})
        with pytest.raises(InputError, match="ids of passages in its folder; got 'nobody'"):
            read_dev(other.parent, recipe)
    few = changed(root, tmp_path / "few" / "dev", lambda q: {**q, "candidates": q["candidates"][:2]})
    with pytest.raises(
        InputError, match=r"evaluation\.m: expected at most the candidates of each question .*; got 2 of question"
    ):
        read_dev(few.parent, recipe)


def test_dev_questions_may_be_of_some_tasks_only(root: Path) -> None:
    every = read_dev(root, read_recipe(root / "recipe.toml", ['data.dev="dev"', "evaluation.questions=0"])).questions
    task = every[-1].task
    changes = ['data.dev="dev"', "evaluation.questions=0", f'evaluation.tasks=["{task}"]']
    some = read_dev(root, read_recipe(root / "recipe.toml", changes)).questions
    assert 0 < len(some) < len(every) and some == [q for q in every if q.task == task]
    changes[-1] = 'evaluation.tasks=["chess"]'
    with pytest.raises(InputError, match=rf"evaluation\.tasks: expected tasks of .*{task}.*; got 'chess'"):
        read_dev(root, read_recipe(root / "recipe.toml", changes))


def test_gold_is_there_once_and_anywhere(corpus: Corpus) -> None:
    batch = drawn(corpus, stage())
    assert [len(g) for g in batch.gold] == [1] * 400
    assert all(len(set(some)) == 6 for some in rows(batch))
    places = np.bincount([g[0] for g in batch.gold], minlength=6)
    assert places.min() > 40  # 67 expected; 5 standard deviations are 37


def test_gold_is_there_as_often_as_stated(corpus: Corpus) -> None:
    random_only = {"random": 1.0}
    there = [bool(g) for g in drawn(corpus, stage(gold=0.3, negatives=random_only)).gold]
    expected = 0.3 + 0.7 * 6 / 24  # or by chance, among 6 of the 24 passages of its folder
    assert abs(np.mean(there) - expected) < 0.12


def test_negatives_are_mixed_as_stated(corpus: Corpus) -> None:
    items = [item for some in corpus.tasks.values() for item in some]
    by_question = {item.ids.tobytes() + bytes(item.folder): item for item in items}
    assert len(by_question) == len(items)
    hard = {corpus.passages[r].tobytes(): item for item in items for r in item.hard}
    assert hard
    for shares, kind in (({"hard": 1.0}, "hard"), ({"candidates": 1.0}, "candidates")):
        batch = drawn(corpus, stage(k=4, negatives=shares))
        for i, some in enumerate(rows(batch)):
            question = batch.question[i].tobytes()
            pools = [
                {corpus.passages[r].tobytes() for r in getattr(item, kind)}
                for item in items
                if item.ids.tobytes() == question
            ]
            others = {p for j, p in enumerate(some) if j not in batch.gold[i]}
            assert any(others <= pool for pool in pools)


def test_tasks_are_drawn_as_stated(corpus: Corpus) -> None:
    np.testing.assert_allclose(task_shares(corpus, {}, ""), [0.5, 0.5])
    np.testing.assert_allclose(task_shares(corpus, {"town": 3.0}, ""), [0.25, 0.75])
    np.testing.assert_allclose(task_shares(corpus, {"*": 0.0, "job": 1.0}, ""), [1, 0])
    towns = {item.ids.tobytes() for item in corpus.tasks["town"]}
    batch = drawn(corpus, stage(tasks={"town": 3.0}))
    share = np.mean([batch.question[i].tobytes() in towns for i in range(400)])
    assert abs(share - 0.75) < 0.11  # five standard deviations


def test_the_same_state_draws_the_same(corpus: Corpus, groups: Groups) -> None:
    how = stage(batch=8, rename=True)
    a, b, c = (drawn(corpus, how, groups, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a.passages.ids, b.passages.ids)
    assert not np.array_equal(a.question.ids, c.question.ids)


def test_renaming_keeps_the_answer_in_the_gold_passage(corpus: Corpus, groups: Groups) -> None:
    plain, renamed = (drawn(corpus, stage(rename=yes), groups, 5) for yes in (False, True))
    changed = 0
    for i, (before, after) in enumerate(zip(rows(plain), rows(renamed), strict=True)):
        gold = np.frombuffer(after[renamed.gold[i][0]], np.int32)
        assert set(renamed.target[i][:-1]) <= set(gold)
        assert renamed.target[i][-1] == 1
        changed += before != after
    assert changed == 400


def test_renaming_is_a_bijection_inside_groups(groups: Groups) -> None:
    tables = groups.tables(np.random.default_rng(0), 50)
    fixed = np.setdiff1d(np.arange(groups.size), groups.tokens)
    for table in tables:
        np.testing.assert_array_equal(table[fixed], fixed)
        for g in np.unique(groups.group):
            some = groups.tokens[groups.group == g]
            assert sorted(table[some]) == sorted(some)
    assert len({table.tobytes() for table in tables}) == 50
    firsts = np.bincount(tables[:, groups.tokens[0]], minlength=groups.size)
    assert np.count_nonzero(firsts) > 8  # one of twelve names, each time another


def test_groups_that_overlap_are_refused() -> None:
    with pytest.raises(InputError, match="each token in one group; got 1 in several"):
        Groups([[1, 2], [2, 3]], 9)
    with pytest.raises(InputError, match="token ids below 3; got 3"):
        Groups([[1, 3]], 3)


def test_more_gold_than_k_is_all_taken(corpus: Corpus) -> None:
    item = corpus.tasks["job"][0]
    two = Corpus(corpus.passages, {"job": [type(item)(**{**item.__dict__, "gold": (0, 3)})]}, corpus.no_answer)
    batch = drawn(two, stage(batch=3, k=1, m=1, force_gold=1.0))
    assert batch.counts.tolist() == [2, 2, 2]
    chosen = force_gold(batch)(np.arange(6.0), [np.array([1])] * 3)
    assert [c.tolist() for c in chosen] == [[1, 0]] * 3


def test_forced_gold_takes_the_last_places(corpus: Corpus) -> None:
    batch = drawn(corpus, stage(batch=2, k=4, m=2, force_gold=1.0))
    batch = Batch(**{**batch.__dict__, "gold": [[3], [0]], "forced": [True, False]})
    scores = np.array([9.0, 8.0, 7.0, 1.0, 1.0, 5.0, 4.0, 3.0])
    chosen = force_gold(batch)(scores, [np.array([0, 1]), np.array([1, 2])])
    assert [c.tolist() for c in chosen] == [[0, 3], [1, 2]]


# The step


def step_result(root: Path, corpus: Corpus, how: Stage, system: str = "glimmer") -> Any:
    recipe = read_recipe(root / "recipe.toml")
    model = first_model(recipe.model, 0, Tokenizer(root / "tokenizer.json").size)
    frozen = frozenset(frozen_names(leaves(model), how.frozen, "stage"))
    context = StepContext(NUMPY, model.config, system, how, frozen)
    weights = {name: x.astype(np.float64) for name, x in leaves(model).items()}
    return context.loss_and_gradients(weights, drawn(corpus, how), np.random.default_rng(0))


@pytest.mark.parametrize("system", ["glimmer", "lumen", "fid"])
def test_accumulation_equals_the_big_batch(root: Path, corpus: Corpus, system: str) -> None:
    whole, split = (step_result(root, corpus, stage(batch=7, accumulate=n, force_gold=0.5), system) for n in (1, 3))
    assert whole.losses == pytest.approx(split.losses, rel=1e-12)
    assert whole.recall == pytest.approx(split.recall)
    for name, x in whole.gradients.items():
        np.testing.assert_allclose(split.gradients[name], x, rtol=1e-9, atol=1e-13, err_msg=name)


def test_frozen_memory_is_data_and_gives_the_others_the_same_gradients(root: Path, corpus: Corpus) -> None:
    free, frozen = (step_result(root, corpus, stage(batch=3, frozen=f)) for f in ((), ("memory", "embedding")))
    gone = free.gradients.keys() - frozen.gradients.keys()
    assert gone == {n for n in free.gradients if n == "embedding" or n.startswith("memory.")}
    assert free.losses == frozen.losses
    for name, x in frozen.gradients.items():
        np.testing.assert_allclose(x, free.gradients[name], rtol=1e-9, atol=1e-13, err_msg=name)


@pytest.mark.usefixtures("no_curves")
def test_frozen_weights_stay_bit_for_bit(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path / "out", 'every_stage.frozen=["memory", "decoder.layer_0.*.q"]')
    first = leaves(first_model(read_recipe(recipe).model, 3, Tokenizer(recipe.parent / "tokenizer.json").size))
    last = leaves(files.load(tmp_path / "out" / "last"))
    for name, x in last.items():
        is_frozen = name.startswith("memory.") or (name.startswith("decoder.layer_0.") and name.endswith(".q"))
        assert np.array_equal(x, first[name]) == is_frozen, name


@pytest.mark.usefixtures("no_curves")
def test_five_examples_are_learnt_by_heart(recipe: Path, root: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    shutil.copytree(root / "train-0", few)
    questions = (few / "questions.jsonl").read_text("utf-8").splitlines()
    (few / "questions.jsonl").write_text("\n".join(questions[:5]), "utf-8")
    shutil.copy(root / "tokenizer.json", tmp_path)
    state = run(
        recipe, tmp_path / "out", f'data.root="{tmp_path.as_posix()}"', "every_stage.rename=false", 'data.groups=""',
        'data.train=["few"]', 'data.dev="few"', "stages.1.steps=120", "stages.1.batch=5", "stages.1.dropout=0.0",
        "evaluation.every=1000", "evaluation.save=1000",
    )  # fmt: skip
    losses = [r["lm"] for r in log(tmp_path / "out") if "lm" in r]
    assert losses[0] > 2
    assert np.mean(losses[-10:]) < 0.1
    assert state.best is not None
    assert state.best["exact_match_of_gold"] == 100
    assert state.best["exact_match"] >= 60


# Nothing is lost


def test_what_a_run_leaves(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    world = ["--set", "data.root=nowhere", "--data", str(recipe.parent)]
    assert main(["train", str(recipe), "--out", str(out), "--ops", "numpy", *world]) == 0
    said = capsys.readouterr().out
    assert "step 2  exact match" in said
    assert "step 6  exact match" in said
    assert (out / "curves.png").stat().st_size > 1000
    records = log(out)
    assert [r["step"] for r in records if "loss" in r] == [1, 2, 3, 4, 5, 6]
    assert [r["step"] for r in records if "exact_match" in r] == [2, 4, 6]
    assert {p.name for p in out.iterdir()} == {"last", "best", "curves.png", "log.jsonl"}
    passages = str(recipe.parent / "dev" / "passages.jsonl")
    question = ["what does Ada3 work ?", "--passages", passages, "--ops", "numpy"]
    for folder in ("last", "best"):
        assert main(["ask", *question, "--weights", str(out / folder)]) == 0
        assert "trained as" not in capsys.readouterr().err
        assert main(["ask", *question, "--weights", str(out / folder), "--system", "fid"]) == 0
        assert "trained as glimmer" in capsys.readouterr().err
    code = main(["train", str(recipe), "--out", str(out), "--ops", "numpy"])
    assert (code, "--resume" in capsys.readouterr().err) == (2, True)


@pytest.mark.usefixtures("no_curves")
@pytest.mark.parametrize("at", [1, 2, 4, 5])
def test_stopped_by_hand_it_goes_on_to_the_same_bits(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], at: int
) -> None:
    run(recipe, tmp_path / "straight")
    words = ["train", str(recipe), "--out", str(tmp_path / "stopped"), "--ops", "numpy", "--set", "evaluation.save=99"]
    step = loop.Run.step
    calls = []

    def interrupted(self: loop.Run, *args: Any) -> Any:
        calls.append(1)
        if len(calls) > at:
            raise KeyboardInterrupt
        return step(self, *args)

    monkeypatch.setattr(loop.Run, "step", interrupted)
    assert main(words) == 130
    assert "--resume" in capsys.readouterr().err
    assert json.loads((tmp_path / "stopped/last/position.json").read_text())["step"] == at
    monkeypatch.setattr(loop.Run, "step", step)
    assert main([*words, "--resume"]) == 0
    for folder in ("last", "best"):
        assert content(tmp_path / "stopped" / folder) == content(tmp_path / "straight" / folder)
    assert log(tmp_path / "stopped") == log(tmp_path / "straight")


@pytest.mark.usefixtures("no_curves")
def test_stopped_between_a_step_and_its_evaluation(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(recipe, tmp_path / "straight")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop.Run, "evaluate", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        run(recipe, tmp_path / "stopped")
    run(recipe, tmp_path / "stopped", resume=True)
    assert content(tmp_path / "stopped/last") == content(tmp_path / "straight/last")
    assert log(tmp_path / "stopped") == log(tmp_path / "straight")


@pytest.mark.slow
@pytest.mark.usefixtures("no_curves")
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that nothing can catch")
def test_killed_it_goes_on_to_the_same_bits(recipe: Path, tmp_path: Path) -> None:
    many = ["stages.1.steps=60", "evaluation.every=1000", "evaluation.save=3"]
    run(recipe, tmp_path / "straight", *many)
    words = [sys.executable, "-m", "glimmer_ref", "train", str(recipe), "--out", str(tmp_path / "killed")]
    changes = [word for change in many for word in ("--set", change)]
    process = subprocess.Popen([*words, *changes, "--ops", "numpy"], stdout=subprocess.DEVNULL, env=os.environ)
    record, until = tmp_path / "killed" / "log.jsonl", time.monotonic() + 60
    while (not record.exists() or len(record.read_bytes()) < 2000) and time.monotonic() < until:
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    run(recipe, tmp_path / "killed", *many, resume=True)
    assert content(tmp_path / "killed/last") == content(tmp_path / "straight/last")
    assert log(tmp_path / "killed") == log(tmp_path / "straight")


@pytest.mark.usefixtures("no_curves")
def test_two_runs_at_once_are_refused(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both used to end well, and to mix their logs."""
    out, step, refused = tmp_path / "out", loop.Run.step, list[str]()

    def and_another(self: loop.Run, *args: Any) -> Any:
        monkeypatch.setattr(loop.Run, "step", step)
        for resume in (True, False):
            with pytest.raises(InputError) as error:
                run(recipe, out, resume=resume)
            refused.append(str(error.value))
        return step(self, *args)

    monkeypatch.setattr(loop.Run, "step", and_another)
    assert run(recipe, out).step == 6
    assert "one writer at a time; got a second one" in refused[0] and "one with files" in refused[1]
    assert not list(out.glob(".*"))
    (out / ".log.jsonl.0.new").touch()
    (out / ".best.new").mkdir()
    run(recipe, out, resume=True)
    assert not list(out.glob(".*")), "what a kill left is swept"


@pytest.mark.parametrize("line", ["{}", "[" * 9999, '{"step": 1, "lm": []}', '{"step": 1, "exact_match": 2}', "\u00ff"])
def test_a_log_of_other_lines_is_refused(recipe: Path, tmp_path: Path, line: str) -> None:
    (tmp_path / "log.jsonl").write_text(line + "\n", "latin-1")
    with pytest.raises(InputError, match=r"log\.jsonl"):
        report.read_log(tmp_path / "log.jsonl")
    (tmp_path / "log.jsonl").write_text('{"step": 1, "lm": 2.5}\n{"step": 2, "l')
    assert report.read_log(tmp_path / "log.jsonl") == [{"step": 1, "lm": 2.5}]


def test_a_kill_while_folders_are_swapped_is_recovered(tmp_path: Path) -> None:
    folder, aside = tmp_path / "last", tmp_path / ".last.before"
    for before, after, kept in [((), ("old",), "old"), (("new",), ("old",), "new"), (("new",), (), "new")]:
        for place, words in ((folder, before), (aside, after)):
            shutil.rmtree(place, ignore_errors=True)
            for word in words:
                place.mkdir()
                (place / word).touch()
        (tmp_path / ".last.new").mkdir()
        checkpoint.recover(folder)
        assert [p.name for p in folder.iterdir()] == [kept]
        assert [p.name for p in tmp_path.iterdir()] == ["last"]


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.usefixtures("no_curves")
@pytest.mark.parametrize("broken", ["files.save", "write_tensors", "write_json", "rename"])
def test_a_full_disk_keeps_the_last_good_checkpoint(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    out = tmp_path / "out"
    step = loop.Run.step

    def fail(*args: Any, **more: Any) -> Any:
        raise FULL

    def full_from_the_third(self: loop.Run, *args: Any) -> Any:
        if self.state.step == 2:
            kept.update(content(out / "last"))
            if broken == "rename":
                rename = Path.rename
                monkeypatch.setattr(
                    Path, "rename", lambda p, to: fail() if p.suffix == ".new" and to == out / "last" else rename(p, to)
                )
            elif broken == "files.save":
                monkeypatch.setattr(files, "write_tensors", fail)
            else:
                monkeypatch.setattr(checkpoint, broken, fail)
        return step(self, *args)

    kept: dict[str, bytes] = {}
    monkeypatch.setattr(loop.Run, "step", full_from_the_third)
    with pytest.raises(
        InputError, match=r"last: expected a place where .*No space left on device; make room; the checkpoint before it"
    ):
        run(recipe, out)
    assert content(out / "last") == kept
    assert not list(out.glob(".*"))
    monkeypatch.undo()
    monkeypatch.setattr(loop, "plot_curves", lambda out: None)
    run(recipe, out, resume=True)
    run(recipe, tmp_path / "straight")
    assert content(out / "last") == content(tmp_path / "straight/last")


@pytest.mark.usefixtures("no_curves")
@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("weights", r"step 4 \(step 2 of stage rank\): .* inf or nan"),
        ("gradient", r"step 4 .* inf or nan in the gradient of live\.layer_0\.attention\.q"),
        ("loss", r"step 4 .* inf or nan in a loss \(lm nan"),
    ],
)
def test_a_number_that_is_not_finite_stops_it(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, said: str
) -> None:
    good = StepContext.loss_and_gradients

    def broken(self: StepContext, weights: Any, batch: Batch, rng: Any) -> Any:
        got = good(self, weights, batch, rng)
        if json.loads((tmp_path / "out/last/position.json").read_text())["step"] < 3:
            return got
        if what == "gradient":
            got.gradients["live.layer_0.attention.q"][1, 1] = np.inf
        if what == "loss":
            got.losses["lm"] = float("nan")
        if what == "weights":
            got.gradients["decoder.final_norm"][0] = np.nan
        return got

    monkeypatch.setattr(StepContext, "loss_and_gradients", broken)
    with pytest.raises(InputError, match=said) as error:
        run(recipe, tmp_path / "out")
    assert "last is the last good checkpoint" in str(error.value)
    assert json.loads((tmp_path / "out/last/position.json").read_text())["step"] == 3
    files.load(tmp_path / "out/last")


@pytest.mark.usefixtures("no_curves")
def test_a_rate_that_is_far_too_high_stops_it(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"step [2-6] .*last good checkpoint"):
        run(recipe, tmp_path / "out", "every_stage.rate=1e25")
    files.load(tmp_path / "out/last")


@pytest.mark.usefixtures("no_curves")
@pytest.mark.skipif(os.name != "posix", reason="asks its own process to end")
def test_a_kill_may_be_gentle(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = loop.Run.step

    def terminated(self: loop.Run, *args: Any) -> Any:
        if self.state.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *args)

    monkeypatch.setattr(loop.Run, "step", terminated)
    before = signal.getsignal(signal.SIGTERM)
    words = ["train", str(recipe), "--out", str(tmp_path / "out"), "--ops", "numpy", "--set", "evaluation.save=99"]
    assert main(words) == 130
    assert json.loads((tmp_path / "out/last/position.json").read_text())["step"] == 3
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.usefixtures("no_curves")
def test_another_recipe_does_not_go_on(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a checkpoint of an earlier run"):
        run(recipe, tmp_path / "out", resume=True)
    run(recipe, tmp_path / "out")
    with pytest.raises(InputError, match=r"recipe.stages.1.rate: expected 0.01, as the run began; got 0.02"):
        run(recipe, tmp_path / "out", "stages.1.rate=0.02", resume=True)
    assert run(recipe, tmp_path / "out", resume=True).step == 6


def test_what_cannot_begin_leaves_nothing(recipe: Path, tmp_path: Path) -> None:
    words = ["train", str(recipe), "--out", str(tmp_path / "out"), "--ops", "numpy"]
    for more in (["--threads", "2"], ["--data", str(tmp_path / "nowhere")], ["--set", "stages.0.rate=-1"]):
        assert main([*words, *more]) == 2
        assert not list((tmp_path / "out").glob("*"))
    assert main([*words, "--set", "stages.0.steps=1", "--set", "stages.1.steps=1"]) == 0


@pytest.mark.usefixtures("no_curves")
@pytest.mark.parametrize("file", ["optimizer.safetensors", "position.json", "model.safetensors"])
def test_a_damaged_checkpoint_is_refused(recipe: Path, tmp_path: Path, file: str) -> None:
    run(recipe, tmp_path / "out")
    path = tmp_path / "out/last" / file
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=file):
        run(recipe, tmp_path / "out", resume=True)


@pytest.fixture(scope="module")
def t5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A T5 of Base's depth, very thin, with a spiece.model."""
    folder = tmp_path_factory.mktemp("t5")
    shutil.copy(FIXTURES / "tiny_spiece.model", folder / "spiece.model")
    t5 = T5Config(512, 8, 2, 12, 12, 2, 4)
    return write_t5(
        folder,
        hugging_face(random(settings("1/3", "1/4", t5), 0)),
        {"model_type": "t5", "tie_word_embeddings": False, **t5.__dict__},
    )


@pytest.mark.once
@pytest.mark.usefixtures("no_curves")
@pytest.mark.parametrize(
    "name", sorted(p.stem for p in RECIPES.glob("*.toml") if "mini" not in p.stem and p.stem != "quick")
)
def test_the_papers_recipes_run(root: Path, t5_folder: Path, tmp_path: Path, name: str) -> None:
    small = {"steps": 2, "batch": 3, "accumulate": 2, "k": 5, "m": 2}
    changes = [f"stages.0.{key}={value}" for key, value in small.items()]
    changes += [f"model.init={json.dumps(str(t5_folder))}", f"data.root={json.dumps(str(root))}"]
    changes += ["evaluation.questions=4", "evaluation.k=5", "evaluation.m=2"]
    recipe = read_recipe(name, changes)
    first = leaves(first_model(recipe.model, 0, 512))
    loop.train(recipe, tmp_path / "out", "numpy", say=lambda line: None)
    last = leaves(files.load(tmp_path / "out/last"))
    assert ("reranker.layer_0.attention.q" in last) == name.startswith("table1")
    assert ("question.layer_0.attention.q" in last) == (name == "table3_question_encoder")
    kept = {n for n in last if np.array_equal(last[n], first[n])}
    unused = {n for n in last if n.startswith("score")} if name in ("lumen", "fid") else set()
    frozen = {n for n in last if n.startswith("memory.") or n == "embedding"}
    assert kept == (frozen if name == "table2_frozen_memory" else unused)


@pytest.mark.usefixtures("no_curves")
@pytest.mark.parametrize("system", ["lumen", "fid"])
def test_the_other_systems_learn_too(recipe: Path, tmp_path: Path, system: str) -> None:
    state = run(recipe, tmp_path / "out", f"system={system}", "stages.1.steps=2")
    assert state.best is not None
    assert "recall" not in log(tmp_path / "out")[0]
    assert [files.load(tmp_path / "out" / name).config.trained_as for name in ("last", "best")] == [system, system]


@pytest.mark.usefixtures("no_curves")
def test_weights_that_learn_all_systems_say_so(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path / "out", "stages.1.steps=2", "stages.1.cuts=systems")
    assert files.load(tmp_path / "out" / "last").config.trained_as == "all"
