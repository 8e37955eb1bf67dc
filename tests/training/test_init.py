"""The weights before the first step: drawn, from a T5, or from a model folder that is cut anew; and their tokenizer."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import learning
import numpy as np
import pytest
from models import config as settings
from published import hugging_face, write_t5

from glimmer_ref.config import GlimmerConfig
from glimmer_ref.errors import InputError
from glimmer_ref.params import checkpoint as files
from glimmer_ref.params.model import Model, leaves, random
from glimmer_ref.params.recut import recut
from glimmer_ref.text.tokenizer import Tokenizer
from glimmer_ref.training import loop
from glimmer_ref.training.init import first_model, first_tokenizer
from glimmer_ref.training.recipe import ModelTable
from glimmer_ref.training.recipe_file import read_recipe


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    place = tmp_path / "world"
    text = learning.write_world(place)
    (place / "recipe.toml").write_text(text, "utf-8")
    return place / "recipe.toml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder with two memory layers and four live layers, two of them before the score."""
    files.save(tmp_path / "model", random(settings("2/3", "1/2"), 0), learning.tokenizer_json())
    return tmp_path / "model"


def t5_of(folder: Path, model: Model) -> Path:
    t5 = {"model_type": "t5", "tie_word_embeddings": False, **model.config.t5.__dict__}
    return write_t5(folder, hugging_face(model), t5)


def first(folder: Path, seed: int = 0, **more: Any) -> Model:
    return first_model(ModelTable(init=str(folder), **more), seed, 61)


# Drawn, or from a T5


def test_drawn_weights_are_ready_to_learn(recipe: Path) -> None:
    model = first_model(read_recipe(recipe).model, 0, 61)
    assert model.decoder.lm_head is not None
    np.testing.assert_array_equal(model.decoder.lm_head, model.embedding * 16**-0.5)
    gains = [x for name, x in leaves(model).items() if name.endswith("norm")]
    assert gains
    assert all((x == 1).all() for x in gains)
    assert 0.1 < model.score.weight.std() < 0.4
    assert {x.dtype.name for x in leaves(model).values()} == {"float32"}


@pytest.mark.parametrize("from_ours", [False, True])
def test_tables_1_and_3_start_from_t5(tmp_path: Path, from_ours: bool) -> None:
    model = random(settings(), 0)
    folder = tmp_path / "t5"
    more: dict[str, Any] = {"alpha": "1/2", "beta": "1/3"}
    if from_ours:
        files.save(folder, model)
        more = {}
    else:
        t5_of(folder, model)
    owners = {"question_encoder": "separate", "reranker": "separate"}
    copied = leaves(first_model(ModelTable(init=str(folder), glimmer=owners, **more), 0, 61))
    for name, x in copied.items():
        if name.startswith("question."):
            np.testing.assert_array_equal(x, copied[name.replace("question", "memory")])
        if name.startswith("reranker."):
            np.testing.assert_array_equal(x, copied[name.replace("reranker", "live")])
    scratch = leaves(first_model(ModelTable(init=str(folder), glimmer=owners, reranker_init="scratch", **more), 0, 61))
    different = {name for name in copied if not np.array_equal(copied[name], scratch[name])}
    assert different == {name for name in copied if name.startswith("reranker.")}
    with pytest.raises(InputError, match='reranker = "separate" beside it'):
        first_model(ModelTable(init=str(folder), reranker_init="scratch", **more), 0, 61)


# Cut anew


@pytest.mark.parametrize(
    ("more", "layers"),
    [
        ({}, (2, 4, 2)),
        ({"alpha": "2/3", "beta": "1/2"}, (2, 4, 2)),
        ({"beta": "1/4"}, (2, 4, 1)),
        ({"alpha": "1/3"}, (4, 2, 1)),
        ({"alpha": "1", "beta": "0"}, (0, 6, 0)),
        ({"alpha": "0", "beta": "0"}, (6, 0, 0)),
    ],
)
def test_a_model_folder_is_cut_anew(folder: Path, more: dict[str, Any], layers: tuple[int, int, int]) -> None:
    theirs, model = files.load(folder), first(folder, glimmer={"k": 9, "m": 3}, **more)
    config = model.config
    assert config == GlimmerConfig(theirs.config.t5, *layers, k=9, m=3)
    want = leaves(recut(theirs, config))
    assert want.keys() == leaves(model).keys()
    for name, x in leaves(model).items():
        np.testing.assert_array_equal(x, want[name], err_msg=name, strict=True)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            {"alpha": "1/4"},
            "model.alpha: expected a share of 6 layers that is a whole number of layers; got 1/4 of 6 = 1.5",
        ),
        (
            {"alpha": "1/2"},
            "model.beta: expected a share of 3 layers that is a whole number of layers; got 1/2 of 3 = 1.5",
        ),
        ({"alpha": "half"}, "model.alpha: expected a proportion between 0 and 1"),
        ({"t5": {"d_model": 20, "num_layers": 12}}, "model.t5.num_layers: expected 6, as in "),
        ({"t5": {"num_layers": 12}, "alpha": "1/12"}, "model.t5.num_layers: expected 6, as in "),
        ({"t5": {"d_model": 96}}, "model.t5.d_model: expected 20, as in "),
        ({"tied": True}, "model.tied: expected false, as in "),
        ({"score": "keep", "glimmer": {"score_norm": True}}, 'model.score: expected "draw", since the norm'),
        ({"glimmer": {"k": 3}}, "config: m: expected a number of at most k; got k=3, m=5"),
    ],
)
def test_what_does_not_fit_the_folder_is_refused(folder: Path, more: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        first(folder, **more)


def test_sizes_of_the_folder_may_be_repeated(folder: Path) -> None:
    sizes = {name: getattr(settings().t5, name) for name in ("d_model", "d_ff", "num_layers", "layer_norm_epsilon")}
    assert leaves(first(folder, t5=sizes)).keys() == leaves(first(folder)).keys()


KEPT: list[dict[str, Any]] = [
    {}, {"beta": "1/4"}, {"alpha": "1", "beta": "0"}, {"score": "keep", "glimmer": {"pool": "mean"}}
]  # fmt: skip
DRAWN: list[dict[str, Any]] = [{"score": "draw"}, {"glimmer": {"pool": "mean"}}, {"glimmer": {"score_norm": True}}]


@pytest.mark.parametrize("more", KEPT)
def test_a_score_layer_is_kept(folder: Path, more: dict[str, Any]) -> None:
    np.testing.assert_array_equal(first(folder, **more).score.weight, files.load(folder).score.weight, strict=True)


@pytest.mark.parametrize("more", DRAWN)
def test_a_score_layer_is_drawn_by_the_seed(folder: Path, more: dict[str, Any]) -> None:
    one, again, other = (first(folder, seed, **more).score for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.weight, again.weight)
    assert not np.isin(one.weight, files.load(folder).score.weight).any()
    assert not np.isin(one.weight, other.weight).any()
    assert (one.norm is not None) == ("score_norm" in more.get("glimmer", {}))


def test_the_score_layer_of_a_t5_is_random(tmp_path: Path) -> None:
    t5, cut = t5_of(tmp_path / "t5", random(settings(), 0)), {"alpha": "1/2", "beta": "1/3"}
    by_seed = [first(t5, seed, score=how, **cut).score.weight for how in ("auto", "draw") for seed in (0, 1)]
    assert len(np.unique(by_seed)) == 4 * len(by_seed[0])
    with pytest.raises(InputError, match="since a T5 has no score layer"):
        first(t5, score="keep", **cut)


def test_a_random_reranker_replaces_one_that_the_new_cut_cannot_keep(tmp_path: Path) -> None:
    files.save(tmp_path / "model", random(settings(reranker="separate"), 0))
    theirs, got = (leaves(x) for x in (files.load(tmp_path / "model"), first(tmp_path / "model")))
    assert all(np.array_equal(got[name], x) for name, x in theirs.items())
    with pytest.raises(InputError, match='say reranker = "shared" to leave it out'):
        first(tmp_path / "model", beta="2/3")
    scratch = leaves(first(tmp_path / "model", beta="2/3", reranker_init="scratch"))
    assert "reranker.layer_1.attention.q" in scratch
    assert not np.isin(scratch["reranker.layer_0.attention.q"], theirs["reranker.layer_0.attention.q"]).any()


def test_a_trained_fid_becomes_a_glimmer_that_becomes_a_lumen(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is trained from the one before, at another cut. Some recipes repeat the sizes."""
    monkeypatch.setattr(loop, "plot_curves", lambda out: None)

    def trained(out: str, *changes: str) -> Model:
        steps = [f"stages.{i}.steps=1" for i in range(2)]
        loop.train(read_recipe(recipe, [*changes, *steps]), tmp_path / out, "numpy", say=lambda line: None)
        return files.load(tmp_path / out / "last")

    fid = trained("fid", "system=fid", 'model.alpha="1"', 'model.beta="0"')
    init = f"model.init={json.dumps(str(tmp_path / 'fid/last'))}"
    glimmer = trained("glimmer", init, 'every_stage.frozen=["live.layer_0", "memory"]')
    assert (len(glimmer.memory.layers), len(glimmer.live.layers), glimmer.config.num_rerank_layers) == (1, 2, 1)
    np.testing.assert_array_equal(glimmer.memory.layers[0].attention.q, fid.live.layers[0].attention.q)
    np.testing.assert_array_equal(glimmer.memory.relative_attention_bias, fid.live.relative_attention_bias)
    np.testing.assert_array_equal(glimmer.live.layers[0].feed_forward.wo, fid.live.layers[1].feed_forward.wo)
    assert not np.array_equal(glimmer.live.layers[1].feed_forward.wo, fid.live.layers[2].feed_forward.wo)
    init = f"model.init={json.dumps(str(tmp_path / 'glimmer/last'))}"
    again = [init, "model.t5={}", 'data.tokenizer=""', "system=lumen", 'model.alpha="1/3"', 'model.beta="0"']
    lumen = trained("lumen", *again)
    assert (len(lumen.memory.layers), len(lumen.live.layers)) == (2, 1)


# The tokenizer


def test_the_folders_tokenizer_must_be_that_of_the_data(recipe: Path, folder: Path) -> None:
    said, place = read_recipe(recipe, [f"model.init={json.dumps(str(folder))}", "model.t5={}"]), recipe.parent
    path, text = place / "tokenizer.json", learning.tokenizer_json()
    assert first_tokenizer(said, place).json == text
    path.write_text(json.dumps(json.loads(text), indent=1), "utf-8")
    assert first_tokenizer(said, place).size == Tokenizer(folder / "tokenizer.json").size
    path.write_text(text.replace("Town0", "Town9"), "utf-8")
    with pytest.raises(InputError, match=re.escape(f"the tokenizer of {folder}; got another")):
        first_tokenizer(said, place)
    (folder / "tokenizer.json").unlink()
    assert "Town9" in first_tokenizer(said, place).json
