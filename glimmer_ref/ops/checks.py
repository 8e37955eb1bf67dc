"""What is asked of attention's operands before a kernel reads them: it would not notice leaving its arrays."""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from ..ragged import Array, check, offsets
from .interface import SequenceLayout


def reach(layout: SequenceLayout) -> int:
    """The largest distance, either way, between a query and a key of its sequence."""
    some = layout.query_lengths > 0
    q_from, k_from = offsets(layout.query_lengths)[:-1][some], offsets(layout.key_lengths)[:-1]
    most, least = np.maximum.reduceat, np.minimum.reduceat
    ahead = most(layout.key_positions, k_from)[some] - least(layout.query_positions, q_from)
    behind = most(layout.query_positions, q_from) - least(layout.key_positions, k_from)[some]
    return int(max(ahead.max(), behind.max()))


def mask_fits(dropout_mask: Array, layout: SequenceLayout, heads: int) -> None:
    """Refuses a mask without a factor for every head, query and key of a sequence."""
    pairs = int((layout.query_lengths * layout.key_lengths).sum())
    check(dropout_mask, "hij", "attention dropout_mask", hij=heads * pairs)


def fits(q: Array, k: Array, v: Array, bias: Array | None, layout: SequenceLayout, heads: int) -> None:
    """Refuses what would make the kernel read outside its arrays, where NumPy's own indexing stops."""
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
        if len(q) and reach(layout) > bias.shape[0] // 2:
            raise InputError("attention bias", f"a row for distance {reach(layout)}", f"shape {list(bias.shape)}")
