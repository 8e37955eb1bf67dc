"""CUDA kernels for matrix products on tensor cores: both operands rounded to bfloat16, sums in float32.

These kernels run only for weights that were packed with the precision "bfloat16". Their results differ from those in
float32 in the third digit. A weight is stored transposed: [o a/2] words, each of two neighbouring terms, and a is
padded with zeros to a multiple of 32 terms.

One instruction of a warp, mma.m16n8k16, multiplies 16 rows of 16 terms by 8 columns of 16 terms. With g = lane / 4 and
t = lane % 4, a thread holds words t and t+4 (two terms each) of rows g and g+8, words t and t+4 of column g, and the
results in columns 2t and 2t+1 of rows g and g+8.

Source: the PTX instruction set, "Matrix Fragments for mma.m16n8k16 with floating point type".
"""

from __future__ import annotations

from typing import Any

from .spec import EVERYONE, Body, Sizes

STEP = 16  # words (32 terms) of each row and column that are in shared memory
PADDED = 20  # words of a row there: eight rows use different banks, and runs of four words stay aligned


def products(cuda: Any, dtype: Any, intrinsics: Any, sizes: Sizes) -> dict[str, Body]:
    """`tensor` and `tensor_add`, for float32 states; float64 is never rounded to bfloat16."""
    load4, pack2, mma = intrinsics.load4, intrinsics.pack2, intrinsics.mma
    down, across, high, wide = sizes.warps_down, sizes.warps_across, sizes.tiles_down, sizes.tiles_across
    rows, columns, threads = down * high * 16, across * wide * 8, down * across * 32
    x_loads, w_loads = rows * STEP // 2 // threads, columns * STEP // 4 // threads
    nothing, pair = dtype(0), sizes.pair_type

    def by(add: bool) -> Any:
        def tensor(x, pairs, y, out):
            """One block computes a tile of `rows` by `columns` numbers; each warp has several tiles of 16 by 8 of them
            in registers.

            Shared memory holds the next 32 terms of the tile's rows, rounded here, and of its columns in two buffers:
            while one is multiplied, the other is filled from registers. With `add` out = y + x w.
            """
            xs = cuda.shared.array((2, rows, PADDED), pair, alignment=16)
            ws = cuda.shared.array((2, columns, PADDED), pair, alignment=16)
            total = cuda.local.array((high, wide, 4), dtype)
            x_next, w_next = cuda.local.array((x_loads, 2), pair), cuda.local.array((w_loads, 4), pair)
            a = cuda.local.array((high, 4), pair)
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


def skinny_products(cuda: Any, dtype: Any, intrinsics: Any, sizes: Sizes) -> dict[str, Body]:
    """The same products for few rows, without tensor cores. They take the time of reading the weights."""
    load4, pack2, unpack2 = intrinsics.load4, intrinsics.pack2, intrinsics.unpack2
    rows, warps, nothing = sizes.skinny_rows, sizes.threads // 32, dtype(0)

    def skinny_bfloat16(x, pairs, out):
        """One warp reads a column of the weight once for up to `rows` rows of x, which are rounded as well.

        Each of its threads sums every 32nd run of eight terms in dtype, and shuffles add these sums.
        """
        total = cuda.local.array(rows, dtype)
        thread, n, terms, step_words = cuda.threadIdx.x, out.shape[0], x.shape[1], pairs.shape[1]
        row0, column = cuda.blockIdx.y * rows, cuda.blockIdx.x * warps + thread // 32
        for r in range(rows):
            total[r] = nothing
        if column < out.shape[1]:  # the same for a whole warp
            for k in range(4 * (thread % 32), step_words, 128):
                four = load4(pairs, column * step_words + k)
                for word in range(4):
                    first, second = unpack2(four[word])
                    at = 2 * (k + word)
                    for r in range(rows):
                        if row0 + r < n and at < terms:
                            later = x[row0 + r, at + 1] if at + 1 < terms else nothing
                            a, b = unpack2(pack2(x[row0 + r, at], later))
                            total[r] += a * first + b * second
            for r in range(rows):
                mine, offset = total[r], 16
                while offset > 0:
                    mine += cuda.shfl_xor_sync(EVERYONE, mine, offset)
                    offset //= 2
                if thread % 32 == 0 and row0 + r < n:
                    out[row0 + r, column] = mine

    return {"skinny_bfloat16": Body(skinny_bfloat16, "xhx", sizes.threads)}


FACTORIES = (products, skinny_products)
