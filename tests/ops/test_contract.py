"""What is declared of a backend is what is checked and used: operations, the other direction, composites, hooks."""

from __future__ import annotations

import inspect
import types
from typing import Any

import numpy as np
import pytest

from glimmer_ref import ragged
from glimmer_ref.errors import InputError
from glimmer_ref.ops import Ops, composite, interface, numpy_backend, shape_backend
from glimmer_ref.ops.cpu import ops as cpu_ops
from glimmer_ref.ops.interface import BACKWARD, COMPOSITES, FORWARD, HOOKS, OPERANDS
from glimmer_ref.paper import t5


def backend(**more: Any) -> types.ModuleType:
    """The reference's operations, and what a test gives besides; None takes one away."""
    module = types.ModuleType("mine")
    vars(module).update(vars(numpy_backend), __name__="mine")
    for name, function in more.items():
        if function is None:
            delattr(module, name)
        else:
            setattr(module, name, function)
    return module


@pytest.mark.parametrize("module", [numpy_backend, cpu_ops, shape_backend])
def test_our_backends_give_what_is_declared_and_nothing_else(module: types.ModuleType) -> None:
    ops = Ops(module)
    assert all(ops.whole(name) is getattr(module, name, None) for name in (*COMPOSITES, *HOOKS))
    assert set(ops.backward) == {name for name in OPERANDS if hasattr(module, f"{name}_backward")}


def test_the_fast_backend_gives_every_composite_and_hook() -> None:
    assert [name for name in (*COMPOSITES, *HOOKS) if Ops(cpu_ops).whole(name) is None] == []


@pytest.mark.parametrize(
    ("name", "function", "said"),
    [
        ("relu", None, "no relu$"),
        ("relu", lambda x: x, r"no relu\(a\)"),
        ("relu", 3, r"no relu\(a\)"),
        ("relu", max, r"no relu\(a\)"),  # whose arguments nobody can tell
        ("relu", lambda a, b=1: a, r"no relu\(a\)"),
        ("relu", lambda *a: a, r"no relu\(a\)"),
        ("relu", lambda *, a: a, r"no relu\(a\)"),
        ("scale", lambda x, factor=1.0: x, r"no scale\(x, factor\)"),
        ("attention", lambda q, k, v, bias, layout, heads, causal, dropout_mask: q, r"no attention\(q, k, v, bias"),
        ("relu_backward", lambda a, dy: (dy,), r"no relu_backward\(dy, a\)"),
        ("attention_block", lambda t5, w, x, layout, bias: x, r"no attention_block\(t5, w, x, bias, layout\)"),
        ("feed_forward_block", lambda t5, w, x: x, r"no feed_forward_block\(t5, w, x, lengths\)"),
        ("project", lambda t5, w, memory: memory, r"no project\(t5, w, memory, steps\)"),
        ("decoder_layers", lambda x: x, r"no decoder_layers\(t5, w, x, bias, layout, past, cross\)"),
        ("limit", lambda: None, r"no limit\(threads\)"),
        ("warm_up", lambda dtype="float32": None, r"no warm_up\(\)"),
        ("decoder_macs", lambda steps: {}, r"no decoder_macs\(t5, w, read, limit, steps\)"),
    ],
)
def test_what_takes_other_arguments_is_refused(name: str, function: Any, said: str) -> None:
    with pytest.raises(InputError, match=f"mine: every operation of the op interface; got {said}"):
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
    """A name spelt wrongly would otherwise never be called, and nobody would know."""
    for function in (lambda *args: None, len):  # written there, or brought in from elsewhere
        with pytest.raises(InputError, match=f"mine: no public function beside the op interface's; got {said}; begin"):
            Ops(backend(**{name: function}))


def test_helpers_types_and_modules_are_nobodys_business() -> None:
    Ops(backend(_helper=len, Words=list[int], Kind=dict, np=np, TABLE={}, token_positions=ragged.token_positions))


def test_all_is_declared_in_one_place() -> None:
    declared = [FORWARD, BACKWARD, COMPOSITES, HOOKS]
    assert sum(map(len, declared)) == len(set().union(*declared)), "each name once"
    for name in OPERANDS:
        named = vars(interface.Backward)[f"{name}_backward"].operands
        assert [list(FORWARD[name].parameters)[i] for i in OPERANDS[name]] == list(named)
    told = {name for name, f in vars(t5).items() if inspect.isfunction(f) and hasattr(f, "__wrapped__")}
    assert told == set(COMPOSITES), "the model's composites are those that are declared"


def test_a_composite_that_is_not_declared_is_refused() -> None:
    def attention_blok(ops: Ops, x: Any) -> Any:
        return x

    def attention_block(ops: Ops, t5: Any, x: Any) -> Any:
        return x

    for function in (attention_blok, attention_block):
        with pytest.raises(InputError, match=r"composite: a function that contract\.Composites declares"):
            composite(function)


def test_a_composite_is_found_by_its_declaration() -> None:
    seen: list[tuple[Any, ...]] = []

    def feed_forward_block(t5: Any, w: Any, x: Any, lengths: Any) -> Any:
        seen.append((t5, w, x, lengths))
        return "whole"

    assert t5.feed_forward_block(Ops(backend(feed_forward_block=feed_forward_block)), 1, 2, 3, 4) == "whole"
    assert seen == [(1, 2, 3, 4)]
