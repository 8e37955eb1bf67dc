"""What a base is trained with: steps at any cut, small contributions to the residual stream; and saying no."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import learning
import numpy as np
import pytest

from glimmer_ref.config import GlimmerConfig
from glimmer_ref.errors import InputError
from glimmer_ref.ops import bind
from glimmer_ref.params.model import Model, from_arrays, leaves
from glimmer_ref.params.recut import recut
from glimmer_ref.text.tokenizer import Tokenizer
from glimmer_ref.training import log as report
from glimmer_ref.training import loop
from glimmer_ref.training.batches import Batch, sample_batch, task_shares
from glimmer_ref.training.dataset import Corpus, folders, read_corpus
from glimmer_ref.training.init import adds_to_residual, first_model
from glimmer_ref.training.recipe import Stage
from glimmer_ref.training.recipe_file import read_recipe
from glimmer_ref.training.step import StepContext, any_cut, any_system

NUMPY = bind("numpy")
BASE = ('model.alpha="1"', 'model.beta="0"', "model.glimmer.no_answer=lives in")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("world")
    (place / "recipe.toml").write_text(learning.write_world(place), "utf-8")
    return place


@pytest.fixture(scope="module")
def model(root: Path) -> Model:
    recipe = read_recipe(root / "recipe.toml", BASE)
    drawn = first_model(recipe.model, 0, Tokenizer(root / "tokenizer.json").size)
    return from_arrays(drawn.config, {name: x.astype(np.float64) for name, x in leaves(drawn).items()})


@pytest.fixture(scope="module")
def corpus(root: Path, model: Model) -> Corpus:
    return read_corpus(model.config, Tokenizer(root / "tokenizer.json"), folders(root, ["train-*"]))


def stage(**changes: Any) -> Stage:
    return Stage(**{"steps": 1, "batch": 3, "k": 4, "m": 2, "rate": 1e-2, "direction": "reverse", **changes})


def drawn(corpus: Corpus, how: Stage) -> Batch:
    return sample_batch(corpus, how, task_shares(corpus, how.tasks, "tasks"), None, np.random.default_rng(0))


def in_the_joined_stack(config: GlimmerConfig, gradients: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The gradients of a model's weights under the names of a model that is not cut; those of tables are added."""

    def joined(name: str) -> str:
        name = re.sub(r"^live\.layer_(\d+)", lambda m: f"live.layer_{int(m[1]) + config.num_memory_layers}", name)
        return re.sub(r"^memory\.(layer_|relative)", r"live.\1", name)

    result: dict[str, np.ndarray] = {}
    for name, x in gradients.items():
        result[joined(name)] = result.get(joined(name), 0) + x
    return result


@pytest.mark.parametrize("seed", range(8))
def test_the_gradients_at_a_cut_are_those_of_the_model_cut_there(model: Model, corpus: Corpus, seed: int) -> None:
    how = stage(cuts="any", force_gold=0.5)
    batch = drawn(corpus, how)
    got = StepContext(NUMPY, model.config, "fid", how, frozenset()).loss_and_gradients(
        leaves(model), batch, np.random.default_rng(seed)
    )
    system, cut = any_cut(model, np.random.default_rng(seed))
    context = StepContext(NUMPY, cut.config, system, replace(how, cuts="own"), frozenset())
    expected = context.loss_and_gradients(leaves(recut(model, cut.config)), batch, np.random.default_rng(seed))
    assert got.losses == expected.losses
    wanted = in_the_joined_stack(cut.config, expected.gradients)
    for name, x in got.gradients.items():
        np.testing.assert_allclose(x, wanted.get(name, np.zeros_like(x)), rtol=1e-9, atol=1e-14, err_msg=name)


@pytest.mark.parametrize("seed", range(4))
def test_a_step_of_any_system_is_a_step_of_the_drawn_one(model: Model, corpus: Corpus, seed: int) -> None:
    how = stage(cuts="systems", force_gold=0.5)
    batch, weights = drawn(corpus, how), leaves(model)
    system = any_system(np.random.default_rng(seed))
    steps = [
        StepContext(NUMPY, model.config, name, some, frozenset()).loss_and_gradients(
            weights, batch, np.random.default_rng(seed)
        )
        for name, some in (("glimmer", how), (system, replace(how, cuts="own")))
    ]
    assert steps[0].losses == steps[1].losses and (steps[0].recall is None) == (system != "glimmer")
    for name, x in steps[0].gradients.items():
        np.testing.assert_array_equal(x, steps[1].gradients[name])


def test_every_system_and_every_cut_is_drawn(model: Model) -> None:
    rng = np.random.default_rng(0)
    found = [(system, cut.config) for system, cut in (any_cut(model, rng) for _ in range(400))]
    assert {system for system, _ in found} == {any_system(rng) for _ in range(40)} == {"glimmer", "lumen", "fid"}
    drawn = [any_system(rng) for _ in range(2000)]
    assert drawn.count("glimmer") == pytest.approx(1000, abs=100)  # 4.5 standard deviations
    cuts = {(c.num_live_layers, c.num_rerank_layers) for _, c in found}
    assert cuts == {(live, rerank) for live in range(4) for rerank in range(live + 1)}


def test_a_smaller_residual_scales_what_layers_add(root: Path) -> None:
    table = read_recipe(root / "recipe.toml").model
    plain, small = (leaves(first_model(replace(table, residual_scale=s), 0, 64)) for s in (1.0, 0.25))
    scaled = {name for name in plain if not np.array_equal(plain[name], small[name])}
    assert scaled == {name for name in plain if adds_to_residual(name)}
    assert {name.rsplit(".", 1)[-1] for name in scaled} == {"o", "wo"}
    assert not any(name.startswith("decoder") for name in scaled)
    for name in scaled:
        np.testing.assert_array_equal(small[name], 0.25 * plain[name])


def test_where_no_passage_has_the_answer_the_answer_is_no(corpus: Corpus, model: Model) -> None:
    batch = drawn(corpus, stage(batch=300, no_answer=0.4, negatives={"random": 1.0, "candidates": 1.0}))
    says_no = [target.tobytes() == corpus.no_answer.tobytes() for target in batch.target]
    assert 0.3 < np.mean(says_no) < 0.5
    assert corpus.no_answer[-1] == model.config.t5.eos_token_id and corpus.no_answer.size == 3
    assert all(no != bool(gold) for no, gold in zip(says_no, batch.gold, strict=True))
    ends = np.cumsum(batch.counts)
    gold = {q.ids.tobytes() + bytes(q.folder): q.gold for some in corpus.tasks.values() for q in some}
    for i, no in enumerate(says_no):
        question = batch.question[i].tobytes()
        rows = {batch.passages[j].tobytes() for j in range(ends[i] - 4, ends[i])}
        golds = [{corpus.passages[r].tobytes() for r in g} for key, g in gold.items() if key.startswith(question)]
        assert len(rows) == 4 and (not no or not any(rows >= g for g in golds if len(golds) == 1))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["stages.0.no_answer=0.1"], "stages.0.no_answer: expected 0, or model.glimmer.no_answer beside it"),
        (
            ["stages.0.no_answer=0.1", "model.glimmer.no_answer=nothing"],
            "model.glimmer.no_answer: expected words of the",
        ),
        (
            ["stages.0.no_answer=0.1", "model.glimmer.no_answer=lives in", "stages.0.k=24"],
            "stages.0.k: expected at most 23, the passages",
        ),
        (
            ['stages.0.cuts="any"', 'stages.0.frozen=["memory"]'],
            'stages.0.frozen: expected no weights, beside cuts = "any"',
        ),
    ],
)
def test_what_does_not_go_together_is_refused(root: Path, tmp_path: Path, changes: list[str], said: str) -> None:
    with pytest.raises(InputError) as error:
        loop.train(read_recipe(root / "recipe.toml", changes), tmp_path / "out", "numpy")
    assert str(error.value).startswith(said)


def test_progress_fits_the_terminal_and_is_written_elsewhere_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = {"step": 4000, "loss": 1.5, "lm": 1.25, "pdist": 0.25, "recall": 0.5}
    monkeypatch.setattr(report, "watched", lambda: True)
    monkeypatch.setattr(report, "REDRAWN", 0.0)
    for columns, parts in ((80, "loss 1.50  dev 93.8"), (30, "")):
        monkeypatch.setenv("COLUMNS", str(columns))
        line = report.StatusLine(13_650)
        line.exact_match = 93.75
        line.update({**record, "step": 1}, "gold")
        assert capsys.readouterr().err == "", "the first step, which compiles kernels, says nothing about the others"
        line.update(record, "gold")
        shown = capsys.readouterr().err.removeprefix("\r\x1b[K")
        assert len(shown) < columns and shown.startswith("gold 4000/13650") and shown.endswith("left")
        assert parts in shown
    monkeypatch.setattr(report, "watched", lambda: False)
    monkeypatch.setattr(report, "LINES", 0.0)
    line = report.StatusLine(13_650)
    line.update({**record, "step": 1}, "gold")
    line.update(record, "gold")
    line.clear()
    assert re.fullmatch(r"gold 4000/13650  loss 1.50  .* left\n", capsys.readouterr().err)
