"""Substitution of names that are not in the vocabulary by name tokens that the given texts do not use.

A model that was trained with randomly renamed examples does not memorise names. So any name may stand for any other
name of its group, if question, passages and answer use the same substitution. The group of a word is guessed from its
neighbours. The first rule that fits decides:

1. A word before "River" or "Prize" is the name of a river or a prize; before a company's kind ("Press", "Mills"), of a
   company.
2. A word after "province of" is a province.
3. A run of capitalised names behind "The" is a book's title: an adjective, then a noun.
4. Any other run of two or more names is a given name, then a surname.
5. A single name has the group that its other occurrences have most often, or is a town if they have none.

Only words with a capital letter are substituted. Other words, and numbers that do not consist of pairs of digits, stay
unknown. A name also stays unknown if its group has no token left. "Zaphod" and "Zaphod's" are two words.
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
    """Words and the tokens that replace them.

    Args:
        names: word -> id of the token that replaces it; the unknown token if none was left.
        used: ids that no further word may take: those in `names`, and those in the given texts.
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
    """For each group, the ids of its tokens: "groups" in a file that `glimmer-ref world` writes.

    Raises:
        InputError: there is no such file, it has another form, an id occurs twice, or "words" is for another tokenizer.
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
    """The reading of some passages with substituted names, a `text.adapter.PassageReading`.

    Args:
        reported: texts whose words are reported in addition to those of each question.
    """

    substituter: NameSubstituter
    substitutions: Substitutions
    reported: tuple[str, ...] = ()

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer with these substitutions."""
        return self.substituter.tokenizer.substituting(self.substitutions.names)

    def question(self, text: str) -> Reading:
        """The reading of a question: names in the passages as there, other unknown names as names not used yet."""
        return self.substituter.read([text, *self.reported], self.substituter.substitute([text], self.substitutions))


class NameSubstituter:
    """A `text.adapter.TextAdapter` that reads unknown names as names of the vocabulary.

    Args:
        tokenizer: the model's tokenizer.
        groups: group name -> ids of its tokens. Any token may stand for any other of its group.

    Raises:
        InputError: the tokenizer has no token for unknown words.
    """

    def __init__(self, tokenizer: Tokenizer, groups: Groups) -> None:
        if tokenizer.unknown_id is None:
            raise InputError("groups of names", "a tokenizer with a token for unknown words", "none", TO_DO)
        self._unknown: int = tokenizer.unknown_id
        self.tokenizer, self.groups = tokenizer, groups
        self._group = {i: name for name, ids in groups.items() for i in ids}

    def passages(self, texts: Iterable[str], report: bool = False) -> SubstitutedPassages:
        """The reading of some passages: each unknown name gets a token that no passage uses."""
        texts = tuple(texts)
        return SubstitutedPassages(self, self.substitute(texts), texts if report else ())

    def substitute(self, texts: Iterable[str], before: Substitutions = NONE) -> Substitutions:
        """The substitutions so far, and one more for each new name in some texts, in order of appearance.

        If no token is left for a word, it stays unknown. A word of the vocabulary is substituted too if its token
        already replaces another word.

        Args:
            before: the substitutions so far, which stay unchanged.
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
        """The tokenizer with these substitutions, and the words in some texts that it substitutes or does not know."""
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
            names: words that already have a token.
            given: the tokens of these words. The word to which such a token belongs gets another token of its group.
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
        """The group that the neighbours of a word suggest; empty if they suggest none."""
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
    """The text adapter of a model folder that has a groups.json; None if the folder has none.

    Raises:
        InputError: groups.json is broken or belongs to another tokenizer.
    """
    path = folder / FILE
    return NameSubstituter(tokenizer, read_groups(path, tokenizer)) if path.exists() else None
