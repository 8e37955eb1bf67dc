"""Makes hostile files: bytes are changed at random, and values in JSON documents get another type."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterable
from typing import Any

BYTES = (b"\0", b"\xff", b"\x1b", b"\n", b"{", b"[", b'"', b"-", b"9", b"\x80", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80")
SIZES = (0, 1, 7, 2**16, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1)
NUMBERS = (b"0", b"-1", b"1e308", b"1e999", b"NaN", b"9" * 40, b"0.5", b"4294967296", b"18446744073709551616")
DEEP = "a value nested deeply"  # written as many nested brackets
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3.5, 1e308, 2**31, 2**63, 10**39, "", " ", "a", "\0", "\x1b[31m", "\ud800", "../x",
    "x" * 5000, [], {}, [0], [[]], {"a": 1}, [None, "a"], {"": []}, "F32", "title: {title}", "{text}", "{text:{title}}",
)  # fmt: skip


def mutated_bytes(rng: random.Random, seed: bytes) -> bytes:
    """Make one to six changes of these kinds.

    They change a bit, a byte, a length or a number; remove, double or replace a run of bytes; or cut off the end.
    """
    data = bytearray(seed)
    for _ in range(rng.randint(1, 6)):
        at, size = rng.randrange(len(data) + 1), rng.choice((1, 2, 4, 8, 30))
        match rng.randrange(8):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at : at + 1] = rng.choice(BYTES)
            case 2:
                del data[at : at + size]
            case 3:
                data[at:at] = data[at : at + size] * rng.choice((1, 2, 50))
            case 4:
                other = rng.randrange(len(data) + 1)
                data[at : at + size] = data[other : other + size]
            case 5:
                data[at : at + 8] = rng.choice(SIZES).to_bytes(8, "little")
            case 6:
                data[at : at + size] = rng.choice(NUMBERS)
            case _ if rng.random() < 0.3:
                del data[at:]
    return bytes(data)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in a document, as keys and indices from the top."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(p for key, part in inner for p in _places(part, (*path, key)))]


def _at(document: Any, place: Iterable[Any]) -> Any:
    for key in place:
        document = document[key]
    return document


def mutated_value(rng: random.Random, document: Any) -> Any:
    """A copy with one value changed, left out, moved to another key, or taken from another place."""
    document = copy.deepcopy(document)
    places = _places(document)
    *path, last = rng.choice(places[1:] or places) or (None,)
    if last is None:
        return rng.choice(VALUES)
    holder = _at(document, path)
    match rng.randrange(8):
        case 0:
            del holder[last]
        case 1 if isinstance(holder, dict):
            holder[rng.choice(("", "x\x1b[31m", "num_layers", "id", "__metadata__"))] = holder.pop(last)
        case 2:
            holder[last] = copy.deepcopy(_at(document, rng.choice(places)))
        case 3:
            holder[last] = DEEP
        case _:
            holder[last] = rng.choice(VALUES)
    return document


def mutated_json(rng: random.Random, document: Any) -> bytes:
    """A document with one to three changed values, sometimes followed by changes of bytes."""
    for _ in range(rng.randint(1, 3)):
        document = mutated_value(rng, document)
    depth = rng.choice((50, 900, 5000))
    text = json.dumps(document, ensure_ascii=rng.random() < 0.8).replace(f'"{DEEP}"', "[" * depth + "]" * depth)
    raw = text.encode("utf-8", "surrogatepass")
    return mutated_bytes(rng, raw) if rng.random() < 0.2 else raw


def mutated_lines(rng: random.Random, records: list[Any]) -> bytes:
    """JSON lines of which one is changed."""
    chosen = rng.randrange(len(records))
    lines = [mutated_json(rng, r) if i == chosen else json.dumps(r).encode() for i, r in enumerate(records)]
    return b"\n".join(lines) + b"\n"
