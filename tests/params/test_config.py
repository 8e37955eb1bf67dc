"""Configs: proportions that give whole layers, published sizes, and nonsense refused."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from models import T5, config

from glimmer_ref.config import SIZES, GlimmerConfig, T5Config
from glimmer_ref.errors import InputError
from glimmer_ref.template import filled


def test_the_papers_setting_at_every_published_size() -> None:
    for name in ("large", "xl", "xxl"):
        cut = GlimmerConfig.from_proportions(SIZES[name], "1/3", "1/4")
        assert (cut.num_memory_layers, cut.num_rerank_layers, cut.num_live_layers) == (16, 2, 8)
        assert (cut.alpha, cut.beta) == (Fraction(1, 3), Fraction(1, 4))


def test_xxl_is_what_figure_2_needs() -> None:
    xxl = SIZES["xxl"]
    assert (xxl.d_model, xxl.d_ff, xxl.num_heads * xxl.d_kv, xxl.num_layers) == (4096, 10240, 4096, 24)


@pytest.mark.parametrize(
    ("alpha", "beta", "said"),
    [
        (
            "0.33",
            "1/3",
            "whole number of layers; got 33/100 of 6 = 1.98; the nearest shares are 1/6, 1/3, 1/2",
        ),
        ("1/2", "1/4", "beta: expected a share of 3 layers"),
        ("2", "1/3", "alpha: expected a proportion between 0 and 1"),
        ("-1/2", "1/3", "alpha"),
        ("third", "1/3", "alpha"),
        ("1/0", "1/3", "alpha"),
        ("1/2", "nan", "beta"),
    ],
)
def test_proportions_that_give_no_whole_layers(alpha: str, beta: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        config(alpha, beta)


@pytest.mark.parametrize(
    "change",
    [
        {"d_model": 0},
        {"d_model": 2.0},
        {"d_model": True},
        {"num_heads": -1},
        {"vocab_size": "61"},
        {"layer_norm_epsilon": 0},
        {"layer_norm_epsilon": float("nan")},
        {"feed_forward_proj": "silu"},
        {"relative_attention_num_buckets": 6},
        {"relative_attention_max_distance": 16},
        {"eos_token_id": 61},
        {"scale_decoder_outputs": 1},
    ],
)
def test_t5_shapes_that_make_no_sense(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        replace(T5, **change)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_live_layers": 4}, "num_memory_layers \\+ num_live_layers"),
        ({"num_rerank_layers": 4}, "at most num_live_layers"),
        ({"m": 26}, "a number of at most k"),
        ({"pool": "max"}, "first, mean"),
        ({"reranker": "none"}, "shared, separate"),
        ({"score_norm": 1}, "true or false"),
        ({"trained_as": "t5"}, "glimmer, lumen, fid"),
        ({"passage_offset": 47}, "48"),
        ({"passage_format": "{title}"}, "passage_format"),
        ({"passage_format": "{title} {text} {author}"}, "passage_format"),
        ({"passage_format": "{text"}, "passage_format"),
        ({"question_prefixes": "question:"}, "question_prefixes"),
        ({"answer_tokens": 0}, "answer_tokens"),
    ],
)
def test_cuts_that_make_no_sense(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        replace(config(), **change)


def test_json_and_back() -> None:
    for settings in (
        config(),
        config(passage_offset=48, pool="mean", question_prefixes=("a:", "b:")),
        config(trained_as="fid"),
    ):
        assert GlimmerConfig.from_json(settings.to_json()) == settings
    assert "trained_as" not in config().to_json()["glimmer"], "a folder of which it is not known"


def test_a_published_config_without_a_word_on_the_feed_forward_is_the_first_version() -> None:
    sizes = {"vocab_size": 32128, "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8}
    read = T5Config.from_json({**sizes, "n_positions": 512, "task_specific_params": {}})
    assert (read.feed_forward_proj, read.num_decoder_layers) == ("relu", 6)
    with pytest.raises(InputError, match="no num_heads"):
        T5Config.from_json({k: v for k, v in sizes.items() if k != "num_heads"})


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("{text:{title}}", "{text} once and may contain {title}"),
        ("{text!r}", "{text} once"),
        ("{text:>10}", "{text} once"),
        ("{text.__class__}", "{text} once"),
        ("{text[0]}", "{text} once"),
        ("{0} {text}", "{text} once"),
        ("{} {text}", "{text} once"),
        ("{text} {text}", "{text} once"),
        ("{title} {title} {text}", "{text} once"),
        ("{title}", "{text} once"),
        ("{text", "{text} once"),
        ("}{text}", "{text} once"),
        ("", "{text} once"),
        (3, "a string that contains {text}"),
        ("{title}" * 2**18 + "{text}", "at most 1000 characters; got 1,835,014"),
        ("{text:" + "{" * 2**16, "at most 1000 characters"),
    ],
)
def test_formats_that_do_more_than_put_together(form: Any, said: str) -> None:
    start = time.monotonic()
    with pytest.raises(InputError, match=re.escape(said)) as error:
        GlimmerConfig.from_proportions(SIZES["base"], "1/3", "1/4", passage_format=form)
    assert time.monotonic() - start < 0.5 and len(str(error.value)) < 200


@pytest.mark.parametrize("prefixes", [("x" * 1001,), ("",) * 1001, ("x",) * 100_000])
def test_prefixes_are_bounded(prefixes: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="question_prefixes: expected at most 1000"):
        GlimmerConfig.from_proportions(SIZES["base"], "1/3", "1/4", question_prefixes=prefixes)


def test_a_format_puts_title_and_text_together() -> None:
    assert filled("{{{title}}} {text}!", "{text} {0}", "{title}") == "{{text} {0}} {title}!"
    assert filled("{text}", "t", "x") == "x"
