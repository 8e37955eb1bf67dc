"""Suites of benchmarks: the roofline beside a result that is in the repository, and a corpus over several hosts."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

BENCHMARKS = ROOT / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
from comparison.ratios import Result  # noqa: E402
from suites import roofline  # noqa: E402

sys.path.remove(str(BENCHMARKS))

SYSTEMS = BENCHMARKS / "results" / "2026-11-25-avx512-bf16-vnni-2-cores-base-systems.json"


def run(name: str, *words: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, BENCHMARKS / "suites" / name, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def test_a_stage_is_predicted_by_its_arithmetic() -> None:
    """FiD over 25 x 352 tokens, T5.1.1-base: 12 layers of 7,077,888 weights, and attention over 352 keys."""
    peaks = {"float32": 1e11, "reads": 1e10}
    seconds, limits = roofline.predicted("fid-25", "base", peaks, "float32", (1.0, 1.0))
    tokens = 25 * 352
    macs = 12 * tokens * (4 * 768 * 768 + 3 * 768 * 2048 + 2 * 352 * 768)
    assert seconds["encoder"] == pytest.approx(2 * macs / 1e11) and limits["encoder"] == "arithmetic"
    half = roofline.predicted("fid-25", "base", peaks, "float32", (0.5, 1.0))[0]
    assert half["encoder"] == pytest.approx(2 * seconds["encoder"])
    assert seconds["all"] == pytest.approx(seconds["encoder"] + seconds[roofline.TOGETHER])


def test_a_ratio_is_measured_by_predicted() -> None:
    document = json.loads(SYSTEMS.read_text())
    rows = {(r.engine, r.system, r.stage): r for r in roofline.rows_of(Result(document))}
    name, engine = "fid-25", "ours:float32@1"
    mine = [r for r in document["runs"] if (r["work"], r["engine"]) == (name, engine)]
    peaks = {(p["work"], p["threads"], p["round"]): p["float32"] for p in document["peaks"]}
    macs = sum(document["works"][name]["macs"][part] for part in ("encoder", "encoder.attention"))
    ratios = sorted(r["stages"]["encoder"] * peaks[name, 1, r["round"]] / (2 * macs) for r in mine)
    row = rows[engine, name, "encoder"]
    assert (row.ratio.min, row.ratio.max) == pytest.approx((ratios[0], ratios[-1])) and len(ratios) == 3
    assert row.calibrated is None, "no encoder alone was measured there"
    assert 0.9 < rows[engine, "glimmer-25-5", "all"].ratio.median < 1.1


@pytest.mark.slow
def test_the_roofline_measures(tmp_path: Path) -> None:
    out = tmp_path / "roofline.json"
    told = run("roofline.py", "--quick", "--out", out).stdout
    assert "GLIMMER, k=5, m=2 | live_a | arithmetic" in told and "with reached shares" in told
    document = json.loads(out.read_text())
    assert {r["round"] for r in document["runs"]} == {0, 1} and len(document["runs"]) == 10
    for row in document["runs"]:
        assert row["stages"].keys() == row["stages_cpu"].keys() and sum(row["stages_cpu"].values()) > 0
    report = [sys.executable, BENCHMARKS / "report.py", out]
    assert subprocess.run(report, capture_output=True, text=True, check=True).stdout.strip() == told.strip()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("distributed") is None, reason="needs the extra distributed; .ci/run installs it")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processor seconds are read from /proc")
def test_a_corpus_over_several_hosts(tmp_path: Path) -> None:
    out = tmp_path / "corpus.json"
    told = run("corpus.py", "--quick", "--out", out).stdout
    runs = json.loads(out.read_text())["runs"]
    spread = [r for r in runs if "same" in r]
    assert len(spread) == 3 * 4 + 1 and all(r["same"] for r in spread)
    assert [r["workers"] for r in spread if r["killed_at"]] == [4]
    assert "21 million passages" in told and out.with_suffix(".md").exists()
