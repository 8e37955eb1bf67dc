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
from pathlib import Path
from typing import Any

import pytest

from glimmer_ref.cli import main
from glimmer_ref.costs import hardware, roofline, storage
from glimmer_ref.costs.flops import SYSTEMS, Setting, online
from glimmer_ref.costs.modes import full
from glimmer_ref.costs.page.page import page
from glimmer_ref.costs.parse import of_size

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
    $(id).dispatchEvent(new Event("input", {bubbles: true}));
  }
  const numbers = {};
  for (const cell of document.querySelectorAll("[data-id]")) numbers[cell.dataset.id] = Number(cell.dataset.exact);
  const sliders = {};
  for (const id of [...Object.keys(SLIDERS), "size", "dtype", "hardware"]) sliders[id] = $(id).value;
  seen.push({numbers, sliders, alpha: $("live_text").value, beta: $("live_a_text").value});
}
$("result").textContent = JSON.stringify({seen, scroll: document.documentElement.scrollWidth, room: innerWidth});
</script>
"""


def moves(count: int) -> list[dict[str, Any]]:
    """Where the sliders are pushed to; some past their ends, which the page must not follow."""
    rng = random.Random(0)
    result: list[dict[str, Any]] = [{}]
    for _ in range(count):
        size = rng.choice(["small", "base", "large", "xl", "xxl"])
        row = {"size": size, "k": rng.randint(1, 100), "m": rng.randint(1, 130), "live": rng.randint(0, 30)}
        row |= {"live_a": rng.randint(0, 30), "n_q": rng.randint(1, 128), "n_p": rng.randint(16, 1024)}
        row |= {"n_t": rng.randint(1, 256), "batch": rng.randint(1, 128)}
        row |= {"dtype": rng.choice(sorted(storage.WIDTHS)), "hardware": rng.choice(sorted(hardware.shipped()[0]))}
        result.append(row)
    result.append({"size": "xxl", "k": 100, "m": 100, "live": 24, "live_a": 24, "n_q": 128, "n_p": 1024, "n_t": 256})
    return result


def browse(tmp_path: Path, document: str, width: int = 1280) -> dict[str, Any]:
    """What the result element of a page holds after its scripts ran."""
    (tmp_path / "page.html").write_text(document, encoding="utf-8")
    assert CHROMIUM
    words = [CHROMIUM, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900"]
    done = subprocess.run([*words, (tmp_path / "page.html").as_uri()], capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="result">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    return json.loads(html.unescape(found.group(1)))  # type: ignore[no-any-return]


def moved(rows: list[dict[str, Any]]) -> str:
    return page().replace("</body>", MOVE.replace("MOVES", json.dumps(rows)) + "</body>")


def python_numbers(sliders: dict[str, str]) -> dict[str, Any]:
    """What Python says for the page's sliders as they stand."""
    n = {name: int(x) for name, x in sliders.items() if name not in ("size", "dtype", "hardware")}
    s: Setting = of_size(sliders["size"])
    assert n["m"] <= n["k"] and n["live_a"] <= n["live"] <= s.L, "an impossible combination"
    s = replace(s, alpha=Fraction(n["live"], s.L), beta=Fraction(n["live_a"], max(n["live"], 1)))
    s = replace(s, **{name: n[name] for name in ("k", "m", "n_q", "n_p", "n_t")})
    width, device = storage.WIDTHS[sliders["dtype"]], hardware.shipped()[0][sliders["hardware"]]
    scale = storage.SCALES[sliders["dtype"]]
    result: dict[str, Any] = {
        "storage.passage": storage.passage_bytes(s, width, scale),
        "storage.question": storage.read_bytes(s, width, scale),
        **{f"storage.{name}": storage.corpus_bytes(s, width, x, scale) for name, x in storage.CORPORA.items()},
    }
    for system in SYSTEMS:
        macs = full(s, system)
        for name, x in macs.items():
            key = f"{system}.{name.removesuffix('.attention')}"
            result[key] = result.get(key, 0) + x
        result[f"{system}.total"] = online(macs)
        result[f"{system}.samples"] = float(10**12 / Fraction(online(macs)))
        result[f"{system}.resident"] = roofline.resident_bytes(s, system, width, n["batch"])
        if sliders["dtype"] in device.flops:
            one = roofline.Group(device.flops[sliders["dtype"]], device.bandwidth)
            result[f"{system}.seconds"] = float(roofline.seconds(s, system, width, n["batch"], one))
    return result


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium; .ci/run installs it")
def test_the_pages_numbers_are_pythons(tmp_path: Path) -> None:
    rows = moves(60)
    result = browse(tmp_path, moved(rows))
    assert len(result["seen"]) == len(rows)
    assert result["scroll"] <= result["room"]
    for seen, row in zip(result["seen"], rows, strict=True):
        expected = python_numbers(seen["sliders"])
        assert set(seen["numbers"]) == set(expected)
        for name, x in expected.items():
            if isinstance(x, float):
                assert seen["numbers"][name] == pytest.approx(x, rel=1e-12), name
            else:
                assert seen["numbers"][name] == x < 2**53, name
        for name in ("size", "dtype", "hardware", "k", "n_q", "n_p", "n_t"):
            assert str(row.get(name, seen["sliders"][name])) == seen["sliders"][name]
        assert seen["alpha"].startswith(
            f"{Fraction(int(seen['sliders']['live']), of_size(seen['sliders']['size']).L)} "
        )


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
