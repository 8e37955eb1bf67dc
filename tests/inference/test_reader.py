"""The reader: strings in, answers out, and every refusal a line."""

from __future__ import annotations

import numpy as np
import pytest
from sailor import FACTS, QUESTION

import glimmer_ref
from glimmer_ref import InputError
from glimmer_ref.inference.reader import Reader


@pytest.fixture(scope="module", params=["numpy", "numba"])
def reader(request: pytest.FixtureRequest) -> Reader:
    return glimmer_ref.load(ops=request.param)


def test_the_bundled_model_reads_what_it_is_given(reader: Reader) -> None:
    answer = reader.ask(QUESTION, FACTS, m=1)
    assert answer.text == "Jorian Nettleworth"
    assert answer.selected == [1], "the passage that says so"
    assert answer.retrieval == "given order"
    assert -0.1 < answer.log_probability <= 0


def test_another_fact_gives_another_answer(reader: Reader) -> None:
    other = [FACTS[0], {**FACTS[1], "text": FACTS[1]["text"].replace("Jorian Nettleworth", "Orabel Nettlethorne")}]
    assert reader.ask(QUESTION, other).text == "Orabel Nettlethorne"


@pytest.mark.parametrize("system", ["glimmer", "lumen", "fid"])
def test_memory_and_passages_give_the_same_answer(reader: Reader, system: str) -> None:
    now, stored = (reader.ask(QUESTION, source, system) for source in (FACTS, reader.memorize(FACTS)))
    assert (now.text, now.selected) == (stored.text, stored.selected)
    assert now.log_probability == pytest.approx(stored.log_probability, rel=1e-5)
    assert "memory" not in stored.macs, "nothing of the memory is computed again"


def test_lumen_and_fid_read_all_and_rank_nothing(reader: Reader) -> None:
    for system in ("lumen", "fid"):
        answer = reader.ask(QUESTION, FACTS, system)
        assert answer.scores is None
        assert answer.selected == [0, 1, 2]


def test_more_than_k_passages_are_ranked_by_words(reader: Reader) -> None:
    answer = reader.ask(QUESTION, FACTS, k=2, m=1)
    assert [p.title for p in answer.passages] == ["The Crooked Sailor", "The Crooked Ladder"]
    assert "lexical" in answer.retrieval


def test_attention_is_a_share(reader: Reader) -> None:
    answer = reader.ask(QUESTION, FACTS, m=2, attention=True)
    assert answer.attention is not None
    assert answer.attention.shape == (len(answer.ids) + 1, 1 + 2)
    np.testing.assert_allclose(answer.attention.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"question": "  "}, "question"),
        ({"question": "\ud800"}, "Unicode"),
        ({"source": [*FACTS, {"text": " "}]}, "passage"),
        ({"source": [*FACTS, {"title": "no text"}]}, "passage 3"),
        ({"source": []}, "k"),
        ({"m": 4}, "k=3, m=4"),
        ({"m": 0}, "m=0"),
        ({"k": 4}, "1 to 3, the number of passages"),
        ({"k": 0}, "k:"),
        ({"system": "rag"}, "glimmer, lumen, fid"),
        ({"system": "fid", "m": 2}, "reads all k"),
    ],
)
def test_bad_input_is_refused_in_a_line(reader: Reader, arguments: dict, said: str) -> None:
    with pytest.raises(InputError, match=said.replace("(", r"\(")) as caught:
        reader.ask(**{"question": QUESTION, "source": FACTS, **arguments})
    assert "\n" not in str(caught.value)


def test_unknown_words_are_named(reader: Reader) -> None:
    assert reader.unknown_words("who wrote Xanadu ?") == ["Xanadu"]
    assert reader.unknown_words(QUESTION) == []


def test_an_unknown_telling_is_refused() -> None:
    with pytest.raises(InputError, match="numpy, numba"):
        glimmer_ref.load(ops="tpu")
