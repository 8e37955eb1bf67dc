"""A long text is cut before it is read, and gives the ids that the whole text gives."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import FIXTURES

from glimmer_ref.data.inputs import Passage, passage_tokens, question_tokens
from glimmer_ref.errors import InputError
from glimmer_ref.inference.reader import bundled
from glimmer_ref.params.checkpoint import load
from glimmer_ref.text import truncate
from glimmer_ref.text.sentencepiece import tokenizer_json
from glimmer_ref.text.tokenizer import Tokenizer

SPACE = "\u2581"
PIECES = [SPACE, "a", "b", "c", SPACE + "a", SPACE + "ab", "ab", "ba", "bc", "1", "2", SPACE + "1", ".", "12", "<s>"]
UNIGRAM = {
    "type": "Unigram",
    "unk_id": 0,
    "vocab": [["<unk>", 0.0], *([p, -1.0 - i / 7] for i, p in enumerate(PIECES))],
}
BYTES = {
    "type": "BPE", "merges": ["Ġ a", "a b", "Ġa b"], "unk_token": "<unk>",
    "vocab": {p: i for i, p in enumerate(["<unk>", "a", "b", "c", "Ġ", "Ġa", "ab", "Ġab", "1", "2", "."])},
}  # fmt: skip
PARTS = {
    "type": "WordPiece", "vocab": {p: i for i, p in enumerate(["[UNK]", "a", "##b", "ab", "##c", "1", "##2", "."])},
    "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 5,
}  # fmt: skip
T5 = {"type": "Sequence", "normalizers": [
    {"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": r"\A +"}, "content": ""},
    {"type": "Replace", "pattern": {"Regex": " +"}, "content": SPACE},
    {"type": "Replace", "pattern": {"Regex": SPACE + r"+\z"}, "content": ""}, {"type": "Prepend", "prepend": SPACE},
]}  # fmt: skip
META = {"type": "Metaspace", "replacement": SPACE, "split": True, "prepend_scheme": "never"}
BERT = {
    "type": "BertNormalizer",
    "clean_text": True,
    "handle_chinese_chars": True,
    "strip_accents": None,
    "lowercase": True,
}
GPT = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
SPLIT = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {**META, "prepend_scheme": "always"}]}
END = {
    "id": 1 + len(PIECES),
    "content": "</s>",
    "single_word": False,
    "lstrip": True,
    "rstrip": True,
    "normalized": False,
    "special": True,
}


def tokenizer(model: Any, normalizer: Any, pre_tokenizer: Any, added: list[Any] | None = None) -> Tokenizer:
    data = {"version": "1.0", "added_tokens": added or [], "normalizer": normalizer, "pre_tokenizer": pre_tokenizer,
            "truncation": None, "padding": None, "post_processor": None, "decoder": None, "model": model}  # fmt: skip
    return Tokenizer("made", text=json.dumps(data))


CONFIG = load(bundled()).config
WORDS = Tokenizer(bundled() / "tokenizer.json", CONFIG.t5.vocab_size)
KINDS = {
    "bundled": WORDS,
    "t5": tokenizer(UNIGRAM, T5, META),
    "t5 fast": tokenizer(UNIGRAM, None, SPLIT, [END]),
    "bert": tokenizer(PARTS, BERT, {"type": "BertPreTokenizer"}),
    "gpt": tokenizer(BYTES, None, GPT),
    "spiece": Tokenizer("made", text=tokenizer_json(FIXTURES / "tiny_spiece.model")),
}
PLACES = st.sampled_from(
    ["a", "b", "ab", "c", " ", " ", "  ", "1", "12", ".", "\n", SPACE, "\u0301", "é", "</s>", "The", "文"]
)


@settings(max_examples=150)
@given(
    st.lists(PLACES, max_size=60).map("".join), st.integers(0, 12), st.sampled_from(sorted(KINDS)), st.integers(1, 4)
)
def test_the_first_ids_are_those_of_the_whole_text(text: str, tokens: int, kind: str, each: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(truncate, "CHARACTERS_A_TOKEN", each)
        patched.setattr(truncate, "MIN_TOKENS", 1)
        ids, part = truncate.first_ids(KINDS[kind], text, tokens)
    assert ids == KINDS[kind].encode(text)[:tokens]
    assert text.startswith(part) and len(KINDS[kind].encode(part)) >= len(ids)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_little_of_a_long_text_is_read(kind: str) -> None:
    assert truncate._word_by_word(KINDS[kind].json)
    ids, part = truncate.first_ids(KINDS[kind], "ab a1 " * 100_000, 304)
    assert len(ids) == 304 and len(part) <= 304 * truncate.CHARACTERS_A_TOKEN and part.endswith(("ab", "a1"))


def _of(tokenizer: Tokenizer, **changed: Any) -> str:
    return json.dumps({**json.loads(tokenizer.json), **changed})


@pytest.mark.parametrize(
    "changed",
    [
        {"pre_tokenizer": None},  # pieces may reach across spaces
        {"pre_tokenizer": {**META, "split": False}},
        {"pre_tokenizer": {**GPT, "use_regex": False}},
        {"pre_tokenizer": {"type": "Punctuation", "behavior": "Isolated"}},
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "a b"}, "behavior": "Isolated", "invert": False}},
        {"pre_tokenizer": {"type": "UnicodeScripts"}},
        {"normalizer": {"type": "Replace", "pattern": {"String": "a b"}, "content": "c"}},
        {"normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": ""}},
        {"normalizer": {"type": "Replace", "pattern": {"String": "a"}, "content": ""}},
        {"normalizer": {"type": "Replace", "pattern": {"String": "a"}, "content": " "}},
        {"normalizer": {"type": "Replace", "pattern": {"Regex": ".*x"}, "content": "x"}},
        {"normalizer": {"type": "Replace", "pattern": {"Regex": "a(?= b)"}, "content": "x"}},
        {"normalizer": {"type": "Replace", "pattern": {"Regex": "[^a]"}, "content": "x"}},
        {"normalizer": {"type": "Unheard"}},
        {"added_tokens": [{**END, "content": "a b"}]},
        {"model": {**BYTES, "dropout": 0.1}},
        {"model": None},
    ],
)
def test_a_tokenizer_that_may_look_further_reads_everything(changed: dict[str, Any]) -> None:
    assert not truncate._word_by_word(_of(KINDS["t5"], **changed))


def test_twenty_megabytes_are_a_moment() -> None:
    passage = Passage("1", "A title", "The Crooked Sailor was written by Jorian Nettleworth . " * 380_000)
    start = time.monotonic()
    ids = passage_tokens(CONFIG, WORDS, [passage]).ids
    assert time.monotonic() - start < 3 and len(ids) == CONFIG.passage_tokens
    short = replace(passage, text=passage.text[:20_000])
    assert ids.tolist() == passage_tokens(CONFIG, WORDS, [short]).ids.tolist()
    question = question_tokens(CONFIG, WORDS, [passage.text])
    assert question.lengths.tolist() == [CONFIG.question_tokens]


def test_what_cannot_be_cut_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(truncate, "MAX_CHARACTERS", 3000)
    assert truncate.first_ids(KINDS["t5"], "a" * 3000, 5)[1] == "a" * 3000
    for text in ("a" * 3001, "文" * 3001, "a " + "\u0301" * 3000):
        with pytest.raises(
            InputError, match=r"first 5000 tokens in the first 3,000 characters.*; cut it into passages"
        ):
            truncate.first_ids(KINDS["t5"], text, 5000)
    assert len(truncate.first_ids(KINDS["t5"], "ab a1 " * 1000, 5)[0]) == 5


def test_what_is_not_read_is_valid_too() -> None:
    with pytest.raises(InputError, match="valid Unicode"):
        truncate.first_ids(WORDS, "a b " * 10_000 + "\ud800", 3)


def test_a_short_text_is_its_own_beginning() -> None:
    assert truncate.beginning(WORDS, "a b " * 10, 5) == "a b " * 10
    assert len(truncate.beginning(WORDS, "a b " * 10_000, 5)) <= truncate.CHARACTERS_A_TOKEN * truncate.MIN_TOKENS
