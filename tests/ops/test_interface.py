"""The op interface is what is checked and used: operations, backwards, fusable parts of the model, hooks."""

from __future__ import annotations

import inspect
import types
from typing import Any

import numpy as np
import pytest
from models import backend

from glimmer_ref import ragged
from glimmer_ref.errors import InputError
from glimmer_ref.ops import Ops, fusable, interface, numpy_backend, shape_backend
from glimmer_ref.ops.cpu import ops as cpu_ops
from glimmer_ref.ops.interface import BACKWARD, FORWARD, FUSABLE, HOOKS, OPERANDS
from glimmer_ref.paper import t5


@pytest.mark.parametrize("module", [numpy_backend, cpu_ops, shape_backend])
def test_our_backends_give_what_is_declared_and_nothing_else(module: types.ModuleType) -> None:
    ops = Ops(module)
    assert all(ops.fused(name) is getattr(module, name, None) for name in FUSABLE)
    assert all(ops.hook(name) is getattr(module, name, None) for name in HOOKS)
    assert set(ops.backward) == {name for name in OPERANDS if hasattr(module, f"{name}_backward")}


def test_the_cpu_backend_has_every_fused_implementation_and_hook() -> None:
    assert [name for name in FUSABLE if Ops(cpu_ops).fused(name) is None] == []
    assert [name for name in HOOKS if Ops(cpu_ops).hook(name) is None] == []


@pytest.mark.parametrize(
    ("name", "function", "said"),
    [
        ("relu", None, "no relu$"),
        ("relu", lambda x: x, r"no relu\(a\)"),
        ("relu", 3, r"no relu\(a\)"),
        ("relu", max, r"no relu\(a\)"),  # Python cannot find out its arguments
        ("relu", lambda a, b=1: a, r"no relu\(a\)"),
        ("relu", lambda *a: a, r"no relu\(a\)"),
        ("relu", lambda *, a: a, r"no relu\(a\)"),
        ("scale", lambda x, factor=1.0: x, r"no scale\(x, factor\)"),
        ("attention", lambda q, k, v, bias, layout, heads, causal, dropout_mask: q, r"no attention\(q, k, v, bias"),
        ("relu_backward", lambda a, dy: (dy,), r"no relu_backward\(dy, a\)"),
        ("attention_block", lambda t5, w, x, layout, bias: x, r"no attention_block\(t5, w, x, bias, layout\)"),
        ("feed_forward_block", lambda t5, w, x: x, r"no feed_forward_block\(t5, w, x, lengths\)"),
        ("project", lambda t5, w, memory: memory, r"no project\(t5, w, memory, cache\)"),
        ("decoder_layers", lambda x: x, r"no decoder_layers\(t5, w, x, bias, layout, past, cross\)"),
        ("limit", lambda: None, r"no limit\(threads\)"),
        ("warm_up", lambda dtype="float32": None, r"no warm_up\(\)"),
        ("decoder_macs", lambda steps: {}, r"no decoder_macs\(t5, w, read, limit, steps\)"),
    ],
)
def test_what_takes_other_arguments_is_refused(name: str, function: Any, said: str) -> None:
    with pytest.raises(InputError, match=f"mine: expected every operation of the op interface; got {said}"):
        Ops(backend(**{name: function}))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("atention_block", r"atention_block \(for attention_block\?\)"),
        ("warmup", r"warmup \(for warm_up\?\)"),
        ("limits", r"limits \(for limit\?\)"),
        ("relu_backwards", r"relu_backwards \(for relu_backward\?\)"),
        ("decoder_layer", r"decoder_layer \(for decoder_layers\?\)"),
        ("zzz", "zzz"),
    ],
)
def test_a_public_function_that_nobody_declared_is_refused(name: str, said: str) -> None:
    """A function with a misspelt name would never be called, and nobody would notice."""
    for function in (lambda *args: None, len):  # written there, or brought in from elsewhere
        with pytest.raises(
            InputError, match=f"mine: expected only public functions that the op interface declares; got {said}; begin"
        ):
            Ops(backend(**{name: function}))


def test_helpers_types_and_modules_are_nobodys_business() -> None:
    Ops(backend(_helper=len, Words=list[int], Kind=dict, np=np, TABLE={}, token_positions=ragged.token_positions))


def test_every_name_is_declared_once() -> None:
    declared = [FORWARD, BACKWARD, FUSABLE, HOOKS]
    assert sum(map(len, declared)) == len(set().union(*declared)), "each name once"
    for name in OPERANDS:
        named = vars(interface.Backward)[f"{name}_backward"].operands
        assert [list(FORWARD[name].parameters)[i] for i in OPERANDS[name]] == list(named)
    decorated = {name for name, f in vars(t5).items() if inspect.isfunction(f) and hasattr(f, "__wrapped__")}
    assert decorated == set(FUSABLE), "the model's fusable functions are those that are declared"


def test_a_fusable_function_that_is_not_declared_is_refused() -> None:
    def attention_blok(ops: Ops, x: Any) -> Any:
        return x

    def attention_block(ops: Ops, t5: Any, x: Any) -> Any:
        return x

    for function in (attention_blok, attention_block):
        with pytest.raises(InputError, match=r"fusable: expected a function of interface\.Fusable with ops before"):
            fusable(function)


def test_a_fused_implementation_is_found_by_its_name() -> None:
    seen: list[tuple[Any, ...]] = []

    def feed_forward_block(t5: Any, w: Any, x: Any, lengths: Any) -> Any:
        seen.append((t5, w, x, lengths))
        return "fused"

    assert t5.feed_forward_block(Ops(backend(feed_forward_block=feed_forward_block)), 1, 2, 3, 4) == "fused"
    assert seen == [(1, 2, 3, 4)]
