"""Descriptors of the operands of kernels: records for weights and heads, and a named tuple for each operand group."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

# The descriptor of a packed weight: the address of the tile that multiplies with it, the address of its panels, the
# lanes of 32 bits in a column, the terms in a lane, the columns, and the addresses of the scales and offsets of int8.
WEIGHT = np.dtype([(name, np.int64) for name in ("tile", "panels", "steps", "terms", "columns", "scales", "offsets")])


# The descriptor of a head of a sequence: its rows i0 .. i1-1 of queries and j0 .. j1-1 of keys, its first column, and
# the index of its first probability among those of all heads.
HEAD = np.dtype([(name, np.int64) for name in ("i0", "i1", "j0", "j1", "column", "probs_start")])


class Rows(NamedTuple):
    """Rows of a matrix: the address of the first row, and the distance of two rows in bytes."""

    start: int
    stride: int


class Tile(NamedTuple):
    """A compiled tile: its address, and the number of terms in a lane."""

    address: int
    terms: int


class Block(NamedTuple):
    """A part of a product: the rows i0 .. i1-1, and the tiles of columns p0 .. p1-1."""

    i0: int
    i1: int
    p0: int
    p1: int


class Layout(NamedTuple):
    """The sequences and heads of an attention, with positions and biases.

    Args:
        heads: [b h] HEAD.
        query_positions, key_positions: [Nq], [Nk].
        bias: [h 2D+1+16] by distance, times 1/ln 2, with room to read a vector past the end; [h 0] if there is none.
        c: columns of a head.
        causal: whether a query attends only to keys whose position is not larger than its own.
    """

    heads: Any
    query_positions: Any
    key_positions: Any
    bias: Any
    c: int
    causal: bool


class Panels(NamedTuple):
    """The keys and values of a head as panels: their addresses, the number of tokens, and the columns of the head."""

    keys: int
    values: int
    tokens: int
    c: int
