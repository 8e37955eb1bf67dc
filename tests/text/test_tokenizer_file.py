"""A hostile tokenizer.json ends in one line; what models have is let through."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from glimmer_ref.errors import InputError
from glimmer_ref.inference.reader import bundled
from glimmer_ref.text import tokenizer_file
from glimmer_ref.text.pattern import shortest
from glimmer_ref.text.tokenizer import Tokenizer

WORDS = {"type": "WordLevel", "vocab": {"u": 0, "a": 1}, "unk_token": "u"}
PIECES = {"type": "Unigram", "unk_id": 0, "vocab": [["u", 0.0], ["a", -1.0]], "byte_fallback": False}
BPE = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}
GARBAGE = "BAAAAP///////////////w=="


def replace(pattern: str, content: str, kind: str = "String") -> dict[str, Any]:
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def several(key: str, part: Any, count: int) -> dict[str, Any]:
    return {"type": "Sequence", key: [part] * count}


def added(content: str, i: int) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": i, "content": content, "special": True, **flags}


def text(**parts: Any) -> str:
    empty = dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder"))
    return json.dumps({"version": "1.0", "added_tokens": [], **empty, "model": WORDS, **parts})


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
DEEP = '{"type":"Sequence","normalizers":[' * 900 + "]}" * 900
HOSTILE = {
    "doubling": (text(normalizer=several("normalizers", replace("a", "aa"), 45)), "at most 512 characters for one"),
    "doubling a pattern": (text(normalizer=several("normalizers", replace(".", "aa", "Regex"), 45)), "at most 512"),
    "growing from nothing": (
        text(normalizer=several("normalizers", replace("^|", "aaaa", "Regex"), 45)),
        "at most 512",
    ),
    "a long prefix": (text(normalizer={"type": "Prepend", "prepend": "a" * 999}), "at most 512"),
    "bytes of bytes": (text(pre_tokenizer=several("pretokenizers", BYTES, 45)), "at most 512"),
    "doubling when it writes": (text(decoder=several("decoders", replace("a", "aa"), 45)), "at most 512"),
    "too many parts": (text(normalizer=several("normalizers", {"type": "NFC"}, 2000)), "at most 1024"),
    "a garbage map": (text(normalizer={"type": "Precompiled", "precompiled_charsmap": GARBAGE}), "character map"),
    "a short map": (text(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAA="}), "character map"),
    "a map of no base 64": (text(normalizer={"type": "Precompiled", "precompiled_charsmap": "%"}), "character map"),
    "an empty map": (text(normalizer={"type": "Precompiled", "precompiled_charsmap": ""}), "character map"),
    "a map of nothing": (text(normalizer={"type": "Precompiled"}), "character map"),
    "an open group": (text(normalizer=replace("((", "", "Regex")), "cannot run away: no groups"),
    "a runaway": (text(normalizer=replace("(a|a)*$", "", "Regex")), "cannot run away: no groups"),
    "a slow pattern": (text(normalizer=replace("a*a*a*b", "", "Regex")), "one repetition without bound"),
    "a bad class": (text(normalizer=replace("[z-a]", "", "Regex")), "empty range|did not match any variant"),
    "no pattern": (text(normalizer={"type": "Replace", "content": ""}), "a pattern and what replaces it"),
    "an unknown pattern": (text(normalizer=replace("a", "b", "Glob")), "a String or a Regex"),
    "pieces of no length": (text(pre_tokenizer={"type": "FixedLength", "length": 0}), "one of Whitespace"),
    "a strip past the start": (text(decoder={"type": "Strip", "content": "a", "start": 0, "stop": 9}), "stop: 0"),
    "an unknown part": (text(normalizer={"type": "Exec"}), "one of NFC"),
    "a part of another place": (text(decoder={"type": "NFC"}), "one of Fuse"),
    "a word for a part": (text(normalizer="NFC"), "an object"),
    "too deep": (text().replace('"normalizer": null', f'"normalizer": {DEEP}'), "nested too deeply|deep"),
    "one name twice": (text().replace('"decoder"', '"normalizer"'), "twice"),
    "an id far away": (text(model={**WORDS, "vocab": {"u": 0, "a": 4_000_000_000}}), "ids below"),
    "an id past the model's": (text(model={**WORDS, "vocab": {"u": 0, "a": 10}}), "vocab_size=10 tokens"),
    "an added id far away": (text(added_tokens=[added("x", 4_000_000_000)]), "ids below"),
    "an added id that is not given": (text(added_tokens=[added("x", 7)]), "x: expected id 7, as the file says; got 2"),
    "an added token of nothing": (text(added_tokens=[added("", 2)]), "and text"),
    "scores past all bounds": (text(model={**PIECES, "vocab": [["u", 0.0], ["a", -1e308]]}), "pieces with scores"),
    "no pieces": (text(model={**PIECES, "vocab": []}), "EmptyVocabulary"),
    "a random model": (text(model={**BPE, "dropout": 0.5}), "the same ids every time"),
    "a prefix past its word": (text(model={**BPE, "continuing_subword_prefix": "abcdef"}), "library can run"),
    "merges of no words": (text(model={**BPE, "merges": ["a z"]}), "library can run"),
    "no model": (text(model=None), "one of WordLevel"),
    "a list": ("[]", "a tokenizer.json; got list"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_end_in_one_line(capfd: pytest.CaptureFixture[str], name: str) -> None:
    content, said = HOSTILE[name]
    start = time.perf_counter()
    with pytest.raises(InputError, match=said) as caught:
        Tokenizer("file.json", 10, content)
    assert time.perf_counter() - start < 10
    assert str(caught.value).startswith("file.json") and len(str(caught.value)) < 400
    assert capfd.readouterr() == ("", "")  # the library's panics are printed where they happen


def test_the_command_says_one_line(tmp_path: Path) -> None:
    """What ended the process (SIGABRT) before."""
    for file in ("config.json", "model.safetensors"):
        (tmp_path / file).symlink_to(bundled() / file)
    (tmp_path / "tokenizer.json").write_text(HOSTILE["doubling"][0])
    command = [sys.executable, "-m", "glimmer_ref", "ask", "Who?", "--weights", str(tmp_path), "--ops", "numpy"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "tokenizer.json: normalizer: expected at most 512" in done.stderr


SPLITS = [{"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}]
PUBLISHED = {
    "the bundled one": (bundled() / "tokenizer.json").read_text("utf-8"),
    "T5's": text(model=PIECES, pre_tokenizer={"type": "Sequence", "pretokenizers": SPLITS}, decoder=SPLITS[1]),
    "umT5's": text(model=PIECES, normalizer=replace(" {2,}", "▁", "Regex"), pre_tokenizer=SPLITS[1]),
    "of words and bytes": text(model=BPE, pre_tokenizer=BYTES, decoder=BYTES),
    "of parts of words": text(
        model={**WORDS, "type": "WordPiece", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100},
        normalizer={"type": "BertNormalizer", "lowercase": True, "clean_text": True, "handle_chinese_chars": True},
        pre_tokenizer={"type": "BertPreTokenizer"},
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
    ),
    "with lengths of its own": text(
        truncation={"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 5},
        padding={"strategy": {"Fixed": 10**15}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                 "pad_type_id": 0, "pad_token": "u"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_models_have_is_let_through(name: str) -> None:
    made = Tokenizer("file.json", text=PUBLISHED[name])
    assert made.decode(made.encode("a"))


def test_only_other_models_are_tried_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    monkeypatch.setattr(tokenizer_file, "_try", lambda where, _: tried.append(where))
    for name, content in PUBLISHED.items():
        Tokenizer(name, text=content)
    assert tried == ["of words and bytes: model", "of parts of words: model"]


def test_a_trial_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_file, "TRIAL", "while True: pass")
    monkeypatch.setattr(tokenizer_file, "TRIAL_SECONDS", 0.5)
    with pytest.raises(InputError, match=r"file\.json: model: expected one that reads a line in 0.5 s; got more"):
        Tokenizer("file.json", text=PUBLISHED["of words and bytes"])


class Panicking:
    """A tokenizer whose library panics, which raises no Exception."""

    class Panic(BaseException):
        pass

    def encode(self, *_: object, **__: object) -> None:
        raise self.Panic("range end index 9\nbacktrace")

    decode = encode


def test_a_panic_over_a_text_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Tokenizer("file.json", text=text())
    monkeypatch.setattr(made, "_inner", Panicking())
    for act in (lambda: made.encode("a"), lambda: made.words("a"), lambda: made.decode([1])):
        with pytest.raises(InputError, match=r"^text: expected a tokenizer that can read it; got range end index 9$"):
            act()


@pytest.mark.parametrize(
    ("pattern", "least"),
    [
        (r"\bWhere\b", 5), (" +", 1), (r"\A +", 1), (" {2,}", 2), ("a{3}b?", 3), ("^", 0), (r"[.?:,!;]", 1),
        (r"(?<=\d\d) (?=\d\d)", 1), (r"\d{2}", 2), ("a|bcd", 1), ("ab|", 0), ("", 0), (r"\.\|", 2), (r"[^a|b\]]x*", 1),
        (r"\p{L}+", 1), ("a*", 0), (".", 1), ("é▁", 2),
    ],
)  # fmt: skip
def test_the_fewest_characters_of_a_pattern(pattern: str, least: int) -> None:
    assert shortest(pattern) == least
    if "\\p" not in pattern:
        assert all(len(m[0]) >= least for m in re.finditer(pattern, " Where 12 34 .|axbcdé▁  aaab ]x"))


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+", "(?:a)*", r"(a)\1", "a{1000}", "a+b+", "a?b?c?d?", "a**", "a++", "(?i)a", "[", "a]", "\\", "{2}",
     "*", "a{3,2}", "[[:alpha:]]", "[a&&b]", r"\G", r"\k<a>", "(?=a+)", "x" * 5000],
)  # fmt: skip
def test_patterns_that_might_run_away_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError):
        shortest(pattern)
