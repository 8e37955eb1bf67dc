"""The encoder's blocks as one kernel each: what cpu.ops tells op by op, without going back to memory between.

A kernel works in phases (see `threads`): rows are normalised, multiplied tile by tile with what follows done to each
tile while it is in the first cache, attended, multiplied again.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numba.extending import register_jitable

from ...ragged import Array, Ints, check, offsets
from ..interface import SequenceLayout
from .kernels.attention import attend_head, room
from .kernels.epilogue import ADD, GATE, RELU, STORE
from .kernels.gemm import BLOCK_BYTES, COLUMNS, PAIR, TERMS, Packed, apart, attended_in, pack, product
from .kernels.llvm_ir import LANES
from .kernels.memory import address, scratch
from .kernels.microkernel import ROWS
from .kernels.rows import prepare
from .kernels.simd import LOG2_E
from .runtime.allocator import aligned, plain
from .runtime.compile_cache import Kernel
from .runtime.thread_pool import done, run, take, wait

PREPARED = 32  # rows of one task that prepares


@register_jitable
def prepare_phase(counters: Any, phase: int, x: Any, gain: Any, eps: float, terms: int, out: Any, scales: Any) -> Any:
    """Rows of x normalised and made ready for a product: see `prepare`."""
    tasks = -(-len(x) // PREPARED)
    task = take(counters, phase)
    while task < tasks:
        prepare(x, gain, eps, terms, out, scales, task * PREPARED, min(len(x), (task + 1) * PREPARED))
        done(counters, phase)
        task = take(counters, phase)
    wait(counters, phase, tasks)


@register_jitable
def product_phase(
    counters: Any, phase: int, threads: int, mode: int, ws: Any, a: Any, a_row: int, scales: Any, rows: int, x: Any,
    outs: Any,
) -> Any:  # fmt: skip
    """outs[i] = a ws[i] for each of the weights; with GATE there are two weights and one result.

    A task is a block of rows, which stays in the second cache, times some panels: all of them, unless
    there are so few rows that threads would have nothing to do.
    """
    several = 1 if mode == GATE else len(ws)
    columns = LANES if mode == GATE else PAIR
    block = ROWS * max(1, min(10, BLOCK_BYTES // (ROWS * a_row)))
    blocks = -(-rows // block)
    parts = 1 if blocks * several >= 8 * threads else -(-8 * threads // (blocks * several))
    tasks = blocks * several * parts
    tile = scratch(ROWS * PAIR).reshape(ROWS, PAIR)
    task = take(counters, phase)
    while task < tasks:
        b, rest = task // (several * parts), task % (several * parts)
        n, part = rest // parts, rest % parts
        pairs = -(-ws[n, COLUMNS] // columns)
        product(
            mode, ws[n], ws[len(ws) - 1] if mode == GATE else ws[n], a, a_row, scales, rows * b // blocks,
            rows * (b + 1) // blocks, pairs * part // parts, pairs * (part + 1) // parts, tile, x, outs[n],
        )  # fmt: skip
        done(counters, phase)
        task = take(counters, phase)
    wait(counters, phase, tasks)


@register_jitable
def attention_phase(
    counters: Any, phase: int, threads: int, tile: int, terms: int, q: Any, k: Any, v: Any, bias: Any, layout: Any,
    q_at: Any, k_at: Any, heads: int, c: int, causal: bool, out: Any,
) -> Any:  # fmt: skip
    """A task is a head of a sequence. spans [b 4]: first query, end, first key, end; bias [h 2D+1+16]."""
    longest = 0
    for s in range(len(layout)):
        longest = max(longest, layout[s, 3] - layout[s, 2])
    sizes = room(longest, c)
    packed, scores, biases = scratch(sizes[0]), scratch(sizes[1]), scratch(sizes[2])
    mixed, totals = scratch(ROWS * PAIR).reshape(ROWS, PAIR), scratch(ROWS)
    reach = (bias.shape[1] - LANES - 1) // 2 if bias.shape[1] else -1
    tasks = heads * len(layout)
    task = take(counters, phase)
    while task < tasks:
        head = task % heads
        attend_head(
            tile, terms, q, k, v, bias[head], reach, q_at, k_at, layout[task // heads], head * c,
            (head + threads) % heads * c, c, causal, packed, scores, biases, mixed, totals, out,
        )  # fmt: skip
        done(counters, phase)
        task = take(counters, phase)
    wait(counters, phase, tasks)


@register_jitable
def ready_phase(counters: Any, phase: int, terms: int, x: Any, again: Any, scales: Any) -> Any:
    """Address and distance of x's rows as left operands: as they are in float32, else made ready in `again`."""
    if terms == 1:
        return address(x), 4 * x.shape[1]
    prepare_phase(counters, phase, x, x[0, :0], 0.0, terms, again, scales)
    return address(again), again.shape[1]


@Kernel
def attention_block_kernel(
    counters: Any, threads: int, tile: int, halves: int, x: Any, gain: Any, eps: float, ws: Any, prepared: Any,
    scales: Any, qkv: Any, q: Any, k: Any, v: Any, bias: Any, layout: Any, q_at: Any, k_at: Any, heads: int,
    causal: bool, mixed: Any, again: Any, out: Any,
) -> None:  # fmt: skip
    """out = x + o(attention(q n, k n, v n)), n = norm(x); or mixed = attention(q, k, v) alone, without weights.

    Both in one kernel, since what takes long to compile is attention.

    Args:
        tile, halves: those of attention, see `attended_in`.
        ws: [4 8] facts of q, k, v, o, or [0 8].
        qkv: [3 N hc] where products go, q k v being its parts; [0 N hc] without weights.
    """
    terms, a, a_row = ws[0, TERMS] if len(ws) else 1, address(prepared), prepared.shape[1]
    if len(ws):
        prepare_phase(counters, 0, x, gain, eps, terms, prepared, scales)
        product_phase(counters, 1, threads, STORE, ws[:3], a, a_row, scales, len(x), x, qkv)
    c = q.shape[1] // heads
    attention_phase(counters, 2, threads, tile, halves, q, k, v, bias, layout, q_at, k_at, heads, c, causal, mixed)
    if len(ws) == 0:
        return
    if terms == 1:
        a, a_row = address(mixed), 4 * mixed.shape[1]
    else:
        prepare_phase(counters, 3, mixed, gain[:0], eps, terms, again, scales)
        a, a_row = address(again), again.shape[1]
    product_phase(counters, 4, threads, ADD, ws[3:], a, a_row, scales, len(x), x, out.reshape(1, len(x), out.shape[1]))


@Kernel
def feed_forward_kernel(
    counters: Any, threads: int, mode: int, x: Any, gain: Any, eps: float, ws: Any, prepared: Any, scales: Any,
    hidden: Any, again: Any, out: Any,
) -> None:  # fmt: skip
    """out = x + wo(gelu(wi_0 n) * (wi_1 n)), n = norm(x); or hidden = x w alone, if there is one weight and no gain.

    Args:
        ws: [3 8] facts of wi_0, wi_1, wo, [2 8] without a gate, [1 8] for one product.
    """
    terms, a, a_row = ws[0, TERMS], address(prepared), prepared.shape[1]
    last = len(ws) - 1
    prepare_phase(counters, 0, x, gain, eps, terms, prepared, scales)
    product_phase(counters, 1, threads, mode, ws[: max(1, last)], a, a_row, scales, len(x), x, hidden)
    if last == 0:
        return
    a, a_row = address(hidden), 4 * hidden.shape[2]
    if terms != 1:
        prepare_phase(counters, 2, hidden[0], gain[:0], eps, terms, again, scales)
        a, a_row = address(again), again.shape[1]
    product_phase(
        counters, 3, threads, ADD, ws[last:], a, a_row, scales, len(x), x, out.reshape(1, len(x), out.shape[1])
    )


def prepared(x: Array, terms: int, w: Packed) -> tuple[Array, Array]:
    """Empty room for the rows of x made ready for w, and for their scales."""
    return aligned(len(x), apart(terms, w.group), dtype=np.uint8), aligned(len(x) if w.group == 4 else 0)


def between(rows: int, columns: int, w: Packed) -> tuple[Array, Array]:
    """Empty room for a result [rows columns] that w is multiplied with next, and for its rows made ready.

    In float32 they are ready as they are, their rows an odd number of cache lines apart.
    """
    if w.group == 1:
        return aligned(rows, apart(columns, 1) // 4), aligned(0, 1, dtype=np.uint8)
    return aligned(rows, columns), aligned(rows, apart(columns, w.group), dtype=np.uint8)


def facts(*ws: Packed) -> Ints:
    """What kernels know of some weights: [n 8]."""
    return np.stack([w.facts for w in ws])


def bounds(layout: SequenceLayout) -> Ints:
    """First query, end, first key and end of each sequence: [b 4]."""
    queries, keys = offsets(layout.query_lengths), offsets(layout.key_lengths)
    return np.stack([queries[:-1], queries[1:], keys[:-1], keys[1:]], axis=1)


def by_head(bias: Array | None, heads: int) -> Array:
    """[2D+1 h] -> [h 2D+1+16] times 1/ln 2: a head's biases in one line, with room to read a vector past the end."""
    if bias is None:
        return np.zeros((heads, 0), np.float32)
    return np.concatenate([bias.T * LOG2_E, np.zeros((heads, LANES), np.float32)], axis=1)


def cost(rows: int, *ws: Packed) -> int:
    """About how many additions' time products take, sixteen at once; few rows wait for memory."""
    return sum(max(rows, 8 // w.group) * w.shape[0] * w.shape[1] for w in ws) // LANES


def attention_block(t5: Any, w: Any, x: Array, bias: Array, layout: SequenceLayout) -> Any:
    """x + o(attention(q n, k n, v n)), n = norm(x), in packed weights: [N d] -> [N d]."""
    if not isinstance(w.q, Packed):
        return NotImplemented
    check(x, "N d", "attention_block x", N=int(layout.query_lengths.sum()), d=w.q.shape[0])
    x, heads, columns = plain(x), t5.num_heads, w.q.columns
    rows, scales = prepared(x, x.shape[1], w.q)
    mixed, again = between(len(x), columns, w.o)
    qkv, out = aligned(3, len(x), columns), aligned(len(x), w.o.columns)
    area = int((layout.query_lengths * layout.key_lengths).sum())
    at = plain(layout.query_positions, np.int64)
    work = cost(len(x), w.q, w.k, w.v, w.o) + area * (2 * columns + 16 * heads) // LANES
    run(
        attention_block_kernel, 5, work, *attended_in(w.q.precision), x, plain(w.norm), float(t5.layer_norm_epsilon),
        facts(w.q, w.k, w.v, w.o), rows, scales, qkv, *qkv, by_head(bias, heads), bounds(layout), at, at, heads, False,
        mixed, again, out,
    )  # fmt: skip
    return out


def feed_forward_block(t5: Any, w: Any, x: Array, lengths: Ints) -> Any:
    """x + wo(gelu(wi_0 n) * (wi_1 n)), n = norm(x), in packed weights: [N d] -> [N d]."""
    if not isinstance(w.wo, Packed):
        return NotImplemented
    check(x, "N d", "feed_forward_block x", d=w.wo.columns)
    x, ws = plain(x), [u for u in (w.wi_0, w.wi_1, w.wo) if u is not None]
    rows, scales = prepared(x, x.shape[1], w.wi_0)
    hidden, again = between(len(x), w.wi_0.columns, w.wo)
    out = aligned(len(x), w.wo.columns)
    run(
        feed_forward_kernel, 4, cost(len(x), *ws), RELU if w.wi_1 is None else GATE, x, plain(w.norm),
        float(t5.layer_norm_epsilon), facts(*ws), rows, scales, hidden.reshape(1, *hidden.shape), again, out,
    )  # fmt: skip
    return out


def warm_up() -> None:
    """Each kernel run once on one number."""
    x, one = np.ones((1, 1), np.float32), np.ones(1, np.int64)
    w = pack(x, "float32")
    weights = SimpleNamespace(norm=x[0], q=w, k=w, v=w, o=w, wi_0=w, wi_1=w, wo=w)
    t5 = SimpleNamespace(num_heads=1, layer_norm_epsilon=1e-6)
    attention_block(t5, weights, x, x, SequenceLayout(one, one, one, one))
    feed_forward_block(t5, weights, x, one)
