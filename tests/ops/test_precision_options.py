"""`precision` and `threads`: every command obeys them and reports them, or refuses what is impossible."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import glimmer_ref
from glimmer_ref import InputError
from glimmer_ref.cli import main
from glimmer_ref.inference.reader import bundled
from glimmer_ref.ops import Instrument, bind
from glimmer_ref.ops.cpu import encoder_fused
from glimmer_ref.ops.cpu.runtime import thread_pool

numba = pytest.importorskip("numba")
QUESTION = "Who wrote The Crooked Sailor?"
FACTS = [{"title": "The Crooked Sailor", "text": "The Crooked Sailor was written by Jorian Nettleworth ."}]
MOST = int(numba.config.NUMBA_NUM_THREADS)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many threads each kernel of a block was allowed, even for the smallest work."""
    bind("numba")  # compiles the kernels
    seen: list[int] = []

    def run(kernel: Any, phases: int, cost: int, *args: Any) -> None:
        seen.append(numba.get_num_threads())
        thread_pool.run_phased(kernel, phases, cost, *args)

    monkeypatch.setattr(encoder_fused, "run_phased", run)
    return seen


@pytest.mark.parametrize("count", sorted({1, MOST}))
def test_threads_are_honoured_everywhere(used: list[int], count: int, tmp_path: Path) -> None:
    reader, before = glimmer_ref.load(threads=count), numba.get_num_threads()
    ids = [5, 6, 7]
    reader.memorize(FACTS)
    assert set(used) == {count}
    reader.ask(QUESTION, FACTS)
    reader.trace(ids, [ids])
    passages = tmp_path / "p.jsonl"
    passages.write_text(json.dumps({"id": "0", **FACTS[0]}) + "\n")
    assert main(["memory", "build", str(passages), str(tmp_path / "memory"), "--threads", str(count)]) == 0
    assert set(used) == {count} and len(used) > 20
    assert numba.get_num_threads() == before


def test_by_default_all_threads_are_used(used: list[int]) -> None:
    glimmer_ref.load().ask(QUESTION, FACTS)
    assert set(used) == {numba.get_num_threads()}


def test_the_limit_ends_with_its_block_even_by_an_error() -> None:
    before = numba.get_num_threads()
    with pytest.raises(ZeroDivisionError), thread_pool.limit(1):
        assert numba.get_num_threads() == 1
        raise ZeroDivisionError
    assert numba.get_num_threads() == before
    with Instrument(bind("numba")).limited(1):
        assert numba.get_num_threads() == 1


REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"ops": "numpy", "precision": "bfloat16"},
        "precision: expected none below that of the weights with ops=numpy; got 'bfloat16'",
    ),
    (
        {"ops": "numpy", "precision": "int8"},
        "precision: expected none below that of the weights with ops=numpy; got 'int8'",
    ),
    (
        {"dtype": "float64", "precision": "int8"},
        "precision: expected none below float64 with float64 weights; got 'int8'",
    ),
    ({"threads": 0}, f"threads: expected a whole number from 1 to {MOST}; got 0"),
    ({"threads": MOST + 1}, f"threads: expected a whole number from 1 to {MOST}; got {MOST + 1}"),
    ({"threads": -1}, f"threads: expected a whole number from 1 to {MOST}; got -1"),
    ({"ops": "numpy", "threads": 1}, "threads: expected none with ops=numpy"),
    ({"dtype": "float64", "threads": 1}, "threads: expected none in float64"),
]


@pytest.mark.parametrize(("options", "said"), REFUSED)
def test_what_is_impossible_is_refused_in_a_line(
    options: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError) as caught:
        glimmer_ref.load(**options)
    assert str(caught.value).startswith(said)
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    assert main(["ask", QUESTION, *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"glimmer-ref: error: {said}") and err.count("\n") == 1


@pytest.mark.parametrize("bad", [True, 1.0, "1"])
def test_a_number_of_threads_is_a_whole_number(bad: Any) -> None:
    with pytest.raises(InputError, match=r"^threads: expected a whole number"):
        glimmer_ref.load(threads=bad)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_an_answer_says_what_it_was_computed_in(precision: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert glimmer_ref.load(precision=precision).ask(QUESTION, FACTS).precision == precision
    options = ["ask", QUESTION, "--k", "3", "--precision", precision]
    assert main([*options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["precision"] == precision
    assert main([*options, "--explain"]) == 0
    assert (f"\nproducts in {precision}\n" in capsys.readouterr().out) == (precision != "float32")


def test_float64_is_said_too() -> None:
    assert glimmer_ref.load(ops="numpy", dtype="float64").ask(QUESTION, FACTS).precision == "float64"


def test_evaluate_trace_and_memory_say_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    questions, lower = tmp_path / "q.jsonl", ["--precision", "bfloat16"]
    lines = (bundled() / "questions.jsonl").read_text("utf-8").splitlines()
    questions.write_text("\n".join(lines[:2]), "utf-8")
    assert main(["evaluate", str(questions), *lower]) == 0
    assert "products in bfloat16" in capsys.readouterr().out
    inputs, traces = tmp_path / "ids.json", {}
    inputs.write_text(json.dumps({"question": [5, 6, 1], "passages": [[7, 8, 1]]}))
    for precision in ("float32", "bfloat16"):
        out = tmp_path / precision
        assert main(["trace", "--inputs", str(inputs), "--out", str(out), "--precision", precision]) == 0
        assert f"in numba {precision}" in capsys.readouterr().out
        traces[precision] = load_file(out)
    off = [np.abs(traces["float32"][n] - x).max() for n, x in traces["bfloat16"].items() if n.endswith("live_a.out")]
    assert off and min(off) > 0, "it was computed in another precision, not only said"


def test_a_memory_computed_in_less_says_so_and_is_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    passages, folder = tmp_path / "p.jsonl", str(tmp_path / "memory")
    passages.write_text("".join(json.dumps({"id": str(i), "title": "", "text": f"a {i} ."}) + "\n" for i in range(4)))
    build = ["memory", "build", str(passages), folder, "--shard-passages", "2"]
    assert main([*build, "--precision", "int8"]) == 0
    assert "precision           int8" in capsys.readouterr().out
    (tmp_path / "memory" / "shard-00001.safetensors").unlink()
    assert main(build) == 2
    assert "a build of the same memory" in capsys.readouterr().err
    assert main([*build, "--precision", "int8"]) == 0
    assert main(["ask", QUESTION, "--memory", folder]) == 0, "any reader may read it"
