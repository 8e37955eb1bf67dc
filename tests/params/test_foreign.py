"""Models kept in another form: one line says what it is and what to do."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import config
from paths import FIXTURES
from published import hugging_face, write_t5
from test_files import MODEL, T5_JSON, same

from glimmer_ref.cli import main
from glimmer_ref.errors import InputError
from glimmer_ref.params.checkpoint import from_t5, load, open_checkpoint
from glimmer_ref.params.name_maps import plan
from glimmer_ref.params.safetensors_io import Stored, map_tensors, write_tensors
from glimmer_ref.params.torch_checkpoint import read_torch


def npz() -> bytes:
    out = io.BytesIO()
    np.savez(out, a=np.ones(2))
    return out.getvalue()


def tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return out.getvalue()


CONTENTS = {
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 990345061\n", "git lfs pull"),
    "GGUF": (b"GGUF\3\0\0\0" + bytes(24), "safetensors or PyTorch"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(24), "from_tf"),
    "an .npy file": (b"\x93NUMPY\1\0" + bytes(24), "safetensors"),
    "an .npz file": (npz(), "safetensors"),
    "a web page": (b"\n <!DOCTYPE html><html>" + bytes(24), "download the file itself"),
    "gzip": (gzip.compress(b"x" * 99), "unpack"),
    "a tar archive": (tar(), "unpack"),
    "a pickle": (pickle.dumps({"a": list(range(9))}), "torch.save"),
    "before PyTorch 1.6": (bytes.fromhex("80028a0a6cfc9c46f9206aa850192e") + bytes(24), "save it anew"),
}


@pytest.mark.parametrize("what", CONTENTS)
def test_files_of_another_kind_are_named(tmp_path: Path, what: str) -> None:
    content, do = CONTENTS[what]
    path = tmp_path / "x"
    path.write_bytes(content)
    for read in (map_tensors, read_torch):
        with pytest.raises(InputError, match=f"got .*{what}.*; .*{do}"):
            read(path)
    with pytest.raises(InputError, match=f"the folder of a model; got .*{what}"):
        from_t5(path, "1/2", "1/3", 0)


def test_either_format_under_the_others_name_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_tensors(path, {"a": np.ones(2)})
    with pytest.raises(InputError, match=r"got a safetensors file; name it model\.safetensors"):
        read_torch(path)
    path.write_bytes((FIXTURES / "tiny_torch.bin").read_bytes())
    with pytest.raises(InputError, match=r"got a PyTorch file, .*; name it pytorch_model\.bin"):
        map_tensors(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"truncated"):
        read_torch(path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("adapter_config.json", "a PEFT adapter, which changes another model; merge it"),
        ("adapter_model.bin", "a PEFT adapter"),
        ("t5-q8_0.gguf", r"t5-q8_0\.gguf: a GGUF file"),
        ("tf_model.h5", "an HDF5 file, perhaps of Keras or TensorFlow; .*from_tf"),
        ("flax_model.msgpack", "weights of Flax; .*from_flax"),
        ("model.ckpt-1000000.index", "a checkpoint of TensorFlow"),
        ("model.onnx", "a model of ONNX"),
        ("t5.npz", "an .npz file of NumPy"),
        ("epoch=3.ckpt", r"name it pytorch_model\.bin"),
        ("consolidated.pth", r"name it pytorch_model\.bin"),
        ("weights.safetensors", r"name it model\.safetensors"),
    ],
)
@pytest.mark.parametrize("configured", [True, False])
def test_folders_of_another_form_are_named(tmp_path: Path, name: str, said: str, configured: bool) -> None:
    (tmp_path / name).write_bytes(b"{}")
    if configured:
        (tmp_path / "config.json").write_text(json.dumps(T5_JSON))
    for read in (load, open_checkpoint, lambda folder: from_t5(folder, "1/2", "1/3", 0)):
        with pytest.raises(InputError, match=f"{name}: .*{said}" if "\\" not in said else said) as caught:
            read(tmp_path)
        assert "\n" not in str(caught.value)


def test_an_adapter_beside_whole_weights_does_not_matter(tmp_path: Path) -> None:
    folder = write_t5(tmp_path / "t5", hugging_face(MODEL), T5_JSON)
    (folder / "adapter_config.json").write_text("{}")
    same(from_t5(folder, "1/2", "1/3", 0), MODEL, but=("score.weight",))


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module.model.", "_orig_mod.module."])
def test_what_wrappers_put_before_names_is_left_out(tmp_path: Path, prefix: str) -> None:
    named = {prefix + name: x for name, x in hugging_face(MODEL).items()}
    same(from_t5(write_t5(tmp_path / "t5", named, T5_JSON), "1/2", "1/3", 0), MODEL, but=("score.weight",))
    first = next(iter(named))
    named[first.removeprefix(prefix)] = named.pop(first)
    with pytest.raises(InputError):
        from_t5(write_t5(tmp_path / "t5", named, T5_JSON), "1/2", "1/3", 0)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("base_model.model.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight", "a PEFT adapter's; merge it"),
        ("decoder.block.0.layer.0.SelfAttention.q.SCB", "int8 of bitsandbytes; .*dequantize"),
        ("decoder.block.0.layer.0.SelfAttention.q.weight.absmax", "4 bits of bitsandbytes; .*dequantize"),
        ("decoder.block.0.layer.0.SelfAttention.q.qweight", "4 bits of GPTQ or AWQ; .*dequantize"),
        ("decoder.block.0.layer.0.SelfAttention.q.weight_scale", "quantized to 8 bits or fewer; .*dequantize"),
    ],
)
def test_quantized_and_adapted_tensors_are_named(name: str, said: str) -> None:
    named: dict[str, Any] = hugging_face(MODEL) | {name: np.ones(2)}
    with pytest.raises(InputError, match=f"{name}: expected plain weights of T5; got a tensor that is {said}"):
        plan(config(), {key: Stored("F32", np.asarray(x)) for key, x in named.items()})


def test_weights_of_eight_bits_are_named(tmp_path: Path) -> None:
    named: dict[str, Any] = hugging_face(MODEL)
    name = "encoder.block.0.layer.0.SelfAttention.q.weight"
    folder = write_t5(tmp_path / "t5", named | {name: named[name].astype(np.int8)}, T5_JSON)
    with pytest.raises(
        InputError, match=f"{name}: expected weights as .*; got I8; if it is quantized, dequantize it first"
    ):
        from_t5(folder, "1/2", "1/3", 0)
    header = json.dumps({name: {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(InputError, match=f"{name}: .*got type F8_E4M3; if it is quantized, dequantize it first"):
        from_t5(folder, "1/2", "1/3", 0)


def test_the_command_says_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    assert main(["convert", str(tmp_path), str(tmp_path / "out"), "--alpha", "1/2", "--beta", "1/3"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "a PEFT adapter" in error
