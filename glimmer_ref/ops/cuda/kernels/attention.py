"""CUDA kernels for attention: for tiles of queries, for one query per sequence, and for the probabilities alone.

They compute softmax_j(q_i k_j + bias[j-i]) v_j per sequence and head without storing [h i j]. They read the keys tile
by tile, and compute the softmax at the same time ("online"): each query keeps its largest score so far, the sum of
exp(score - largest), and the weighted sum of values. When a larger score comes, both sums are multiplied by
exp(old largest - new largest).

Source: Milakov and Gimelshein 2018 for the online softmax, Dao et al. 2022 for tiles of it.
"""

from __future__ import annotations

import math
from typing import Any

from .spec import EVERYONE, Body, Sizes, reductions

ROWS = 4  # queries for one group of threads
LANES = 8  # threads in such a group


def with_bias(cuda: Any, dtype: Any) -> Any:
    lowest = dtype(-math.inf)

    @cuda.jit(device=True)
    def biased(score, bias, distance, head, causal):
        """The score plus its bias, if there is one; -inf if attention is causal and the key is ahead of the query."""
        if causal and distance > 0:
            return lowest
        return score + bias[bias.shape[0] // 2 + distance, head] if bias.shape[0] > 0 else score

    return biased


def tiles(cuda: Any, dtype: Any, intrinsics: Any, sizes: Sizes, c: int, masked: bool) -> Any:
    """`attention` for heads of at most c columns, where c is a multiple of 8; `masked`: with `dropout_mask`."""
    queries, keys = sizes.queries, sizes.keys
    threads = queries // ROWS * LANES
    each, wide = keys // LANES, c // LANES  # keys, and columns, of a thread
    q_padded, keys_padded = queries + 4, keys + 1
    lowest, nothing, one = dtype(-math.inf), dtype(0), dtype(1)

    biased = with_bias(cuda, dtype)

    def attention(q, k, v, bias, q_positions, k_positions, table, heads, causal, dropout_mask, out):
        """One block computes a tile of one sequence's queries in one head: row blockIdx.x of `table`, head blockIdx.y.

        Eight threads work on four queries. Each thread has the scores of every eighth key and every eighth column of
        the result in registers, and the threads exchange maxima and sums by shuffles. Shared memory holds the tile's
        queries, the keys and values of the current step, and its weights exp(score - largest). Sums are in dtype. They
        add a query's keys tile by tile, in an order that does not depend on other blocks.

        Args:
            bias: [2D+1 h], or no rows.
            q_positions, k_positions: [Nq], [Nk] positions of the tokens.
            table: [blocks 6]: first query, queries, first key, keys, the index in `dropout_mask` of the
                tile's first element in the first head, and the number of elements of `dropout_mask` between two heads.
            dropout_mask: factors of the probabilities, by sequence, head, query, key.
        """
        qs = cuda.shared.array((c, q_padded), dtype, alignment=16)
        ks = cuda.shared.array((c, keys_padded), dtype)
        vs = cuda.shared.array((keys, c), dtype)
        ps = cuda.shared.array((keys, q_padded), dtype, alignment=16)
        total = cuda.local.array((ROWS, wide), dtype)
        score = cuda.local.array((ROWS, each), dtype)
        largest, weight = cuda.local.array(ROWS, dtype), cuda.local.array(ROWS, dtype)
        most, mine, down = cuda.local.array(ROWS, dtype), cuda.local.array(ROWS, dtype), cuda.local.array(ROWS, dtype)
        q_position = cuda.local.array(ROWS, sizes.index_type)
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
            q_position[i] = q_positions[q0 + i0 + i] if i0 + i < n_q else 0
            for j in range(wide):
                total[i, j] = nothing
        for j0 in range(0, n_k, keys):
            cuda.syncthreads()  # all threads have read the last step's keys, values and weights
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
            # Add the bias, leave out keys beyond the sequence, and find each query's largest score in this step.
            for i in range(ROWS):
                most[i] = lowest
                for j in range(each):
                    key = j0 + lane + j * LANES
                    seen = key < n_k and i0 + i < n_q
                    score[i, j] = (
                        biased(score[i, j], bias, k_positions[k0 + key] - q_position[i], head, causal)
                        if seen
                        else lowest
                    )
                    most[i] = max(most[i], score[i, j])
            for i in range(ROWS):
                most[i] = max(most[i], cuda.shfl_xor_sync(EVERYONE, most[i], 4))
                most[i] = max(most[i], cuda.shfl_xor_sync(EVERYONE, most[i], 2))
                most[i] = max(most[i], cuda.shfl_xor_sync(EVERYONE, most[i], 1))
            # Scale the sums from the old largest score to the new one.
            for i in range(ROWS):
                before = largest[i]
                largest[i] = max(before, most[i])
                down[i] = one if before == largest[i] else math.exp(before - largest[i])
            for i in range(ROWS):
                mine[i] = nothing
                for j in range(each):
                    # A key that is left out has weight 0; a NaN stays.
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
            if masked:
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


def one_query(cuda: Any, dtype: Any, intrinsics: Any, sizes: Sizes) -> dict[str, Body]:
    """Attention in a decoder step, with one query per sequence: to the tokens so far or to the whole memory."""
    threads, lowest, nothing, one = sizes.one_query, dtype(-math.inf), dtype(0), dtype(1)
    block_sum, block_max = reductions(cuda, dtype, threads)
    biased = with_bias(cuda, dtype)

    def attend_one(q, k, v, bias, q_positions, k_positions, starts, heads, causal, parts):
        """One block computes a run of one query's keys in one head: row blockIdx.x, head blockIdx.y, run blockIdx.z.

        Eight threads compute a key's score, each from every eighth column. Then each thread sums one column of the
        values over some of the keys. Shared memory holds the weights of as many keys as the block has threads, and at
        the end each thread's sum. The result `parts` [rows heads runs, c+2] is for `merge`: the weighted sum of values,
        the largest score, and the sum of weights. Sums are in dtype, in an order that depends on the number of keys.

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
                    ps[j] = (
                        biased(score, bias, k_positions[k0 + j0 + j] - q_positions[row], head, causal)
                        if seen
                        else lowest
                    )
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
        index = (row * heads + head) * runs + run
        if thread < c:
            total = nothing
            for s in range(slices):
                total += sums[s * c + thread]
            parts[index, thread] = total
        if thread == 0:
            parts[index, c], parts[index, c + 1] = largest, weight

    def merge(parts, heads, runs, out):
        """Adds the runs' sums, scaled to the largest score. One block per query and head, one thread per column."""
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


def probabilities(cuda: Any, dtype: Any, intrinsics: Any, sizes: Sizes) -> dict[str, Body]:
    """Attention's probabilities, for traces and lessons: the only kernel that stores [h i j]."""
    threads, lowest, nothing = sizes.threads, dtype(-math.inf), dtype(0)
    block_sum, block_max = reductions(cuda, dtype, threads)
    biased = with_bias(cuda, dtype)

    def attention_probs(q, k, bias, q_positions, k_positions, q0, k0, heads, causal, out):
        """One block per query and head, sums in dtype; each thread has every `threads`-th key. out is [h*i j]."""
        i, head, n_k = cuda.blockIdx.x, cuda.blockIdx.y, out.shape[1]
        row, c = head * cuda.gridDim.x + i, q.shape[1] // heads
        mine = lowest
        for j in range(cuda.threadIdx.x, n_k, threads):
            score = nothing
            for column in range(head * c, head * c + c):
                score += q[q0 + i, column] * k[k0 + j, column]
            score = biased(score, bias, k_positions[k0 + j] - q_positions[q0 + i], head, causal)
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


WIDTHS = {8: {}, 64: {}, 128: {"queries": 32, "keys": 16}}  # largest number of columns of a head -> changed sizes


def tiled(cuda: Any, dtype: Any, intrinsics: Any, sizes: Sizes) -> dict[str, Body]:
    """`attention` for each width, with and without `dropout_mask`."""
    return {
        f"attention_{c}{'_masked' if masked else ''}": tiles(cuda, dtype, intrinsics, smaller(sizes, c), c, masked)
        for c in WIDTHS
        for masked in (False, True)
    }


def smaller(sizes: Sizes, c: int) -> Sizes:
    """The sizes for heads of at most c columns."""
    return sizes._replace(**{name: min(size, getattr(sizes, name)) for name, size in WIDTHS[c].items()})


FACTORIES = (tiled, one_query, probabilities)
