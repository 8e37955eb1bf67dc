"""CUDA kernels for matrix products: `naive`, `tiled` and `linear` for many rows, `skinny` for a decoder step.

x w is [N a] times [a o]. The kernels do the same multiply-adds, but different numbers of reads. In `naive` a thread
computes one number and shares nothing, so every number of x is read o times from memory and every weight N times. In
`tiled` a tile in shared memory divides the number of these reads by the tile's side. In `linear` a tile in registers
also divides the number of reads of shared memory. All sums are in dtype. One thread adds the terms of a number in order
(in `skinny` several threads, whose sums are added in order), so the number of rows changes no bit of a result.
"""

from __future__ import annotations

import math
from typing import Any

from .spec import Body, Sizes

SIDE = 8  # rows and columns of a thread's tile in `linear`
STORE, ADD, GATE = "store", "add", "gate"  # a product's tile is written unchanged, added to y, or with a gate


def tilings(cuda: Any, dtype: Any, intrinsics: Any, sizes: Sizes) -> dict[str, Body]:
    """The simpler kernels, for lessons, for float64, and for sizes that are no multiples of four."""
    tile, padded, nothing = sizes.tile, sizes.tile + 1, dtype(0)

    def naive(x, w, out):
        """One thread computes one number of the result, one block a square tile; nothing is shared."""
        column, row = cuda.grid(2)
        if row < out.shape[0] and column < out.shape[1]:
            total = nothing
            for k in range(w.shape[0]):
                total += x[row, k] * w[k, column]
            out[row, column] = total

    def tiled_by(transposed: bool) -> Any:
        def tiled(x, w, out):
            """One thread computes one number of the result, one block a square tile. w is [a o], transposed [o a].

            Shared memory holds the next `tile` terms of each row of x and of each column of w. Each thread reads one
            number of x and one of w, and all threads of a row or a column use them.
            """
            xs, ws = cuda.shared.array((tile, tile), dtype), cuda.shared.array((tile, padded), dtype)
            i, j = cuda.threadIdx.y, cuda.threadIdx.x
            row, column, a = cuda.blockIdx.y * tile + i, cuda.blockIdx.x * tile + j, x.shape[1]
            total = nothing
            for k0 in range(0, a, tile):
                xs[i, j] = x[row, k0 + j] if row < out.shape[0] and k0 + j < a else nothing
                if transposed:  # i is a column here, so that neighbouring threads read neighbouring numbers
                    column_i = cuda.blockIdx.x * tile + i
                    ws[j, i] = w[column_i, k0 + j] if column_i < out.shape[1] and k0 + j < a else nothing
                else:
                    ws[i, j] = w[k0 + i, column] if k0 + i < a and column < out.shape[1] else nothing
                cuda.syncthreads()
                for k in range(tile):
                    total += xs[i, k] * ws[k, j]
                cuda.syncthreads()
            if row < out.shape[0] and column < out.shape[1]:
                out[row, column] = total

        return tiled

    return {
        "naive": Body(naive, "xxx", (tile, tile)),
        "tiled": Body(tiled_by(transposed=False), "xxx", (tile, tile)),
        "tiled_transposed": Body(tiled_by(transposed=True), "xxx", (tile, tile)),
    }


def register_tiles(cuda: Any, dtype: Any, intrinsics: Any, sizes: Sizes) -> dict[str, Body]:
    """The fastest kernels in float32, which also apply a residual or a gate to a product's tile in registers."""
    load4, store4 = intrinsics.load4, intrinsics.store4
    rows, columns, terms = sizes.rows, sizes.columns, sizes.terms
    across = columns // SIDE  # threads side by side
    threads = rows // SIDE * across
    x_loads, w_loads = rows * terms // 4 // threads, columns * terms // 4 // threads
    x_padded, w_padded = rows + 4, columns + 4  # four more, so that transposed tiles are written to different banks
    nothing, half, one = dtype(0), dtype(0.5), dtype(1)
    root, cubic = dtype(math.sqrt(2 / math.pi)), dtype(0.044715)

    def linear_by(end: str, transposed: bool) -> Any:
        gate, add = end == GATE, end == ADD
        width = columns // 2 if gate else columns  # of a block's columns of the result

        def linear(x, w, w2, y, out):
            """One block computes a tile of `rows` by `columns` numbers; each thread has 8 by 8 of them in registers.

            A thread's rows are two runs of four, half a tile apart, and its columns too, so that a warp's reads of
            shared memory use different banks. Shared memory holds the next `terms` terms of the tile's rows and columns
            in two buffers: while one is multiplied, the other is filled from registers, with one barrier per step.
            x is [N a], and w is [a o], or [o a] if transposed. a and o are multiples of four, so that every read of
            memory takes sixteen bytes. With "add" out = y + x w. With "gate" half of the tile's columns belong to w and
            half to w2; out = gelu(x w) * (x w2), whose two factors are in the same thread.
            """
            xs = cuda.shared.array((2, terms, x_padded), dtype, alignment=16)
            ws = cuda.shared.array((2, terms, w_padded), dtype, alignment=16)
            total = cuda.local.array((SIDE, SIDE), dtype)
            x_next, w_next = cuda.local.array((x_loads, 4), dtype), cuda.local.array((w_loads, 4), dtype)
            x_now, w_now = cuda.local.array(SIDE, dtype), cuda.local.array(SIDE, dtype)
            thread, n, a, o = cuda.threadIdx.x, out.shape[0], x.shape[1], out.shape[1]
            row0, column0 = cuda.blockIdx.y * rows, cuda.blockIdx.x * width
            i0, j0 = thread // across * 4, thread % across * 4
            for i in range(SIDE):
                for j in range(SIDE):
                    total[i, j] = nothing
            buffer = 0
            for k0 in range(-terms, a, terms):  # the first step only reads
                following = k0 + terms < a
                if following:
                    for e in range(x_loads):
                        at = e * threads + thread
                        row, k = row0 + at // (terms // 4), k0 + terms + at % (terms // 4) * 4
                        if row < n and k < a:
                            x_next[e, 0], x_next[e, 1], x_next[e, 2], x_next[e, 3] = load4(x, row * a + k)
                        else:
                            x_next[e, 0], x_next[e, 1], x_next[e, 2], x_next[e, 3] = nothing, nothing, nothing, nothing
                    for e in range(w_loads):
                        at = e * threads + thread
                        if transposed:
                            column, k = at // (terms // 4), k0 + terms + at % (terms // 4) * 4
                            index = (column0 + column) * a + k
                        else:
                            column, k = at % (columns // 4) * 4, k0 + terms + at // (columns // 4)
                            index = k * o + column0 + column % width
                        if k < a and column0 + column % width < o:
                            four = load4(w2, index) if gate and column >= width else load4(w, index)
                            w_next[e, 0], w_next[e, 1], w_next[e, 2], w_next[e, 3] = four
                        else:
                            w_next[e, 0], w_next[e, 1], w_next[e, 2], w_next[e, 3] = nothing, nothing, nothing, nothing
                if k0 >= 0:
                    for k in range(terms):
                        for i in range(SIDE):
                            x_now[i] = xs[buffer, k, i0 + i % 4 + i // 4 * (rows // 2)]
                        for j in range(SIDE):
                            w_now[j] = ws[buffer, k, j0 + j % 4 + j // 4 * (columns // 2)]
                        for i in range(SIDE):
                            for j in range(SIDE):
                                total[i, j] += x_now[i] * w_now[j]
                if following:
                    buffer = 1 - buffer
                    for e in range(x_loads):
                        at = e * threads + thread
                        for four in range(4):
                            xs[buffer, at % (terms // 4) * 4 + four, at // (terms // 4)] = x_next[e, four]
                    for e in range(w_loads):
                        at = e * threads + thread
                        for four in range(4):
                            if transposed:
                                ws[buffer, at % (terms // 4) * 4 + four, at // (terms // 4)] = w_next[e, four]
                            else:
                                ws[buffer, at // (columns // 4), at % (columns // 4) * 4 + four] = w_next[e, four]
                    cuda.syncthreads()
            for i in range(SIDE):
                row = row0 + i0 + i % 4 + i // 4 * (rows // 2)
                if row < n:
                    if gate:
                        if column0 + j0 < o:
                            for j in range(4):
                                g = total[i, j]
                                g = half * g * (one + math.tanh(root * (g + cubic * g * g * g)))
                                total[i, j] = g * total[i, j + 4]
                            store4(out, row * o + column0 + j0, total[i, 0], total[i, 1], total[i, 2], total[i, 3])
                    else:
                        for j in range(0, SIDE, 4):
                            column = column0 + j0 + j // 4 * (columns // 2)
                            if column < o:
                                at = row * o + column
                                if add:
                                    four = load4(y, at)
                                    total[i, j] += four[0]
                                    total[i, j + 1] += four[1]
                                    total[i, j + 2] += four[2]
                                    total[i, j + 3] += four[3]
                                store4(out, at, total[i, j], total[i, j + 1], total[i, j + 2], total[i, j + 3])

        return linear

    return {
        "linear": Body(linear_by(STORE, transposed=False), "xxxxx", threads, min_blocks=2),
        "linear_transposed": Body(linear_by(STORE, transposed=True), "xxxxx", threads, min_blocks=2),
        "linear_add": Body(linear_by(ADD, transposed=False), "xxxxx", threads, min_blocks=2),
        "linear_gate": Body(linear_by(GATE, transposed=False), "xxxxx", threads, min_blocks=2),
    }


def skinny_products(cuda: Any, dtype: Any, intrinsics: Any, sizes: Sizes) -> dict[str, Body]:
    """Products with few rows, as in a decoder step. They take the time of reading the weights once."""
    load4 = intrinsics.load4
    rows, slices, nothing = sizes.skinny_rows, sizes.slices, dtype(0)
    fours, wide, warps = 4, 16, sizes.threads // 32  # runs of four columns, and columns, of a block of `rows`
    everyone = 0xFFFFFFFF

    def skinny_by(add: bool) -> Any:
        def skinny(x, w, y, out):
            """out = x w, or y + x w: one block computes 16 columns of up to `rows` rows.

            Each thread sums every `slices`-th term of four columns, so that a warp reads complete sectors of eight rows
            of w. The threads' sums meet in shared memory and are added in the order of the slices.
            """
            parts = cuda.shared.array((slices, rows, wide), dtype)
            total = cuda.local.array((rows, 4), dtype)
            thread, n, a, o = cuda.threadIdx.x, out.shape[0], x.shape[1], out.shape[1]
            row0, j = cuda.blockIdx.y * rows, thread % fours * 4
            column, slice_ = cuda.blockIdx.x * wide + j, thread // fours
            for r in range(rows):
                for e in range(4):
                    total[r, e] = nothing
            if column < o:
                for k in range(slice_, a, slices):
                    four = load4(w, k * o + column)
                    for r in range(rows):
                        if row0 + r < n:
                            number = x[row0 + r, k]
                            total[r, 0] += number * four[0]
                            total[r, 1] += number * four[1]
                            total[r, 2] += number * four[2]
                            total[r, 3] += number * four[3]
            for r in range(rows):
                for e in range(4):
                    parts[slice_, r, j + e] = total[r, e]
            cuda.syncthreads()
            for at in range(thread, rows * wide, slices * fours):
                r, j = at // wide, at % wide
                row, column = row0 + r, cuda.blockIdx.x * wide + j
                if row < n and column < o:
                    number = nothing
                    for s in range(slices):
                        number += parts[s, r, j]
                    if add:
                        number += y[row, column]
                    out[row, column] = number

        return skinny

    def skinny_transposed(x, table, out):
        """out = x table^T, the logits: one warp reads a row of the table [v d] once for up to `rows` rows of x.

        Each of its threads sums every 32nd run of four terms, and shuffles add these sums. Nothing is shared.
        """
        total = cuda.local.array(rows, dtype)
        thread, n, d = cuda.threadIdx.x, out.shape[0], x.shape[1]
        row0, column = cuda.blockIdx.y * rows, cuda.blockIdx.x * warps + thread // 32
        for r in range(rows):
            total[r] = nothing
        if column < out.shape[1]:  # the same for a whole warp
            for k in range(4 * (thread % 32), d, 128):
                t = load4(table, column * d + k)
                for r in range(rows):
                    if row0 + r < n:
                        a = load4(x, (row0 + r) * d + k)
                        total[r] += a[0] * t[0] + a[1] * t[1] + a[2] * t[2] + a[3] * t[3]
            for r in range(rows):
                mine, offset = total[r], 16
                while offset > 0:
                    mine += cuda.shfl_xor_sync(everyone, mine, offset)
                    offset //= 2
                if thread % 32 == 0 and row0 + r < n:
                    out[row0 + r, column] = mine

    return {
        "skinny": Body(skinny_by(add=False), "xxxx", slices * fours),
        "skinny_add": Body(skinny_by(add=True), "xxxx", slices * fours),
        "skinny_transposed": Body(skinny_transposed, "xxx", sizes.threads),
    }


FACTORIES = (tilings, register_tiles, skinny_products)
