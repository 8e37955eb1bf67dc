"""The JavaScript tokenizer and name substitution read texts as Python's do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from javascript import needs_node, run_js

from glimmer_ref.inference.reader import bundled
from glimmer_ref.text.tokenizer import Tokenizer
from glimmer_ref.world.name_substitution import name_substituter

pytestmark = needs_node

FOLDER = bundled()
JSON = json.loads((FOLDER / "tokenizer.json").read_text(encoding="utf-8"))
GROUPS = json.loads((FOLDER / "groups.json").read_text(encoding="utf-8"))["groups"]
ODD = [
    "", " ", "Where", "Where's", "WHERE", "éWhere", "Where\u0301", "Where_", "x-In", "q-Where.", "x-In-y", "In-Where's",
    "_Where it In", "In.In", "It!It?It", "</s>", "a</s>b", "x<pad>", "[SEP] it", "< /s>",
    "180", "1804", "18045", "a18b", "1804,1805", "٣٤٥", "\uff11\uff18\uff10\uff14",
    "a\u00a0b", "a\u0085b", "a\ufeffb", "a\u200bb", "a\u3000b", "tab\tline\nend", "Ünder the Straße", "日本 Tower",
    "😀 emoji😀", "constructor toString __proto__", "The River Where It In", "...", "?!", "Zaphod's", "A—B",
]  # fmt: skip
PASSAGES = [
    [
        "Zaphod Beeblebrox : Zaphod Beeblebrox was born in Betelgeuse. He plays the banjo.",
        "Betelgeuse : Betelgeuse stands on the Gargle River. It is governed by Tricia McMillan.",
    ],
    ["The Purple Dune : The Purple Dune won the Nebula Prize in 1966. It was published by Chilton Press."],
    ["Foo : Foo Foo lies in the province of Bar. Bar constructor River. Hydra Hydra Hydra Mills."],
    ["The Emerald Lantern : Yarosta Plumwell met Elian Quux. Yarosta Plumwell met Quux."],
    ["Éva Kovács : Éva Kovács was born in Győr. kovács plays the banjo. 日本 X. " + "Name Other. " * 3],
]
QUESTIONS = ["Where was Zaphod Beeblebrox born?", "Who wrote The Purple Hat?", "Where is Elian Baz?", "what now"]


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(FOLDER / "tokenizer.json")


def test_the_ids_and_strings_of_all_bundled_texts_and_of_odd_ones(tokenizer: Tokenizer) -> None:
    texts = [f"{p['title']} : {p['text']}" for p in lines("passages.jsonl")]
    texts += [q["input"] for q in lines("questions.jsonl")] + ODD + [t for some in PASSAGES for t in some]
    expected = [[[i, word] for i, word in tokenizer.words(text)] for text in texts]
    program = "texts.map(text => {const w = t.words(text); return [w, t.decode(w.map(([id]) => id))];})"
    got = run_js("Tokenizer from tokenizer.js", f"(t => {program})(new Tokenizer(json))", json=JSON, texts=texts)
    for text, (words, decoded), want in zip(texts, got, expected, strict=True):
        assert words == want, text
        assert decoded == tokenizer.decode([i for i, _ in want]), text


def test_names_are_substituted_as_in_python(tokenizer: Tokenizer) -> None:
    substituter = name_substituter(FOLDER, tokenizer)
    assert substituter is not None
    got = run_js(
        "Tokenizer from tokenizer.js; NameSubstituter from names.js",
        "passages.map(some => questions.map(q => {"
        "const r = new NameSubstituter(new Tokenizer(json), groups).read(q, some);"
        "const ids = r.tokenizer.encode(`${q} ${some[0]}`);"
        "return [[...r.substituted], r.unknown, ids, r.tokenizer.decode(ids), r.tokenizer.pieces(ids)];}))",
        json=JSON, groups=GROUPS, passages=PASSAGES, questions=QUESTIONS,
    )  # fmt: skip
    for some, answers in zip(PASSAGES, got, strict=True):
        reading = substituter.passages(some, report=True)
        for question, (substituted, unknown, ids, decoded, pieces) in zip(QUESTIONS, answers, strict=True):
            want = reading.question(question)
            assert substituted == [list(item) for item in want.substituted.items()]
            assert unknown == want.unknown
            assert ids == want.tokenizer.encode(f"{question} {some[0]}")
            assert decoded == want.tokenizer.decode(ids)
            assert pieces == want.tokenizer.pieces(ids)


def test_another_tokenizer_is_refused() -> None:
    other = {**JSON, "model": {**JSON["model"], "type": "Unigram"}}
    program = "(() => {try {new Tokenizer(other); return '';} catch (error) {return error.message;}})()"
    assert "got another one" in run_js("Tokenizer from tokenizer.js", program, other=other)
