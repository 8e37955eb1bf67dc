"""What kernels know of their operands: records of weights and heads, and named tuples, one a group of operands."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

# What a kernel knows of a packed weight: the address of the tile that multiplies with it, the address of its panels,
# lanes of 32 bits in a column, terms in a lane, columns, and the addresses of int8's scales and offsets.
WEIGHT = np.dtype([(name, np.int64) for name in ("tile", "panels", "steps", "terms", "columns", "scales", "offsets")])


# What a head of a sequence attends from and to: its rows of queries and of keys, its first column, and where its
# probabilities begin among those of all heads.
HEAD = np.dtype([(name, np.int64) for name in ("i0", "i1", "j0", "j1", "column", "place")])


class Rows(NamedTuple):
    """Rows of a matrix: the address of the first, and the bytes from each to the next."""

    start: int
    stride: int


class Tile(NamedTuple):
    """The address of a compiled tile, and its terms in a lane."""

    address: int
    terms: int


class Block(NamedTuple):
    """A part of a product: the rows i0 .. i1-1, and the tiles of columns p0 .. p1-1."""

    i0: int
    i1: int
    p0: int
    p1: int


class Layout(NamedTuple):
    """Who attends to whom.

    Args:
        heads: [b h] HEAD.
        query_positions, key_positions: [Nq], [Nk].
        bias: [h 2D+1+16] by distance, times 1/ln 2, with room to read a vector past the end; [h 0] for none.
        c: columns of a head.
        causal: may a query look at keys behind it alone?
    """

    heads: Any
    query_positions: Any
    key_positions: Any
    bias: Any
    c: int
    causal: bool


class Panels(NamedTuple):
    """A head's keys and values as panels: their addresses, how many they are, and columns."""

    keys: int
    values: int
    tokens: int
    c: int
