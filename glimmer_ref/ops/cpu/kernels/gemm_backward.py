"""The two products in the backward of `linear` and `lm_head_logits` in float32: dx = dy w^T and dw = x^T dy.

One kernel computes both. It packs the weight once per call, transposed, unlike the forward. It packs TERMS rows of x
and dy at a time, so that the buffers are about as large as the weight. One thread adds up a number of dx or dw, TERMS
terms at a time, so the number of threads changes no bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable

from ....ragged import Array, check
from ..runtime.allocator import aligned, plain
from ..runtime.compile_cache import Kernel
from ..runtime.thread_pool import barrier, finish_task, next_task, run_phased
from .attention import AHEAD, pack_keys, pack_values
from .descriptors import WEIGHT, Block, Rows
from .epilogue import ADD, STORE
from .gemm import PAIR, Packed, product, row_stride, tile_address
from .llvm_ir import BYTES, LANES
from .memory import address, copy, floats, scratch
from .microkernel import ROWS
from .simd import prefetch_rows, scaled_lines, transpose

TERMS = 512  # maximum number of terms between two additions to the result: two such panels are twice the L1 cache
GROUP = 4  # panels that one task packs
TILES = 10  # maximum number of tiles of rows in a task: with TERMS terms they fill 290 kB of the L2 cache
SAME_SETS = 2048  # rows at this distance in bytes compete for two sets of the L1 cache, with eight ways each


@register_jitable
def boundary(n: int, blocks: int, i: int) -> int:
    """The index at which the i-th block begins if n items are cut into equal blocks."""
    return n * i // blocks


@register_jitable
def pack_right(transposed: bool, w: Any, k0: int, k1: int, p0: int, p1: int, columns: int, out: int) -> Any:
    """Packs the panels p0 .. p1-1 with terms k0 .. k1-1 of w, or of w^T if `transposed`; an odd last one gets zeros."""
    row, last = 4 * w.shape[1], min(columns, LANES * p1)
    if transposed:
        pack_keys(1, address(w) + p0 * LANES * row + 4 * k0, row, last - LANES * p0, k1 - k0, out)
    else:
        pack_values(1, address(w) + k0 * row + p0 * BYTES, row, k1 - k0, last - LANES * p0, out)
    if p1 * LANES >= columns and p1 % 2:
        floats(out + (p1 - p0) * (k1 - k0) * BYTES, (k1 - k0) * LANES)[:] = 0


@register_jitable
def pack_left(x: Any, k0: int, k1: int, j0: int, j1: int, square: int, out: int, out_row: int) -> Any:
    """Writes the columns j0 .. j1-1 of the rows k0 .. k1-1 as rows; j0 is a multiple of 16."""
    row = 4 * x.shape[1]
    for i in range(k0, k1, LANES):
        rows, ahead = min(LANES, k1 - i), i + AHEAD
        prefetch_rows(address(x) + ahead * row + 4 * j0, row, max(0, min(LANES, k1 - ahead)), 4 * (j1 - j0))
        for j in range(j0, j1, LANES):
            here, from_row, width = address(x) + i * row + 4 * j, row, min(LANES, j1 - j)
            if width < LANES:  # a vector would end behind the last row
                for r in range(rows):
                    copy(here + r * row, width, square + (LANES + r) * BYTES)
                here, from_row = square + LANES * BYTES, BYTES
            transpose(here, from_row, rows, square)
            scaled_lines(square, BYTES, width, np.float32(1), out + j * out_row + 4 * (i - k0), out_row)


@register_jitable
def shares(threads: int, rows: int, pairs: int) -> Any:
    """The rows of a task, and the number of parts of the pairs of panels, so that each thread gets several tasks."""
    tiles, wanted = -(-rows // ROWS), 8 * threads
    blocks = -(-tiles // TILES)
    if blocks * pairs < wanted:
        blocks = min(tiles, -(-wanted // pairs))
    parts = min(pairs, -(-wanted // blocks)) if blocks < wanted else 1
    return ROWS * -(-tiles // blocks), parts


@register_jitable
def pack_weight(counters: Any, phase: int, w: Any, transposed: bool, terms: int, columns: int, panels: int) -> Any:
    """Packs w in blocks of terms, each as panels [P terms 16] with even P."""
    count = -(-columns // LANES)
    groups, blocks, even = -(-count // GROUP), -(-terms // TERMS), 2 * -(-columns // PAIR)
    tasks = groups * blocks
    task = next_task(counters, phase)
    while task < tasks:
        k0, k1 = boundary(terms, blocks, task // groups), boundary(terms, blocks, task // groups + 1)
        p0 = task % groups * GROUP
        p1 = min(count, p0 + GROUP)
        pack_right(transposed, w, k0, k1, p0, p1, columns, panels + (k0 * even + p0 * (k1 - k0)) * BYTES)
        finish_task(counters, phase)
        task = next_task(counters, phase)
    barrier(counters, phase, tasks)


@register_jitable
def times_weight(counters: Any, phase: int, threads: int, w: Any, dy: Any, panels: int, tile: Any, out: Any) -> Any:
    """out [N columns] = dy times packed panels."""
    (n, terms), columns, pairs = dy.shape, out.shape[1], -(-out.shape[1] // PAIR)
    rows, parts = shares(threads, n, pairs)
    blocks, tasks, w.columns = -(-terms // TERMS), -(-n // rows) * parts, columns
    a_row, none = 4 * terms, scratch(0)
    compact_row = (-(-TERMS // LANES) | 1) * BYTES
    compact = scratch(rows * compact_row // 4 if a_row % SAME_SETS == 0 else 0)
    task = next_task(counters, phase)
    while task < tasks:
        i0, part = task // parts * rows, task % parts
        i1 = min(n, i0 + rows)
        for b in range(blocks):
            k0, k1 = boundary(terms, blocks, b), boundary(terms, blocks, b + 1)
            w.panels, w.steps = panels + k0 * 2 * pairs * BYTES, k1 - k0
            left, left_row = address(dy) + 4 * k0, a_row
            if len(compact):
                for i in range(i0, i1):
                    copy(left + i * a_row, k1 - k0, address(compact) + (i - i0) * compact_row)
                left, left_row = address(compact) - i0 * compact_row, compact_row
            here = Block(i0, i1, boundary(pairs, parts, part), boundary(pairs, parts, part + 1))
            product(ADD if b else STORE, w, w, Rows(left, left_row), none, here, tile, out, out)
        finish_task(counters, phase)
        task = next_task(counters, phase)
    barrier(counters, phase, tasks)


@register_jitable
def pack_rows(counters: Any, phase: int, left: Any, right: Any, k0: int, k1: int, transposed: Any, panels: int) -> Any:
    """Packs the rows k0 .. k1-1: those of `left` transposed, those of `right` as panels."""
    lefts, count = -(-left.shape[1] // (GROUP * LANES)), -(-right.shape[1] // LANES)
    tasks, square = lefts + -(-count // GROUP), scratch(2 * LANES * LANES)
    task = next_task(counters, phase)
    while task < tasks:
        if task < lefts:
            j0 = task * GROUP * LANES
            j1 = min(left.shape[1], j0 + GROUP * LANES)
            pack_left(left, k0, k1, j0, j1, address(square), address(transposed), transposed.shape[1])
        else:
            p0 = (task - lefts) * GROUP
            p1 = min(count, p0 + GROUP)
            pack_right(False, right, k0, k1, p0, p1, right.shape[1], panels + p0 * (k1 - k0) * BYTES)
        finish_task(counters, phase)
        task = next_task(counters, phase)
    barrier(counters, phase, tasks)


@register_jitable
def times_rows(counters: Any, phase: int, threads: int, mode: int, w: Any, transposed: Any, tile: Any, out: Any) -> Any:
    """out = transposed times the panels of `w`; with ADD the product is added to out."""
    pairs = -(-out.shape[1] // PAIR)
    rows, parts = shares(threads, len(out), pairs)
    tasks, none = -(-len(out) // rows) * parts, scratch(0)
    task = next_task(counters, phase)
    while task < tasks:
        i0, part = task // parts * rows, task % parts
        here = Block(i0, min(len(out), i0 + rows), boundary(pairs, parts, part), boundary(pairs, parts, part + 1))
        product(mode, w, w, Rows(address(transposed), transposed.shape[1]), none, here, tile, out, out)
        finish_task(counters, phase)
        task = next_task(counters, phase)
    barrier(counters, phase, tasks)


class Products(NamedTuple):
    """The operands of dx = dy w (dy w^T if `transposed`) and of dw = left^T right, with x and dy in either order."""

    dy: Any
    w: Any
    transposed: bool
    left: Any
    right: Any


class PackRoom(NamedTuple):
    """Buffers for packed operands: w, and TERMS rows of `left` (transposed: [columns bytes]) and of `right`."""

    panels: Any
    left: Any
    right: Any


@Kernel
def products_backward_kernel(
    counters: Any, threads: int, tile_at: int, x: Products, room: PackRoom, dx: Any, dw: Any
) -> None:
    """Both products, one after the other."""
    one, tile = np.zeros(1, WEIGHT), scratch(ROWS * PAIR).reshape(ROWS, PAIR)
    weight, panels, right, rows = one[0], address(room.panels), address(room.right), len(x.dy)
    weight.tile, weight.terms = tile_at, 1
    pack_weight(counters, 0, x.w, x.transposed, x.dy.shape[1], dx.shape[1], panels)
    times_weight(counters, 1, threads, weight, x.dy, panels, tile, dx)
    blocks = -(-rows // TERMS)
    for b in range(blocks):
        k0, k1 = boundary(rows, blocks, b), boundary(rows, blocks, b + 1)
        pack_rows(counters, 2 + 2 * b, x.left, x.right, k0, k1, room.left, right)
        weight.panels, weight.steps, weight.columns = right, k1 - k0, dw.shape[1]
        times_rows(counters, 3 + 2 * b, threads, ADD if b else STORE, weight, room.left, tile, dw)


def _both(dy: Array, x: Array, w: Array, is_table: bool) -> tuple[Array, Array]:
    """dx and dw of a product with w [a o], or with the transposed table [v d]."""
    dy, x, w = plain(dy), plain(x), plain(w)
    dx, dw = aligned(*x.shape), aligned(*w.shape)
    if not len(dy):
        dw[:] = 0
        return dx, dw
    left, right = (dy, x) if is_table else (x, dy)
    terms = min(TERMS, len(dy))
    room = PackRoom(
        aligned(-(-dx.shape[1] // PAIR) * PAIR * dy.shape[1]),
        aligned(left.shape[1], row_stride(terms, 1), dtype=np.uint8),
        aligned(-(-right.shape[1] // PAIR) * PAIR * terms),
    )
    phases, cost = 2 + 2 * -(-len(dy) // TERMS), 2 * len(dy) * w.size // LANES
    operands = Products(dy, w, not is_table, left, right)
    run_phased(products_backward_kernel, phases, cost, tile_address("float32"), operands, room, dx, dw)
    return dx, dw


def _source(w: Array | Packed) -> Array:
    """The weight before packing, in float32: the optimizer updates these numbers, so gradients are for them."""
    return w.source if isinstance(w, Packed) else w


def linear_backward(dy: Array, x: Array, w: Array | Packed) -> tuple[Array, Array]:
    """dx = dy w^T, dw = x^T dy, in float32.

    Raises:
        InputError: shapes that do not fit.
    """
    a, o = w.shape
    check(x, "N a", "linear x", a=a)
    check(dy, "N o", "linear dy", N=len(x), o=o)
    return _both(dy, x, _source(w), False)


def lm_head_logits_backward(dy: Array, table: Array | Packed, x: Array) -> tuple[Array, Array]:
    """dtable = dy^T x, dx = dy table, in float32.

    Raises:
        InputError: shapes that do not fit.
    """
    v, d = table.shape
    check(x, "N d", "lm_head_logits x", d=d)
    check(dy, "N v", "lm_head_logits dy", N=len(x), v=v)
    dx, dtable = _both(dy, x, _source(table), True)
    return dtable, dx
