"""The encoder's attention block and feed-forward block as one kernel each, so that fewer results go through memory.

A kernel works in phases (see `thread_pool`): it normalises rows, multiplies them tile by tile, computes attention, and
multiplies again. The operation that follows a product is applied to each tile while it is in the first-level cache.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable

from ...ragged import Array, Ints, check, offsets
from ..interface import SequenceLayout
from .kernels.attention import attend_head, head_scratch, longest_keys
from .kernels.descriptors import HEAD, Block, Layout, Rows, Tile
from .kernels.epilogue import ADD, GATE, RELU, STORE
from .kernels.gemm import BLOCK_BYTES, PAIR, Packed, attended_in, descriptors, pack, product, row_stride
from .kernels.llvm_ir import LANES
from .kernels.memory import address, scratch
from .kernels.microkernel import ROWS
from .kernels.rows import prepare
from .kernels.simd import LOG2_E
from .runtime.allocator import aligned, plain
from .runtime.compile_cache import Kernel
from .runtime.thread_pool import barrier, finish_task, next_task, run_phased

PREPARED = 32  # rows that one task of `prepare_phase` prepares
NO_GAIN = np.zeros(0, np.float32)


@register_jitable
def prepare_phase(counters: Any, phase: int, x: Any, gain: Any, eps: float, terms: int, out: Any, scales: Any) -> Any:
    """Normalises the rows of x, and prepares them as left operands of a product: see `prepare`."""
    tasks = -(-len(x) // PREPARED)
    task = next_task(counters, phase)
    while task < tasks:
        prepare(x, gain, eps, terms, out, scales, task * PREPARED, min(len(x), (task + 1) * PREPARED))
        finish_task(counters, phase)
        task = next_task(counters, phase)
    barrier(counters, phase, tasks)


@register_jitable
def ready_phase(counters: Any, phase: int, terms: int, x: Any, out: Any, scales: Any) -> Any:
    """The rows of x as left operands: x itself in float32, otherwise the rows prepared in `out`."""
    if terms == 1:
        return Rows(address(x), 4 * x.shape[1])
    prepare_phase(counters, phase, x, x[0, :0], 0.0, terms, out, scales)
    return Rows(address(out), out.shape[1])


@register_jitable
def product_phase(
    counters: Any, phase: int, threads: int, mode: int, ws: Any, a: Rows, scales: Any, rows: int, x: Any, outs: Any
) -> Any:
    """outs[i] = a ws[i] for each weight. With GATE there are two weights and one result.

    A task multiplies a block of rows, which stays in the second-level cache, by all panels of a weight. If there are
    too few rows to keep all threads busy, a task multiplies by some of the panels.
    """
    several = 1 if mode == GATE else len(ws)
    columns = LANES if mode == GATE else PAIR
    block = ROWS * max(1, min(10, BLOCK_BYTES // (ROWS * a.stride)))
    blocks = -(-rows // block)
    parts = 1 if blocks * several >= 8 * threads else -(-8 * threads // (blocks * several))
    tasks = blocks * several * parts
    tile = scratch(ROWS * PAIR).reshape(ROWS, PAIR)
    task = next_task(counters, phase)
    while task < tasks:
        b, rest = task // (several * parts), task % (several * parts)
        n, part = rest // parts, rest % parts
        pairs = -(-ws[n].columns // columns)
        here = Block(rows * b // blocks, rows * (b + 1) // blocks, pairs * part // parts, pairs * (part + 1) // parts)
        product(mode, ws[n], ws[len(ws) - 1] if mode == GATE else ws[n], a, scales, here, tile, x, outs[n])
        finish_task(counters, phase)
        task = next_task(counters, phase)
    barrier(counters, phase, tasks)


@register_jitable
def attention_phase(
    counters: Any, phase: int, threads: int, tile: Tile, q: Any, k: Any, v: Any, layout: Layout, out: Any
) -> Any:
    """Attention. A task is one head of one sequence."""
    heads_at, bias = layout.heads, layout.bias
    heads, buffers = heads_at.shape[1], head_scratch(longest_keys(heads_at), layout.c)
    task = next_task(counters, phase)
    while task < heads_at.size:
        head, after = heads_at[task // heads, task % heads], (task + threads) % heads * layout.c
        attend_head(tile, q, k, v, layout, head, bias[task % heads], after, buffers, out)
        finish_task(counters, phase)
        task = next_task(counters, phase)
    barrier(counters, phase, heads_at.size)


class Inputs(NamedTuple):
    """The operands of a block: its rows [N d], the gain [d] and epsilon of its norm, and its weights [n] WEIGHT."""

    x: Any
    gain: Any
    eps: float
    weights: Any


class BlockScratch(NamedTuple):
    """Buffers for the intermediate results of a block.

    Args:
        prepared, scales: normalised rows prepared as left operands of the first products, and their int8 scales.
        products: [n N hc] or [1 N f], results of the first products.
        last: the left operand of the last product, prepared; empty in float32, which needs no preparation.
    """

    prepared: Any
    scales: Any
    products: Any
    last: Any


@Kernel
def attention_block_kernel(
    counters: Any, threads: int, tile: Tile, inputs: Inputs, q: Any, k: Any, v: Any, layout: Layout,
    buffers: BlockScratch, mixed: Any, out: Any,
) -> None:  # fmt: skip
    """out = x + o(attention(q n, k n, v n)) with n = norm(x). Without weights only mixed = attention(q, k, v).

    Both are one kernel, because attention takes long to compile.

    Args:
        tile: the tile for attention, see `attended_in`.
        inputs: its weights are those of q, k, v and o, or there are none.
        buffers: its `products` are [3 N hc], of which q, k and v are the parts; [0 N hc] without weights.
    """
    x, ws, gain, scales = inputs.x, inputs.weights, inputs.gain, buffers.scales
    terms = ws[0].terms if len(ws) else 1
    if len(ws):
        prepare_phase(counters, 0, x, gain, inputs.eps, terms, buffers.prepared, scales)
        a = Rows(address(buffers.prepared), buffers.prepared.shape[1])
        product_phase(counters, 1, threads, STORE, ws[:3], a, scales, len(x), x, buffers.products)
    attention_phase(counters, 2, threads, tile, q, k, v, layout, mixed)
    if len(ws):
        a = ready_phase(counters, 3, terms, mixed, buffers.last, scales)
        result = out.reshape(1, len(x), out.shape[1])
        product_phase(counters, 4, threads, ADD, ws[3:], a, scales, len(x), x, result)


@Kernel
def feed_forward_kernel(
    counters: Any, threads: int, mode: int, inputs: Inputs, buffers: BlockScratch, out: Any
) -> None:
    """out = x + wo(gelu(wi_0 n) * (wi_1 n)) with n = norm(x). With one weight and no gain it computes only x w.

    Args:
        inputs: its weights are wi_0, wi_1 and wo; wi_0 and wo if there is no gate; or a single one.
    """
    x, ws, scales = inputs.x, inputs.weights, buffers.scales
    terms, last = ws[0].terms, len(ws) - 1
    prepare_phase(counters, 0, x, inputs.gain, inputs.eps, terms, buffers.prepared, scales)
    a = Rows(address(buffers.prepared), buffers.prepared.shape[1])
    product_phase(counters, 1, threads, mode, ws[: max(1, last)], a, scales, len(x), x, buffers.products)
    if last:
        a = ready_phase(counters, 2, terms, buffers.products[0], buffers.last, scales)
        result = out.reshape(1, len(x), out.shape[1])
        product_phase(counters, 3, threads, ADD, ws[last:], a, scales, len(x), x, result)


def prepared(x: Array, terms: int, w: Packed) -> tuple[Array, Array]:
    """Empty buffers for the rows of x prepared as left operands for w, and for their int8 scales."""
    return aligned(len(x), row_stride(terms, w.group), dtype=np.uint8), aligned(len(x) if w.group == 4 else 0)


def result_buffers(rows: int, columns: int, w: Packed) -> tuple[Array, Array]:
    """Empty buffers for a result [rows columns], which is multiplied by w next, and for its prepared rows.

    In float32 the result needs no preparation: its rows are an odd number of cache lines apart.
    """
    if w.group == 1:
        return aligned(rows, row_stride(columns, 1) // 4), aligned(0, 1, dtype=np.uint8)
    return aligned(rows, columns), aligned(rows, row_stride(columns, w.group), dtype=np.uint8)


def by_head(bias: Array | None, heads: int) -> Array:
    """[2D+1 h] -> [h 2D+1+16] times 1/ln 2: one row of biases per head, with room to read a vector past the end."""
    if bias is None:
        return np.zeros((heads, 0), np.float32)
    return np.concatenate([bias.T * LOG2_E, np.zeros((heads, LANES), np.float32)], axis=1)


def attention_layout(layout: SequenceLayout, bias: Array | None, heads: int, columns: int, causal: bool) -> Layout:
    """The layout of sequences as an operand of kernels. All heads together have `columns` columns."""
    queries, keys, c = offsets(layout.query_lengths), offsets(layout.key_lengths), columns // heads
    areas = layout.query_lengths * layout.key_lengths
    heads_at = np.empty((len(areas), heads), HEAD)
    for name, each in (("i0", queries[:-1]), ("i1", queries[1:]), ("j0", keys[:-1]), ("j1", keys[1:])):
        heads_at[name] = each[:, None]
    heads_at["column"] = np.arange(heads) * c
    heads_at["probs_start"] = heads * offsets(areas)[:-1, None] + np.arange(heads) * areas[:, None]
    query_positions, key_positions = (plain(x, np.int64) for x in (layout.query_positions, layout.key_positions))
    return Layout(heads_at, query_positions, key_positions, by_head(bias, heads), c, bool(causal))


def cost(rows: int, *ws: Packed) -> int:
    """The approximate time of products in vector additions. With few rows it is the time of reading the weights."""
    return sum(max(rows, 8 // w.group) * w.shape[0] * w.shape[1] for w in ws) // LANES


def attention_block(t5: Any, w: Any, x: Array, bias: Array, layout: SequenceLayout) -> Any:
    """x + o(attention(q n, k n, v n)) with n = norm(x) and packed weights: [N d] -> [N d]."""
    if not isinstance(w.q, Packed):
        return NotImplemented
    check(x, "N d", "attention_block x", N=int(layout.query_lengths.sum()), d=w.q.shape[0])
    x, heads, columns = plain(x), t5.num_heads, w.q.columns
    mixed, last = result_buffers(len(x), columns, w.o)
    qkv, out = aligned(3, len(x), columns), aligned(len(x), w.o.columns)
    area = int((layout.query_lengths * layout.key_lengths).sum())
    block_cost = cost(len(x), w.q, w.k, w.v, w.o) + area * (2 * columns + 16 * heads) // LANES
    run_phased(
        attention_block_kernel, 5, block_cost, attended_in(w.q.precision),
        Inputs(x, plain(w.norm), float(t5.layer_norm_epsilon), descriptors(w.q, w.k, w.v, w.o)), *qkv,
        attention_layout(layout, bias, heads, columns, causal=False),
        BlockScratch(*prepared(x, x.shape[1], w.q), qkv, last), mixed, out,
    )  # fmt: skip
    return out


def feed_forward_block(t5: Any, w: Any, x: Array, lengths: Ints) -> Any:
    """x + wo(gelu(wi_0 n) * (wi_1 n)) with n = norm(x) and packed weights: [N d] -> [N d]."""
    if not isinstance(w.wo, Packed):
        return NotImplemented
    check(x, "N d", "feed_forward_block x", d=w.wo.columns)
    x, ws = plain(x), [u for u in (w.wi_0, w.wi_1, w.wo) if u is not None]
    hidden, last = result_buffers(len(x), w.wi_0.columns, w.wo)
    out, mode = aligned(len(x), w.wo.columns), RELU if w.wi_1 is None else GATE
    inputs = Inputs(x, plain(w.norm), float(t5.layer_norm_epsilon), descriptors(*ws))
    buffers = BlockScratch(*prepared(x, x.shape[1], w.wi_0), hidden.reshape(1, *hidden.shape), last)
    run_phased(feed_forward_kernel, 4, cost(len(x), *ws), mode, inputs, buffers, out)
    return out


def warm_up() -> None:
    """Runs each kernel once on one number."""
    x, one = np.ones((1, 1), np.float32), np.ones(1, np.int64)
    w = pack(x, "float32")
    weights = SimpleNamespace(norm=x[0], q=w, k=w, v=w, o=w, wi_0=w, wi_1=w, wo=w)
    t5 = SimpleNamespace(num_heads=1, layer_norm_epsilon=1e-6)
    attention_block(t5, weights, x, x, SequenceLayout(one, one, one, one))
    feed_forward_block(t5, weights, x, one)
