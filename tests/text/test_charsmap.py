"""The character map: rewritten as SentencePiece rewrites, and refused where it is damaged or hostile."""

from __future__ import annotations

import base64
import json
import random
import struct
import time
import unicodedata
from pathlib import Path

import pytest
from paths import FIXTURES
from test_sentencepiece import CONTROL, LETTERS, field, maker

from glimmer_ref.text.charsmap import Charsmap
from glimmer_ref.text.sentencepiece import tokenizer_json
from glimmer_ref.text.tokenizer import Tokenizer

JAMO = [chr(c) for c in range(0x1100, 0x1200)]


def tokenizer(path: Path) -> Tokenizer:
    return Tokenizer(path, text=tokenizer_json(path))


def charsmap(path: Path) -> Charsmap:
    parts = json.loads(tokenizer_json(path))["normalizer"]["normalizers"]
    return Charsmap(base64.b64decode(next(p["precompiled_charsmap"] for p in parts if p["type"] == "Precompiled")))


MARKS = charsmap(FIXTURES / "tiny_marks.model")


def test_recorded_stacks_of_marks_come_back() -> None:
    made = tokenizer(FIXTURES / "tiny_marks.model")
    rows = [json.loads(line) for line in (FIXTURES / "tiny_marks.jsonl").read_text().splitlines()]
    assert len(rows) > 350
    for text, want in rows:
        assert made.encode(text) == want, ascii(text)
        assert [i for i, _ in made.words(text)] == want


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("\u00a0\u0301", " \u0301"),  # a blank goes, its mark stays
        ("½\u0301", "1\u20442\u0301"),
        ("ü\u0301", "ü\u0301"),  # no entry: the composed letter and its mark are two
        ("u\u0308\u0301", "ǘ"),  # the longest entry, not the first
        ("a\u0301\u0323", "á\u0323"),  # marks are not put into another order
        ("가\u11a8", "가\u11a8"),
        ("\u1100\u1161\u11a8", "각"),
        ("\uff21\uff41B", "\uff21aB"),  # what has no entry stays
        ("", ""),
    ],
)
def test_the_longest_entry_is_taken(text: str, want: str) -> None:
    assert MARKS(text) == want
    assert len(MARKS.spans(text)) == len(want)


def test_pieces_stand_where_they_stood() -> None:
    assert MARKS.spans("x½u\u0308y") == [(0, 1), (1, 2), (1, 2), (1, 2), (2, 4), (4, 5)]
    made = tokenizer(FIXTURES / "tiny_marks.model")
    text = "  a\u0308a </s>½ "
    assert [piece for _, piece in made.words(text)] == ["", "a\u0308", "a", "</s>", "", "½", "½", "½"]


def test_no_text_spells_a_control_piece(tmp_path: Path) -> None:
    """Full-width signs become "</s>" by T5's rules; they end no sequence."""
    pytest.importorskip("sentencepiece", reason="needs the witness extra; .ci/run installs it")
    (tmp_path / "x").write_bytes(maker().train(3, 260))
    made = tokenizer(tmp_path / "x")
    assert made.encode("a</s>")[-1] == 1 and 1 not in made.encode("a\uff1c/s\uff1e")
    assert made.size - 1 not in made.encode("\uff1cextra_id_0\uff1e")


def units(*some: int) -> bytes:
    return struct.pack(f"<{len(some)}I", *some)


def whole(tree: bytes, pool: bytes = b"x\0") -> bytes:
    return struct.pack("<I", len(tree)) + tree + pool


# Bytes go on that lead back to the root: a million characters, then every byte.
WIDE = units(*(byte << 10 | byte if 0x80 <= byte < 0xC0 or 0xF1 <= byte < 0xF4 else 0 for byte in range(256)))
CIRCLE = units(*(byte << 10 | byte for byte in range(256)))
ENDS = units(0, *(byte << 10 | 256 | byte for byte in range(1, 256)))  # and ends an entry, too
AWAY = units(0, 0xFFFF << 10 | 1, *([0] * 254))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"x", "1 bytes"),
        (b"\xff\xff\xff\xff....", "8 bytes"),
        (b"\x03\0\0\0abc\0", "8 bytes"),
        (whole(units(0xFFFFFFFF)), "past the end"),
        (whole(AWAY), "past the end"),
        (whole(ENDS, b"\xff\0"), "utf-8"),
        (whole(ENDS, b"x" * 300), "no text"),
        (whole(ENDS, b"x" * 100 + b"\0"), "100 characters"),
        (whole(ENDS, b"a  b\0"), "spaces in a row"),
        (whole(WIDE), "entries of more than"),
        (whole(CIRCLE), "utf-8"),
        (bytes(1 << 23), "more than"),
    ],
)
def test_damaged_and_hostile_maps_are_refused(data: bytes, said: str) -> None:
    start = time.perf_counter()
    with pytest.raises(ValueError, match=said):
        Charsmap(data)
    assert time.perf_counter() - start < 5


def recorded(count: int) -> list[str]:
    return [json.loads(line)[0] for line in (FIXTURES / "tiny_marks.jsonl").read_text().splitlines()][:count]


def test_no_mutant_of_a_map_escapes() -> None:
    parts = json.loads(tokenizer_json(FIXTURES / "tiny_marks.model"))["normalizer"]["normalizers"]
    plain = base64.b64decode(parts[-5]["precompiled_charsmap"])
    rng, texts, read = random.Random(0), recorded(100), 0
    for _ in range(300):
        mutant = bytearray(plain)
        for _ in range(rng.choice((1, 1, 20))):
            mutant[rng.randrange(len(mutant))] = rng.randrange(256)
        try:
            changed = Charsmap(bytes(mutant))
        except ValueError:
            continue
        read += 1
        for text in texts:
            assert len(changed(text)) == len(changed.spans(text)) <= 64 * len(text)
    assert read > 50


def test_an_empty_map_changes_nothing() -> None:
    plain = Charsmap(b"")
    assert plain("½\u0301 a") == "½\u0301 a" and plain.growth == 1


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["some", "every"])
@pytest.mark.parametrize("rules", ["nmt_nfkc", "nfkc_cf", "identity"])
def test_sentencepiece_agrees_on_characters_and_marks(tmp_path: Path, rules: str, every: bool) -> None:
    """Some code points and 4,000 strings of marks; or every one, and 1,000,000 strings of the rules that T5 has."""
    make = maker()
    import sentencepiece

    model = make.train(3, 260, normalization_rule_name=rules, required_chars="½1\u20442\u00b4¨`aäá")
    (tmp_path / "x").write_bytes(model)
    made, theirs = tokenizer(tmp_path / "x"), sentencepiece.SentencePieceProcessor(model_proto=model)
    characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    alone = characters if every else characters[:0x3000:3] + characters[0x3000::41]

    def differing(texts: list[str]) -> list[str]:
        return [
            ascii(t) for t, ids in zip(texts, theirs.encode(texts, num_threads=1), strict=True) if made.encode(t) != ids
        ]

    assert differing([f"{c}a" for c in alone]) == []
    marks = "".join(c for c in characters if unicodedata.combining(c))
    letters = "".join(c for c in characters if unicodedata.decomposition(c) and ord(c) < 0x30000)
    letters += "".join(JAMO) + "가각힣" + "aeiou \u00a0\u3000▁" * 100
    for seed in range((250 if rules == "nmt_nfkc" else 30) if every else 1):
        assert differing(make.stacked(seed, 4_000, letters, marks)) == []


def test_a_map_by_hand(tmp_path: Path) -> None:
    """A model whose map is empty is read without one."""
    (tmp_path / "x").write_bytes(CONTROL + LETTERS + field(3, field(2, b"")))
    assert tokenizer(tmp_path / "x").encode("ab½b") == [5, 2, 6]
