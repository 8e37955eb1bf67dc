"""PyTorch checkpoints: read like PyTorch reads them, and nothing in them is ever run."""

from __future__ import annotations

import io
import pickle
import random
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import FIXTURES

from glimmer_ref.errors import InputError
from glimmer_ref.params.safetensors_io import TYPES
from glimmer_ref.params.torch_checkpoint import read_torch
from glimmer_ref.params.torch_pickle import STORAGES

TINY = FIXTURES / "tiny_torch.bin"
GRID = np.arange(24, dtype=np.float32).reshape(4, 6) / 4


class Word:
    """Pickles as the bare name of something, whatever it may be."""

    def __init__(self, name: str) -> None:
        self.name = name


class Call:
    """Pickles as a call of `word` with `args`, and attributes set on the result."""

    def __init__(self, word: str, *args: Any, state: Any = None) -> None:
        self.word, self.args, self.state = word, args, state


class Pid:
    """Pickles as a persistent id."""

    def __init__(self, pid: Any) -> None:
        self.pid = pid


class Writer(pickle._Pickler):
    """A pickler for names that need not exist."""

    def persistent_id(self, obj: Any) -> Any:
        return obj.pid if isinstance(obj, Pid) else None

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, Word):
            module, name = obj.name.rsplit(".", 1)
            if self.proto < 4:
                self.write(b"c" + module.encode() + b"\n" + name.encode() + b"\n")
            else:
                self.save(module)
                self.save(name)
                self.write(b"\x93")
        elif isinstance(obj, Call):
            self.save(Word(obj.word))
            self.save(obj.args)
            self.write(b"R")
            if obj.state is not None:
                self.save(obj.state)
                self.write(b"b")
        else:
            super().save(obj, save_persistent_id)


def storage(kind: str = "torch.FloatStorage", key: Any = "0", size: Any = 6) -> Pid:
    return Pid(("storage", Word(kind), key, "cpu", size))


def tensor(*args: Any, offset: Any = 0, shape: Any = (2, 3), strides: Any = (3, 1), **of: Any) -> Call:
    hooks = Call("collections.OrderedDict")
    return Call("torch._utils._rebuild_tensor_v2", storage(**of), offset, shape, strides, False, hooks, *args)


def dump(obj: Any, protocol: int = 2) -> bytes:
    out = io.BytesIO()
    Writer(out, protocol).dump(obj)
    return out.getvalue()


def archive(
    path: Path, program: Any, entries: dict[str, bytes] | None = None, method: int = zipfile.ZIP_STORED
) -> Path:
    numbers = np.arange(6, dtype=np.float32).tobytes()
    files = {"data.pkl": program if isinstance(program, bytes) else dump(program), "data/0": numbers}
    with zipfile.ZipFile(path, "w", method) as out:
        for name, content in (files | (entries or {})).items():
            out.writestr(f"archive/{name}", content)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_torch(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


def test_recorded_checkpoint() -> None:
    got = read_torch(TINY)
    floats = {
        "plain": GRID, "transposed": GRID.T, "corner": GRID[1:3, 2:], "column": GRID[:, 3], "double": [1.5, -2.25],
        "half": [[0.5], [65504]], "bfloat16": [1, -3.5, 1e30], "scalar": 3.25,
        "empty": np.zeros((0, 3)), "parameter": [1, 2],
    }  # fmt: skip
    for name, want in floats.items():
        decoded = got[name].decode()
        assert decoded.flags.c_contiguous and decoded.shape == np.shape(want)
        np.testing.assert_allclose(decoded, want, rtol=1e-3 if name == "bfloat16" else 0)
    whole = {"long": [2**40, -1], "int": [7], "short": [-300], "char": [-5], "byte": [250], "bool": [True, False]}
    for name, numbers in whole.items():
        assert got[name].raw.tolist() == numbers
    assert set(got) == set(floats) | set(whole)
    assert not any(stored.raw.flags.writeable for stored in got.values())


def test_pytorch_agrees(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the witness extra; .ci/run installs it")
    shared = torch.randn(3, 4, 5)
    state = {
        "a": shared, "b": shared.permute(2, 0, 1), "c": shared[1:, ::2, 3], "d": shared.bfloat16(),
        "e": shared.half().permute(2, 1, 0), "f": shared.double()[0], "module": torch.nn.Linear(3, 2).weight,
    }  # fmt: skip
    torch.save(state, tmp_path / "x.bin")
    got = read_torch(tmp_path / "x.bin")
    assert list(got) == list(state)
    for name, want in state.items():
        np.testing.assert_array_equal(got[name].decode("float64"), want.detach().double().numpy())


def test_pytorchs_format_before_1_6_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(bytes.fromhex("80028a0a6cfc9c46f9206aa85019") + b".\x80\x02M\xe9\x03.")
    assert "PyTorch 1.6" in refusal(path)
    torch = pytest.importorskip("torch", reason="needs the witness extra; .ci/run installs it")
    torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    assert "PyTorch 1.6" in refusal(path)


def test_our_own_archives_are_read(tmp_path: Path) -> None:
    """The hostile ones below differ from these by one thing each."""
    got = read_torch(archive(tmp_path / "x", {"a": tensor(), "b": tensor({}, shape=(3, 2), strides=(1, 3))}))
    assert got["a"].raw.tolist() == [[0, 1, 2], [3, 4, 5]] and got["b"].raw.tolist() == [[0, 3], [1, 4], [2, 5]]
    little = read_torch(archive(tmp_path / "y", {"a": tensor()}, {"byteorder": b"little"}))
    assert little["a"].shape == (2, 3)


ADAM = {"state": {0: {"step": tensor(shape=(), strides=()), "on": True}}, "param_groups": [{"lr": 1e-3, "params": [0]}]}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("around", [None, "state_dict", "model_state_dict", "model", "module"])
def test_every_protocol_and_trainer_is_read(tmp_path: Path, protocol: int, around: str | None) -> None:
    content: Any = {"a": tensor(), "x" * 300: tensor(shape=(3,), strides=(1,), offset=2)}
    if around:
        beside = {
            "epoch": 3,
            "best": None,
            "seed": 2**40,
            "rng": b"\1" * 300 if protocol > 2 else "",
            "tags": ["x", (1.5, -1)],
        }
        content = {**beside, around: content, "optimizer": ADAM}
    got = read_torch(archive(tmp_path / "x", dump(content, protocol)))
    assert {name: x.raw.tolist() for name, x in got.items()} == {"a": [[0, 1, 2], [3, 4, 5]], "x" * 300: [2, 3, 4]}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pytorchs_own_protocols_are_read(tmp_path: Path, protocol: int) -> None:
    torch = pytest.importorskip("torch", reason="needs the witness extra; .ci/run installs it")
    layer = torch.nn.Linear(3, 2)
    adam = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(3)).sum().backward()
    adam.step()
    content = {"state_dict": layer.state_dict(), "optimizer": adam.state_dict(), "step": 1}
    for saved in (layer.state_dict(), content):
        torch.save(saved, tmp_path / "x", pickle_protocol=protocol)
        got = read_torch(tmp_path / "x")
        assert {name: x.raw.tolist() for name, x in got.items()} == {
            n: x.tolist() for n, x in layer.state_dict().items()
        }
    torch.save(layer, tmp_path / "x", pickle_protocol=protocol)
    assert "a whole object of torch.nn.modules.linear.Linear" in refusal(tmp_path / "x")
    torch.save(layer.state_dict(), tmp_path / "x", pickle_protocol=protocol, _use_new_zipfile_serialization=False)
    assert "PyTorch 1.6" in refusal(tmp_path / "x")
    torch.save({"a": torch.ones(2).to(torch.float8_e4m3fn)}, tmp_path / "x", pickle_protocol=protocol)
    assert "dequantize" in refusal(tmp_path / "x")


@pytest.mark.filterwarnings("ignore")
def test_quantized_tensors_and_scripts_of_pytorch_are_named(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the witness extra; .ci/run installs it")
    torch.save({"a": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}, tmp_path / "x")
    assert "dequantize" in refusal(tmp_path / "x")
    torch.jit.save(torch.jit.script(torch.nn.Linear(3, 2)), tmp_path / "x")
    assert "a whole module, as TorchScript saves it" in refusal(tmp_path / "x")


@pytest.mark.parametrize(
    ("program", "word"),
    [
        ({"state_dict": {"a": tensor()}, "args": Call("argparse.Namespace")}, "argparse.Namespace"),
        ({"state_dict": {"a": tensor()}, "model": {}}, "got state_dict and model"),
        ({"state_dict": {"a": 1}}, "a: expected a tensor; got int"),
        ({"state_dict": {"model": {"a": tensor()}}}, "model: expected a tensor; got dict"),
        ({"state_dict": {1: tensor()}}, "strings as keys; got 1"),
        ({"state_dict": [tensor()]}, "state_dict: expected a tensor; got list"),
        (b"\x80\x02cos\nsystem\n)\x81.", "a whole object of os.system"),
        (b"\x80\x02K\x01)\x81.", "an object without class"),
        (b"\x80\x04K\x01K\x02\x93.", "a name that is no text"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93)R.", "a call of os.system"),
        (b"\x80\x04}K\x01a.", "something other than a list"),
        (b"\x80\x04a.", "whole pickle"),
        (b"\x80\x04\x94.", "whole pickle"),
        (b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f}.", ""),
        (b"\x80\x04]\x94h\x00a.", "got list"),
        ({"a": Call("os.system", "touch ran")}, "os.system"),
        ({"a": Call("builtins.eval", "1")}, "builtins.eval"),
        ({"a": Call("collections.OrderedDict", (("a", 1),))}, "collections.OrderedDict"),
        ({"a": Call("torch.load", "x")}, "torch.load"),
        ({"a": Word("os.system")}, "a: expected a tensor; got Word"),
        ({"a": tensor(kind="torch.QInt8Storage")}, "torch.QInt8Storage"),
        ({"a": tensor(kind="os.FloatStorage")}, "os.FloatStorage"),
        ({"a": Call("torch._utils._rebuild_tensor_v3", storage())}, "_rebuild_tensor_v3"),
        ({"a": Call("torch._utils._rebuild_parameter", 1, True, {})}, "_rebuild_parameter"),
        ({"a": Call("torch._utils._rebuild_tensor_v2", storage())}, "without storage"),
        ({"a": Call("torch._utils._rebuild_tensor_v2", 1, 0, (), (), False, {})}, "without storage"),
        ({"a": tensor({"neg": True})}, "metadata"),
        ({"a": tensor(shape=(2, 4), strides=(4, 1))}, "past its storage"),
        ({"a": tensor(shape=(2, 3), strides=(4, 1))}, "past its storage"),
        ({"a": tensor(offset=1)}, "past its storage"),
        ({"a": tensor(shape=(10**9, 10**9), strides=(0, 0))}, "past its storage"),
        ({"a": tensor(offset=-1)}, "bad shape"),
        ({"a": tensor(strides=(-1, 1))}, "bad shape"),
        ({"a": tensor(shape=(2,))}, "bad shape"),
        ({"a": tensor(shape=[2, 3])}, "bad shape"),
        ({"a": tensor(shape=(True, 3))}, "bad shape"),
        ({"a": tensor(shape=(1,) * 9, strides=(1,) * 9)}, "bad shape"),
        ({"a": tensor(shape=(0, 2**61, 2**61), strides=(1, 1, 1))}, "a: expected a shape that NumPy"),
        ({"a": tensor(shape=(1, 1), strides=(2**61, 1))}, "a: expected a shape that NumPy"),
        ({"a": tensor(size=7)}, "a: expected 7 numbers of F32; got 24 bytes"),
        ({"a": tensor(size=2**61, strides=(2**50, 1))}, "numbers of F32"),
        ({"a": tensor(size=-1)}, "key or size"),
        ({"a": tensor(key=0)}, "key or size"),
        ({"a": tensor(key="7")}, "no such entry"),
        ({"a": tensor(key="../data.pkl")}, "no such entry"),
        ({"a": Pid(("module", 1))}, "persistent id"),
        ({"a": Pid("x")}, "persistent id"),
        ({"a": 1}, "a: expected a tensor; got int"),
        ({"a": {"b": tensor()}}, "a: expected a tensor; got dict"),
        ({1: tensor()}, "strings as keys"),
        ((tensor(),), "got tuple"),
        (tensor(), "got Tensor"),
        ({"a": Call("torch._utils._rebuild_tensor_v2", state={"x": 1})}, "without storage"),
        ({"a": Call("collections.OrderedDict", state={"x": 1})}, "a: expected a tensor; got dict"),
        (b"\x80\x02" + b"}" + b")\x85" * 300_000 + b"}s.", "strings as keys"),
        (b"\x80\x02}" + b")" + b"\x85" * 300_000 + b"Ns.", "strings as keys"),
        (b"\x80\x02}r\xff\xff\xff\x7f.", ""),
        (b"\x80\x02}}N}b.", "whole pickle|attributes"),
        (b"\x80\x02(lp0\n.", "LIST"),
        (b"\x80\x04}\x94j.", "whole pickle"),
        (b"", "whole pickle"),
        (b".", "whole pickle"),
        (b"\x80\x02}", "whole pickle"),
        (b"\x80\x02h\x05.", "whole pickle"),
        (b"\x80\x02u.", "whole pickle"),
        (b"\x80\x02X\xff\xff\xff\x7fa.", "whole pickle"),
        (b"\xff\xfe", "whole pickle"),
    ],
)
def test_hostile_pickles_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: Any, word: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = archive(tmp_path / "x", program)
    if not word:  # a memo index of 2**31 or a huge frame costs nothing here, and gigabytes in Python's own unpickler
        assert read_torch(path) == {}
        return
    assert re.search(word, refusal(path))
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_hostile_archives_are_refused(tmp_path: Path) -> None:
    good = {"a": tensor()}
    assert "compressed" in refusal(archive(tmp_path / "a", good, method=zipfile.ZIP_DEFLATED))
    assert "big-endian" in refusal(archive(tmp_path / "b", good, {"byteorder": b"big"}))
    assert "24 numbers" not in refusal(archive(tmp_path / "c", good, {"data/0": b"short"}))
    assert "no name twice" in refusal(archive(tmp_path / "d", good, {"x/data.pkl": b""}))
    assert "at most 2097152" in refusal(archive(tmp_path / "e", b"\x80\x02" + b"N" * 2**21))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(tmp_path / "b", "a") as again:
        again.writestr("archive/data/0", b"\0" * 24)
    assert "no name twice" in refusal(tmp_path / "b")
    with zipfile.ZipFile(tmp_path / "f", "w") as empty:
        empty.writestr("readme", b"")
    assert "one data.pkl" in refusal(tmp_path / "f")
    for name, content in (("g", b""), ("h", b"garbage" * 100), ("i", b"PK\x05\x06" + b"\xff" * 18)):
        (tmp_path / name).write_bytes(content)
        refusal(tmp_path / name)
    assert "no such file" in refusal(tmp_path / "absent") and "no such file" in refusal(tmp_path)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = TINY.read_bytes()
    path = tmp_path / "x"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        refusal(path)


def test_every_storages_bit_is_watched(tmp_path: Path) -> None:
    """A flipped bit is refused, or it lies outside of what is read."""
    whole, want = TINY.read_bytes(), {name: x.raw.tobytes() for name, x in read_torch(TINY).items()}
    path, rng = tmp_path / "x", random.Random(0)
    refused = 0
    for _ in range(600):
        at = rng.randrange(len(whole))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :])
        try:
            got = read_torch(path)
        except InputError:
            refused += 1
        else:
            assert {name: x.raw.tobytes() for name, x in got.items()} == want
    assert refused > 150


def test_random_pickles_never_escape(tmp_path: Path) -> None:
    """Mutated programs are refused or read, and raise nothing else."""
    with zipfile.ZipFile(TINY) as tiny:
        programs = [tiny.read("tiny_torch/data.pkl")]
    programs += [dump({"state_dict": {"a": tensor()}, "optimizer": ADAM}, protocol) for protocol in (2, 4, 5)]
    rng = random.Random(1)
    for i in range(600):
        mutant = bytearray(programs[i % len(programs)])
        for _ in range(rng.randrange(1, 6)):
            mutant[rng.randrange(len(mutant))] = rng.randrange(256)
        path = archive(tmp_path / "x", bytes(mutant), {f"data/{i}": bytes(96) for i in range(13)})
        try:
            read_torch(path)
        except InputError as e:
            assert "\n" not in str(e)


def test_every_storage_type_has_a_type_of_ours() -> None:
    assert set(STORAGES.values()) <= set(TYPES)
