"""A precision that is slower than float32 on this processor says so, once, in every command that takes one."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from glimmer_ref.cli import main
from glimmer_ref.cli import parser as whole
from glimmer_ref.ops import PRECISIONS, processor

LOWER = PRECISIONS[1:]
KINDS = [*processor.KINDS, processor.OTHER]
QUESTION = "Who wrote The Crooked Sailor?"


@pytest.mark.parametrize("precision", LOWER)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d_model", [96, 768])
def test_every_kind_has_a_rule(kind: str, precision: str, d_model: int) -> None:
    """The sentence names what is slower and nothing else; a kind that was not measured follows one that was."""
    near = processor.NEAREST.get(kind, "avx2")
    factors = processor.FACTORS.get((kind, precision)) or processor.FACTORS[near, precision]
    encode, decode = factors[2:] if d_model >= processor.LARGE else factors[:2]
    said = processor.slower(precision, d_model, kind)
    assert (said is None) == (min(encode, decode) >= processor.SLOWER)
    if said is not None:
        assert ("to encode" in said, "to decode" in said) == (encode < processor.SLOWER, decode < processor.SLOWER)
        assert said.startswith(f"{precision} takes about ") and said.endswith(f"({kind})")


def test_a_kind_is_measured_in_both_precisions() -> None:
    measured = {kind for kind, _ in processor.FACTORS}
    assert {(kind, precision) for kind in measured for precision in LOWER} == set(processor.FACTORS)
    assert measured | set(processor.NEAREST) <= set(processor.KINDS) and set(processor.NEAREST.values()) <= measured


def test_the_fastest_kind_is_told_nothing() -> None:
    """It has instructions for both."""
    said = [processor.slower(p, d, "avx512-bf16-vnni") for p in LOWER for d in (96, 768)]
    assert said == [None] * 4


def test_the_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(processor.FACTORS, ("avx2", "int8"), processor.Factors(0.5, 0.8, 1.8, 0.89))
    both = "int8 takes about 2.0 times as long as float32 to encode and 1.2 times as long as float32 to decode"
    assert processor.slower("int8", 96, "avx2") == f"{both} on this processor (avx2)"
    one = "int8 takes about 1.1 times as long as float32 to decode on this processor (avx2)"
    assert processor.slower("int8", processor.LARGE, "avx2") == one


def commands(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command that takes --precision."""
    for action in parser._actions:
        if "--precision" in action.option_strings:
            yield words
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from commands(below, (*words, name))


def test_no_command_is_left_out() -> None:
    """golden's --precision says how given tensors were computed; the other commands compute, and print the note."""
    noting = {("ask",), ("evaluate",), ("memory", "build"), ("memory", "plan"), ("trace",), ("bench",)}
    assert set(commands(whole())) - {("golden", "check"), ("golden", "run")} == noting


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> str:
    """As if bfloat16 were slower on this processor; the line that must be noted."""
    monkeypatch.setitem(processor.FACTORS, (processor.kind(), "bfloat16"), processor.Factors(0.5, 1, 0.5, 1))
    what = "bfloat16 takes about 2.0 times as long as float32 to encode"
    return f"glimmer-ref: note: {what} on this processor ({processor.kind()})"


def words_of(command: str, place: Path) -> list[str]:
    inputs, passages = place / "ids.json", place / "passages.jsonl"
    inputs.write_text(json.dumps({"question": [3, 4], "passages": [[5, 6]], "target": [7]}))
    passages.write_text(json.dumps({"id": "1", "title": "Crooked Sailor", "text": "It is a book ."}) + "\n")
    return {
        "ask": ["ask", QUESTION],
        "trace": ["trace", "--inputs", str(inputs), "--out", str(place / "out.safetensors")],
        "memory build": ["memory", "build", str(passages), str(place / "memory")],
        "bench": ["bench", "--size", "tiny", "--work", "encoder:k=1:n_p=8", "--runs", "1"],
    }[command]


@pytest.mark.parametrize("command", ["ask", "trace", "memory build", pytest.param("bench", marks=pytest.mark.slow)])
def test_a_slower_precision_is_noted_once(
    command: str, slow: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = words_of(command, tmp_path)
    assert main([*words, "--precision", "bfloat16"]) == 0
    assert capsys.readouterr().err.splitlines().count(slow) == 1


@pytest.mark.parametrize("more", [["--precision", "float32"], ["--ops", "numpy"], ["--precision", "int8"]])
def test_nothing_else_is_noted(more: list[str], slow: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", QUESTION, *more]) == 0
    assert "bfloat16" not in capsys.readouterr().err
