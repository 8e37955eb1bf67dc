"""Small random models and inputs for the tests."""

from __future__ import annotations

import types
from typing import Any

import numpy as np

from glimmer_ref.config import GlimmerConfig, T5Config
from glimmer_ref.ops import Ops, bind, numpy_backend
from glimmer_ref.params.model import Model, prepare_params, random
from glimmer_ref.ragged import Tokens

# An odd number of heads, heads * d_kv != d_model, and different numbers of encoder and decoder layers.
T5 = T5Config(vocab_size=61, d_model=20, d_kv=6, d_ff=28, num_layers=6, num_decoder_layers=2, num_heads=3)


def config(alpha: str = "1/2", beta: str = "1/3", t5: T5Config = T5, **more: Any) -> GlimmerConfig:
    return GlimmerConfig.from_proportions(t5, alpha, beta, **more)


def model(ops: Ops, settings: GlimmerConfig, seed: int = 0, dtype: str = "float64") -> Model:
    return prepare_params(ops, random(settings, seed, dtype))


def tokens(lengths: list[int], seed: int = 1, vocab: int = 61) -> Tokens:
    rng = np.random.default_rng(seed)
    return Tokens.of([rng.integers(2, vocab, n) for n in lengths])


def only(x: Tokens, rows: list[int]) -> Tokens:
    return Tokens.of([x[i] for i in rows])


QUESTION = tokens([5], seed=2)
PASSAGES = tokens([4, 9, 1, 6, 12, 3, 17], seed=3)
K = np.array([len(PASSAGES)])
NUMPY = bind("numpy")


def backend(**more: Any) -> types.ModuleType:
    """The reference backend with the functions of `more` added or replaced; None removes one."""
    module = types.ModuleType("mine")
    vars(module).update(vars(numpy_backend), __name__="mine")
    for name, function in more.items():
        if function is None:
            delattr(module, name)
        else:
            setattr(module, name, function)
    return module
