"""CUDA kernels that read each number about once: elementwise, by rows, and moves of ragged rows.

Each factory takes the `cuda` namespace, a dtype, `intrinsics` and `Sizes`, and returns kernels as plain functions. The
same source is compiled for a GPU and run by a simulator. Memory bandwidth limits all of them, so they read sixteen
bytes (four float32) at a time if rows allow it.
"""

from __future__ import annotations

import math
from typing import Any

from .spec import Body, Sizes, reductions


def elementwise(cuda: Any, dtype: Any, intrinsics: Any, sizes: Sizes) -> dict[str, Body]:
    """out = f(x, y), element by element. A thread computes four neighbouring elements."""
    load4, store4 = intrinsics.load4, intrinsics.store4
    half, one = dtype(0.5), dtype(1)
    root, cubic = dtype(math.sqrt(2 / math.pi)), dtype(0.044715)

    @cuda.jit(device=True)
    def add(a, b):
        return a + b

    @cuda.jit(device=True)
    def multiply(a, b):
        return a * b

    @cuda.jit(device=True)
    def at_least(a, least):
        return least if a < least else a  # a NaN stays

    @cuda.jit(device=True)
    def gated_gelu(a, b):
        return half * a * (one + math.tanh(root * (a + cubic * a * a * a))) * b

    def of_two(f: Any) -> Any:
        def kernel(x, y, out):
            n = out.size
            for i in range(4 * cuda.grid(1), n, 4 * cuda.gridsize(1)):
                if i + 4 <= n:
                    a, b = load4(x, i), load4(y, i)
                    store4(out, i, f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3]))
                else:
                    for j in range(i, n):
                        out[j] = f(x[j], y[j])

        return kernel

    def with_number(f: Any) -> Any:
        def kernel(x, number, out):
            n = out.size
            for i in range(4 * cuda.grid(1), n, 4 * cuda.gridsize(1)):
                if i + 4 <= n:
                    a = load4(x, i)
                    store4(out, i, f(a[0], number), f(a[1], number), f(a[2], number), f(a[3], number))
                else:
                    for j in range(i, n):
                        out[j] = f(x[j], number)

        return kernel

    return {
        "add": Body(of_two(add), "vvv", sizes.threads),
        "multiply": Body(of_two(multiply), "vvv", sizes.threads),
        "gated_gelu": Body(of_two(gated_gelu), "vvv", sizes.threads),
        "scale": Body(with_number(multiply), "vfv", sizes.threads),
        "relu": Body(with_number(at_least), "vfv", sizes.threads),
    }


def by_row(cuda: Any, dtype: Any, intrinsics: Any, sizes: Sizes) -> dict[str, Body]:
    """One block per row: its threads go through the columns side by side, and combine their results at the end.

    Sums are in dtype: first each thread's, then those of a warp by shuffles, then the warps' in order through shared
    memory. The order depends only on the number of columns, so equal rows give equal bits.
    """
    load4, store4 = intrinsics.load4, intrinsics.store4
    threads = sizes.threads
    lowest, nothing, one = dtype(-math.inf), dtype(0), dtype(1)

    block_sum, block_max = reductions(cuda, dtype, threads)

    def rms_norm(x, gain, eps, out):
        """x / sqrt(mean(x^2) + eps) * gain. The second read of the row comes from the cache."""
        row, d = cuda.blockIdx.x, x.shape[1]
        start, squares = row * d, nothing
        if d % 4 == 0:
            for i in range(4 * cuda.threadIdx.x, d, 4 * threads):
                a = load4(x, start + i)
                squares += a[0] * a[0] + a[1] * a[1] + a[2] * a[2] + a[3] * a[3]
        else:
            for i in range(cuda.threadIdx.x, d, threads):
                squares += x[row, i] * x[row, i]
        r = one / math.sqrt(block_sum(squares) / dtype(d) + eps)
        if d % 4 == 0:
            for i in range(4 * cuda.threadIdx.x, d, 4 * threads):
                a, g = load4(x, start + i), load4(gain, i)
                store4(out, start + i, a[0] * r * g[0], a[1] * r * g[1], a[2] * r * g[2], a[3] * r * g[3])
        else:
            for i in range(cuda.threadIdx.x, d, threads):
                out[row, i] = x[row, i] * r * gain[i]

    def dot(x, w, out):
        """x_i . w for each row i."""
        row, mine = cuda.blockIdx.x, nothing
        for i in range(cuda.threadIdx.x, x.shape[1], threads):
            mine += x[row, i] * w[i, 0]
        total = block_sum(mine)
        if cuda.threadIdx.x == 0:
            out[row] = total

    def log_probs(logits, targets, out):
        """log softmax(logits_i)[target_i] for each row i; the largest logit is subtracted first."""
        row, v = cuda.blockIdx.x, logits.shape[1]
        mine = lowest
        for i in range(cuda.threadIdx.x, v, threads):
            mine = max(mine, logits[row, i])
        largest, mine = block_max(mine), nothing
        for i in range(cuda.threadIdx.x, v, threads):
            mine += math.exp(logits[row, i] - largest)
        total = block_sum(mine)
        if cuda.threadIdx.x == 0:
            out[row] = logits[row, targets[row]] - largest - math.log(total)

    def argmax(x, out):
        """The index of each row's largest value: the lowest of equal ones; a NaN is larger than any number."""
        values, indices = cuda.shared.array(threads, dtype), cuda.shared.array(threads, sizes.index_type)
        row, thread, v = cuda.blockIdx.x, cuda.threadIdx.x, x.shape[1]
        best, at = lowest, v
        for i in range(thread, v, threads):
            a = x[row, i]
            if a > best or at == v or (a != a and best == best):
                best, at = a, i
        values[thread], indices[thread] = best, at
        step = threads // 2
        while step > 0:
            cuda.syncthreads()
            if thread < step:
                a, i = values[thread + step], indices[thread + step]
                best, at = values[thread], indices[thread]
                same = a == best or (a != a and best != best)
                if i < v and (at == v or a > best or (a != a and best == best) or (same and i < at)):
                    values[thread], indices[thread] = a, i
            step //= 2
        if thread == 0:
            out[row] = indices[0]

    return {
        "rms_norm": Body(rms_norm, "xvfx", threads),
        "dot": Body(dot, "xxv", threads),
        "log_probs": Body(log_probs, "xiv", threads),
        "argmax": Body(argmax, "xi", threads),
    }


def ragged(cuda: Any, dtype: Any, intrinsics: Any, sizes: Sizes) -> dict[str, Body]:
    """Moves of whole rows, and sums over a sequence's rows."""
    load4, store4 = intrinsics.load4, intrinsics.store4
    threads, lowest, nothing = sizes.small_block, dtype(-math.inf), dtype(0)

    def rows(x, y, index, out):
        """out_i = x[index_i], or y[-1 - index_i] where index_i is negative. One block per row."""
        row, d = cuda.blockIdx.x, out.shape[1]
        source = index[row]
        if source >= 0:
            for i in range(4 * cuda.threadIdx.x, d, 4 * threads):
                if d % 4 == 0:
                    a = load4(x, source * d + i)
                    store4(out, row * d + i, a[0], a[1], a[2], a[3])
                else:
                    for j in range(i, min(i + 4, d)):
                        out[row, j] = x[source, j]
        else:
            source = -1 - source
            for i in range(4 * cuda.threadIdx.x, d, 4 * threads):
                if d % 4 == 0:
                    a = load4(y, source * d + i)
                    store4(out, row * d + i, a[0], a[1], a[2], a[3])
                else:
                    for j in range(i, min(i + 4, d)):
                        out[row, j] = y[source, j]

    def mean(x, starts, out):
        """Mean of each sequence's rows. One block per sequence, one thread per column; sums in dtype, in order."""
        s = cuda.blockIdx.x
        first, last = starts[s], starts[s + 1]
        for i in range(cuda.threadIdx.x, x.shape[1], threads):
            total = nothing
            for row in range(first, last):
                total += x[row, i]
            out[s, i] = total / dtype(last - first)

    def sums(x, starts, out):
        """Sum of each sequence's numbers. One thread per sequence; sums in dtype, in order."""
        s = cuda.grid(1)
        if s < out.size:
            total = nothing
            for i in range(starts[s], starts[s + 1]):
                total += x[i]
            out[s] = total

    @cuda.jit(device=True)
    def largest_and_log(x, first, last, tau):
        """The largest x / tau, and log(sum(exp(x / tau - largest)))."""
        largest, total = lowest, nothing
        for i in range(first, last):
            largest = max(largest, x[i] / tau)
        for i in range(first, last):
            total += math.exp(x[i] / tau - largest)
        return largest, math.log(total)

    def rank_kl(p, q, starts, tau, out):
        """KL(softmax(p/tau) || softmax(q/tau)) over a question's passages. One thread per question, sums in dtype."""
        s = cuda.grid(1)
        if s < out.size:
            first, last = starts[s], starts[s + 1]
            p_largest, p_log = largest_and_log(p, first, last, tau)
            q_largest, q_log = largest_and_log(q, first, last, tau)
            total = nothing
            for i in range(first, last):
                log_p = p[i] / tau - p_largest - p_log
                total += math.exp(log_p) * (log_p - (q[i] / tau - q_largest - q_log))
            out[s] = total

    return {
        "rows": Body(rows, "xxix", threads),
        "mean": Body(mean, "xix", threads),
        "sums": Body(sums, "viv", threads),
        "rank_kl": Body(rank_kl, "vvifv", threads),
    }


FACTORIES = (elementwise, by_row, ragged)
