"""What it takes to serve a corpus: every formula of docs/costs.md against arithmetic written out by hand."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import ceil
from typing import Any

import pytest

from glimmer_ref.costs import parse, roofline, serving
from glimmer_ref.costs.flops import SYSTEMS
from glimmer_ref.costs.hardware import CITED, FULL, Efficiency, accelerator, group_of, shipped
from glimmer_ref.costs.serving import Line, Service
from glimmer_ref.costs.serving_report import Request, service_of, serving_report
from glimmer_ref.errors import InputError

XXL = parse.of_size("xxl")  # d = h c = 4096, f = 10240, v = 32128, 24 layers of which 8 are live and 2 live-A
LAYER = 4 * 4096 * 4096 + 3 * 4096 * 10240  # q, k, v, o; wi_0, wi_1, wo
DECODER = LAYER + 2 * 4096 * 4096  # and cross q, o
FLOPS, BANDWIDTH = 989.4e12 * 0.76, 3350e9 * 0.685  # of an H100, at the default efficiency
ASKED: dict[str, Any] = {
    "rate": Fraction(100),
    "passages": 21_000_000,
    "hardware": accelerator("h100"),
    "dtype": "bfloat16",
    "stored": "bfloat16",
    "devices": 1,
    "efficiency": CITED,
    "batch": None,
    "bound": None,
    "store": "nvme",
    "stores": shipped()[1],
    "months": Fraction(12),
    "price": Fraction(3),
    "storage_price": Fraction(20),
}


def asked(**more: Any) -> Request:
    return Request(**{**ASKED, **more})


def near(x: float) -> Any:
    return pytest.approx(x, rel=1e-12)


def service(**more: Any) -> Service:
    return service_of(asked(**more))


def fid_seconds(b: int) -> dict[str, float]:
    """FiD's stages on one H100: 25 pairs of 352 tokens, 64 decoder steps, 2 bytes a number, 2 FLOPs a multiply-add."""
    tokens = 25 * 352
    encoder = b * 24 * (tokens * LAYER + 25 * 352**2 * 2 * 4096)
    cross = b * 24 * tokens * 2 * 4096 * 4096
    decoder = b * (24 * 64 * DECODER + 24 * 4096 * (64 * 65 + 2 * 64 * tokens) + 64 * 4096 * 32128)
    keys_values = b * 24 * tokens * 2 * 4096 * 2
    past = b * 24 * 64 * 65 * 4096 * 2
    return {
        "encoder": max(2 * encoder / FLOPS, 24 * LAYER * 2 / BANDWIDTH),
        "cross": max(2 * cross / FLOPS, (24 * 2 * 4096 * 4096 * 2 + keys_values) / BANDWIDTH),
        "decoder": max(
            2 * decoder / FLOPS, (64 * (24 * DECODER + 4096 * 32128) * 2 + 64 * keys_values + past) / BANDWIDTH
        ),
    }


@pytest.mark.parametrize("batch", [1, 8])
def test_seconds_of_a_batch(batch: int) -> None:
    got = roofline.group_seconds(XXL, "fid", 2, batch, service().group)
    assert {name: float(t) for name, t in got.items()} == {n: near(t) for n, t in fid_seconds(batch).items()}
    assert serving.groups(XXL, "fid", service(), batch) == ceil(100 * sum(fid_seconds(batch).values()) / batch)


def test_a_sum_over_devices() -> None:
    group = roofline.Group(FLOPS, BANDWIDTH, 4, 450e9)
    assert roofline.sum_seconds(7 * 4096, 2, group) == near(25e-6 + 2 * 3 / 4 * 7 * 4096 * 2 / 450e9)
    assert roofline.sum_seconds(7 * 4096, 2, roofline.Group(FLOPS, BANDWIDTH)) == 0
    assert roofline.sums(XXL, "glimmer", 3) == {
        "question": (2 * 16, 3 * 48 * 4096),
        "live_a": (2 * 2, 3 * 25 * 352 * 4096),
        "live_b": (2 * 6, 3 * 5 * 352 * 4096),
        "decoder": (3 * 24 * 64, 3 * 4096),
    }
    alone, four = (roofline.group_seconds(XXL, "fid", 2, 8, g) for g in (service().group, service(devices=4).group))
    added = 2 * 24 * (25e-6 + 1.5 * 8 * 25 * 352 * 4096 * 2 / 450e9)
    assert float(four["encoder"]) == near(float(alone["encoder"]) / 4 + added)
    assert float(four["cross"]) == near(float(alone["cross"]) / 4), "each device makes those of its own heads"


def test_a_separate_rerankers_live_encoder_sums_over_the_selected_pairs() -> None:
    s = replace(XXL, reranker="separate")
    added = roofline.sums(s, "glimmer", 1)
    assert added["reranker"] == (2 * 2, 25 * 352 * 4096)
    assert added["live"] == (2 * 8, 5 * 352 * 4096)


def test_the_time_of_a_sum_is_what_published_speeds_imply() -> None:
    """gpt-fast's README: tokens/s of Llama-2-7B, with 2 sums in each of 32 layers, on 1, 2, 4 and 8 A100."""
    each = {n: (1 / rate - 1 / 104.9 / n) / 64 for n, rate in ((2, 168.84), (4, 254.02), (8, 328.43))}
    assert [round(1e6 * t) for t in each.values()] == [18, 24, 29]
    assert min(each.values()) < roofline.SUM_SECONDS < max(each.values())


def test_bytes_on_each_device() -> None:
    x = service(devices=4)
    got = serving.device_bytes(XXL, "glimmer", x, 16)
    assert got["weights"] == (24 * LAYER + 24 * (DECODER + 2 * 4096 * 4096) + 2 * 4096 * 32128) * 2 / 4
    assert got["keys_values"] == 16 * 24 * (5 * 352 + 48 + 64) * 2 * 4096 * 2 / 4
    assert got["activations"] == 16 * 25 * 352 * (2 * 4096 + 2 * 10240 / 4) * 2  # two inner arrays [tokens f]
    ungated = parse.of_size("t5-base")  # one inner array [tokens f], not more than q, k, v and their result
    assert roofline.activation_bytes(ungated, "fid", 2, 1) == 25 * 352 * (2 * 768 + max(4 * 768, 3072)) * 2
    assert roofline.weight_bytes(ungated, "fid", 2) == 2 * (
        12 * (4 * 768**2 + 2 * 768 * 3072) + 12 * (8 * 768**2 + 2 * 768 * 3072) + 768 * 32128
    ), "the head is the embedding"


def test_storage_and_reads() -> None:
    x = service()
    assert serving.stored_bytes(XXL, "glimmer", x) == 21_000_000 * 304 * 4096 * 2
    assert serving.stored_bytes(XXL, "fid", x) == 21_000_000 * 304 * 4
    assert serving.stored_bytes(XXL, "lumen", service(stored="int8")) == 21_000_000 * 304 * (4096 + 4)
    assert serving.question_bytes(XXL, "glimmer", x) == 25 * 304 * 4096 * 2
    assert serving.question_bytes(XXL, "fid", x) == 25 * 304 * 4
    assert serving.read_seconds(XXL, "lumen", x, 8) == 8 * 25 * 304 * 4096 * 2 / 13e9
    assert serving.units(XXL, "lumen", x, 15_360 * 10**9, 13 * 10**9) == (ceil(52.297728e12 / 15.36e12), 1)
    assert serving.units(XXL, "lumen", service(rate=Fraction(5000)), serving.UNLIMITED, 50 * 10**9) == (
        1,
        ceil(5000 * 62_259_200 / 50e9),
    )
    report = serving_report("XXL", XXL, asked(rate=Fraction(5000)))
    assert report["systems"]["lumen"]["read"]["bytes_per_second"] == 5000 * 62_259_200
    assert report["systems"]["fid"]["read"]["passages_per_second"] == 5000 * 25
    nvme, host = report["stores"]["nvme"]["systems"]["lumen"], report["stores"]["host"]["systems"]["lumen"]
    assert nvme == {"units_for_bytes": 4, "units_for_bandwidth": ceil(311.296 / 13), "suffices": False}
    assert host == {"units_for_bytes": ceil(52_297.728 / 250), "units_for_bandwidth": 5, "suffices": True}
    assert report["stored_bytes_by_precision"]["float32"] == 21_000_000 * 304 * 4096 * 4


def test_search() -> None:
    x = service(rate=Fraction(20_000))
    vectors, gtr = 21_000_000 * 768, 4 * 768**2 + 2 * 768 * 3072  # GTR-base is T5-base's encoder
    macs = 12 * 48 * gtr + 12 * 48**2 * 2 * 768 + vectors
    assert serving.index_bytes(21_000_000) == vectors * 2
    assert serving.search_macs(XXL, 21_000_000) == macs
    seconds = max(2 * 64 * macs / FLOPS, (vectors * 2 + 12 * gtr * 2) / BANDWIDTH)
    assert float(serving.search_seconds(XXL, x)) == near(seconds)
    assert serving.search_devices(XXL, x) == ceil(20_000 * seconds / 64) == 5
    assert serving.search_devices(XXL, service(passages=100_000_000)) == ceil(100e6 * 768 * 2 / 80e9) == 2


def test_encoding_the_corpus() -> None:
    x = service()
    macs = 21_000_000 * 16 * (304 * LAYER + 304**2 * 2 * 4096)  # 16 layers of the memory encoder
    assert serving.encoding_macs(XXL, "lumen", x) == serving.encoding_macs(XXL, "glimmer", x) == macs
    assert serving.encoding_macs(XXL, "fid", x) == 0
    assert float(serving.encoding_hours(XXL, "glimmer", x)) == near(2 * macs / FLOPS / 3600)


def test_latency() -> None:
    x, b = service(rate=Fraction(7, 2)), 4
    seconds = sum(fid_seconds(b).values())
    groups = ceil(3.5 * seconds / b)
    expected = (b - 1) * groups / 3.5 + b * 25 * 304 * 4 / 13e9 + seconds
    assert float(serving.latency(XXL, "fid", x, b)) == near(expected)


def test_money_of_a_month() -> None:
    x, b = service(), 8
    got = {name: float(v) for name, v in serving.month(XXL, "lumen", x, b).items()}
    hours = 2 * 21_000_000 * 16 * (304 * LAYER + 304**2 * 2 * 4096) / FLOPS / 3600
    assert got == {
        "answering": serving.groups(XXL, "lumen", x, b) * 730 * 3,
        "search": 1 * 730 * 3,
        "storage": near(21_000_000 * 304 * 4096 * 2 / 2**40 * 20),
        "encoding": near(hours * 3 / 12),
    }
    four = service(devices=4)
    assert serving.month(XXL, "lumen", four, b)["answering"] == serving.groups(XXL, "lumen", four, b) * 4 * 730 * 3


def test_accelerator_hours_without_a_price() -> None:
    report = serving_report("XXL", XXL, asked(price=None, storage_price=None))
    y = report["systems"]["fid"]
    assert report["unit"] == "accelerator-hours"
    assert y["month"]["answering"] == y["answering"]["accelerators"] * 730
    assert y["month"]["storage"] == 0 and y["encoding"]["price"] is None


def test_where_one_overtakes_the_other_by_hand() -> None:
    """A month: r 10 for the one; r 4 + N (2 + 24 / T) for the other. At T = 12: 6 r = 4 N."""
    x = service(rate=Fraction(30), passages=60, months=Fraction(12))
    got = serving.overtakes(Line(10, 0, 0), Line(4, 2, 24), x)
    assert got == {"passages": 30 * 6 / 4, "rate": 60 * 4 / 6, "months": Fraction(60 * 24, 30 * 6 - 60 * 2)}


@pytest.mark.parametrize("system", ["lumen", "glimmer"])
def test_where_they_meet_they_cost_the_same(system: str) -> None:
    report = serving_report("XXL", XXL, asked())
    row = next(r for r in report["overtakes"] if (r["system"], r["than"]) == (system, "fid"))
    x = service()
    lines = [serving.line(XXL, y, x, report["systems"][y]["batch"]) for y in ("fid", system)]

    def costs(r: float, n: float, months: float) -> list[float]:
        return [float(r * a.question + n * (a.passage + a.encoding / months)) for a in lines]

    for at in ((100, row["passages"], 12), (row["rate"], 21e6, 12), (100, 21e6, row["months"])):
        fid, other = costs(*at)
        assert fid == pytest.approx(other, rel=1e-9)
    fid, other = costs(100, 21e6, 12)
    assert other < fid, "it is cheaper below its largest corpus, above its least rate, after its months"
    assert row["passages"] > 21e6 and row["rate"] < 100 and row["months"] < 12


def test_a_month_is_its_line_when_nothing_is_rounded() -> None:
    x = service()
    each = serving.line(XXL, "lumen", x, 8)
    exact = 100 * roofline.seconds(XXL, "lumen", 2, 8, x.group) / 8 * 730 * 3
    assert 100 * each.question == near(exact)
    assert exact <= serving.month(XXL, "lumen", x, 8)["answering"] < exact + 730 * 3
    assert 21_000_000 * each.passage == near(float(serving.month(XXL, "lumen", x, 8)["storage"]))


def test_when_a_system_is_never_or_always_cheaper() -> None:
    rows = {(r["system"], r["than"]): r for r in serving_report("XXL", XXL, asked())["overtakes"]}
    same = rows["glimmer", "lumen"]
    assert (same["cheaper"], same["passages"], same["months"]) == ("always", None, None)
    dear = asked(passages=10**12)
    months = [r["months"] for r in serving_report("XXL", XXL, dear)["overtakes"][:2]]
    assert months == [None, None], "storage alone costs more than is saved"
    idle = parse.change(XXL, alpha="1", beta="1", m=25)  # all layers are live: nothing is saved
    row = serving_report("XXL", idle, asked(batch=1))["overtakes"][0]
    assert row["cheaper"] == "never"


@pytest.mark.parametrize("bound", [None, Fraction(3), Fraction(3, 10)])
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_batch_needs_the_fewest_devices_and_fits(system: str, bound: Fraction | None) -> None:
    x = service(devices=2)
    sizes = [
        b
        for b in serving.BATCHES
        if sum(serving.device_bytes(XXL, system, x, b).values()) <= 80e9
        and (bound is None or serving.latency(XXL, system, x, b) <= bound)
    ]
    got = serving.best_batch(XXL, system, x, bound)
    assert (got is None) == (not sizes)
    if got is not None:
        assert got in sizes
        fewest = min(serving.groups(XXL, system, x, b) for b in sizes)
        assert serving.groups(XXL, system, x, got) == fewest


def test_a_system_that_cannot_be_served_says_why() -> None:
    systems = serving_report("XXL", XXL, asked(hardware=accelerator("rtx4090"), efficiency=CITED))["systems"]
    assert systems["fid"]["why_not"] == "a batch of 1 does not fit into memory" and not systems["fid"]["fits"]
    assert systems["fid"]["answering"] is None and systems["fid"]["month"] is None
    assert systems["glimmer"]["batch"] == 1, "it keeps a fifth of the keys and values"
    late = serving_report("XXL", XXL, asked(bound=Fraction(1, 1000)))
    assert {y["why_not"] for y in late["systems"].values()} == {"every batch is too late"}
    assert late["overtakes"] == []
    chosen = serving_report("XXL", XXL, asked(batch=64, bound=Fraction(2)))["systems"]
    assert chosen["fid"]["why_not"] == "a batch of 64 does not fit into memory"
    assert serving_report("XXL", XXL, asked(batch=2, bound=Fraction(1, 9)))["systems"]["fid"]["why_not"] == (
        "a batch of 2 is too late"
    )


def test_a_chosen_batch_is_kept() -> None:
    assert {y["batch"] for y in serving_report("XXL", XXL, asked(batch=3))["systems"].values()} == {3}


def test_hardware_without_a_known_memory_has_room_for_all() -> None:
    here = accelerator("h100")._replace(memory=0)
    report = serving_report("XXL", XXL, asked(hardware=here))
    assert all(y["fits"] is None and y["batch"] for y in report["systems"].values())
    assert report["hardware"]["memory_bytes"] is None


def test_a_group_is_at_the_shares_that_are_reached() -> None:
    half = Efficiency(Fraction(1, 2), Fraction(1, 4), "x")
    group = group_of(accelerator("a100"), "int8", half, 8)
    assert group == roofline.Group(312 * 10**12, Fraction(2039 * 10**9, 4), 8, 300 * 10**9)
    assert group_of(accelerator("a100"), "float32", FULL, 1).flops == 19.5e12
    alone = accelerator("a100")._replace(link=0)
    with pytest.raises(InputError, match="devices: expected 1, or hardware whose link is known; got 2; state link"):
        group_of(alone, "int8", FULL, 2)
    assert group_of(alone, "int8", FULL, 1).devices == 1
