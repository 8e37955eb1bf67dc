"""A file or a folder of another kind than is wanted is named, with what to do."""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glimmer_ref.data.inputs import read_jsonl
from glimmer_ref.disk.kinds import is_published, of_bytes
from glimmer_ref.disk.read import parse_json, read_json
from glimmer_ref.errors import InputError
from glimmer_ref.golden import check
from glimmer_ref.params.safetensors_io import map_tensors, write_tensors

ARRAY = np.arange(3, dtype=np.float32)


def _npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, a=ARRAY)


def _npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, ARRAY)


def _torch(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02}.")


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("passages.jsonl", "{}")


def _tar(path: Path) -> None:
    with tarfile.open(path, "w") as file:
        file.addfile(tarfile.TarInfo("x"), io.BytesIO())


def _bytes(content: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(content)


FILES: dict[str, Callable[[Path], Any]] = {
    "an .npz file": _npz,
    "an .npy file": _npy,
    "a PyTorch file": _torch,
    "a zip archive": _zip,
    "a tar archive": _tar,
    "packed by gzip": _bytes(gzip.compress(b'{"text": "x"}')),
    "a pickle": _bytes(b"\x80\x04\x95" + bytes(64)),
    "a GGUF file": _bytes(b"GGUF\x03\0\0\0" + bytes(64)),
    "an HDF5 file": _bytes(b"\x89HDF\r\n\x1a\n" + bytes(64)),
    "a Parquet file": _bytes(b"PAR1\x15\x04\x15\xff"),
    "a PNG picture": _bytes(b"\x89PNG\r\n\x1a\n" + bytes(64)),
    "a PDF": _bytes(b"%PDF-1.7\n%\xe2\xe3"),
    "a web page": _bytes(b"\n<!DOCTYPE html><html lang=en>"),
    "comma-separated values": _bytes(b"id,title,text\n1,Zaphod,He plays the banjo.\n"),
    "tab-separated values": _bytes(b"id\ttext\n1\tHe plays.\n"),
    "Git LFS": _bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"),
    "UTF-16": _bytes(json.dumps({"text": "x"}).encode("utf-16")),
}


@pytest.mark.parametrize("words", FILES)
def test_a_file_of_another_kind_is_named(tmp_path: Path, words: str) -> None:
    path = tmp_path / "given"
    FILES[words](path)
    kind = of_bytes(path.read_bytes()[:1024])
    assert kind is not None and words in kind.words
    said = re.escape(f"; got {kind.words}" + (f"; {kind.do}" if kind.do else ""))
    for read in (map_tensors, read_json, lambda path: list(read_jsonl(path))):
        with pytest.raises(InputError, match=said):
            read(path)


@pytest.mark.parametrize("words", ["one array", "a pickle", "packed by gzip", "an HDF5"])
def test_golden_check_names_them_too(run: Any, tmp_path: Path, words: str) -> None:
    make = next(make for name, make in FILES.items() if name.startswith(words.replace("one array", "an .npy")))
    make(tmp_path / "given")
    code, out, err = run("golden", "check", "fid", tmp_path / "given")
    assert (code, out) == (2, "")
    assert "given: expected a safetensors file; got what looks like a" in err or "got what looks like one" in err
    assert words in err
    assert check.main([str(check.CASES / "fid"), str(tmp_path / "given")]) == 2


def test_folders_of_another_kind_are_named(run: Any, tmp_path: Path) -> None:
    index, model, data = (tmp_path / name for name in ("index", "model", "data"))
    for folder, name in ((index, "build.json"), (model, "config.json"), (data, "passages.jsonl")):
        folder.mkdir()
        (folder / name).write_text("{}")
    ask = ("ask", "x", "--ops", "numpy")
    for words, said in (
        ((*ask, "--memory", index), "got an index; it goes with --index"),
        ((*ask, "--memory", model), "got a model's folder; it goes with --weights"),
        ((*ask, "--memory", data / "passages.jsonl"), "got a file, not a folder"),
        ((*ask, "--memory", tmp_path / "no"), "got no such folder"),
        ((*ask, "--memory", "google/flan-t5-base"), "if it is a name at Hugging Face, download it"),
        ((*ask, "--passages", data), "got a folder; name a file in it"),
        ((*ask, "--passages", "some/dataset"), "if it is a name at Hugging Face, download it"),
        ((*ask, "--passages", "some/passages.jsonl"), "got no such file or folder"),
        ((*ask, "--weights", data / "passages.jsonl"), "got a file"),
        (("retrieve", "x", "--index", model), "got a model's folder; it goes with --weights"),
        (("retrieve", "x", "--index", data / "passages.jsonl"), "got a file, not a folder"),
    ):
        code, out, err = run(*words)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert said in err


def test_what_is_right_is_taken_for_nothing_else(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x.safetensors", {"a": ARRAY, "b,c": ARRAY})
    assert set(map_tensors(tmp_path / "x.safetensors")) == {"a", "b,c"}
    for size in (0x0280, 0x8B1F, 0x4B50):  # headers of such a length begin as a pickle, gzip or a zip archive does
        about = json.dumps({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}).encode().ljust(size)
        (tmp_path / "y").write_bytes(size.to_bytes(8, "little") + about + ARRAY.tobytes())
        assert list(map_tensors(tmp_path / "y")) == list(check.read_tensors(tmp_path / "y")) == ["a"]
    for text in ('{"text": "a, b"}', '[{"a": 1}]', "plain words", "", "Zoë"):
        assert of_bytes(text.encode()) is None
    assert is_published("google/t5-v1_1-base") and is_published("user/model.v2-x")
    for name in ("data/passages.jsonl", "/a/b", "a/b/c", "weights", "x/model.safetensors", "../x", "a/.b/c"):
        assert is_published(name) is None


def test_a_file_of_a_model_that_is_published_is_told() -> None:
    with pytest.raises(
        InputError, match=r"google/t5-v1_1-base/config.json: .* if it is a name at Hugging Face, download it"
    ):
        read_json("google/t5-v1_1-base/config.json")


def test_utf_32_and_lines_of_json_are_told() -> None:
    for text, said in (('{"a": 1}'.encode("utf-32"), "UTF-32"), (b"{}\n{}\n", "more than one value")):
        with pytest.raises(InputError, match=said):
            parse_json(text, "file")
