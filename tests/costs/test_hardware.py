"""Hardware as data: the shipped file, files of users, reports of glimmer-ref bench, and what is refused."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from glimmer_ref.cli import main
from glimmer_ref.costs import hardware
from glimmer_ref.costs.hardware import CITED, SHIPPED, accelerator, shipped, store
from glimmer_ref.disk.toml import read_toml
from glimmer_ref.errors import InputError

MINE = """
[accelerators.mine]
name = "My card"
tflops = { bfloat16 = 100.5, float32 = 10 }
memory = 16
bandwidth = 500
link = 25

[accelerators.mine.efficiency]
arithmetic = 0.5
bandwidth = 0.25
source = "measured on a Tuesday"

[stores.tape]
name = "tape"
capacity = 100
bandwidth = 0.3
"""
BENCH: dict[str, Any] = {
    "machine": {"cpu": "Some CPU", "memory_bytes": 8 * 2**30},
    "ceilings": [
        {"threads": 1, "float32": 1e11, "bfloat16": 0.0, "int8": 4e11, "reads": 3e10},
        {"threads": 2, "float32": 2e11, "bfloat16": 0.0, "int8": 8e11, "reads": 3.5e10},
    ],
    "rows": [
        {"work": "encoder-5", "threads": 1, "share": 0.9, "bound": "multiply-adds"},
        {"work": "encoder-5", "threads": 2, "share": 0.875, "bound": "multiply-adds"},
        {"work": "decode", "threads": 2, "share": 0.625, "bound": "reads"},
    ],
}


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "my.toml"
    path.write_text(MINE, "utf-8")
    return path


def test_the_shipped_accelerators_have_sources() -> None:
    assert set(shipped()[0]) == {"a100", "h100", "h200", "l4", "rtx4090", "tpu-v3", "tpu-v4", "tpu-v5e"}
    assert set(shipped()[1]) == {"host", "nvme", "network"}
    for rows in read_toml(SHIPPED).values():
        for name, row in rows.items():
            assert len(row["source"]) > 20 and row["url"].startswith("https://"), name


def test_numbers_are_exact() -> None:
    assert accelerator("h100").flops["bfloat16"] == 989_400_000_000_000
    assert accelerator("tpu-v4").memory == 32 * 2**30
    assert accelerator("a100").flops["float32"] == 19_500_000_000_000
    assert all(
        type(x) is int for h in shipped()[0].values() for x in (*h.flops.values(), h.bandwidth, h.memory, h.link)
    )


def test_a_file_of_ones_own(mine: Path) -> None:
    h = accelerator(str(mine))
    assert (h.name, h.flops["bfloat16"], h.memory, h.bandwidth, h.link) == (
        "My card", 100_500_000_000_000, 16 * 10**9, 500 * 10**9, 25 * 10**9,
    )  # fmt: skip
    assert h.efficiency == (Fraction(1, 2), Fraction(1, 4), "measured on a Tuesday")
    assert accelerator(f"{mine}:mine") == h
    assert store(f"{mine}:tape")[:3] == ("tape", 100 * 10**9, 3 * 10**8)
    other = MINE.replace("[accelerators.mine]", "[accelerators.other]").split("[accelerators.mine.eff")[0]
    mine.write_text(MINE + other, "utf-8")
    with pytest.raises(InputError, match=r"one of its accelerators, like .*my.toml:mine; got 2 accelerators"):
        accelerator(str(mine))
    assert accelerator(f"{mine}:other").efficiency is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("memory = 16", "", 'mine: expected a key "memory", a number above 0'),
        ("memory = 16", "memory = -1", "accelerators.mine.memory: expected a number above 0"),
        ("memory = 16", "memory = inf", "accelerators.mine.memory: expected a number above 0"),
        ("memory = 16", "memory = 1e300", "accelerators.mine.memory: expected a number above 0 up to 1e+09"),
        ("memory = 16", "memory = '16'", "accelerators.mine.memory: expected a number above 0"),
        ("memory = 16", "memroy = 16", "memroy; did you mean memory?"),
        ("bfloat16 = 100.5", "bfloat17 = 100.5", "only the keys float32, float16, bfloat16, int8; got bfloat17"),
        ("{ bfloat16 = 100.5, float32 = 10 }", "{}", "the peak of at least one dtype"),
        ("float32 = 10 ", "float32 = 0 ", "a table of numbers above 0"),
        ("arithmetic = 0.5", "arithmetic = 1.5", "efficiency.arithmetic: expected a number above 0 up to 1"),
        ("[stores.tape]", "[shops.tape]", "only the keys accelerators, stores; got shops"),
        ("[stores.tape]", "[stores]", "stores.name: expected a table; got 'tape'"),
        ("link = 25", "link = ", "TOML; got"),
    ],
)
def test_a_wrong_file_is_refused(mine: Path, old: str, new: str, said: str) -> None:
    mine.write_text(MINE.replace(old, new, 1), "utf-8")
    with pytest.raises(InputError, match=re.escape(said)):
        accelerator(str(mine))


def test_names_that_a_file_does_not_have(mine: Path) -> None:
    with pytest.raises(InputError, match=r"one of its accelerators, like .*my.toml:mine; got 'yours'"):
        accelerator(f"{mine}:yours")
    with pytest.raises(InputError, match=r"storage: expected one of tape; or FILE.toml:NAME; got 'disc'"):
        store(f"{mine}:disc")
    mine.write_text("", "utf-8")
    with pytest.raises(InputError, match="got 0 accelerators"):
        accelerator(str(mine))
    mine.write_text("accelerators = 3", "utf-8")
    with pytest.raises(InputError, match=r"accelerators: expected tables like \[accelerators.mine\]; got 3"):
        accelerator(str(mine))


def test_a_report_of_bench_is_hardware(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(BENCH), "utf-8")
    h = accelerator(str(path))
    assert (h.name, h.flops, h.bandwidth, h.memory) == (
        "Some CPU, threads: 2", {"float32": 2 * 10**11, "int8": 8 * 10**11}, 35 * 10**9, 8 * 2**30,
    )  # fmt: skip
    assert h.efficiency is not None and h.efficiency[:2] == (Fraction(7, 8), Fraction(5, 8))
    path.write_text(json.dumps({**BENCH, "rows": []}), "utf-8")
    assert accelerator(str(path)).efficiency is None


@pytest.mark.parametrize(
    "change",
    [{"ceilings": []}, {"ceilings": [{"threads": 1}]}, {"ceilings": 3}, {"machine": {}}, {"rows": [3]},
     {"ceilings": [{"threads": 1, "float32": -1.0, "reads": 1.0}]}, {"rows": [{"work": "encoder"}]}],
)  # fmt: skip
def test_another_json_is_no_hardware(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({**BENCH, **change}), "utf-8")
    with pytest.raises(InputError, match="a report of glimmer-ref bench --json; got another file"):
        accelerator(str(path))


def test_the_efficiency_is_the_hardwares_else_the_cited_one(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def reached(*words: str) -> Any:
        assert main(["flops", "serve", "--size", "small", "--alpha", "1/4", "--beta", "1/2", *words, "--json"]) == 0
        return json.loads(capsys.readouterr().out)["efficiency"]

    asked = ("--qps", "1", "--passages", "9")
    assert reached(*asked)["arithmetic"] == float(CITED.arithmetic) == 0.76
    assert reached(*asked)["bandwidth"] == float(CITED.bandwidth) == 0.685 == round(1397.31 / 2039, 3)
    assert reached(*asked, "--hardware", str(mine))["source"] == "measured on a Tuesday"
    assert reached(*asked, "--hardware", str(mine), "--efficiency", "0.3")["bandwidth"] == 0.3
    (tmp_path / "bench.json").write_text(json.dumps(BENCH), "utf-8")
    assert reached(*asked, "--hardware", str(tmp_path / "bench.json"))["bandwidth"] == 0.625
    assert hardware.FULL[:2] == (1, 1)
