"""What commands refuse, and whether the advice in the error helps if one follows it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from glimmer_ref.cli import main
from glimmer_ref.inference.reader import bundled

ASK = ("ask", "Who wrote The Crooked Sailor?", "--ops", "numpy")


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Any:
    """The one line with which a command refuses its input."""

    def call(*words: object) -> str:
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        lines = [line for line in err.splitlines(keepends=True) if ": error: " in line]
        assert (code, out, len(lines)) == (2, "", 1) and err.endswith(lines[0])
        return lines[0]

    return call


@pytest.fixture
def passages(tmp_path: Path) -> Path:
    path = tmp_path / "passages.jsonl"
    path.write_text("".join(f'{{"text": "He earned a living as a tailor.", "id": "{i}"}}\n' for i in range(5)))
    return path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            (*ASK, "--explane"),
            "glimmer-ref ask: error: unknown: --explane; did you mean --explain?; glimmer-ref ask --help",
        ),
        ((*ASK, "more"), "glimmer-ref ask: error: unknown: more; glimmer-ref ask --help"),
        (
            ("flops", "figure2", "--k", "3"),
            "glimmer-ref flops figure2: error: unknown: --k 3; glimmer-ref flops figure2",
        ),
        (
            ("index", "info", "x", "--veryfy"),
            "glimmer-ref index info: error: unknown: --veryfy; did you mean --verify?",
        ),
        ((*ASK, "--k", "many"), "--k: expected a whole number; got 'many'"),
        (("memory", "plan", "--passages", "5", "--rate", "fast"), "--rate: expected a number; got 'fast'"),
        (("evaluate", "q.jsonl", "--gtr", "x"), "--gtr: expected --index DIR beside it"),
        (("index", "build", "p.jsonl", "x", "--bm25", "--revision", "main"), "--revision: expected none with --bm25"),
        (("index", "build", "p.jsonl", "x", "--bm25", "--download"), "--download: expected none with --bm25"),
        (
            ("memory", "plan", "--passages", "5", "--rate", "inf"),
            "--rate: expected a number of tokens a second above 0",
        ),
        (("memory", "plan", "--passages", "5", "--alpha", "1/2"), "--alpha: expected --size beside it"),
        (("memory", "plan", "p.jsonl", "--tokens", "5"), "--tokens: expected none with PASSAGES.jsonl"),
        (("retrieve", "who?", "--index", "x", "--out", "y"), "--out: expected --questions FILE.jsonl beside it"),
        (("retrieve", "--index", "x", "--questions", "q", "--out", "y", "--passages", "p"), "leave out --passages"),
        (("flops", "sweep", "--over", "k=5", "--k", "3"), "--over k: expected no --k beside it"),
        (("flops", "rerankers", "--reranker-size", "x"), "--reranker-size: expected one of small"),
    ],
)
def test_each_is_refused_by_its_name(refused: Any, words: tuple[str, ...], said: str) -> None:
    assert said in refused(*words)


def test_advice_fits_what_was_given(refused: Any, passages: Path) -> None:
    assert "lower" not in refused(*ASK, "--passages", passages, "--k", "0")
    assert "lower" not in refused(*ASK, "--passages", passages, "--m", "0")
    assert "lower m or raise k" in refused(*ASK, "--passages", passages, "--k", "2", "--m", "3")


@pytest.mark.parametrize("pattern", ["(", "[", "*", "a{2,1}"])
def test_a_broken_pattern_is_refused(refused: Any, tmp_path: Path, pattern: str) -> None:
    inputs = tmp_path / "ids.json"
    inputs.write_text('{"question": [1, 2], "passages": [[3], [4]]}')
    words = ("trace", "--inputs", inputs, "--out", tmp_path / "t", "--only", pattern, "--ops", "numpy")
    assert "only: expected a regular expression; got" in refused(*words)
    assert not (tmp_path / "t").exists()


def test_ids_are_shown_as_numbers(refused: Any, tmp_path: Path) -> None:
    inputs = tmp_path / "ids.json"
    inputs.write_text(json.dumps({"question": [1], "passages": [[-3, 9]]}))
    assert "got ids from -3 to 9\n" in refused("trace", "--inputs", inputs, "--out", tmp_path / "t", "--ops", "numpy")


def test_a_model_needs_no_conversion(refused: Any, tmp_path: Path) -> None:
    assert "got that of a GLIMMER model; it needs no conversion" in refused("convert", bundled(), tmp_path / "x")


def test_resume_is_advised_only_if_it_helps(refused: Any, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(bundled() / "tokenizer.json", data)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    line = refused("train", "mini", "--out", tmp_path / "other", "--data", data)
    assert "name another folder" in line and "--resume" not in line


def test_a_damaged_memory_is_mended_by_the_advice(
    refused: Any, passages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "memory"
    build = ("memory", "build", passages, folder, "--ops", "numpy")
    for name, damaged in (("index.safetensors", b"\x10\x03"), ("manifest.json", b"{,")):
        assert main([str(word) for word in build]) == 0
        capsys.readouterr()
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(damaged)
        line = refused(*build)
        assert f"{name}: expected" in line and line.endswith(
            "; remove this file, then run the same build again, which makes what is missing\n"
        )
        (folder / name).unlink()
        assert main([str(word) for word in build]) == 0
        assert (folder / name).read_bytes() == whole
        capsys.readouterr()


def test_a_folder_that_is_missing_is_named(refused: Any, passages: Path, tmp_path: Path) -> None:
    line = refused("flops", "page", tmp_path / "no" / "page.html")
    assert line.endswith(f"got no such folder; make the folder {tmp_path / 'no'} first\n")
    (tmp_path / "x").touch()
    assert "got a file" in refused("memory", "build", passages, tmp_path / "x", "--ops", "numpy")
