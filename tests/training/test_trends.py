"""The paper's trends in miniature: what is trained, the rule for the words, and everything once at toy size."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

from glimmer_ref.cli import main
from glimmer_ref.costs.published.values import PAPER_RESULTS, values
from glimmer_ref.errors import InputError
from glimmer_ref.training.loop import run_settings
from glimmer_ref.training.recipe_file import read_recipe

BENCHMARKS = ROOT / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
from miniature import experiments, jobs, recipes, runner, summary  # noqa: E402

sys.path.remove(str(BENCHMARKS))

SHAPE = experiments.Shape.of(read_recipe("mini"))
EXPERIMENTS = {name: make(SHAPE) for name, make in experiments.EXPERIMENTS.items()}
TRAININGS = {p.training.name: p.training for e in EXPERIMENTS.values() for p in e.points()}


def scores(exact: float, n: int = 100, **more: Any) -> dict[str, Any]:
    """A test's result with two tasks that score the same."""
    task = {"questions": n, "exact_match": exact, "recall_at_m": 50.0}
    point = {"training": "glimmer", "system": "glimmer", "k": 25, "m": 5, "seed": 0}
    return {**point, **task, "tasks": {"nq": task, "fever": task}, **more}


def document(name: str, records: list[dict[str, Any]]) -> dict[str, Any]:
    """An experiment's result file with these scores, as far as the summary reads it."""
    panels = [
        {**p._asdict(), "lines": [
            {**line._asdict(), "points": [{**x._asdict(), "training": x.training.name} for x in line.points]}
            for line in p.lines]}
        for p in EXPERIMENTS[name].panels
    ]  # fmt: skip
    return {"paper_result": EXPERIMENTS[name].name, "panels": panels, "runs": records}


# What is trained


@pytest.mark.parametrize("training", TRAININGS.values(), ids=list(TRAININGS))
def test_a_trainings_file_is_its_recipe(training: experiments.Training, tmp_path: Path) -> None:
    begins = "before" if training.begins else ""
    recipe = recipes.recipe_of(training, "mini", 3, 0.25, begins)
    path = tmp_path / "recipe.toml"
    path.write_text(jobs.written(recipe), "utf-8")
    assert read_recipe(path) == recipe
    assert (recipe.top.seed, recipe.model.init, recipe.evaluation.every) == (3, begins, recipe.steps)


def test_every_training_differs_from_the_base_by_what_it_is_named_for() -> None:
    base = read_recipe("mini")

    def differs(name: str) -> dict[str, Any]:
        training = TRAININGS[name]
        return jobs.differences(recipes.recipe_of(training, "mini", 0, 1.0, "x"), base, training)

    first, *others = names = [stage.name for stage in base.stages]
    later = {"stages": [names, others], "model.init": ["", "x"]}
    frozen = {f"stage.{stage}.frozen": [(), ("memory", "embedding")] for stage in others}
    assert differs("glimmer") == {}
    assert differs("glimmer, beta=1/3") == {"model.beta": ["2/3", "1/3"]}
    assert differs("glimmer from the reader") == later
    assert differs("frozen memory") == {**later, **frozen}
    assert differs("separate reranker, drawn") == {
        **later, "model.reranker_init": ["copy", "scratch"], "model.glimmer.reranker": [None, "separate"]
    }  # fmt: skip
    assert differs("tau=5") == {f"stage.{stage}.tau": [1.0, 5.0] for stage in [first, *others]}
    assert differs("mean pool") == {"model.glimmer.pool": [None, "mean"]}
    assert differs("lumen, alpha=0, nq only") == {
        "system": ["glimmer", "lumen"], "model.alpha": ["1/2", "0"], "model.beta": ["2/3", "0"],
        "tasks": ["as the base weighs them", "nq"],
    }  # fmt: skip
    distilled = [stage for stage in base.stages if stage.lambda_]
    assert differs("lambda=0") == {f"stage.{stage.name}.lambda": [stage.lambda_, 0.0] for stage in distilled}


def test_one_task_as_long_or_with_as_many_of_its_questions() -> None:
    base = read_recipe("mini")
    long, short = (
        recipes.recipe_of(SHAPE.lumen(1, "nq", same), "mini", 0) for same in (False, True)
    )  # fmt: skip
    assert long.steps == base.steps
    for stage, mine in zip(base.stages, short.stages, strict=True):
        weights = {
            task: stage.tasks.get(task, stage.tasks.get("*", 1.0)) for task in recipes.TASKS | recipes.TRAINING_TASKS
        }
        assert mine.steps == max(1, round(stage.steps * weights["nq"] / sum(weights.values())))
        assert mine.tasks == {"nq": 1.0, "*": 0.0}


def test_points_are_the_papers_and_whole() -> None:
    for experiment in EXPERIMENTS.values():
        found = {v.place for v in values(PAPER_RESULTS[experiment.name]())}
        assert {p.place for p in experiment.panels} == found
        for panel in experiment.panels:
            for line in panel.lines:
                paper = summary.paper_line({"paper_result": experiment.name}, panel.place, line.paper)
                assert paper, (experiment.name, line)
    both = [p.x for p in summary.rows(document("7", []), document("7", [])["panels"][0])[0].pairs]
    assert both == ["0", "1/6", "1/3", "1/2", "1"]
    fig4 = summary.rows(document("4", []), document("4", [])["panels"][0])[0].pairs
    assert [(p.x, p.paper) for p in fig4] == [("0", 64.53), ("1/3", None), ("2/3", None), ("1", 69.94)]
    table = summary.rows(document("table3", []), document("table3", [])["panels"][0])[0].pairs
    assert [p.paper for p in table] == [69.8, 70.0, 69.5, 69.5, 70.1, 69.4, 69.8, None, None]


# Words


@pytest.mark.parametrize(
    ("paper", "ours", "said"),
    [
        ("up", "up", "same direction"),
        ("down", "down", "same direction"),
        ("flat", "flat", "flat as there"),
        ("up", "flat", "flat here"),
        ("flat", "down", "flat there, down here"),
        ("up", "down", "opposite"),
    ],
)
def test_verdicts(paper: str, ours: str, said: str) -> None:
    assert summary.verdict(paper, ours) == said


def test_means_and_errors() -> None:
    one = summary.measured([scores(90)], "exact_match")
    assert one is not None and (one.mean, one.min, one.max, one.seeds) == (90, 90, 90, 1)
    assert one.error == pytest.approx(100 * (91 / 102 * 11 / 102 / 100 / 2) ** 0.5)  # two tasks of 100 questions
    three = summary.measured([scores(x) for x in (70, 80, 90)], "nq")
    assert three is not None and (three.mean, three.min, three.max, three.seeds) == (80, 70, 90, 3)
    assert three.error == pytest.approx(10 / 3**0.5)  # the seeds differ more than 100 questions allow
    sure = summary.measured([scores(100)], "nq")
    assert sure is not None and sure.error > 0
    assert summary.measured([], "nq") is None


@pytest.mark.parametrize(("last", "said"), [(95, "same direction"), (81, "flat here"), (60, "opposite")])
def test_a_line_in_words(last: float, said: str) -> None:
    records = [scores(80, k=5), scores(last, k=40)]
    words = summary.sentences(document("3", records), document("3", records)["panels"][0])
    assert words == [f"glimmer, 5 to 40: paper +5.15, here {last - 80:+.1f} (flat within {_within(80, last)}): {said}."]


def _within(a: float, b: float) -> str:
    found = [summary.measured([scores(x)], "exact_match") for x in (a, b)]
    errors = [h.error for h in found if h is not None]
    return f"{2 * (errors[0] ** 2 + errors[1] ** 2) ** 0.5:.1f}"


def test_a_gap_in_words() -> None:
    """All tasks against one: at alpha 0 30 points, at 1 none; the paper's 5.3 and 2.2."""
    some = [("lumen, alpha=0", 80), ("lumen, alpha=1", 90), ("lumen, alpha=0, nq only", 50),
            ("lumen, alpha=1, nq only", 90)]  # fmt: skip
    records = [scores(y, 1000, training=name, system="lumen", k=10, m=10) for name, y in some]
    words = "\n".join(summary.sentences(document("7", records), document("7", records)["panels"][0]))
    assert "all tasks above nq only, as many steps at 0: paper +5.3, here +30.0: same direction." in words
    assert "all tasks above nq only, as many steps at 1: paper +2.2, here +0.0: flat here." in words
    assert "its change from 0 to 1: paper -3.10, here -30.0" in words


def test_a_table_in_words() -> None:
    records = [scores(80, 1000), scores(70, 1000, training="mean pool"), scores(10, 1000, training="lambda=0")]
    words = summary.sentences(document("table3", records), document("table3", records)["panels"][0])
    assert words[0].startswith("Mean pool against glimmer: paper +0.00, here -10.0")
    assert words[0].endswith("flat there, down here.")
    assert words[1].endswith("down; the paper has no such point.")
    assert len(words) == 2


# Running


def test_candidates_go_on_as_the_world_ranks_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["world", str(tmp_path / "world"), "--size", "small", "--train-worlds", "1"])
    own = tmp_path / "world" / "test" / "questions.jsonl"
    assert runner.test_file(tmp_path / "world", tmp_path, 25) == own
    deeper = runner.test_file(tmp_path / "world", tmp_path, 40)
    for a, b in zip(own.read_text("utf-8").splitlines(), deeper.read_text("utf-8").splitlines(), strict=True):
        before, after = json.loads(a), json.loads(b)
        assert len(set(after["candidates"])) == 40
        assert after["candidates"][:25] == before.pop("candidates")
        assert {name: after[name] for name in before} == before
    with pytest.raises(InputError, match="at least k=401 passages"):
        runner.test_file(tmp_path / "world", tmp_path, 401)
    other = own.read_text("utf-8").replace('"candidates": ["', '"candidates": ["test-0", "', 1)
    own.write_text(other, "utf-8")
    with pytest.raises(InputError, match="BM25's candidates"):
        runner.test_file(tmp_path / "world", tmp_path, 40)
    about = tmp_path / "world" / "world.json"
    runner.check_world(tmp_path / "world", tmp_path / "out")
    about.write_text(about.read_text("utf-8").replace('"seed": 0', '"seed": 1'), "utf-8")
    with pytest.raises(InputError, match="another --out"):
        runner.check_world(tmp_path / "world", tmp_path / "out")


def placed(job: jobs.Job, step: int, judged: int) -> None:
    """A checkpoint's position, as the trainer leaves it."""
    (job.folder / "last").mkdir(parents=True, exist_ok=True)
    position = {"step": step, "judged": judged, "recipe": run_settings(job.recipe, "numba"), "seconds": 1.0}
    (job.folder / "last" / "position.json").write_text(json.dumps(position), "utf-8")


def test_what_is_finished_and_how_long_the_rest_takes(tmp_path: Path) -> None:
    wanted = jobs.jobs_of([experiments.TUNED, experiments.GLIMMER], "mini", [0, 1], 1.0, tmp_path)
    assert [(t.training.name, t.seed) for t in wanted[:4]] == [
        ("reader", 0), ("reader", 1), ("glimmer", 0), ("glimmer", 1)
    ]  # fmt: skip
    base = next(t for t in wanted if t.training == experiments.GLIMMER)
    assert not base.finished("numba")
    gold, *others = (stage.steps for stage in base.recipe.stages)
    placed(base, gold, gold)
    log = [{"step": 1}, {"step": gold // 2, "seconds": gold // 2}, {"step": gold, "seconds": gold}]
    (base.folder / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in log), "utf-8")
    pace = jobs.Pace([base.folder])
    assert list(pace.known.values()) == [1.0]
    assert pace.seconds(base.recipe) is None  # no other stage was measured
    assert pace.seconds(wanted[0].recipe) == pytest.approx(gold)  # FiD's, as GLIMMER's of the same batch, k and m
    assert jobs.steps_done(base) == gold
    log += [{"step": end, "seconds": end} for end in (gold + sum(others[:i]) for i in range(1, len(others) + 1))]
    (base.folder / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in log), "utf-8")
    assert jobs.Pace([base.folder]).seconds(base.recipe, gold) == pytest.approx(sum(others))
    placed(base, base.recipe.steps, gold)
    assert not base.finished("numba")  # its last evaluation is missing
    placed(base, base.recipe.steps, base.recipe.steps)
    assert base.finished("numba")
    with pytest.raises(InputError, match="another --out"):
        base._replace(recipe=recipes.recipe_of(experiments.GLIMMER, "mini", 0, 0.5)).finished("numba")


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(BENCHMARKS / "miniature" / "main.py"), *arguments]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_a_plan_starts_nothing(tmp_path: Path) -> None:
    done = command("train", "--data", "none", "--out", str(tmp_path / "out"), "--figures", "4,table2", "--plan")
    assert done.returncode == 0, done.stderr
    assert "all together: 8 trainings, not known left" in done.stdout
    assert not (tmp_path / "out").exists()
    some = ("train", "--data", "none", "--out", "x", "--figures", "table2", "--plan", "--only")
    assert "all together: 2 trainings" in command(*some, "frozen memory").stdout, "and the reader that it begins from"
    unknown = command(*some, "frozen").stderr
    assert unknown.startswith(
        "benchmarks/miniature/main.py: error: --only: names of trainings, as --plan prints them; got frozen"
    )
    wrong = command("train", "--data", "none", "--out", "x", "--figures", "9")
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("benchmarks/miniature/main.py: error: --figures: some of 3,4,5,7")


@pytest.mark.slow
def test_everything_at_toy_size_and_again(tmp_path: Path) -> None:
    quick = [sys.executable, str(BENCHMARKS / "miniature" / "main.py"), "train", "--quick", "--out", str(tmp_path)]
    with subprocess.Popen(quick, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as stopped:
        while not (tmp_path / "glimmer" / "0" / "last").exists():
            assert stopped.poll() is None
            time.sleep(0.1)
        stopped.terminate()
        _, complaint = stopped.communicate()
    assert stopped.returncode == 130
    assert complaint.splitlines()[-1] == "stopped; the same command continues"
    first = command("train", "--quick", "--out", str(tmp_path))
    assert first.returncode == 0, first.stderr
    files = sorted(p.name for p in (tmp_path / "results").iterdir())
    names = [f"trends-{kind}" for kind in
             ("figure-3", "figure-4", "figure-5", "figure-7", "table-1", "table-2", "table-3")]  # fmt: skip
    assert files == sorted(f"{name}.{kind}" for name in names for kind in ("json", "md", "png"))
    for name in names:
        result = json.loads((tmp_path / "results" / f"{name}.json").read_text("utf-8"))
        assert result["not_done"] == {} and result["machine"]["cores"] and result["versions"]["numpy"]
        for panel in result["panels"]:
            assert all(p.ours is not None for row in summary.rows(result, panel) for p in row.pairs)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/0/last/*")}
    again = command("train", "--quick", "--out", str(tmp_path))
    assert again.returncode == 0, again.stderr
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/0/last/*")} == before
    assert "all together: 16 trainings, 0 min left" in again.stdout
