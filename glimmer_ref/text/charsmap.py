"""SentencePiece's character map: the rules that rewrite a text before it is split into pieces.

The map consists of a trie of bytes in 32-bit units (a "double array"), and a pool of strings to which its leaves point.
At every position of a text, SentencePiece applies the longest entry that matches, and so does this file. The tokenizers
library applies the map to a letter with all its marks at once, and takes the first entry that matches. So a mark on "½"
is lost there.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache

ROOT = bytes(4)
NOTHING = b"\x04\0\0\0" + ROOT  # a map whose root has no children
MOST_BYTES = 1 << 22
MOST_CHARACTERS = 1 << 17  # different first, or second, characters of entries; 12,286 in Unicode's own rules
MOST_KEY = 128  # characters of an entry; 4 in Unicode's own rules
MOST_GROWTH = 64  # characters that one character may become; 18 in Unicode's own rules

_LEAF, _LABEL, _ENDS = 1 << 31, 1 << 31 | 255, 256  # bits of a unit
# Number of bytes of a character, by the five high bits of its first byte.
WIDTHS = {i: 1 for i in range(16)} | {i: 2 for i in range(24, 28)} | {28: 3, 29: 3, 30: 4}

Change = tuple[int, int, str]
Span = tuple[int, int]


class _Tree:
    """The double array: a base and a byte give a unit, which gives the next base.

    Args:
        data: the bytes of its units.

    Raises:
        ValueError: a branch leads past the end.

    Source: the layout is that of darts-clone, which sentencepiece uses.
    """

    def __init__(self, data: bytes) -> None:
        self.units = struct.unpack(f"<{len(data) // 4}I", data)
        self.bases = [node ^ (u >> 10) << ((u & 512) >> 6) for node, u in enumerate(self.units)]
        self.root = self.bases[0]
        if data != ROOT and self.root | 255 >= len(self.units):
            raise ValueError("a branch past the end")
        self._children = dict[int, list[int]]()
        for node, unit in enumerate(self.units):
            if 0 < unit & _LABEL < 256:
                self._children.setdefault(node ^ unit & 255, []).append(node)

    def value(self, node: int) -> int:
        """The value of the leaf below a unit that ends an entry."""
        return self.units[self.bases[node]] & (_LEAF - 1)

    def leaves(self) -> set[int]:
        """The values of all leaves. Every branch is visited only once, so that a cycle cannot run forever.

        Raises:
            ValueError: a branch leads past the end.
        """
        todo, seen, values = [self.root], {self.root}, set[int]()
        while todo:
            for node in self._children.get(todo.pop(), ()):
                base = self.bases[node]
                if base | 255 >= len(self.units):
                    raise ValueError("a branch past the end")
                if self.units[node] & _ENDS:
                    values.add(self.value(node))
                if base not in seen:
                    seen.add(base)
                    todo.append(base)
        return values

    def characters(self, base: int) -> dict[str, int]:
        """The characters that may follow at a base, each with its last unit.

        Raises:
            ValueError: there are more characters than any rules need.
        """
        todo, found = [(b"", base)], dict[str, int]()
        while todo:
            start, base = todo.pop()
            for node in self._children.get(base, ()):
                word = start + bytes((self.units[node] & 255,))
                width = WIDTHS.get(word[0] >> 3, 0)
                if start and word[-1] >> 6 != 2:  # this is not valid UTF-8
                    continue
                if len(word) == width:
                    found[word.decode("utf-8")] = node
                elif len(word) < width:
                    todo.append((word, self.bases[node]))
            if len(found) > MOST_CHARACTERS:
                raise ValueError(f"entries of more than {MOST_CHARACTERS} characters")
        return found


def _one_of(characters: Iterable[str]) -> str:
    """A pattern that matches one of some characters, with as few ranges as possible."""
    codes = sorted(set(map(ord, characters)))
    if not codes:
        return "(?!)"
    starts = [c for i, c in enumerate(codes) if i == 0 or codes[i - 1] != c - 1]
    ends = [c for i, c in enumerate(codes) if i == len(codes) - 1 or codes[i + 1] != c + 1]
    return "[" + "".join(f"\\U{a:08x}-\\U{b:08x}" for a, b in zip(starts, ends, strict=True)) + "]"


def _beginning(alone: set[str], begin: set[str], follow: set[str]) -> re.Pattern[str]:
    """A pattern for where an entry may begin: an entry of one character, or the first two of a longer one."""
    longer = f"|{_one_of(begin)}(?={_one_of(follow)})" if begin and follow else ""
    return re.compile(_one_of(alone) + longer)


def _target(value: int, pool: bytes) -> str:
    end = pool.find(b"\0", value, value + 4 * MOST_GROWTH + 1)
    if end < 0:
        raise ValueError(f"no text of at most {MOST_GROWTH} characters for an entry")
    target = pool[value:end].decode("utf-8")
    if len(target) > MOST_GROWTH:
        raise ValueError(f"{len(target)} characters for an entry")
    if "  " in target:
        raise ValueError("an entry with spaces in a row")
    return target


class Charsmap:
    """Rewrites texts by a "precompiled_charsmap".

    Args:
        data: the map; empty: nothing is rewritten.

    Attributes:
        growth: the maximum number of characters that one character may become.

    Raises:
        ValueError: the map is damaged or hostile.

    Source: sentencepiece's own normalizer gives the same for all Unicode characters and 1,000,000 strings of marks.
    """

    def __init__(self, data: bytes) -> None:
        if len(data) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes")
        data = data or NOTHING
        size = int.from_bytes(data[:4], "little")
        if size % 4 or not 4 <= size <= len(data) - 4:
            raise ValueError(f"{len(data)} bytes for a tree of {size}")
        self._tree, pool = _Tree(data[4 : 4 + size]), data[4 + size :]
        pool.decode("utf-8")  # other programs that read the map need valid UTF-8
        self._targets = {value: _target(value, pool) for value in self._tree.leaves()}
        self.growth = max(map(len, self._targets.values()), default=1)
        self._find_starts()

    def _find_starts(self) -> None:
        """Make the patterns that match where an entry may begin, so that most texts need no search in the tree.

        Entries of one character with which no other entry begins are in a table.
        """
        tree = self._tree
        first = tree.characters(tree.root)
        alone = {character for character, node in first.items() if tree.units[node] & _ENDS}
        second, count = dict[int, set[str]](), 0
        for base in {tree.bases[node] for node in first.values()}:
            second[base] = set(tree.characters(base))
            count += len(second[base])
            if count > MOST_CHARACTERS:
                raise ValueError(f"entries of more than {MOST_CHARACTERS} characters")
        begin = {character for character, node in first.items() if second[tree.bases[node]]}
        self._alone = {c: self._targets[tree.value(first[c])] for c in alone - begin}
        follow = {c for some in second.values() for c in some}
        self._ascii = _beginning(*({c for c in some if c.isascii()} for some in (alone, begin, follow)))
        self._any = _beginning(alone, begin, follow)

    def _longest(self, text: str, start: int) -> Change | None:
        """The longest entry that matches at a position."""
        units, bases, base, found = self._tree.units, self._tree.bases, self._tree.root, None
        for end in range(start, min(len(text), start + MOST_KEY)):
            node = 0
            for byte in text[end].encode("utf-8"):
                node = base ^ byte
                if units[node] & _LABEL != byte:
                    return found
                base = bases[node]
            if units[node] & _ENDS:
                found = start, end + 1, self._targets[self._tree.value(node)]
        return found

    def _changes(self, text: str) -> Iterator[Change]:
        """The start, the end and the new text of every part that is rewritten."""
        at = 0
        for match in (self._ascii if text.isascii() else self._any).finditer(text):
            start = match.start()
            if start < at:
                continue
            target = self._alone.get(match[0])
            change = self._longest(text, start) if target is None else (start, start + 1, target)
            if change is not None:
                at = change[1]
                yield change

    def __call__(self, text: str) -> str:
        """The rewritten text."""
        parts, at = list[str](), 0
        for start, end, target in self._changes(text):
            parts += text[at:start], target
            at = end
        return "".join([*parts, text[at:]]) if parts else text

    def spans(self, text: str) -> list[Span]:
        """For each character of the rewritten text, the start and the end of its origin in the text."""
        spans, at = list[Span](), 0
        for start, end, target in self._changes(text):
            spans += [(i, i + 1) for i in range(at, start)] + [(start, end)] * len(target)
            at = end
        return spans + [(i, i + 1) for i in range(at, len(text))]


@lru_cache(maxsize=2)  # T5's map takes 50 ms
def read_charsmap(data: bytes) -> Charsmap:
    """`Charsmap`, cached.

    Raises:
        ValueError: as `Charsmap`.
    """
    return Charsmap(data)
