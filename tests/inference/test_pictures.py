"""Pictures: any text as it stands, whatever a user's matplotlib is set to, which stays as it was."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from learning import write_world
from matplotlib import pyplot as plt
from paths import ROOT

from glimmer_ref import pictures
from glimmer_ref.disk.write import write_text
from glimmer_ref.errors import InputError
from glimmer_ref.evaluation import sweep
from glimmer_ref.training import loop
from glimmer_ref.training.log import CURVES, LOG, plot_curves
from glimmer_ref.training.recipe_file import read_recipe

TEXTS = ["Ba$$in", "$_$", r"$\foo$", "$1$", "$", "東京 राजधानी \U0001f600", "\x1b[31m\0", "_hidden", "a\nb", r"\frac{"]
SIGNATURES = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF", "jpg": b"\xff\xd8", "webp": b"RIFF"}


@pytest.fixture
def facts(tmp_path: Path) -> str:
    rows = [{"id": f"{i}{text}", "title": text, "text": f"A sailor: {text} ."} for i, text in enumerate(TEXTS)]
    write_text(tmp_path / "facts.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / "facts.jsonl")


@pytest.mark.parametrize("question", [r"Who is $\foo$?", "$1$ $_$ Ba$$in 東京?"])
def test_no_text_is_read_as_mathematics(run: Any, facts: str, tmp_path: Path, question: str) -> None:
    for ending in ("png", "svg"):
        out = tmp_path / f"why.{ending}"
        code, _, err = run("ask", question, "--passages", facts, "--ops", "numpy", "--plot", out)
        assert (code, "Glyph" in err) == (0, False)
        assert out.read_bytes().startswith(SIGNATURES[ending])


def test_texts_are_drawn_letter_by_letter(tmp_path: Path) -> None:
    """A dollar, a one, a dollar; in mathematics it would be an italic one."""
    with pictures.picture(tmp_path / "x.svg", 1, 1, (3, 2), 80) as (figure, _):
        figure.suptitle("$1$")
    text = (tmp_path / "x.svg").read_text("utf-8").split("<!-- $1$ -->")[1]
    one, two, three = re.findall(r'<use xlink:href="#(\S+)"', text)
    assert one == three != two and "Oblique" not in text


@pytest.mark.parametrize("name", SIGNATURES)
def test_every_kind_of_picture(tmp_path: Path, name: str) -> None:
    with pictures.picture(tmp_path / f"x.{name.upper()}", 2, 1, (3, 2), 80, sharex=True) as (_, axes):
        axes[0, 0].plot([1, 2])
    assert (tmp_path / f"x.{name.upper()}").read_bytes().startswith(SIGNATURES[name])
    assert set(SIGNATURES) == set(pictures.FORMATS)


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    cases = {
        "x.xyz": "ends in .png",
        "x.pgf": "ends in",
        "no/x.png": "no such f",
        "..": "a folder",
        "x.png": "drawn",
    }
    for name, said in cases.items():
        size = (3.0, 2.0) if name != "x.png" else (3.0, 1e6)
        with pytest.raises(InputError, match=said), pictures.picture(tmp_path / name, 1, 1, size, 80):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_users_matplotlib_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with matplotlib.rc_context({"text.usetex": True, "font.family": "no such font", "savefig.format": "nonsense"}):
        before, figure = dict(matplotlib.rcParams), plt.figure()
        with pictures.picture(tmp_path / "x.png", 1, 1, (3, 2), 80) as (_, axes):
            axes[0, 0].set_title("mine")
        assert dict(matplotlib.rcParams) == before
        assert plt.get_fignums() == [figure.number]
        plt.close(figure)


ALONE = """
import os, sys
from glimmer_ref.cli import main
from pathlib import Path
from glimmer_ref.pictures import picture
with picture("x.png", 1, 1, (3, 2), 80) as (_, axes):
    axes[0, 0].set_title("$1$")
assert Path("x.png").read_bytes()[:4] == b"\\x89PNG"
assert main(["flops", "--plot", "y.png"]) == 0
assert "matplotlib.pyplot" not in sys.modules
import matplotlib
print(os.environ.get("MPLBACKEND"), matplotlib.rcParams._get("backend"))
"""


@pytest.mark.parametrize(("backend", "kept"), [("nonsense", None), ("svg", "svg"), ("", None)])
def test_a_backend_that_is_none_does_not_matter(backend: str, kept: str | None, tmp_path: Path) -> None:
    env = {**os.environ, "MPLBACKEND": backend, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", ALONE], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    wrote, last = done.stdout.splitlines()
    assert wrote == "wrote y.png"
    assert last.split()[:1] == (backend.split() or last.split()[:1])
    assert kept is None or last.split()[1] == kept


NO_HOME = """
import os
if hasattr(os, "getuid"):
    import pwd
    def nobody(*_):
        raise KeyError("uid not found")
    pwd.getpwuid = nobody
from glimmer_ref.cli import main
assert main(["flops", "--plot", "x.png"]) == 0
"""


def test_without_a_home_nothing_is_left_behind(tmp_path: Path) -> None:
    """matplotlib makes a temporary folder for its list of fonts, and says so."""
    (tmp_path / "tmp").mkdir()
    env = {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "tmp"), "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", NO_HOME], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert sorted(x.name for x in tmp_path.iterdir()) == ["tmp", "x.png"]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_nobody_else_asks_for_a_backend() -> None:
    for path in Path(pictures.__file__).parent.rglob("*.py"):
        text = path.read_text("utf-8")
        assert "matplotlib.use" not in text and "import pyplot" not in text, path
        assert "savefig" not in text or path.name == "pictures.py", path


def test_training_goes_on_without_its_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path) -> None:
        raise InputError(f"{folder}", "a folder that can be written", "No space left on device")

    monkeypatch.setattr(loop, "plot_curves", full)
    write_text(tmp_path / "recipe.toml", write_world(tmp_path))
    changes = ["stages.0.steps=1", "stages.1.steps=1"]
    said: list[str] = []
    state = loop.train(read_recipe(tmp_path / "recipe.toml", changes), tmp_path / "out", "numpy", say=said.append)
    assert state.step == 2 and (tmp_path / "out" / "last").is_dir()
    assert [line for line in said if line.startswith("no curves: ") and line.endswith("got No space left on device")]


def test_curves_of_training_and_of_a_sweep(tmp_path: Path) -> None:
    """Names of tasks are a user's too."""
    judged = {"step": 2, "exact_match": 1.0, "exact_match_of_gold": None, "recall_at_m": 2.0}
    record = judged | {"recall_at_m_of_retrieval": 3.0, "tasks": dict.fromkeys(TEXTS, 50.0)}
    write_text(tmp_path / LOG, "".join(json.dumps(r) + "\n" for r in ({"step": 1, "lm": 2.0, "loss": 2.0}, record)))
    plot_curves(tmp_path)
    assert (tmp_path / CURVES).read_bytes().startswith(b"\x89PNG")
    results = [{"k": k, "m": m, "score": 50.0 + k, "samples_per_tflop": 9.0 * k} for k in (5, 10) for m in (1, 2)]
    sweep.plot(results, "glimmer", tmp_path / "sweep.svg")
    assert "<!-- questions per 10¹² multiply-adds -->" in (tmp_path / "sweep.svg").read_text("utf-8")
