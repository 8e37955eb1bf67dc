"""The notebooks by their own rules (notebooks/README.md), and the pages made of them; .ci/run executes them."""

from __future__ import annotations

import base64
import copy
import html
import importlib.util
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import image
from paths import ROOT

pytestmark = pytest.mark.once
NOTEBOOKS = ROOT / "notebooks"
sys.path.insert(0, str(NOTEBOOKS))

import check  # noqa: E402
import make  # noqa: E402
import pages  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync", "--allow-file-access-from-files"]
QUIET += ["--virtual-time-budget=60000", "--dump-dom"]
needs_pandoc = pytest.mark.skipif(importlib.util.find_spec("pypandoc") is None, reason="needs the notebooks extra")
SOURCES = make.sources()
SMALL = """# %% [markdown]
# # Small
#
# *1 minute to read, a second to run.*

# %%
from matplotlib import pyplot as plt

plt.style.use("style.mplstyle")
print("half of 7 is", 7 / 2)

# %%
# Picture: a line.
plt.plot([1, 2])
plt.show()

# %% [markdown]
# ## Exercises
#
# **Exercise 1.** a **Exercise 2.** b **Exercise 3.** c

# %% tags=["solution"]
# Solution 1.

# %% tags=["solution"]
# Solution 2.

# %% tags=["solution"]
# Solution 3.
"""


def cell(source: str, text: str = "", **more: Any) -> dict[str, Any]:
    """A cell of code that printed something."""
    outputs = [{"output_type": "stream", "name": "stdout", "text": text, **more}] if text or more else []
    return {"cell_type": "code", "metadata": {}, "source": source, "outputs": outputs}


def prose(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def picture(*shape: int) -> dict[str, Any]:
    """An output that shows grey noise of so many pixels."""
    file = io.BytesIO()
    image.imsave(file, np.random.default_rng(0).uniform(size=(*shape, 3)), format="png")
    return {"output_type": "display_data", "data": {"image/png": base64.b64encode(file.getvalue()).decode()}}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_each_notebook_keeps_the_rules(source: Path) -> None:
    assert check.flaws(source) == []


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_each_printed_number_is_compared(source: Path) -> None:
    """A wrong digit planted into any output is found, wherever outputs are compared."""
    cells, planted = check.read(source.with_suffix(".ipynb")), 0
    last = cells
    assert check.differences(cells, copy.deepcopy(cells)) == []
    for i, one in enumerate(cells):
        for j, output in enumerate(one.get("outputs", [])):
            if output["output_type"] == "stream" and check.NUMBER.search(check.joined(output["text"])):
                wrong = copy.deepcopy(cells)
                text = check.NUMBER.sub(lambda x: str(check.number(x[0]) * 1.01 + 1), check.joined(output["text"]), 1)
                wrong[i]["outputs"][j]["text"] = text
                found = check.differences([one], [wrong[i]])
                assert bool(found) == ("varies" not in check.tags_of(one)), (i, text)
                planted += bool(found)
                last = wrong if found else last
    assert planted > 3
    assert check.differences(cells, last), "found among all cells too"


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("loss 0.5000", "loss  0.5004", True),
        ("loss 0.500", "loss 0.502", False),
        ("12,500 tokens", "12,510 tokens", True),
        ("12,500 tokens", "12,600 tokens", False),
        ("kept: 3, 5", "kept: 5, 3", False),
        ("the answer is Ann", "the answer is Bob", False),
        ("1.0e-07", "3.0e-05", True),
        ("-1.5", "1.5", False),
    ],
)
def test_numbers_agree_nearly_and_words_exactly(old: str, new: str, same: bool) -> None:
    assert (check.differences([cell("x", old)], [cell("x", new)]) == []) == same


def test_pictures_agree_by_size() -> None:
    def shown(*shape: int) -> list[Any]:
        return [{**cell("x"), "outputs": [picture(*shape)]}]

    assert check.differences(shown(100, 200), shown(102, 198)) == []
    assert check.differences(shown(100, 200), shown(120, 200))
    assert check.differences(shown(100, 200), [cell("x", "a")])
    assert check.differences([cell("x", "a")], [cell("y", "a")]), "another source"
    assert check.differences([cell("x", "a")], [])


def test_a_number_in_prose_must_have_been_computed() -> None:
    ran = cell("n = 150", "0.9274 of 25 questions, 12,345 tokens")
    said = (
        "In Figure 2 and section 3.1 (de Jong et al. 2023), 93% of 25, 0.927 of 12,345 or 150; 5 of `77`, $88$, T5.1.1."
    )
    assert check.unfounded([prose("# 99 minutes"), ran, prose(said)]) == []
    assert len(check.unfounded([prose("#"), ran, prose("0.93 is right, 0.94 and 26 are not; 1,234.5 neither")])) == 3
    assert check.unfounded([prose("#"), prose("12,345"), ran]), "said before it was computed"


def test_what_must_not_be_in_a_notebook() -> None:
    error = {"output_type": "error", "ename": "ValueError", "evalue": "", "traceback": []}
    blank = picture(40, 40)
    file = io.BytesIO()
    image.imsave(file, np.ones((40, 40, 3)), format="png")
    blank["data"]["image/png"] = base64.b64encode(file.getvalue()).decode()
    for outputs, words in (
        ([error], "an error"),
        ([{"output_type": "stream", "name": "stderr", "text": "Warning"}], "stderr"),
        ([{"output_type": "stream", "name": "stdout", "text": "in /tmp/x"}], "a path"),
        ([blank], "blank"),
        ([picture(40, 40)], "Picture"),
    ):
        assert any(words in found for found in check._outputs({**cell("x"), "outputs": outputs}))


def test_a_name_that_is_of_no_notebook() -> None:
    assert make.sources(["02"]) == make.sources(["notebooks/02_t5_layer.py"])
    with pytest.raises(SystemExit, match="99: one of"):
        make.sources(["99"])


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jupytext") is None, reason="needs jupyter; .ci/run has it")
def test_an_output_that_is_no_longer_true_fails(tmp_path: Path) -> None:
    """A small notebook is made and holds; then a number, and then the code, is changed."""
    import nbformat

    source = tmp_path / "10_small.py"
    source.write_text(SMALL, encoding="utf-8")
    shutil.copy(NOTEBOOKS / "style.mplstyle", tmp_path)
    nbformat.write(make.executed(source, tmp_path), source.with_suffix(".ipynb"))
    assert check.flaws(source) == check.compared(source) == []
    committed = source.with_suffix(".ipynb")
    right = committed.read_text("utf-8")
    assert "half of 7 is 3.5" in right
    committed.write_text(right.replace("half of 7 is 3.5", "half of 7 is 3.6"), encoding="utf-8")
    assert check.flaws(source) == []
    assert check.compared(source) == ["cell 1: 3.6 is now 3.5"]
    committed.write_text(right, encoding="utf-8")
    source.write_text(SMALL.replace("7 / 2", "7 / 3"), encoding="utf-8")
    assert "another source" in " ".join(check.flaws(source))
    assert "cell 1: 3.5 is now 2.3" in " ".join(check.compared(source))
    source.write_text(SMALL.replace("7 / 2", "7 / 0"), encoding="utf-8")
    assert "ZeroDivisionError" in " ".join(check.compared(source))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "deep" / "pages"
    assert pages.main([str(out)]) == 0
    return out


@needs_pandoc
def test_the_pages_are_whole_and_need_nothing_from_outside(site: Path) -> None:
    names = {path.name for path in site.iterdir()}
    made = {pages.SLIDERS, pages.LIVE}
    assert {"index.html", "overview.html", "paper.html", "api.glimmer_ref.paper.html", *made} <= names
    assert {f"{source.stem}.html" for source in SOURCES} <= names
    for path in site.iterdir():
        text = path.read_text("utf-8")
        assert not re.search(r'<link|@import|\bsrc="(?!data:)|url\((?!data:)|<script src', text), path.name
        targets = re.findall(r'<a\s[^>]*?href="(?!https?:|#)([^"#]*)', text)
        assert set(targets) <= names, path.name
        assert "$$" not in re.sub(r"<(pre|code)\b.*?</\1>", "", text, flags=re.DOTALL), path.name
    start = (site / "index.html").read_text("utf-8")
    assert all(f'href="{name}"' in start for name in names - {"index.html"})
    layer = (site / "02_t5_layer.html").read_text("utf-8")
    assert (
        "<math" in layer
        and layer.count("<img") > 5
        and re.findall(r"<summary>(Sol.*?)</", layer) == [f"Solution {i}" for i in (1, 2, 3)]
    )
    assert all(words for words in re.findall(r'alt="([^"]*)"', layer))


@needs_pandoc
def test_links_lead_to_places_that_are_there(site: Path) -> None:
    """Those into the API reference, from its own pages and from the docs."""
    texts = {path.name: path.read_text("utf-8") for path in site.iterdir()}
    places = {name: set(re.findall(r'\bid="([^"]+)"', text)) for name, text in texts.items()}
    links = {
        (name, target or name, anchor)
        for name, text in texts.items()
        for target, anchor in re.findall(r'<a\s[^>]*?href="(api\.[^"#]*|)#([^"]+)"', text)
    }
    assert [link for link in links if link[2] not in places[link[1]]] == []
    assert len(links) > 500 and any(name == "overview.html" for name, _, _ in links)


def test_the_start_page_says_what_each_page_is_about() -> None:
    """In prose: a notebook's first lines, never its code; and a folder's docstring."""
    groups = pages.pages()
    assert [page.name for page in groups["Notebooks"]] == [f"{source.stem}.html" for source in SOURCES]
    for source, page in zip(SOURCES, groups["Notebooks"], strict=True):
        _, paragraph, *_ = check.joined(check.read(source.with_suffix(".ipynb"))[0]["source"]).split("\n\n")
        words = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", paragraph).translate({ord("`"): None, ord("*"): None})
        assert pages.about(page.text) == " ".join(words.split())
    said = {page.name: pages.about(page.text) for group in groups.values() for page in group}
    for name, words in said.items():
        assert len(words) > 20 and not re.search(r"[\\`]|\b(def|class|import) \w+[(:]|<\w+", words), (name, words)
    assert said["api.glimmer_ref.html"].startswith("glimmer_ref: the reference implementation")
    start = pages.start_page(groups)
    assert all(f"]({name})  \n  {pages.reference.plain(words)}" in start for name, words in said.items())


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("# Title\n\nSome `code`, *words* and a\n[link](there.md).\n\nMore.", "Some code, words and a link."),
        ("# Title\n\n<!-- note -->\n\n```sh\n# comment\n```\n\n| a |\n\nWords\\_:\n", "Words_"),
        ("# Title\n\nWords.\n\n```python\n# Picture: a line.\nplt.show()\n```", "Words."),
        ("# Title", ""),
    ],
)
def test_about_is_the_first_paragraph(text: str, about: str) -> None:
    assert pages.about(text) == about


@needs_pandoc
def test_the_pages_overwrite_nothing(tmp_path: Path) -> None:
    kept = tmp_path / "mine.txt"
    kept.write_text("mine")
    with pytest.raises(SystemExit, match="a new or empty folder"):
        pages.main([str(tmp_path)])
    with pytest.raises(SystemExit, match="one folder"):
        pages.main([])
    with pytest.raises(SystemExit, match="mine"):
        pages.main([str(kept / "below")])
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"] and kept.read_text() == "mine"


def test_without_the_extra_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pypandoc", "jupytext"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SystemExit, match=r"pypandoc is missing; pip install '\.\[notebooks\]'"):
        pages.main([str(tmp_path / "out")])
    with pytest.raises(SystemExit, match=r"jupytext is missing; pip install '\.\[notebooks\]'"):
        make.executed(SOURCES[0], tmp_path)
    assert list(tmp_path.iterdir()) == []


@needs_pandoc
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium; .ci/run installs it")
def test_no_page_scrolls_sideways(site: Path, tmp_path: Path) -> None:
    """Every page in frames as wide as a screen and as a phone, its folded parts open, in a light and a dark browser."""
    frames = [(path, width) for path in sorted(site.iterdir()) for width in (1280, 400)]
    words = "".join(
        f'<iframe style="width:{w}px;height:900px;border:0" src="{p.as_uri()}"></iframe>' for p, w in frames
    )
    script = """
    addEventListener("load", () => {
      result.textContent = JSON.stringify([...document.querySelectorAll("iframe")].map(frame => {
        const page = frame.contentDocument, view = frame.contentWindow;
        for (const folded of page.querySelectorAll("details")) folded.open = true;
        const style = view.getComputedStyle(page.body);
        const pictures = [...page.images].map(x => x.naturalWidth > 0 && x.getBoundingClientRect().width > 0);
        return {room: view.innerWidth, scroll: page.documentElement.scrollWidth, pictures,
                ground: style.backgroundColor, ink: style.color};
      }));
    });"""
    wrapper = tmp_path / "frames.html"
    wrapper.write_text(f'<!doctype html><pre id="result"></pre>{words}<script>{script}</script>', encoding="utf-8")
    for scheme in ("1", "0"):  # light, dark
        assert CHROMIUM
        command = [CHROMIUM, *QUIET, f"--blink-settings=preferredColorScheme={scheme}", "--window-size=1400,900"]
        command += [f"--user-data-dir={tmp_path / 'profile'}", wrapper.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        found = re.search(r'<pre id="result">(.+?)</pre>', done.stdout, re.DOTALL)
        assert found, done.stderr[-2000:]
        for (path, width), seen in zip(frames, json.loads(html.unescape(found.group(1))), strict=True):
            assert seen["room"] == width and seen["scroll"] <= width, (path.name, width, seen["scroll"])
            assert all(seen["pictures"]), path.name
            dark, bright = (sum(map(int, re.findall(r"\d+", seen[name])[:3])) for name in ("ground", "ink"))
            if path.name not in (pages.SLIDERS, pages.LIVE):
                assert (dark < 150 < 500 < bright) if scheme == "0" else (bright < 150 < 500 < dark), path.name
