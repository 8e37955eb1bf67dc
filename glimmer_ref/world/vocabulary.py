"""One vocabulary of whole words for the worlds of all seeds, and its groups of interchangeable tokens.

A word that is not in the vocabulary becomes <unk>. groups.json lists more names than one world uses. They can replace
unknown names in a user's own texts (`name_substitution.py`).
"""

from __future__ import annotations

import json
import re
from functools import cache
from itertools import chain
from typing import Any

from .facts import KINDS, PRONOUNS
from .names import MASKS, UNANSWERABLE, groups
from .relations.all import FILLER, ONE_PASSAGE, RELATIONS, TWO_PASSAGES

SPECIAL = ("<pad>", "</s>", "<unk>", "[SEP]")
MARKS = (".", "?", ":", ",", "!", ";")
PIECES = re.compile(r"\w+|[^\w\s]")
FIELD = re.compile(r"\{\w+\}")


def sentences() -> list[str]:
    """All templates that begin a sentence."""
    return list(
        chain(
            *((*r.statements, *r.questions, *r.claims, *r.inverse_questions) for r in RELATIONS),
            FILLER,
            ONE_PASSAGE,
            TWO_PASSAGES,
        )
    )


def phrases() -> list[str]:
    """All other templates, which are parts of sentences and names of relations."""
    return list(chain(*((*r.clues, r.hint, *r.slots, *r.inverse_slots) for r in RELATIONS)))


@cache
def fixed_words() -> tuple[str, ...]:
    """Words and punctuation marks with the same meaning in every world. They are never interchanged."""
    fixed = (*MARKS, "The", "true", "false", "Prize", "River", *KINDS, *PRONOUNS, *PRONOUNS.values())
    return tuple(
        dict.fromkeys([*fixed, *(w for t in sentences() + phrases() for w in PIECES.findall(FIELD.sub(" ", t)))])
    )


@cache
def first_words() -> tuple[str, ...]:
    """Words with which a sentence may begin. The tokenizer reads them as if they had no capital letter.

    "The" is not among them, because a book's title can have it anywhere in a sentence.
    """
    first = (t.split()[0] for t in sentences() if t[0] != "{")
    return tuple(dict.fromkeys(w for w in (*first, *PRONOUNS, *PRONOUNS.values()) if w != "the"))


@cache
def token_ids() -> dict[str, int]:
    """Every token and its id."""
    words = dict.fromkeys(chain(SPECIAL, fixed_words(), *groups().values(), MASKS, [UNANSWERABLE]))
    return {word: i for i, word in enumerate(words)}


def group_ids() -> dict[str, list[int]]:
    """For each group, the ids of its tokens.

    If the same random permutation of each group is applied to question, passages and answer, the result is another
    valid example. So training also uses the tokens of names in dev and test, but never their texts.
    """
    ids = token_ids()
    return {name: [ids[word] for word in words] for name, words in groups().items()}


def _replace(pattern: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


def _isolated(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _special(word: str, i: int) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": i, "content": word, **flags}


def tokenizer_json() -> str:
    """The text of the tokenizer.json. Tokens are whole words, punctuation marks, and pairs of digits."""
    first = [_replace(rf"\b{word[0].upper()}{word[1:]}\b", word) for word in first_words()]
    split = [{"type": "WhitespaceSplit"}, _isolated(f"[{''.join(MARKS)}]"), _isolated(r"\d{2}")]
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    join = [_replace("^", " "), {"type": "Fuse"}, _replace(r"(?<=\d\d) (?=\d\d)", ""), strip]
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_special(word, i) for i, word in enumerate(SPECIAL)],
        "normalizer": {"type": "Sequence", "normalizers": first},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": split},
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": join},
        "model": {"type": "WordLevel", "vocab": token_ids(), "unk_token": "<unk>"},
    }
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"
