"""The JavaScript implementation passes the golden cases by `golden check --run`; its planted mistakes are found."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from javascript import LIVE, NODE, needs_node, run_js

from glimmer_ref.golden import check
from glimmer_ref.paper.t5 import relative_buckets

pytestmark = [needs_node, pytest.mark.once]

CASES = {name: json.loads((check.CASES / name / "case.json").read_text()) for name in check.bundled()}
COMMAND = shlex.join([str(NODE), str(LIVE / "run_case.js")]) + " {case} {out}"
FIRST = {  # the stage that a check must name
    "divided_by_sqrt_d_kv": "question.layer_0.attention.probs.0",
    "not_causal": "decoder.layer_0.self_attention.mixed",
    "bias_in_first_layer_only": "question.layer_1.attention.probs.0",
    "gate_and_value_swapped": "question.layer_0.feed_forward.hidden",
    "eps_1e-5": "question.layer_0.attention.k",
    "memory_normed": "memory.out",
    "places_restarted": "live_a.layer_0.attention.mixed",
    "score_of_last_token": "scores",
    "worst_first": "selected",
    "start_id": "decoder.layer_0.self_attention.k",
    "no_decoder_norm": "decoder.logits",
}


def checked(run: Any, name: str, command: str = COMMAND) -> tuple[int, dict[str, Any]]:
    """The exit code and the report of `golden check`."""
    code, out, _ = run("golden", "check", name, "--run", command, "--json")
    return code, json.loads(out)


@pytest.mark.parametrize("name", [name for name, about in CASES.items() if about["kind"] in ("model", "refuse")])
def test_every_case_passes_with_all_its_tensors(run: Any, name: str) -> None:
    code, report = checked(run, name)
    assert code == 0, report["first"]
    assert {v["status"] for v in report["tensors"]} == {"ok"}


@pytest.mark.parametrize("mistake", FIRST)
def test_a_planted_mistake_is_found_at_its_stage_and_named(run: Any, mistake: str) -> None:
    code, report = checked(run, "glimmer", f"{COMMAND} {mistake}")
    assert (code, report["first"]) == (1, FIRST[mistake])
    assert [cause["name"] for cause in report["causes"]] == [mistake]


def test_all_planted_mistakes_are_tested() -> None:
    assert run_js("MISTAKES from mistakes.js", "Object.keys(MISTAKES)") == list(FIRST)


def test_another_kind_of_case_or_a_misspelt_mistake_is_refused(tmp_path: Path) -> None:
    for words, said in (
        ([check.CASES / "ops", tmp_path / "out"], "kind ops"),
        ([check.CASES / "glimmer", tmp_path / "out", "eps"], "a mistake is one of"),
        ([check.CASES / "glimmer"], "usage"),
    ):
        command = [str(NODE), str(LIVE / "run_case.js"), *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1
        assert said in done.stderr


@pytest.mark.parametrize("bidirectional", [True, False])
def test_buckets_are_those_of_python_at_every_distance(bidirectional: bool) -> None:
    distances = np.arange(-400, 401)
    for buckets, far in ((32, 128), (8, 20), (64, 1000)):
        got = run_js(
            "relative_buckets from t5.js",
            "relative_buckets(distances, bidirectional, buckets, far)",
            distances=distances.tolist(), bidirectional=bidirectional, buckets=buckets, far=far,
        )  # fmt: skip
        assert got == relative_buckets(distances, bidirectional, buckets, far).tolist()
