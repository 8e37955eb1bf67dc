"""The interactive page: its numbers are Python's at all sliders' places, and it fits the screen."""

from __future__ import annotations

import html
import json
import random
import re
import shutil
import subprocess
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glimmer_ref.cli import main
from glimmer_ref.costs import roofline, storage
from glimmer_ref.costs.breakeven import break_even
from glimmer_ref.costs.flops import SYSTEMS, Setting, online
from glimmer_ref.costs.hardware import Efficiency, Hardware, shipped
from glimmer_ref.costs.modes import full
from glimmer_ref.costs.page.page import MODELS, page
from glimmer_ref.costs.parse import of_size
from glimmer_ref.costs.serving_report import Request, service_of, serving_report

LEAST = 20  # of CIELAB, where 2 is just seen
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync", "--virtual-time-budget=20000", "--dump-dom"]

MOVE = """
<pre id="result"></pre>
<script>
const seen = [];
for (const moves of MOVES) {
  for (const [id, value] of Object.entries(moves)) {
    $(id).value = value;
    limits();  // as every event does before it draws
  }
  $("rate").dispatchEvent(new Event("input", {bubbles: true}));
  const numbers = {};
  for (const cell of document.querySelectorAll("[data-id]")) numbers[cell.dataset.id] = Number(cell.dataset.exact);
  const controls = {};
  for (const id of IDS) controls[id] = $(id).value;
  const [alpha, beta] = [$("live_text").value, $("live_a_text").value];
  seen.push({numbers, controls, alpha, beta, said: $("overtaking").textContent, address: location.hash});
}
$("result").textContent = JSON.stringify({seen, scroll: document.documentElement.scrollWidth, room: innerWidth});
</script>
"""
SLIDERS = ("k", "m", "live", "live_a", "n_q", "n_p", "n_t", "batch")


def moves(count: int) -> list[dict[str, Any]]:
    """Where the controls are moved to; some sliders past their ends, which the page must not follow."""
    rng = random.Random(0)
    result: list[dict[str, Any]] = [{}]
    for _ in range(count):
        row = {"size": rng.choice(MODELS), "k": rng.randint(1, 100), "m": rng.randint(1, 130)}
        row |= {"live": rng.randint(0, 30), "live_a": rng.randint(0, 30), "n_q": rng.randint(1, 128)}
        row |= {"n_p": rng.randint(16, 1024), "n_t": rng.randint(1, 256), "batch": rng.randint(1, 128)}
        row |= {"dtype": rng.choice(sorted(storage.WIDTHS)), "store": rng.choice(sorted(storage.WIDTHS))}
        row |= {"hardware": rng.choice([*sorted(shipped()[0]), "own"]), "place": rng.choice(sorted(shipped()[1]))}
        row |= {"rate": rng.choice([0.3, 7, 100, 50_000]), "passages": rng.choice([9, 10**5, 21_000_000, 10**11])}
        row |= {"bound": rng.choice(["", "", 500, 9000]), "devices": rng.choice([1, 1, 2, 8])}
        row |= {"arithmetic": rng.choice([0.76, 1, 0.31]), "reads": rng.choice([0.685, 1, 0.17])}
        row |= {"months": rng.choice([12, 0.5]), "price": rng.choice(["", 2.5]), "storage_price": rng.choice(["", 21])}
        row |= {
            "own_tflops": rng.choice([71.5, 400]),
            "own_memory": rng.choice([24, 192]),
            "own_link": rng.choice([5, 64]),
        }
        result.append(row)
    result.append({"size": "xxl", "k": 100, "m": 100, "live": 24, "live_a": 24, "n_q": 128, "n_p": 1024, "n_t": 256})
    return result


def browse(tmp_path: Path, document: str, width: int = 1280, address: str = "") -> dict[str, Any]:
    """What the result element of a page holds after its scripts ran."""
    (tmp_path / "page.html").write_text(document, encoding="utf-8")
    assert CHROMIUM
    words = [CHROMIUM, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900"]
    url = (tmp_path / "page.html").as_uri() + address
    done = subprocess.run([*words, url], capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="result">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    return json.loads(html.unescape(found.group(1)))  # type: ignore[no-any-return]


def moved(rows: list[dict[str, Any]]) -> str:
    return page().replace("</body>", MOVE.replace("MOVES", json.dumps(rows)) + "</body>")


def asked(controls: dict[str, str]) -> tuple[Setting, Hardware, Request | None]:
    """The setting, the hardware and the request of the page's controls; no request if the hardware lacks the dtype."""
    c, s = controls, of_size(controls["size"])
    live, live_a = int(c["live"]), int(c["live_a"])
    assert int(c["m"]) <= int(c["k"]) and live_a <= live <= s.L, "an impossible combination"
    s = replace(s, alpha=Fraction(live, s.L), beta=Fraction(live_a, max(live, 1)))
    s = replace(s, **{name: int(c[name]) for name in ("k", "m", "n_q", "n_p", "n_t")})
    own = {n: Fraction(c[f"own_{n}"]) for n in ("tflops", "bandwidth", "memory", "link")}
    here = shipped()[0].get(c["hardware"]) or Hardware(
        "own", {c["dtype"]: own["tflops"] * 10**12}, own["bandwidth"] * 10**9, own["memory"] * 10**9,
        own["link"] * 10**9,
    )  # fmt: skip
    if c["dtype"] not in here.flops:
        return s, here, None
    price, storage_price = (Fraction(c[n]) if c[n] else None for n in ("price", "storage_price"))
    request = Request(
        rate=Fraction(c["rate"]),
        passages=int(c["passages"]),
        hardware=here,
        dtype=c["dtype"],
        stored=c["store"],
        devices=int(c["devices"]),
        efficiency=Efficiency(Fraction(c["arithmetic"]), Fraction(c["reads"]), ""),
        batch=None,
        bound=Fraction(c["bound"]) / 1000 if c["bound"] else None,
        store=c["place"],
        stores=shipped()[1],
        months=Fraction(c["months"]),
        price=price,
        storage_price=storage_price,
    )
    return s, here, request


def question_numbers(s: Setting, controls: dict[str, str], request: Request | None) -> dict[str, Any]:
    """What Python says of one question and of the stored memory."""
    width, stored = storage.WIDTHS[controls["dtype"]], storage.WIDTHS[controls["store"]]
    scale, batch = storage.SCALES[controls["store"]], int(controls["batch"])
    result: dict[str, Any] = {
        "storage.passage": storage.passage_bytes(s, stored, scale),
        "storage.question": storage.read_bytes(s, stored, scale),
        **{f"storage.{name}": storage.corpus_bytes(s, stored, x, scale) for name, x in storage.CORPORA.items()},
    }
    for system in SYSTEMS:
        macs = full(s, system)
        for name, x in macs.items():
            key = f"{system}.{name.removesuffix('.attention')}"
            result[key] = result.get(key, 0) + x
        result[f"{system}.total"] = online(macs)
        result[f"{system}.samples"] = float(10**12 / Fraction(online(macs)))
        result[f"{system}.break_even"] = float(break_even(s, "k", online(macs)).value or 0)
        result[f"{system}.resident"] = roofline.resident_bytes(s, system, width, batch)
        if request:
            seconds = float(roofline.seconds(s, system, width, batch, service_of(request).group))
            result |= {f"{system}.seconds": seconds, f"{system}.each": seconds / batch}
    return result


def service_numbers(s: Setting, request: Request) -> dict[str, Any]:
    """What Python says of the service."""
    report = serving_report("", s, request)
    result: dict[str, Any] = {"search.devices": report["search"]["accelerators"]}
    for system, y in report["systems"].items():
        place = report["stores"][request.store]["systems"][system]
        result |= {
            f"{system}.{name}": x
            for name, x in {
                "device": float(y["device_bytes"]["total"]),
                "stored": y["stored_bytes"],
                "reads": float(y["read"]["bytes_per_second"] / 10**9),
                "held": place["units_for_bytes"],
                "fast": place["units_for_bandwidth"],
                "encoding_macs": float(y["encoding"]["macs"]),
                "encoding_hours": y["encoding"]["accelerator_hours"],
                **({"encoding_price": y["encoding"]["price"]} if request.price else {}),
            }.items()
        }
        if y["answering"]:
            a = y["answering"]
            result |= {f"{system}.{n}": x for n, x in (("accelerators", a["accelerators"]), ("batch", y["batch"]))}
            result[f"{system}.batch_ms"] = 1e3 * a["seconds_per_batch"]
            result[f"{system}.question_ms"] = 1e3 * a["seconds_per_question"]
            result[f"{system}.latency_ms"] = 1e3 * a["latency_seconds"]
            result |= {f"{system}.month_{part}": x for part, x in y["month"].items() if part != "total"}
            result[f"{system}.month"] = y["month"]["total"]
    for row in report["overtakes"]:
        if row["cheaper"] == "below":
            result |= {f"{row['system']}.{row['than']}.{n}": row[n] for n in ("passages", "rate", "months")}
    return result


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium; .ci/run installs it")
def test_the_pages_numbers_are_pythons(tmp_path: Path) -> None:
    rows = moves(60)
    result = browse(tmp_path, moved(rows))
    assert len(result["seen"]) == len(rows)
    assert result["scroll"] <= result["room"]
    said = " ".join(seen["said"] for seen in result["seen"])
    assert all(words in said for words in ("always cheaper", "cannot be served", "has no stated peak", "never."))
    for seen, row in zip(result["seen"], rows, strict=True):
        s, _, request = asked(seen["controls"])
        expected = question_numbers(s, seen["controls"], request)
        if request:
            expected |= service_numbers(s, request)
        assert set(seen["numbers"]) == set(expected)
        for name, x in expected.items():
            if x is None:  # no time is long enough
                assert seen["numbers"][name] <= 0, name
            elif isinstance(x, float):
                assert seen["numbers"][name] == pytest.approx(x, rel=1e-9), name
            else:
                assert seen["numbers"][name] == x, name
        for name in set(row) - {"m", "live", "live_a"}:
            assert str(row[name]) == seen["controls"][name]
        assert seen["alpha"].startswith(f"{s.alpha} ")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium; .ci/run installs it")
def test_the_address_keeps_every_control(tmp_path: Path) -> None:
    """A page that is opened at the address of another one shows the same. What no control has is left out."""
    rows = [row for row in moves(8) if row][-3:]
    for before in browse(tmp_path, moved(rows))["seen"]:
        after = browse(tmp_path, moved([{}]), address=before["address"])["seen"][0]
        assert after["controls"] == before["controls"] and after["numbers"] == before["numbers"]
    odd = browse(tmp_path, moved([{}]), address="#size=huge&k=7&rate=x&other=3&m=99")["seen"][0]
    assert (odd["controls"]["size"], odd["controls"]["k"], odd["controls"]["m"]) == ("xxl", "7", "7")


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium; .ci/run installs it")
def test_what_is_no_number_is_said(tmp_path: Path) -> None:
    wrong = [
        {"rate": 0},
        {"rate": 5, "passages": 1.5},
        {"passages": 9, "arithmetic": 2},
        {"arithmetic": "", "months": -1},
    ]
    seen = browse(tmp_path, moved(wrong))["seen"]
    titles = ("questions a second", "passages of the corpus", "share of the peak", "months between")
    for one, title in zip(seen, titles, strict=True):
        assert one["said"].startswith("A number above 0 is needed") and title in one["said"]
        assert not any(name.endswith(".accelerators") for name in one["numbers"])


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium; .ci/run installs it")
def test_the_page_fits_a_phone(tmp_path: Path) -> None:
    """In a frame 400 pixels wide, since a window cannot be so narrow. The frame writes its result into its parent."""
    inner = moved([{}]).replace('$("result").textContent = ', "parent.result.textContent = ")
    frame = f'<iframe style="width:400px;height:900px;border:0" srcdoc="{html.escape(inner)}"></iframe>'
    result = browse(tmp_path, f'<!doctype html><body><pre id="result"></pre>{frame}</body>')
    assert result["room"] == 400 and result["scroll"] <= 400


def test_the_page_needs_nothing_from_outside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    assert main(["flops", "page", str(out)]) == 0
    assert "bytes" in capsys.readouterr().out
    text = out.read_text("utf-8")
    assert text == page(), "the same text every time"
    assert not re.search(r"https?://|<link|\bsrc=|@import|fetch\(", text)
    assert "/*FORMULAS*/" not in text and "/*DATA*/" not in text
    assert main(["flops", "page", str(tmp_path / "no" / "page.html")]) == 2
    assert "no/page.html" in capsys.readouterr().err


# Machado et al. 2009: what people without one kind of cone see, in linear RGB.
SEEN: dict[str, Any] = {
    "all": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
WHITE = (0.95047, 1.0, 1.08883)


def lab(color: str, eyes: str) -> Any:
    """CIELAB of #rrggbb as some eyes see it."""
    rgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x, y, z = np.cbrt(np.maximum(np.array(XYZ) @ np.clip(np.array(SEEN[eyes]) @ linear, 0, 1) / WHITE, 1e-9))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eyes", SEEN)
def test_colours_differ_for_all_eyes(eyes: str) -> None:
    text = page()
    systems = [re.findall(rf"--{name}: (#\w{{6}})", text) for name in SYSTEMS]
    assert [len(some) for some in systems] == [2, 2, 2], "in light and in dark"
    stages = dict(re.findall(r'(\w+): \["[^"]+", "(#\w{6})"\]', text))
    parts = [stages[name] for name in ("answering", "search", "storage", "encoding")]
    bars = [("encoder",), ("question", "live"), ("question", "live_a", "live_b")]
    groups = [*zip(*systems, strict=True), parts]
    groups += [[stages[name] for name in (*bar, "cross", "decoder", "head")] for bar in bars]
    for group in groups:
        for a, b in combinations(group, 2):
            assert np.linalg.norm(lab(a, eyes) - lab(b, eyes)) > LEAST, (a, b)
