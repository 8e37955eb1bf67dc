"""CUDA kernels for matrix products on tensor cores: both operands rounded to bfloat16, sums in float32.

A stated precision, never chosen by itself: who packs weights with "bfloat16" gets these, and numbers that differ from
float32's in the third digit. A weight lies turned, [o a/2] words of two neighbouring terms each, a filled up with
zeros to whole steps of 32 terms.

One instruction, mma.m16n8k16, multiplies 16 rows of 16 terms by 8 columns of them, for a whole warp. With g = lane / 4
and t = lane % 4 a thread holds, of the rows, words t and t+4 (two terms each) of rows g and g+8; of the columns,
words t and t+4 of column g; of the result, columns 2t and 2t+1 of rows g and g+8.

Source: the PTX instruction set, "Matrix Fragments for mma.m16n8k16 with floating point type".
"""

from __future__ import annotations

from typing import Any

from .spec import EVERYONE, Body, Sizes

STEP = 16  # words of 32 terms, what is in shared memory of each row and column
PADDED = 20  # so that eight rows' words fall into different banks, and runs of four words stay aligned


def products(cuda: Any, dtype: Any, words: Any, sizes: Sizes) -> dict[str, Body]:
    """`tensor` and `tensor_add`: for float32 states; float64 is never rounded so far."""
    load4, pack2, mma = words.load4, words.pack2, words.mma
    down, across, high, wide = sizes.warps_down, sizes.warps_across, sizes.tiles_down, sizes.tiles_across
    rows, columns, threads = down * high * 16, across * wide * 8, down * across * 32
    x_loads, w_loads = rows * STEP // 2 // threads, columns * STEP // 4 // threads
    nothing, whole = dtype(0), sizes.word

    def by(add: bool) -> Any:
        def tensor(x, pairs, y, out):
            """A block is a tile of the result, `rows` by `columns`; a warp has a part of it in its registers, some
            tiles of 16 by 8 below and beside each other.

            In shared memory lie the next 32 terms of the tile's rows, rounded here, and columns, twice: while one is
            multiplied, the other is filled, by way of registers. With "add" out = y + x w.
            """
            xs = cuda.shared.array((2, rows, PADDED), whole, alignment=16)
            ws = cuda.shared.array((2, columns, PADDED), whole, alignment=16)
            total = cuda.local.array((high, wide, 4), dtype)
            x_next, w_next = cuda.local.array((x_loads, 2), whole), cuda.local.array((w_loads, 4), whole)
            a = cuda.local.array((high, 4), whole)
            thread, n, terms, o, step_words = cuda.threadIdx.x, out.shape[0], x.shape[1], out.shape[1], pairs.shape[1]
            row0, column0 = cuda.blockIdx.y * rows, cuda.blockIdx.x * columns
            warp, g, t = thread // 32, thread % 32 // 4, thread % 4
            i0, j0 = warp // across * (high * 16), warp % across * (wide * 8)
            for i in range(high):
                for j in range(wide):
                    for e in range(4):
                        total[i, j, e] = nothing
            buffer = 0
            for k0 in range(-STEP, step_words, STEP):  # in words; the first step only reads
                following = k0 + STEP < step_words
                if following:
                    for e in range(x_loads):
                        at = e * threads + thread
                        row, k = row0 + at // (STEP // 2), 2 * (k0 + STEP) + at % (STEP // 2) * 4
                        x_next[e, 0], x_next[e, 1] = 0, 0
                        if row < n and k < terms:
                            if terms % 4 == 0:
                                four = load4(x, row * terms + k)
                                x_next[e, 0], x_next[e, 1] = pack2(four[0], four[1]), pack2(four[2], four[3])
                            else:
                                second = x[row, k + 1] if k + 1 < terms else nothing
                                third = x[row, k + 2] if k + 2 < terms else nothing
                                fourth = x[row, k + 3] if k + 3 < terms else nothing
                                x_next[e, 0], x_next[e, 1] = pack2(x[row, k], second), pack2(third, fourth)
                    for e in range(w_loads):
                        at = e * threads + thread
                        column, k = column0 + at // (STEP // 4), k0 + STEP + at % (STEP // 4) * 4
                        w_next[e, 0], w_next[e, 1], w_next[e, 2], w_next[e, 3] = 0, 0, 0, 0
                        if column < o:
                            w_next[e, 0], w_next[e, 1], w_next[e, 2], w_next[e, 3] = load4(
                                pairs, column * step_words + k
                            )
                if k0 >= 0:
                    for k in range(0, STEP, 8):
                        for i in range(high):
                            a[i, 0], a[i, 2] = (
                                xs[buffer, i0 + 16 * i + g, k + t],
                                xs[buffer, i0 + 16 * i + g, k + t + 4],
                            )
                            a[i, 1], a[i, 3] = (
                                xs[buffer, i0 + 16 * i + g + 8, k + t],
                                xs[buffer, i0 + 16 * i + g + 8, k + t + 4],
                            )
                        for j in range(wide):
                            b0, b1 = ws[buffer, j0 + 8 * j + g, k + t], ws[buffer, j0 + 8 * j + g, k + t + 4]
                            for i in range(high):
                                total[i, j, 0], total[i, j, 1], total[i, j, 2], total[i, j, 3] = mma(
                                    a[i, 0], a[i, 1], a[i, 2], a[i, 3], b0, b1,
                                    total[i, j, 0], total[i, j, 1], total[i, j, 2], total[i, j, 3],
                                )  # fmt: skip
                if following:
                    buffer = 1 - buffer
                    for e in range(x_loads):
                        at = e * threads + thread
                        for two in range(2):
                            xs[buffer, at // (STEP // 2), at % (STEP // 2) * 2 + two] = x_next[e, two]
                    for e in range(w_loads):
                        at = e * threads + thread
                        for four in range(4):
                            ws[buffer, at // (STEP // 4), at % (STEP // 4) * 4 + four] = w_next[e, four]
                    cuda.syncthreads()
            for i in range(high):
                for j in range(wide):
                    for e in range(4):
                        row, column = row0 + i0 + 16 * i + g + e // 2 * 8, column0 + j0 + 8 * j + 2 * t + e % 2
                        if row < n and column < o:
                            out[row, column] = total[i, j, e] + y[row, column] if add else total[i, j, e]

        return tensor

    return {
        "tensor": Body(by(add=False), "xhxx", threads),
        "tensor_add": Body(by(add=True), "xhxx", threads),
    }


def step(cuda: Any, dtype: Any, words: Any, sizes: Sizes) -> dict[str, Body]:
    """The same numbers for so few rows that reading the weights is all that counts; no tensor cores."""
    load4, pack2, unpack2 = words.load4, words.pack2, words.unpack2
    few, warps, nothing = sizes.few, sizes.threads // 32, dtype(0)

    def few_pairs(x, pairs, out):
        """A warp is a column of the weight, read once for up to `few` rows of x, which are rounded as well.

        Its threads take every 32nd run of eight terms, sums in dtype; shuffles add up what they have.
        """
        total = cuda.local.array(few, dtype)
        thread, n, terms, step_words = cuda.threadIdx.x, out.shape[0], x.shape[1], pairs.shape[1]
        row0, column = cuda.blockIdx.y * few, cuda.blockIdx.x * warps + thread // 32
        for r in range(few):
            total[r] = nothing
        if column < out.shape[1]:  # the same for a whole warp
            for k in range(4 * (thread % 32), step_words, 128):
                four = load4(pairs, column * step_words + k)
                for word in range(4):
                    first, second = unpack2(four[word])
                    at = 2 * (k + word)
                    for r in range(few):
                        if row0 + r < n and at < terms:
                            later = x[row0 + r, at + 1] if at + 1 < terms else nothing
                            a, b = unpack2(pack2(x[row0 + r, at], later))
                            total[r] += a * first + b * second
            for r in range(few):
                mine, apart = total[r], 16
                while apart > 0:
                    mine += cuda.shfl_xor_sync(EVERYONE, mine, apart)
                    apart //= 2
                if thread % 32 == 0 and row0 + r < n:
                    out[row0 + r, column] = mine

    return {"few_pairs": Body(few_pairs, "xhx", sizes.threads)}


FACTORIES = (products, step)
