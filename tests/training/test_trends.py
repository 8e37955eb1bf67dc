"""The paper's results in miniature: what is trained, the rule for the words, the file of runs, and all at toy size."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

from glimmer_ref.cli import main
from glimmer_ref.costs.published.values import PAPER_RESULTS, values
from glimmer_ref.errors import InputError
from glimmer_ref.training.init import first_model
from glimmer_ref.training.loop import run_settings
from glimmer_ref.training.recipe_file import read_recipe

BENCHMARKS = ROOT / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import results  # noqa: E402
from miniature import experiments, jobs, page, paper, recipes, runner, runs, structure, study, summary  # noqa: E402

sys.path.remove(str(BENCHMARKS))

STUDY = study.Study()
BASE, EXPERIMENTS = STUDY.base, STUDY.experiments
TRAININGS = {training.name: training for training in STUDY.points}
SOURCE = runs.Source({"tasks": "0123", "plain": "89ab"}, "4567")
STARTS = {"tasks": Path("tasks"), "plain": Path("plain")}


def line(name: str, exact: float, k: int = 25, m: int = 5, seed: int = 0, n: int = 100, **more: Any) -> dict[str, Any]:
    """A line of the file of runs: a test with two tasks that score the same."""
    task = {"questions": n, "exact_match": exact, "recall_at_m": 50.0}
    system = "fid" if name.startswith("fid") else "lumen" if name.startswith("lumen") else "glimmer"
    key = {"training": name, "seed": seed, "system": system, "k": k, "m": m}
    base = SOURCE.bases[STUDY.start(name) or "tasks"]
    made = {
        "recipe": STUDY.digest(name, seed),
        "base": base,
        "world": SOURCE.world,
        "steps": 500,
        "train_seconds": 250.0,
    }
    about = {"machine": "a machine", "versions": {"numpy": "2"}, "date": "2026-01-01", "commit": "abc"}
    tasks = {"nq-like": task, "fever-like": task}
    return {**key, **task, "samples_per_tflop": 1000.0, "tasks": tasks, **made, **about, **more}


def kept(records: Sequence[dict[str, Any]]) -> dict[runs.Key, runs.Record]:
    return runs.select(records, STUDY.digest, STUDY.start, SOURCE).kept


def said(name: str, records: Sequence[dict[str, Any]]) -> list[str]:
    """The sentences of an experiment's first panel."""
    return summary.sentences(EXPERIMENTS[name], EXPERIMENTS[name].panels[0], kept(records))


def pairs(name: str, at: int = 0) -> list[tuple[str, float | None]]:
    """x and the paper's value of each point of a line."""
    row = summary.rows(EXPERIMENTS[name], EXPERIMENTS[name].panels[0], {})[at]
    return [(p.x, p.paper) for p in row.pairs]


# What is trained


@pytest.mark.parametrize("training", TRAININGS.values(), ids=list(TRAININGS))
def test_a_trainings_file_is_its_recipe(training: structure.Training, tmp_path: Path) -> None:
    recipe = recipes.recipe_of(training, BASE, 3, "some/base")
    path = tmp_path / "recipe.toml"
    path.write_text(recipes.written(recipe), "utf-8")
    assert read_recipe(path) == recipe
    assert (recipe.top.seed, recipe.model.init, recipe.model.score) == (3, "some/base", "draw")
    share = 6 if training.name.endswith("only") else 1  # one task takes its share of the steps
    times = 3 if training.name.endswith("times the steps") else 1
    assert recipe.steps == times * STUDY.recipe.steps // share
    assert recipe.evaluation.every == times * STUDY.recipe.evaluation.every // share < recipe.steps
    assert recipe.model.t5 == {}


def test_a_digest_is_of_all_settings_but_not_of_folders() -> None:
    digests = {(STUDY.digest(t.name, seed), t.start) for t in TRAININGS.values() for seed in (0, 1)}
    assert len(digests) == 2 * len(TRAININGS)
    assert STUDY.digest("nothing", 0) is None
    here, there = (recipes.recipe_of(experiments.GLIMMER, BASE, 0, start) for start in ("a", "b"))
    assert recipes.recipe_digest(here, "numba") == recipes.recipe_digest(there, "numba")
    assert recipes.recipe_digest(here, "numba") != recipes.recipe_digest(here, "numpy")
    for change in ("evaluation.every=100", "stages.0.steps=499", "optimizer.clip=2.0", "data.dev=other"):
        changed = read_recipe(BASE, [change])
        assert recipes.recipe_digest(changed, "numba") != recipes.recipe_digest(STUDY.recipe, "numba"), change


def test_which_trainings_start_from_the_base_that_has_not_seen_the_tasks() -> None:
    plain = {training for training in TRAININGS.values() if training.start == structure.PLAIN}
    assert plain == {t for name in ("6", "7") for t in EXPERIMENTS[name].trainings()} | {
        t for t in EXPERIMENTS["table2"].trainings() if t.name.endswith("from t5-mini")
    }
    started = {
        job.training: job.recipe.model.init for job in jobs.jobs_of(STUDY, EXPERIMENTS.values(), [0], STARTS, Path())
    }
    assert {t.name for t, init in started.items() if init == "plain"} == {t.name for t in plain}


def differs(name: str) -> dict[str, Any]:
    return recipes.differences(recipes.recipe_of(TRAININGS[name], BASE, 0, "elsewhere"), STUDY.recipe)


def test_every_training_differs_from_the_base_by_what_it_is_named_for() -> None:
    stage = "stage.fine-tuning"
    reads = {
        "model.beta": ["1/4", "0"], "evaluation.k": [0, 10], f"{stage}.k": [12, 10], f"{stage}.m": [5, 10]
    }  # fmt: skip
    tasks = STUDY.recipe.stages[0].tasks
    unseen = {
        f"{stage}.k": [12, 5],
        f"{stage}.tasks": [tasks, {"correct": 0.0}],
        "evaluation.tasks": [(), ("nq-like",)],
    }
    sixth = {
        f"{stage}.steps": [500, 83], f"{stage}.warmup": [30, 5], f"{stage}.decay": [250, 41],
        "evaluation.every": [125, 20],
    }  # fmt: skip
    lumen = {"system": ["glimmer", "lumen"], **reads}
    assert differs("fid") == {"system": ["glimmer", "fid"], "model.alpha": ["1/3", "1"], **reads}
    assert differs("lumen, alpha=1/3") == lumen
    all_tasks = {name: x for name, x in {**lumen, **unseen}.items() if name != f"{stage}.m"}  # the base's m is 5 too
    assert differs("lumen, alpha=1/3, from t5-mini") == all_tasks
    assert differs("lumen, alpha=5/12, from t5-mini, nq-like only") == {
        **all_tasks, **sixth, "model.alpha": ["1/3", "5/12"], f"{stage}.tasks": [tasks, {"nq-like": 1.0, "*": 0.0}]
    }  # fmt: skip
    assert differs("glimmer, beta=1/2") == {"model.beta": ["1/4", "1/2"]}
    for end in ("", ", from t5-mini"):
        assert differs(f"glimmer{end}") == {}
        assert differs(f"frozen memory{end}") == {f"{stage}.frozen": [(), ("memory", "embedding")]}
    assert differs("separate reranker, drawn") == {
        "model.reranker_init": ["copy", "scratch"], "model.glimmer.reranker": [None, "separate"]
    }  # fmt: skip
    assert differs("separate reranker, copied") == {"model.glimmer.reranker": [None, "separate"]}
    assert differs("question encoder") == {"model.glimmer.question_encoder": [None, "separate"]}
    assert differs("first token") == {"model.glimmer.pool": ["mean", "first"]}
    assert differs("first token, beta=1/2") == {"model.glimmer.pool": ["mean", "first"], "model.beta": ["1/4", "1/2"]}
    assert differs("lumen, alpha=1/6, from t5-mini, all but nq-like") == {
        **all_tasks, "model.alpha": ["1/3", "1/6"], f"{stage}.tasks": [tasks, {"nq-like": 0.0, "correct": 0.0}]
    }  # fmt: skip
    thrice = {f"{stage}.{key}": [n, 3 * n] for key, n in (("steps", 500), ("warmup", 30), ("decay", 250))}
    assert differs("lumen, alpha=1/3, from t5-mini, 3 times the steps") == {
        **all_tasks, **thrice, "evaluation.every": [125, 375]
    }  # fmt: skip
    for name, key, value in (("lambda=0", "lambda", 0.0), ("lambda=0.1", "lambda", 0.1), ("lambda=10", "lambda", 10.0),
                             ("tau=0.1", "tau", 0.1), ("tau=5", "tau", 5.0)):  # fmt: skip
        assert differs(name) == {f"{stage}.{key}": [1.0, value]}
    assert differs("KL as printed") == {f"{stage}.direction": ["reverse", "printed"]}


def test_the_other_direction_of_the_kl_is_a_row() -> None:
    shape = STUDY.shape._replace(direction="printed")
    training = experiments.table3(shape).trainings()[-1]
    assert training == structure.Training("KL reversed", changes=("every_stage.direction=reverse",))


def test_trainings_are_shared_and_tested_for_all_experiments_at_once() -> None:
    settings = {(p.k, p.m) for p in STUDY.points[experiments.GLIMMER]}
    assert settings == {
        (5, 5), (10, 5), (25, 5), (40, 5), (25, 1), (25, 10), (25, 25), (40, 10), (40, 15), (40, 20), (40, 40)
    }  # fmt: skip
    assert {p.k for p in STUDY.points[STUDY.shape.lumen()]} == {5, 10, 25, 40}
    assert [p.k for p in STUDY.points[experiments.FID]] == [3, 5, 10]
    assert len(TRAININGS) == 52


# The paper's points


def test_points_are_the_papers_and_whole() -> None:
    for experiment in EXPERIMENTS.values():
        assert {p.place for p in experiment.panels} == {v.place for v in values(PAPER_RESULTS[experiment.name]())}
        for panel in experiment.panels:
            every = summary.rows(experiment, panel, {})
            ours = {"Figure 5": ["lumen-40"], "Figure 6": ["all but nq-like"], "Figure 7": ["3 times the steps"]}
            assert [row.name for row in every if not row.paper_name] == ours.get(experiment.name, [])
            for row in (row for row in every if row.paper_name):
                there = paper.paper_line(experiment.name, panel.place, row.paper_name)
                assert there and any(p.paper is not None for p in row.pairs), (experiment.name, row)
    assert pairs("2") == [("3", None), ("5", 69.215), ("10", None)]
    assert pairs("2", 2) == [("10", None), ("25", 73.22), ("40", None)]
    costs = [p.paper_cost for p in summary.rows(EXPERIMENTS["2"], EXPERIMENTS["2"].panels[0], {})[1].pairs]
    assert costs == [None, 0.1067540778, None]
    assert pairs("4") == [("0", 64.53), ("1/4", 69.83), ("1/2", 70.01), ("3/4", None), ("1", 69.94)]
    assert pairs("5") == [("5", 70.540702), ("10", 70.885407), ("15", 70.873928), ("20", 70.95), ("40", 70.820102)]
    assert pairs("6") == [("L-1/6", 57.98), ("L-1/3", 61.02), ("FiD", 60.8)]  # sums of two bars
    assert pairs("6", 1) == [("L-1/6", 51.18), ("L-1/3", 58.34), ("FiD", 59.11)]
    assert [p for p in pairs("7") if p[1] is not None] == [
        ("0", 50.9), ("1/6", 56.4), ("1/4", 56.9), ("1/3", 57.6), ("1/2", 57.5), ("3/4", 57.6), ("1", 57.8)
    ]  # fmt: skip
    assert len(pairs("7")) == 13
    assert [y for _, y in pairs("table3")] == [69.8, 70.0, 69.5, 69.5, 70.1, 69.4, 69.8, 69.8, *[None] * 4]


def test_every_claim_has_its_points_and_the_papers_numbers() -> None:
    every = [line(t.name, 50, p.k, p.m) for t, some in STUDY.points.items() for p in some]
    found, numbers = kept(every), {}
    for experiment in EXPERIMENTS.values():
        for panel in experiment.panels:
            for claim in panel.claims:
                one = summary.judged(claim, summary.rows(experiment, panel, found))
                assert one is not None, claim
                numbers[panel.place, claim.text] = one.paper
    assert [x for (place, _), x in numbers.items() if place == "Figure 2"] == ["+1.77", "+2.24", "+15.13 %", "+19.77 %"]
    assert [x for (place, _), x in numbers.items() if place == "Figure 3, right"] == ["+2.97", "+2.64"]
    assert [x for (place, _), x in numbers.items() if place == "Figure 6"] == [
        "+6.80", "+2.68", "+1.69", "+0.99", "+4.12", "-"
    ]  # fmt: skip
    assert [x for (place, _), x in numbers.items() if place == "Figure 7"] == ["+6.70", "+0.20", "+3.10", "-"]
    assert [x for (place, _), x in numbers.items() if place == "Table 1"] == ["+0.20", "-1.10"]


# Words


@pytest.mark.parametrize(
    ("there", "ours", "words"),
    [
        ("up", "up", "same direction"),
        ("down", "down", "same direction"),
        ("flat", "flat", "flat as there"),
        ("up", "flat", "flat here"),
        ("flat", "down", "flat there, down here"),
        ("up", "down", "opposite"),
    ],
)
def test_verdicts(there: str, ours: str, words: str) -> None:
    assert summary.verdict(there, ours) == words


def test_means_and_errors() -> None:
    one = summary.measured([line("glimmer", 90)], "exact_match")
    assert one is not None and (one.mean, one.min, one.max, one.seeds, one.cost) == (90, 90, 90, 1, 1000)
    assert one.error == pytest.approx(100 * (91 / 102 * 11 / 102 / 100 / 2) ** 0.5)  # two tasks of 100 questions
    three = summary.measured([line("glimmer", x) for x in (70, 80, 90)], "nq-like")
    assert three is not None and (three.mean, three.min, three.max, three.seeds) == (80, 70, 90, 3)
    assert three.error == pytest.approx(10 / 3**0.5)  # the seeds differ more than 100 questions allow
    sure = summary.measured([line("glimmer", 100)], "nq-like")
    assert sure is not None and sure.error > 0
    assert summary.measured([], "nq-like") is None


@pytest.mark.parametrize(
    ("last", "verdict"), [(95, "same direction"), (81, "flat here, as +5.15 would be"), (60, "opposite")]
)
def test_a_line_in_words(last: float, verdict: str) -> None:
    words = said("3", [line("glimmer", 80, 5), line("glimmer", last, 40)])
    assert words == [
        "Performance strongly increases with the passages retrieved, k=5 to 40: "
        f"paper +5.15, here {last - 80:+.1f} (flat within {_within(80, last)}): {verdict}."
    ]


def _within(a: float, b: float) -> str:
    found = [summary.measured([line("glimmer", x)], "exact_match") for x in (a, b)]
    errors = [h.error for h in found if h is not None]
    return f"{2 * (errors[0] ** 2 + errors[1] ** 2) ** 0.5:.1f}"


def test_quality_and_cost_in_words() -> None:
    some = [
        line("fid", 60, 5, 5, n=1000, samples_per_tflop=100.0),
        line("lumen, alpha=1/3", 70, 10, 10, n=1000, samples_per_tflop=90.0),
        line("glimmer", 70, n=1000, samples_per_tflop=99.0),
    ]
    words = said("2", some)
    assert words[0].startswith("LUMEN is better than FiD: paper +1.77, here +10.0 (flat within ")
    assert words[0].endswith("same direction.") and words[1].endswith("flat here, as +2.24 would be.")
    assert words[2:] == [
        "LUMEN answers more questions per TFLOP than FiD: paper +15.13 %, here -10.0 %: opposite.",
        "GLIMMER answers more questions per TFLOP than LUMEN: paper +19.77 %, here +10.0 %: same direction.",
    ]


@pytest.mark.parametrize("name", ["6", "7"])
def test_a_gap_in_words(name: str) -> None:
    """All tasks against one: 30 points for the smaller live encoder, none for the larger."""
    low, high = ("1/6", "1/3") if name == "6" else ("0", "1")
    some = [(f"lumen, alpha={low}, from t5-mini", 80), (f"lumen, alpha={high}, from t5-mini", 90),
            (f"lumen, alpha={low}, from t5-mini, nq-like only", 50),
            (f"lumen, alpha={high}, from t5-mini, nq-like only", 90)]  # fmt: skip
    words = "\n".join(said(name, [line(x, y, 10, 10, n=1000) for x, y in some]))
    if name == "6":
        assert "All tasks help L-1/6: paper +6.80, here +30.0" in words
        assert "All tasks help L-1/3: paper +2.68, here +0.0" in words
        assert "They help L-1/6 more than L-1/3: paper +4.12, here +30.0" in words
        assert "FiD" not in words
    else:
        assert "all tasks above nq-like only at 0: paper +5.30, here +30.0" in words
        assert "all tasks above nq-like only at 1: paper +2.20, here +0.0" in words
        assert "All tasks help more at alpha=0 than at 1: paper +3.10, here +30.0" in words


def test_a_table_in_words() -> None:
    words = said("table3", [line("glimmer", 70, n=1000), line("first token", 80, n=1000), line("lambda=0", 10, n=1000)])
    assert words[0].startswith("Mean pooling is similar to the first token: paper +0.00, here -10.0")
    assert words[0].endswith("flat there, down here.")
    assert words[1].startswith("No distillation at all: the paper has no such point, here -60.0")
    assert words[1].endswith("down.")
    assert len(words) == 2


def test_the_best_m_in_words() -> None:
    some = [line("glimmer", 90 - abs(m - 15), 40, m) for m in (5, 10, 15, 20, 40)]
    assert said("5", some)[-1] == "1 rerank layer is best at: paper 20, here 15."
    assert "best" not in said("5", some[:-1])[-1]


def test_pages_and_what_notebooks_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    assert summary.trained("Figure 3") == {}
    assert page.report(STUDY, tmp_path) == ["no tests so far"]
    for seed, y in ((0, 70), (1, 80)):
        runs.append(tmp_path / runs.FILE, line("glimmer", y, 5, seed=seed))
    runs.append(tmp_path / runs.FILE, line("glimmer", 90, 40, recipe="another"))
    at = {p.x: p.ours for p in summary.trained("Figure 3")["Figure 3, left"][0].pairs}
    assert at["5"] is not None and (at["5"].mean, at["5"].seeds) == (75, 2)
    assert at["40"] is None
    assert summary.trained("Table 2") == {}
    lines = page.report(STUDY, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {
        "trends-runs.jsonl", "trends-figure-3.md", "trends-figure-3.png", "trends.md"
    }  # fmt: skip
    assert lines[-1] == "Lines of trends-runs.jsonl that do not count: glimmer, seed 0: another recipe (1 line)."
    text = (tmp_path / "trends-figure-3.md").read_text("utf-8")
    assert "| glimmer | 5 | 65.56 | 75.0 (70.0 to 80.0) | 50.0 | 1,000 | 2 | glimmer | 5 | 5 |" in text
    assert "- not tested so far: lumen, alpha=1/3 (seed 0); lumen, alpha=1/3 (seed 1)" in text
    assert summary.verdicts("Figure 3") == []
    for m in (1, 5):
        runs.append(tmp_path / runs.FILE, line("glimmer", 50 + m, 25, m))
    (one,) = summary.verdicts("Figure 3")
    assert one.startswith("More selected passages help, m=1 to 5: paper +2.97, here +4.0")


# The file of runs


def test_lines_are_appended_and_only_the_present_ones_count(tmp_path: Path) -> None:
    path = tmp_path / "new" / runs.FILE
    assert runs.read(path) == []
    some = [
        line("glimmer", 10, 5),
        line("glimmer", 20, 5),
        line("glimmer", 30, 10, recipe="before"),
        line("glimmer", 30, 25, world="other"),
        line("fid", 40, 5, 5, world="other", base="other"),
        line("gone", 50, 5, recipe="gone"),
    ]
    for record in some:
        runs.append(path, record)
    assert runs.read(path) == json.loads(json.dumps(some))
    found = STUDY.select(path, SOURCE)
    assert [(key, r["exact_match"]) for key, r in found.kept.items()] == [(("glimmer", 0, "glimmer", 5, 5), 20)]
    assert found.ignored == [
        "glimmer, seed 0: another recipe (1 line)",
        "glimmer, seed 0: another world (1 line)",
        "fid, seed 0: another base, world (1 line)",
        "gone, seed 0: no such training (1 line)",
    ]
    assert len(runs.read(path)) == 6, "nothing is deleted"
    without = STUDY.select(path)  # base and world are those of the last lines with present recipes
    assert list(without.kept) == [("fid", 0, "fid", 5, 5)]


def test_a_line_counts_while_what_its_own_training_starts_from_is_the_same(tmp_path: Path) -> None:
    (plain, *_) = EXPERIMENTS["6"].points()
    for record in (line("glimmer", 20, 5), line(plain.training.name, 40, plain.k, plain.m)):
        runs.append(tmp_path / runs.FILE, record)
    new = SOURCE._replace(bases={**SOURCE.bases, "tasks": "new"})
    assert [name for name, *_ in STUDY.select(tmp_path / runs.FILE, new).kept] == [plain.training.name]
    assert len(STUDY.select(tmp_path / runs.FILE).kept) == 2


def test_a_broken_file_of_runs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / runs.FILE
    path.write_text('{"training": "glimmer"}\n', "utf-8")
    with pytest.raises(InputError, match="a test with all its keys; got none seed, system"):
        runs.read(path)
    path.write_text(json.dumps(line("glimmer", 1))[:-5], "utf-8")
    with pytest.raises(InputError, match="line 1"):
        runs.read(path)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("trends") / "world"
    main(["world", str(place), "--size", "small", "--train-worlds", "1"])
    return place


def test_what_all_trainings_come_from(world: Path, tmp_path: Path) -> None:
    start, data = tmp_path / "start", tmp_path / "data"
    start.mkdir()
    shutil.copytree(world, data)
    (start / "model.safetensors").write_bytes(b"weights")
    first = runs.source_of({"tasks": start}, data)
    about = json.loads((data / "world.json").read_text("utf-8"))
    about["sha256"]["pretrain-0/passages.jsonl"] = "more"
    about["pretrain_worlds"] = 1
    (data / "world.json").write_text(json.dumps(about), "utf-8")
    assert runs.source_of({"tasks": start}, data) == first, "worlds for pre-training made the base only"
    about["sha256"]["test/passages.jsonl"] = "another"
    (data / "world.json").write_text(json.dumps(about), "utf-8")
    (start / "model.safetensors").write_bytes(b"others")
    second = runs.source_of({"tasks": start}, data)
    assert second.bases != first.bases and second.world != first.world
    runner.check_source(tmp_path / "out", first)
    runner.check_source(tmp_path / "out", first)
    with pytest.raises(InputError, match="another --out"):
        runner.check_source(tmp_path / "out", second)
    with pytest.raises(InputError):
        runs.source_of({"tasks": tmp_path / "nothing"}, data)


# Running


def test_candidates_go_on_as_the_world_ranks_them(world: Path, tmp_path: Path) -> None:
    data = tmp_path / "world"
    shutil.copytree(world, data)
    own = data / "test" / "questions.jsonl"
    assert runner.test_file(data, tmp_path, 25) == own
    deeper = runner.test_file(data, tmp_path, 40)
    for a, b in zip(own.read_text("utf-8").splitlines(), deeper.read_text("utf-8").splitlines(), strict=True):
        before, after = json.loads(a), json.loads(b)
        assert len(set(after["candidates"])) == 40
        assert after["candidates"][:25] == before.pop("candidates")
        assert {name: after[name] for name in before} == before
    with pytest.raises(InputError, match="at least k=401 passages"):
        runner.test_file(data, tmp_path, 401)
    other = own.read_text("utf-8").replace('"candidates": ["', '"candidates": ["test-0", "', 1)
    own.write_text(other, "utf-8")
    with pytest.raises(InputError, match="BM25's candidates"):
        runner.test_file(data, tmp_path, 40)


def placed(job: jobs.Job, step: int, judged: int, best: int = 0, seconds: float = 1.0) -> None:
    """Checkpoints' positions, as the trainer leaves them."""
    position = {"step": step, "judged": judged, "recipe": run_settings(job.recipe, "numba"), "seconds": seconds}
    for name, at in (("last", step), ("best", best)):
        (job.folder / name).mkdir(parents=True, exist_ok=True)
        record = {**position, "step": at, "best": {"exact_match": 12.5}}
        (job.folder / name / "position.json").write_text(json.dumps(record), "utf-8")


def made(out: Path, seeds: Sequence[int] = (0,)) -> list[jobs.Job]:
    """The trainings of Table 2 from the base that has seen the tasks."""
    every = jobs.jobs_of(STUDY, [EXPERIMENTS["table2"]], seeds, STARTS, out)
    return [job for job in every if job.training.start == structure.TASKS]


def test_the_order_of_jobs() -> None:
    every = jobs.jobs_of(STUDY, EXPERIMENTS.values(), [0, 1], STARTS, Path("out"))
    names = [job.name for job in every]
    assert names[:3] == ["fid, seed 0", "lumen, alpha=1/3, seed 0", "glimmer, seed 0"]
    assert len(names) == 2 * len(TRAININGS) and names[len(TRAININGS)] == "fid, seed 1"
    assert list(EXPERIMENTS) == ["2", "3", "4", "table1", "table2", "table3", "6", "7", "5"]


def test_what_is_done_and_how_long_the_rest_takes(tmp_path: Path) -> None:
    some = made(tmp_path, (0, 1))
    assert [job.name for job in some] == [
        "glimmer, seed 0", "frozen memory, seed 0", "glimmer, seed 1", "frozen memory, seed 1"
    ]  # fmt: skip
    job, frozen, *_ = some
    steps = job.recipe.steps
    assert not job.trained("numba") and job.steps_done({}) == 0
    assert jobs.remaining(some, {}, jobs.pace({}, some)) is None
    placed(job, steps // 2, steps // 2, seconds=steps)
    assert not job.trained("numba") and job.steps_done({}) == steps // 2
    assert jobs.remaining(some, {}, jobs.pace({}, some)) == pytest.approx(2 * 3.5 * steps)
    placed(job, steps, steps // 2)
    assert not job.trained("numba"), "its last evaluation is missing"
    placed(job, steps, steps)
    assert job.trained("numba")
    with pytest.raises(InputError, match="another --out"):
        job._replace(recipe=frozen.recipe).trained("numba")
    tested = kept([line("frozen memory", 50)])
    assert frozen.missing(tested) == [] and frozen.steps_done(tested) == steps
    assert len(job.missing(tested)) == len(job.points)
    fresh = [t._replace(folder=tmp_path / "elsewhere") for t in some]
    assert jobs.remaining(fresh, tested, jobs.pace(tested, fresh)) == pytest.approx(3 * steps / 2)
    plan = jobs.plan([EXPERIMENTS["table2"]], fresh, tested, 2)
    assert plan[-1] == "all together: 4 trainings, 1 done, 6 min left with 2 at once (without testing)"
    assert jobs.progress_line(fresh, tested, 2).startswith(f"1 of 4 models tested, {steps} of {4 * steps:,} steps")


class Fake(runner.Runner):
    """A runner whose commands only leave what the trainer and `evaluate` leave."""

    def __init__(self, setting: runner.Setting, found: dict[runs.Key, runs.Record], broken: str = "") -> None:
        super().__init__(setting, found, 25)
        self.broken, self.commands, self.jobs = broken, list[str](), list[jobs.Job]()

    def _command(self, words: Sequence[str], log: Path, answer: Path | None = None) -> str:
        self.commands.append(f"{words[0]} {log.parent.name}")
        if words[0] == self.broken:
            return "it broke"
        if answer is None:
            job = next(job for job in self.jobs if str(job.folder) in words)
            placed(job, job.recipe.steps, job.recipe.steps, 375, 123.45)
        else:
            at = {words[i]: words[i + 1] for i in range(len(words) - 1)}
            scores = line("", 50, seconds=1.0, questions_per_second=9.0, precision="float32", score=50.0)
            host = {name: scores[name] for name in ("system", "questions", "exact_match", "recall_at_m", "score",
                    "samples_per_tflop", "tasks", "seconds", "questions_per_second", "precision")}  # fmt: skip
            answer.write_text(json.dumps({**host, "k": int(at["--k"]), "m": None}), "utf-8")
            assert at["--weights"].endswith("best")
        return ""


def fake(world: Path, out: Path, file: Path, broken: str = "", keep: bool = False) -> Fake:
    """A runner of Table 2 that has run."""
    setting = runner.Setting(world, out, file, SOURCE, "numba", 2, 1, keep)
    one = Fake(setting, STUDY.select(file, SOURCE).kept, broken)
    one.jobs = made(out)
    one.run(one.jobs)
    return one


def test_finished_tests_are_lines_and_are_not_done_again_in_a_fresh_folder(world: Path, tmp_path: Path) -> None:
    file, glimmer = tmp_path / "results" / runs.FILE, STUDY.points[experiments.GLIMMER]
    first = fake(world, tmp_path / "a", file)
    assert first.failed == {}
    assert first.commands.count("train glimmer") == 1
    assert first.commands.count("evaluate glimmer") == len(glimmer)
    assert not (tmp_path / "a" / "glimmer" / "0").exists() and (tmp_path / "a" / "glimmer" / "0.toml").exists()
    lines = runs.read(file)
    assert len(lines) == len(glimmer) + 1
    assert all(str(tmp_path) not in json.dumps(record) for record in lines)
    one = next(r for r in lines if r["training"] == "frozen memory")
    assert (one["steps"], one["train_seconds"], one["best_step"], one["best_dev"]) == (500, 123.5, 375, 12.5)
    assert (one["m"], one["score"], one["threads"], one["base"]) == (5, 50.0, 1, SOURCE.bases["tasks"])
    assert one["recipe"] == STUDY.digest("frozen memory", 0) and one["machine"]
    assert one["commit"] == results.commit()  # empty outside a checkout
    assert "seconds" not in one and "questions_per_second" not in one
    assert fake(world, tmp_path / "b", file).commands == []
    kept_lines = file.read_text("utf-8").splitlines(keepends=True)
    changed = [text.replace(STUDY.digest("frozen memory", 0) or "", "before") for text in kept_lines]
    file.write_text("".join(changed), "utf-8")
    again = fake(world, tmp_path / "c", file, keep=True)
    assert again.commands == ["train frozen-memory", "evaluate frozen-memory"]
    assert (tmp_path / "c" / "frozen-memory" / "0" / "best").exists()
    assert file.read_text("utf-8").startswith("".join(changed))
    file.write_text("".join(changed), "utf-8")
    assert fake(world, tmp_path / "c", file).commands == ["evaluate frozen-memory"], "its folder is there"


@pytest.mark.parametrize("broken", ["train", "evaluate"])
def test_an_error_is_told_and_the_others_go_on(broken: str, world: Path, tmp_path: Path) -> None:
    one = fake(world, tmp_path, tmp_path / runs.FILE, broken)
    assert one.failed == {"glimmer, seed 0": "it broke", "frozen memory, seed 0": "it broke"}
    assert one.commands.count(f"{broken} glimmer") == 1 and one.commands.count(f"{broken} frozen-memory") == 1
    assert not (tmp_path / runs.FILE).exists()


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(BENCHMARKS / "miniature" / "main.py"), *arguments]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_a_plan_starts_nothing(tmp_path: Path) -> None:
    where = ("train", "--data", "none", "--out", str(tmp_path / "out"), "--results", str(tmp_path))
    for record in (line("frozen memory", 50), line("glimmer", 50, recipe="before")):
        runs.append(tmp_path / runs.FILE, record)
    done = command(*where, "--figures", "4,table2", "--plan")
    assert done.returncode == 0, done.stderr
    assert "all together: 9 trainings, 1 done, 33 min left with 1 at once" in done.stdout
    assert done.stderr == "trends-runs.jsonl: ignored: glimmer, seed 0: another recipe (1 line)\n"
    assert not (tmp_path / "out").exists()
    some = (*where, "--figures", "table2", "--plan", "--only")
    assert "all together: 1 trainings, 1 done, 0 min left" in command(*some, "frozen memory").stdout
    begins = "benchmarks/miniature/main.py: error: "
    assert command(*some, "frozen").stderr.splitlines()[-1].startswith(f"{begins}--only: expected names of trainings")
    wrong = command(*where, "--figures", "9")
    assert wrong.returncode == 1
    assert wrong.stderr.startswith(f"{begins}--figures: expected some of 2,3,4,table1")
    base = read_recipe("t5_mini").model.t5["num_layers"]
    for start, layers in (("tasks", base), ("plain", base - 1)):
        (tmp_path / start).mkdir()
        (tmp_path / start / "config.json").write_text(json.dumps({"num_layers": layers}), "utf-8")
        (tmp_path / start / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "world.json").write_text('{"sha256": {}}', "utf-8")
    starts = ("--tasks", str(tmp_path / "tasks"), "--plain", str(tmp_path / "plain"), "--data", str(tmp_path))
    few = command(*where, *starts, "--figures", "6")
    assert few.returncode == 1 and f"plain: expected a base of {base} layers; got {base - 1}" in few.stderr
    missing = command(*where)
    assert missing.returncode == 1 and missing.stderr.startswith(f"{begins}none/world.json: ")
    reported = command("report", "--results", str(tmp_path / "nothing"))
    assert reported.returncode == 1 and "tests of the present recipes" in reported.stderr


@pytest.mark.slow
def test_everything_at_toy_size_and_again(tmp_path: Path) -> None:
    out, file = tmp_path / "out", tmp_path / "results" / runs.FILE
    words = ["train", "--quick", "--results", str(tmp_path / "results"), "--out"]
    quick = [sys.executable, str(BENCHMARKS / "miniature" / "main.py"), *words, str(out)]
    with subprocess.Popen(quick, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as stopped:
        while not file.exists():
            assert stopped.poll() is None
            time.sleep(0.1)
        stopped.terminate()
        _, complaint = stopped.communicate()
    assert stopped.returncode == 130
    assert complaint.splitlines()[-1] == "stopped; the same command continues"
    before = file.read_bytes()
    first = command(*words, str(out))
    assert first.returncode == 0, first.stderr
    small = study.Study(study.HERE / "quick.toml", "numpy", ends=True)
    assert file.read_bytes().startswith(before)
    assert len(runs.read(file)) == sum(map(len, small.points.values()))
    names = [f"trends-{kind}-{n}" for kind, ns in (("figure", "234567"), ("table", "123")) for n in ns]
    assert {p.name for p in (tmp_path / "results").iterdir()} == {
        runs.FILE, "trends.md", *(f"{name}.{kind}" for name in names for kind in ("md", "png"))
    }  # fmt: skip
    found = small.select(file)
    assert found.ignored == []
    for experiment in small.experiments.values():
        for panel in experiment.panels:
            rows = summary.rows(experiment, panel, found.kept)
            assert all(p.ours is not None for row in rows for p in row.pairs)
    assert str(tmp_path) not in "".join(p.read_text("utf-8") for p in (tmp_path / "results").glob("*.[mj]*"))
    for training in study.Study(study.HERE / "quick.toml").points:  # also those that are not at the end of a line
        model = recipes.recipe_of(training, small.base, 0, str(out / "base" / "last")).model
        assert first_model(model, 0, 0).config.t5.num_layers == 12
    lines = file.read_bytes()
    again = command(*words, str(tmp_path / "fresh"))
    assert again.returncode == 0, again.stderr
    assert "all together: 20 trainings, 20 done, 0 min left" in again.stdout
    assert file.read_bytes() == lines
    assert {p.name for p in (tmp_path / "fresh").iterdir()} == {"world", "base", "source.json", "test-40.jsonl"}
