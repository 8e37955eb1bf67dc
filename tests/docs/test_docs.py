"""README and docs: the picture is what its script draws, links lead somewhere, and every command shown is one."""

from __future__ import annotations

import json
import re
import shlex
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from paths import ROOT

from glimmer_ref.cli import parser
from glimmer_ref.golden import check

PAGES = [
    path
    for pattern in ("README.md", "*/README.md", "docs/*.md", "weights/*/README.md", "glimmer_ref/*.md")
    for path in sorted(ROOT.glob(pattern))
]
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]


def outside_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """What a heading is linked by: its words in lower case with hyphens, without other signs."""
    headings = re.findall(r"^#+ (.+)$", outside_blocks(text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(path: Path) -> list[str]:
    """The links of a page to a file or heading of this repository that is not there."""
    found = []
    text = re.sub(r"`[^`\n]*`", "", outside_blocks(path.read_text("utf-8")))  # of a link's words only [] is left
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, anchor = link.partition("#")
        if re.match(r"[a-z+]+:", link):
            continue
        target = path.parent / name if name else path
        if not target.exists() or (anchor and anchor not in anchors(target.read_text("utf-8"))):
            found.append(link)
    return found


def commands(text: str) -> list[list[str]]:
    """The words after `glimmer-ref` of each command in a page's shell blocks."""
    blocks = "\n".join(re.findall(r"^```(?:sh|console)\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    lines = (shlex.split(line, comments=True) for line in blocks.splitlines() if "glimmer-ref" in line)
    words = [" ".join(map(shlex.quote, line)).replace("'&&'", "&&").split("&&") for line in lines]
    calls = [shlex.split(part) for parts in words for part in parts]
    return [call[i + 1 :] for call in calls for i, word in enumerate(call) if word.endswith("glimmer-ref")]


def named_tensors() -> re.Pattern[str]:
    """Matches the names of tensors in the table under "Names" of the page on golden cases."""
    page = (ROOT / "docs" / "golden-format.md").read_text("utf-8")
    table, rest = page.split("### Names")[1].split("Places are ")
    places = "|".join(map(re.escape, re.findall(r"`(\S+?)`", rest.split("The\nnumbers")[0])))
    parts = {"place": places, "i": r"\d+", "s": r"\d+", "weight": ".+"}
    patterns = []
    for cell in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE):
        for name in re.findall(r"`(.+?)`", cell):
            text = re.sub(r"\{(.+?)\}", lambda m: f"({m[1].replace(' ', '|')})", name.replace(".", r"\."))
            patterns.append(re.sub(r"<(\w+)>", lambda m: f"({parts[m[1]]})", text))
    return re.compile("|".join(patterns))


def test_the_page_on_golden_cases_lists_every_tensor() -> None:
    listed = named_tensors()
    cases = [json.loads((check.CASES / name / "case.json").read_text()) for name in check.bundled()]
    names = {entry["name"] for about in cases if about["kind"] != "ops" for entry in about["tensors"]}
    assert len(names) > 60
    assert sorted(name for name in names if not listed.fullmatch(name)) == []


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_links_lead_to_files_and_headings(path: Path) -> None:
    assert broken(path) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    links = "[a](#one-page) [`b`](page.md#two), [`c`](none.md) [d](https://x.org) `[e](f)`"
    page.write_text(f"# One `page`\n{links}\n", "utf-8")
    assert broken(page) == ["page.md#two", "none.md"]


@pytest.mark.parametrize("name", ["README.md", "docs/commands.md", "docs/costs.md"])
def test_every_command_that_is_shown_can_be_read(name: str) -> None:
    calls = commands((ROOT / name).read_text("utf-8"))
    assert len(calls) > 3
    for call in calls:
        parser(call[0]).parse_args(call)  # exits where a command or an option is unknown


def test_a_wrong_command_is_found() -> None:
    (call,) = commands("```sh\npip install . && glimmer-ref ask 'Who?' --explian  # a typing error\n```\n")
    with pytest.raises(SystemExit):
        parser(call[0]).parse_args(call)


def test_the_set_up_commands_are_two() -> None:
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len([line for line in lines if line.startswith("python3 -m venv")]) == 2, ".ci/run runs them"


def test_the_picture_is_what_its_script_draws() -> None:
    spec = spec_from_file_location("figure1", ROOT / "docs" / "figure1.py")
    assert spec is not None and spec.loader is not None
    figure1 = module_from_spec(spec)
    spec.loader.exec_module(figure1)
    assert figure1.OUT.read_text("utf-8") == figure1.draw(), "to refresh it: python docs/figure1.py"
