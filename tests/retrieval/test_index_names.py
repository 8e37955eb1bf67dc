"""The names in an index: titles beside ids, and none in an index of an older build."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from few_passages import FEW, quiet
from gtr_folder import write_gtr

from glimmer_ref.errors import InputError
from glimmer_ref.ops import bind
from glimmer_ref.params.safetensors_io import map_tensors, write_tensors
from glimmer_ref.retrieval import bm25_index, dense, gtr
from glimmer_ref.retrieval.names import TITLE_OFFSETS, Names, Strings


@pytest.mark.parametrize("kind", ["words", "embeddings"])
def test_an_index_of_an_older_build_has_no_titles(
    kind: str, run: Any, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retriever = gtr.load(write_gtr(tmp_path / "gtr"), bind("numpy"))
    build = {
        "words": lambda: bm25_index.build(corpus, tmp_path / "index", quiet),
        "embeddings": lambda: dense.build(corpus, tmp_path / "index", retriever, show=quiet),
    }[kind]
    with monkeypatch.context() as patch:
        only_ids = staticmethod(lambda some: Strings.arrays([id for id, _ in some], "ids"))
        patch.setattr(Names, "arrays", only_ids)
        build()
    index = build()
    ids = [json.loads(line)["id"] for line in FEW]
    assert [index.id(row) for row in range(40)] == ids and [index.title(row) for row in range(40)] == [None] * 40
    if kind == "words":
        out = run("retrieve", "Who?", "--index", tmp_path / "index", "--k", 40)[1]
        assert {line.split(maxsplit=2)[2] for line in out.splitlines()} == {*ids}


def test_titles_of_every_kind(run: Any, tmp_path: Path) -> None:
    """None, one with a line break, and one that is too long for a line; a number of titles that does not fit."""
    titles = ["", "a\nb", "x" * 100]
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps({"title": t, "text": "a word"}) + "\n" for t in titles), "utf-8")
    index = bm25_index.build(path, tmp_path / "index", quiet)
    assert [index.title(row) for row in range(3)] == titles
    lines = run("retrieve", "word", "--index", tmp_path / "index", "--k", 3)[1].splitlines()
    shown = {line.split()[2]: line for line in lines}
    assert shown["0"].endswith("  0") and shown["1"].endswith("  1  a b")
    assert len(shown["2"]) == 80 and shown["2"].endswith("  2  " + "x" * 60)
    few = Strings.arrays(["a"], "titles", TITLE_OFFSETS)
    write_tensors(tmp_path / "t", Strings.arrays(["0", "1"], "ids") | few)
    with pytest.raises(InputError, match="2 titles; got other tensors"):
        Names.of(map_tensors(tmp_path / "t"), 2, "ids.safetensors")
