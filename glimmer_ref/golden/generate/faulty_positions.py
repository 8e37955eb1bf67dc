"""Common mistakes with positions and with the bias that follows from them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ...ops import SequenceLayout
from ...ragged import Array, Ints, token_positions
from .faulty_ops import FaultyOps


def bias_reversed(self: FaultyOps, q: Array, k: Array, v: Array, bias: Array | None, *rest: Any) -> Array:
    return self.ops.attention(q, k, v, None if bias is None else bias[::-1], *rest)


def bias_in_first_layers(self: FaultyOps, q: Array, k: Array, v: Array, bias: Array | None, *rest: Any) -> Array:
    return self.ops.attention(q, k, v, None if re.search(r"layer_[1-9]", self.path) else bias, *rest)


def bias_across(
    self: FaultyOps, q: Array, k: Array, v: Array, bias: Array | None, layout: SequenceLayout, *rest: Any
) -> Array:
    if bias is None and "cross_attention" in self.path:
        reach = int(max(layout.query_positions.max(), layout.key_positions.max()))
        bias = self.model.decoder.relative_attention_bias[self.buckets(reach, False)]
    return self.ops.attention(q, k, v, bias, layout, *rest)


def positions_restarted(
    self: FaultyOps, q: Array, k: Array, v: Array, bias: Array | None, layout: SequenceLayout, *rest: Any
) -> Array:
    if re.match(r"live|reranker|encoder\.", self.path):
        begin = self.case.config.passage_offset or self.case.question
        at = np.where(layout.key_positions >= begin, layout.key_positions - begin, layout.key_positions)
        layout = layout._replace(query_positions=at, key_positions=at)
    return self.ops.attention(q, k, v, bias, layout, *rest)


def encoders_buckets(self: FaultyOps, table: Array, ids: Ints) -> Array:
    mine = self.path.startswith("decoder.") and len(table) == self.model.config.t5.relative_attention_num_buckets
    return self.ops.embed(table, self.buckets(len(ids) // 2, True) if mine else ids)


def bias_missing(*paths: str) -> Callable[..., Any]:
    """Leaves out the position bias in scopes that match one of `paths` from their start."""

    def attention(self: FaultyOps, q: Array, k: Array, v: Array, bias: Array | None, *rest: Any) -> Array:
        missing = any(re.match(path, self.path) for path in paths)
        return self.ops.attention(q, k, v, None if missing else bias, *rest)

    return attention


def passages_at(begins: Callable[[FaultyOps, Ints], Ints]) -> Callable[..., Any]:
    """Moves the passages of the pairs [Q; P].

    Args:
        begins: the position of each passage's first token, from the lengths of the passages.
    """

    def attention(
        self: FaultyOps, q: Array, k: Array, v: Array, bias: Array | None, layout: SequenceLayout, *rest: Any
    ) -> Array:
        if not re.match(r"live|reranker|encoder\.", self.path):
            return self.ops.attention(q, k, v, bias, layout, *rest)
        stack = re.sub(r"^(encoder\.)?([a-z]+).*", r"\2", self.path)
        n, lengths = self.case.question, layout.key_lengths
        i = token_positions(lengths)
        at = np.where(i < n, i, i - n + np.repeat(begins(self, lengths - n), lengths))
        bias = getattr(self.model, stack).relative_attention_bias[self.buckets(int(at.max()), True)]
        return self.ops.attention(q, k, v, bias, layout._replace(query_positions=at, key_positions=at), *rest)

    return attention


def behind_left_padding(width: int = 0) -> Callable[[FaultyOps, Ints], Ints]:
    """Where a passage begins that is padded on its left to `width` tokens, or to the longest passage."""

    def begins(self: FaultyOps, lengths: Ints) -> Ints:
        return (self.case.config.passage_offset or self.case.question) + (width or max(self.case.passages)) - lengths

    return begins


def behind_padded_question(width: int) -> Callable[[FaultyOps, Ints], Ints]:
    """Where a passage begins behind a question that is padded to `width` tokens."""
    return lambda self, lengths: np.full_like(lengths, width)


def rounded_buckets(distance: Ints, bidirectional: bool, num_buckets: int, max_distance: int) -> Ints:
    """The buckets of distances if their logarithms are rounded to the nearest whole number, not down."""
    ahead = np.zeros_like(distance)
    if bidirectional:
        num_buckets //= 2
        ahead = np.where(distance > 0, num_buckets, 0)
    behind = np.abs(distance) if bidirectional else np.maximum(-distance, 0)
    exact = num_buckets // 2
    growth = np.log(np.maximum(behind, exact) / exact) / np.log(max_distance / exact)
    far = np.minimum(exact + np.rint(growth * (num_buckets - exact)).astype(np.int64), num_buckets - 1)
    return ahead + np.where(behind < exact, behind, far)


def buckets_rounded(self: FaultyOps, table: Array, ids: Ints) -> Array:
    t5 = self.model.config.t5
    if len(table) == t5.relative_attention_num_buckets:
        reach, bidirectional = len(ids) // 2, not self.path.startswith("decoder.")
        sizes = t5.relative_attention_num_buckets, t5.relative_attention_max_distance
        ids = rounded_buckets(np.arange(-reach, reach + 1), bidirectional, *sizes)
    return self.ops.embed(table, ids)
