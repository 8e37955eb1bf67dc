"""Safetensors files: what is written comes back, and what is broken is refused by name."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from glimmer_ref.errors import InputError
from glimmer_ref.params import safetensors_io
from glimmer_ref.params.safetensors_io import TYPES, Stored, map_tensors, write_tensors
from glimmer_ref.ragged import bfloat16

RNG = np.random.default_rng(0)
F32 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def every_type() -> dict[str, np.ndarray]:
    kinds = [np.dtype(code) for tag, code in TYPES.items() if tag != "BF16"]
    return {f"t{i}": (RNG.integers(0, 2, (3, 2)) * 5).astype(kind) for i, kind in enumerate(kinds)}


def pack(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        map_tensors(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    arrays = every_type() | {"empty": np.zeros((0, 3), np.float32), "scalar": np.array(2.5)}
    write_tensors(tmp_path / "x", arrays)
    back = map_tensors(tmp_path / "x")
    assert set(back) == set(arrays)
    for name, x in arrays.items():
        assert back[name].raw.dtype == x.dtype and back[name].shape == x.shape
        np.testing.assert_array_equal(back[name].raw, x)
        assert not back[name].raw.flags.writeable


def test_bytes_are_those_of_the_library(tmp_path: Path) -> None:
    arrays = every_type() | {"ä\n☃": np.zeros(3, np.float32), "a": np.zeros((0, 2), np.int8)}
    for metadata in (None, {"format": "pt"}):
        write_tensors(tmp_path / "x", arrays, metadata)
        assert (tmp_path / "x").read_bytes() == safetensors.numpy.save(arrays, metadata)


def test_bytes_do_not_depend_on_the_process(tmp_path: Path) -> None:
    script = (
        "import sys, numpy as np; from glimmer_ref.params.safetensors_io import write_tensors; "
        "write_tensors(sys.argv[1], {'b': np.ones(3), 'a': np.ones(2)}, {c: c for c in sys.argv[2]})"
    )
    for name, keys in (("x", "abcdefgh"), ("y", "hgfedcba")):
        subprocess.run([sys.executable, "-c", script, str(tmp_path / name), keys], check=True)
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


def test_strides_and_byte_order_are_put_right(tmp_path: Path) -> None:
    x = RNG.standard_normal((4, 6)).astype(np.float32)
    write_tensors(tmp_path / "x", {"t": x.T, "strided": x[::2, 1::3], "big": x.astype(">f4")})
    back = map_tensors(tmp_path / "x")
    np.testing.assert_array_equal(back["t"].raw, x.T)
    np.testing.assert_array_equal(back["strided"].raw, x[::2, 1::3])
    np.testing.assert_array_equal(back["big"].raw, x)


def test_bfloat16_file_comes_back(tmp_path: Path) -> None:
    x = RNG.standard_normal((5, 3)).astype(np.float32)
    write_tensors(tmp_path / "x", {"x": Stored("BF16", bfloat16(x))})
    back = map_tensors(tmp_path / "x")["x"]
    assert back.dtype == "BF16" and back.raw.dtype == np.uint16
    for dtype in ("float32", "float64"):
        decoded = back.decode(dtype)
        assert decoded.dtype == dtype and decoded.flags.writeable and decoded.flags.c_contiguous
        np.testing.assert_allclose(decoded, x, rtol=2**-8)
    np.testing.assert_array_equal(bfloat16(back.decode()), back.raw)


def test_decode_is_a_fresh_copy(tmp_path: Path) -> None:
    x = RNG.standard_normal((3, 2))
    write_tensors(tmp_path / "x", {str(d): x.astype(d) for d in ("float16", "float32", "float64")})
    for name, stored in map_tensors(tmp_path / "x").items():
        for dtype in ("float32", "float64"):
            got = stored.decode(dtype)
            np.testing.assert_array_equal(got, x.astype(name).astype(dtype))
            assert got.dtype == dtype and got.flags.c_contiguous and got.flags.owndata
            got[:] = 0
        assert stored.raw.any()
    assert Stored("F64", np.array([1e300])).decode()[0] == np.inf
    loud = np.array([0x7F800001], np.uint32).view(np.float32)
    assert np.isnan(Stored("F32", loud).decode("float64")).all()


def test_decode_refuses_whole_numbers_and_odd_types() -> None:
    with pytest.raises(InputError, match="I64"):
        Stored("I64", np.zeros(2, np.int64)).decode()
    with pytest.raises(InputError, match="float16"):
        Stored("F32", np.zeros(2, np.float32)).decode("float16")


def nearest_bfloat16(x: float) -> list[float]:
    """The bfloat16 value or values nearest to x, by trying the neighbours in exact float64 arithmetic."""
    cut = np.array([np.float32(x)], np.float32).view(np.uint32) >> 16
    near = (np.arange(-2, 3) + cut.astype(np.int64)).clip(0).astype(np.uint32)
    values = (near << 16).view(np.float32).astype(np.float64)
    values = values[np.isfinite(values)]
    distance = np.abs(values - x)
    return list(values[distance == distance.min()])


@settings(max_examples=300, derandomize=True)
@given(st.integers(1, 0x7F7E), st.sampled_from([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF]), st.integers(-2, 2))
def test_bfloat16_rounds_to_the_nearest(upper: int, lower: int, steps: int) -> None:
    start = np.array([upper << 16 | lower], np.uint32).view(np.float32)
    for dtype in (np.float32, np.float64):
        value = start.astype(dtype)
        for _ in range(abs(steps)):
            value = np.nextafter(value, dtype(np.copysign(np.inf, steps)))
        got = bfloat16(value)
        best = nearest_bfloat16(float(value[0]))
        assert (got.astype(np.uint32) << 16).view(np.float32)[0] in best
        assert len(best) == 1 or got[0] % 2 == 0


def test_bfloat16_at_ties_and_ends() -> None:
    one, ulp = 1.0, 2.0**-7
    ties = np.array([one + ulp / 2, one + 1.5 * ulp, one + ulp / 2 + 2**-40, one + 1.5 * ulp - 2**-40, -one - ulp / 2])
    assert bfloat16(ties).tolist() == [0x3F80, 0x3F82, 0x3F81, 0x3F81, 0xBF80]
    assert bfloat16(ties.astype(np.float32)).tolist() == [0x3F80, 0x3F82, 0x3F80, 0x3F82, 0xBF80]
    ends = np.array([np.inf, -np.inf, 0.0, -0.0, 3.4028234e38, 1e300, -1e300, 1e-320, 3.3895e38])
    want = [0x7F80, 0xFF80, 0, 0x8000, 0x7F80, 0x7F80, 0xFF80, 0, 0x7F7F]
    assert bfloat16(ends).tolist() == want
    quiet = np.array([0x7F800001, 0xFFFFFFFF, 0x7FFFFFFF], np.uint32).view(np.float32)
    loud = np.array([0x7FF0000000000001, 0xFFF8000000000000], np.uint64).view(np.float64)
    for nan in (quiet, loud):
        assert np.isnan((bfloat16(nan).astype(np.uint32) << 16).view(np.float32)).all()
    assert bfloat16(np.zeros((0, 2))).shape == (0, 2) and bfloat16(np.ones((2, 3)).T).shape == (3, 2)
    with pytest.raises(InputError, match="int64"):
        bfloat16(np.arange(3))


def test_writing_is_atomic_and_honours_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    old = os.umask(0o027)
    try:
        write_tensors(path, {"a": np.ones(2)})
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    mapped = map_tensors(path)["a"].raw
    write_tensors(path, {"a": np.zeros(2)})
    assert mapped.tolist() == [1, 1]  # the reader keeps the old file

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors_io.os, "fsync", full)
    with pytest.raises(InputError, match="No space left"):
        write_tensors(path, {"a": np.full(2, 7.0)})
    assert map_tensors(path)["a"].raw.tolist() == [0, 0]
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize(
    ("arrays", "metadata", "word"),
    [
        ({"a": np.zeros(2, complex)}, None, "complex128"),
        ({"a": np.array(["x"])}, None, "tensor a"),
        ({"a": np.zeros(2, np.longdouble)}, None, "tensor a"),
        ({"a": Stored("BF16", np.zeros(2, np.float32))}, None, "float32"),
        ({"a": Stored("F8", np.zeros(2, np.uint8))}, None, "F8"),
        ({"__metadata__": np.zeros(2)}, None, "metadata"),
        ({"a": np.zeros(2)}, {"a": 1}, "metadata"),
        ({"\ud800": np.zeros(2)}, None, "surrogate"),
        ({str(i): np.zeros(0) for i in range(70_000)}, None, "at most 65536"),
        ({"a": np.zeros(2)}, {"a": "x" * 2**24}, "at most 65536"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path: Path, arrays: Any, metadata: Any, word: str) -> None:
    with pytest.raises(InputError, match=word):
        write_tensors(tmp_path / "x", arrays, metadata)
    assert not list(tmp_path.iterdir())


def test_no_place_to_write(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such f"):
        write_tensors(tmp_path / "nowhere" / "x", {"a": np.zeros(2)})


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_tensors(path, {"a": np.ones((3, 2), np.float32), "b": np.arange(3)})
    whole = path.read_bytes()
    for length in range(len(whole)):
        refusal(path, whole[:length])
    refusal(path, whole + b"\0")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "0 bytes"),
        (b"garbage " * 40, "at most 16777216"),
        (b"\xff" * 64, "at most 16777216"),
        (pack(b"\xff\xfe{}"), "JSON"),
        (pack(b"[" * 100_000), "JSON"),
        (pack(b"{" + b" " * 9 + b'"a":1'), "JSON"),
        (pack([1]), "header with names"),
        (pack({"a": 1}), "whole safetensors"),
        (pack({"a": {}}), "whole safetensors"),
        (pack({"a": F32}, b"12345"), "whole safetensors"),
        (pack({"a": F32 | {"shape": [2]}}, b"1234"), "whole safetensors"),
        (pack({"a": F32 | {"shape": [-1]}}, b"1234"), "whole safetensors"),
        (pack({"a": F32 | {"shape": [1, 2**64 - 1]}}, b"1234"), "whole safetensors"),
        (pack({"a": F32 | {"dtype": "F99"}}, b"1234"), "whole safetensors"),
        (pack({"a": F32, "b": F32}, b"1234"), "whole safetensors"),
        (pack({"a": F32 | {"data_offsets": [2**63, 2**63 + 4]}}, b"1234"), "whole safetensors"),
        (pack({"a": F32 | {"data_offsets": [4, 0]}}, b"1234"), "whole safetensors"),
        (pack({"__metadata__": {"a": 1}, "a": F32}, b"1234"), "whole safetensors"),
        (
            pack({"a": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}, b"1234"),
            "a: expected one of .* type F8_E4M3",
        ),
        (pack({"a": F32 | {"shape": [0, 2**64 - 1], "data_offsets": [0, 0]}}), "a: expected a shape"),
        (pack({"a": F32 | {"shape": [1] * 70}}, b"1234"), "a: expected a shape"),
        (pack(b'{"a":' + json.dumps(F32).encode() + b',"a":' + json.dumps(F32).encode() + b"}", b"1234"), "twice"),
    ],
)
def test_hostile_files_are_refused(tmp_path: Path, content: bytes, word: str) -> None:
    assert re.search(word, refusal(tmp_path / "x", content))


def test_a_million_empty_tensors_are_refused_before_the_library_sees_them(tmp_path: Path) -> None:
    header = b"{" + b",".join(b'"%d":0' % i for i in range(70_000)) + b"}"
    assert "at most 65536 tensors" in refusal(tmp_path / "x", pack(header))


def test_folders_and_absent_files_are_refused(tmp_path: Path) -> None:
    for path, said in ((tmp_path, "a folder"), (tmp_path / "absent", "no such file")):
        with pytest.raises(InputError, match=f"got {said}"):
            map_tensors(path)


def test_an_unaligned_header_is_read(tmp_path: Path) -> None:
    text = json.dumps({"a": F32 | {"shape": [2], "data_offsets": [0, 8]}}).encode()
    content = pack(text + b" " * (3 - len(text) % 8), np.array([1.5, -2], np.float32).tobytes())
    (tmp_path / "x").write_bytes(content)
    assert map_tensors(tmp_path / "x")["a"].decode().tolist() == [1.5, -2]
    (tmp_path / "none").write_bytes(pack({}))
    assert map_tensors(tmp_path / "none") == {}
