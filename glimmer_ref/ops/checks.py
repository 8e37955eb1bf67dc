"""What is asked of attention's operands before a kernel reads them: it would not notice leaving its arrays."""

from __future__ import annotations

import numpy as np

from ..errors import Refused
from ..ragged import Array, check, offsets
from .interface import Spans


def reach(spans: Spans) -> int:
    """The largest distance, either way, between a query and a key of its sequence."""
    some = spans.query_lengths > 0
    q_from, k_from = offsets(spans.query_lengths)[:-1][some], offsets(spans.key_lengths)[:-1]
    most, least = np.maximum.reduceat, np.minimum.reduceat
    ahead = most(spans.key_positions, k_from)[some] - least(spans.query_positions, q_from)
    behind = most(spans.query_positions, q_from) - least(spans.key_positions, k_from)[some]
    return int(max(ahead.max(), behind.max()))


def fits(q: Array, k: Array, v: Array, bias: Array | None, spans: Spans, heads: int) -> None:
    """Refuses what would make the kernel read outside its arrays, where NumPy's own indexing stops."""
    sizes = check(q, "Nq hc", "attention q", Nq=int(spans.query_lengths.sum()))
    check(spans.query_positions, "Nq", "query positions", Nq=sizes["Nq"])
    sizes = check(k, "Nk hc", "attention k", Nk=int(spans.key_lengths.sum()), hc=sizes["hc"])
    check(spans.key_positions, "Nk", "key positions", Nk=sizes["Nk"])
    check(v, "Nk hc", "attention v", **sizes)
    if sizes["hc"] % heads:
        raise Refused("attention", f"columns for {heads} heads", str(sizes["hc"]))
    if spans.key_lengths.min(initial=1) < 1:
        raise Refused("attention", "at least one key in every sequence", "none")
    if bias is not None:
        check(bias, "2D+1 h", "attention bias", h=heads)
        if len(q) and reach(spans) > bias.shape[0] // 2:
            raise Refused("attention bias", f"a row for distance {reach(spans)}", f"shape {list(bias.shape)}")
