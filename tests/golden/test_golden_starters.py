"""Starters in other languages build, read a case and write outputs; the cases as folders with their order."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from glimmer_ref.golden import check, export, starter

PROGRAMS = {"js": "node", "rust": "cargo", "cpp": "g++"}
EMPTY = {"js": "return null;", "rust": "    None\n", "cpp": "return std::nullopt;"}
SCORE = {  # the first token of each pair times the weights
    "js": """
  const {x, shape: [, d]} = before["live_a.out"], lengths = [...before["live_a.out.lengths"].x];
  const w = weights["score.weight"].x, scores = new Float32Array(lengths.length);
  let row = 0;
  lengths.forEach((n, i) => {
    for (let c = 0; c < d; c++) scores[i] += x[row * d + c] * w[c];
    row += n;
  });
  return {scores: {shape: [lengths.length], x: scores}};
""",
    "rust": """
    let (states, lengths) = (&_before["live_a.out"], &_before["live_a.out.lengths"].whole);
    let (d, w, mut row) = (states.shape[1], &_weights["score.weight"].x, 0);
    let mut scores = Vec::new();
    for n in lengths {
        scores.push((0..d).map(|c| states.x[row * d + c] * w[c]).sum());
        row += *n as usize;
    }
    Some(Tensors::from([("scores".to_string(), Tensor::floats(&[scores.len()], scores))]))
""",
    "cpp": """
  const Tensor& states = before.at("live_a.out");
  const std::vector<float>& w = weights.at("score.weight").x;
  const std::size_t d = states.shape[1];
  Tensor scores;
  std::size_t row = 0;
  for (const std::int64_t n : before.at("live_a.out.lengths").whole) {
    scores.x.push_back(0);
    for (std::size_t c = 0; c < d; ++c) scores.x.back() += states.x[row * d + c] * w[c];
    row += n;
  }
  scores.shape = {scores.x.size()};
  return Tensors{{"scores", scores}, {"no tensor of the case", scores}};
""",
}
TOP_M = {  # the m best, by the result of the stage before
    "js": """
  const {x} = before.scores, order = [...x.keys()].sort((i, j) => x[j] - x[i]).slice(0, config.glimmer.m);
  return {selected: {shape: [order.length], x: Int32Array.from(order)}};
""",
    "rust": """
    let (scores, m) = (&_before["scores"].x, _config.get("glimmer").get("m").size());
    let mut order: Vec<i64> = (0..scores.len() as i64).collect();
    order.sort_by(|i, j| scores[*j as usize].total_cmp(&scores[*i as usize]));
    Some(Tensors::from([("selected".to_string(), Tensor::whole(&[m], order[..m].to_vec()))]))
""",
    "cpp": """
  const std::vector<float>& scores = before.at("scores").x;
  Tensor selected;
  selected.shape = {config["glimmer"]["m"].size()};
  std::vector<bool> taken(scores.size());
  while (selected.whole.size() < selected.shape[0]) {
    std::size_t best = scores.size();
    for (std::size_t i = 0; i < scores.size(); ++i)
      if (!taken[i] && (best == scores.size() || scores[i] > scores[best])) best = i;
    taken[best] = true;
    selected.whole.push_back(best);
  }
  return Tensors{{"selected", selected}};
""",
}
LANGUAGES = ["js", *(pytest.param(name, marks=pytest.mark.slow) for name in ("cpp", "rust"))]


def filled(language: str, folder: Path, **stages: str) -> None:
    """Fills in stages of a starter."""
    source = folder / starter.FILES[language][0]
    text = source.read_text()
    for name, code in stages.items():
        empty = starter.FUNCTIONS[language].format(name=name)
        assert text.count(empty) == 1
        text = text.replace(empty, empty.replace(EMPTY[language], code))
    source.write_text(text)


def build_and_run(language: str, folder: Path, case: str) -> tuple[str, subprocess.CompletedProcess[str]]:
    """Builds and runs a starter on a case, then its check: what the program printed, and the check."""
    about = str(check.CASES / case)
    command = f'{starter.command(language)} "{about}" out.safetensors'
    ran = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""  # no warnings
    words = [sys.executable, "check.py", about, "out.safetensors", "--brief"]
    return ran.stdout, subprocess.run(words, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_starter_builds_reads_a_case_and_writes_outputs(language: str, tmp_path: Path) -> None:
    if shutil.which(PROGRAMS[language]) is None:
        pytest.skip(f"needs {PROGRAMS[language]}")
    starter.write(language, tmp_path)
    filled(language, tmp_path, score=SCORE[language], top_m=TOP_M[language])
    said, checked = build_and_run(language, tmp_path, "bfloat16_weights")
    lines = dict(line.split(maxsplit=1) for line in said.splitlines())
    assert lines["question"] == lines["decoder"] == "not written"
    assert lines["score"] == lines["top_m"] == "run"
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout == "bfloat16_weights in float32: right: 2 ok, 0 differs, 49 not given, 0 unknown\n"


@pytest.mark.parametrize("language", ["js", pytest.param("rust", marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", ["ops", pytest.param("gradients", marks=pytest.mark.slow)])
def test_an_empty_starter_gives_nothing(language: str, case: str, tmp_path: Path) -> None:
    if shutil.which(PROGRAMS[language]) is None:
        pytest.skip(f"needs {PROGRAMS[language]}")
    starter.write(language, tmp_path)
    said, checked = build_and_run(language, tmp_path, case)
    assert said and all(line.endswith("not written") for line in said.splitlines())
    assert checked.returncode == 2 and "NOTHING GIVEN" in checked.stdout


@pytest.mark.parametrize("language", starter.FILES)
def test_a_starter_has_every_stage_with_its_equation(language: str) -> None:
    text = starter.sources(language)[starter.FILES[language][0]]
    for stage in (starter.template.layer, *starter.template.STAGES, starter.template.operations):
        assert f" {stage.__name__}(" in text
        assert (stage.__doc__ or "").split("\n")[0] in text
    assert "//{" not in text


def test_cases_as_folders_in_order(tmp_path: Path, run: Any) -> None:
    code, out, err = run("golden", "export", str(tmp_path / "cases"))
    assert code == 0
    lines = out.splitlines()
    assert lines[:3] == [str(tmp_path / "cases" / name) for name in ("README.md", "check.py", "ops")]
    assert sorted(Path(line).name for line in lines[2:]) == check.bundled()
    assert "YOUR_PROGRAM ops ops.safetensors" in err and "python check.py ops ops.safetensors --brief" in err
    for name in check.bundled():
        for path in (check.CASES / name).iterdir():
            assert (tmp_path / "cases" / name / path.name).read_bytes() == path.read_bytes()
    page = (tmp_path / "cases" / "README.md").read_text()
    assert [line.split("`")[1] for line in page.splitlines() if line.startswith("| ") and "`" in line] == export.ORDER
    words = [sys.executable, "check.py", "lumen", "lumen/expected.safetensors", "--brief"]
    assert subprocess.run(words, cwd=tmp_path / "cases", capture_output=True).returncode == 0
    code, _, err = run("golden", "export", str(tmp_path / "cases"))
    assert code == 2 and "one that is there already" in err


def test_a_starter_prints_the_next_command(tmp_path: Path, run: Any) -> None:
    _, out, err = run("golden", "starter", "--lang", "rust", str(tmp_path))
    assert [Path(line).name for line in out.splitlines()] == [
        "main.rs",
        "json.rs",
        "safetensors.rs",
        "Cargo.toml",
        "check.py",
    ]
    assert f"next, in {tmp_path}: cargo run -q --release -- " in err
