"""Names that the vocabulary does not hold: which names stand for them, and that they come back in answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glimmer_ref import InputError, Reader, load
from glimmer_ref.cli import examples, main
from glimmer_ref.inference.reader import bundled
from glimmer_ref.memory.store import Memory
from glimmer_ref.text.adapter import Unchanged
from glimmer_ref.text.tokenizer import Tokenizer
from glimmer_ref.world.name_substitution import FILE, NONE, NameSubstituter, read_groups
from glimmer_ref.world.names import groups
from glimmer_ref.world.vocabulary import group_ids, token_ids, tokenizer_json

FACTS = [
    {"title": "Zaphod Beeblebrox", "text": "Zaphod Beeblebrox was born in Betelgeuse ."},
    {"title": "Arthur Dent", "text": "Arthur Dent was born in Islington ."},
]
QUESTION = "where was Zaphod Beeblebrox born ?"
SURNAMES = group_ids()["surname"]

UNKNOWN = "glimmer-ref: note: the vocabulary does not contain these words, so the model cannot tell them apart"


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("words") / "tokenizer.json"
    path.write_text(tokenizer_json(), "utf-8")
    return Tokenizer(path)


@pytest.fixture(scope="module")
def substituter(words: Tokenizer) -> NameSubstituter:
    return NameSubstituter(words, group_ids())


def of_titles(folder: Path) -> dict[str, list[str]]:
    """Names of people and towns by the titles of a world's pages, no word twice."""
    titles = [json.loads(line)["title"].split() for line in (folder / "passages.jsonl").read_text("utf-8").splitlines()]
    companies = {"Press", "Mills", "Labs", "Bank", "Works", "Guild", "Foundry", "Brothers", "Group"}
    people = [t for t in titles if len(t) == 2 and t[1] not in companies]
    found = {"town": [t[0] for t in titles if len(t) == 1]}
    found |= {"given name": [a for a, _ in people], "surname": [b for _, b in people]}
    seen: set[str] = set()
    for name, some in found.items():
        found[name] = sorted(set(some) - seen)
        seen |= set(some)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model with groups made of its own titles."""
    path = Path(shutil.copytree(bundled(), tmp_path_factory.mktemp("model") / "mini"))
    vocabulary = json.loads((path / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    names = of_titles(path)
    ids = {name: [vocabulary[word] for word in some] for name, some in names.items()}
    (path / FILE).write_text(json.dumps({"groups": ids, "words": names}), "utf-8")
    return path


@pytest.fixture(scope="module")
def reader(folder: Path) -> Reader:
    return load(folder, ops="numpy")


@pytest.fixture(scope="module")
def plain(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    path = Path(shutil.copytree(folder, tmp_path_factory.mktemp("plain") / "mini"))
    (path / FILE).unlink()
    return load(path, ops="numpy")


# Which name stands for a word.


@pytest.mark.parametrize(
    ("text", "word", "group"),
    [
        ("Zaphod Beeblebrox plays the banjo.", "Zaphod", "given name"),
        ("Zaphod Beeblebrox plays the banjo.", "Beeblebrox", "surname"),
        ("Who did Zaphod Beeblebrox marry?", "Zaphod", "given name"),
        ("Ford Q Prefect", "Q", "surname"),
        ("Alamond Prefect", "Prefect", "surname"),
        ("Ford Hazelwood", "Ford", "given name"),
        ("She was born in Islington.", "Islington", "town"),
        ("She was hired by Megadodo Press.", "Megadodo", "company"),
        ("The Thames River flows past Ashford.", "Thames", "river"),
        ("He won the Galactic Prize.", "Galactic", "prize"),
        ("It belongs to the province of Rutland.", "Rutland", "province"),
        ("The Improbable Guide was written by Alamond Hazelwood.", "Improbable", "title adjective"),
        ("The Improbable Guide was written by Alamond Hazelwood.", "Guide", "title noun"),
        ("The Silent Guide", "Guide", "title noun"),
        ("The Hobbit is set in Ashford.", "Hobbit", "title noun"),
        ("Zaphod was born in Ashford. Zaphod is old. Mind Zaphod Beeblebrox", "Zaphod", "surname"),
    ],
)
def test_the_neighbours_of_a_name_suggest_its_group(
    substituter: NameSubstituter, text: str, word: str, group: str
) -> None:
    assert substituter.substitute([text]).names[word] in group_ids()[group]


def test_only_capitalised_words_are_substituted(substituter: NameSubstituter) -> None:
    text = "Alamond Hazelwood plays the theremin since 7 or 150."
    read = substituter.read([text], substituter.substitute([text]))
    assert read.substituted == {}
    assert read.unknown == ["theremin", "since", "7", "or", "0"]


def test_a_word_without_a_group_in_the_file_stays_unknown(words: Tokenizer) -> None:
    few = NameSubstituter(words, {"surname": SURNAMES})
    text = "Zaphod Beeblebrox"
    read = few.read([text], few.substitute([text]))
    assert (list(read.substituted), read.unknown) == (["Beeblebrox"], ["Zaphod"])


def test_a_name_that_stands_for_another_is_in_no_text_at_hand(substituter: NameSubstituter, words: Tokenizer) -> None:
    first = substituter.substitute(["Zaphod Beeblebrox"]).names["Zaphod"]
    taken = words.pieces([first])[0]
    names = substituter.substitute(["Zaphod Beeblebrox", f"{taken} Hazelwood"]).names
    assert names["Zaphod"] not in {first, *words.encode(f"{taken} Hazelwood")}
    assert len(set(names.values())) == 2


def test_question_and_passage_read_one_name(substituter: NameSubstituter, words: Tokenizer) -> None:
    passages = substituter.substitute(["Zaphod Beeblebrox plays the banjo."])
    substitutions = substituter.substitute(["What does Zaphod Beeblebrox play for Trillian?"], passages)
    assert {w: substitutions.names[w] for w in passages.names} == passages.names
    reading = words.substituting(substitutions.names)
    passage, question = reading.encode("Zaphod Beeblebrox plays"), reading.encode("does Zaphod Beeblebrox play")
    assert passage[:2] == question[1:3] == [passages.names["Zaphod"], passages.names["Beeblebrox"]]
    assert words.unknown_id not in reading.encode("What does Zaphod Beeblebrox play for Trillian?")
    assert substitutions == substituter.substitute(["What does Zaphod Beeblebrox play for Trillian?"], passages), (
        "the same again"
    )
    assert words.unknown_words("Zaphod") == ["Zaphod"], "the tokenizer itself has not changed"


def test_a_known_name_that_stands_for_another_is_substituted_itself(
    substituter: NameSubstituter, words: Tokenizer
) -> None:
    passages = substituter.substitute(["Zaphod Beeblebrox"])
    owner = words.pieces([passages.names["Zaphod"]])[0]
    substitutions = substituter.substitute([f"who is {owner}?"], passages)
    assert substitutions.names[owner] in group_ids()["given name"]
    assert substitutions.names[owner] != substitutions.names["Zaphod"]
    assert (
        words.substituting(substitutions.names).decode([substitutions.names[owner], substitutions.names["Zaphod"]])
        == f"{owner} Zaphod"
    )


def test_names_beyond_the_last_token_stay_unknown_and_are_reported(words: Tokenizer) -> None:
    few = NameSubstituter(words, {"given name": group_ids()["given name"][:2], "surname": SURNAMES[:1]})
    passages = few.substitute(["Zaphod Beeblebrox", "Arthur Dent"])
    read = few.read(["Zaphod Beeblebrox", "Arthur Dent"], passages)
    assert (list(read.substituted), read.unknown) == (["Zaphod", "Beeblebrox", "Arthur"], ["Dent"])
    assert read.tokenizer.encode("Dent") == [words.unknown_id]
    assert read.tokenizer.decode([words.unknown_id, passages.names["Arthur"]]) == "Arthur"
    owner = words.pieces([SURNAMES[0]])[0]
    asked = few.read([owner], few.substitute([owner], passages))
    assert asked.unknown == [owner], "its token means Beeblebrox now"
    more = few.substitute(["does Trillian know the theremin"], passages)
    assert set(more.names) - set(passages.names) == {"Trillian"}


def test_answers_give_words_back(words: Tokenizer) -> None:
    ids = token_ids()
    reading = words.substituting({"O'Zaphod": ids["Alamond"], "Beeble-Brox": ids["Hazelwood"]})
    text = [ids[w] for w in ("Alamond", "Hazelwood", ",", "14", "71", "Alamond", "Elymer")]
    assert reading.decode(text) == "O'Zaphod Beeble-Brox , 1471 O'Zaphod Elymer"
    assert reading.pieces(text) == ["O'Zaphod", "Beeble-Brox", ",", "14", "71", "O'Zaphod", "Elymer"]
    assert reading.encode("O'Zaphod Beeble-Brox, 1471") == text[:5]
    assert words.decode(text) == "Alamond Hazelwood , 1471 Alamond Elymer"


def test_the_facts_that_examples_show_are_read_whole(substituter: NameSubstituter) -> None:
    texts = [f"{fact['title']} : {fact['text']}" for fact in examples.FACTS]
    read = substituter.read(
        [*texts, examples.ABOUT_FACTS], substituter.substitute([examples.ABOUT_FACTS], substituter.substitute(texts))
    )
    assert read.unknown == []
    assert list(read.substituted) == ["Zaphod", "Beeblebrox", "Betelgeuse", "Gargle", "Tricia", "McMillan"]


# The file.


def test_a_worlds_own_file_is_read(tmp_path: Path, words: Tokenizer) -> None:
    path = tmp_path / FILE
    path.write_text(json.dumps({"groups": group_ids(), "words": groups()}), "utf-8")
    assert read_groups(path, words) == group_ids()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "JSON"),
        ("[]", "groups"),
        ('{"groups": {}, "words": {}}', "groups"),
        ('{"groups": {"town": 3}, "words": {}}', "town"),
        ('{"groups": {"town": [true]}, "words": {"town": ["The"]}}', "whole numbers"),
        ('{"groups": {"town": [-1]}, "words": {"town": ["."]}}', "ids below"),
        ('{"groups": {"town": [100000]}, "words": {"town": ["."]}}', "ids below"),
        ('{"groups": {"a": [4], "b": [4]}, "words": {"a": ["."], "b": ["."]}}', "also in 'a'"),
        ('{"groups": {"a": [4]}, "words": {"b": ["."]}}', "the words of tokenizer.json"),
        ('{"groups": {"a": [4]}, "words": {"a": ["Paris"]}}', "the words of tokenizer.json"),
        ('{"groups": {"a": [4]}}', "words"),
    ],
)
def test_a_bad_file_is_refused_in_a_line(tmp_path: Path, words: Tokenizer, content: str, said: str) -> None:
    path = tmp_path / FILE
    path.write_text(content, "utf-8")
    with pytest.raises(InputError, match=said) as caught:
        read_groups(path, words)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_load_holds_the_file_against_the_tokenizer(folder: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(folder, tmp_path / "mini"))
    (path / FILE).write_text('{"groups": {"town": [5]}, "words": {"town": ["Paris"]}}', "utf-8")
    with pytest.raises(InputError, match=r"the words of tokenizer\.json"):
        load(path, ops="numpy")


def test_a_tokenizer_without_an_unknown_token_is_refused(words: Tokenizer, tmp_path: Path) -> None:
    data = json.loads(words.json)
    data |= {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "added_tokens": []}
    (tmp_path / "tokenizer.json").write_text(json.dumps(data), "utf-8")
    with pytest.raises(InputError, match="unknown"):
        NameSubstituter(Tokenizer(tmp_path / "tokenizer.json"), {"town": [4]})


# The reader.


@pytest.mark.parametrize("system", ["glimmer", "lumen", "fid"])
def test_facts_of_ones_own_are_answered(reader: Reader, system: str) -> None:
    now, kept = (reader.ask(QUESTION, source, system) for source in (FACTS, reader.memorize(FACTS)))
    for answer in (now, kept):
        assert (answer.text, answer.tokens, answer.unknown) == ("Betelgeuse", ["Betelgeuse"], [])
    assert now.ids == kept.ids
    assert now.log_probability == pytest.approx(kept.log_probability, rel=1e-5)
    assert list(now.substituted) == ["Zaphod", "Beeblebrox", "Betelgeuse", "Arthur", "Dent", "Islington"]
    assert list(kept.substituted) == ["Zaphod", "Beeblebrox"]
    assert reader.tokenizer.decode(now.ids) == now.substituted["Betelgeuse"]


def test_each_question_of_a_batch_has_its_own_substitutions(reader: Reader) -> None:
    passages = reader.ask(QUESTION, FACTS).passages
    asked = [QUESTION, "where was Arthur Dent born ?"]
    rows = [np.array([0, 1]), np.array([1])]
    for source in (passages, reader.memorize(FACTS)):
        together = reader.ask_many(asked, source, rows)
        assert [a.text for a in together] == ["Betelgeuse", "Islington"]
        alone = [reader.ask_many([q], source, [r])[0] for q, r in zip(asked, rows, strict=True)]
        assert [(a.ids, a.substituted) for a in alone] == [(a.ids, a.substituted) for a in together]


def test_nothing_changes_where_nothing_is_substituted(reader: Reader, plain: Reader) -> None:
    question = json.loads((bundled() / "questions.jsonl").read_text("utf-8").splitlines()[0])
    passages = [json.loads(line) for line in (bundled() / "passages.jsonl").read_text("utf-8").splitlines()[520:540]]
    for system in ("glimmer", "fid"):
        a, b = (r.ask(question["input"], passages, system) for r in (reader, plain))
        assert (a.ids, a.text, a.log_probability, a.selected) == (b.ids, b.text, b.log_probability, b.selected)
        assert a.scores is b.scores is None or np.array_equal(a.scores, b.scores)
        assert (a.substituted, a.unknown) == ({}, [])
    assert plain.ask(QUESTION, FACTS).substituted == {}
    assert plain.ask(QUESTION, FACTS).unknown == ["Zaphod", "Beeblebrox"]
    assert plain.memorize(FACTS).reading == Unchanged(plain.tokenizer)


# The command line.


@pytest.fixture
def facts(tmp_path: Path) -> str:
    path = tmp_path / "facts.jsonl"
    path.write_text("".join(json.dumps(fact) + "\n" for fact in FACTS), "utf-8")
    return str(path)


def ask(folder: Path, *more: str) -> list[str]:
    return ["ask", QUESTION, "--weights", str(folder), "--ops", "numpy", *more]


def test_ask_reports_what_is_substituted(folder: Path, facts: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(ask(folder, "--passages", facts)) == 0
    names = "Zaphod, Beeblebrox, Betelgeuse, Arthur, Dent, Islington"
    said = f"glimmer-ref: note: the vocabulary does not contain these names, so others replace them: {names}\n"
    assert capsys.readouterr() == ("Betelgeuse\n", said)
    Path(facts).write_text(json.dumps({"text": "Arthur plays the theremin ."}) + "\n", "utf-8")
    assert main(ask(folder, "--passages", facts, "--json")) == 0
    out, err = capsys.readouterr()
    assert err.splitlines()[1] == f"{UNKNOWN}: theremin"
    data: dict[str, Any] = json.loads(out)
    assert (list(data["borrowed"]), data["unknown"]) == (["Zaphod", "Beeblebrox", "Arthur"], ["theremin"])


def test_a_memory_on_disk_has_no_substitutions(
    folder: Path, facts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    memory = str(tmp_path / "memory")
    assert main(["memory", "build", facts, memory, "--weights", str(folder), "--ops", "numpy"]) == 0
    assert Memory.open(memory).reading is None
    capsys.readouterr()
    assert main(ask(folder, "--memory", memory)) == 0
    no = "glimmer-ref: note: the model found the answer in none of the passages"
    assert capsys.readouterr().err == f"{UNKNOWN}: Zaphod, Beeblebrox\n{no}\n"


def test_no_texts_give_no_substitutions(substituter: NameSubstituter) -> None:
    assert substituter.substitute([]) == NONE
