"""Published names: each becomes the right leaf, and nothing is missing, left over or trimmed in silence."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from models import T5, config
from published import Named, fid, hugging_face, t5x

from glimmer_ref.config import GlimmerConfig
from glimmer_ref.errors import InputError
from glimmer_ref.params.model import Model, leaves, random, shapes
from glimmer_ref.params.name_maps import plan
from glimmer_ref.params.safetensors_io import Stored

T5_1_0 = replace(T5, feed_forward_proj="relu")
STYLES: dict[str, Callable[[Named], Named]] = {
    "Hugging Face": lambda named: named,
    "FiD": fid,
    "t5x": t5x,
    "t5x with dots": lambda named: {name.replace("/", "."): x for name, x in t5x(named).items()},
}


def stored(named: Named) -> dict[str, Stored]:
    return {name: Stored("F32", np.asarray(x)) for name, x in named.items()}


def translated(settings: GlimmerConfig, named: Named) -> Named:
    return {ours: named[line.theirs].T if line.transposed else named[line.theirs] for ours, line in
            plan(settings, stored(named)).items()}  # fmt: skip


def one_encoder(model: Model) -> Model:
    """A model whose parts all come from one T5 encoder: equal tables, copied layers."""
    table = model.memory.relative_attention_bias
    live = replace(model.live, relative_attention_bias=table)
    reranker = model.reranker and replace(live, layers=live.layers[: model.config.num_rerank_layers])
    return replace(model, live=live, question=model.question and model.memory, reranker=reranker)


def refusal(settings: GlimmerConfig, named: Named, style: str = "Hugging Face") -> str:
    with pytest.raises(InputError) as caught:
        plan(settings, stored(named))
    return str(caught.value)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("t5", [T5, T5_1_0])
@pytest.mark.parametrize("owners", ["shared", "separate"])
@pytest.mark.parametrize("cut", [("1/2", "1/3"), ("0", "0"), ("1", "1")])
def test_every_leaf_is_found(style: str, tied: bool, t5: object, owners: str, cut: tuple[str, str]) -> None:
    settings = config(*cut, t5=t5, question_encoder=owners, reranker=owners)  # type: ignore[arg-type]
    model = one_encoder(random(settings, 0, tied=tied))
    named = hugging_face(model)
    want = leaves(model)
    got = translated(settings, STYLES[style](named))
    assert set(got) == set(want) - {"score.weight"}
    for name, x in got.items():
        np.testing.assert_array_equal(x, want[name], err_msg=name)


def test_the_score_may_stand_beside_hugging_face_names() -> None:
    for norm in (True, False):
        settings = config(score_norm=norm)
        model = one_encoder(random(settings, 0))
        got = translated(settings, hugging_face(model, score=True))
        assert set(got) == set(shapes(settings))
        np.testing.assert_array_equal(got["score.weight"], model.score.weight)
    named = hugging_face(model, score=True)
    assert "no score_norm.weight" in refusal(config(score_norm=True), named)
    gain = {"score_norm.weight": np.ones(20)}
    assert "score_norm.weight" in refusal(config(), named | gain)
    assert "score_norm.weight" in refusal(config(score_norm=True), hugging_face(model) | gain)


def test_copies_must_be_equal() -> None:
    model = one_encoder(random(config(), 0))
    named = hugging_face(model)
    copies = {f"{at}.embed_tokens.weight": model.embedding.copy() for at in ("encoder", "decoder")}
    assert set(plan(config(), stored(named | copies))) == set(shapes(config())) - {"score.weight"}
    copies["decoder.embed_tokens.weight"][60, 19] += 1e-3
    assert refusal(config(), named | copies).startswith(
        "decoder.embed_tokens.weight: expected the same values as shared.weight"
    )
    fids = {"encoder.encoder.embed_tokens.weight": model.embedding}
    assert "embedding" in plan(config(), stored(fid(named) | fids))


EMBEDDINGS = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")


@pytest.mark.parametrize("style", [dict, fid])
@pytest.mark.parametrize("kept", [range(4), [1], [2], [3], [1, 2], [2, 3], [1, 3]])
def test_the_embedding_may_have_any_of_its_names(style: Callable[[Named], Named], kept: list[int]) -> None:
    named = hugging_face(random(config(), 0, tied=True))
    table = named.pop("shared.weight")
    got = plan(config(), stored(style(named | {EMBEDDINGS[i]: table.copy() for i in kept})))
    assert got["embedding"].theirs == next(iter(style({EMBEDDINGS[kept[0]]: table})))
    assert set(got) == set(shapes(config(), tied=True)) - {"score.weight"}
    for i in kept[1:]:
        other = {EMBEDDINGS[j]: table + (i == j) for j in kept}
        if EMBEDDINGS[i] == "lm_head.weight":
            assert plan(config(), stored(style(named | other)))["decoder.lm_head"].theirs == "lm_head.weight"
        else:
            said = f"{next(iter(style({EMBEDDINGS[i]: table})))}: expected the same values as {got['embedding'].theirs}"
            assert refusal(config(), style(named | other)).startswith(said)


def test_a_head_equal_to_the_embedding_is_tied() -> None:
    named = hugging_face(random(config(), 0))
    tied = named | {"lm_head.weight": named["shared.weight"].copy()}
    assert "decoder.lm_head" not in plan(config(), stored(tied))
    assert "decoder.lm_head" not in plan(config(), stored(t5x(tied)))
    tied["lm_head.weight"][0, 0] += 1e-6
    assert "decoder.lm_head" in plan(config(), stored(tied))
    nan = named | {"lm_head.weight": named["shared.weight"].copy()}
    nan["lm_head.weight"][0, 0] = nan["shared.weight"][0, 0] = np.nan
    assert "decoder.lm_head" not in plan(config(), stored(nan))


@pytest.mark.parametrize("style", STYLES)
def test_every_missing_tensor_is_named(style: str) -> None:
    named = STYLES[style](hugging_face(random(config(), 0)))
    for name in named:
        rest = {other: x for other, x in named.items() if other != name}
        if "lm_head" in name or "logits_dense" in name:
            plan(config(), stored(rest))
        elif name == "shared.weight":  # lm_head stands in for it
            assert plan(config(), stored(rest))["embedding"].theirs == "lm_head.weight"
            del rest["lm_head.weight"]
            assert "got no shared.weight" in refusal(config(), rest)
        else:
            assert f"got no {name}" in refusal(config(), rest)


@pytest.mark.parametrize("style", STYLES)
def test_every_wrong_shape_is_named(style: str) -> None:
    named = STYLES[style](hugging_face(random(config(), 0), score=style == "Hugging Face"))
    for name, x in named.items():
        for wrong in (x[:-1], x[None], x.ravel()[:1], x.T):
            if wrong.shape != x.shape:
                shape = re.escape(f"{name}: expected shape {list(x.shape)}; got {list(wrong.shape)}")
                assert re.match(shape, refusal(config(), named | {name: wrong}))


def test_left_over_tensors_are_named() -> None:
    named = hugging_face(random(config(), 0))
    assert "also encoder.block.6.layer.0.SelfAttention.q.weight" in refusal(
        config(), named | {"encoder.block.6.layer.0.SelfAttention.q.weight": np.zeros((18, 20))}
    )
    fewer = replace(T5, num_layers=4)
    assert "also encoder.block.4." in refusal(config("1/2", "1/2", t5=fewer), named)
    assert "wi_0" in refusal(config(t5=T5_1_0), named)
    assert "DenseReluDense.wi.weight" in refusal(config(), hugging_face(random(config(t5=T5_1_0), 0)))
    assert "also score.weight" in refusal(config(), t5x(named) | {"score.weight": np.zeros((1, 20))})


def test_other_models_are_refused() -> None:
    named = hugging_face(random(config(), 0))
    for wrap in (dict, fid):
        message = refusal(config(), wrap(named) | {
            "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight": np.zeros((32, 3))
        })  # fmt: skip
        assert message.startswith("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight")
        assert "D19" in message
    for name in ("encoder/encoder/attention/query/kernel", "decoder.decoder.mlp.wo.kernel", "encoder/layers/mlp/wi"):
        assert "stacked" in refusal(config(), {name: np.zeros((20, 6, 18))} | {str(i): np.zeros(1) for i in range(9)})
    assert "names of T5" in refusal(config(), {f"bert.{i}": np.zeros(2) for i in range(9)})
    assert "no tensors" not in refusal(config(), {}) and "0 tensors" in refusal(config(), {})


def test_a_config_with_absurdly_many_layers_costs_nothing() -> None:
    huge = replace(T5, num_layers=10**12)
    assert "tensors for" in refusal(config("0", "0", t5=huge), hugging_face(random(config(), 0)))
