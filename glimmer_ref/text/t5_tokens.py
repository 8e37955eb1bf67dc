"""The tokens that a T5 folder lists beside its spiece.model: in tokenizer_config.json or in older files.

They are searched in the original text, before normalisation. So "[SEP]" in full-width letters is not such a token,
although T5's normaliser turns it into one. If transformers 4 and 5 differ, the ids in a file are used, and sentinels
are always special.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..disk.read import read_json
from ..errors import InputError, brief

CONFIG, ADDED, SPECIAL = "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json"
EXTRA_IDS = 100  # T5's sentinels <extra_id_0> .. <extra_id_99>
MOST_TOKENS = 1 << 16
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
GENERIC = ("TokenizersBackend", "PreTrainedTokenizer", "PreTrainedTokenizerFast")
SENTINEL = re.compile(r"<extra_id_([0-9]{1,5})>")


@dataclass(frozen=True)
class Token:
    """A token that is searched in a text before the text is cut into pieces.

    Args:
        single_word: whether it is found only where it does not touch a letter.
        lstrip: whether it includes the white space before it.
        rstrip: whether it includes the white space behind it.
        special: whether it is left out when ids are decoded.
    """

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    special: bool = True


@dataclass(frozen=True)
class ListedTokens:
    """The tokens that are listed beside a spiece.model.

    Args:
        where: the file or folder, for error messages.
        extra_ids: number of sentinels, if a file states it.
        with_ids: id -> token.
        special: tokens without an id, in the order of the file.
        vocab_size: vocabulary size of the model, if known.
    """

    where: str = "spiece.model"
    extra_ids: int | None = None
    with_ids: Mapping[int, Token] = field(default_factory=dict)
    special: Sequence[Token] = ()
    vocab_size: int | None = None


def _token(where: str, value: Any, **default: bool) -> Token:
    """A token from its name, or from an object with its flags."""
    values = dict(value) if isinstance(value, Mapping) else {"content": value}
    content = values.get("content")
    if not isinstance(content, str) or not content:
        raise InputError(where, "a token's text", brief(content))
    flags = {name: values.get(name, default.get(name)) for name in ("single_word", "lstrip", "rstrip", "special")}
    known = {name: flag for name, flag in flags.items() if isinstance(flag, bool)}
    if any(flag is not None and name not in known for name, flag in flags.items()):
        raise InputError(f"{where}: {content}", "flags that are true or false", brief(flags, 80))
    return Token(content, **known)


def _tokens(where: str, value: Any) -> list[Token]:
    some = list(value.values()) if isinstance(value, Mapping) else value
    if not isinstance(some, list) or len(some) > MOST_TOKENS:
        raise InputError(where, f"a list of at most {MOST_TOKENS} tokens", type(value).__name__)
    return [_token(where, token) for token in some]


def _object(path: Path) -> dict[str, Any]:
    data = read_json(path) if path.exists() else {}
    if not isinstance(data, dict):
        raise InputError(str(path), "an object", type(data).__name__)
    return data


def _number(where: str, value: Any, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise InputError(where, f"a whole number from 0 to {most}", brief(value))
    return value


def _with_ids(folder: Path, config: Mapping[str, Any]) -> dict[int, Token]:
    """The tokens with ids from tokenizer_config.json, which is the newer form, or else from the older file."""
    decoder = config.get("added_tokens_decoder")
    if decoder is not None:
        where = f"{folder / CONFIG}: added_tokens_decoder"
        if not isinstance(decoder, Mapping) or not all(re.fullmatch("[0-9]{1,9}", i) for i in decoder):
            raise InputError(where, "an object of ids", brief(decoder))
        return {int(i): _token(where, token, special=False) for i, token in decoder.items()}
    result = dict[int, Token]()
    for name, i in _object(folder / ADDED).items():
        number = _number(f"{folder / ADDED}: {name}", i, 10**9)
        if number in result:
            raise InputError(f"{folder / ADDED}", "an id for each token", f"{number} twice")
        result[number] = _token(f"{folder / ADDED}", name, special=False)
    return result


def tokens_with_ids(folder: Path) -> dict[int, Token]:
    """The tokens that a folder lists with their ids: id -> token.

    Raises:
        InputError: a file is malformed.
    """
    return _with_ids(folder, _object(folder / CONFIG))


def _check(folder: Path, config: Mapping[str, Any]) -> None:
    """Check that no setting requires another tokenizer than T5's."""
    kind = config.get("tokenizer_class") or "T5Tokenizer"
    if "T5" not in str(kind) and kind not in GENERIC:
        raise InputError(f"{folder / CONFIG}: tokenizer_class", "T5's tokenizer", brief(kind))
    settings = config.get("sp_model_kwargs") or {}
    if not isinstance(settings, Mapping) or settings.get("enable_sampling"):
        raise InputError(f"{folder / CONFIG}: sp_model_kwargs", "no sampling", brief(settings))
    for name in ("split_special_tokens", "do_lower_case"):
        if config.get(name):
            raise InputError(f"{folder / CONFIG}: {name}", "false, as T5 has it", brief(config[name]))


def read_listed_tokens(folder: Path) -> ListedTokens:
    """The tokens that a T5 folder lists beside spiece.model.

    Raises:
        InputError: a file is malformed, or a setting differs from T5's.

    Source: the precedence of the files is that of transformers. `added_tokens_decoder` in tokenizer_config.json
        replaces added_tokens.json and special_tokens_map.json.
    """
    config = _object(folder / CONFIG)
    _check(folder, config)
    with_ids = _with_ids(folder, config)
    if config.get("added_tokens_decoder") is None:
        config = config | _object(folder / SPECIAL)
    names = [*NAMED, *(key for key in config if key.endswith("_token") and key not in NAMED)]
    where = str(folder / CONFIG)
    special = [_token(f"{where}: {key}", config[key]) for key in names if isinstance(config.get(key), str | dict)]
    for key in ("extra_special_tokens", "additional_special_tokens"):
        special += _tokens(f"{where}: {key}", config.get(key) or [])
    extra_ids = config.get("extra_ids")
    if extra_ids is not None:
        extra_ids = _number(f"{where}: extra_ids", extra_ids, MOST_TOKENS)
    size = _object(folder / "config.json").get("vocab_size")
    return ListedTokens(where, extra_ids, with_ids, tuple(special), size if isinstance(size, int) else None)


def _sentinels(names: Sequence[str], listed: ListedTokens) -> int:
    """The number of sentinels behind the pieces, if no file states `extra_ids`."""
    numbered = {t.content for i, t in listed.with_ids.items() if i >= len(names) and SENTINEL.fullmatch(t.content)}
    if numbered:
        return len(numbered)
    if any(SENTINEL.fullmatch(name.removeprefix("\u2581")) for name in names):
        return 0
    unnumbered = {t.content for t in listed.special if SENTINEL.fullmatch(t.content)}
    if unnumbered and len(unnumbered) != EXTRA_IDS:
        raise InputError(listed.where, f"extra_ids, since {len(unnumbered)} sentinels are listed", "none")
    # A model without room for T5's sentinels has none.
    return 0 if listed.vocab_size is not None and len(names) + EXTRA_IDS > listed.vocab_size else EXTRA_IDS


def _assign_ids(vocabulary: dict[str, int], listed: ListedTokens) -> Iterable[tuple[int, Token]]:
    """Every token with its id. A token that is not in the vocabulary gets the next id."""
    for i, token in sorted(listed.with_ids.items()):
        if vocabulary.setdefault(token.content, len(vocabulary)) != i:
            got = f"id {i} for {token.content!r}"
            raise InputError(listed.where, f"id {vocabulary[token.content]}, by the order of tokens", got)
        yield i, token
    for token in listed.special:
        yield vocabulary.setdefault(token.content, len(vocabulary)), token


def assign_ids(names: Sequence[str], listed: ListedTokens) -> tuple[list[str], dict[int, Token]]:
    """The ids of all tokens that are not pieces.

    Sentinels come first, beginning with the highest number. Then come tokens with ids, then tokens without ids.

    Args:
        names: the pieces.

    Returns:
        The names of the sentinels, and id -> token for all tokens.

    Raises:
        InputError: an id contradicts this order, or the number of sentinels is unknown.

    Source: the order is that of transformers' T5Tokenizer, which gives the same vocabulary for all accepted inputs.
    """
    count = _sentinels(names, listed) if listed.extra_ids is None else listed.extra_ids
    vocabulary = {name: i for i, name in enumerate(names)}
    tokens = dict[int, Token]()
    for n in reversed(range(count)):
        name = f"<extra_id_{n}>"
        tokens[vocabulary.setdefault(name, len(vocabulary))] = Token(name)
    sentinels = list(vocabulary)[len(names) :]
    for i, token in _assign_ids(vocabulary, listed):
        before = tokens.get(i, token)
        chosen = before if token == Token(token.content) else token  # a bare name changes no flags
        tokens[i] = replace(chosen, special=before.special or token.special)
    return sentinels, tokens


def added_token(i: int, token: Token) -> dict[str, Any]:
    """A token in the form of tokenizer.json. "normalized" is false: it is searched before normalisation."""
    return {"id": i, **asdict(token), "normalized": False}
