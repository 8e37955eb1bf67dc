"""glimmer-ref flops: what its actions print, in every form, and that nonsense is one line and exit code 2."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glimmer_ref.cli import main
from glimmer_ref.cli.flops import ACTIONS
from glimmer_ref.config import SIZES, GlimmerConfig
from glimmer_ref.costs.flops import by_shapes
from glimmer_ref.inference.reader import bundled

Run = Callable[..., tuple[int, str, str]]
SWEEP = ("sweep", "--over", "k=5:25:10")
SERVE = ("serve", "--qps", "100", "--passages", "21000000")
PUBLISHED = [("published", *which) for which in ((), ("--figure", "2"), ("--figure", "7"), ("--table", "1"))]
FORMS = [(), SWEEP, ("break-even",), ("figure2",), ("storage",), ("latency",), SERVE, ("rerankers",), *PUBLISHED]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str) -> tuple[int, str, str]:
        try:
            code = main(["flops", *words])
        except SystemExit as leave:  # argparse's own refusals
            code = int(str(leave.code))
        return code, *capsys.readouterr()

    return call


def report(run: Run, *words: str) -> Any:
    code, out, err = run(*words, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_every_action_is_tried_here() -> None:
    assert {words[0] for words in FORMS if words} == set(ACTIONS) - {"page"}, "the page has tests of its own"


@pytest.mark.parametrize("words", FORMS)
@pytest.mark.parametrize("model", [(), ("--config", str(bundled()))])
def test_tables_fit_the_terminal_and_end_with_what_was_assumed(run: Run, words: tuple[str, ...], model: Any) -> None:
    if words[:1] in (("figure2",), ("published",)):
        model = ()
    code, out, err = run(*words, *model)
    assert (code, err) == (0, "")
    lines = [line.replace(str(bundled()), "mini") for line in out.splitlines()]
    assert max(len(line) for line in lines) <= 80
    note = out.split("\n\n")[-1].split()
    assert " ".join(note) == report(run, *words, *model)["note"]


@pytest.mark.parametrize("words", FORMS)
def test_units_stand_beside_the_figures(run: Run, words: tuple[str, ...]) -> None:
    out = run(*words)[1]
    units = {
        "storage": ("MiB", "TiB", "MACs"),
        "latency": ("ms", "GiB", "TFLOP/s", "GB/s"),
        "serve": ("ms", "GiB", "TiB", "TFLOP/s", "GB/s", "MACs", "accelerator-hours", "questions/s"),
    }
    assert all(unit in out for unit in units.get(words[0] if words else "", ("TMACs",)))


@pytest.mark.parametrize("words", FORMS)
def test_json_has_numbers_as_numbers_and_csv_has_them_too(run: Run, words: tuple[str, ...]) -> None:
    def walk(x: Any, path: str = "") -> None:
        if isinstance(x, dict):
            for key, value in x.items():
                walk(value, f"{path}.{key}")
        elif isinstance(x, list):
            for value in x:
                walk(value, path)
        elif isinstance(x, str) and not path.endswith("exact"):
            with pytest.raises(ValueError):
                float(x)

    walk(report(run, *words))
    code, out, err = run(*words, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert (code, err) == (0, "") and len(rows) > 2
    assert all(None not in row and None not in row.values() for row in rows)


def test_without_options_it_is_the_papers_xxl(run: Run) -> None:
    data = report(run)
    spelled = "--size xxl --k 25 --m 5 --alpha 1/3 --beta 1/4 --n-q 48 --n-p 304 --n-t 64 --system all --mode full"
    assert report(run, *spelled.split()) == data
    config = GlimmerConfig.from_proportions(SIZES["xxl"], "1/3", "1/4")
    for system, cost in data["systems"].items():
        shapes = by_shapes(config, system, 48, [304] * 25, 64, range(5))
        assert {n: x for n, x in {**cost["offline_macs"], **cost["macs"]}.items() if x} == shapes
        assert cost["total_flops"] == 2 * cost["total_macs"]
        assert cost["samples_per_tflop"] == pytest.approx(1e12 / cost["total_macs"], rel=1e-15)


def test_figure_2(run: Run) -> None:
    data = report(run, "figure2")
    assert list(data["samples_per_tflop"]) == ["fid", "lumen", "glimmer"]
    for system, published in data["published"].items():
        assert data["samples_per_tflop"][system] == pytest.approx(published, rel=3e-10)
    out = run("figure2")[1]
    assert all(out.count(x) == 2 for x in ("0.09272427067", "0.1067540778", "0.1278586731"))
    assert "inferred" in out


def test_options_stand_before_or_after_the_action(run: Run) -> None:
    words = ("--size", "large", "--m", "3", "--json")
    assert run(*words, *SWEEP) == run(*SWEEP, *words) == run("--size", "large", *SWEEP, "--m", "3", "--json")
    assert run(*words, "break-even") == run("break-even", *words)
    assert json.loads(run(*words, *SWEEP)[1])["setting"]["m"] == 3


def test_sweep_rows_are_the_single_counts(run: Run) -> None:
    rows = report(run, *SWEEP, "--system", "glimmer,lumen")["rows"]
    assert [(r["k"], r["system"]) for r in rows] == [(k, y) for k in (5, 15, 25) for y in ("glimmer", "lumen")]
    assert rows[-2]["macs"] == report(run)["systems"]["glimmer"]["total_macs"]


def test_a_system_is_not_held_to_what_it_does_not_have(run: Run) -> None:
    rows = report(run, "sweep", "--over", "alpha=0:1:1/24", "--system", "lumen")["rows"]
    assert len(rows) == 25
    assert run("--size", "small", "--system", "fid")[0] == 0


def test_printed_takes_any_alpha(run: Run) -> None:
    data = report(run, "--mode", "printed", "--alpha", "0.33", "--system", "glimmer")
    assert list(data["systems"]["glimmer"]["macs"]) == ["Encoder", "Cross-attention", "Decoder", "Reranking"]
    assert data["setting"]["alpha"] == 0.33 and data["setting"]["alpha_exact"] == "33/100"


def test_break_even_says_exactly_where(run: Run) -> None:
    (row,) = report(run, "break-even", "--against", "lumen:10")["rows"]
    assert row["glimmer"]["k"]["value"] == pytest.approx(35.44176601523976, rel=1e-15)
    assert row["glimmer"]["k"]["whole"] == 35 and "/" in row["glimmer"]["k"]["exact"]
    assert row["glimmer"]["beta"]["whole_exact"] == "3/8"


def test_a_price_and_a_corpus_of_ones_own(run: Run) -> None:
    data = report(run, "latency", "--price-per-hour", "3.6", "--batch", "4")
    cost = data["batches"][0]["systems"]["fid"]
    assert cost["price_per_million_questions"] == pytest.approx(1000 * cost["seconds_per_question"])
    assert report(run, "latency")["price_per_hour"] is None
    offline = report(run, "storage", "--passages", "1000")["offline"]
    assert offline["1,000 passages"]["macs"] * 21_000 == offline["21 M passages"]["macs"]


def test_a_corpus_is_named_by_its_number_or_its_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"title": "a", "text": "b"}\n' * 3, "utf-8")
    for words in (("storage",), ("serve", "--qps", "1")):
        assert report(run, *words, "--passages", str(path)) == report(run, *words, "--passages", "3")


def test_latency_on_stated_and_measured_hardware(run: Run) -> None:
    stated = report(run, "latency", "--peak-tflops", "989.4", "--bandwidth", "3350", "--dtype", "int8")
    assert stated["hardware"]["flops_per_second"] == 989_400_000_000_000
    assert stated["batches"][0]["systems"]["fid"]["fits"] is None
    measured = report(run, "latency", "--hardware", "cpu", "--config", str(bundled()))
    assert measured["hardware"]["dtype"] == "float32" and measured["hardware"]["flops_per_second"] > 0


@pytest.mark.parametrize(
    "words, said",
    [
        ("--m 26", "m: expected a number of at most k; got k=25, m=26"),
        ("--k 0", "k: expected a whole number from 1 to 10^12; got '0'"),
        ("--k 9999999999999", "k: expected a whole number from 1 to 10^12"),
        ("--k 2.5", "k: expected a whole number from 1 to 10^12"),
        ("--n-p -3", "n_p: expected a whole number from 1 to 10^12"),
        ("--alpha 4/3", "alpha: expected a proportion between 0 and 1, like 1/3; got '4/3'"),
        ("--alpha 0.33", "layers; got 33/100 of 24 = 7.92; the nearest shares are 7/24, 1/3, 3/8"),
        ("--size small", "alpha: expected a share of 8 layers"),
        ("--beta 1/3", "beta: expected a share of 8 layers"),
        ("--size huge", "size: expected one of small, base, large, xl, xxl, or a name such as t5-11b, "),
        ("--size xl --config .", "either --size or --config; got both"),
        ("--config /nowhere", "/nowhere: expected a readable file; got no such file"),
        ("--mode guess", "--mode: expected one of printed, figure2, full; got 'guess'"),
        ("--system rag", "--system: expected all, or some of fid, lumen, glimmer; got 'rag'"),
        ("sweep", "sweep: expected an axis, such as --over k=5:100:5; got none"),
        ("sweep --over j=1:2:1", "--over: expected AXIS=FROM:TO:STEP"),
        (
            "sweep --over k=1:5:1",
            "k=1: m: expected a number of at most k",
        ),
        ("sweep --over alpha=0.33", "alpha=33/100: alpha: expected"),
        ("sweep --over k=5:9:1 --k 3", "no --k"),
        ("sweep --over size=base --size xl", "no --size"),
        ("break-even --against rag:5", "--against: expected fid:K or lumen:K"),
        ("break-even --against fid", "--against fid:K: expected a whole number from 1 to 10^12"),
        ("break-even --mode printed --alpha 0.33", "alpha: expected a share"),
        ("storage --passages 0", "--passages: expected a whole number from 1 to 10^12"),
        ("latency --hardware abacus", "hardware: expected one of a100"),
        ("latency --hardware tpu-v3 --dtype float32", "--dtype: expected one of bfloat16 for Google TPU v3"),
        ("latency --dtype float8", "--dtype: expected one of float32, float16, bfloat16, int8; got 'float8'"),
        ("sweep --over alpha=1/24", "beta: expected a share of 1 layers"),
        ("latency --batch 1,0", "--batch: expected a whole number from 1 to 10^12; got '0'"),
        ("latency --peak-tflops 3", "both --peak-tflops and --bandwidth"),
        ("latency --hardware cpu --peak-tflops 3 --bandwidth 4", "either --hardware, or --peak-tflops and --bandwidth"),
        ("latency --price-per-hour 1e999999999", "--price-per-hour: expected a number above 0"),
        ("latency --price-per-hour 0", "--price-per-hour: expected a number above 0"),
        ("rerankers --reranker-size huge", "size: expected one of"),
        ("rerankers --depth 13", "depth: expected from 1 to the reranker's 12 layers; got 13"),
        ("rerankers --late-depth 0", "--late-depth: expected a whole number from 1 to 10^12"),
        ("published --figure 1", "--figure: expected one of 2, 3, 4, 5, 6, 7; got '1'"),
        ("published --table x", "--table: expected one of 1, 2, 3; got 'x'"),
        ("published --figure 3 --table 1", "either --figure or --table; got both"),
        ("--k 3 figure2", "--k: expected none with flops figure2"),
        ("--size xl published", "--size: expected none with flops published"),
        ("--mode printed storage", "--mode: expected none with flops storage"),
        ("--plot x.png page x.html", "--plot: expected none with flops page"),
        ("serve --passages 9", "--qps: expected a number, such as --qps 100 --passages 21000000; got none"),
        ("serve --qps 9", "--passages: expected a number"),
        ("serve --qps 0 --passages 9", "--qps: expected a number above 0; got '0'"),
        ("serve --qps 1e9 --passages 9", "--qps: expected a number above 0; got '1e9'"),
        ("serve --qps 9 --passages 1.5", "--passages: expected a whole number from 1 to 10^12; got '1.5'"),
        ("serve --qps 9 --passages /nowhere.jsonl", "/nowhere.jsonl: expected a readable file"),
        (
            "serve --qps 9 --passages 9 --hardware abacus",
            "hardware: expected one of a100, h100, h200, l4, rtx4090, tpu-v3",
        ),
        ("serve --qps 9 --passages 9 --hardware /no.toml", "/no.toml: expected a readable file"),
        ("serve --qps 9 --passages 9 --hardware /no.json", "/no.json: expected a readable file"),
        ("serve --qps 9 --passages 9 --devices 0", "--devices: expected a whole number from 1 to 10^12; got '0'"),
        ("serve --qps 9 --passages 9 --efficiency 2", "--efficiency: expected a proportion between 0 and 1"),
        (
            "serve --qps 9 --passages 9 --efficiency 0",
            "--efficiency: expected SHARE, or SHARE,SHARE of peak and bandwidth",
        ),
        ("serve --qps 9 --passages 9 --efficiency 1,1,1", "--efficiency: expected SHARE, or SHARE,SHARE"),
        (
            "serve --qps 9 --passages 9 --storage tape",
            "storage: expected one of host, nvme, network; or FILE.toml:NAME; got 'tape'",
        ),
        (
            "serve --qps 9 --passages 9 --store int3",
            "--store: expected one of float32, float16, bfloat16, int8; got 'int3'",
        ),
        (
            "serve --qps 9 --passages 9 --storage-price 3",
            "--storage-price: expected --price-per-hour beside it; got none",
        ),
        ("serve --qps 9 --passages 9 --latency 0", "--latency: expected a number above 0"),
        ("serve --qps 9 --passages 9 --months -1", "--months: expected a number above 0"),
        ("serve --qps 9 --passages 9 --m 30", "m: expected a number of at most k"),
        (
            "latency --peak-tflops 3 --bandwidth 4 --devices 2",
            "devices: expected 1, or hardware whose link is known; got 2",
        ),
        ("--plot x.nonsense", "x.nonsense: expected a name that ends in .png, .svg"),
        ("--plot /nowhere/x.png", "/nowhere/x.png: expected a place that can be written"),
    ],
)
def test_nonsense_is_one_line_and_exit_code_2(run: Run, words: str, said: str) -> None:
    code, out, err = run(*words.split())
    assert (code, out) == (2, "")
    assert err.startswith("glimmer-ref: error: ") and err.count("\n") == 1
    assert said in err


@pytest.mark.parametrize("words", ["--json --csv", "page --plot x.png x.html", "figure2 --k 3", "guess"])
def test_words_that_no_action_knows(run: Run, words: str) -> None:
    code, out, err = run(*words.split())
    assert (code, out) == (2, "")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "words",
    [("--mode", "printed"), ("sweep", "--over", "size=base,xxl"), (*SERVE, "--latency", "0.001"), *FORMS],
)
def test_plots_are_drawn_and_named(run: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    path = tmp_path / "x.png"
    code, out, err = run(*words, "--plot", str(path))
    assert (code, out, err) == (0, f"wrote {path}\n", "")
    assert path.read_bytes()[:4] == b"\x89PNG"


def test_it_imports_neither_numba_nor_matplotlib() -> None:
    code = (
        "import sys; from glimmer_ref.cli import main; main(['flops']); main(['flops', 'latency']);"
        "assert not {'numba', 'matplotlib', 'tokenizers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
