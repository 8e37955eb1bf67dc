"""CUDA kernels for attention: a tile of queries against all of its keys, one query against many, and the probabilities.

softmax_j(q_i k_j + bias[j-i]) v_j, per sequence and head, without ever storing [h i j]. Keys come tile by tile, and the
softmax is made on the way ("online"): each query keeps the largest score so far, the sum of exponentials below it, and
the weighted sum of values; a larger score scales both down by exp(old largest - new largest).

Source: Milakov and Gimelshein 2018 for the online softmax, Dao et al. 2022 for tiles of it.
"""

from __future__ import annotations

import math
from typing import Any

from .spec import EVERYONE, Body, Sizes, reductions

ROWS = 4  # queries of a thread
LANES = 8  # threads that share them


def with_bias(cuda: Any, dtype: Any) -> Any:
    lowest = dtype(-math.inf)

    @cuda.jit(device=True)
    def biased(score, bias, distance, head, causal):
        """The score with its bias, if there is one; a causal query's of a key ahead is -inf."""
        if causal and distance > 0:
            return lowest
        return score + bias[bias.shape[0] // 2 + distance, head] if bias.shape[0] > 0 else score

    return biased


def tiles(cuda: Any, dtype: Any, words: Any, sizes: Sizes, c: int, kept: bool) -> Any:
    """`attention` for heads of at most c columns, c a multiple of 8; with `kept`, probabilities are multiplied."""
    queries, keys = sizes.queries, sizes.keys
    threads = queries // ROWS * LANES
    each, wide = keys // LANES, c // LANES  # keys, and columns, of a thread
    q_padded, keys_padded = queries + 4, keys + 1
    lowest, nothing, one = dtype(-math.inf), dtype(0), dtype(1)

    biased = with_bias(cuda, dtype)

    def attention(q, k, v, bias, at_q, at_k, table, heads, causal, dropout_mask, out):
        """A block is a tile of one sequence's queries, in one head: row blockIdx.x of `table`, head blockIdx.y.

        Eight threads share four queries: each has every eighth key's score, and every eighth column of the result,
        in registers; what a row needs of all keys goes between them by shuffles. In shared memory lie the tile's
        queries, the keys and values of the step, and the step's weights exp(score - largest). Sums are in dtype, a
        query's keys in their order tile by tile; nothing that other blocks do changes them.

        Args:
            bias: [2D+1 h], or no rows.
            at_q, at_k: [Nq], [Nk] the tokens' places.
            table: [blocks 6]: first query, queries, first key, keys, and of `dropout_mask` the tile's first number in
                the sequence's first head, and how far apart its heads are.
            dropout_mask: what the probabilities are multiplied by, by sequence, head, query, key.
        """
        qs = cuda.shared.array((c, q_padded), dtype, alignment=16)
        ks = cuda.shared.array((c, keys_padded), dtype)
        vs = cuda.shared.array((keys, c), dtype)
        ps = cuda.shared.array((keys, q_padded), dtype, alignment=16)
        total = cuda.local.array((ROWS, wide), dtype)
        score = cuda.local.array((ROWS, each), dtype)
        largest, weight = cuda.local.array(ROWS, dtype), cuda.local.array(ROWS, dtype)
        most, mine, down = cuda.local.array(ROWS, dtype), cuda.local.array(ROWS, dtype), cuda.local.array(ROWS, dtype)
        place = cuda.local.array(ROWS, sizes.whole)
        thread, head = cuda.threadIdx.x, cuda.blockIdx.y
        q0, n_q = table[cuda.blockIdx.x, 0], table[cuda.blockIdx.x, 1]
        k0, n_k = table[cuda.blockIdx.x, 2], table[cuda.blockIdx.x, 3]
        width = q.shape[1] // heads
        i0, lane, column0 = thread // LANES * ROWS, thread % LANES, head * width
        for e in range(thread, queries * c, threads):
            i, column = e // c, e % c
            qs[column, i] = q[q0 + i, column0 + column] if i < n_q and column < width else nothing
        for i in range(ROWS):
            largest[i], weight[i] = lowest, nothing
            place[i] = at_q[q0 + i0 + i] if i0 + i < n_q else 0
            for j in range(wide):
                total[i, j] = nothing
        for j0 in range(0, n_k, keys):
            cuda.syncthreads()  # the last step's keys, values and weights have been read
            for e in range(thread, keys * c, threads):
                j, column = e // c, e % c
                inside = j0 + j < n_k and column < width
                ks[column, j] = k[k0 + j0 + j, column0 + column] if inside else nothing
                vs[j, column] = v[k0 + j0 + j, column0 + column] if inside else nothing
            cuda.syncthreads()
            for i in range(ROWS):
                for j in range(each):
                    score[i, j] = nothing
            for column in range(c):
                for j in range(each):
                    key = ks[column, lane + j * LANES]
                    for i in range(ROWS):
                        score[i, j] += qs[column, i0 + i] * key
            # Which scores count, with their bias; the largest of each query's in this step.
            for i in range(ROWS):
                most[i] = lowest
                for j in range(each):
                    key = j0 + lane + j * LANES
                    seen = key < n_k and i0 + i < n_q
                    score[i, j] = biased(score[i, j], bias, at_k[k0 + key] - place[i], head, causal) if seen else lowest
                    most[i] = max(most[i], score[i, j])
            for i in range(ROWS):
                most[i] = max(most[i], cuda.shfl_xor_sync(EVERYONE, most[i], 4))
                most[i] = max(most[i], cuda.shfl_xor_sync(EVERYONE, most[i], 2))
                most[i] = max(most[i], cuda.shfl_xor_sync(EVERYONE, most[i], 1))
            # What was summed below the old largest is scaled to the new one.
            for i in range(ROWS):
                before = largest[i]
                largest[i] = max(before, most[i])
                down[i] = one if before == largest[i] else math.exp(before - largest[i])
            for i in range(ROWS):
                mine[i] = nothing
                for j in range(each):
                    # What is not seen weighs nothing; a NaN counts.
                    score[i, j] = nothing if score[i, j] == lowest else math.exp(score[i, j] - largest[i])
                    mine[i] += score[i, j]
            for i in range(ROWS):
                mine[i] += cuda.shfl_xor_sync(EVERYONE, mine[i], 4)
                mine[i] += cuda.shfl_xor_sync(EVERYONE, mine[i], 2)
                mine[i] += cuda.shfl_xor_sync(EVERYONE, mine[i], 1)
                weight[i] = weight[i] * down[i] + mine[i]
            for i in range(ROWS):
                for j in range(wide):
                    total[i, j] *= down[i]
            for i in range(ROWS):
                for j in range(each):
                    ps[lane + j * LANES, i0 + i] = score[i, j]
            if kept:
                cuda.syncthreads()
                first = table[cuda.blockIdx.x, 4] + head * table[cuda.blockIdx.x, 5]
                for e in range(thread, queries * keys, threads):
                    i, key = e // keys, e % keys
                    if i < n_q and j0 + key < n_k:
                        ps[key, i] *= dropout_mask[first + i * n_k + j0 + key]
            cuda.syncthreads()
            for key in range(keys):
                for j in range(wide):
                    value = vs[key, lane + j * LANES]
                    for i in range(ROWS):
                        total[i, j] += ps[key, i0 + i] * value
        for i in range(ROWS):
            for j in range(wide):
                column = lane + j * LANES
                if i0 + i < n_q and column < width:
                    out[q0 + i0 + i, column0 + column] = total[i, j] / weight[i]

    return Body(attention, "xxxxiitnnvx", threads)


def one_query(cuda: Any, dtype: Any, words: Any, sizes: Sizes) -> dict[str, Body]:
    """A decoder's step: one query a sequence, against all that it has read, or its whole memory."""
    threads, lowest, nothing, one = sizes.one, dtype(-math.inf), dtype(0), dtype(1)
    block_sum, block_max = reductions(cuda, dtype, threads)
    biased = with_bias(cuda, dtype)

    def attend_one(q, k, v, bias, at_q, at_k, starts, heads, causal, parts):
        """A block is a run of one query's keys, in one head: row blockIdx.x, head blockIdx.y, run blockIdx.z.

        Eight threads make a key's score, every eighth column each; then a thread is a column of the values, and
        every so manieth key. In shared memory lie the weights of as many keys as the block has threads, and in the
        end each thread's sum. What leaves, [rows heads runs, c+2], is for `merge`: the sum of weights times values,
        the largest score, the sum of weights. Sums are in dtype, in an order that hangs on the number of keys alone.

        Args:
            starts: [Nq+1] first key of each query.
        """
        ps, sums = cuda.shared.array(threads, dtype), cuda.shared.array(threads, dtype)
        row, head, run, runs = cuda.blockIdx.x, cuda.blockIdx.y, cuda.blockIdx.z, cuda.gridDim.z
        thread, c = cuda.threadIdx.x, q.shape[1] // heads
        k0, n_k = starts[row], starts[row + 1] - starts[row]
        first, last = n_k * run // runs, n_k * (run + 1) // runs
        column0, lane, slices = head * c, thread % LANES, threads // c
        largest, weight, total = lowest, nothing, nothing
        for j0 in range(first, last, threads):
            for j in range(thread // LANES, threads, threads // LANES):
                score = nothing
                if j0 + j < last:
                    for column in range(lane, c, LANES):
                        score += q[row, column0 + column] * k[k0 + j0 + j, column0 + column]
                score += cuda.shfl_xor_sync(EVERYONE, score, 4)
                score += cuda.shfl_xor_sync(EVERYONE, score, 2)
                score += cuda.shfl_xor_sync(EVERYONE, score, 1)
                if lane == 0:
                    seen = j0 + j < last
                    ps[j] = biased(score, bias, at_k[k0 + j0 + j] - at_q[row], head, causal) if seen else lowest
            cuda.syncthreads()
            score = ps[thread]
            before = largest
            largest = max(before, block_max(score))
            down = one if before == largest else math.exp(before - largest)
            score = nothing if score == lowest else math.exp(score - largest)
            weight = weight * down + block_sum(score)
            ps[thread] = score
            cuda.syncthreads()
            total *= down
            if thread < slices * c:
                for j in range(thread // c, min(threads, last - j0), slices):
                    total += ps[j] * v[k0 + j0 + j, column0 + thread % c]
            cuda.syncthreads()
        sums[thread] = total
        cuda.syncthreads()
        place = (row * heads + head) * runs + run
        if thread < c:
            total = nothing
            for s in range(slices):
                total += sums[s * c + thread]
            parts[place, thread] = total
        if thread == 0:
            parts[place, c], parts[place, c + 1] = largest, weight

    def merge(parts, heads, runs, out):
        """A block is a query in one head, a thread a column: the runs' sums, scaled to the largest score of all."""
        row, head, column = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x
        c, first = parts.shape[1] - 2, (row * heads + head) * runs
        largest, total, weight = lowest, nothing, nothing
        if column < c:
            for run in range(runs):
                largest = max(largest, parts[first + run, c])
            for run in range(runs):
                down = one if parts[first + run, c] == largest else math.exp(parts[first + run, c] - largest)
                total += parts[first + run, column] * down
                weight += parts[first + run, c + 1] * down
            out[row, head * c + column] = total / weight

    return {"attend_one": Body(attend_one, "xxxxiiinnx", threads), "merge": Body(merge, "xnnx", threads)}


def probabilities(cuda: Any, dtype: Any, words: Any, sizes: Sizes) -> dict[str, Body]:
    """Attention stopped before v, for traces and lessons: the one place where [h i j] is stored."""
    threads, lowest, nothing = sizes.threads, dtype(-math.inf), dtype(0)
    block_sum, block_max = reductions(cuda, dtype, threads)
    biased = with_bias(cuda, dtype)

    def attention_probs(q, k, bias, at_q, at_k, q0, k0, heads, causal, out):
        """A block is a query in one head, a thread every `threads`-th key; sums in dtype. out is [h*i j]."""
        i, head, n_k = cuda.blockIdx.x, cuda.blockIdx.y, out.shape[1]
        row, c = head * cuda.gridDim.x + i, q.shape[1] // heads
        mine = lowest
        for j in range(cuda.threadIdx.x, n_k, threads):
            score = nothing
            for column in range(head * c, head * c + c):
                score += q[q0 + i, column] * k[k0 + j, column]
            score = biased(score, bias, at_k[k0 + j] - at_q[q0 + i], head, causal)
            out[row, j] = score
            mine = max(mine, score)
        largest, mine = block_max(mine), nothing
        for j in range(cuda.threadIdx.x, n_k, threads):
            out[row, j] = math.exp(out[row, j] - largest)
            mine += out[row, j]
        total = block_sum(mine)
        for j in range(cuda.threadIdx.x, n_k, threads):
            out[row, j] /= total

    return {"attention_probs": Body(attention_probs, "xxxiinnnnx", threads)}


WIDTHS = {8: {}, 64: {}, 128: {"queries": 32, "keys": 16}}  # columns of a head, at most, and the sizes that differ


def tiled(cuda: Any, dtype: Any, words: Any, sizes: Sizes) -> dict[str, Body]:
    """`attention` for each width, and the same with probabilities multiplied."""
    return {
        f"attention_{c}{'_kept' if kept else ''}": tiles(cuda, dtype, words, smaller(sizes, c), c, kept)
        for c in WIDTHS
        for kept in (False, True)
    }


def smaller(sizes: Sizes, c: int) -> Sizes:
    """The sizes for heads of at most c columns."""
    return sizes._replace(**{name: min(size, getattr(sizes, name)) for name, size in WIDTHS[c].items()})


FACTORIES = (tiled, one_query, probabilities)
