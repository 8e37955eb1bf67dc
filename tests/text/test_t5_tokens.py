"""Tokens listed beside spiece.model: their ids are those of transformers, and ids that do not fit are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from models import T5
from published import hugging_face, write_t5
from test_sentencepiece import CONTROL, LETTERS, maker, piece

from glimmer_ref.cli import main
from glimmer_ref.config import GlimmerConfig
from glimmer_ref.errors import InputError
from glimmer_ref.params.model import random
from glimmer_ref.text.sentencepiece import find_tokenizer_json
from glimmer_ref.text.tokenizer import Tokenizer

CONFIG, ADDED, SPECIAL = "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json"
SIZE = 7  # pieces of CONTROL + LETTERS
TEXTS = [
    "a b", "ab [SEP] b[SEP]a", "a <extra_id_0>b <extra_id_99>", "<extra_id_299> x <extra_id_150>", "ab <ctx>b <q> <m>",
    "bab ba b", "<l> a <l> b", "</s> <pad> <unk>a", " ab ab <extra_id_0> b",
]  # fmt: skip


def token(content: str, **flags: bool) -> dict[str, Any]:
    plain = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": True}
    return {"content": content, **plain, **flags}


def sentinels(count: int) -> list[str]:
    return [f"<extra_id_{i}>" for i in range(count)]


def stated(first: int, *some: dict[str, Any]) -> dict[str, Any]:
    return {"added_tokens_decoder": {str(first + i): token for i, token in enumerate(some)}}


OLD = [token("<pad>"), token("</s>"), token("<unk>")]
STRIPPED = [token(name, lstrip=True, rstrip=True) for name in reversed(sentinels(100))]
DECODER = {str(i): t for i, t in enumerate(OLD)} | {str(SIZE + i): t for i, t in enumerate(STRIPPED)}
# What is beside the model, how many tokens there are, and some of them.
FOLDERS: dict[str, tuple[dict[str, Any], int, dict[str, int]]] = {
    "nothing": ({}, 107, {"<extra_id_0>": 106, "<extra_id_99>": 7}),
    "an empty config": ({CONFIG: {}}, 107, {"<extra_id_0>": 106}),
    "umT5's 300": ({CONFIG: {"extra_ids": 300}}, 307, {"<extra_id_0>": 306, "<extra_id_299>": 7}),
    "300, listed": (
        {CONFIG: {"extra_ids": 300, "additional_special_tokens": sentinels(300)}}, 307, {"<extra_id_299>": 7}),
    "none": ({CONFIG: {"extra_ids": 0}}, 7, {}),
    "none, others": (
        {CONFIG: {"extra_ids": 0, "additional_special_tokens": ["<ctx>", "<q>"]}}, 9, {"<ctx>": 7, "<q>": 8}),
    "old added tokens": ({ADDED: {"[SEP]": 107, "[X]": 108}, CONFIG: {}}, 109, {"[SEP]": 107, "[X]": 108}),
    "special by the map": ({ADDED: {"[SEP]": 107}, SPECIAL: {"sep_token": "[SEP]"}}, 108, {"[SEP]": 107}),
    "added tokens": (
        {CONFIG: stated(107, token("[SEP]"), token("ba", special=False, normalized=True))}, 109,
        {"[SEP]": 107, "ba": 108}),
    "the newer form counts": ({ADDED: {"[Z]": 107}, CONFIG: stated(107, token("[SEP]"))}, 108, {"[SEP]": 107}),
    "as transformers 4 saves": (
        {CONFIG: {"extra_ids": 100, "added_tokens_decoder": DECODER, "additional_special_tokens": sentinels(100)}},
        107, {"<extra_id_0>": 106}),
    "named": ({CONFIG: {"sep_token": "[SEP]", "mask_token": "<m>", "my_token": "<q>"}}, 110,
              {"[SEP]": 107, "<m>": 108, "<q>": 109}),
    "a dictionary": ({CONFIG: {"extra_special_tokens": {"ctx_token": "<ctx>"}}}, 108, {"<ctx>": 107}),
    "flags": (
        {CONFIG: {"added_tokens_decoder": {"6": token("b", single_word=True), "107": token("<l>", lstrip=True)}}}, 108,
        {"b": 6, "<l>": 107}),
}  # fmt: skip
# transformers 5.23 differs on these; each reason is beside it.
OURS: dict[str, tuple[dict[str, Any], int, dict[str, int]]] = {
    # it appends the 200 that are more than its default behind the first, against the ids that the file states
    "300 with ids, uncounted": (
        {CONFIG: stated(SIZE, *map(token, reversed(sentinels(300))))}, 307, {"<extra_id_0>": 306, "<extra_id_299>": 7}),
    # it forgets the list of special_tokens_map.json, which transformers 4 reads
    "a list in the map": ({SPECIAL: {"additional_special_tokens": ["<ctx>"]}}, 108, {"<ctx>": 107}),
    # its ids would be past the model's
    "no room": ({"config.json": {"vocab_size": 64}}, 7, {}),
    # a list without sentinels leaves them ordinary pieces; they are looked for first here, as in transformers 4
    "a list without sentinels": ({CONFIG: {"additional_special_tokens": ["<ctx>"]}}, 108, {"<ctx>": 107}),
}  # fmt: skip
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "uncounted": ({CONFIG: {"additional_special_tokens": sentinels(300)}}, "extra_ids, since 300 sentinels"),
    "a gap": ({CONFIG: stated(110, token("[SEP]"))}, r"id 107, by the order of tokens; got id 110 for '\[SEP\]'"),
    "another id": ({ADDED: {"ab": 3, "b": 5}}, "id 6, by the order of tokens; got id 5 for 'b'|got id 3 for 'ab'"),
    "two of one id": ({ADDED: {"x": 107, "y": 107}}, "107 twice"),
    "garbage": ({CONFIG: {"extra_ids": "many"}}, "extra_ids: expected a whole number"),
    "many": ({CONFIG: {"extra_ids": 10**9}}, "extra_ids: expected a whole number from 0"),
    "no text": ({CONFIG: stated(107, {"content": ""})}, "a token's text"),
    "no flag": ({CONFIG: stated(107, {"content": "x", "lstrip": 3})}, "true or false"),
    "no list": ({CONFIG: {"additional_special_tokens": "<x>"}}, "a list"),
    "no object": ({CONFIG: {"added_tokens_decoder": ["x"]}}, "an object of ids"),
    "a list for a config": ({CONFIG: []}, "an object"),
    "another class": ({CONFIG: {"tokenizer_class": "LlamaTokenizer"}}, "T5's tokenizer; got 'LlamaTokenizer'"),
    "sampling": ({CONFIG: {"sp_model_kwargs": {"enable_sampling": True}}}, "no sampling"),
    "special ones cut": ({CONFIG: {"split_special_tokens": True}}, "split_special_tokens: expected false"),
}


def write(folder: Path, files: dict[str, Any], model: bytes = CONTROL + LETTERS) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "spiece.model").write_bytes(model)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def read(folder: Path) -> Tokenizer:
    return Tokenizer(folder / "spiece.model", text=find_tokenizer_json(folder))


@pytest.mark.parametrize("name", FOLDERS | OURS)
def test_tokens_are_placed(tmp_path: Path, name: str) -> None:
    files, size, ids = (FOLDERS | OURS)[name]
    made = read(write(tmp_path, files))
    assert made.size == size
    for content, i in ids.items():
        assert made.encode(f"a {content}")[-1] == i and made.pieces([i]) == [content]
    library = tokenizers.Tokenizer.from_str(made.json)
    for text in TEXTS:  # the file means the same to other readers
        assert library.encode(text, add_special_tokens=False).ids == made.encode(text)


@pytest.mark.parametrize("name", FOLDERS)
def test_transformers_places_them_alike(tmp_path: Path, name: str) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the witness extra; .ci/run installs it")
    folder = write(tmp_path, FOLDERS[name][0])
    theirs, ours = transformers.T5Tokenizer.from_pretrained(folder), read(folder)
    assert theirs.get_vocab() == tokenizers.Tokenizer.from_str(ours.json).get_vocab()
    for text in TEXTS:
        ids = theirs(text, add_special_tokens=False)["input_ids"]
        assert ids == ours.encode(text), text
        assert theirs.decode(ids, skip_special_tokens=True).split() == ours.decode(ids).split()


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(tmp_path: Path, name: str) -> None:
    files, said = REFUSED[name]
    with pytest.raises(InputError, match=said):
        find_tokenizer_json(write(tmp_path, files))


@pytest.mark.parametrize(("kind", "mark"), [(3, ""), (4, "▁"), (1, "▁")])
def test_sentinels_in_the_model_file_are_not_doubled(tmp_path: Path, kind: int, mark: str) -> None:
    """As mT5 has them; `extra_ids` need not say so."""
    held = b"".join(piece(f"{mark}{name}", 0.0, kind) for name in reversed(sentinels(100)))
    made = read(write(tmp_path, {}, CONTROL + LETTERS + held))
    assert made.size == 107 and made.encode("a <extra_id_0>")[-1] == 106
    write(tmp_path, {CONFIG: {"extra_ids": 0}})
    assert find_tokenizer_json(tmp_path) != made.json  # the shorter model again


def test_pieces_that_users_defined_are_looked_for_first(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the witness extra; .ci/run installs it")
    model = maker().train(3, 200, user_defined_symbols=["<sep>", "qq"])
    theirs = transformers.T5Tokenizer.from_pretrained(write(tmp_path, {}, model))
    for text in ("the<sep>he", "a <sep> qq b", "was qqqq"):
        assert read(tmp_path).encode(text) == theirs(text, add_special_tokens=False)["input_ids"]


def test_a_tokenizer_json_has_the_tokens_listed_beside_it(tmp_path: Path) -> None:
    text = find_tokenizer_json(write(tmp_path, {CONFIG: {}}))
    (tmp_path / "tokenizer.json").write_text(str(text))
    assert find_tokenizer_json(tmp_path) == text
    (tmp_path / CONFIG).write_text(json.dumps(stated(106, token("<extra_id_0>"))))
    assert find_tokenizer_json(tmp_path) == text
    (tmp_path / CONFIG).write_text(json.dumps(stated(107, token("[SEP]"))))
    with pytest.raises(
        InputError, match=r"tokenizer.json: expected '\[SEP\]' with id 107, as the files beside it; got none"
    ):
        find_tokenizer_json(tmp_path)


@pytest.mark.parametrize(
    ("files", "said"), [({}, ""), ({CONFIG: {"extra_ids": 100}}, "at most the model's vocab_size=61 tokens; got 107")]
)
def test_convert_leaves_nothing_that_does_not_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: dict[str, Any], said: str
) -> None:
    model = random(GlimmerConfig.from_proportions(T5, "1/2", "1/3"), 0, "float32")
    folder = write_t5(
        tmp_path / "t5",
        hugging_face(model),
        {**vars(T5), "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    )
    write(folder, files)
    out = tmp_path / "out"
    code = main(["convert", str(folder), str(out), "--alpha", "1/2", "--beta", "1/3"])
    error = capsys.readouterr().err
    assert (code, out.exists()) == ((2, False) if said else (0, True)) and said in error
    assert not said or (f"{folder / 'spiece.model'}" in error and error.count("\n") == 1)
    assert [*tmp_path.iterdir()] == ([folder] if said else [folder, out]) or out.exists()
    if not said:
        assert Tokenizer(out / "tokenizer.json", 61).encode("ab  b") == [5, 3, 6]
