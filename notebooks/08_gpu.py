# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A GPU, one thread at a time
#
# A GPU runs one small function in thousands of threads at once. This notebook shows what each of these threads does. It
# is for readers who know what a layer of T5 computes ([`02_t5_layer`](02_t5_layer.ipynb)). No GPU is needed: the
# package's CUDA kernels run in a simulator, thread by thread, which records what they read and write. Afterwards you
# can read a kernel. You know why a matrix product is computed in tiles, how threads add up a row, how attention works
# without a matrix of scores, and which speed the numbers of a datasheet allow.
#
# *25 minutes to read, half a minute to run.*

# %%
import os
import sys

os.environ["NUMBA_ENABLE_CUDASIM"] = "1"  # numba reads it on import, so this comes first
sys.path.insert(0, "../tests/helpers")  # the folder of the tests' simulator, a stricter version of numba's own

import inspect
from collections import Counter
from textwrap import dedent, fill
from types import SimpleNamespace
from typing import NamedTuple

import cudasim
import numpy as np
from IPython.display import Markdown
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

from glimmer_ref.costs import hardware, roofline
from glimmer_ref.costs.parse import of_size
from glimmer_ref.golden import case as cases
from glimmer_ref.golden.cases import TABLE
from glimmer_ref.golden.check import check
from glimmer_ref.golden.generate import run_case
from glimmer_ref.ops import SequenceLayout, bind, numpy_backend
from glimmer_ref.ops.cuda.kernels.registry import signature
from glimmer_ref.ops.cuda.runtime import device as cuda_device
from glimmer_ref.ops.cuda.runtime.device import SIZES
from glimmer_ref.ragged import token_positions

plt.style.use("style.mplstyle")
rng = np.random.default_rng(0)


class Event(NamedTuple):
    """A thread of a block reads or writes one number of an array, after so many barriers."""

    block: tuple[int, int]
    step: int
    thread: int
    what: str  # "read" or "write"
    array: str
    index: tuple[int, ...]


# %% [markdown]
# ## A kernel
#
# The function that every thread runs is called a **kernel**. It reads the number of its thread and chooses its work by
# it. Here is the package's simplest kernel, a matrix product: a few lines of Python, which numba compiles for a GPU and
# which our simulator calls directly. Threads form **blocks**, and the threads of a block can cooperate. Blocks form a
# **grid**. The large, slow memory of the GPU is called *global* memory. All three arrays here are in it.
#
# The next cell makes a simulated GPU that records every number of global memory that a thread reads or writes.

# %%
events, names = [], {}


def note(array, what, index):
    """Records who reads or writes what, if the array has a name."""
    if array.array.ctypes.data in names:
        block, thread = cudasim.Block.now, cudasim.getcurrent().number
        events.append(
            Event((block.at.x, block.at.y), block.barriers, thread, what, names[array.array.ctypes.data], index)
        )


class Noted(cudasim.Memory):
    """Global memory that records what is read and written."""

    def __getitem__(self, at):
        note(self, "read", at)
        return super().__getitem__(at)

    def __setitem__(self, at, value):
        note(self, "write", at)
        super().__setitem__(at, value)


class NotedShared(cudasim.Shared):
    """The memory that the threads of a block share; its reads are only counted."""

    reads = 0

    def __getitem__(self, at):
        NotedShared.reads += 1
        return super().__getitem__(at)


def four(operation, what):
    """A read or write of four neighbours at once, recorded as four."""

    def noted(array, at, *values):
        for i in range(4):
            note(array, what, np.unravel_index(at + i, array.shape))
        return operation(array, at, *values)

    return noted


cudasim.INTRINSICS = SimpleNamespace(
    **vars(cudasim.INTRINSICS) | {"load4": four(cudasim.load4, "read"), "store4": four(cudasim.store4, "write")}
)
cudasim.Memory, cudasim.Shared = Noted, NotedShared
namespace = cudasim.Namespace()
cuda_device.open_gpu = lambda: cudasim.device(namespace)
ops = bind("cuda")  # the backend for GPUs, here with the simulated one
gpu = cuda_device.device()
sizes, real = gpu.sizes["float32"], SIZES["float32"]  # of blocks and tiles, here and on a GPU
print(dedent(inspect.getsource(gpu.bodies("float32")["naive"].function)))

# %% [markdown]
# `cuda.grid(2)` is the position of the thread in the whole grid. A thread whose position is outside the result does
# nothing. Every other thread goes along a row of x and down a column of w, and writes one number. We run it for a
# result of 8 by 12 numbers, in blocks of 4 by 4 threads. The picture is drawn from the recorded writes.


# %%
def product(kernel, x, w, on=None):
    """x w by one of the kernels: the result, the recorded events, and the number of reads of shared memory."""
    device = on or gpu
    events.clear()
    names.clear()
    NotedShared.reads = 0
    out, given = device.empty((len(x), w.shape[1]), np.float32), {"x": device.to_device(x), "w": device.to_device(w)}
    for name, array in (given | {"out": out}).items():
        names[array._ary.ctypes.data] = name
    here = device.sizes["float32"]
    down, across = (here.rows, here.columns) if kernel == "linear" else (here.tile, here.tile)
    unused = [given["w"], out] if kernel == "linear" else []  # arguments of its other uses
    device.run("float32", kernel, (-(-w.shape[1] // across), -(-len(x) // down)), *given.values(), *unused, out)
    names.clear()
    return out.copy_to_host(), list(events), NotedShared.reads


def normal(*shape):
    return rng.standard_normal(shape, np.float32)


x, w = normal(8, 8), normal(8, 12)
got, seen, _ = product("naive", x, w)
written = {e.index: e for e in seen if e.what == "write"}
print(f"largest difference from NumPy's product: {np.abs(got - x @ w).max():.0e}")
print(f"{len({e.block for e in seen})} blocks, {len({(e.block, e.thread) for e in seen})} threads")

# %%
# Picture: the 8 by 12 numbers of the result as cells in the shade of their block, each with the number of its thread:
# blocks are squares side by side, and threads count along the rows of each.
figure, axes = plt.subplots(figsize=(9, 4.6))
for (row, column), event in written.items():
    shade = plt.cm.Blues(0.12 + 0.13 * ((event.block[0] + event.block[1]) % 2))
    axes.add_patch(Rectangle((column, row), 1, 1, facecolor=shade, edgecolor="white"))
    axes.text(column + 0.5, row + 0.68, event.thread, ha="center", va="center", fontsize=9)
for bx, by in {e.block for e in written.values()}:
    axes.add_patch(Rectangle((4 * bx, 4 * by), 4, 4, fill=False, edgecolor="#14375e", lw=2))
    axes.text(4 * bx + 0.06, 4 * by + 0.32, f"block ({bx}, {by})", fontsize=8, color="#14375e", fontweight="bold")
axes.set(xlim=(-0.05, 12.05), ylim=(8.05, -0.05), title="The thread that writes each number of the result")
axes.axis("off")
plt.show()

# %% [markdown]
# ## What one thread reads
#
# A thread makes as many multiply-adds as x has columns, and for each it reads two numbers from global memory. The next
# thread in the row reads the same row of x again.

# %%
# Picture: the matrices x, w and the result: one thread's reads dark (a row of x, a column of w), its block's reads
# lighter, its number in the result dark.
mine = [e for e in seen if e.block == (1, 0) and e.thread == 9]
ours = [e for e in seen if e.block == (1, 0)]
figure, panels = plt.subplots(1, 3, figsize=(9, 3), width_ratios=(8, 12, 12))
for axes, name, shape in zip(panels, ("x", "w", "out"), (x.shape, w.shape, got.shape), strict=True):
    image = np.zeros(shape)
    for some, dark in ((ours, 0.3), (mine, 1.0)):
        for event in some:
            if event.array == name:
                image[event.index] = dark
    axes.imshow(image, vmin=0, vmax=1)
    axes.set_title(f"{name} {list(shape)}")
    axes.set_xticks(np.arange(shape[1]) - 0.5, [])
    axes.set_yticks(np.arange(shape[0]) - 0.5, [])
    axes.grid(visible=True, color="#cccccc", lw=0.6)
    axes.tick_params(length=0)
plt.show()

# %%
reads = Counter(e.array for e in mine if e.what == "read")
print(f"this thread: {dict(reads)} reads for {x.shape[1]} multiply-adds")
together = Counter(e.array for e in ours if e.what == "read")
different = {name: len({e.index for e in ours if e.array == name}) for name in ("x", "w")}
print(f"its block of {sizes.tile**2} threads: {dict(together)} reads, of only {different} different numbers")

# %% [markdown]
# ## The second step: a tile in shared memory
#
# Each block has a small, fast memory that its threads *share*. So the threads of a block can fetch a tile of x and a
# tile of w together: each thread fetches one number of each, the threads **wait for each other**, they multiply from
# the shared memory, and they continue with the next tiles. `cuda.syncthreads()` is the barrier at which all threads
# wait. The kernel has two of them. The first ensures that no thread reads a number that is not there yet. The second
# ensures that no thread overwrites a number that others still read. (With `transposed`, the same code handles a w that
# is stored transposed, like the embedding that makes the logits.)

# %%
print(dedent(inspect.getsource(gpu.bodies("float32")["tiled"].function)))

# %%
# Picture: x, w and the result: the number in a cell of x and w is the step in which a block reads it: strips of tiles
# along the block's rows of x, and down its columns of w.
got, seen, _ = product("tiled", normal(8, 16), normal(16, 12))
ours = [e for e in seen if e.block == (1, 0)]
order = {step: i for i, step in enumerate(sorted({e.step for e in ours if e.what == "read"}))}
figure, panels = plt.subplots(1, 3, figsize=(9, 3.3), width_ratios=(16, 12, 12))
for axes, name, shape in zip(panels, ("x", "w", "out"), ((8, 16), (16, 12), (8, 12)), strict=True):
    image = np.full(shape, np.nan)
    for event in ours:
        if event.array == name:
            image[event.index] = order.get(event.step, len(order)) if name != "out" else len(order)
            if name != "out":
                axes.text(*event.index[::-1], order[event.step] + 1, ha="center", va="center", fontsize=8)
    axes.imshow(image, vmin=-2, vmax=2 * len(order))
    axes.set_title(f"{name} {list(shape)}")
    axes.set_xticks(np.arange(shape[1]) - 0.5, [])
    axes.set_yticks(np.arange(shape[0]) - 0.5, [])
    axes.grid(visible=True, color="#cccccc", lw=0.6)
    axes.tick_params(length=0)
plt.show()

# %% [markdown]
# ## A missing barrier
#
# A missing barrier is one of the worst mistakes on a GPU: the result may be right a thousand times, and wrong on the
# next GPU. The simulator records which thread has accessed which number of shared memory between two barriers. It
# refuses any access whose result would depend on chance on a GPU. Here is a kernel of our own, which reverses eight
# numbers through shared memory. It first runs without a barrier.


# %%
def reversing(wait):
    """A kernel: out = x reversed, through shared memory."""
    cuda = namespace

    def reverse(x, out):
        row = cuda.shared.array(8, np.float32)
        i = cuda.threadIdx.x
        row[i] = x[i]
        if wait:
            cuda.syncthreads()
        out[i] = row[7 - i]

    return reverse


def launch(kernel, takes, blocks, threads, *arrays):
    """Runs a kernel of our own; returns the result, or the simulator's message if it refuses."""
    given = [gpu.to_device(array) for array in arrays]
    try:
        namespace.jit(signature(takes, "float32"), launch_bounds=(threads, 1))(kernel)[blocks, threads](*given)
    except cudasim.Broken as error:
        return f"refused: {error}"
    return given[-1].copy_to_host()


eight = np.arange(8, dtype=np.float32)
print("without a barrier:", launch(reversing(False), "vv", 1, 8, eight, np.zeros_like(eight)))
print("with one:         ", launch(reversing(True), "vv", 1, 8, eight, np.zeros_like(eight)))

# %% [markdown]
# ## The third step: numbers in registers
#
# Shared memory is fast, but each multiply-add still reads two numbers from it. Closest to a thread are its *registers*,
# which hold numbers of its own. So each thread computes 8 by 8 numbers of the result instead of one: 8 numbers of x and
# 8 of w, each read once, give 64 multiply-adds. This is `linear`, the package's product in float32. Which 64 numbers
# does a thread compute? Four rows, four more half a tile further down, and columns in the same way, so that
# neighbouring threads read from different banks of shared memory.

# %%
# Picture: the result of one block, 16 by 16 numbers, each cell coloured by the thread that writes it: four threads,
# each with four squares of four by four.
_, seen, _ = product("linear", normal(16, 16), normal(16, 16))
figure, axes = plt.subplots(figsize=(9, 3.9))
for event in seen:
    if event.what == "write":
        row, column = event.index
        color = plt.cm.Blues(0.1 + 0.2 * event.thread)
        axes.add_patch(Rectangle((column, row), 1, 1, facecolor=color, edgecolor="white", lw=0.5))
        ink = "white" if event.thread > 2 else "black"
        axes.text(column + 0.5, row + 0.52, event.thread, ha="center", va="center", fontsize=8, color=ink)
axes.set(xlim=(-0.1, 16.1), ylim=(16.1, -0.1), title="linear: the thread that computes each number")
axes.axis("off")
plt.show()

# %% [markdown]
# ## Counting the reads
#
# All three kernels do the same multiply-adds. They differ in what they read. We count the reads for matrices of 32 by
# 32, and compare with the shapes: a number of x is read from global memory once for every block in its rows. So a block
# of r by c numbers of the result reads 1/r + 1/c numbers for each multiply-add.

# %%
x, w = normal(32, 32), normal(32, 32)
macs = x.shape[0] * x.shape[1] * w.shape[1]
tiles = {"naive": (1, 1), "tiled": (sizes.tile,) * 2, "linear": (sizes.rows, sizes.columns)}
on_gpu = {"naive": (1, 1), "tiled": (real.tile,) * 2, "linear": (real.rows, real.columns)}
counted = {}
print(f"{'reads a multiply-add:':23}global, counted   by shapes   shared, counted   global with a GPU's tiles")
for kernel, (r, c) in tiles.items():
    got, seen, shared = product(kernel, x, w)
    assert np.abs(got - x @ w).max() < 1e-5
    there = sum(1 / side for side in on_gpu[kernel])
    counted[kernel] = sum(e.what == "read" for e in seen) / macs, shared / macs, there
    print(f"{kernel:23}{counted[kernel][0]:15.4f}{1 / r + 1 / c:12.4f}{shared / macs:18.4f}{there:28.4f}")

# %%
# Picture: for each kernel three bars on a logarithmic axis, reads a multiply-add: of global memory as counted, of
# shared memory as counted, of global memory with a GPU's tiles; the global ones shrink from kernel to kernel.
figure, axes = plt.subplots(figsize=(9, 3.2))
looks = (("global, counted here", "C0", ""), ("shared, counted here", "C7", ""), ("global, a GPU's tiles", "C5", "//"))
for j, (label, color, hatch) in enumerate(looks):
    at = np.arange(3) + 0.27 * (j - 1)
    values = np.array([counted[kernel][j] for kernel in tiles])
    bars = axes.barh(at, values, height=0.25, color=color, hatch=hatch, edgecolor="white", label=label)
    axes.bar_label(bars, [f" {value:.3g}" if value else " none" for value in values], fontsize=9)
axes.set_yticks(range(3), tiles)
axes.invert_yaxis()
axes.set(xscale="log", xlim=(0.01, 4), xlabel="reads a multiply-add")
axes.xaxis.set_major_formatter("{x:g}")
axes.legend(loc="lower right")
plt.show()

# %% [markdown]
# ## Adding up a row
#
# RMSNorm needs the sum of the squares of a row. One block handles a row, and each of its threads adds up some of the
# squares. Then 32 threads, a **warp**, add up their sums without any memory, by *shuffles*: in a shuffle each thread
# gets the number that another thread holds. In the first round a thread gets the number of the thread 16 further, then
# 8, 4, 2 and 1 further, and adds it to its own. We record the shuffles of one row.

# %%
rounds = []
plain_shuffle = cudasim.Namespace.shfl_xor_sync


def recorded_shuffle(self, mask, value, offset):
    rounds.append((offset, cudasim.getcurrent().number, float(value)))
    return plain_shuffle(self, mask, value, offset)


row, gain = normal(1, 128), 1 + normal(128) / 5
cudasim.Namespace.shfl_xor_sync = recorded_shuffle
out = ops.to_host(ops.rms_norm(ops.to_device(row), ops.to_device(gain), 1e-6))
cudasim.Namespace.shfl_xor_sync = plain_shuffle
shuffles = list(dict.fromkeys(offset for offset, _, _ in rounds))
held = np.zeros((len(shuffles) + 1, 32))
for offset, thread, value in rounds:
    held[shuffles.index(offset), thread] = value
held[-1] = held[-2] + held[-2][np.arange(32) ^ shuffles[-1]]
print(f"{row.shape[1]} numbers, 32 threads, shuffles {shuffles}")
print(f"the sum in every thread {held[-1][0]:.4f}, by NumPy {np.sum(row**2):.4f}")
print(
    f"largest difference from the reference backend {np.abs(out - numpy_backend.rms_norm(row, gain, 1e-6)).max():.0e}"
)

# %%
# Picture: six rows of 32 threads, each a cell shaded by the sum that it holds; lines from row to row show the two
# partial sums that meet; the last row is one shade.
figure, axes = plt.subplots(figsize=(9, 3.9))
for level, sums in enumerate(held):
    for thread, value in enumerate(sums):
        shade = plt.cm.Blues(0.08 + 0.85 * value / held.max())
        axes.add_patch(Rectangle((thread - 0.4, level - 0.18), 0.8, 0.36, facecolor=shade, edgecolor="#8899aa", lw=0.6))
        if level < len(shuffles):
            for other, wide in ((thread, 0.5), (thread ^ shuffles[level], 0.5)):
                axes.plot([thread, other], [level + 0.2, level + 0.8], color="#b9c4d0", lw=wide, zorder=0)
axes.set_yticks(range(len(held)), ["own squares", *(f"+ that of {a} further" for a in shuffles)])
axes.set(xlim=(-0.7, 31.7), ylim=(len(held) - 0.6, -0.4), xlabel="thread of the warp")
axes.grid(visible=False)
axes.spines[:].set_visible(False)
axes.tick_params(length=0)
plt.show()

# %% [markdown]
# After five rounds all 32 threads have the same sum, bit for bit, because all have added in the same tree.
#
# ## Attention without its matrix
#
# Softmax needs the largest of all scores and the sum of all exponentials before it can weight a value. Yet the kernel
# processes the keys tile by tile and never stores a row of scores. For each query it keeps three things: the largest
# score *so far*, the sum of the exponentials relative to it, and the weighted sum of the values. If a new tile has a
# larger score, both sums are multiplied by exp(old largest - new largest). Then they are what they would be with the
# new largest score from the start. We read the registers of one thread at each barrier, for 8 queries and 40 keys in
# tiles of 8.

# %%
keys = 40
q, k, v = normal(8, 8), normal(keys, 8), normal(keys, 8)
of_tiles = (q[:4] @ k.T).reshape(4, -1, 8).max(axis=2)  # largest score a tile, for the first thread's four queries
query = int(np.argmax((np.diff(np.maximum.accumulate(of_tiles, axis=1)) > 0).sum(axis=1)))  # with most new largest ones
layout = SequenceLayout(
    np.array([8]), np.array([keys]), token_positions(np.array([8])), token_positions(np.array([keys]))
)
kept, running = {}, []
plain_local, plain_wait = cudasim.Namespace.local, cudasim.Namespace.syncthreads


def local_array(shape, dtype):
    """A thread's own array; all are kept by thread, in the order of the kernel's code."""
    array = plain_local.array(shape, dtype)
    kept.setdefault(cudasim.getcurrent().number, []).append(array)
    return array


def wait(self):
    if cudasim.getcurrent().number == 0 and len(kept[0]) > 3:
        _, _, largest, weight = kept[0][:4]
        running.append((float(largest[query]), float(weight[query])))
    cudasim.Block.now.wait(sys._getframe(1).f_lineno, None)


cudasim.Namespace.local, cudasim.Namespace.syncthreads = SimpleNamespace(array=local_array), wait
out = ops.to_host(ops.attention(ops.to_device(q), ops.to_device(k), ops.to_device(v), None, layout, 1, False))
cudasim.Namespace.local, cudasim.Namespace.syncthreads = plain_local, plain_wait
right = numpy_backend.attention(q, k, v, None, layout, 1, False)
scores = q[query] @ k.T
after = running[2::3]  # there are three barriers a tile; at the last one the tile's keys are included
print(f"{'after tile':11}{'largest':>9}{'sum':>9}{'scaled by':>11}")
for i, (largest, weight) in enumerate(after):
    before = after[i - 1][0] if i else -np.inf
    print(f"{i + 1:10} {largest:9.4f}{weight:9.4f}{np.exp(before - largest):11.4f}")
print(f"all at once{scores.max():9.4f}{np.exp(scores - scores.max()).sum():9.4f}")
print(f"largest difference of the result from the reference backend {np.abs(out - right).max():.0e}")
assert np.isclose(after[-1], (scores.max(), np.exp(scores - scores.max()).sum())).all()

# %%
# Picture: above, a query's scores as bars in five tiles, with the largest so far as a step line that only rises; below,
# a row for each tile: the weights of the keys so far, which shrink with each tile; the last row is the softmax.
figure, (top, low) = plt.subplots(2, 1, figsize=(9, 5), sharex=True, height_ratios=(1.2, 1))
tile = np.arange(keys) // 8
top.bar(range(keys), scores, color=[("C0", "C5")[t % 2] for t in tile], width=0.8)
top.step(
    np.arange(0, keys + 1, 8) - 0.5, [largest for largest, _ in (*after, after[-1])], where="post", color="C1", lw=2
)
top.text(keys - 0.6, after[-1][0] + 0.15, "largest so far", color="C1", fontsize=9, ha="right", va="bottom")
top.set(ylabel="score", ylim=(None, scores.max() + 1.6))
image = np.array(
    [np.where(tile <= t, np.exp(scores - largest) / weight, np.nan) for t, (largest, weight) in enumerate(after)]
)
low.imshow(image, aspect="auto", vmin=0, vmax=np.nanmax(image[-1]) * 1.3)
low.set_yticks(range(5), [f"after tile {t + 1}" for t in range(4)] + ["the softmax"])
low.set_xlabel("key")
low.grid(visible=False)
low.tick_params(length=0)
plt.show()

# %% [markdown]
# So the matrix of all scores, whose size grows with the square of the length, never exists. Only one tile of it is in
# registers at a time.
#
# ## Is it the same model?
#
# The model is written once, in terms of operations, and this is the third backend that implements them. A golden case
# ([`07_check_your_own`](07_check_your_own.ipynb)) tests whether the result is GLIMMER. We run the whole case in the
# simulator.

# %%
one = next(case for case in TABLE if case.name == "glimmer")
namespace.launches.clear()
outputs = run_case.run(
    ops, one, cases.model(one, cases.weights(one), "float32"), cases.inputs(one), run_case.Plan(greedy=False)
)
report = check("glimmer", outputs)
print(fill(list(report.lines())[-1], 100))
most = Counter(namespace.launches).most_common(6)
print(
    f"{len(namespace.launches)} launches of kernels:",
    ", ".join(f"{name} {n}" for name, n in most).replace("kernel", "elementwise"),
    "..",
)

# %% [markdown]
# ## What a GPU allows
#
# A simulator does not measure speed. But a datasheet gives the limits: operations a second, and bytes a second from
# memory ([`hardware.toml`](../glimmer_ref/costs/hardware.toml) names its sources). A kernel that moves B bytes for
# each operation cannot do more operations a second than the bandwidth divided by B. A float32 number has 4 bytes, and a
# multiply-add is two operations, so each of the three kernels has a limit below the roof. (The GPU's caches help the
# first two kernels somewhat. The picture leaves caches out.)

# %%
cards = {name: hardware.accelerator(name) for name in ("a100", "h100")}
for card in cards.values():
    knee = card.flops["float32"] / card.bandwidth
    print(f"{card.name}: {card.flops['float32'] / 1e12:.1f} TFLOP/s in float32, {card.flops['bfloat16'] / 1e12:.1f} in "
          f"bfloat16, {card.bandwidth / 1e9:,.0f} GB/s; knee at {knee:.1f} FLOP a byte")  # fmt: skip
intensity = {kernel: 2 / (4 * sum(1 / side for side in on_gpu[kernel])) for kernel in on_gpu}
for kernel, flops_a_byte in intensity.items():
    reach = [min(card.flops["float32"], flops_a_byte * card.bandwidth) / 1e12 for card in cards.values()]
    print(f"{kernel:7}{flops_a_byte:7.2f} FLOP a byte: at most {reach[0]:5.1f} and {reach[1]:5.1f} TFLOP/s")

# %%
# Picture: rooflines of two GPUs in float32 on logarithmic axes, with the three kernels as marks on the slope: naive at
# the lower left, tiled in the middle, linear near the knee.
figure, axes = plt.subplots(figsize=(9, 4))
grid = np.logspace(-1, 3, 200)
for card, color, style in zip(cards.values(), ("C2", "C0"), ("--", "-"), strict=True):
    roof = np.minimum(card.flops["float32"], grid * card.bandwidth) / 1e12
    axes.plot(grid, roof, color=color, ls=style, lw=2, label=f"{card.name}, float32")
    for at in intensity.values():
        axes.plot(at, min(card.flops["float32"], at * card.bandwidth) / 1e12, "o", color=color, ms=7)
for kernel, at in intensity.items():
    low_mark = min(cards["a100"].flops["float32"], at * cards["a100"].bandwidth) / 1e12
    axes.text(at * 1.2, low_mark * 0.68, kernel, fontsize=10)
axes.set(xscale="log", yscale="log", xlabel="FLOP a byte of global memory", ylabel="TFLOP/s at most")
axes.xaxis.set_major_formatter("{x:g}")
axes.yaxis.set_major_formatter("{x:g}")
axes.legend(loc="lower right")
plt.show()

# %% [markdown]
# Now the whole model. The operations and bytes of each stage follow from its shapes. The next picture shows GLIMMER of
# size XXL in bfloat16 on an H100. A stage to the right of the knee is limited by arithmetic, and a stage to the left of
# it by memory. The stages of the encoder read their weights once for thousands of tokens. The decoder reads all its
# weights for *every token*, unless several questions are answered at once.

# %%
setting, card = of_size("xxl"), cards["h100"]
knee = card.flops["bfloat16"] / card.bandwidth
stages = {}
for batch in (1, 16):
    print(f"{batch} question(s) at once; knee at {knee:.0f} FLOP a byte")
    for name, work in roofline.work(setting, "glimmer", 2, batch).items():
        took = roofline.stage_seconds(work, card.flops["bfloat16"], card.bandwidth) / batch
        stages[name, batch] = float(2 * work.macs / work.bytes), float(took)
        print(f"  {name:9} {stages[name, batch][0]:8.1f} FLOP a byte, at least {1e3 * float(took):7.2f} ms a question")

# %%
# Picture: stages of GLIMMER-XXL under the H100's bfloat16 roof, for one question and for sixteen at once: the decoder
# is far down on the slope and higher with the batch, the encoder's stages are under the flat roof.
figure, axes = plt.subplots(figsize=(9, 4))
grid = np.logspace(-0.5, 5.5, 200)
axes.plot(grid, np.minimum(card.flops["bfloat16"], grid * card.bandwidth) / 1e12, color="#666666", lw=1.5)
for batch, color, marker, level in ((1, "C0", "o", 2.4), (16, "C1", "D", 0.25)):
    for i, name in enumerate(dict.fromkeys(name for name, _ in stages)):
        at = stages[name, batch][0]
        top_of = min(card.flops["bfloat16"], at * card.bandwidth) / 1e12
        axes.plot(at, top_of, marker, color=color, ms=7, label=f"{batch} at once" if not i else None)
        label = top_of * level * (1.9 if name == "cross" else 1)  # which has a neighbour
        axes.annotate(name, (at, top_of), (at, label), fontsize=8, ha="center", color=color, rotation=25,
                      arrowprops={"arrowstyle": "-", "color": color, "lw": 0.5})  # fmt: skip
axes.set(xscale="log", yscale="log", xlabel="FLOP a byte", ylabel="TFLOP/s at most", ylim=(0.3, 8000))
axes.legend(loc="lower right")
plt.show()

# %%
share = {b: stages["decoder", b][1] / sum(s for (_, batch), (_, s) in stages.items() if batch == b) for b in (1, 16)}
Markdown(
    f"The decoder takes **{100 * share[1]:.0f}%** of the least time for a single question and "
    f"**{100 * share[16]:.0f}%** in a batch of 16. GLIMMER saves in the encoder, so its saving shows in a batch."
)

# %% [markdown]
# With an NVIDIA GPU, `pip install '.[cuda12]'` (or `cuda13`) and `--ops cuda` run these same kernels on it, and `python
# -m glimmer_ref.ops.selftest cuda` compares each operation with the reference backend at real sizes.
#
# ## Exercises
#
# **Exercise 1.** T5-base's up-projection multiplies `[1760 768]` by `[768 2048]`. How many blocks and threads does
# `tiled` start with the GPU's tile, and how many does `linear`? How many threads of `tiled` have nothing to write if
# there is one more row?
#
# **Exercise 2.** How many numbers does `tiled` read for each multiply-add if its tile is 8 by 8? Predict it, then count
# it in the simulator. (`gpu.sizes` can be replaced: see `cudasim.device`.)
#
# **Exercise 3.** Write a kernel that adds 1 to each of 10 numbers, in blocks of 4 threads, with everything that it
# needs. Then remove the line that most kernels begin with, and look at the simulator's message. What would a GPU do?

# %% [markdown]
# ## Solutions

# %% tags=["solution"]
# Solution 1. A grid covers the result; each thread of linear computes 64 numbers.
rows_, columns_ = 1760, 2048
blocks = -(-rows_ // real.tile) * -(-columns_ // real.tile)
print(f"tiled:  {blocks:,} blocks of {real.tile**2} threads, {blocks * real.tile**2:,} threads")
blocks = -(-rows_ // real.rows) * -(-columns_ // real.columns)
print(f"linear: {blocks:,} blocks of {real.rows * real.columns // 64} threads")
more = -(-(rows_ + 1) // real.tile) * real.tile
print(f"with {rows_ + 1} rows, {(more - rows_ - 1) * columns_:,} threads of tiled have nothing to write")

# %% tags=["solution"]
# Solution 2. 1/8 + 1/8.
wider = cudasim.device(namespace, sizes._replace(tile=8))
got, seen, _ = product("tiled", x, w, on=wider)
print(f"{sum(e.what == 'read' for e in seen) / macs:.4f} reads a multiply-add, by shapes {1 / 8 + 1 / 8:.4f}")


# %% tags=["solution"]
# Solution 3. Three blocks have 12 threads. Without the guard, two of them access memory behind the array. A GPU would
# read and overwrite it, mostly without any message.
def adding(guard):
    def add_one(x, out):
        i = namespace.grid(1)
        if not guard or i < out.size:
            out[i] = x[i] + np.float32(1)

    return add_one


ten = np.arange(10, dtype=np.float32)
for guard in (True, False):
    print(launch(adding(guard), "vv", 3, 4, ten, np.zeros_like(ten)))
