"""The head of a published T5: as transformers reads it, or refused where a file is read in more than one way (D18)."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import config
from published import Named, hugging_face, write_t5
from test_files import T5_JSON
from test_names import one_encoder

from glimmer_ref.cli import main
from glimmer_ref.errors import InputError
from glimmer_ref.params.checkpoint import from_t5, load
from glimmer_ref.params.head import HeadOptions, head
from glimmer_ref.params.model import random

ABSENT = "absent"
TIES, HEADS, STATED = (ABSENT, True, False), (ABSENT, "equal", "distinct"), (ABSENT, True, False)
# tie_word_embeddings, lm_head -> (is the head the embedding, is it scaled) by transformers 5.23.0, where
# scale_decoder_outputs is not stated; where it is, that decides the second. test_by_transformers records it anew.
RECORDED = {
    (ABSENT, ABSENT): (True, True),
    (ABSENT, "equal"): (True, True),
    (ABSENT, "distinct"): (False, True),
    (True, ABSENT): (True, True),
    (True, "equal"): (True, True),
    (True, "distinct"): (False, True),
    (False, ABSENT): (True, False),
    (False, "equal"): (True, False),
    (False, "distinct"): (False, False),
}
SPLIT = [(ABSENT, "distinct"), (True, "distinct")]  # read in another way by transformers 4, meant in a third by 5.0's


def keys(tie: Any, stated: Any) -> dict[str, Any]:
    found = {"tie_word_embeddings": tie, "scale_decoder_outputs": stated}
    return {key: value for key, value in found.items() if value != ABSENT}


@pytest.mark.parametrize(("tie", "there", "stated"), list(product(TIES, HEADS, STATED)))
def test_as_transformers_or_refused(tie: Any, there: str, stated: Any) -> None:
    data, distinct = keys(tie, stated), there == "distinct"
    tied, scaled = RECORDED[tie, there]
    if stated == ABSENT and (tie, there) in SPLIT:
        with pytest.raises(InputError, match=r"--tie yes.no or --scale-decoder-outputs yes.no"):
            head(data, distinct, HeadOptions())
    else:
        assert head(data, distinct, HeadOptions()) == (tied, scaled if stated == ABSENT else stated)
    for flag in (True, False):
        assert head(data, distinct, HeadOptions(scale_decoder_outputs=flag)) == (tied, flag)
        assert head(data, distinct, HeadOptions(flag)) == (tied or flag, flag if stated == ABSENT else stated)
        assert head(data, distinct, HeadOptions(flag, not flag)) == (tied or flag, not flag)


@pytest.mark.parametrize(
    ("data", "distinct", "said"),
    [
        ({"tie_word_embeddings": 0}, False, "tie_word_embeddings: expected true or false; got 0"),
        ({"scale_decoder_outputs": "no"}, False, "scale_decoder_outputs: expected true or false; got 'no'"),
        ({"scale_decoder_outputs": None}, False, "scale_decoder_outputs: expected true or false; got null"),
        ({"model_type": "mt5"}, False, "mT5's head"),
        ({"model_type": "mt5", "scale_decoder_outputs": True}, True, "mT5's head"),
    ],
)
def test_what_is_read_in_two_ways_is_refused(data: dict[str, Any], distinct: bool, said: str) -> None:
    with pytest.raises(InputError, match=said):
        head(data, distinct, HeadOptions())


def test_mt5s_own_head_is_never_scaled() -> None:
    """As published (false), and as transformers 5 saves it (true)."""
    for ties in (True, False):
        assert head({"model_type": "mt5", "tie_word_embeddings": ties}, True, HeadOptions()) == (False, False)
    null = {"tie_word_embeddings": False, "scale_decoder_outputs": None}
    assert head(null, True, HeadOptions()) == (False, False)


def named(there: str) -> Named:
    result = hugging_face(one_encoder(random(config(), 0, "float32")))
    other = result.pop("lm_head.weight")
    return result | {ABSENT: {}, "equal": {"lm_head.weight": result["shared.weight"].copy()},
                     "distinct": {"lm_head.weight": other}}[there]  # fmt: skip


def folder(path: Path, tie: Any, there: str, stated: Any) -> Path:
    plain = {key: value for key, value in T5_JSON.items() if key != "tie_word_embeddings"}
    return write_t5(path, named(there), plain | keys(tie, stated))


def test_a_flag_decides_what_a_folder_becomes(tmp_path: Path) -> None:
    both = named("distinct")
    split = folder(tmp_path / "split", True, "distinct", ABSENT)
    with pytest.raises(InputError, match=r"lm_head\.weight"):
        from_t5(split, "1/2", "1/3", 0)
    tied = from_t5(split, "1/2", "1/3", 0, options=HeadOptions(tie=True))
    assert tied.decoder.lm_head is None and tied.config.t5.scale_decoder_outputs is True
    own = from_t5(split, "1/2", "1/3", 0, options=HeadOptions(tie=False))
    np.testing.assert_array_equal(own.decoder.lm_head, both["lm_head.weight"])
    assert own.config.t5.scale_decoder_outputs is False
    scaled = from_t5(split, "1/2", "1/3", 0, options=HeadOptions(scale_decoder_outputs=True))
    assert scaled.decoder.lm_head is not None and scaled.config.t5.scale_decoder_outputs is True


@pytest.mark.filterwarnings("ignore")
def test_by_transformers(tmp_path: Path) -> None:
    """Its logits of every combination are ours, made from its last hidden states; the table above is its."""
    torch = pytest.importorskip("torch", reason="needs the witness extra; .ci/run installs it")
    transformers = pytest.importorskip("transformers", reason="needs the witness extra; .ci/run installs it")
    ids, answer = torch.tensor([[3, 4, 5, 1]]), torch.tensor([[0, 7]])
    for n, (tie, there, stated) in enumerate(product(TIES, HEADS, STATED)):
        path = folder(tmp_path / str(n), tie, there, stated)
        witness = transformers.T5ForConditionalGeneration.from_pretrained(path).eval()
        with torch.no_grad():
            theirs = witness(input_ids=ids, decoder_input_ids=answer, output_hidden_states=True)
        last, logits = theirs.decoder_hidden_states[-1].numpy(), theirs.logits.numpy()
        said = HeadOptions()
        if stated == ABSENT and (tie, there) in SPLIT:
            said = HeadOptions(scale_decoder_outputs=RECORDED[tie, there][1])
        model = from_t5(path, "1/2", "1/3", 0, options=said)
        table = model.embedding if model.decoder.lm_head is None else model.decoder.lm_head
        factor = model.config.t5.d_model**-0.5 if model.config.t5.scale_decoder_outputs else 1
        np.testing.assert_allclose(logits, (last * factor) @ table.T, atol=1e-4 * np.abs(logits).max())
        tied = bool(np.array_equal(witness.lm_head.weight.detach().numpy(), model.embedding))
        scaled = RECORDED[tie, there][1] if stated == ABSENT else stated
        assert (tied, witness.config.scale_decoder_outputs) == (RECORDED[tie, there][0], scaled)


EMBEDDINGS = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
LAYOUTS = [(0,), (1,), (2,), (3,), (1, 2), (1, 2, 3), (0, 1, 2, 3), (2, 3), (1, 3)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("own_head", [False, True])
@pytest.mark.parametrize("kept", LAYOUTS)
def test_transformers_finds_the_same_embedding(tmp_path: Path, kept: tuple[int, ...], own_head: bool) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the witness extra; .ci/run installs it")
    weights = named("distinct")
    table, other = weights.pop("shared.weight"), weights.pop("lm_head.weight")
    weights |= {EMBEDDINGS[i]: (other if own_head and i == 3 else table).copy() for i in kept}
    path = write_t5(tmp_path / "t5", weights, T5_JSON)
    witness = transformers.T5ForConditionalGeneration.from_pretrained(path)
    model = from_t5(path, "1/2", "1/3", 0)
    for module in (witness.shared, witness.encoder.embed_tokens, witness.decoder.embed_tokens):
        np.testing.assert_array_equal(module.weight.detach().numpy(), model.embedding)
    head_table = model.embedding if model.decoder.lm_head is None else model.decoder.lm_head
    np.testing.assert_array_equal(witness.lm_head.weight.detach().numpy(), head_table)
    assert (model.decoder.lm_head is None) == (3 not in kept or not own_head or kept == (3,))


def test_the_commands_flags_decide(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    split = folder(tmp_path / "split", ABSENT, "distinct", ABSENT)
    words = ["convert", str(split), str(tmp_path / "out"), "--alpha", "1/2", "--beta", "1/3"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "--tie yes|no" in error and not (tmp_path / "out").exists()
    assert main([*words, "--tie", "no"]) == 0
    made = load(tmp_path / "out")
    assert made.decoder.lm_head is not None and made.config.t5.scale_decoder_outputs is False
    words[2] = str(tmp_path / "scaled")
    assert main([*words, "--scale-decoder-outputs", "yes"]) == 0
    assert load(tmp_path / "scaled").config.t5.scale_decoder_outputs is True
