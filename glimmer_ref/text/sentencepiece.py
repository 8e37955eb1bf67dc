"""Conversion of T5's spiece.model into a tokenizer.json, without the sentencepiece library.

With such a file, `Tokenizer` gives the same ids as SentencePiece with the model, except for two rules of transformers:
special tokens, tokens listed beside the model and user-defined pieces are searched first, and the text behind one of
them is encoded like a new text.
"""

from __future__ import annotations

import base64
import json
import math
import os
import struct
from pathlib import Path
from typing import Any

from ..disk.read import parse_json, read_bytes, read_text
from ..errors import InputError
from .charsmap import read_charsmap
from .t5_tokens import ListedTokens, Token, added_token, assign_ids, read_listed_tokens, tokens_with_ids
from .unigram import SPACE, SPACES

MOST_BYTES = 64 * 2**20
NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4
UNIGRAM = 1
NO_TOKENS = ListedTokens()

Message = dict[int, list[int | bytes]]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number of more than ten bytes")


def _message(data: bytes) -> Message:
    """A protocol buffer message: field number -> list of values. Values of four or eight bytes stay bytes."""
    fields: Message = {}
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        values = fields.setdefault(key >> 3, [])
        match key & 7:
            case 0:
                size, at = _varint(data, at)
                values.append(size)
                continue
            case 1:
                size = 8
            case 2:
                size, at = _varint(data, at)
            case 5:
                size = 4
            case kind:
                raise ValueError(f"wire type {kind}")
        if size > len(data) - at:
            raise ValueError("a field that reaches past its message")
        values.append(data[at : at + size])
        at += size
    return fields


def _number(message: Message, field: int, default: int) -> int:
    value = message.get(field, [default])[-1]
    if not isinstance(value, int):
        raise ValueError(f"no number in field {field}")
    return value


def _bytes(message: Message, field: int) -> bytes:
    value = message.get(field, [b""])[-1]
    if not isinstance(value, bytes):
        raise ValueError(f"a number in field {field}")
    return value


def _piece(message: Message) -> tuple[str, float, int]:
    score = struct.unpack("<f", _bytes(message, 2) or bytes(4))[0]
    return _bytes(message, 1).decode("utf-8"), score, _number(message, 3, NORMAL)


def _pieces(path: Path, model: Message) -> tuple[list[tuple[str, float]], dict[int, Token], int]:
    """The pieces with their scores, the tokens among them that are searched first, and the id of the unknown piece."""
    pieces = [_piece(_message(value)) for value in model.get(1, []) if isinstance(value, bytes)]
    for i, (name, score, kind) in enumerate(pieces):
        if kind not in (NORMAL, UNKNOWN, CONTROL, USER_DEFINED):
            kinds = "normal, unknown, control and user-defined pieces, as T5's have"
            raise InputError(f"{path}: piece {i}", kinds, f"kind {kind} ({name[:20]!r})")
        if not name or not math.isfinite(score):
            raise InputError(f"{path}: piece {i}", "text and a finite score", f"{name[:20]!r}, {score}")
    unknown = [i for i, (_, _, kind) in enumerate(pieces) if kind == UNKNOWN]
    whole = {i: Token(name, special=kind != USER_DEFINED) for i, (name, _, kind) in enumerate(pieces) if kind != NORMAL}
    if len(unknown) != 1 or len({name for name, _, _ in pieces}) < len(pieces):
        raise InputError(f"{path}", "different pieces, one of them unknown", f"{len(pieces)}, {len(unknown)} unknown")
    return [(name, score) for name, score, _ in pieces], whole, unknown[0]


def _check_settings(path: Path, trainer: Message, normalizer: Message) -> None:
    """Check that the settings are those of T5. Other settings would need another tokenizer.json."""
    kind = _number(trainer, 3, UNIGRAM)
    if kind != UNIGRAM:
        kinds = {2: "BPE", 3: "words", 4: "characters"}
        raise InputError(f"{path}", "a unigram model, as T5 has", kinds.get(kind, str(kind)))
    settings = {
        "byte_fallback": (trainer, 35, 0),
        "treat_whitespace_as_suffix": (trainer, 24, 0),
        "add_dummy_prefix": (normalizer, 3, 1),
        "remove_extra_whitespaces": (normalizer, 4, 1),
        "escape_whitespaces": (normalizer, 5, 1),
    }
    for name, (message, field, expected) in settings.items():
        if _number(message, field, expected) != expected:
            raise InputError(f"{path}: {name}", f"{bool(expected)}, as T5 has it", f"{not expected}")


def _normalizers(path: Path, normalizer: Message) -> list[dict[str, Any]]:
    """The character map; then no spaces at the ends, one mark for each run of spaces, and a mark in front."""
    charsmap = _bytes(normalizer, 2)
    try:
        read_charsmap(charsmap)
    except ValueError as e:
        raise InputError(
            f"{path}", "a whole character map", str(e)[:80], "perhaps the file is damaged: get or make it again"
        ) from None
    # This is for other programs that read the file; `unigram.py` applies the map itself. The tokenizers library applies
    # the map to a letter with all its marks at once. It loses the fewest marks in composed text.
    composed = b"nfkc" in _bytes(normalizer, 1)
    return [
        *([{"type": "NFC"}] if composed else []),
        *([{"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()}] if charsmap else []),
        *SPACES,
    ]


def _convert(path: Path, model: Message, listed: ListedTokens) -> dict[str, Any]:
    trainer, normalizer = _message(_bytes(model, 2)), _message(_bytes(model, 3))
    _check_settings(path, trainer, normalizer)
    pieces, whole, unknown = _pieces(path, model)
    sentinels, tokens = assign_ids([name for name, _ in pieces], listed)
    # Splitting at spaces is faster, because the library caches words. It is wrong if a piece contains a space.
    whole_words = not any(SPACE in name[1:] for name, _ in pieces) and SPACE in dict(pieces)
    mark = {"type": "Metaspace", "replacement": SPACE, "split": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added_token(i, token) for i, token in sorted((whole | tokens).items())],
        "normalizer": {"type": "Sequence", "normalizers": _normalizers(path, normalizer)},
        "pre_tokenizer": {**mark, "prepend_scheme": "never"} if whole_words else None,
        "post_processor": None,
        "decoder": {**mark, "prepend_scheme": "always"},
        "model": {
            "type": "Unigram",
            "unk_id": unknown,
            "vocab": pieces + [(name, 0.0) for name in sentinels],
            "byte_fallback": False,
        },
    }


def tokenizer_json(path: str | os.PathLike[str], listed: ListedTokens = NO_TOKENS) -> str:
    """A tokenizer.json that encodes like the spiece.model of a T5.

    Pieces keep their ids. T5's 100 sentinels follow, <extra_id_99> first, or the tokens that are listed beside the
    model. No end of sequence is added. Other programs that read the file may lose marks of a letter with several marks.

    Args:
        listed: the tokens that the model's folder lists.

    Raises:
        InputError: there is no such file, it is broken, no T5 has such a model (BPE or words, byte fallback, other
            settings of spaces), or ids of tokens do not fit.

    Source: field numbers are those of sentencepiece_model.proto; the sentinels' order and the special
        tokens those of transformers' T5 conversion.
    """
    path = Path(path)
    content = read_bytes(path, MOST_BYTES)
    try:
        result = _convert(path, _message(content), listed)
    except InputError:
        raise
    except (ValueError, IndexError, struct.error) as e:
        raise InputError(
            f"{path}",
            "a SentencePiece model",
            str(e)[:80],
            "perhaps the file is truncated or damaged: get or make it again",
        ) from None
    return json.dumps(result, ensure_ascii=False)


def _ids(data: Any) -> dict[str, int]:
    """The tokens of a tokenizer.json with their ids; empty if it is none."""
    match data:
        case {"added_tokens": list(added), "model": {"vocab": dict() | list() as vocab}}:
            words = vocab if isinstance(vocab, dict) else {piece[0]: i for i, piece in enumerate(vocab) if piece}
            return {**words, **{token["content"]: token["id"] for token in added if {"content", "id"} <= {*token}}}
    return {}


def _ready(folder: Path, path: Path) -> str:
    """The text of a tokenizer.json. It must have the tokens that are listed beside it."""
    text = read_text(path)
    data, with_ids = parse_json(text, f"{path}"), tokens_with_ids(folder)
    ids = _ids(data) if with_ids else {}
    for i, token in with_ids.items():
        if ids.get(token.content) != i:
            expected = f"{token.content!r} with id {i}, as the files beside it"
            raise InputError(f"{path}", expected, str(ids.get(token.content, "none")), "save the tokenizer again")
    return text


def find_tokenizer_json(folder: str | os.PathLike[str]) -> str | None:
    """The tokenizer of a T5 folder: its tokenizer.json, else its spiece.model converted into one, else None.

    Raises:
        InputError: a file cannot be used, or the tokens listed beside it do not fit.
    """
    folder = Path(folder)
    ready, model = folder / "tokenizer.json", folder / "spiece.model"
    if ready.exists():
        return _ready(folder, ready)
    return tokenizer_json(model, read_listed_tokens(folder)) if model.exists() else None
