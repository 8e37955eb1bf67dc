"""Cost questions: Figure 2, sweeps, break-evens, storage, roofline, rerankers, and their input."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from glimmer_ref.config import SIZES
from glimmer_ref.costs import breakeven, hardware, parse, rerankers, roofline, storage
from glimmer_ref.costs.flops import SYSTEMS, Setting, online, parameters
from glimmer_ref.costs.modes import MODES, full, plain, total
from glimmer_ref.costs.page.javascript import Symbol
from glimmer_ref.costs.published import figure2
from glimmer_ref.costs.sweep import parse_axis, sweep
from glimmer_ref.costs.this_cpu import this_cpu
from glimmer_ref.errors import InputError
from glimmer_ref.inference.reader import bundled
from glimmer_ref.params.safetensors_io import map_tensors

XXL = parse.of_size("xxl")


def test_figure_2_to_every_printed_digit() -> None:
    for system, ours in figure2.samples().items():
        published = figure2.PUBLISHED[system]
        assert round(ours, figure2.DECIMALS[system]) == published
        assert abs(ours / published - 1) < 3e-10  # half a unit of the last printed digit is 5e-11 to 5e-10
    half = Fraction(1, 2)  # by hand: 11.5 d^2 a token and encoder layer, 13.5 in the decoder, 2 for cross keys, values
    fid, decoder = 5 * 384 * (11 + half + 2), 64 * (13 + half)
    lumen = 10 * 384 * ((11 + half) / 3 + 2)
    glimmer = 5 * 384 * ((11 + half) / 3 + 2) + 20 * 384 * (11 + half) / 12
    by_hand = [10**12 / (24 * 4096**2 * (x + decoder)) for x in (fid, lumen, glimmer)]
    assert list(figure2.samples().values()) == by_hand


@pytest.mark.parametrize("change", [{"pair": 385}, {"n_t": 65}, {"pair": 352}])
def test_no_other_lengths_give_figure_2(change: dict[str, int]) -> None:
    for system in SYSTEMS:
        off = figure2.samples_per_tflop(online(figure2.figure2(figure2.setting(system, **change), system)))
        assert round(off, 6) != round(figure2.PUBLISHED[system], 6)


def test_the_lengths_follow_from_two_published_values() -> None:
    pair, steps = figure2.solved_lengths()
    assert abs(pair - 384) < 1e-5
    assert abs(steps - 64) < 1e-4


def test_the_terms_that_figure_2_leaves_out_add_up_to_the_full_count() -> None:
    rows = figure2.breakdown()
    for system in SYSTEMS:
        terms = sum(row[system] for name, row in rows.items() if name.startswith("+"))
        assert rows["true shapes, 384 a pair"][system] + terms == rows["mode full, 48 + 336"][system]
        assert rows["true shapes, 384 a pair"][system] == 10**12 / figure2.samples()[system]
        assert rows["printed formulas, 384 a pair"][system] > rows["true shapes, 384 a pair"][system]


def test_modes_say_what_they_leave_out() -> None:
    for name, mode in MODES.items():
        assert mode.leaves_out.startswith(f"Mode {name} ")
        assert "leaves out" in mode.leaves_out
        assert mode.leaves_out.count(". ") == 0


@pytest.mark.parametrize(
    "spec, axis, values",
    [
        ("k=5:20:5", "k", [5, 10, 15, 20]),
        ("k=5:19:5", "k", [5, 10, 15]),
        ("n-p=100,304", "n_p", [100, 304]),
        ("alpha=0:1:1/4", "alpha", [Fraction(i, 4) for i in range(5)]),
        ("beta=0.1:0.3:0.1", "beta", [Fraction(i, 10) for i in (1, 2, 3)]),
        ("alpha=1/24, 1/3", "alpha", [Fraction(1, 24), Fraction(1, 3)]),
        ("size=base,xxl", "size", ["base", "xxl"]),
    ],
)
def test_axes(spec: str, axis: str, values: list[Any]) -> None:
    assert parse_axis(spec) == (axis, values)


@pytest.mark.parametrize(
    "spec",
    ["", "k", "k=", "j=1:2:1", "k=5:1:1", "k=1:5:0", "k=1:5", "k=1:x:1", "k=1:2:1/2", "k=0:5:5", "k=1:9999:1", "k=1,,2",
     "alpha=0:2:1", "size=huge", "size=small:xxl:1", "k=nan", "k=1e400:2:1"],
)  # fmt: skip
def test_bad_axes_are_refused(spec: str) -> None:
    with pytest.raises(InputError):
        parse_axis(spec)


def test_a_sweep_is_the_single_counts() -> None:
    rows = sweep(XXL, "k", [5, 40], SYSTEMS, "full")
    assert [(r["k"], r["system"]) for r in rows] == [(k, y) for k in (5, 40) for y in SYSTEMS]
    assert all(r["macs"] == total(replace(XXL, k=r["k"]), r["system"], "full") for r in rows)
    large = sweep(XXL, "size", ["large"], ["glimmer"], "full")[0]
    assert large["macs"] == total(parse.of_size("large"), "glimmer", "full")


def test_a_sweep_into_nonsense_says_where() -> None:
    with pytest.raises(InputError, match=r"k=3: .*m: expected a number of at most k; got k=3, m=5"):
        sweep(XXL, "k", [5, 3], SYSTEMS, "full")
    with pytest.raises(InputError, match=r"alpha=33/100: .*expected a share of 24 layers"):
        sweep(XXL, "alpha", [Fraction("0.33")], SYSTEMS, "full")
    assert sweep(XXL, "alpha", [Fraction("0.33")], SYSTEMS, "printed")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("system, k", [("fid", 5), ("lumen", 10), ("lumen", 25)])
def test_at_the_break_even_the_costs_are_equal(mode: str, system: str, k: int) -> None:
    target = total(replace(XXL, k=k), system, mode)
    for name, b in breakeven.against(XXL, system, k, mode).items():
        assert b.value is not None
        assert total(replace(XXL, **{name: b.value}), "glimmer", mode) == target


def test_the_last_whole_value_that_costs_no_more() -> None:
    solved = breakeven.against(XXL, "lumen", 10)
    target = total(replace(XXL, k=10), "lumen", "full")
    steps = {"k": 1, "m": 1, "alpha": Fraction(4, 24), "beta": Fraction(1, 8)}  # alpha: live-A stays whole, too
    for name, b in solved.items():
        assert b.inside and b.whole is not None
        parse.checked(parse.change(XXL, **{name: b.whole if b.high == 1 else int(b.whole)}))
        assert total(replace(XXL, **{name: b.whole}), "glimmer", "full") <= target
        assert total(replace(XXL, **{name: b.whole + steps[name]}), "glimmer", "full") > target
    assert (solved["k"].whole, solved["m"].whole, solved["beta"].whole) == (35, 7, Fraction(3, 8))


def test_break_evens_that_do_not_exist() -> None:
    never = breakeven.break_even(XXL, "k", 1)
    assert (never.inside, never.whole) == (False, None)
    flat = replace(XXL, m=XXL.k)  # all are selected: beta changes nothing
    assert breakeven.break_even(flat, "beta", 10**18).whole == 1
    assert breakeven.break_even(flat, "beta", 1) == breakeven.BreakEven("beta", None, Fraction(0), Fraction(1), None)
    idle = replace(XXL, alpha=Fraction(0))  # no live layers: k changes nothing but the score
    assert breakeven.break_even(idle, "k", 1, "figure2") == breakeven.BreakEven("k", None, Fraction(5), None, None)
    sevenths = replace(XXL, alpha=Fraction(7, 24), beta=Fraction(1, 7))
    assert breakeven.break_even(sevenths, "alpha", 10**18).whole == Fraction(21, 24)
    above = breakeven.break_even(XXL, "beta", total(XXL, "fid", "full"))
    assert (above.inside, above.whole) == (False, 1)
    with pytest.raises(InputError, match="one of k, m, alpha, beta"):
        breakeven.break_even(XXL, "n_p", 1)
    with pytest.raises(ValueError, match="not linear"):
        breakeven.line(lambda x: total(replace(XXL, n_p=x), "fid", "full"))


@pytest.mark.parametrize("size, terabytes", [("base", 9.8), ("large", 13.1), ("xl", 26.1), ("xxl", 52.3)])
def test_memory_of_21_million_passages_in_bfloat16(size: str, terabytes: float) -> None:
    assert round(storage.corpus_bytes(parse.of_size(size), 2, 21_000_000) / 1e12, 1) == terabytes


def test_storage_and_when_it_has_paid() -> None:
    assert storage.passage_bytes(XXL, 2) == 304 * 4096 * 2
    assert storage.read_bytes(XXL, 4) == 25 * 304 * 4096 * 4
    assert storage.read_bytes(XXL, 1, storage.SCALES["int8"]) == 25 * 304 * (4096 + 4), "a float32 beside each token"
    offline = storage.offline_macs(XXL, 21_000_000)
    macs = full(XXL, "glimmer")
    assert offline * 25 == 21_000_000 * (macs["memory"] + macs["memory.attention"]) > 25 * 2**63
    n = storage.repaid_after(XXL, 21_000_000, "glimmer")
    assert n is not None
    assert offline + n * online(macs) == n * total(XXL, "fid", "full")
    assert storage.repaid_after(replace(XXL, alpha=Fraction(1), k=1, m=1), 1, "lumen") is None


def stepwise(s: Setting, width: int, batch: int, h: hardware.Hardware, flops: int) -> float:
    """The decoder's time as a sum over steps, each bound by arithmetic or bandwidth for itself."""
    read = s.m * (s.n_q + s.n_p) + s.n_q
    d, hc, layers = s.d, s.hc, s.decoder_layers
    weights = layers * (6 * d * hc + s.matrices * d * s.f) + d * s.v
    seconds = 0.0
    for t in range(1, s.n_t + 1):
        macs = batch * (weights + layers * 2 * hc * (t + read))
        moved = width * (weights + batch * layers * 2 * hc * (t + read))
        seconds += max(2 * macs / flops, moved / h.bandwidth)
    return seconds


@pytest.mark.parametrize("batch", [1, 8, 64, 512])
@pytest.mark.parametrize("name", hardware.shipped()[0])
def test_the_decoder_as_one_stage_is_its_steps(name: str, batch: int) -> None:
    h = hardware.accelerator(name)
    stage = roofline.work(XXL, "glimmer", 2, batch)["decoder"]
    flops = h.flops["bfloat16"]
    assert float(roofline.stage_seconds(stage, flops, h.bandwidth)) == pytest.approx(
        stepwise(XXL, 2, batch, h, flops), rel=1e-9
    )


def test_roofline_at_batch_1_is_bound_by_the_decoders_bandwidth() -> None:
    h = hardware.accelerator("h100")
    for system in SYSTEMS:
        work = roofline.work(XXL, system, 2, 1)
        seconds = {n: float(roofline.stage_seconds(w, h.flops["bfloat16"], h.bandwidth)) for n, w in work.items()}
        assert seconds["decoder"] > 0.7 * sum(seconds.values())
        assert seconds["decoder"] == work["decoder"].bytes / h.bandwidth
        assert 0.2 < seconds["decoder"] < 0.3
    one = roofline.Group(h.flops["bfloat16"], h.bandwidth)
    glimmer = [float(roofline.seconds(XXL, "glimmer", 2, b, one)) / b for b in (1, 8, 64)]
    fid = [float(roofline.seconds(XXL, "fid", 2, b, one)) / b for b in (1, 8, 64)]
    ratios = [f / g for f, g in zip(fid, glimmer, strict=True)]
    assert ratios == sorted(ratios) and ratios[0] < 1.6 < 5 < ratios[2]


def test_every_multiply_add_is_in_one_stage() -> None:
    for reranker in ("shared", "separate"):
        s = replace(XXL, reranker=reranker)
        for system in SYSTEMS:
            assert sum(w.macs for w in roofline.work(s, system, 2, 3).values()) == 3 * total(s, system, "full")


def test_weights_read_once_a_stage_and_memory_once() -> None:
    layer = 4 * 4096**2 + 3 * 4096 * 10240
    work = roofline.work(XXL, "glimmer", 2, 7)
    assert work["question"].bytes == 16 * layer * 2
    assert work["live_a"].bytes == 2 * layer * 2 + 7 * storage.read_bytes(XXL, 2)
    assert work["live_b"].bytes == 6 * layer * 2
    apart = roofline.work(replace(XXL, reranker="separate"), "glimmer", 2, 7)
    assert apart["reranker"] == work["live_a"]
    assert apart["live"].bytes == 8 * layer * 2
    assert roofline.work(XXL, "fid", 2, 7)["encoder"].bytes == 24 * layer * 2


def test_what_must_lie_in_memory() -> None:
    weights = roofline.resident_bytes(XXL, "fid", 2, 0)
    assert 11.1e9 < weights / 2 < 11.2e9  # T5.1.1-XXL has 11.1 billion weights
    each = roofline.resident_bytes(XXL, "glimmer", 2, 1) - roofline.resident_bytes(XXL, "glimmer", 2, 0)
    assert each == 24 * 2 * 4096 * 2 * (5 * 352 + 48 + 64)


def test_larger_and_prices() -> None:
    assert roofline.larger(3, 5) == roofline.larger(5, 3) == 5
    assert roofline.price_per_million(0.36, 2.5) == pytest.approx(250)
    with pytest.raises(InputError, match=r"hardware: expected one of a100, .*; got 'abacus'"):
        hardware.accelerator("abacus")


def test_this_cpu_is_measured() -> None:
    h = this_cpu(seconds=0.01, size=256, rows=1024)
    assert 1e8 < h.flops["float32"] < 1e14
    assert 1e8 < h.bandwidth < 1e13
    assert h.efficiency is not None and h.efficiency[:2] == (1, 1), "NumPy reached it"


def test_glimmers_ranking_is_what_the_paper_calls_reranking() -> None:
    rows = rerankers.pipelines(XXL, parse.of_size("base"), 12, 6)
    macs = full(XXL, "glimmer")
    live_a = macs["live_a"] + macs["live_a.attention"]
    assert rows["GLIMMER"].ranking == live_a * 20 / 25 + macs["score"]
    assert rows["GLIMMER, separate live-A"].ranking == live_a + macs["score"]
    assert sum(rows["GLIMMER"][:2]) == total(XXL, "glimmer", "full")
    assert sum(rows["no ranking, FiD over k"][:2]) == total(XXL, "fid", "full")


def test_a_cross_encoder_of_the_readers_own_size_costs_fids_encoder() -> None:
    fid = full(XXL, "fid")
    assert rerankers.cross_encoder(XXL, XXL, 24) == fid["encoder"] + fid["encoder.attention"] + 25 * 4096
    late, question = rerankers.late_interaction(XXL, XXL, 2), full(replace(XXL, alpha=Fraction(1, 12)), "lumen")
    live = question["live"] + question["live.attention"]
    assert late == live + question["question"] + question["question.attention"] + 25 * 4096
    assert rerankers.late_interaction(XXL, XXL, 24) == rerankers.cross_encoder(XXL, XXL, 24)
    with pytest.raises(InputError, match="late-depth: expected from 1 to the reranker's 12 layers; got 13"):
        rerankers.pipelines(XXL, parse.of_size("base"), 12, 13)


def formulas(s: Any) -> list[Any]:
    """Everything that a page would want to compute by itself."""
    result = [x for mode in MODES.values() for y in SYSTEMS for x in mode.macs(s, y).values()]
    for system in SYSTEMS:
        for owner in ("shared", "separate"):
            here = replace(s, reranker=owner)
            work = roofline.work(here, system, s.k, s.m)
            result += [x for w in work.values() for x in w]
            result.append(roofline.seconds(here, system, s.k, s.m, roofline.Group(s.v, s.f, s.n_t, s.d)))
            result.append(roofline.activation_bytes(here, system, s.k, s.m, s.n_t))
            result.append(roofline.resident_bytes(here, system, s.k, s.m))
    result += [storage.corpus_bytes(s, s.m, s.v), storage.read_bytes(s, s.m), storage.offline_macs(s, s.v)]
    return [*result, rerankers.late_interaction(s, s, s.m), roofline.price_per_million(s.v, s.d)]


def test_every_formula_is_plain_arithmetic() -> None:
    numbers = {f.name: getattr(XXL, f.name) for f in fields(Setting) if f.name not in ("decoder_question", "reranker")}
    names = {"Fraction": Fraction, "Math": SimpleNamespace(abs=abs), **numbers}  # JavaScript's signs are Python's
    for written, value in zip(formulas(Setting(**{n: Symbol(n) for n in numbers})), formulas(XXL), strict=True):
        assert eval(written.text, names) == pytest.approx(value, rel=1e-14)  # type: ignore[arg-type]


def test_a_setting_from_the_bundled_model() -> None:
    s = parse.of_folder(bundled())
    assert (s.d, s.hc, s.L, s.alpha, s.beta, s.n_t) == (96, 96, 12, Fraction(1, 3), Fraction(1, 2), 8)


def test_a_setting_from_a_t5_folder(tmp_path: Path) -> None:
    t5 = SIZES["base"]
    data = {"model_type": "t5", **{f.name: getattr(t5, f.name) for f in fields(t5)}}
    (tmp_path / "config.json").write_text(json.dumps({**data, "tie_word_embeddings": False}), "utf-8")
    assert parse.of_folder(tmp_path) == parse.of_folder(tmp_path / "config.json") == parse.of_size("base")
    (tmp_path / "config.json").write_text(json.dumps(data), "utf-8")
    assert parse.of_folder(tmp_path) == replace(parse.of_size("base"), embeddings=1), "tied, as transformers reads it"


# As transformers counts the published checkpoints.
PARAMETERS = {
    "t5-small": 60_506_624, "t5-base": 222_903_552, "t5-large": 737_668_096, "t5-3b": 2_851_598_336,
    "t5-11b": 11_307_321_344, "google/t5-v1_1-small": 76_961_152, "google/t5-v1_1-base": 247_577_856,
    "google/t5-v1_1-large": 783_150_080, "google/flan-t5-xl": 2_849_757_184, "google/flan-t5-xxl": 11_135_332_352,
    "google/mt5-small": 300_176_768, "google/mt5-base": 582_401_280, "google/mt5-large": 1_229_581_312,
    "google/mt5-xl": 3_742_619_648, "google/mt5-xxl": 12_921_057_280,
}  # fmt: skip


@pytest.mark.parametrize("name", PARAMETERS)
def test_published_models_have_their_parameters(name: str) -> None:
    assert parameters(parse.of_size(name)) == PARAMETERS[name]


def test_the_bundled_model_has_its_parameters() -> None:
    stored = sum(x.decode().size for x in map_tensors(bundled() / "model.safetensors").values())
    s = parse.of_folder(bundled())
    more = 2 * s.d + 32 * 3  # the score's norm and projection; the live encoder has position biases of its own
    assert stored == parameters(s) + more


@pytest.mark.parametrize("text", ["{", "[]", '{"d_model": 3}', '{"glimmer": 3}', "[" * 100_000])
def test_a_broken_config_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text, "utf-8")
    with pytest.raises(InputError):
        parse.of_folder(tmp_path)


def test_nonsense_is_refused() -> None:
    bad: dict[str, list[object]] = {
        "k": [0, -1, "9" * 13, "9" * 5000, 1.5, True, "x", "", "1.5"],
        "n_t": ["0"],
        "alpha": ["1.01", "-1/3", "x", "1/0", "nan", "inf", None, "1e999999999", "1e-2", "0." + "3" * 99],
        "size": ["huge"],
    }
    for name, values in bad.items():
        for value in values:
            with pytest.raises(InputError, match=f"^{name}: "):
                parse.change(XXL, **{name: value})
    with pytest.raises(InputError, match="m: expected a number of at most k; got k=25, m=26"):
        parse.checked(replace(XXL, m=26))
    with pytest.raises(InputError, match="alpha: expected a share of 24 layers"):
        parse.checked(parse.change(XXL, alpha="0.33"))
    with pytest.raises(InputError, match="beta: expected a share of 8 layers"):
        parse.checked(parse.change(XXL, beta="1/3"))
    with pytest.raises(InputError, match="at least 1 layer"):
        parse.checked(replace(XXL, L=0))
    with pytest.raises(InputError, match="mode: expected one of printed, figure2, full; got 'guess'"):
        total(XXL, "fid", "guess")
    odd = replace(XXL, alpha=Fraction(1, 24), m=99)
    assert parse.checked(odd, systems=["lumen", "fid"]) == odd  # one live layer has no quarter, but needs none
    assert parse.checked(replace(odd, alpha=Fraction("0.33")), systems=["fid"]).m == 99
    with pytest.raises(InputError, match="alpha"):
        parse.checked(replace(odd, alpha=Fraction("0.33")), systems=["lumen"])
    assert parse.checked(parse.change(XXL, alpha="0.33"), whole=False).alpha == Fraction(33, 100)


def test_plain_numbers() -> None:
    assert plain(Fraction(4, 2)) == 2 and type(plain(Fraction(4, 2))) is int
    assert plain(Fraction(1, 3)) == 1 / 3
    assert plain(10**30) == 10**30
