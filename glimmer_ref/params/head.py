"""The head of a published T5: which table it is, and whether its input is scaled by d_model^-1/2 (D18).

Two keys of config.json and the tensors decide. transformers 5.23 uses lm_head.weight if it differs from the embedding.
It scales as `scale_decoder_outputs` says; without that key, it scales unless `tie_word_embeddings` is false. We do the
same, except for files that other versions read differently:

    tie_word_embeddings    lm_head           transformers 5.23     here
    true or absent         absent or equal   embedding, scaled     the same
    true or absent         distinct          lm_head, scaled       refused, unless scale_decoder_outputs is stated
    false                  absent or equal   embedding, unscaled   the same
    false                  distinct          lm_head, unscaled     the same

Source: in transformers 4, the second line means the embedding, scaled. transformers 5.0 wrote such files for T5.1.1,
whose head was trained as lm_head, unscaled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InputError, brief

FLAGS = "say which: convert with --tie yes|no or --scale-decoder-outputs yes|no, or set scale_decoder_outputs"


@dataclass(frozen=True)
class HeadOptions:
    """What the caller decides about the head, overriding config.json; None leaves it to the file.

    Args:
        tie: the head is the embedding (or lm_head if there is one), and scaled unless that is stated.
        scale_decoder_outputs: whether the input of the head is scaled, whichever table it is.
    """

    tie: bool | None = None
    scale_decoder_outputs: bool | None = None


NO_OPTIONS = HeadOptions()


def _flag(data: Mapping[str, Any], key: str) -> bool | None:
    value = data.get(key)
    if value is not None and not isinstance(value, bool):
        raise InputError(f"config.json: {key}", "true or false", brief(value))
    return value


def _one_reading(data: Mapping[str, Any], ties: bool, distinct: bool, stated: bool | None) -> bool:
    """Is the input of the head scaled, if no key says so?"""
    if data.get("model_type") == "mt5":
        # transformers 5 never scales mT5's head and has no key for it; 4 scales a tied one.
        if stated or (ties and not distinct):
            raise InputError("mT5's head", "lm_head.weight, unscaled", "a tied or scaled one", FLAGS)
        return False
    if ties and distinct:
        got = "another, and tie_word_embeddings is not false in config.json"
        raise InputError("lm_head.weight", "none, or equal to shared.weight, for a tied head", got, FLAGS)
    if ties and "scale_decoder_outputs" in data:  # transformers 5 takes null for false
        raise InputError("config.json: scale_decoder_outputs", "true or false", "null", FLAGS)
    return ties


def head(data: Mapping[str, Any], distinct: bool, options: HeadOptions) -> tuple[bool, bool]:
    """Is the head the embedding, and is its input scaled?

    Args:
        data: the published config.json.
        distinct: is there an lm_head that differs from the embedding?

    Raises:
        InputError: a key that is neither true nor false, or a file that can be read in more than one way.
    """
    ties, stated = _flag(data, "tie_word_embeddings"), _flag(data, "scale_decoder_outputs")
    tied = not distinct or options.tie is True
    if options.scale_decoder_outputs is not None:
        return tied, options.scale_decoder_outputs
    if stated is not None and data.get("model_type") != "mt5":
        return tied, stated
    if options.tie is not None:
        return tied, options.tie
    return tied, _one_reading(data, ties is not False, distinct, stated)
