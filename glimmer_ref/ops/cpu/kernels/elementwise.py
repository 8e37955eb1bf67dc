"""The loops of `cpu.ops`: each does the tasks first .. last-1, in one thread, in one fixed order.

fastmath is off, so a loop vectorises only where no order of adding changes: along the columns of a
product, or where halves of a row are added to each other.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numba.extending import overload, register_jitable

from ..runtime.compile_cache import Kernel

ROWS = 192  # queries of one attention task, at most: with some 350 keys their scores fill 256 KiB

INVERSE_FACTORIALS = tuple(np.float32(1 / math.factorial(n)) for n in range(8))
LOG2_E = np.float32(1 / math.log(2))
LN2_HIGH = np.float32(0.693359375)  # so few bits that a whole number times it is exact
LN2_LOW = np.float32(math.log(2) - 0.693359375)
ROUND = np.float32(1.5 * 2**23)  # a float32 of this size has no fraction: adding it rounds to whole


def _exp32(x: Any) -> Any:
    """e^x = 2^n e^r with n whole, |r| <= ln(2)/2, e^r by Taylor; 0 below -87.3, infinity above 88.3."""
    shifted = np.float32(x * LOG2_E + ROUND)  # n now stands in the lowest bits
    n = shifted - ROUND
    r = x - n * LN2_HIGH - n * LN2_LOW
    e = INVERSE_FACTORIALS[7]  # the next term is at most 5e-9
    for i in range(6, -1, -1):
        e = e * r + INVERSE_FACTORIALS[i]
    power = np.int32((shifted.view(np.int32) << 23) + (127 << 23)).view(np.float32)
    e = np.float32(np.inf) if x > np.float32(88.3) else e * power
    return np.float32(0) if x < np.float32(-87.3) else e  # NaN is neither, and stays NaN


def _exp64(x: Any) -> Any:
    return math.exp(x)


def exp(x: Any) -> Any:
    """e^x. Compiled for float32 it is `_exp32`, which vectorises; the C library's does not."""
    return np.exp(x)


@overload(exp)
def _exp_of(x: Any) -> Any:
    return _exp32 if x == numba.types.float32 else _exp64


@register_jitable
def fold(x: Any) -> Any:
    """The sum of x, which is overwritten: its upper half is added to the lower until one number is left."""
    n = len(x)
    while n > 1:
        half = (n + 1) // 2
        for i in range(n - half):
            x[i] += x[half + i]
        n = half
    return x[0]


@register_jitable
def largest(x: Any, scratch: Any) -> Any:
    """The largest of x, found in the same way. A NaN may be passed over: it will spoil the sum."""
    n = len(x)
    for i in range(n):
        scratch[i] = x[i]
    while n > 1:
        half = (n + 1) // 2
        for i in range(n - half):
            scratch[i] = scratch[half + i] if scratch[half + i] > scratch[i] else scratch[i]
        n = half
    return scratch[0]


@register_jitable
def softmax(row: Any, scratch: Any) -> Any:
    """row becomes e^(row - top); returns top, which is its largest number, and the sum."""
    top = largest(row, scratch)
    for j in range(len(row)):
        e = exp(row[j] - top)
        row[j] = e
        scratch[j] = e
    return top, fold(scratch[: len(row)])


@Kernel
def rms_norm(first: int, last: int, x: Any, gain: Any, eps: float, out: Any) -> None:
    """A task is a row, read twice: for the sum, which is made in float64, and for the result."""
    d = x.shape[1]
    squares = np.empty(d)
    for row in range(first, last):
        for j in range(d):
            squares[j] = np.float64(x[row, j]) * np.float64(x[row, j])
        root = x.dtype.type(math.sqrt(fold(squares) / d + eps))
        for j in range(d):
            out[row, j] = x[row, j] / root * gain[j]


@Kernel
def gated_gelu(first: int, last: int, a: Any, b: Any, out: Any) -> None:
    """A task is a row, read once: (1 + tanh(y)) / 2 = 1 / (1 + e^-2y), exact far below 0 as well."""
    one, slope, cubic = a.dtype.type(1), a.dtype.type(-2 * math.sqrt(2 / math.pi)), a.dtype.type(0.044715)
    for row in range(first, last):
        for j in range(a.shape[1]):
            x = a[row, j]
            out[row, j] = x / (one + exp(slope * (x + cubic * x * x * x))) * b[row, j]


@register_jitable
def _product(a: Any, b: Any, out: Any) -> None:
    """out = a b for matrices in cache, two rows and four terms at a time, along the columns of b.

    a may lie in memory in any way. out has one row more than a, for the partner of an odd last one.
    """
    rows, inner, columns = a.shape[0], a.shape[1], b.shape[1]
    for i in range(0, rows, 2):
        upper, lower, last = out[i], out[i + 1], min(i + 1, rows - 1)
        for j in range(columns):
            upper[j] = 0
            lower[j] = 0
        for k in range(0, inner - 3, 4):
            a0, a1, a2, a3 = a[i, k], a[i, k + 1], a[i, k + 2], a[i, k + 3]
            c0, c1, c2, c3 = a[last, k], a[last, k + 1], a[last, k + 2], a[last, k + 3]
            for j in range(columns):
                b0, b1, b2, b3 = b[k, j], b[k + 1, j], b[k + 2, j], b[k + 3, j]
                upper[j] = upper[j] + a0 * b0 + a1 * b1 + a2 * b2 + a3 * b3
                lower[j] = lower[j] + c0 * b0 + c1 * b1 + c2 * b2 + c3 * b3
        for k in range(inner - inner % 4, inner):
            for j in range(columns):
                upper[j] += a[i, k] * b[k, j]
                lower[j] += a[last, k] * b[k, j]


@register_jitable
def _score_one(k: Any, head: int, query: Any, row: Any) -> None:
    """row = k query for a single query, as in decoding.

    Four keys go side by side, because the additions for one of them wait for each other.
    """
    end = len(k) - 1
    for j0 in range(0, len(k), 4):
        j1, j2, j3 = min(j0 + 1, end), min(j0 + 2, end), min(j0 + 3, end)
        s0 = s1 = s2 = s3 = query.dtype.type(0)
        for e in range(len(query)):
            s0 += query[e] * k[j0, head, e]
            s1 += query[e] * k[j1, head, e]
            s2 += query[e] * k[j2, head, e]
            s3 += query[e] * k[j3, head, e]
        row[j0], row[j1], row[j2], row[j3] = s0, s1, s2, s3


@register_jitable
def _mix_one(row: Any, v: Any, head: int, out: Any) -> None:
    """out = row v for a single query, along the values as they lie."""
    for e in range(v.shape[2]):
        out[e] = 0
    for j in range(len(v)):
        for e in range(v.shape[2]):
            out[e] += row[j] * v[j, head, e]


@register_jitable
def _seen(k_at: Any, newest: int) -> int:
    """How many keys there are up to the last that `newest` may see; those after it cost nothing."""
    count = len(k_at)
    while count > 1 and k_at[count - 1] > newest:
        count -= 1
    return count


@register_jitable
def _softmax_columns(scores: Any, bias: Any, k_at: Any, q_at: Any, causal: bool, top: Any, total: Any) -> None:
    """scores [j i] become e^(score + bias[D + distance] - top_i), and `total` their sums over j."""
    top[:] = -np.inf
    total[:] = 0
    for j in range(len(k_at)):
        for i in range(len(q_at)):
            if len(bias) > 0:
                scores[j, i] += bias[np.uint64(len(bias) // 2 + k_at[j] - q_at[i])]
            if causal and k_at[j] > q_at[i]:
                scores[j, i] = -np.inf
            top[i] = scores[j, i] if scores[j, i] > top[i] else top[i]  # the sum will show a NaN
    for j in range(len(k_at)):
        for i in range(len(q_at)):
            scores[j, i] = exp(scores[j, i] - top[i])
            total[i] += scores[j, i]


@Kernel
def attention(
    first: int, last: int, q: Any, k: Any, v: Any, bias: Any, blocks: Any, q_at: Any, k_at: Any, causal: bool,
    out: Any, probs: Any,
) -> None:  # fmt: skip
    """A task is one head of one block of queries; its scores [j i] stay in cache, queries side by side.

    q, k, v, out are [N h c], bias is [h 2D+1], or [h 0] for none. A row of blocks [B 6] is: first
    query, queries, first key, keys, where `probs` takes head 0, and how much further on the next.
    Without v, `probs` is written, else `out`.
    """
    c, widest, longest = q.shape[2], blocks[:, 1].max(), blocks[:, 3].max()
    some_queries, some_scores = np.empty(c * widest, q.dtype), np.empty((longest + 1) * widest, q.dtype)
    some_mixed, top, total = np.empty((c + 1) * widest, q.dtype), np.empty(widest, q.dtype), np.empty(widest, q.dtype)
    for task in range(first, last):
        head, block = task // len(blocks), blocks[task % len(blocks)]
        i0, count, j0, seen = block[0], block[1], block[2], block[3]
        place, i_at = block[4] + head * block[5], q_at[i0 : i0 + count]
        if causal:
            seen = _seen(k_at[j0 : j0 + seen], i_at.max())
        keys, values, j_at = k[j0 : j0 + seen], v[j0 : j0 + seen], k_at[j0 : j0 + seen]
        scores = some_scores[: (seen + 1) * count].reshape(seen + 1, count)
        if count == 1:
            _score_one(keys, head, q[i0, head], some_scores)
        else:
            queries = some_queries[: c * count].reshape(c, count)
            for i in range(count):
                for e in range(c):
                    queries[e, i] = q[i0 + i, head, e]
            _product(keys[:, head], queries, scores)
        _softmax_columns(scores, bias[head], j_at, i_at, causal, top, total)
        mixed = some_mixed[: (c + 1) * count].reshape(c + 1, count)
        if len(v) == 0:
            for i in range(count):
                for j in range(seen):
                    probs[place + i * block[3] + j] = scores[j, i] / total[i]
        elif count == 1:
            _mix_one(some_scores, values, head, some_mixed)
        else:
            _product(values[:, head].T, scores, mixed)
        if len(v) > 0:
            for i in range(count):
                for e in range(c):
                    out[i0 + i, head, e] = mixed[e, i] / total[i]


@Kernel
def log_probs(first: int, last: int, logits: Any, chosen: Any, out: Any) -> None:
    """A task is a row: out = log softmax(row) of the token whose logit is `chosen`."""
    weights, scratch = np.empty(logits.shape[1], logits.dtype), np.empty(logits.shape[1], logits.dtype)
    for row in range(first, last):
        for j in range(len(weights)):
            weights[j] = logits[row, j]
        top, total = softmax(weights, scratch)
        out[row] = (chosen[row] - top) - logits.dtype.type(math.log(total))
