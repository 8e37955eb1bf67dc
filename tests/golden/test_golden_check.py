"""The golden checker on a tiny case made here: what it accepts, what it refuses, and what it says."""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from safetensors.numpy import save_file

from glimmer_ref.cli import main
from glimmer_ref.golden import adapters, check, starter
from glimmer_ref.params.safetensors_io import Stored, write_tensors
from glimmer_ref.ragged import bfloat16

pytest_plugins = ("pytester",)

RNG = np.random.default_rng(4)
LENGTHS = np.array([2, 3])
# Quarters, so that every float type holds them exactly.
EXPECTED = {
    "question.out": RNG.integers(-9, 10, (5, 4)) / 4,
    "question.out.lengths": LENGTHS,
    "scores": np.array([0.5, 3.25, 1.0]),
    "selected": np.array([1, 2]),
    "cross.layer_0.k": RNG.integers(-9, 10, (5, 6)) / 4,
    "cross.layer_0.k.lengths": LENGTHS,
    "decoder.logits": RNG.integers(-9, 10, (3, 5)) / 4,
}
NAMES = [name for name in EXPECTED if not name.endswith(".lengths")]
TOLERANCES = {"float64": 1e-28, "float32": 1e-12, "tf32": 1e-6, "bfloat16": 1e-4}


def mistake(name: str, says: str, **errors: float | None) -> dict[str, Any]:
    named = {part.replace("__", "."): decades for part, decades in errors.items()}
    known = {part: decades for part, decades in named.items() if decades is not None}
    return {"name": name, "says": says, "first": next(iter(named)), "errors": known}


MISTAKES = [
    mistake("halved", "logits are not halved", decoder__logits=-0.6),
    mistake("doubled", "scores are not doubled", scores=0.0, selected=-20, decoder__logits=-20),
    mistake("reversed", "scores are not reversed", scores=0.0, selected=0.3),
    mistake("reshaped", "keys have heads", cross__layer_0__k=None, decoder__logits=0.0),
]


def write_case(folder: Path, **changes: Any) -> Path:
    """The tiny case as a folder."""
    folder.mkdir(parents=True)
    save_file({"question": np.array([5, 7, 2, 3, 1], np.int32), "question.lengths": LENGTHS}, folder / check.FILES[0])
    write_tensors(folder / check.FILES[1], {"embedding": Stored("BF16", bfloat16(np.ones((3, 4))))})
    save_file(EXPECTED, folder / check.FILES[2])
    tensors = []
    for name in NAMES:
        tolerance = {level: {"nmse": n, "max": 10 * n**0.5} for level, n in TOLERANCES.items()}
        tensors.append({"name": name, "symbol": "H", "shape": list(EXPECTED[name].shape), "tolerance": tolerance})
    about = {
        "format": "glimmer_ref golden",
        "format_version": 1,
        "case": folder.name,
        "licence": "CC0-1.0",
        "pins": "how small a case can be",
        "kind": "model",
        "system": "glimmer",
        "k": 3,
        "m": 2,
        "config": {"d_model": 4},
        "decisions": {"D6": "ties go to the lower index"},
        "tensors": tensors,
        "mistakes": MISTAKES,
        "files": {f: {"sha256": hashlib.sha256((folder / f).read_bytes()).hexdigest()} for f in check.FILES},
    }
    (folder / "case.json").write_text(json.dumps(about | changes))
    return folder


@pytest.fixture
def case(tmp_path: Path) -> Path:
    return write_case(tmp_path / "cases" / "tiny")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.safetensors"


def verdict(case: Path, name: str, x: Any, **companions: Any) -> check.Verdict:
    """What is said about one tensor given alone."""
    report = check.check(case, {name: x} | {f"{name}.{part}": y for part, y in companions.items()})
    assert not report.unknown
    return next(v for v in report.tensors if v.name == name)


def test_what_is_right_passes_in_every_precision(case: Path, out: Path) -> None:
    save_file(EXPECTED, out)
    for precision in check.PRECISIONS:
        report = check.check(case, out, precision)
        assert (report.code, report.first, report.unknown, report.causes) == (0, None, {}, [])
        assert [v.status for v in report.tensors] == ["ok"] * 5


def test_forward_order_and_the_first_stage_that_differs(case: Path) -> None:
    given = {"decoder.logits": EXPECTED["decoder.logits"] * 7, "scores": EXPECTED["scores"] * 5}
    report = check.check(case, given | {"selected": EXPECTED["selected"]})
    assert [v.name for v in report.tensors] == NAMES
    assert [v.status for v in report.tensors] == ["not given", "differs", "ok", "not given", "differs"]
    assert report.first is not None and report.first.name == "scores"
    assert report.code == 1
    assert "FIRST STAGE THAT DIFFERS: scores" in list(report.lines())


def test_errors_are_those_of_the_format() -> None:
    b = np.array([3.0, -4.0])
    assert check.errors(np.array([3.5, -4.0]), b) == (0.25 / 25, 0.5 / 4)
    assert check.errors(b * 1e200, b * 1e200) == (0.0, 0.0)
    assert check.errors(b * 2e200, b * 1e200) == pytest.approx((1.0, 1.0))
    assert check.errors(b, b * 0) == (np.inf, np.inf)
    assert check.errors(b * 0, b * 0) == (0.0, 0.0)


@pytest.mark.parametrize(("factor", "status"), [(0.9, "ok"), (1.1, "differs")])
@pytest.mark.parametrize("precision", check.PRECISIONS)
def test_the_tolerance_of_the_level_decides(case: Path, precision: str, factor: float, status: str) -> None:
    x = EXPECTED["decoder.logits"].copy()
    x[0, 0] += np.sqrt(TOLERANCES[precision] * factor * (x**2).sum())
    report = check.check(case, {"decoder.logits": x}, precision)
    assert report.tensors[-1].status == status


def test_the_greatest_error_alone_can_differ(case: Path) -> None:
    about = json.loads((case / "case.json").read_text())
    about["tensors"][1]["tolerance"]["float32"] = {"nmse": 1.0, "max": 1e-3}
    (case / "case.json").write_text(json.dumps(about))
    assert verdict(case, "scores", EXPECTED["scores"] + 0.01).status == "differs"
    assert verdict(case, "scores", EXPECTED["scores"] + 0.001).status == "ok"


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_float_types(case: Path, dtype: str) -> None:
    assert verdict(case, "question.out", EXPECTED["question.out"].astype(dtype)).status == "ok"


def test_bfloat16_is_read_from_a_file(case: Path, out: Path) -> None:
    write_tensors(out, {"scores": Stored("BF16", bfloat16(EXPECTED["scores"]))})
    assert check.read_tensors(out)["scores"].tolist() == EXPECTED["scores"].tolist()
    assert check.check(case, out).code == 0


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint64"])
def test_whole_number_types(case: Path, dtype: str) -> None:
    assert verdict(case, "selected", EXPECTED["selected"].astype(dtype)).status == "ok"


def heads(x: np.ndarray) -> np.ndarray:
    return x.reshape(5, 3, 2)


K = EXPECTED["cross.layer_0.k"]


@pytest.mark.parametrize(
    ("x", "note"),
    [
        (K, ""),
        (K[None], "matches reshaped from [1, 5, 6]"),
        (K.T, "matches transposed"),
        (np.asfortranarray(K), ""),
        (heads(K), "matches reshaped from [5, 3, 2]"),
        (heads(K).transpose(1, 0, 2), "matches transposed, reshaped from [5, 3, 2]"),
        (heads(K)[None].transpose(0, 2, 1, 3), "matches transposed, reshaped from [1, 5, 3, 2]"),
    ],
)
def test_layouts(case: Path, x: np.ndarray, note: str) -> None:
    found = verdict(case, "cross.layer_0.k", x, lengths=LENGTHS)
    assert (found.status, found.note) == ("ok", note)


def test_scores_as_a_column(case: Path) -> None:
    assert verdict(case, "scores", EXPECTED["scores"][:, None]).status == "ok"
    assert verdict(case, "selected", EXPECTED["selected"][None]).status == "ok"


def pad(x: np.ndarray, left: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """[b n ..] with NaN where there is nothing, and the mask."""
    mask = np.arange(4) < LENGTHS[:, None]
    mask = mask[:, ::-1] if left else mask
    padded = np.full((2, 4, *x.shape[1:]), np.nan)
    padded[mask] = x
    return padded, mask


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("dtype", ["bool", "int32", "float32"])
def test_padded(case: Path, left: bool, dtype: str) -> None:
    x, mask = pad(K, left)
    found = verdict(case, "cross.layer_0.k", x, mask=mask.astype(dtype))
    assert (found.status, found.note) == ("ok", "matches without its padding")


def test_padded_heads(case: Path) -> None:
    x, mask = pad(heads(K))
    assert verdict(case, "cross.layer_0.k", x, mask=mask).status == "ok"
    found = verdict(case, "cross.layer_0.k", x.transpose(0, 2, 1, 3), mask=mask)
    assert (found.status, found.note) == ("ok", "matches transposed, without its padding, reshaped from [5, 3, 2]")


def test_a_square_is_not_transposed_into_being_right_by_chance(case: Path) -> None:
    found = verdict(case, "cross.layer_0.k", K.T + 0.5)
    assert (found.status, found.note) == ("differs", "compared transposed")
    assert found.nmse == check.errors(K + 0.5, K)[0]


@pytest.mark.parametrize(
    ("name", "x", "companions", "said"),
    [
        ("question.out", np.zeros((5, 3)), {}, "shape [5, 3]; expected [5, 4]"),
        ("question.out", np.zeros((2, 3, 4)), {}, "if it is padded, give question.out.mask [b n] too"),
        ("question.out", np.zeros((1, 1, 1, 5, 4)), {}, "shape [1, 1, 1, 5, 4]"),
        ("question.out", EXPECTED["question.out"], {"lengths": [3, 2]}, "sequences of [3, 2] rows; expected [2, 3]"),
        ("question.out", pad(EXPECTED["question.out"])[0], {"mask": np.ones((2, 4))}, "[4, 4] rows; expected [2, 3]"),
        ("question.out", EXPECTED["question.out"], {"mask": np.full((2, 4), 2)}, "mask is not zeros and ones"),
        ("question.out", EXPECTED["question.out"], {"mask": np.ones(5)}, "mask is not zeros and ones"),
        ("question.out", EXPECTED["question.out"], {"mask": pad(K)[1]}, "shape [5, 4]; expected [5, 4]"),
        ("scores", np.array([0.5, np.nan, 1.0]), {}, "1 of 3 values are NaN or infinite"),
        ("scores", np.array([np.inf, -np.inf, 1.0]), {}, "2 of 3 values are NaN or infinite"),
        ("scores", np.array([1, 2, 3]), {}, "int64 values; expected floats"),
        ("scores", np.array([True, False, True]), {}, "bool values; expected floats"),
        ("scores", np.array([1j, 2, 3]), {}, "complex128 values; expected floats"),
        ("scores", np.array(["a", "b", "c"]), {}, "values; expected floats"),
        ("scores", np.zeros(0), {}, "shape [0]"),
        ("selected", np.array([1.0, 2.0]), {}, "float64 values; expected whole numbers"),
        ("selected", np.array([True, True]), {}, "bool values; expected whole numbers"),
        ("selected", np.array([2, 1]), {}, "[2, 1]; expected [1, 2]"),
        ("selected", np.array([1, 2, 0]), {}, "shape [3]; expected [2]"),
    ],
)
def test_what_cannot_be_right_is_said(case: Path, name: str, x: Any, companions: dict[str, Any], said: str) -> None:
    found = verdict(case, name, x, **companions)
    assert found.status == "differs"
    assert said in found.note and "\n" not in str(found)
    assert check.check(case, EXPECTED | {name: x} | {f"{name}.{p}": y for p, y in companions.items()}).code == 1


def test_what_is_no_array_is_said(case: Path) -> None:
    class Tensor:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            raise RuntimeError("call detach first")

    assert verdict(case, "scores", Tensor()).note == "call detach first"
    assert verdict(case, "scores", None).status == "differs"


def test_a_mask_may_be_a_list(case: Path) -> None:
    padded = {"scores": K[None], "scores.mask": [[1] * len(K)]}
    got, _ = check._candidates("scores", padded, {"scores": K})
    assert [x.tolist() for _, x in got] == [K.tolist()]


def test_a_line_is_ascii_and_a_note_has_no_space_at_its_end(case: Path) -> None:
    assert check.shown("a\x1b[\u202e\xe9 b") == r"a\x1b[\u202e\xe9 b"
    whole = {"selected": np.array([1, 0])}
    note = check.check_tensor("selected", {"selected": np.array([0, 1])}, whole, None).note
    assert note == "[0, 1]; expected [1, 0]"


def test_unknown_names_never_pass(case: Path) -> None:
    report = check.check(case, EXPECTED | {"decoder.logit": K, "\x1b[2J\n": K, "scores.lengths": [3]})
    assert report.code == 1 and report.first is None
    assert report.unknown == {"decoder.logit": "decoder.logits", "\x1b[2J\n": ""}
    text = "\n".join(report.lines())
    assert "did you mean decoder.logits?" in text and "\x1b" not in text


def test_a_companion_without_its_tensor_is_unknown(case: Path) -> None:
    report = check.check(case, {"scores": EXPECTED["scores"], "question.out.mask": pad(K)[1]})
    assert list(report.unknown) == ["question.out.mask"]


def test_thousands_of_unknown_names_take_no_time(case: Path) -> None:
    report = check.check(case, EXPECTED | {f"decoder.logits.{i}": K for i in range(9_000)})
    assert report.code == 1 and len(report.unknown) == 9_000 and len(list(report.lines())) < 40


@pytest.mark.parametrize("outputs", [{}, {"question.outt": K}, {"question.out.lengths": LENGTHS}])
def test_nothing_given_is_no_pass(case: Path, outputs: dict[str, Any]) -> None:
    report = check.check(case, outputs)
    assert report.code == 2
    assert "NOTHING GIVEN" in list(report.lines())[-1]


@pytest.mark.parametrize("outputs", [None, [1, 2], 7])
def test_outputs_of_another_kind(case: Path, outputs: Any) -> None:
    with pytest.raises(check.Unusable, match="outputs: expected arrays by name"):
        check.check(case, outputs)


# ---- files


def packed(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def one(**changes: Any) -> dict[str, Any]:
    return {"scores": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]} | changes}


TWICE = b'{"x": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}, "x": {}}'
MANY = {f"{i}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(10_001)}
GAP = one() | {"b": {"dtype": "U8", "shape": [1], "data_offsets": [13, 14]}}
OVERLAP = one() | {"b": {"dtype": "U8", "shape": [8], "data_offsets": [8, 16]}}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "whole safetensors header"),
        (b"1234567", "whole safetensors header"),
        ((2**63).to_bytes(8, "little"), "at most 16777216 bytes"),
        ((16 * 2**20 + 1).to_bytes(8, "little") + b" " * 100, "at most 16777216 bytes"),
        (packed(TWICE, b"1"), "a name that occurs twice"),
        (packed([1]), "header of another form"),
        (packed({"scores": 3}), "header of another form"),
        (packed({"scores": {}}), "header of another form"),
        (packed(b"[" * 200_000), "header"),
        (packed(b"\xff\xfe"), "whole safetensors file"),
        (
            packed({f"{i}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(10_001)}),
            "10001 tensors",
        ),
        (packed(one(), b"1" * 11), "scores F32 [3] in bytes 0 to 12 of 11"),
        (packed(one(), b"1" * 13), "13 bytes of data where 12 are described"),
        (packed(one(dtype="F8_E4M3", data_offsets=[0, 3]), b"123"), "scores of type F8_E4M3"),
        (packed(one(dtype=["\n"]), b"1" * 12), "header of another form"),
        (packed(one(shape=[-3]), b"1" * 12), "scores F32 [-3]"),
        (packed(one(shape=[3.0]), b"1" * 12), "scores F32 [3.0]"),
        (packed(one(shape=[True] * 3), b"1" * 12), "scores F32"),
        (packed(one(shape=[0, 2**70], data_offsets=[0, 0])), "whole safetensors file"),
        (packed(one(shape=[1] * 70, data_offsets=[0, 4]), b"1234"), "whole safetensors file"),
        (packed(one(data_offsets=[0, 2**70]), b"1" * 12), "scores F32 [3]"),
        (packed(one(data_offsets=[12, 0]), b"1" * 12), "scores F32 [3]"),
        (packed(one(data_offsets=[0, 12.0]), b"1" * 12), "whole safetensors file"),
        (packed(GAP, b"1" * 14), "b U8 [1] in bytes 13 to 14"),
        (packed(OVERLAP, b"1" * 16), "b U8 [8] in bytes 8 to 16"),
    ],
)
def test_hostile_files(case: Path, out: Path, raw: bytes, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    out.write_bytes(raw)
    assert check.main([str(case), str(out)]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and said in printed.err


def test_a_file_cut_anywhere_is_unusable(case: Path, out: Path) -> None:
    save_file(EXPECTED, out)
    raw = out.read_bytes()
    for end in range(0, len(raw), 7):
        out.write_bytes(raw[:end])
        with pytest.raises(check.Unusable):
            check.check(case, out)


def test_any_changed_byte_gives_a_report_or_a_line(case: Path, out: Path) -> None:
    save_file(EXPECTED, out)
    raw, rng = out.read_bytes(), np.random.default_rng(0)
    known = check.open_case(case)
    for _ in range(400):
        changed = bytearray(raw)
        changed[rng.integers(0, len(raw))] = rng.integers(0, 256)
        out.write_bytes(bytes(changed))
        try:
            report = check.check(known, out)
            assert report.code in (0, 1, 2) and "\n" not in "".join(report.lines())
            json.dumps(report.to_json(), allow_nan=False)
        except check.Unusable as error:
            assert str(error).startswith(str(out))


def test_nan_everywhere_differs_everywhere(case: Path, out: Path) -> None:
    given = {n: np.full(EXPECTED[n].shape, np.nan) if EXPECTED[n].dtype.kind == "f" else EXPECTED[n] for n in NAMES}
    save_file(given, out)
    report = check.check(case, out, "bfloat16")
    assert report.code == 1 and [v.status for v in report.tensors].count("differs") == 4
    assert report.causes == []


def test_no_file(case: Path, tmp_path: Path) -> None:
    for path in ("absent.safetensors", "."):
        with pytest.raises(check.Unusable, match="no such file"):
            check.check(case, tmp_path / path)


def test_a_folder_has_the_file_of_the_case(case: Path, tmp_path: Path) -> None:
    save_file(EXPECTED, tmp_path / "tiny.safetensors")
    save_file({"other": K}, tmp_path / "other.safetensors")
    assert check.check(case, tmp_path).code == 0


# ---- cases


def test_no_such_case(tmp_path: Path) -> None:
    with pytest.raises(check.Unusable, match=r"a folder with a case\.json"):
        check.open_case(tmp_path)


def test_a_case_by_its_name(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "CASES", case.parent)
    assert check.bundled() == ["tiny"]
    assert check.open_case("tiny").folder == case
    with pytest.raises(check.Unusable, match="one of: tiny"):
        check.open_case("tinny")


@pytest.mark.parametrize("file", check.FILES)
def test_a_changed_file_of_a_case(case: Path, file: str) -> None:
    raw = bytearray((case / file).read_bytes())
    raw[-1] ^= 1
    (case / file).write_bytes(raw)
    with pytest.raises(check.Unusable, match=rf"{file}: expected SHA-256 .* changed or damaged"):
        check.check(case, EXPECTED)


@pytest.mark.parametrize(
    "changes",
    [
        {"format_version": 2},
        {"format": "another"},
        {"files": {}},
        {"tensors": [{"name": "absent", "tolerance": {}}]},
        {"tensors": [{"name": "scores", "tolerance": {"float32": {"nmse": 1}}}]},
        {"tensors": 3},
        {"tensors": [{"name": "scores", "tolerance": {p: {"nmse": "a", "max": 1} for p in check.PRECISIONS}}]},
        {"tensors": [{"name": "scores", "tolerance": {p: {"nmse": -1, "max": 1} for p in check.PRECISIONS}}]},
        {"mistakes": [{"name": "x", "says": "y", "first": "scores", "errors": {"scores": "a"}}]},
        {"mistakes": [{"name": "x", "says": "y"}]},
        {"refusals": [{}]},
    ],
)
def test_a_case_of_another_form(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = write_case(tmp_path / "odd", **changes)
    with pytest.raises(check.Unusable, match=r"case\.json"):
        check.open_case(folder)


def test_a_case_that_lacks_something(case: Path) -> None:
    (case / "weights.safetensors").unlink()
    with pytest.raises(check.Unusable, match="a readable file"):
        check.open_case(case)
    for text in ("{", "[1]", "[" * 200_000):
        (case / "case.json").write_text(text)
        with pytest.raises(check.Unusable, match=r"case\.json"):
            check.open_case(case)


def test_any_changed_letter_of_a_case_gives_a_report_or_a_line(case: Path) -> None:
    text, rng = (case / "case.json").read_text(), np.random.default_rng(0)
    for _ in range(300):
        at, letter = rng.integers(0, len(text)), rng.choice(list('x1[]{},":e-'))
        (case / "case.json").write_text(text[:at] + letter + text[at + 1 :])
        try:
            list(check.check(case, EXPECTED | {"scores": EXPECTED["scores"] * 2}).lines())
        except check.Unusable as error:
            assert str(error).startswith(str(case))


def test_no_such_precision(case: Path) -> None:
    with pytest.raises(check.Unusable, match="precision: expected one of float64, float32, tf32, bfloat16"):
        check.check(case, EXPECTED, "float8")


# ---- known mistakes


def named(case: Path, **given: Any) -> list[str]:
    report = check.check(case, {name.replace("__", "."): x for name, x in given.items()})
    return [cause["name"] for cause in report.causes]


LOGITS, SCORES = EXPECTED["decoder.logits"], EXPECTED["scores"]


def test_a_known_mistake_is_named(case: Path) -> None:
    report = check.check(case, EXPECTED | {"decoder.logits": LOGITS / 2})
    assert "likely cause: logits are not halved (halved)" in list(report.lines())
    assert named(case, decoder__logits=LOGITS / 2 + 0.01) == ["halved"]
    assert named(case, cross__layer_0__k=K[:, :3], decoder__logits=LOGITS * 2) == ["reshaped"]


def test_a_doubt_names_all_candidates(case: Path) -> None:
    assert named(case, scores=SCORES * 2) == ["doubled", "reversed"]
    assert named(case, scores=SCORES * 2, selected=np.array([1, 2])) == ["doubled"]
    lines = list(check.check(case, {"scores": SCORES * 2}).lines())
    assert [line.split(":")[0] for line in lines[-3:-1]] == ["possible cause"] * 2


def test_other_errors_name_none(case: Path) -> None:
    assert named(case, decoder__logits=LOGITS * 1.1) == []
    assert named(case, question__out=EXPECTED["question.out"] * 2, decoder__logits=LOGITS / 2) == []
    assert named(case, scores=SCORES * 2, decoder__logits=LOGITS * 9, selected=np.array([1, 2])) == []
    assert named(case, cross__layer_0__k=K[:, :3]) == []
    assert named(case, decoder__logits=LOGITS * np.nan) == []
    lines = list(check.check(case, {"scores": SCORES * 9}).lines())
    assert "likely cause: none; no known mistake has these errors" in lines


# ---- ways in


def test_a_callable(case: Path) -> None:
    def implementation(config: Any, weights: Any, inputs: Any) -> dict[str, Any]:
        assert config == {"d_model": 4} and inputs["question"].tolist() == [5, 7, 2, 3, 1]
        assert weights["embedding"].dtype == np.float32 and weights["embedding"].shape == (3, 4)
        return {"scores": EXPECTED["scores"]}

    assert adapters.check_callable(case, implementation).code == 0
    with pytest.raises(ZeroDivisionError):
        adapters.check_callable(case, lambda config, weights, inputs: 1 // 0)


REFUSALS = [
    {"name": "m_above_k", "change": {"m": 4, "config": {"d_model": 5}}, "expected": "an error about m"},
    {"name": "empty", "change": {"inputs": {"question": []}}, "expected": "an error about the question"},
    {"name": "nan", "change": {"weights": {"embedding": "nan"}}, "expected": "an error"},
    {"name": "missing", "change": {"weights": {"embedding": None}}, "expected": "an error"},
]


def test_refusals(tmp_path: Path) -> None:
    config = {"d_model": 4, "glimmer": {"m": 2, "k": 3}}
    folder = write_case(tmp_path / "no", kind="refuse", refusals=REFUSALS, config=config, tensors=[])
    seen = []

    def careless(config: Any, weights: Any, inputs: Any) -> dict[str, Any]:
        seen.append((config, weights, inputs))
        assert config["glimmer"] == {"m": 2, "k": 3} and inputs["question"].size
        return {}

    report = adapters.check_callable(folder, careless)
    assert [v.status for v in report.tensors] == ["ok", "ok", "differs", "differs"]
    assert seen[1][0] == {"d_model": 5, "glimmer": {"m": 4, "k": 3}}
    assert seen[2][2]["question"].dtype == np.int32
    assert np.isnan(seen[3][1]["embedding"]).all() and seen[4][1] == {}
    assert str(report.first).split() == ["differs", "refused.nan", "[0];", "expected", "[1]"]
    assert check.check(folder, {f"refused.{r['name']}": 1 for r in REFUSALS}).code == 0


WRITER = "import sys, safetensors.numpy as s; s.save_file({'scores': s.load_file(sys.argv[1] + '/expected.safetensors')"
WRITER += "['scores']}, sys.argv[2]); print('done')"


def test_a_command(case: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program = tmp_path / "program.py"
    program.write_text(WRITER)
    assert (
        main(["golden", "check", str(case), "--run", f"'{sys.executable}' {program} {{case}} {{out}}", "--json"]) == 0
    )
    printed = capfd.readouterr()
    assert json.loads(printed.out)["code"] == 0
    assert printed.err == "done\n"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("true", "a command with {case} and {out} in it"),
        ("true {case}", "a command with {case} and {out} in it"),
        ("false {case} {out}", "got exit code 1"),
        ("true {case} {out}", "got no such file"),
        ("no-such-program-here {case} {out}", "a command that can be started"),
        ("true '{case} {out}", "with all its quotation marks"),
    ],
)
def test_a_command_that_fails(case: Path, command: str, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["golden", "check", str(case), "--run", command]) == 2
    printed = capfd.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and said in printed.err


def test_the_command_line(case: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    junit = out.with_suffix(".xml")
    given = {"scores": EXPECTED["scores"] * 2, "selected": EXPECTED["selected"], "sc\x1bores": K}
    save_file(given, out)
    assert main(["golden", "check", str(case), str(out), "--junit", str(junit)]) == 1
    printed = capsys.readouterr().out
    assert "FIRST STAGE THAT DIFFERS: scores" in printed and "likely cause: scores are not doubled" in printed
    suite = ElementTree.parse(junit).getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("6", "2", "3")
    assert main(["golden", "check", str(case), str(out), "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["first"] == "scores" and [t["status"] for t in data["tensors"]].count("not given") == 3
    assert main(["golden", "check", str(case / "absent"), str(out)]) == 2
    assert capsys.readouterr().err.startswith("glimmer-ref: error: ")


def test_nothing_given_fails_in_junit_too(case: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"x": K}, out)
    assert main(["golden", "check", str(case), str(out), "--junit", str(out.with_suffix(".xml"))]) == 2
    assert 'message="nothing given"' in out.with_suffix(".xml").read_text()


def test_list_and_show(case: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(check, "CASES", case.parent)
    assert main(["golden", "list"]) == 0
    assert capsys.readouterr().out.split() == ["tiny", "how", "small", "a", "case", "can", "be"]
    assert main(["golden", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["tensors"] == 5
    assert main(["golden", "show", "tiny"]) == 0
    shown = capsys.readouterr().out
    assert "question = [[5, 7], [2, 3, 1]]  # int32 [5], lengths [2, 3]" in shown
    assert 'config = {\n "d_model": 4\n}' in shown and "embedding float32 [3, 4]" in shown
    assert "D6: ties go to the lower index" in shown
    for name in NAMES:
        assert f"\n{name} " in shown


def test_check_alone_needs_numpy_only(case: Path, out: Path, tmp_path: Path) -> None:
    (tmp_path / "check.py").write_text(Path(check.__file__).read_text())
    save_file(EXPECTED, out)
    code = "import sys; sys.path.insert(0, sys.argv[1]); import check; print(check.main(sys.argv[2:])); "
    code += "print({m.split('.')[0] for m in sys.modules} & {'glimmer_ref', 'safetensors', 'numba'})"
    words = [sys.executable, "-I", "-c", code, str(tmp_path), str(case), str(out)]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[-2:] == ["0", "set()"]


# ---- starters


def test_the_python_starter_runs_and_gives_nothing(case: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    assert main(["golden", "starter", "--lang", "python", str(folder)]) == 0
    run = [sys.executable, "implementation.py", str(case), "out.safetensors"]
    said = subprocess.run(run, cwd=folder, capture_output=True, text=True, check=True).stdout
    assert said.split("\n")[0].split() == ["question", "not", "written"]
    checked = [sys.executable, "check.py", str(case), "out.safetensors"]
    result = subprocess.run(checked, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stdout.count("not given ") == 5 and "NOTHING GIVEN" in result.stdout


def test_a_stage_filled_in_is_checked(case: Path, tmp_path: Path) -> None:
    starter.write("python", tmp_path / "mine")
    source = tmp_path / "mine" / "implementation.py"
    before, after = source.read_text().split("def top_m")
    stage = (
        '    return {"selected": np.argsort(-before["scores"], kind="stable")[: config["d_model"] // 2], "other": 1}\n'
    )
    source.write_text(before + "def top_m" + after.replace("    return None\n", stage, 1))
    for words in (["implementation.py", str(case), "out.safetensors"], ["check.py", str(case), "out.safetensors"]):
        done = subprocess.run([sys.executable, *words], cwd=tmp_path / "mine", capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert "1 ok, 0 differs, 4 not given" in done.stdout


@pytest.mark.parametrize("language", starter.LANGUAGES)
def test_starters(tmp_path: Path, language: str, capsys: pytest.CaptureFixture[str]) -> None:
    first, *_, checker = starter.write(language, tmp_path)
    if language in starter.FRAMEWORKS:
        compile(first.read_text(), "implementation.py", "exec")
    assert "glimmer_ref" not in first.read_text()
    assert checker.read_bytes() == Path(check.__file__).read_bytes()
    first.unlink()
    checker.write_text("mine")
    assert main(["golden", "starter", "--lang", language, str(tmp_path)]) == 2
    assert "one that is there already" in capsys.readouterr().err
    assert checker.read_text() == "mine" and not first.exists()


def test_what_outputs_are_in_instead_is_said(case: Path, tmp_path: Path) -> None:
    for text in ('{"scores": [1, 2]}', "a,b,c,d,e,f,g\n1,2,3\n"):
        (tmp_path / "outputs").write_text(text)
        with pytest.raises(check.Unusable, match="got what looks like text: JSON or CSV, perhaps"):
            check.check(case, tmp_path / "outputs")


def test_on_windows_a_command_is_a_line_that_the_program_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backslash is no escape there."""
    monkeypatch.setattr(adapters, "WINDOWS", True)
    places = {"{case}": r"C:\my case", "{out}": r"C:\tmp\out.safetensors"}
    line = r'"C:\Program Files\me.exe" {case} --to={out}'
    said = r'"C:\Program Files\me.exe" "C:\my case" --to=C:\tmp\out.safetensors'
    assert adapters._arguments(line, places) == said


# ---- pytest's plugin


@pytest.fixture
def outside(pytester: pytest.Pytester, case: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run pytest as somebody else would, on the tiny case."""
    monkeypatch.setattr(check, "CASES", case.parent)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return lambda *words: pytester.runpytest_inprocess("-p", "glimmer_ref.golden.pytest_plugin", "-rs", *words)


def test_the_plugin_gives_one_test_a_tensor(outside: Any, pytester: pytest.Pytester) -> None:
    save_file({"scores": EXPECTED["scores"], "decoder.logits": EXPECTED["decoder.logits"] * 2}, "tiny.safetensors")
    result = outside("--glimmer-outputs", ".")
    result.assert_outcomes(passed=1, failed=1, skipped=3)
    result.stdout.fnmatch_lines(["*differs*decoder.logits*NMSE*"])
    result.stdout.fnmatch_lines(["*SKIPPED*not given*"])
    outside("--glimmer-outputs", ".", "-k", "scores").assert_outcomes(passed=1, deselected=4)
    outside("--glimmer-outputs", ".", "--glimmer-precision", "float8").assert_outcomes(failed=2)


def test_the_plugin_never_passes_for_want_of_tensors(outside: Any, pytester: pytest.Pytester) -> None:
    outside("--glimmer-outputs", "absent").assert_outcomes(failed=1, skipped=1)
    save_file({"score": EXPECTED["scores"]}, "tiny.safetensors")
    save_file({"score": EXPECTED["scores"]}, "tinny.safetensors")
    result = outside("--glimmer-outputs", ".")
    result.assert_outcomes(failed=3, skipped=5)
    result.stdout.fnmatch_lines(["*named like no case*", "*did you mean scores?*", "*nothing given*"])
    Path("tiny.safetensors").write_bytes(b"123")
    outside("--glimmer-outputs", ".").assert_outcomes(failed=3)


def test_names_of_others_do_not_reach_a_terminal(case: Path, outside: Any, pytester: pytest.Pytester) -> None:
    evil = "\x1b[31m\x07\u202e"
    about = json.loads((case / "case.json").read_text())
    for change in ({"format": evil}, {"tensors": [{"name": evil, "tolerance": {}}]}, {"mistakes": [{"name": evil}]}):
        (case / "case.json").write_text(json.dumps(about | change))
        with pytest.raises(check.Unusable) as said:
            check.open_case(case)
        assert str(said.value).isprintable()
    (case / "case.json").write_text(json.dumps(about))
    save_file({evil: EXPECTED["scores"]}, f"{evil}.safetensors")
    save_file({evil: EXPECTED["scores"]}, "tiny.safetensors")
    result = outside("--glimmer-outputs", ".", "-v", "--color=no")
    assert all(line.isprintable() for line in result.outlines)
    result.assert_outcomes(failed=3, skipped=5)


def test_the_plugin_sleeps_without_its_option(outside: Any, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_one(): pass")
    outside().assert_outcomes(passed=1)
    code = "import sys, glimmer_ref.golden.pytest_plugin; print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


# ---- the edges of what is said


def judged(first: str, nmse: dict[str, float | None], tolerance: float | None = 1e-12) -> list[check.Verdict]:
    """Verdicts of these errors, all of which differ from `first` on."""
    names, allowed = list(nmse), None if tolerance is None else {"nmse": tolerance, "max": 1.0}
    status = dict.fromkeys(names[names.index(first) :], "differs")
    return [check.Verdict(name, status.get(name, "ok"), allowed, nmse[name], 1.0) for name in names]


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"a": 0.1, "b": 0.0}, True),  # as near as it may be, seen 10^0
        ({"a": 0.11, "b": 0.0}, False),
        ({"a": 0.05, "b": 0.14}, True),  # the mean and the first decide, not each
        ({"a": 0.14, "b": 0.05}, False),
        ({"a": 0.1, "b": 0.1}, True),
        ({"a": 0.1, "b": 0.12}, False),
    ],
)
def test_how_near_a_mistake_must_be(known: dict[str, float], expected: bool) -> None:
    mistakes = [mistake("it", "it", **known)]
    assert (check.causes(mistakes, judged("a", {"a": 1.0, "b": 1.0})) == mistakes) is expected


@pytest.mark.parametrize(
    ("one", "two", "names"),
    [
        (0.0, 0.02, ["one", "two"]),  # both are the same, as far as can be seen
        (0.0, 0.03, ["one"]),
        (0.01, 0.02, ["one", "two"]),
        (0.02, 0.07, ["one"]),
        (0.1, 0.29, []),  # neither fits, and one not much better than the other
        (0.1, 0.31, ["one"]),
        (0.05, 0.14, []),
        (0.05, 0.16, ["one"]),
    ],
)
def test_how_much_nearer_leaves_no_doubt(one: float, two: float, names: list[str]) -> None:
    mistakes = [mistake("two", "two", a=two), mistake("one", "one", a=one)]
    assert [m["name"] for m in check.causes(mistakes, judged("a", {"a": 1.0}))] == names


@pytest.mark.parametrize(("known", "expected"), [(-15.95, True), (-15.85, False)])
def test_whole_numbers_have_a_floor_too(known: float, expected: bool) -> None:
    mistakes = [mistake("it", "it", a=known)]
    assert bool(check.causes(mistakes, judged("a", {"a": 0.0}, None))) is expected


def test_attention_probabilities_neither_speak_for_a_cause_nor_against_it() -> None:
    mistakes = [mistake("it", "it", a__out=0.0)]
    assert check.causes(mistakes, judged("a.probs.0", {"a.probs.0": 1.0, "a.out": 1.0})) == mistakes
    assert check.causes(mistakes, judged("a.probs.0", {"a.probs.0": 1.0, "a.out": 1e-9})) == []


def test_at_most_three_causes() -> None:
    mistakes = [mistake(name, name, a=0.0) for name in "pqrs"]
    assert check.causes(mistakes, judged("a", {"a": 1.0})) == mistakes[:3]


def test_as_many_tensors_as_may_be(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {f"{i}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(3)}
    out.write_bytes(packed(few))
    assert check.MOST_TENSORS == 10_000
    monkeypatch.setattr(check, "MOST_TENSORS", 3)
    assert sorted(check.read_tensors(out)) == ["0", "1", "2"]


def test_a_huge_file_is_not_read(out: Path) -> None:
    with open(out, "wb") as file:
        file.truncate(2**30 + 1)
    with pytest.raises(check.Unusable, match="of at most 1073741824 bytes; got 1073741825 bytes"):
        check.read_tensors(out)


def test_what_is_said_is_short(case: Path) -> None:
    said = verdict(case, "question.out", EXPECTED["question.out"], lengths=np.full(40, 2**60)).note
    assert said.startswith("sequences of [1152921504606846976, ") and len(said) == 200
    lines = list(check.check(case, EXPECTED | {f"{'x' * 90}{i:03}": K for i in range(50)}).lines())
    unknown = [line for line in lines if line.startswith("unknown")]
    assert len(unknown) == 20 and {line.split()[1] for line in unknown} == {"x" * 80}


def test_the_file_alone_as_a_command(case: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"scores": EXPECTED["scores"] * np.nan}, out)
    assert check.main([str(case), str(out), "--json"]) == 1
    assert capsys.readouterr().out.startswith('{\n "case": "tiny",\n "precision": "float32",\n "tensors": [\n  {\n')
    with pytest.raises(SystemExit, match="2"):
        check.main([str(case), str(out), "--precision", "float31"])
    assert "invalid choice: 'float31'" in capsys.readouterr().err


def test_a_mask_is_asked_for_only_where_none_was_given(case: Path) -> None:
    x, hint = np.zeros((2, 3, 9)), "; if it is padded, give question.out.mask [b n] too"
    assert verdict(case, "question.out", x).note == f"shape [2, 3, 9]; expected [5, 4]{hint}"
    masked = verdict(case, "question.out", x, mask=np.array([[1, 1, 0], [1, 1, 1]]))
    assert masked.note == "shape [2, 3, 9]; expected [5, 4]"
    assert verdict(case, "scores", np.zeros(4)).note == "shape [4]; expected [3]"


def test_metadata_of_a_file_is_no_tensor(case: Path, out: Path) -> None:
    save_file({"scores": EXPECTED["scores"]}, out, metadata={"format": "pt"})
    assert list(check.read_tensors(out)) == ["scores"]
    assert check.check(case, out).code == 0


def test_the_last_line_says_whether_it_is_right(case: Path) -> None:
    last = [list(check.check(case, given).lines())[-1] for given in ({"scores": SCORES}, {"scores": SCORES * 9}, {})]
    assert last == [
        "tiny in float32: right: 1 ok, 0 differs, 4 not given, 0 unknown",
        "tiny in float32: NOT RIGHT: 0 ok, 1 differs, 4 not given, 0 unknown",
        "tiny in float32: NOTHING GIVEN: 0 ok, 0 differs, 5 not given, 0 unknown",
    ]


# ---- other files, other types, and a brief report


def test_an_npz_is_read_whatever_its_name(case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "tiny.npz", **EXPECTED)
    np.savez_compressed(tmp_path / "packed.npz", **EXPECTED)
    (tmp_path / "packed.npz").rename(tmp_path / "out.safetensors")
    for given in (tmp_path / "tiny.npz", tmp_path / "out.safetensors", tmp_path):
        report = check.check(case, given)
        assert report.code == 0 and [v.status for v in report.tensors] == ["ok"] * 5
    assert main(["golden", "check", str(case), str(tmp_path / "tiny.npz")]) == 0
    assert "right: 5 ok" in capsys.readouterr().out


def test_an_npz_from_a_command(case: Path, tmp_path: Path) -> None:
    program = tmp_path / "mine.py"
    program.write_text("import sys, numpy as np\nnp.savez(sys.argv[1], scores=np.array([0.5, 3.25, 1.0]))\n")
    report = adapters.check_command(case, f"{sys.executable} {program} {{out}} {{case}}")
    assert report.code == 0


def test_an_npz_that_cannot_be_read(case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.npz"
    np.savez(path, scores=np.array([{}], object))
    with pytest.raises(check.Unusable, match=r"a whole \.npz of arrays of numbers"):
        check.check(case, path)
    np.savez_compressed(path, scores=RNG.random(1000))
    whole = path.read_bytes()
    for end in (4, 40, len(whole) // 2, len(whole) - 4):
        path.write_bytes(whole[:end])
        with pytest.raises(check.Unusable):
            check.check(case, path)
    for at in range(0, len(whole), 37):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        with contextlib.suppress(check.Unusable):
            check.check(case, path)
    path.write_bytes(whole)
    monkeypatch.setattr(check, "MOST_FILE_BYTES", 7000)
    with pytest.raises(check.Unusable, match=r"at most 7000 bytes .* got 8128 bytes in 1 arrays"):
        check.check(case, path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", b"123")
    with pytest.raises(check.Unusable, match="a zip archive, PyTorch's, perhaps"):
        check.check(case, path)


@pytest.mark.parametrize(("name", "level"), [("float16", "tf32"), ("bfloat16", "bfloat16")])
def test_numbers_that_look_like_a_shorter_type_are_told(name: str, level: str) -> None:
    known = check.open_case("glimmer")

    def narrow(x: np.ndarray) -> np.ndarray:
        if x.dtype.kind != "f":
            return x
        short = bfloat16(x).astype(np.uint32) << 16
        return short.view(np.float32) if name == "bfloat16" else x.astype(np.float16).astype(np.float32)

    outputs = {tensor: narrow(x) for tensor, x in known.expected.items()}
    report = check.check(known, outputs)
    assert report.rounded == report.to_json()["rounded"] == name
    assert any(line.startswith(f"these numbers look like {name}: give float32") for line in report.lines())
    assert not any("likely cause: none" in line for line in report.lines())
    assert check.check(known, outputs, level).code == 0
    assert check.check(known, outputs, "tf32").rounded == ""
    exact = {tensor: x * 1.001 if x.dtype.kind == "f" else x for tensor, x in known.expected.items()}
    assert check.check(known, exact).rounded == ""
    assert check.check(known, exact | {"live_b.out": outputs["live_b.out"]}).rounded == ""


def test_few_numbers_and_numbers_that_are_meant_to_be_short_look_like_no_type() -> None:
    few, many = np.full(check.FEWEST_NUMBERS - 1, 0.1, np.float32), np.full(check.FEWEST_NUMBERS, 0.1, np.float32)
    for expected, said in ((few, ""), (np.ones_like(many), ""), (many, "float16")):
        differs = check.Verdict("x", "differs", {"nmse": 0.0, "max": 0.0}, 1.0, 1.0)
        given = (expected * 3).astype(np.float16).astype(np.float32)
        assert check._rounded({"x": given}, {"x": expected}, [differs]) == said


def test_a_brief_report(case: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"scores": EXPECTED["scores"] * 2, "selected": EXPECTED["selected"], "other": EXPECTED["scores"]}, out)
    for command in (lambda *words: main(["golden", "check", *words]), lambda *words: check.main(list(words))):
        assert command(str(case), str(out), "--brief") == 1
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 4
        assert lines[0].startswith("differs   scores ") and lines[1].startswith("unknown   other")
        assert lines[3] == "tiny in float32: NOT RIGHT: 1 ok, 1 differs, 3 not given, 1 unknown"
    save_file({"scores": EXPECTED["scores"]}, out)
    assert list(check.check(case, out).lines(brief=True)) == [
        "tiny in float32: right: 1 ok, 0 differs, 4 not given, 0 unknown"
    ]


@pytest.mark.parametrize(("name", "tied"), [("beta_0", True), ("glimmer", False)])
def test_passages_of_equal_scores_are_told_from_wrong_ones(name: str, tied: bool) -> None:
    """At beta 0 all scores are equal but for the rounding, which must not decide."""
    case = check.open_case(name)
    chosen = case.expected["selected"]
    others = np.array([i for i in range(len(case.expected["scores"])) if i not in chosen[1:]][: len(chosen)])
    (verdict,) = (v for v in case.verdicts(case.expected | {"selected": others}, "float64") if v.name == "selected")
    assert verdict.status == "differs" and f"expected {chosen.tolist()}" in verdict.note
    assert verdict.note.endswith(f"; {check.TIED}") == tied
    for wrong in (chosen[:1], np.array([0, 0, 1]), np.array([5, 6, 7]), np.array([-1, 0, 1])):
        (verdict,) = (v for v in case.verdicts(case.expected | {"selected": wrong}, "float64") if v.name == "selected")
        assert verdict.status == "differs" and check.TIED not in verdict.note
    padded = {"selected": np.array([[1, 2, 0, 0]]), "selected.mask": np.array([[0, 1, 1, 1]])}
    (verdict,) = (v for v in case.verdicts(case.expected | padded, "float64") if v.name == "selected")
    assert verdict.status == "differs" and check.TIED not in verdict.note
