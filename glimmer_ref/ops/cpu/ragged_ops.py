"""Operations of `cpu.ops` that only move numbers, or touch each once: NumPy, sequence by sequence."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ...ragged import Array, Ints, offsets


def interleave_concat(x: Array, x_lengths: Ints, y: Array, y_lengths: Ints) -> Array:
    parts, xs, ys = [], offsets(x_lengths), offsets(y_lengths)
    for i in range(len(x_lengths)):
        parts += [x[xs[i] : xs[i + 1]], y[ys[i] : ys[i + 1]]]
    return np.concatenate(parts)


def interleave_concat_backward(dy: Array, x: Array, x_lengths: Ints, y: Array, y_lengths: Ints) -> tuple[Array, Array]:
    starts, middles = offsets(x_lengths + y_lengths), offsets(x_lengths + y_lengths)[:-1] + x_lengths
    dx = np.concatenate([dy[:0], *(dy[a:b] for a, b in zip(starts, middles, strict=False))])
    return dx, np.concatenate([dy[:0], *(dy[a:b] for a, b in zip(middles, starts[1:], strict=True))])


def gather_sequences(x: Array, lengths: Ints, index: Ints) -> Array:
    starts = offsets(lengths)
    return np.concatenate([x[:0], *(x[starts[i] : starts[i] + lengths[i]] for i in index)])


def gather_sequences_backward(dy: Array, x: Array, lengths: Ints, index: Ints) -> tuple[Array]:
    dx, starts, begin = np.zeros(x.shape, x.dtype), offsets(lengths), 0
    for i in index:
        dx[starts[i] : starts[i] + lengths[i]] += dy[begin : begin + lengths[i]]
        begin += lengths[i]
    return (dx,)


def first_token(x: Array, lengths: Ints) -> Array:
    return np.take(x, offsets(lengths)[:-1], axis=0)


def first_token_backward(dy: Array, x: Array, lengths: Ints) -> tuple[Array]:
    dx = np.zeros(x.shape, x.dtype)
    dx[offsets(lengths)[:-1]] = dy
    return (dx,)


def mean(x: Array, lengths: Ints) -> Array:
    return np.array([x[a:b].mean(axis=0) for a, b in pairwise(offsets(lengths))])


def mean_backward(dy: Array, x: Array, lengths: Ints) -> tuple[Array]:
    return (np.repeat(dy / lengths[:, None].astype(dy.dtype), lengths, axis=0),)
