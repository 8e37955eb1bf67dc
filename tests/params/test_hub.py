"""Models by name: from Hugging Face's cache, and fetched from a server of our own; each failure is one line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gtr_folder import VOCABULARY, write_gtr
from hub_server import COMMIT, Hub, ask_here, serving
from models import config, random
from published import hugging_face, write_t5
from safetensors.numpy import load_file, save_file

from glimmer_ref import load
from glimmer_ref.cli import options
from glimmer_ref.config import T5Config
from glimmer_ref.errors import InputError
from glimmer_ref.inference.reader import bundled
from glimmer_ref.params.hub import find
from glimmer_ref.params.torch_checkpoint import read_torch

T5 = T5Config(vocab_size=VOCABULARY, d_model=8, d_kv=2, d_ff=12, num_layers=6, num_decoder_layers=2, num_heads=2)
NAME, GTR = "google/t5-tiny", "sentence-transformers/gtr-tiny"
TOKENIZER = (bundled() / "tokenizer.json").read_text("utf-8")
SHARDS = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
OTHERS = ("README.md", "pytorch_model.bin", "tf_model.h5", "onnx/model.onnx", "2_Dense/pytorch_model.bin")
Run = Any


@pytest.fixture
def t5(tmp_path: Path) -> Path:
    """A T5 with what nobody needs beside it."""
    named = hugging_face(random(config(t5=T5), 0, "float32"))
    folder = write_t5(tmp_path / "t5", named, {"model_type": "t5", "tie_word_embeddings": False, **T5.__dict__})
    (folder / "tokenizer.json").write_text(TOKENIZER, "utf-8")
    for name in OTHERS:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"not to be read")
    return folder


@pytest.fixture
def server() -> Iterator[Hub]:
    with serving() as hub:
        yield hub


@pytest.fixture
def cache(tmp_path: Path, server: Hub, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache, empty, of a library that asks the server; no folder here has a model's name."""
    folder = tmp_path / "cache"
    ask_here(monkeypatch, server.url, folder)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    return folder


def in_shards(folder: Path) -> None:
    """The weights of a folder as two files and an index."""
    named = load_file(folder / "model.safetensors")
    places = {name: SHARDS[i % 2] for i, name in enumerate(sorted(named))}
    for shard in SHARDS:
        save_file({name: x for name, x in named.items() if places[name] == shard}, folder / shard)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


def refusal(*words: Any, **more: Any) -> str:
    with pytest.raises(InputError) as caught:
        find(*words, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def blob(cache: Path, file: str) -> Path:
    """What a file of the one snapshot is a link to."""
    (path,) = cache.glob(f"models--*/snapshots/{COMMIT}/{file}")
    return path.resolve()


def test_convert_by_name(run: Run, server: Hub, cache: Path, t5: Path, tmp_path: Path) -> None:
    server.add(NAME, t5)
    cut = ("--alpha", "1/2", "--beta", "1/3")
    code, out, err = run("convert", NAME, tmp_path / "a", *cut)
    assert (code, out, server.asked) == (2, "", []) and "--download" in err and err.count("\n") == 1
    code, _, err = run("convert", NAME, tmp_path / "a", *cut, "--download")
    assert code == 0 and f"note: {NAME}: revision main is commit {COMMIT}\n" in err
    assert server.fetched() == ["config.json", "model.safetensors", "tokenizer.json"]
    server.asked.clear()
    for more in ((), ("--download",), ("--revision", COMMIT), ("--revision", "main", "--download")):
        out = tmp_path / f"b{len(more)}{more[-1:]}"
        assert run("convert", NAME, out, *cut, *more)[0] == 0
        assert (out / "model.safetensors").read_bytes() == (tmp_path / "a/model.safetensors").read_bytes()
    assert server.asked == []  # what the cache has is not asked for again
    assert run("convert", t5, tmp_path / "c", *cut)[::2] == (0, "")
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "c" / name).read_bytes()


def test_load_and_ask_by_name(run: Run, capsys: pytest.CaptureFixture[str], server: Hub, cache: Path) -> None:
    server.add("user/mini", bundled())
    with pytest.raises(InputError, match="download=True"):
        load("user/mini", "numpy")
    reader = load("user/mini", "numpy", download=True)
    assert reader.folder is not None and reader.folder.name == COMMIT
    assert load("user/mini", "numpy", revision=COMMIT).folder == reader.folder
    server.asked.clear()
    capsys.readouterr()
    words = ("Who wrote The Crooked Sailor?", "--weights", "user/mini", "--ops", "numpy")
    assert run("ask", *words) == (
        0,
        "Jorian Nettleworth\n",
        f"glimmer-ref: note: user/mini: revision main is commit {COMMIT}\n",
    )
    assert "--weights user/mini" in run("ask", "--examples", "--weights", "user/mini")[1]
    assert run("memory", "plan", "--passages", "9", "--weights", "user/mini")[0] == 0
    assert server.asked == []


@pytest.mark.parametrize("new", [True, False])
def test_a_retriever_by_name(run: Run, server: Hub, cache: Path, tmp_path: Path, new: bool) -> None:
    folder = write_gtr(tmp_path / "gtr", new=new)
    for name in OTHERS:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"not to be read")
    server.add(GTR, folder)
    (tmp_path / "p.jsonl").write_text(
        '{"id": "a", "title": "A", "text": "b"}\n{"id": "c", "title": "C", "text": "d"}\n'
    )
    build = ("index", "build", tmp_path / "p.jsonl", tmp_path / "index", "--ops", "numpy", "--gtr", GTR)
    assert run(*build)[0] == 2 and server.asked == []
    assert run(*build, "--download")[0] == 0
    fetched = {p.relative_to(folder).as_posix() for p in folder.rglob("*.*") if p.is_file()} - {*OTHERS}
    assert set(server.fetched()) == fetched - {"3_Normalize/config.json"}
    server.asked.clear()
    find_it = ("retrieve", "A", "--index", tmp_path / "index", "--ops", "numpy", "--k", 1, "--gtr")
    named, known = run(*find_it, GTR), run(*find_it, folder)
    assert named[0] == 0 and named[1] == known[1] and COMMIT in named[2]
    blob(cache, "2_Dense/model.safetensors").unlink()
    code, _, err = run(*find_it, GTR)
    assert code == 2 and "only some, without 2_Dense/model.safetensors" in err and server.asked == []


def test_shards_by_name(server: Hub, cache: Path, t5: Path) -> None:
    in_shards(t5)
    server.add(NAME, t5)
    folder = find(NAME, download=True)
    assert {*SHARDS, "model.safetensors.index.json"} <= {p.name for p in folder.iterdir()}
    assert set(OTHERS).isdisjoint(server.fetched())
    blob(cache, SHARDS[1]).unlink()
    assert f"only some, without {SHARDS[1]}; --download" in refusal(NAME)
    assert find(NAME, download=True) == folder == find(NAME)


def test_pytorch_file_where_there_is_no_other(server: Hub, cache: Path, t5: Path) -> None:
    (t5 / "model.safetensors").unlink()
    server.add(NAME, t5)
    assert (find(NAME, download=True) / "pytorch_model.bin").read_bytes() == b"not to be read"
    with pytest.raises(InputError):
        read_torch(find(NAME) / "pytorch_model.bin")


def test_a_cache_that_another_program_filled_file_by_file(server: Hub, cache: Path, t5: Path) -> None:
    from huggingface_hub import hf_hub_download

    (t5 / "tokenizer.json").rename(t5 / "spiece.model")
    server.add(NAME, t5)
    for name in ("config.json", "model.safetensors", "spiece.model"):
        hf_hub_download(NAME, name, revision=COMMIT)
    server.asked.clear()
    assert "no revision main of it" in refusal(NAME) and find(NAME, revision=COMMIT).name == COMMIT  # no ref was made
    assert find(NAME, download=True) == find(NAME) == find(NAME, revision=COMMIT) and server.fetched() == []


@pytest.mark.parametrize("lost", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_part_is_said_and_completed(server: Hub, cache: Path, t5: Path, lost: str) -> None:
    server.add(NAME, t5)
    folder = find(NAME, download=True)
    blob(cache, lost).unlink()  # the link stays
    server.asked.clear()
    assert refusal(NAME).startswith(
        f"{NAME}, revision main: expected all its files in the cache; got only some, without {lost}"
    )
    (folder / lost).unlink()
    assert f"without {lost}" in refusal(NAME) and server.asked == []
    assert find(NAME, download=True) == folder and server.fetched() == [lost]


def test_a_file_that_the_cache_knows_of(server: Hub, cache: Path, t5: Path) -> None:
    (t5 / "added_tokens.json").write_text("{}")
    server.add(NAME, t5)
    folder = find(NAME, download=True)
    (folder / "added_tokens.json").unlink()
    if not list(cache.glob("models--*/trees")):
        pytest.skip("this version of huggingface_hub keeps no list of a repository's files")
    assert "without added_tokens.json" in refusal(NAME)


def test_what_the_hub_refuses(server: Hub, cache: Path, t5: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.add("meta/gated", t5, gated=True)
    assert "got a gated one; ask for access" in refusal("meta/gated", download=True)
    assert "a folder, or a model at Hugging Face; got neither" in refusal("no/body", download=True)
    server.add(NAME, t5)
    assert "got none of that name" in refusal(NAME, True, "v9")
    assert f"no revision {COMMIT[::-1]} of it in {cache}" in refusal(NAME, False, COMMIT[::-1])
    (t5 / "tokenizer.json").unlink()
    (t5 / "model.safetensors").unlink()
    (t5 / "pytorch_model.bin").unlink()
    server.add(NAME, t5)
    server.asked.clear()
    said = refusal(NAME, download=True)
    assert "no model.safetensors, tokenizer.json" in said and server.fetched() == []
    ask_here(monkeypatch, server.url, cache, offline=True)
    assert "HF_HUB_OFFLINE" in refusal(NAME, download=True)


def test_no_server(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as gone:
        pass
    ask_here(monkeypatch, gone.url, cache)
    assert gone.url in refusal(NAME, download=True)


def test_an_index_that_leads_elsewhere(server: Hub, cache: Path, t5: Path) -> None:
    in_shards(t5)
    (t5 / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "../../escaped.safetensors"}}))
    server.add(NAME, t5)
    assert "files in its own folder" in refusal(NAME, download=True)


def test_a_folder_comes_first(run: Run, server: Hub, cache: Path, t5: Path, tmp_path: Path) -> None:
    server.add(NAME, t5)
    here = Path(NAME)
    shutil.copytree(t5, here)
    words = ("convert", NAME, tmp_path / "out", "--alpha", "1/2", "--beta", "1/3")
    code, _, err = run(*words, "--download")
    assert (code, err) == (
        0,
        f"glimmer-ref: note: {NAME} is on this machine, so --download fetches nothing\n",
    ) and server.asked == []
    code, _, err = run(*words, "--revision", "main")
    assert code == 2 and "leave it out" in err
    assert "leave it out" in refusal(here, revision="main")
    both = Namespace(weights=NAME, gtr=GTR, revision="main", download=False)  # a revision of the other one, no folder
    assert options.find(both, NAME) == here
    assert find(NAME) == here and find(here / "none", download=True) == here / "none"
    for name in ("/no/such", "a/b/c", "../x", "x/", "", "a\0b", "x" * 300):
        assert find(name, download=True) == Path(name)
    assert server.asked == []


def test_settings_of_the_environment(server: Hub, t5: Path, tmp_path: Path) -> None:
    server.add(NAME, t5)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))}
    environment |= {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": server.url}

    def convert(out: str, *more: str, **settings: str) -> subprocess.CompletedProcess[str]:
        words = ["convert", NAME, out, "--alpha", "1/2", "--beta", "1/3", *more]
        return subprocess.run(
            [sys.executable, "-m", "glimmer_ref", *words], cwd=tmp_path, env=environment | settings,
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    first = convert("a", "--download")
    assert first.returncode == 0 and "100%" in first.stderr  # its progress
    assert list((tmp_path / "home" / "hub").glob(f"models--*/snapshots/{COMMIT}/config.json"))
    moved = {name: str(tmp_path / "home" / "hub") for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")}
    for out, where in (("b", {}), ("c", {"HF_HOME": str(tmp_path / "elsewhere"), **moved})):
        again = convert(out, HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9", **where)
        assert (again.returncode, again.stderr) == (0, f"glimmer-ref: note: {NAME}: revision main is commit {COMMIT}\n")


def test_local_folders_do_not_import_the_library() -> None:
    code = "import sys, glimmer_ref; glimmer_ref.load(ops='numpy'); assert 'huggingface_hub' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
