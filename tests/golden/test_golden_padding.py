"""Mistakes of an implementation with padded batches are named; the implementation shares no code with the package."""

from __future__ import annotations

from typing import Any

import padded_framework
import pytest

from glimmer_ref.golden import case as cases
from glimmer_ref.golden import check
from glimmer_ref.golden.cases import CASES
from glimmer_ref.golden.generate import make, run_case
from glimmer_ref.golden.generate.padded import Padding
from glimmer_ref.ops import bind

SYSTEMS = ("glimmer", "lumen", "fid")
RUN = [name for name, case in CASES.items() if case.kind == "model" and case.system in SYSTEMS]
CAUSES = [
    ("padding_attended_in_memory", "glimmer", "memory.layer_0.attention.mixed"),
    ("padding_attended_in_live_a", "glimmer", "live_a.layer_0.attention.mixed"),
    ("padding_attended_in_live_a", "separate_reranker", "reranker.layer_0.attention.mixed"),
    ("padding_attended_in_live", "glimmer", "live_b.layer_1.attention.mixed"),
    ("padding_attended_in_live", "lumen", "live.layer_0.attention.mixed"),
    ("padding_attended_everywhere", "glimmer", "memory.layer_0.attention.mixed"),
    ("padding_attended_everywhere", "fid", "encoder.memory.layer_0.attention.mixed"),
    ("padding_in_decoder_memory", "glimmer", "decoder.layer_0.cross_attention.mixed"),
    ("padding_in_decoder_memory", "fid", "decoder.layer_0.cross_attention.mixed"),
    ("padding_in_the_mean", "mean_pool", "scores"),
    ("score_of_last_padded_token", "glimmer", "scores"),
    ("passages_padded_left_to_longest", "glimmer", "live_a.layer_0.attention.mixed"),
    ("passages_padded_left_to_32", "lumen", "live.layer_0.attention.mixed"),
    ("question_padded_to_8", "glimmer", "live_a.layer_0.attention.mixed"),
    ("question_padded_to_48", "fid", "encoder.memory.layer_0.attention.mixed"),
    ("keys_and_values_swapped", "glimmer", "question.layer_0.attention.k"),
    ("keys_and_values_swapped_in_cross_attention", "lumen", "cross.layer_0.k"),
    ("attention_of_swapped_keys_and_values", "glimmer", "question.layer_0.attention.mixed"),
    ("bias_missing_in_live_a", "glimmer", "live_a.layer_0.attention.mixed"),
    ("bias_missing_in_live_a", "separate_reranker", "reranker.layer_0.attention.mixed"),
    ("bias_missing_in_live_b", "glimmer", "live_b.layer_1.attention.mixed"),
    ("bias_missing_in_live", "glimmer", "live_a.layer_0.attention.mixed"),
    ("bias_in_first_decoder_layer_only", "glimmer", "decoder.layer_1.self_attention.mixed"),
    ("bucket_logarithms_rounded", "glimmer", "memory.layer_0.attention.mixed"),
]


def made(mistake: str, case: str) -> check.Report:
    """The report on the padded framework with a mistake, or with none; a length may end the mistake's name."""
    name, _, length = mistake.partition("_to_")
    width = int(length) if length.isdigit() else 0
    known = check.open_case(case)
    return check.check(known, padded_framework.outputs(known, name, width), "float64")


QUICK = {"glimmer", "mean_pool", "separate_reranker", "padded_slots", "lumen", "fid"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in RUN])
def test_the_padded_framework_is_right(name: str) -> None:
    report = made("", name)
    assert report.code == 0, "\n".join(report.lines())
    assert sum(v.status == "ok" for v in report.tensors) > 20


@pytest.mark.parametrize(("mistake", "case", "first"), CAUSES)
def test_a_mistake_of_a_padded_framework_is_named(mistake: str, case: str, first: str) -> None:
    report = made(mistake, case)
    assert report.first is not None and report.first.name == first
    assert [cause["name"] for cause in report.causes] == [mistake]


@pytest.mark.parametrize("length", [12, 24, 100])
def test_a_length_that_is_not_in_the_table_is_not_misnamed(length: int) -> None:
    assert made(f"question_padded_to_{length}", "glimmer").causes == []


@pytest.mark.parametrize("name", ["glimmer", "separate_reranker", "lumen", "fid"])
def test_padding_without_a_mistake_changes_nothing(name: str) -> None:
    case, numpy = CASES[name], bind("numpy")
    model, named = cases.model(case, cases.weights(case)), cases.inputs(case)
    given = run_case.run(numpy, case, model, named, Padding().plan())
    report = check.check(name, given, "float64")
    assert report.code == 0, "\n".join(report.lines())


@pytest.mark.parametrize("name", ["ops", "decoder_24"])
def test_known_mistakes_come_out_the_same_again(name: str, tmp_path: Any) -> None:
    for path in (check.CASES / name).iterdir():
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / path.name).write_bytes(path.read_bytes())
    said: list[str] = []
    make.renew_mistakes([name], tmp_path, said.append)
    assert (tmp_path / name / "case.json").read_bytes() == (check.CASES / name / "case.json").read_bytes()
    assert said and said[0].startswith(f"{name}: ")


def verdict(entry: dict[str, Any], decades: float | None) -> check.Verdict:
    """The verdict on a tensor with an NMSE of so many decades; None: it is not given."""
    status = "not given" if decades is None else "ok" if decades < -20 else "differs"
    allowed = (entry["tolerance"] or {}).get("float32")
    return check.Verdict(entry["name"], status, allowed, None if decades is None else 10.0**decades)


def test_known_mistakes_of_a_forward_pass_are_alone_in_nearly_all_cases() -> None:
    """Each case's own errors of a mistake point to this mistake, and seldom to another too."""
    several, total = 0, 0
    for name in RUN:
        case = check.open_case(name)
        for mistake in case.about["mistakes"]:
            names = [entry["name"] for entry in case.about["tensors"]]
            right = dict.fromkeys(names[: names.index(mistake["first"])], -30.0)
            decades = right | mistake["errors"]
            verdicts = [verdict(entry, decades.get(entry["name"])) for entry in case.about["tensors"]]
            found = [cause["name"] for cause in check.causes(case.about["mistakes"], verdicts)]
            assert mistake["name"] in found, name
            several, total = several + (len(found) > 1), total + 1
    assert total > 600 and several < 4
