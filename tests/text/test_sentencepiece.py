"""spiece.model to tokenizer.json: the same ids as SentencePiece gives, and refusals of what is no T5's."""

from __future__ import annotations

import importlib.util
import json
import random
import re
import struct
import unicodedata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tokenizers
from paths import FIXTURES

from glimmer_ref.errors import InputError
from glimmer_ref.text.sentencepiece import find_tokenizer_json, tokenizer_json
from glimmer_ref.text.tokenizer import Tokenizer

TINY = FIXTURES / "tiny_spiece.model"


def tokenizer(path: Path) -> Tokenizer:
    return Tokenizer(path, text=tokenizer_json(path))


def ids(made: Tokenizer, text: str) -> list[int]:
    return made.encode(text)


def maker() -> ModuleType:
    """The script that made the fixture, which also trains models here."""
    pytest.importorskip("sentencepiece", reason="needs the witness extra; .ci/run installs it")
    spec = importlib.util.spec_from_file_location("make_tiny_spiece", FIXTURES / "make_tiny_spiece.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        tokenizer_json(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


def varint(n: int) -> bytes:
    result = b""
    while n > 127:
        result += bytes([n & 127 | 128])
        n >>= 7
    return result + bytes([n])


def field(number: int, value: int | float | bytes | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def piece(text: str | bytes, score: float = -1.0, kind: int = 1) -> bytes:
    return field(1, field(1, text) + field(2, score) + field(3, kind))


CONTROL = piece("<pad>", 0.0, 3) + piece("</s>", 0.0, 3) + piece("<unk>", 0.0, 2)
LETTERS = b"".join(piece(text, score) for text, score in (("▁", -2.0), ("a", -3.0), ("▁ab", -1.0), ("b", -4.0)))


def test_recorded_ids_come_back() -> None:
    made = tokenizer(TINY)
    lines = (FIXTURES / "tiny_spiece.jsonl").read_text().splitlines()
    assert len(lines) > 250
    for text, want in map(json.loads, lines):
        assert ids(made, text) == want, ascii(text)


def test_sentinels_and_special_tokens() -> None:
    text = tokenizer_json(TINY)
    made, library = Tokenizer(TINY, text=text), tokenizers.Tokenizer.from_str(text)
    size = made.size
    assert [library.token_to_id(t) for t in ("<pad>", "</s>", "<unk>")] == [0, 1, 2]
    assert (library.token_to_id("<extra_id_0>"), library.token_to_id("<extra_id_99>")) == (size - 1, size - 100)
    assert ids(made, "the <extra_id_1> of") == [*ids(made, "the"), size - 2, *ids(made, "of")]
    assert made.decode([0, *ids(made, "where was he born"), 1]) == "where was he born"
    assert made.decode(ids(made, "the <extra_id_1>")) == "the"
    assert library.get_vocab_size(with_added_tokens=False) == size


def test_a_model_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(CONTROL + LETTERS)
    made = tokenizer(path)
    assert ids(made, "ab  b") == [5, 3, 6] and ids(made, "") == [] and ids(made, " c ") == [3, 2]
    # "b▁a" only fits if the text is not cut at spaces.
    path.write_bytes(CONTROL + LETTERS + piece("b▁a", -0.5))
    assert ids(tokenizer(path), "b a") == [3, 7] and ids(made, "b a") == [3, 6, 3, 4]
    # Without a piece for the space, unknown words run into one.
    path.write_bytes(CONTROL + piece("a"))
    assert ids(tokenizer(path), "c d") == [2]


def test_sentencepiece_agrees_on_models_by_hand() -> None:
    sentencepiece = pytest.importorskip("sentencepiece", reason="needs the witness extra; .ci/run installs it")
    for content, text, want in (
        (CONTROL + LETTERS, "ab  b", [5, 3, 6]),
        (CONTROL + LETTERS, " c ", [3, 2]),
        (CONTROL + LETTERS + piece("b▁a", -0.5), "b a", [3, 7]),
        (CONTROL + piece("a"), "c d", [2]),
    ):
        assert sentencepiece.SentencePieceProcessor(model_proto=content).encode(text) == want


@pytest.mark.parametrize("rules", ["nmt_nfkc", "identity"])
def test_sentencepiece_agrees(tmp_path: Path, rules: str) -> None:
    make = maker()
    import sentencepiece

    model = make.train(3, 260, normalization_rule_name=rules)
    (tmp_path / "x").write_bytes(model)
    made, theirs = tokenizer(tmp_path / "x"), sentencepiece.SentencePieceProcessor(model_proto=model)
    rng = random.Random(0)
    anything = ["".join(chr(rng.randrange(1, 0x3000)) for _ in range(6)) for _ in range(500)]
    words = ["tiếng Việt", "Ångström", "ṩ", "한국어", "é", "ｶﾞ", "\u212b"]
    forms = [unicodedata.normalize(form, w) for w in words for form in ("NFC", "NFD", "NFKD")]
    assert [t for t in make.texts(5, 3000) + forms + anything if ids(made, t) != theirs.encode(t)] == []


def test_transformers_has_the_same_vocabulary(tmp_path: Path) -> None:
    make = maker()
    transformers = pytest.importorskip("transformers", reason="needs the witness extra; .ci/run installs it")
    (tmp_path / "spiece.model").write_bytes(make.train(3, 260))
    theirs = transformers.T5Tokenizer.from_pretrained(tmp_path)
    made = tokenizer(tmp_path / "spiece.model")
    assert theirs.get_vocab() == tokenizers.Tokenizer.from_str(made.json).get_vocab()
    for text in ("where was he born", "a <extra_id_0> b<extra_id_99>", "</s> x <pad>", " two  spaces "):
        assert theirs(text, add_special_tokens=False)["input_ids"] == ids(made, text)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "0 unknown"),
        (b"garbage", "SentencePiece model"),
        (b"\xff" * 40, "ten bytes"),
        (b"\x0b", "wire type 3"),
        (b"\x0a\xff\xff\xff\xff\x0f", "past its message"),
        (LETTERS, "0 unknown"),
        (CONTROL + CONTROL, "different pieces"),
        (CONTROL + piece("<unk>2", 0.0, 2), "2 unknown"),
        (CONTROL + piece("<0x00>", 0.0, 6), "piece 3: .* kind 6"),
        (CONTROL + piece("unused", 0.0, 5), "piece 3: .* kind 5"),
        (CONTROL + piece("x", float("nan")), "piece 3: .*nan"),
        (CONTROL + piece("x", float("inf")), "piece 3: .*inf"),
        (CONTROL + piece("", 0.0), "piece 3"),
        (CONTROL + piece(b"\xff\xfe", 0.0), "SentencePiece model"),
        (CONTROL + field(1, field(1, 7)), "a number in field 1"),
        (CONTROL + field(1, field(1, "x") + field(2, b"123")), "SentencePiece model"),
        (CONTROL + field(1, field(1, "x") + field(3, b"1")), "no number in field 3"),
        (CONTROL + field(2, field(3, 2)), "unigram.*BPE"),
        (CONTROL + field(2, field(3, 3)), "unigram.*words"),
        (CONTROL + field(2, field(35, 1)), "byte_fallback: expected False.*True"),
        (CONTROL + field(2, field(24, 1)), "treat_whitespace_as_suffix"),
        (CONTROL + field(3, field(3, 0)), "add_dummy_prefix: expected True.*False"),
        (CONTROL + field(3, field(4, 0)), "remove_extra_whitespaces"),
        (CONTROL + field(3, field(5, 0)), "escape_whitespaces"),
        (CONTROL + field(3, field(2, b"\xff\xff\xff\xff....")), "character map"),
        (CONTROL + field(3, field(2, b"\x04\0\0\0\xff\xff\xff\xff\0")), "character map"),
        (CONTROL + field(3, field(2, b"x")), "character map"),
    ],
)
def test_what_is_no_t5s_is_refused(tmp_path: Path, content: bytes, word: str) -> None:
    assert re.search(word, refusal(tmp_path / "x", content))


def test_truncation_never_escapes(tmp_path: Path) -> None:
    """Cut anywhere, the file is refused, or is a shorter model of whole pieces."""
    whole, path = TINY.read_bytes(), tmp_path / "x"
    rng = random.Random(0)
    refused = 0
    for length in range(0, len(whole), 5):
        mutant = bytearray(whole[:length] if length % 2 else whole)
        mutant[rng.randrange(len(mutant))] = rng.randrange(256)
        path.write_bytes(mutant)
        try:
            json.loads(tokenizer_json(path))
        except InputError as e:
            refused += 1
            assert "\n" not in str(e)
    assert refused > len(whole) / 15


def test_absent_and_huge_files_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match=r"a regular file|readable"):
            tokenizer_json(path)
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(2**27)
    with pytest.raises(InputError, match="at most"):
        tokenizer_json(tmp_path / "huge")


def test_a_folders_tokenizer_is_found(tmp_path: Path) -> None:
    assert find_tokenizer_json(tmp_path) is None
    (tmp_path / "spiece.model").write_bytes(TINY.read_bytes())
    assert find_tokenizer_json(tmp_path) == tokenizer_json(TINY)
    (tmp_path / "tokenizer.json").write_text('{"ä": 1}', encoding="utf-8")
    assert find_tokenizer_json(tmp_path) == '{"ä": 1}'
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match=r"tokenizer\.json: expected JSON"):
        find_tokenizer_json(tmp_path)


def test_bpe_models_of_sentencepiece_are_refused(tmp_path: Path) -> None:
    make = maker()
    for settings, word in (({"model_type": "bpe"}, "BPE"), ({"byte_fallback": True}, "byte_fallback")):
        kind: dict[str, Any] = settings
        assert word in refusal(tmp_path / "x", make.train(0, 400, **kind))
