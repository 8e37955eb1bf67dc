"""`glimmer-ref train quick`: its worlds, what it learns, the answers it shows, and that it can be stopped anywhere."""

from __future__ import annotations

import json
import os
import shlex
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glimmer_ref.cli import main
from glimmer_ref.cli import train as command
from glimmer_ref.inference.reader import bundled
from glimmer_ref.params import checkpoint
from glimmer_ref.params.model import leaves
from glimmer_ref.training import loop
from glimmer_ref.training.init import first_model
from glimmer_ref.training.recipe_file import read_recipe
from glimmer_ref.world.facts import SIZES, Size

EXACT_MATCH, SECONDS = 35, 120  # the least that it must reach on dev, and the most that it may take on two idle cores
TINY = """
extends = "quick"
[model]
init = ""
alpha = "2/3"
beta = "1/2"
t5 = { d_model = 16, d_kv = 4, d_ff = 24, num_heads = 2, num_layers = 3, num_decoder_layers = 1 }
[data]
small_worlds = 1
[[stages]]
steps = 2
batch = 2
k = 3
m = 2
[evaluation]
questions = 6
"""


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command's words for a recipe as quick, of a model that learns nothing, in an empty working directory."""
    (tmp_path / "tiny.toml").write_text(TINY, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(SIZES, "small", Size(12, 8, 8, 8, 120, 4, 2))
    monkeypatch.setattr(loop, "plot_curves", lambda out: (out / "curves.png").touch())
    return ["train", "tiny.toml", "--ops", "numpy"]


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_it_starts_from_the_bundled_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = read_recipe("quick")
    there = leaves(first_model(recipe.model, 0, 0))
    base = leaves(checkpoint.load(bundled("t5-mini")))
    for ours, theirs in (("memory.layer_0", "live.layer_0"), ("live.layer_5", "live.layer_11"), ("decoder", "decoder")):
        names = [name for name in there if name.startswith(f"{ours}.")]
        assert names
        for name in names:
            np.testing.assert_array_equal(there[name], base[name.replace(ours, theirs, 1)])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t5-mini").mkdir()  # a folder of this name comes first
    with pytest.raises(Exception, match=r"^t5-mini.config.json"):
        first_model(recipe.model, 0, 0)


def test_worlds_are_made_and_answers_are_shown(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tiny) == 0
    out = capsys.readouterr().out
    assert "step 0  exact match" in out and "step 2  exact match" in out
    assert "before training)" in out and "tiny-run/curves.png" in out.replace(os.sep, "/")
    assert {p.name for p in Path("tiny-run").iterdir()} == {"last", "best", "worlds", "curves.png", "log.jsonl"}
    shown = [line for line in out.splitlines() if line.startswith("    ")]
    assert len(shown) == 6 and all("(wrong: " in line or line.endswith("(right)") for line in shown)
    asked = shlex.split(out.splitlines()[-1])
    assert asked[:2] == ["glimmer-ref", "ask"]
    assert main([*asked[1:], "--ops", "numpy"]) == 0
    answer = capsys.readouterr().out.strip()
    assert f"    {answer} (" in out[out.index(asked[2]) :]


def test_folders_of_others_are_left_alone(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    place = Path("tiny-run")
    (place / "worlds").mkdir(parents=True)
    (place / "worlds" / "mine").write_text("x")
    assert main(tiny) == 2
    assert "tiny-run/worlds: expected an empty folder" in capsys.readouterr().err.replace(os.sep, "/")
    (place / "note").write_text("x")
    assert main(tiny) == 2
    assert "tiny-run: expected a new or empty folder" in capsys.readouterr().err
    assert files(place) == {"worlds/mine": b"x", "note": b"x"}
    assert main([*tiny, "--out", "new", "--resume"]) == 2
    assert "start without --resume" in capsys.readouterr().err
    assert not list(Path("new").iterdir())


def test_data_of_ones_own_take_the_place_of_the_worlds(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world", "mine", "--size", "small", "--train-worlds", "1", "--seed", "5"]) == 0
    assert main([*tiny, "--data", "mine"]) == 0
    assert "before training)" in capsys.readouterr().out
    assert not Path("tiny-run", "worlds").exists()
    assert main([*tiny, "--data", "nowhere", "--out", "other"]) == 2
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["worlds", "evaluation"])
def test_stopped_anywhere_it_goes_on_to_the_same_bits(
    tiny: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    assert main([*tiny, "--out", "whole"]) == 0
    owner, name = {"worlds": (command, "_make_worlds"), "evaluation": (loop.Run, "evaluate")}[place]
    real = getattr(owner, name)

    def stopped(*args: Any) -> Any:
        if place == "worlds":
            real(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, stopped)
        assert main(tiny) == 130
    capsys.readouterr()
    assert main([*tiny, *([] if place == "worlds" else ["--resume"])]) == 0
    assert "step 2  exact match" in capsys.readouterr().out
    whole, parts = files(Path("whole")), files(Path("tiny-run"))
    assert whole.keys() == parts.keys()
    timed = {name for name in whole if name.endswith(("position.json", "log.jsonl"))}
    assert {n: whole[n] for n in whole.keys() - timed} == {n: parts[n] for n in parts.keys() - timed}
    records = [json.loads(line) for line in parts["log.jsonl"].splitlines()]
    assert [r["step"] for r in records if "exact_match" in r] == [0, 2]


@pytest.mark.slow
def test_it_learns_while_one_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    begin = time.process_time()
    assert main(["train", "quick"]) == 0
    out = capsys.readouterr().out
    # Processor time, because others may compute at the same time. On two idle cores the clock shows about half of it.
    assert time.process_time() - begin < 2 * SECONDS
    records = [json.loads(line) for line in Path("quick-run/log.jsonl").read_text("utf-8").splitlines()]
    scores = [r["exact_match"] for r in records if "exact_match" in r]
    assert scores[0] < EXACT_MATCH / 3 and max(scores) >= EXACT_MATCH
    asked = shlex.split(out.splitlines()[-1])
    assert main(asked[1:]) == 0
    assert f"    {capsys.readouterr().out.strip()} (" in out[out.index(asked[2]) :]
