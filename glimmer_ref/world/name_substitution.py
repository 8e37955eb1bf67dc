"""Names that the vocabulary does not hold: each is substituted by a name token that no text at hand uses.

A model that was trained with its names renamed at random knows none of them by heart. Any name may then stand for any
other of its group, as long as question, passages and answer agree. The group of a word is guessed from its neighbours;
the first of these rules that fits decides:

1. before "River" or "Prize": a river, a prize; before a company's kind ("Press", "Mills"): a company;
2. after "province of": a province;
3. in a row of capitalised names behind "The": the adjective, then the noun, of a book's title;
4. in another row of two or more: a given name, then a surname;
5. alone: the group that its other occurrences have most often; a town where they say nothing.

Only words with a capital letter are substituted. Other words, and numbers that are not made of pairs of digits, stay
unknown; so does a name whose group has no token left. "Zaphod" and "Zaphod's" are two words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..disk.read import read_json
from ..errors import InputError, brief
from ..text.adapter import Reading
from ..text.tokenizer import Tokenizer

FILE = "groups.json"
GROUP_BEFORE = {"River": "river", "Prize": "prize"}  # the word behind a name -> the name's group
KIND, COMPANY = "company kind", "company"
PROVINCE, TOWN = "province", "town"
TITLE, PERSON = ("title adjective", "title noun"), ("given name", "surname")
TO_DO = "use the groups.json that belongs to this tokenizer.json, or remove it: then no name is substituted"

Groups = Mapping[str, Sequence[int]]
Word = tuple[int, str]


@dataclass(frozen=True)
class Substitutions:
    """Which word is read as which token.

    Args:
        names: word -> id of the token that stands for it; the unknown token where none was left.
        used: ids that no further word may take: those of `names`, and those of the texts at hand.
    """

    names: Mapping[str, int]
    used: frozenset[int]


NONE = Substitutions({}, frozenset())


def _table(path: Path, data: Any, key: str, kind: type[Any]) -> dict[str, list[Any]]:
    table = data.get(key) if isinstance(data, dict) else None
    if not isinstance(table, dict) or not table:
        raise InputError(f"{path}: {key}", "an object of lists", "none", TO_DO)
    for name, some in table.items():
        if not isinstance(some, list) or not some or not all(type(x) is kind for x in some):
            words = "whole numbers" if kind is int else "strings"
            raise InputError(f"{path}: {key}: {name}", f"a list of {words}", brief(some), TO_DO)
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
                raise InputError(f"{path}: {name}", f"ids below {tokenizer.size} that occur once", got, TO_DO)
            seen[i] = name
        if tokenizer.pieces(ids) != words.get(name):
            got = f"{str(tokenizer.pieces(ids))[:40]} there, {str(words.get(name))[:40]} here"
            raise InputError(f"{path}: {name}", "the words of tokenizer.json", got, TO_DO)
    return groups


@dataclass(frozen=True)
class SubstitutedPassages:
    """How some passages are read: the `text.adapter.PassageReading` of names that are substituted.

    Args:
        reported: texts whose words are listed beside those of each question.
    """

    substituter: NameSubstituter
    substitutions: Substitutions
    reported: tuple[str, ...] = ()

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer under these substitutions."""
        return self.substituter.tokenizer.substituting(self.substitutions.names)

    def question(self, text: str) -> Reading:
        """How a question is read: names of the passages as there, each other unknown name as a name not yet used."""
        return self.substituter.read([text, *self.reported], self.substituter.substitute([text], self.substitutions))


class NameSubstituter:
    """A `text.adapter.TextAdapter` that reads unknown names as names of the vocabulary.

    Args:
        tokenizer: the model's own.
        groups: ids of the tokens in which any may stand for any other, by the group's name.

    Raises:
        InputError: a tokenizer that has no token for unknown words.
    """

    def __init__(self, tokenizer: Tokenizer, groups: Groups) -> None:
        if tokenizer.unknown_id is None:
            raise InputError("groups of names", "a tokenizer with a token for unknown words", "none", TO_DO)
        self._unknown: int = tokenizer.unknown_id
        self.tokenizer, self.groups = tokenizer, groups
        self._group = {i: name for name, ids in groups.items() for i in ids}

    def passages(self, texts: Iterable[str], report: bool = False) -> SubstitutedPassages:
        """The passages' unknown names, each with a token that no passage uses."""
        texts = tuple(texts)
        return SubstitutedPassages(self, self.substitute(texts), texts if report else ())

    def substitute(self, texts: Iterable[str], before: Substitutions = NONE) -> Substitutions:
        """The substitutions so far, and one more for each new name of some texts, in order of appearance.

        A word for which no token is left stays unknown. A word that the vocabulary holds, but whose token stands for
        another word already, is substituted too.

        Args:
            before: substitutions that stay as they are.
        """
        lines = [self.tokenizer.words(text) for text in texts]
        given, names = frozenset(before.names.values()) - {self._unknown}, dict(before.names)
        used = set(before.used).union(i for line in lines for i, _ in line)
        for word, group in self._new_names(lines, before.names, given):
            token = next((i for i in self.groups.get(group, ()) if i not in used), self._unknown)
            names[word] = token
            used.add(token)
        return Substitutions(names, frozenset(used))

    def read(self, texts: Iterable[str], substitutions: Substitutions) -> Reading:
        """The tokenizer with these substitutions, and which words of some texts it substitutes or does not know."""
        tokenizer = self.tokenizer.substituting(substitutions.names)
        words = {word: i for text in texts for i, word in tokenizer.words(text)}
        unknown = [word for word, i in words.items() if i == self._unknown]
        substituted = [word for word in words if word in substitutions.names and word not in unknown]
        names = self.tokenizer.pieces([words[word] for word in substituted])
        return Reading(tokenizer, dict(zip(substituted, names, strict=True)), unknown)

    def _new_names(
        self, lines: list[list[Word]], names: Mapping[str, int], given: frozenset[int]
    ) -> Iterator[tuple[str, str]]:
        """Words that need a token, each with the group that most of its occurrences suggest.

        Args:
            names: words that have a token already.
            given: the tokens that they have; a word of such a token takes another one of the token's group.
        """
        guesses: dict[str, Counter[str]] = {}
        for line in lines:
            for at, (i, word) in enumerate(line):
                if word in names or not (i in given or self._is_unknown_name(i, word)):
                    continue
                found = guesses.setdefault(word, Counter())
                group = self._group[i] if i in given else self._guess(line, at)
                if group:
                    found[group] += 1
        for word, found in guesses.items():
            yield word, found.most_common(1)[0][0] if found else TOWN

    def _is_unknown_name(self, i: int, word: str) -> bool:
        return i == self._unknown and word[:1].isupper()

    def _guess(self, line: list[Word], at: int) -> str:
        """The group that the neighbours of a word suggest; empty where they suggest none."""
        after, behind = line[at + 1 : at + 2], [word for _, word in line[:at]]
        for i, word in after:
            if word in GROUP_BEFORE or self._group.get(i) == KIND:
                return GROUP_BEFORE.get(word, COMPANY)
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
        return self._is_unknown_name(i, word) or (i in self._group and word[:1].isupper())


def name_substituter(folder: Path, tokenizer: Tokenizer) -> NameSubstituter | None:
    """The text adapter of a model folder that has a groups.json; None where it has not.

    Raises:
        InputError: a groups.json that is broken or belongs to another tokenizer.
    """
    path = folder / FILE
    return NameSubstituter(tokenizer, read_groups(path, tokenizer)) if path.exists() else None
