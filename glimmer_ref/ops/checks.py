"""Bounds checks for the operands of attention, since kernels do none."""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from ..ragged import Array, check, offsets
from .interface import SequenceLayout


def max_distance(layout: SequenceLayout) -> int:
    """The largest distance between a query and a key of the same sequence, in either direction."""
    some = layout.query_lengths > 0
    q_from, k_from = offsets(layout.query_lengths)[:-1][some], offsets(layout.key_lengths)[:-1]
    largest, smallest = np.maximum.reduceat, np.minimum.reduceat
    ahead = largest(layout.key_positions, k_from)[some] - smallest(layout.query_positions, q_from)
    behind = largest(layout.query_positions, q_from) - smallest(layout.key_positions, k_from)[some]
    return int(max(ahead.max(), behind.max()))


def check_dropout_mask(dropout_mask: Array, layout: SequenceLayout, heads: int) -> None:
    """Checks that a mask has a factor for every head, query and key of a sequence.

    Raises:
        InputError: the mask has another number of factors.
    """
    pairs = int((layout.query_lengths * layout.key_lengths).sum())
    check(dropout_mask, "hij", "attention dropout_mask", hij=heads * pairs)


def check_attention(q: Array, k: Array, v: Array, bias: Array | None, layout: SequenceLayout, heads: int) -> None:
    """Checks that a kernel will not read outside these arrays. NumPy's indexing checks this by itself.

    Raises:
        InputError: shapes, lengths or positions do not fit each other, a sequence has no key, or the bias has too few
            rows.
    """
    sizes = check(q, "Nq hc", "attention q", Nq=int(layout.query_lengths.sum()))
    check(layout.query_positions, "Nq", "query positions", Nq=sizes["Nq"])
    sizes = check(k, "Nk hc", "attention k", Nk=int(layout.key_lengths.sum()), hc=sizes["hc"])
    check(layout.key_positions, "Nk", "key positions", Nk=sizes["Nk"])
    check(v, "Nk hc", "attention v", **sizes)
    if sizes["hc"] % heads:
        raise InputError("attention", f"columns for {heads} heads", str(sizes["hc"]))
    if layout.key_lengths.min(initial=1) < 1:
        raise InputError("attention", "at least one key in every sequence", "none")
    if bias is not None:
        check(bias, "2D+1 h", "attention bias", h=heads)
        if len(q) and (distance := max_distance(layout)) > bias.shape[0] // 2:
            raise InputError("attention bias", f"a row for distance {distance}", f"shape {list(bias.shape)}")
