"""Names that a vocabulary does not hold: each borrows a name token that no text at hand uses.

A model that was trained with its names renamed at random knows none of them by heart: any will do for any other of
its group, as long as question, passages and answer agree. Which group a word borrows from is a guess, by its
neighbours; the first of these that fits:

1. before "River" or "Prize": a river, a prize; before a company's kind ("Press", "Mills"): a company;
2. after "province of": a province;
3. in a row of capitalised names behind "The": the adjective, then the noun, of a book's title;
4. in another row of two or more: a given name, then a surname;
5. alone: whatever its other occurrences say; where none says more, a town.

Only words with a capital letter borrow. Others, and numbers that are not made of pairs of digits, stay unknown; so
does a name whose group has no token left. "Zaphod" and "Zaphod's" are two words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..disk.read import read_json
from ..errors import InputError, brief
from .tokenizer import Tokenizer

FILE = "groups.json"
BEFORE = {"River": "river", "Prize": "prize"}  # the word after the name tells the name's group
KIND, COMPANY = "company kind", "company"
PROVINCE, TOWN = "province", "town"
TITLE, PERSON = ("title adjective", "title noun"), ("given name", "surname")
AGAIN = "take groups.json from where tokenizer.json is from, or remove it: then no word borrows"

Groups = Mapping[str, Sequence[int]]
Word = tuple[int, str]


@dataclass(frozen=True)
class Loans:
    """Which word borrowed which token.

    Args:
        names: word -> id of the token that stands for it; the unknown one where none was left.
        taken: ids that no further word may borrow: lent ones, and those of the texts at hand.
    """

    names: Mapping[str, int]
    taken: frozenset[int]


NO_LOANS = Loans({}, frozenset())


class Reading(NamedTuple):
    """How a question and what it is asked of are read.

    Args:
        borrowed: word -> the name that stands for it.
        unknown: words that are read as unknown.
    """

    tokenizer: Tokenizer
    borrowed: dict[str, str]
    unknown: list[str]


def _table(path: Path, data: Any, key: str, kind: type[Any]) -> dict[str, list[Any]]:
    table = data.get(key) if isinstance(data, dict) else None
    if not isinstance(table, dict) or not table:
        raise InputError(f"{path}: {key}", "an object of lists", "none", AGAIN)
    for name, some in table.items():
        if not isinstance(some, list) or not some or not all(type(x) is kind for x in some):
            words = "whole numbers" if kind is int else "strings"
            raise InputError(f"{path}: {key}: {name}", f"a list of {words}", brief(some), AGAIN)
    return table


def read_groups(path: str | Path, tokenizer: Tokenizer) -> dict[str, list[int]]:
    """For each group, the ids of its tokens: "groups" of a file that `glimmer-ref world` writes.

    Raises:
        InputError: no such file, another form, an id twice, or "words" that are not this tokenizer's.
    """
    path = Path(path)
    data = read_json(path)
    groups, words = _table(path, data, "groups", int), _table(path, data, "words", str)
    seen: dict[int, str] = {}
    for name, ids in groups.items():
        for i in ids:
            if not 0 <= i < tokenizer.size or i in seen:
                got = f"{i}, also in {seen[i]!r}" if i in seen else str(i)
                raise InputError(f"{path}: {name}", f"ids below {tokenizer.size} that occur once", got, AGAIN)
            seen[i] = name
        if tokenizer.pieces(ids) != words.get(name):
            got = f"{str(tokenizer.pieces(ids))[:40]} there, {str(words.get(name))[:40]} here"
            raise InputError(f"{path}: {name}", "the words of tokenizer.json", got, AGAIN)
    return groups


class Lender:
    """Lends name tokens to words that the vocabulary does not hold.

    Args:
        tokenizer: the model's own.
        groups: ids of the tokens in which any may stand for any other, by the group's name.

    Raises:
        InputError: a tokenizer that has no token for unknown words.
    """

    def __init__(self, tokenizer: Tokenizer, groups: Groups) -> None:
        if tokenizer.unknown_id is None:
            raise InputError("groups of names", "a tokenizer with a token for unknown words", "none", AGAIN)
        self._unknown: int = tokenizer.unknown_id
        self.tokenizer, self.groups = tokenizer, groups
        self._group = {i: name for name, ids in groups.items() for i in ids}

    def lend(self, texts: Iterable[str], before: Loans = NO_LOANS) -> Loans:
        """The loans, and one more for each new name of some texts, in order of appearance.

        A word for which no token is left stays unknown. One that the vocabulary holds, but whose token was lent
        before, borrows too.

        Args:
            before: loans that stay as they are.
        """
        lines = [self.tokenizer.words(text) for text in texts]
        lent, names = frozenset(before.names.values()) - {self._unknown}, dict(before.names)
        taken = set(before.taken).union(i for line in lines for i, _ in line)
        for word, group in self._wanted(lines, before.names, lent):
            spare = next((i for i in self.groups.get(group, ()) if i not in taken), self._unknown)
            names[word] = spare
            taken.add(spare)
        return Loans(names, frozenset(taken))

    def read(self, texts: Iterable[str], loans: Loans) -> Reading:
        """The tokenizer with these loans, and what it makes of some texts."""
        tokenizer = self.tokenizer.reading(loans.names)
        words = {word: i for text in texts for i, word in tokenizer.words(text)}
        unknown = [word for word, i in words.items() if i == self._unknown]
        lent = [word for word in words if word in loans.names and word not in unknown]
        names = self.tokenizer.pieces([words[word] for word in lent])
        return Reading(tokenizer, dict(zip(lent, names, strict=True)), unknown)

    def _wanted(
        self, lines: list[list[Word]], names: Mapping[str, int], lent: frozenset[int]
    ) -> Iterator[tuple[str, str]]:
        """Words that have to borrow, each with the group that most of its backend occurrences name."""
        guesses: dict[str, Counter[str]] = {}
        for line in lines:
            for at, (i, word) in enumerate(line):
                if word in names or not (i in lent or self._nameless(i, word)):
                    continue
                found = guesses.setdefault(word, Counter())
                group = self._group[i] if i in lent else self._guess(line, at)
                if group:
                    found[group] += 1
        for word, found in guesses.items():
            yield word, found.most_common(1)[0][0] if found else TOWN

    def _nameless(self, i: int, word: str) -> bool:
        return i == self._unknown and word[:1].isupper()

    def _guess(self, line: list[Word], at: int) -> str:
        """The group that the neighbours of a word tell; empty where they tell nothing."""
        after, behind = line[at + 1 : at + 2], [word for _, word in line[:at]]
        for i, word in after:
            if word in BEFORE or self._group.get(i) == KIND:
                return BEFORE.get(word, COMPANY)
        if behind[-2:] == ["province", "of"]:
            return PROVINCE
        start, end = at, at + 1
        while start and self._is_name(*line[start - 1]):
            start -= 1
        while end < len(line) and self._is_name(*line[end]):
            end += 1
        if line[start - 1 : start] and line[start - 1][1] == "The":
            return TITLE[at > start or end - start == 1]
        return PERSON[at > start] if end - start > 1 else ""

    def _is_name(self, i: int, word: str) -> bool:
        return self._nameless(i, word) or (i in self._group and word[:1].isupper())
