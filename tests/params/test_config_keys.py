"""Keys of a published config.json: heeded as transformers heeds them, or refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from glimmer_ref.config import GlimmerConfig, T5Config
from glimmer_ref.config_keys import ALIASES
from glimmer_ref.errors import InputError

SIZES = {
    "model_type": "t5", "vocab_size": 61, "d_model": 20, "d_kv": 6, "d_ff": 28, "num_layers": 6,
    "num_decoder_layers": 2, "num_heads": 3, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0,
}  # fmt: skip
# feed_forward_proj, dense_act_fn and is_gated_act where stated, and what that is here, None where it is refused.
FEED_FORWARDS: list[tuple[dict[str, Any], str | None]] = [
    ({}, "relu"),
    ({"feed_forward_proj": "relu"}, "relu"),
    ({"feed_forward_proj": "gated-gelu"}, "gated-gelu"),
    ({"feed_forward_proj": "gated-gelu_new"}, "gated-gelu"),
    ({"feed_forward_proj": "gated-gelu_pytorch_tanh"}, "gated-gelu"),
    ({"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu_new", "is_gated_act": True}, "gated-gelu"),
    ({"feed_forward_proj": "relu", "dense_act_fn": "gelu_new", "is_gated_act": True}, "gated-gelu"),
    ({"feed_forward_proj": "gated-gelu", "dense_act_fn": "relu", "is_gated_act": False}, "relu"),
    ({"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu"}, None),
    ({"feed_forward_proj": "gated-gelu", "dense_act_fn": "silu"}, None),
    ({"feed_forward_proj": "gated-gelu", "dense_act_fn": "relu"}, None),
    ({"feed_forward_proj": "gated-gelu", "is_gated_act": False}, None),
    ({"feed_forward_proj": "relu", "dense_act_fn": "silu"}, None),
    ({"feed_forward_proj": "relu", "is_gated_act": True}, None),
    ({"feed_forward_proj": "gelu_new"}, None),
    ({"feed_forward_proj": "gelu"}, None),
    ({"feed_forward_proj": "gated-relu"}, None),
    ({"feed_forward_proj": "gated-silu"}, None),
    ({"feed_forward_proj": "silu"}, None),
]


def read(**changes: Any) -> T5Config:
    return T5Config.from_json(SIZES | changes)


@pytest.mark.parametrize(("keys", "ours"), FEED_FORWARDS)
def test_the_activation_is_heeded_or_refused(keys: dict[str, Any], ours: str | None) -> None:
    if ours is not None:
        assert read(**keys).feed_forward_proj == ours
        return
    with pytest.raises(InputError, match=r"feed_forward_proj=.*dense_act_fn=.*is_gated_act=.*another function"):
        read(**keys)


@pytest.mark.parametrize(("keys", "ours"), FEED_FORWARDS)
def test_the_activation_is_transformers(keys: dict[str, Any], ours: str | None) -> None:
    """What is read here is computed there, and what is refused is neither of ours."""
    torch = pytest.importorskip("torch", reason="needs the witness extra; .ci/run installs it")
    transformers = pytest.importorskip("transformers", reason="needs the witness extra; .ci/run installs it")
    theirs = transformers.T5Config.from_dict(SIZES | keys)
    x = torch.linspace(-4, 4, 101)
    act = transformers.activations.ACT2FN[theirs.dense_act_fn](x)
    tanh = torch.nn.functional.gelu(x, approximate="tanh")
    same = {"relu": torch.relu(x), "gated-gelu": tanh}
    gated = {"relu": False, "gated-gelu": True}
    matches = [
        name for name in same if theirs.is_gated_act == gated[name] and torch.allclose(act, same[name], atol=1e-6)
    ]
    assert matches == ([ours] if ours else [])


def test_aliases_are_heeded_where_they_stand_alone() -> None:
    for alias, name in ALIASES.items():
        rest = {key: value for key, value in SIZES.items() if key != name}
        assert T5Config.from_json({**rest, alias: SIZES[name]}) == read()
        assert read(**{alias: SIZES[name]}) == read()
        with pytest.raises(InputError, match=f"{alias}: expected the same as {name}={SIZES[name]}; got 5"):
            read(**{alias: 5})
    alone = {key: value for key, value in SIZES.items() if key not in ("num_layers", "num_decoder_layers")}
    assert T5Config.from_json({**alone, "num_hidden_layers": 4}).num_decoder_layers == 4
    assert read(num_decoder_layers=None).num_decoder_layers == 6


def test_aliases_are_transformers() -> None:
    transformers = pytest.importorskip("transformers", reason="needs the witness extra; .ci/run installs it")
    assert transformers.T5Config.attribute_map == transformers.MT5Config.attribute_map == ALIASES


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "umt5"}, "model_type: expected t5 or mt5; got 'umt5'; it has a position table in every layer"),
        ({"model_type": "longt5"}, "locally"),
        ({"model_type": "switch_transformers"}, "mixtures of experts"),
        ({"model_type": "bart"}, "got 'bart'; another architecture"),
        ({"model_type": ["t5"]}, "got \\['t5'\\]"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quantization_config: .*none; got .*dequantize"),
        ({"per_layer_config": {"0": {"num_heads": 1}}}, "per_layer_config"),
        ({"eos_token_id": [1, 2]}, "eos_token_id: expected one token that ends an answer; got \\[1, 2\\]"),
        ({"eos_token_id": []}, "eos_token_id: expected one token"),
        ({"eos_token_id": None}, "eos_token_id: expected one token .*got None"),
        ({"eos_token_id": ["</s>"]}, "eos_token_id"),
        ({"decoder_start_token_id": None, "pad_token_id": -1}, "decoder_start_token_id"),
        ({"feed_forward_proj": "x-relu"}, "feed_forward_proj"),
        ({"feed_forward_proj": "gated-relu-x"}, "feed_forward_proj"),
        ({"feed_forward_proj": ["relu"]}, "feed_forward_proj"),
        ({"dense_act_fn": ["relu"]}, "dense_act_fn"),
        ({"is_gated_act": "no"}, "is_gated_act"),
        ({"relative_attention_max_distance": 10**39}, "at least 17 and at most 2147483647; got 1000.*int32"),
        ({"relative_attention_max_distance": 1e39}, "relative_attention_max_distance"),
        ({"relative_attention_max_distance": 2**31}, "at most 2147483647"),
        ({"d_kv": -(10**999)}, r"d_kv: expected a whole number of at least 1; got -10{56}\.\.$"),
    ],
)  # fmt: skip
def test_what_makes_another_model_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(**changes)


def test_ids_are_heeded() -> None:
    assert read(eos_token_id=[7]).eos_token_id == 7
    started = {key: value for key, value in SIZES.items() if key != "decoder_start_token_id"}
    assert T5Config.from_json(started).decoder_start_token_id == 0
    assert T5Config.from_json(started | {"pad_token_id": 5}).decoder_start_token_id == 5
    assert read(pad_token_id=5).decoder_start_token_id == 0


def test_mt5_is_gated_unless_it_says_otherwise() -> None:
    assert read(model_type="mt5").feed_forward_proj == "gated-gelu"
    assert read(model_type=None).feed_forward_proj == "relu"


@pytest.mark.parametrize("offset", [10**19, 30_000_000, 65_537, 1e19])
def test_offsets_are_bounded(offset: float) -> None:
    cut = {"num_memory_layers": 3, "num_live_layers": 3, "num_rerank_layers": 1}
    good = SIZES | {"glimmer": {**cut, "positions": 65_536}}
    assert GlimmerConfig.from_json(good).passage_offset == 65_536
    with pytest.raises(
        InputError,
        match=r"passage_offset: expected .* at least 48 and at most 65536; got .*a row for every distance",
    ):
        GlimmerConfig.from_json(SIZES | {"glimmer": {**cut, "positions": offset}})
