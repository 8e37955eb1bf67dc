"""GTR: by its equation, by sentence-transformers, and what is refused of a folder."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gtr_folder import OUT, write_gtr

from glimmer_ref.errors import InputError
from glimmer_ref.ops import bind
from glimmer_ref.params.safetensors_io import map_tensors, write_tensors
from glimmer_ref.retrieval.gtr import GTR, load

TEXTS = [
    "Who wrote The Crooked Sailor?",
    "a",
    "The man who was born in a town and lived there until he died of old age, of words",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_gtr(tmp_path / "gtr")


@pytest.mark.parametrize("projection", ["relu", "gated-gelu"])
def test_the_tellings_agree_on_unit_vectors(tmp_path: Path, projection: str) -> None:
    folder = write_gtr(tmp_path / "gtr", projection=projection)
    exact = load(folder, bind("numpy"), "float64")(TEXTS)
    assert exact.shape == (3, OUT) and exact.dtype == np.float64
    np.testing.assert_allclose(np.linalg.norm(exact, axis=1), 1, rtol=1e-15)
    for ops, dtype, most in (("numba", "float64", 1e-14), ("numpy", "float32", 1e-6), ("numba", "float32", 1e-6)):
        got = load(folder, bind(ops), dtype)(TEXTS)
        assert got.dtype == dtype and np.abs(got - exact).max() < most


def test_a_text_is_closed_and_cut(folder: Path) -> None:
    gtr = load(folder, bind("numpy"))
    assert gtr._ids("a") == [*gtr.tokenizer.encode("a"), 1]
    long = gtr._ids(TEXTS[2])
    assert long == [*gtr.tokenizer.encode(TEXTS[2])[:15], 1] and len(long) == gtr.max_tokens == 16


def test_what_else_is_in_the_batch_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gtr = load(folder, bind("numpy"), "float64")
    together = gtr(TEXTS)
    monkeypatch.setattr("glimmer_ref.retrieval.gtr.BATCH_TOKENS", 1)
    np.testing.assert_allclose(gtr(TEXTS), together, atol=1e-14)
    assert gtr([]).shape == (0, OUT)


def test_the_digest_is_of_all_that_decides(tmp_path: Path) -> None:
    def digest(name: str, **settings: Any) -> str:
        return load(write_gtr(tmp_path / name, **settings), bind("numpy")).digest

    assert digest("a") == digest("b") == load(tmp_path / "a", bind("numba"), "float64").digest
    assert len({digest("c"), digest("d", seed=1), digest("e", most=17)}) == 3


def test_the_published_form_is_read_too(tmp_path: Path) -> None:
    """Flags for the pooling, the length beside the module, float16, and the embedding a second time."""
    old, new = write_gtr(tmp_path / "old", new=False), write_gtr(tmp_path / "new")
    arrays = {name: x.raw.astype(np.float16) for name, x in map_tensors(old / "model.safetensors").items()}
    arrays["encoder.embed_tokens.weight"] = arrays["shared.weight"]
    write_tensors(old / "model.safetensors", arrays)
    a, b = (load(path, bind("numpy")) for path in (old, new))
    assert a.max_tokens == b.max_tokens
    assert np.abs(a(TEXTS) - b(TEXTS)).max() < 2.5e-3  # of float16's weights; measured 1.3e-3


def broken(folder: Path, name: str, **changes: Any) -> None:
    path = folder / name
    data = json.loads(path.read_text("utf-8"))
    (data[0] if isinstance(data, list) else data).update(changes)
    path.write_text(json.dumps(data), "utf-8")


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("modules.json", {"type": "models.CNN"}, "the modules Transformer, Pooling, Dense, Normalize; got CNN"),
        ("modules.json", {"path": "../x"}, "folders beside it"),
        ("1_Pooling/config.json", {"pooling_mode": "cls"}, "the mean over tokens"),
        ("2_Dense/config.json", {"bias": True}, "bias=false; got true"),
        ("2_Dense/config.json", {"activation_function": "torch.nn.Tanh"}, "Identity"),
        ("tokenizer_config.json", {"model_max_length": 1}, "a whole number"),
        ("tokenizer_config.json", {"model_max_length": True}, "a whole number"),
        ("tokenizer_config.json", {"model_max_length": 10**19}, "a whole number from 2 to 1048576"),
        ("tokenizer_config.json", {"model_max_length": "x"}, "a whole number"),
        ("tokenizer.json", {"post_processor": None}, "a post-processor that closes with </s>"),
        ("config.json", {"num_layers": 3}, "no encoder.block.2.layer.0.layer_norm.weight"),
        ("config.json", {"num_layers": 1}, "T5's encoder alone; got also encoder.block.1"),
        ("config.json", {"d_ff": 25}, "in our layout"),
        ("config.json", {"vocab_size": 9}, "at most the model's vocab_size=9"),
    ],
)  # fmt: skip
def test_other_models_are_refused(folder: Path, name: str, changes: dict[str, Any], said: str) -> None:
    broken(folder, name, **changes)
    with pytest.raises(InputError, match=said) as error:
        load(folder, bind("numpy"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["modules.json", "config.json", "model.safetensors", "2_Dense/model.safetensors", "1_Pooling/config.json"]
)
def test_a_file_that_is_missing_or_damaged_is_named(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"\x00{")
    with pytest.raises(InputError):
        load(folder, bind("numpy"))
    (folder / name).unlink()
    with pytest.raises(InputError, match=name.rpartition("/")[2].partition(".")[0]):
        load(folder, bind("numpy"))


@pytest.mark.parametrize("unlimited", [None, int(1e30), 1e30, int(1e20)])
def test_a_tokenizer_without_limit_leaves_it_to_the_module(folder: Path, unlimited: float | None) -> None:
    broken(folder, "tokenizer_config.json", model_max_length=unlimited)
    assert load(folder, bind("numpy")).max_tokens == 512
    for stated, most in ((None, 512), (16, 16), (int(1e30), 512)):
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": stated}))
        assert load(folder, bind("numpy")).max_tokens == most
    broken(folder, "tokenizer_config.json", model_max_length=300)
    assert load(folder, bind("numpy")).max_tokens == 300


def test_the_embedding_may_have_its_copys_name_alone(folder: Path) -> None:
    whole = load(folder, bind("numpy"))(TEXTS)
    arrays = {name: x.raw.copy() for name, x in map_tensors(folder / "model.safetensors").items()}
    arrays["encoder.embed_tokens.weight"] = arrays.pop("shared.weight")
    write_tensors(folder / "model.safetensors", arrays)
    np.testing.assert_array_equal(load(folder, bind("numpy"))(TEXTS), whole)
    arrays["decoder.embed_tokens.weight"] = arrays["encoder.embed_tokens.weight"] + 1
    write_tensors(folder / "model.safetensors", arrays)
    with pytest.raises(
        InputError, match=r"decoder\.embed_tokens\.weight: expected a copy of encoder\.embed_tokens\.weight"
    ):
        load(folder, bind("numpy"))


def test_copies_that_differ_and_prompts_are_refused(folder: Path) -> None:
    arrays = {name: x.raw.copy() for name, x in map_tensors(folder / "model.safetensors").items()}
    write_tensors(folder / "model.safetensors", {**arrays, "encoder.embed_tokens.weight": arrays["shared.weight"] + 1})
    with pytest.raises(InputError, match=r"a copy of shared\.weight"):
        load(folder, bind("numpy"))
    write_tensors(folder / "model.safetensors", arrays)
    (folder / "config_sentence_transformers.json").write_text('{"default_prompt_name": "query"}')
    with pytest.raises(InputError, match="default_prompt_name=null"):
        load(folder, bind("numpy"))


def test_texts_that_cannot_be_embedded_are_refused(folder: Path) -> None:
    gtr: GTR = load(folder, bind("numpy"))
    for text in ("", " \n", "\ud800"):
        with pytest.raises(InputError, match="text"):
            gtr([text])


@pytest.mark.skipif(find_spec("sentence_transformers") is None, reason="needs the witness extra; .ci/run installs it")
@pytest.mark.parametrize("projection", ["relu", "gated-gelu"])
@pytest.mark.filterwarnings("ignore")
def test_sentence_transformers_embeds_the_same(tmp_path: Path, projection: str) -> None:
    """Its T5 norms and softmaxes are float32's even in float64: 3e-8 was measured."""
    from sentence_transformers import SentenceTransformer

    folder = write_gtr(tmp_path / "gtr", projection=projection)
    theirs = SentenceTransformer(str(folder), device="cpu").double().encode(TEXTS, convert_to_numpy=True)
    ours = load(folder, bind("numpy"), "float64")(TEXTS)
    assert np.abs(ours - theirs).max() < 3e-7
