"""CUDA kernels for matrix products, a ladder: `naive`, `tiled`, `linear`; and `few` for a decoder's step.

x w is [N a] times [a o]. Each rung does the same multiply-adds and differs in what it reads: with a thread a number
and nothing shared, every number of x is read o times from memory and every weight N times. A tile in shared memory
divides that by its side; numbers kept in registers divide what is read from shared memory in the same way. All sums
are made in dtype, from a number's first term to its last by one thread (in `few` by some threads, whose parts are
added in order), so that the number of rows changes no bit within one rung.
"""

from __future__ import annotations

import math
from typing import Any

from .spec import Body, Sizes

SIDE = 8  # numbers of a thread's own tile in `linear`: rows, and columns
STORE, ADD, GATE = "store", "add", "gate"  # what is done to a product's tile before it leaves


def ladder(cuda: Any, dtype: Any, words: Any, sizes: Sizes) -> dict[str, Body]:
    """The lower rungs: for the lesson, for float64, and for columns that do not come in fours."""
    tile, padded, nothing = sizes.tile, sizes.tile + 1, dtype(0)

    def naive(x, w, out):
        """A thread is a number of the result; a block a square of them; nothing is shared."""
        column, row = cuda.grid(2)
        if row < out.shape[0] and column < out.shape[1]:
            total = nothing
            for k in range(w.shape[0]):
                total += x[row, k] * w[k, column]
            out[row, column] = total

    def tiled_by(turned: bool) -> Any:
        def tiled(x, w, out):
            """A thread is a number of the result, a block a square tile of them; w is [a o], turned [o a].

            In shared memory lie the tile's next terms, `tile` of each row of x and of each column of w: each thread
            reads one number of either, and all threads of a row, or a column, use it.
            """
            xs, ws = cuda.shared.array((tile, tile), dtype), cuda.shared.array((tile, padded), dtype)
            i, j = cuda.threadIdx.y, cuda.threadIdx.x
            row, column, a = cuda.blockIdx.y * tile + i, cuda.blockIdx.x * tile + j, x.shape[1]
            total = nothing
            for k0 in range(0, a, tile):
                xs[i, j] = x[row, k0 + j] if row < out.shape[0] and k0 + j < a else nothing
                if turned:  # i is a column here, so that neighbouring threads read neighbouring numbers
                    place = cuda.blockIdx.x * tile + i
                    ws[j, i] = w[place, k0 + j] if place < out.shape[1] and k0 + j < a else nothing
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
        "tiled": Body(tiled_by(turned=False), "xxx", (tile, tile)),
        "tiled_turned": Body(tiled_by(turned=True), "xxx", (tile, tile)),
    }


def registers(cuda: Any, dtype: Any, words: Any, sizes: Sizes) -> dict[str, Body]:
    """The top rung in float32, with what follows a product done to its tile in registers."""
    load4, store4 = words.load4, words.store4
    rows, columns, terms = sizes.rows, sizes.columns, sizes.terms
    across = columns // SIDE  # threads side by side
    threads = rows // SIDE * across
    x_loads, w_loads = rows * terms // 4 // threads, columns * terms // 4 // threads
    x_padded, w_padded = rows + 4, columns + 4  # four more, so that turned tiles are written to different banks
    nothing, half, one = dtype(0), dtype(0.5), dtype(1)
    root, cubic = dtype(math.sqrt(2 / math.pi)), dtype(0.044715)

    def linear_by(end: str, turned: bool) -> Any:
        gate, add = end == GATE, end == ADD
        width = columns // 2 if gate else columns  # of a block's columns of the result

        def linear(x, w, w2, y, out):
            """A block is a tile of the result, `rows` by `columns`; a thread has 8 by 8 numbers of it in registers.

            They are two runs of four rows by two runs of four columns, half a tile apart, so that a warp's reads of
            shared memory fall into different banks. In shared memory lie the next `terms` terms of the tile's rows
            and columns, twice: while one is multiplied, the other is filled, by way of registers, with one barrier
            a step. x is [N a], w [a o], turned [o a]; a and o are multiples of four, so that all reads of memory
            take sixteen bytes. With "add" out = y + x w. With "gate" half of the tile's columns are of w, half the
            same ones of w2, and out = gelu(x w) * (x w2), which meet in one thread.
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
                        if turned:
                            column, k = at // (terms // 4), k0 + terms + at % (terms // 4) * 4
                            place = (column0 + column) * a + k
                        else:
                            column, k = at % (columns // 4) * 4, k0 + terms + at // (columns // 4)
                            place = k * o + column0 + column % width
                        if k < a and column0 + column % width < o:
                            four = load4(w2, place) if gate and column >= width else load4(w, place)
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
                            if turned:
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
        "linear": Body(linear_by(STORE, turned=False), "xxxxx", threads, resident=2),
        "linear_turned": Body(linear_by(STORE, turned=True), "xxxxx", threads, resident=2),
        "linear_add": Body(linear_by(ADD, turned=False), "xxxxx", threads, resident=2),
        "linear_gate": Body(linear_by(GATE, turned=False), "xxxxx", threads, resident=2),
    }


def step(cuda: Any, dtype: Any, words: Any, sizes: Sizes) -> dict[str, Body]:
    """Products with so few rows, a decoder's step, that reading the weights once is all that counts."""
    load4 = words.load4
    few, slices, nothing = sizes.few, sizes.slices, dtype(0)
    fours, wide, warps = 4, 16, sizes.threads // 32  # runs of four columns, and columns, of a block of `few`
    everyone = 0xFFFFFFFF

    def few_by(add: bool) -> Any:
        def few_rows(x, w, y, out):
            """out = x w, or y + x w: a block is 16 columns of up to `few` rows; a thread is four of its columns and
            every `slices`-th term, so that a warp reads whole sectors of eight rows of w.

            In shared memory the threads' sums meet, and are added in the order of the slices.
            """
            parts = cuda.shared.array((slices, few, wide), dtype)
            total = cuda.local.array((few, 4), dtype)
            thread, n, a, o = cuda.threadIdx.x, out.shape[0], x.shape[1], out.shape[1]
            row0, j = cuda.blockIdx.y * few, thread % fours * 4
            column, slice_ = cuda.blockIdx.x * wide + j, thread // fours
            for r in range(few):
                for e in range(4):
                    total[r, e] = nothing
            if column < o:
                for k in range(slice_, a, slices):
                    four = load4(w, k * o + column)
                    for r in range(few):
                        if row0 + r < n:
                            number = x[row0 + r, k]
                            total[r, 0] += number * four[0]
                            total[r, 1] += number * four[1]
                            total[r, 2] += number * four[2]
                            total[r, 3] += number * four[3]
            for r in range(few):
                for e in range(4):
                    parts[slice_, r, j + e] = total[r, e]
            cuda.syncthreads()
            for at in range(thread, few * wide, slices * fours):
                r, j = at // wide, at % wide
                row, column = row0 + r, cuda.blockIdx.x * wide + j
                if row < n and column < o:
                    number = nothing
                    for s in range(slices):
                        number += parts[s, r, j]
                    if add:
                        number += y[row, column]
                    out[row, column] = number

        return few_rows

    def few_turned(x, table, out):
        """out = x table^T, the logits: a warp is a row of the table [v d], read once for up to `few` rows of x.

        Its threads take every 32nd run of four terms; shuffles add up what they have. Nothing is shared.
        """
        total = cuda.local.array(few, dtype)
        thread, n, d = cuda.threadIdx.x, out.shape[0], x.shape[1]
        row0, place = cuda.blockIdx.y * few, cuda.blockIdx.x * warps + thread // 32
        for r in range(few):
            total[r] = nothing
        if place < out.shape[1]:  # the same for a whole warp
            for k in range(4 * (thread % 32), d, 128):
                t = load4(table, place * d + k)
                for r in range(few):
                    if row0 + r < n:
                        a = load4(x, (row0 + r) * d + k)
                        total[r] += a[0] * t[0] + a[1] * t[1] + a[2] * t[2] + a[3] * t[3]
            for r in range(few):
                mine, apart = total[r], 16
                while apart > 0:
                    mine += cuda.shfl_xor_sync(everyone, mine, apart)
                    apart //= 2
                if thread % 32 == 0 and row0 + r < n:
                    out[row0 + r, place] = mine

    return {
        "few": Body(few_by(add=False), "xxxx", slices * fours),
        "few_add": Body(few_by(add=True), "xxxx", slices * fours),
        "few_turned": Body(few_turned, "xxx", sizes.threads),
    }


FACTORIES = (ladder, registers, step)
