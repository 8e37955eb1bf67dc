"""The same inputs for every engine: ids of the pairs as a batch, and random states for a decoder to read."""

from __future__ import annotations

import numpy as np

from glimmer_ref.bench.workload import Workload, drawn_states, tokens
from glimmer_ref.ragged import Tokens


def pairs(workload: Workload, end: int) -> np.ndarray:
    """[Q; P_i] of every pair, all of one length: [b k, n_q + n_p] int64.

    Args:
        end: the id of the end of sequence; all other ids are smaller.
    """
    q, p = tokens(end, workload.b, workload.n_q, 1), tokens(end, workload.pairs, workload.n_p, 2)

    def rows(x: Tokens) -> np.ndarray:
        return x.ids.reshape(len(x), -1)

    return np.concatenate([np.repeat(rows(q), workload.k, axis=0), rows(p)], axis=1).astype(np.int64)


def memory(workload: Workload, d: int) -> np.ndarray:
    """Random states for the decoder to read, for each of b questions: [b, read, d] float32."""
    return drawn_states(workload.b * workload.read, d).reshape(workload.b, workload.read, d)
