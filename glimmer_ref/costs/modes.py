"""Three ways to count the cost of a question. Each states what it leaves out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

from ..errors import InputError
from ..paper.flops import Macs, Number, f_fid, f_glimmer, f_lumen
from .flops import Setting, equal_lengths, online, shape_macs

TERA = 10**12
PREFIXES = (("", 1), ("k", 10**3), ("M", 10**6), ("G", 10**9), ("T", 10**12))
FIGURE2_PARTS = ("encoder", "live", "live_a", "reranker", "live_b", "cross", "decoder")


def full(s: Setting, system: str) -> Macs:
    """All matrix products and attention by true shapes, for passages of n_p tokens each."""
    return shape_macs(s, system, equal_lengths(s.k, s.n_p), equal_lengths(s.m, s.n_p))


def figure2(s: Setting, system: str) -> Macs:
    """The products of encoder, cross keys and values, and decoder by true shapes, as Figure 2 counts them."""
    macs = full(replace(s, decoder_question=False), system)
    return {name: x for name, x in macs.items() if name in FIGURE2_PARTS}


def printed(s: Setting, system: str) -> Macs:
    """The formulas of sections 2.1, 2.2 and 3.3; their n_p is the length of a pair, n_q + n_p."""
    pair = s.n_q + s.n_p
    if system == "fid":
        return f_fid(s.k, pair, s.n_t, s.L, s.d)
    if system == "lumen":
        return f_lumen(s.k, pair, s.n_t, s.L, s.d, s.alpha)
    return f_glimmer(s.k, s.m, pair, s.n_t, s.L, s.d, s.alpha, s.beta)


class Mode(NamedTuple):
    """A way to count, and one sentence that states what it leaves out."""

    macs: Callable[[Setting, str], Macs]
    leaves_out: str


MODES = {
    "printed": Mode(
        printed,
        "Mode printed assumes d_ff = 8/3 d, heads * d_kv = d, equal depths and n_p + n_q tokens a pair, and leaves "
        "out the question's own encoding, its tokens in the decoder's memory, the score, attention's products, and the "
        "logits.",
    ),
    "figure2": Mode(
        figure2,
        "Mode figure2 takes the true shapes, and leaves out the question's own encoding, its tokens in the decoder's "
        "memory, the score, attention's products (q k^T and the weighted sum of v), and the logits.",
    ),
    "full": Mode(
        full,
        "Mode full counts all matrix products and attention, and leaves out norms, activations, softmax, residuals, "
        "look-ups, retrieval, and the offline memory, which is shown separately.",
    ),
}


def total(s: Setting, system: str, mode: str) -> Number:
    """Multiply-adds of one question.

    Raises:
        InputError: an unknown mode.
    """
    if mode not in MODES:
        raise InputError("mode", f"one of {', '.join(MODES)}", repr(mode))
    return online(MODES[mode].macs(s, system))


def samples_per_tflop(macs: Number) -> Number:
    """Questions that 10^12 multiply-adds answer; the paper calls these a TFLOP."""
    return TERA / Fraction(macs)


def plain(x: Number) -> int | float:
    """An exact number for JSON: whole, or the nearest float."""
    return int(x) if x == int(x) else float(x)


def prefixed(largest: Number) -> tuple[str, int]:
    """The largest unit, up to tera, in which the largest number is at least 1."""
    return next((name, unit) for name, unit in reversed(PREFIXES) if unit == 1 or largest >= unit)
