"""Model folders: read, cut, written, and refused whole when anything is wrong with them."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import T5, config
from published import fid, hugging_face, t5x, write_t5
from test_names import one_encoder

from glimmer_ref.disk.read import MAX_JSON_BYTES, read_json
from glimmer_ref.errors import InputError
from glimmer_ref.params import checkpoint
from glimmer_ref.params.checkpoint import convert, decode, from_t5, load, open_checkpoint, save
from glimmer_ref.params.model import Model, leaves, map_named, random
from glimmer_ref.params.safetensors_io import Stored, write_tensors
from glimmer_ref.ragged import bfloat16

MODEL = one_encoder(random(config(), 0, "float32"))
T5_JSON = {
    "architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "vocab_size": 61, "d_model": 20, "d_kv": 6,
    "d_ff": 28, "num_layers": 6, "num_decoder_layers": 2, "num_heads": 3, "relative_attention_num_buckets": 32,
    "feed_forward_proj": "gated-gelu", "layer_norm_epsilon": 1e-6, "dropout_rate": 0.1, "pad_token_id": 0,
    "tie_word_embeddings": False, "decoder_start_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
CUT = {"num_memory_layers": 3, "num_live_layers": 3, "num_rerank_layers": 1}


def same(got: Model, want: Model, but: tuple[str, ...] = ()) -> None:
    a, b = leaves(got), leaves(want)
    assert list(a) == list(b)
    for name in set(a) - set(but):
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def refusal(folder: Path, **more: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(folder, **more)
    message = str(caught.value)
    assert "\n" not in message
    return message


def ours(folder: Path, model: Model = MODEL) -> Path:
    save(folder, model)
    return folder


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_saved_is_loaded(tmp_path: Path, tied: bool, dtype: str) -> None:
    settings = config(
        pool="mean", score_norm=True, passage_offset=48, question_encoder="separate", reranker="separate",
        question_prefixes=("fact:", "frage: ä"), question_tokens=7, t5=replace(T5, feed_forward_proj="relu"),
    )  # fmt: skip
    model = random(settings, 1, dtype, tied=tied)
    save(tmp_path / "x", model, '{"a": "ä☃"}')
    got = load(tmp_path / "x", dtype)
    same(got, model)
    assert got.config == replace(settings, t5=replace(settings.t5, scale_decoder_outputs=tied))
    assert {x.dtype.name for x in leaves(got).values()} == {dtype}
    assert (tmp_path / "x/tokenizer.json").read_text(encoding="utf-8") == '{"a": "ä☃"}'
    assert {x.dtype for x in open_checkpoint(tmp_path / "x").values()} == {"F32" if dtype == "float32" else "F64"}
    save(tmp_path / "y", load(tmp_path / "x", dtype), '{"a": "ä☃"}')
    assert (tmp_path / "x/model.safetensors").read_bytes() == (tmp_path / "y/model.safetensors").read_bytes()


def test_scaling_follows_the_config_and_otherwise_the_head(tmp_path: Path) -> None:
    for tied in (True, False):
        for said in (True, False, None):
            settings = config(t5=replace(T5, scale_decoder_outputs=said))
            folder = tmp_path / f"{tied}{said}"
            save(folder, random(settings, 0, tied=tied))
            assert load(folder).config.t5.scale_decoder_outputs is (tied if said is None else said)


def test_named_weights_have_the_names_of_leaves() -> None:
    """In `map_named` as in files and traces: who picks a weight by its name picks one."""
    model, names = random(config(), seed=0), list[str]()
    map_named(lambda name, x: names.append(name) or x, model)
    assert names == list(leaves(model))


def test_leaves_are_their_own_arrays(tmp_path: Path) -> None:
    folder = write_t5(tmp_path / "t5", hugging_face(MODEL), T5_JSON)
    for model in (
        load(ours(tmp_path / "x")),
        from_t5(folder, "1/2", "1/3", 0, question_encoder="separate", reranker="separate"),
    ):
        arrays = list(leaves(model).values())
        assert all(x.flags.writeable and x.flags.c_contiguous and x.flags.aligned for x in arrays)
        assert len({x.ctypes.data for x in arrays}) == len(arrays)


def test_a_t5_is_cut(tmp_path: Path) -> None:
    folder = write_t5(tmp_path / "t5", hugging_face(MODEL), T5_JSON)
    got = from_t5(folder, "1/2", "1/3", 7)
    same(got, MODEL, but=("score.weight",))
    assert got.config == replace(config(), t5=replace(T5, scale_decoder_outputs=False))
    again, other = from_t5(folder, "1/2", "1/3", 7), from_t5(folder, "1/2", "1/3", 8, score_norm=True)
    same(again, got)
    assert not np.array_equal(other.score.weight, got.score.weight) and other.config.score_norm
    assert other.score.norm is not None and (other.score.norm == 1).all()
    assert 0.5 < got.score.weight.std() * 20**0.5 < 2 and got.score.weight.dtype == np.float32
    for style in (fid, t5x):
        same(from_t5(write_t5(tmp_path / style.__name__, style(hugging_face(MODEL)), T5_JSON), "1/2", "1/3", 7), got)
    with pytest.raises(InputError, match="score layer"):
        load(write_t5(tmp_path / "t5", hugging_face(MODEL), T5_JSON | {"glimmer": CUT}))


def test_a_cut_that_is_missing_or_double_is_refused(tmp_path: Path) -> None:
    folder = write_t5(tmp_path / "t5", hugging_face(MODEL), T5_JSON)
    for alpha, beta in ((None, None), ("1/2", None), (None, "1/3")):
        with pytest.raises(InputError, match="both"):
            from_t5(folder, alpha, beta, 0)
    with pytest.raises(InputError, match="share of 6 layers"):
        from_t5(folder, "1/4", "1/3", 0)
    with_cut = write_t5(tmp_path / "cut", hugging_face(MODEL, score=True), T5_JSON | {"glimmer": CUT})
    with pytest.raises(InputError, match="section"):
        from_t5(with_cut, "1/2", "1/3", 0)
    got = from_t5(with_cut, None, None, 0, pool="mean")
    same(got, MODEL)
    assert got.config.pool == "mean"
    same(load(with_cut), MODEL)


def test_convert_writes_what_load_reads(tmp_path: Path) -> None:
    folder = write_t5(tmp_path / "t5", hugging_face(MODEL), T5_JSON)
    convert(folder, tmp_path / "a", "1/2", "1/3", 7)
    assert not (tmp_path / "a/tokenizer.json").exists()
    made = convert(folder, tmp_path / "b", "1/2", "1/3", 7, tokenizer_json='{"version": "1.0"}', k=9, m=2)
    assert (tmp_path / "b/tokenizer.json").read_text() == '{"version": "1.0"}'
    got = load(tmp_path / "b")
    same(got, made)
    assert got.config == made.config and (got.config.k, got.config.m) == (9, 2)
    (tmp_path / "d").mkdir()
    (tmp_path / "d/file").touch()
    with pytest.raises(InputError, match="new or empty"):
        convert(tmp_path / "absent", tmp_path / "d", "1/2", "1/3", 7)


def test_two_converts_at_once_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one before its work, not after it."""
    folder = write_t5(tmp_path / "t5", hugging_face(MODEL), T5_JSON)
    real = checkpoint.from_t5

    def and_another(*args: Any, **more: Any) -> Any:
        monkeypatch.setattr(checkpoint, "from_t5", real)
        with pytest.raises(InputError, match="out: expected one writer at a time; got a second one"):
            convert(folder, tmp_path / "out", "1/2", "1/3", 7)
        return real(*args, **more)

    monkeypatch.setattr(checkpoint, "from_t5", and_another)
    convert(folder, tmp_path / "out", "1/2", "1/3", 7)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "t5"]


def test_saving_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    same(load(ours(tmp_path / "empty")), MODEL)
    (tmp_path / "file").touch()
    for taken in ("empty", "file"):
        with pytest.raises(InputError, match="new or empty"):
            ours(tmp_path / taken)
    with pytest.raises(InputError, match="no such f"):
        ours(tmp_path / "nowhere" / "x")
    with pytest.raises(InputError, match="surrogate"):
        save(tmp_path / "x", MODEL, "\ud800")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_json", full)
    with pytest.raises(InputError, match="No space left"):
        ours(tmp_path / "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "file"]


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, "[]", "null", '{"glimmer": 1}', "{}", '{"a": NaN}', "\0", "1e999"]
)
def test_bad_config_json_is_refused(tmp_path: Path, text: str) -> None:
    folder = ours(tmp_path / "x")
    (folder / "config.json").write_text(text)
    assert "config.json" in refusal(folder)


def test_unreadable_config_json_is_refused(tmp_path: Path) -> None:
    folder = ours(tmp_path / "x")
    path = folder / "config.json"
    path.write_bytes(b'{"a": "\xff"}')
    assert "UTF-8" in refusal(folder)
    os.truncate(path, MAX_JSON_BYTES + 1)
    assert "at most" in refusal(folder)
    path.unlink()
    assert "got no config.json" in refusal(folder)
    path.mkdir()
    assert "config.json" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"d_model": 21}, "shape"), ({"vocab_size": 64}, "embedding"), ({"num_layers": 10**9}, "layers"),
        ({"num_decoder_layers": 3}, "no decoder.layer_2"), ({"d_model": 1e30}, "d_model"), ({"d_ff": "x"}, "d_ff"),
        ({"d_model": 10**30}, "shape"), ({"num_heads": None}, "num_heads"), ({"feed_forward_proj": []}, "feed_forward"),
        ({"num_decoder_layers": 10**9}, "tensors for"),
    ],
)  # fmt: skip
def test_a_config_of_another_model_is_refused(tmp_path: Path, change: dict[str, Any], word: str) -> None:
    folder = ours(tmp_path / "x")
    data = read_json(folder / "config.json") | change
    (folder / "config.json").write_text(json.dumps(data))
    assert word in refusal(folder)
    theirs = write_t5(tmp_path / "t5", hugging_face(MODEL), T5_JSON | change)
    with pytest.raises(InputError):
        from_t5(theirs, "1/2", "1/3", 0)


def test_weights_that_are_not_weights_are_refused(tmp_path: Path) -> None:
    for name, bad in (("live.layer_0.attention.q", np.nan), ("final_norm", np.inf)):
        arrays = {key: x.copy() for key, x in leaves(MODEL).items()}
        arrays[name].flat[3] = bad
        folder = ours(tmp_path / name)
        write_tensors(folder / "model.safetensors", arrays)
        assert refusal(folder) == f"{name}: expected finite weights in float32; got 1 that are NaN or infinite"
    named = hugging_face(MODEL) | {"shared.weight": np.full((61, 20), np.nan)}
    with pytest.raises(InputError, match=r"shared\.weight: expected finite"):
        from_t5(write_t5(tmp_path / "t5", named, T5_JSON), "1/2", "1/3", 0)
    named["shared.weight"] = np.full((61, 20), 1e300)
    write_t5(tmp_path / "t5", named, T5_JSON)
    with pytest.raises(InputError, match=r"shared\.weight: expected finite weights in float32"):
        from_t5(tmp_path / "t5", "1/2", "1/3", 0)
    assert from_t5(tmp_path / "t5", "1/2", "1/3", 0, dtype="float64").embedding[0, 0] == 1e300
    named["shared.weight"] = np.zeros((61, 20), np.int64)
    with pytest.raises(InputError, match=r"shared\.weight: expected weights as .*; got I64"):
        from_t5(write_t5(tmp_path / "t5", named, T5_JSON), "1/2", "1/3", 0)
    assert "float16" in refusal(ours(tmp_path / "y"), dtype="float16")


def test_tensors_of_ours_missing_or_left_over_are_refused(tmp_path: Path) -> None:
    folder = ours(tmp_path / "x")
    arrays = leaves(MODEL)
    write_tensors(folder / "model.safetensors", {n: x for n, x in arrays.items() if n != "memory.layer_1.attention.k"})
    assert "no memory.layer_1.attention.k" in refusal(folder)
    write_tensors(folder / "model.safetensors", arrays | {"score.norm": np.ones(20)})
    assert "also score.norm" in refusal(folder)
    write_tensors(folder / "model.safetensors", {n: x for n, x in arrays.items() if n != "embedding"})
    assert "no embedding" in refusal(folder)
    (folder / "model.safetensors").unlink()
    assert "neither" in refusal(folder)


def test_half_precision_is_widened(tmp_path: Path) -> None:
    folder = write_t5(tmp_path / "t5", hugging_face(MODEL), T5_JSON)
    rounded = {}
    for kind in ("F16", "BF16"):
        named: dict[str, Any] = {}
        for name, x in hugging_face(MODEL).items():
            half = np.ascontiguousarray(x).astype(np.float16)
            named[name] = half if kind == "F16" else Stored("BF16", bfloat16(np.ascontiguousarray(x)))
        write_tensors(folder / "model.safetensors", named)
        rounded[kind] = leaves(from_t5(folder, "1/2", "1/3", 0))
    for name, x in leaves(MODEL).items():
        if name != "score.weight":
            np.testing.assert_array_equal(rounded["F16"][name], x.astype(np.float16).astype(np.float32))
            want = (bfloat16(x).astype(np.uint32) << 16).view(np.float32)
            np.testing.assert_array_equal(rounded["BF16"][name], want)


def sharded(folder: Path, places: dict[str, str] | None = None) -> tuple[Path, dict[str, str]]:
    """A T5 in two shards."""
    named = {name: np.ascontiguousarray(x) for name, x in hugging_face(MODEL).items()}
    write_t5(folder, named, T5_JSON)
    (folder / "model.safetensors").unlink()
    shards = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(named)}
    for shard in set(shards.values()):
        write_tensors(folder / shard, {name: named[name] for name, s in shards.items() if s == shard})
    index = json.dumps({"metadata": {}, "weight_map": shards | (places or {})})
    (folder / "model.safetensors.index.json").write_text(index)
    return folder, shards


def test_shards_are_joined(tmp_path: Path) -> None:
    folder, shards = sharded(tmp_path / "t5")
    same(from_t5(folder, "1/2", "1/3", 0), MODEL, but=("score.weight",))
    stored = open_checkpoint(folder)
    assert set(stored) == set(shards)
    assert all(decode(name, x, "float64").dtype == np.float64 for name, x in stored.items())


@pytest.mark.parametrize(
    ("places", "word"),
    [
        ({"extra": "model-0.safetensors"}, "extra: .*the index alone"),
        ({"shared.weight": "model-1.safetensors"}, "shared.weight: .*the shard alone|shared.weight: .*the index alone"),
        ({"extra": "model-2.safetensors"}, "model-2.safetensors: .*no such file"),
        ({"extra": "../t5/model-0.safetensors"}, "own folder"),
        ({"extra": "/etc/passwd"}, "own folder"),
        ({"extra": "..\\x"}, "own folder"),
        ({"extra": ".."}, "own folder"),
        ({"extra": ""}, "own folder"),
        ({"extra": "a\0b"}, r"a\\x00b"),
        ({"extra": 1}, "weight_map"),
    ],
)
def test_bad_shards_are_refused(tmp_path: Path, places: dict[str, Any], word: str) -> None:
    folder, _ = sharded(tmp_path / "t5", places)
    with pytest.raises(InputError, match=word):
        open_checkpoint(folder)


def test_bad_indices_are_refused(tmp_path: Path) -> None:
    folder, shards = sharded(tmp_path / "t5")
    index = json.dumps({"weight_map": {name: shard for name, shard in shards.items() if name != "shared.weight"}})
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(InputError, match=r"shared\.weight: .*the shard alone"):
        open_checkpoint(folder)
    for text in ("", "[]", "{}", '{"weight_map": {}}', '{"weight_map": []}'):
        (folder / "model.safetensors.index.json").write_text(text)
        with pytest.raises(InputError, match=r"index\.json"):
            open_checkpoint(folder)
    for empty in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match="neither"):
            open_checkpoint(empty)


def test_files_that_transformers_wrote(tmp_path: Path) -> None:
    """transformers' own T5, saved in all the ways in which T5s are published."""
    torch = pytest.importorskip("torch", reason="needs the witness extra; .ci/run installs it")
    transformers = pytest.importorskip("transformers", reason="needs the witness extra; .ci/run installs it")
    torch.manual_seed(0)
    for proj in ("gated-gelu", "relu"):
        sizes = {key: T5_JSON[key] for key in T5_JSON if key not in ("architectures", "model_type")}
        made = transformers.T5ForConditionalGeneration(
            transformers.T5Config(**sizes | {"feed_forward_proj": proj, "tie_word_embeddings": proj == "relu"})
        )
        with torch.no_grad():
            for weight in made.parameters():
                weight.normal_()
            if proj == "gated-gelu":
                made.lm_head.weight = torch.nn.Parameter(torch.randn(61, 20))
                made.config.scale_decoder_outputs = False
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            made = made.to(dtype)
            state = {name: x.detach().float().numpy() for name, x in made.state_dict().items()}
            for kind in ("whole", "sharded", "bin"):
                folder = tmp_path / f"{proj}{dtype}{kind}"
                made.save_pretrained(folder, max_shard_size="20KB" if kind == "sharded" else "1GB")
                if kind == "bin":
                    (folder / "model.safetensors").unlink()
                    torch.save(made.state_dict(), folder / "pytorch_model.bin")
                assert (len(list(folder.glob("model-*.safetensors"))) > 2) == (kind == "sharded")
                got = from_t5(folder, "1/2", "1/3", 0)
                mine = hugging_face(got)
                assert ("lm_head.weight" in mine) == (proj == "gated-gelu")
                assert set(mine) <= set(state)
                for name, x in mine.items():
                    np.testing.assert_array_equal(x, state[name], err_msg=name)
                assert got.config.t5.scale_decoder_outputs is (proj == "relu")


def test_shards_of_pytorch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the witness extra; .ci/run installs it")
    named = {name: torch.tensor(np.ascontiguousarray(x)) for name, x in hugging_face(MODEL).items()}
    write_t5(tmp_path / "t5", hugging_face(MODEL), T5_JSON)
    (tmp_path / "t5/model.safetensors").unlink()
    places = {name: f"pytorch_model-{i % 3}.bin" for i, name in enumerate(named)}
    for shard in set(places.values()):
        torch.save({name: named[name] for name, s in places.items() if s == shard}, tmp_path / "t5" / shard)
    (tmp_path / "t5/pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    same(from_t5(tmp_path / "t5", "1/2", "1/3", 0), MODEL, but=("score.weight",))
