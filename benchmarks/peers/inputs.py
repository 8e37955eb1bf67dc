"""The same inputs for every engine: ids of the pairs as a batch, and random states for a decoder to read."""

from __future__ import annotations

import numpy as np

from glimmer_ref.bench.work import Work, drawn_states, tokens
from glimmer_ref.ragged import Tokens


def pairs(work: Work, end: int) -> np.ndarray:
    """[Q; P_i] of every pair, all of one length: [b k, n_q + n_p] int64.

    Args:
        end: the id of the end of sequence; all other ids are smaller.
    """
    q, p = tokens(end, work.b, work.n_q, 1), tokens(end, work.pairs, work.n_p, 2)

    def rows(x: Tokens) -> np.ndarray:
        return x.ids.reshape(len(x), -1)

    return np.concatenate([np.repeat(rows(q), work.k, axis=0), rows(p)], axis=1).astype(np.int64)


def memory(work: Work, d: int) -> np.ndarray:
    """Random states for the decoder to read, for each of b questions: [b, read, d] float32."""
    return drawn_states(work.b * work.read, d).reshape(work.b, work.read, d)
