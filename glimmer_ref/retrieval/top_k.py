"""The exact k best of very many scores: ties go to the lower row, and one block is in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..ragged import Ints

BLOCK = 4096  # rows whose scores are computed at a time


def best(scores: np.ndarray, rows: Ints, k: int) -> tuple[np.ndarray, Ints]:
    """The k best scores and their rows, best first; equal scores keep their order."""
    if k < scores.size:
        lowest = np.partition(scores, scores.size - k)[scores.size - k]
        above = np.flatnonzero(scores > lowest)
        tied = np.flatnonzero(scores == lowest)[: k - above.size]
        kept = np.sort(np.concatenate([above, tied]))
        scores, rows = scores[kept], rows[kept]
    order = np.argsort(-scores, kind="stable")
    return scores[order], rows[order]


def top_k(questions: np.ndarray, blocks: Iterable[np.ndarray], k: int) -> tuple[np.ndarray, Ints]:
    """argtop-k_i q . e_i over all rows of the blocks, best first, ties to the lower row: [q k] scores, [q k] rows.

    A score depends only on the row and the question: smaller blocks are filled up with zeros to `BLOCK` rows, so that
    a product is summed in the same order wherever the row stands.

    Args:
        questions: [q e] float32.
        blocks: [n e] each, n at most `BLOCK`, in float32 or a narrower type, which becomes float32.

    Paper: 4.1 inner product
    """
    q, first = len(questions), 0
    scores, rows = np.full((q, 0), -np.inf, np.float32), np.zeros((q, 0), np.int64)
    padded, columns = np.zeros((BLOCK, questions.shape[1]), np.float32), np.ascontiguousarray(questions.T)
    for block in blocks:
        n = len(block)
        if n < BLOCK or block.dtype != np.float32:
            padded[:n], padded[n:] = block, 0
            block = padded
        # The long side goes first: with 16 questions, BLAS takes half the time of questions @ block.T.
        found = np.ascontiguousarray((block @ columns)[:n].T)
        lowest = scores[:, -1:] if scores.shape[1] == k else np.full((q, 1), -np.inf)
        width = min(k, scores.shape[1] + n)
        kept_scores, kept_rows = np.empty((q, width), np.float32), np.empty((q, width), np.int64)
        for i in range(q):
            new = np.flatnonzero(found[i] > lowest[i])  # an equal score ranks behind the earlier ones
            here = np.concatenate([scores[i], found[i, new]]), np.concatenate([rows[i], new + first])
            kept_scores[i], kept_rows[i] = best(*here, width)
        scores, rows, first = kept_scores, kept_rows, first + n
    return scores, rows
