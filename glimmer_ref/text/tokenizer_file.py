"""Checks of a tokenizer.json. The tokenizers library does not check it, so that a hostile file can crash the process.

Only parts with bounded work are accepted: each part may lengthen a text by at most a known factor, and patterns cannot
backtrack far. If the model is more than a list of words or pieces, it is tried in another process first.
"""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from ..disk.read import parse_json
from ..errors import InputError, brief
from .charsmap import read_charsmap
from .pattern import shortest

MOST_PARTS = 1024  # maximum number of parts in a file; the bundled model has 36
MOST_DEPTH = 4
MOST_GROWTH = 512  # maximum number of characters that one character of the text may become
MOST_TOKENS = 1 << 22
MOST_SCORE = 1e6
MOST_NAME = 4096  # characters of a token
PLAIN, TRIED = ("WordLevel", "Unigram"), ("BPE", "WordPiece")
TRIAL_SECONDS = 60
TRIAL = """
import sys, tokenizers
made = tokenizers.Tokenizer.from_str(sys.stdin.buffer.read().decode())
made.no_truncation(), made.no_padding()
for text in ("", " ", "a", "The quick  brown fox, 1638.", "\\u00e9\\u0301 \\u6771\\u4eac \\U0001f600", "ab" * 500):
    made.decode(made.encode(text, add_special_tokens=False).ids)
"""

Part = Mapping[str, Any]
Growth = float | Callable[[str, Part], float]


def _refused(what: str, expected: str, got: object) -> InputError:
    return InputError(what, expected, brief(got))


def _pattern(where: str, part: Part) -> float:
    """The maximum number of characters that a replacement or a split makes from one character."""
    pattern, content = part.get("pattern"), part.get("content", "")
    if not isinstance(content, str) or not isinstance(pattern, dict) or len(pattern) != 1:
        raise _refused(where, "a pattern and what replaces it", part)
    kind, text = next(iter(pattern.items()))
    if kind not in ("String", "Regex") or not isinstance(text, str):
        raise _refused(where, "a String or a Regex", pattern)
    try:
        least = len(text) if kind == "String" else shortest(text)
    except ValueError as error:
        raise InputError(where, f"a pattern that cannot run away: {error}", brief(text)) from None
    return max(1.0, len(content) / least) if least else 1.0 + len(content)


def _charsmap(where: str, part: Part) -> float:
    try:
        said = part["precompiled_charsmap"]
        data = base64.b64decode(said, validate=True)
        if not data or base64.b64encode(data).decode() != said:  # the library accepts no other form
            raise ValueError("no base 64 of a map")
        return float(read_charsmap(data).growth)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            where, "a whole character map", str(error)[:80], "perhaps the file is damaged: get or make it again"
        ) from None


def _prepend(where: str, part: Part) -> float:
    if not isinstance(part.get("prepend"), str):
        raise _refused(where, "a string to put in front", part)
    return 1.0 + len(part["prepend"])


def _strip(where: str, part: Part) -> float:
    if part.get("stop") != 0:  # otherwise the library reads before the start of a short token
        raise _refused(where, "stop: 0", part)
    return 1.0


# For each kind of part, the maximum number of characters that it makes from one, by the key of a sequence of parts.
UNICODE = {"NFC": 3.0, "NFD": 4.0, "NFKC": 18.0, "NFKD": 18.0, "Lowercase": 3.0, "BertNormalizer": 36.0}
NORMALIZERS = UNICODE | dict.fromkeys(("Nmt", "Strip", "StripAccents"), 1.0) | {"ByteLevel": 4.0}
SPLITS = ("Whitespace", "WhitespaceSplit", "Punctuation", "Digits", "BertPreTokenizer", "CharDelimiterSplit")
PRE_TOKENIZERS = dict.fromkeys((*SPLITS, "UnicodeScripts"), 1.0) | {"ByteLevel": 4.0, "Metaspace": 2.0}
DECODERS = dict.fromkeys(("Fuse", "CTC", "ByteFallback"), 1.0)
SPACED = dict.fromkeys(("ByteLevel", "Metaspace", "WordPiece", "BPEDecoder"), 2.0)
KINDS: dict[str, dict[str, Growth]] = {
    "normalizers": {**NORMALIZERS, "Replace": _pattern, "Precompiled": _charsmap, "Prepend": _prepend},
    "pretokenizers": {**PRE_TOKENIZERS, "Split": _pattern},
    "decoders": {**DECODERS, **SPACED, "Replace": _pattern, "Strip": _strip},
    "processors": dict.fromkeys(("TemplateProcessing", "BertProcessing", "RobertaProcessing", "ByteLevel"), 1.0),
}
KEYS = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}
KEYS |= {"post_processor": "processors"}


def _parts(where: str, part: Any, inner: str, depth: int = MOST_DEPTH) -> list[Part]:
    """The parts of a sequence in order, or a single part as a list."""
    if not isinstance(part, dict) or not depth:
        raise _refused(where, f"an object, at most {MOST_DEPTH} deep", part)
    if part.get("type") != "Sequence":
        return [part]
    some = part.get(inner)
    if not isinstance(some, list) or len(some) > MOST_PARTS:
        raise _refused(where, f"a list of at most {MOST_PARTS} {inner}", some)
    return [x for one in some for x in _parts(where, one, inner, depth - 1)]


def _check_parts(where: str, part: Any, inner: str) -> None:
    growth, kinds = 1.0, KINDS[inner]
    parts = _parts(where, part, inner)
    if len(parts) > MOST_PARTS:
        raise _refused(where, f"at most {MOST_PARTS} parts", len(parts))
    for one in parts:
        by = kinds.get(str(one.get("type")))
        if by is None:
            raise _refused(where, f"one of {', '.join(kinds)}", one.get("type"))
        growth *= by(where, one) if callable(by) else by
        if growth > MOST_GROWTH:
            raise InputError(where, f"at most {MOST_GROWTH} characters for one", "parts that may write more")


def _scored(piece: Any) -> bool:
    match piece:
        case [str(), int() | float() as score]:
            return abs(score) <= MOST_SCORE
    return False


def _model(where: str, model: Any) -> int:
    """The highest id among a model's words or pieces."""
    kind = model.get("type") if isinstance(model, dict) else None
    if kind not in PLAIN + TRIED:
        raise _refused(where, f"one of {', '.join(PLAIN + TRIED)}", kind)
    if model.get("dropout"):
        raise _refused(f"{where}: dropout", "none: a text has the same ids every time", model["dropout"])
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict) and all(type(i) is int and 0 <= i < MOST_TOKENS for i in vocabulary.values()):
        return max(vocabulary.values(), default=-1)
    if isinstance(vocabulary, list) and len(vocabulary) <= MOST_TOKENS and all(map(_scored, vocabulary)):
        return len(vocabulary) - 1
    raise _refused(f"{where}: vocab", f"words with ids below {MOST_TOKENS}, or pieces with scores", vocabulary)


def _added(where: str, tokens: Any) -> int:
    """The highest id among the added tokens."""
    if not isinstance(tokens, list) or len(tokens) > MOST_TOKENS:
        raise _refused(where, "a list of tokens", tokens)
    for token in tokens:
        match token:
            case {"id": int(i), "content": str(content)} if 0 <= i < MOST_TOKENS and 0 < len(content) <= MOST_NAME:
                continue
        raise _refused(where, f"tokens with ids below {MOST_TOKENS} and text", token)
    return max((token["id"] for token in tokens), default=-1)


def _try(where: str, text: str) -> None:
    """Build and use the tokenizer in another process."""
    command = [sys.executable, "-P", "-c", TRIAL]
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=TRIAL_SECONDS)
    except subprocess.TimeoutExpired:
        raise InputError(where, f"one that reads a line in {TRIAL_SECONDS} s", "more") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().split("\n")[-1] or f"exit code {done.returncode}"
        raise InputError(where, "one that the tokenizers library can run", said[:100])


def read_tokenizer(where: str, text: str) -> tuple[dict[str, Any], int]:
    """The parsed content of a tokenizer.json, and its highest id.

    Args:
        where: the file, for error messages.
        text: its content.

    Raises:
        InputError: the file is not JSON, a part is unknown, or the output or run time of a part has no bound.
    """
    data = parse_json(text, where, "a tokenizer.json", once=True)
    if not isinstance(data, dict):
        raise InputError(where, "a tokenizer.json", type(data).__name__)
    highest = max(_model(f"{where}: model", data.get("model")), _added(where, data.get("added_tokens") or []))
    for key, inner in KEYS.items():
        if data.get(key) is not None:
            _check_parts(f"{where}: {key}", data[key], inner)
    if data["model"]["type"] in TRIED:
        _try(f"{where}: model", text)
    return data, highest
