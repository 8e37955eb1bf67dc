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
# # One layer of T5
#
# GLIMMER, LUMEN and FiD are all built from the layers of one model, T5.1.1. A layer of it is ten lines of code for
# readers who know a Transformer, but four things in it are unusual: RMSNorm, a norm that does not subtract the mean;
# relative positions, which come from a table of buckets; attention scores that are not divided by the square root of
# the head's width; and a feed-forward block with a gate. This notebook shows each of them inside the bundled model. It
# then compares one operation in two backends, and measures how close operations come to the limits of the machine.
#
# *25 minutes to read, one minute to run.*

# %%
import inspect
import math
from copy import copy
from dataclasses import replace
from html import escape
from textwrap import dedent, fill

import numpy as np
from IPython.display import HTML, Markdown
from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch

import glimmer_ref
from glimmer_ref.bench.hardware_peaks import measure_peaks
from glimmer_ref.costs.this_cpu import fastest
from glimmer_ref.data.inputs import passage_tokens, question_tokens, read_passages, read_questions
from glimmer_ref.evaluation.evaluate import evaluate
from glimmer_ref.inference.reader import bundled
from glimmer_ref.instruments import MacCounter, Trace
from glimmer_ref.ops import SequenceLayout, bind, interface, numpy_backend
from glimmer_ref.ops.cpu import ops as cpu_ops
from glimmer_ref.ops.cpu.kernels.rows import normalize_row
from glimmer_ref.paper import t5
from glimmer_ref.params import checkpoint
from glimmer_ref.params.model import init_param, map_named, prepare_params
from glimmer_ref.ragged import States, Tokens, token_positions

plt.style.use("style.mplstyle")
reader = glimmer_ref.load()
model = checkpoint.load(bundled(), "float32")  # its weights as plain NumPy arrays
config = model.config.t5
questions = list(read_questions(bundled() / "questions.jsonl"))
passages = list(read_passages(bundled() / "passages.jsonl"))
Markdown(
    f"The bundled model has states of d = **{config.d_model}** numbers, **{config.num_heads}** heads of c = "
    f"**{config.d_kv}** each, f = **{config.d_ff}** numbers inside the feed-forward block, "
    f"**{config.num_layers}** encoder layers and **{config.num_decoder_layers}** decoder layers."
)

# %% [markdown]
# ## The layer, seen from outside
#
# A layer takes the states of a sequence, one row of d numbers for each token, and returns as many rows of the same
# width. It consists of two blocks. Each block first normalises its input (the *pre-norm* arrangement), and its result
# is added to that input. Nothing else changes the states along the line on the left, which is called the residual
# stream.


# %%
# Picture: the two blocks of a layer beside the residual stream, each box with the shape of its result.
def box(axes, x, y, text, color="#e8eef5"):
    axes.add_patch(FancyBboxPatch((x, y), 1.5, 0.62, boxstyle="round,pad=0.04", facecolor=color, edgecolor="#14375e"))
    axes.text(x + 0.75, y + 0.31, text, ha="center", va="center", fontsize=9)


def arrow(axes, start, end, style="-|>"):
    axes.annotate("", end, start, arrowprops={"arrowstyle": style, "color": "#14375e", "lw": 1.3})


figure, axes = plt.subplots(figsize=(9, 3.4))
for y, boxes in (
    (2.2, ("RMSNorm\n[N d]", "q k v\n3 x [N hc]", "attention\n+ bucket bias", "context\n[N hc]", "o\n[N d]")),
    (0.4, ("RMSNorm\n[N d]", "wi_0, wi_1\n2 x [N f]", "gelu(a) * b", "hidden\n[N f]", "wo\n[N d]")),
):
    for i, text in enumerate(boxes):
        box(axes, 1.2 + 1.95 * i, y, text, "#fbf1de" if i == 2 else "#e8eef5")
        arrow(axes, (1.2 + 1.95 * i - 0.4, y + 0.31), (1.2 + 1.95 * i - 0.03, y + 0.31))
    end = 1.2 + 1.95 * 4 + 1.58
    axes.plot([end, end + 0.3, end + 0.3, 0.55], [y + 0.31, y + 0.31, y - 0.45, y - 0.45], color="#14375e", lw=1.3)
    axes.plot([0.4, 0.8], [y + 0.31, y + 0.31], color="#14375e", lw=1.3)
    axes.text(0.4, y - 0.45, "+", ha="center", va="center", fontsize=13, bbox={"boxstyle": "circle", "fc": "white"})
    axes.text(end + 0.42, y + 0.31, "attention\nblock" if y > 1 else "feed-forward\nblock", va="center", fontsize=9)
arrow(axes, (0.4, 3.3), (0.4, -0.75))
axes.text(0.4, 3.4, "x [N d]", ha="center", fontsize=9)
axes.set(xlim=(-0.2, 12.5), ylim=(-0.8, 3.7))
axes.axis("off")
plt.show()

# %% [markdown]
# In the package this layer is `t5.encoder_layer`, and below are its two blocks in full. `ops` is the backend, which
# holds the mathematical operations. `ops.record` returns its argument, and reports it with its name to an instrument if
# there is one. `ops.dropout` does nothing except in training. `precision_of` is None for weights that are plain arrays,
# as these are.


# %%
def body(f):
    """A function's source below its docstring."""
    return dedent(inspect.getsource(f).split('"""')[2]).strip()


blocks = (t5.attention_block, t5.attend, t5.attention_output, t5.feed_forward_block)
Markdown("\n\n".join(f"**`{f.__name__}`**\n\n```python\n{body(f)}\n```" for f in blocks))

# %% [markdown]
# A `Trace` is such an instrument: it keeps every array that is recorded. We send one passage, which holds the answer to
# a question, through the first layer, and list the arrays. Rows are tokens. There is no batch dimension and no padding,
# because sequences are stored end to end.

# %%
question = next(q for q in questions if q.gold)
gold = next(p for p in passages if p.id == question.gold[0])
tokens = passage_tokens(model.config, reader.tokenizer, [gold])
ops = bind("numpy")
trace = Trace(ops)
layout = SequenceLayout(
    tokens.lengths, tokens.lengths, token_positions(tokens.lengths), token_positions(tokens.lengths)
)
x = ops.embed(model.embedding, tokens.ids)
table = model.memory.relative_attention_bias
bias = t5.position_bias(ops, config, table, layout, bidirectional=True)
y = t5.encoder_layer(trace.scope("layer_0"), config, model.memory.layers[0], x, bias, layout)
print(question.text)
print(fill(f"{len(x)} tokens: {gold.title} : {gold.text}", 100), end="\n\n")
for name, array in trace.arrays.items():
    if not name.endswith(".lengths"):
        print(f"{name:34} {list(array.shape)}")

# %% [markdown]
# ## RMSNorm: a norm that does not subtract the mean
#
# $$\mathrm{RMSNorm}(x) = \frac{x}{\sqrt{\frac{1}{d}\sum_j x_j^2 + \varepsilon}} \odot g$$
#
# LayerNorm would also subtract the mean of the row first and add a bias at the end. T5 does neither. RMSNorm scales
# each row to the same length, and the gain g, a learnt vector, decides how much each of the d numbers counts. Ten times
# the input gives the same output (except for the tiny ε), so a block cannot see how long its input was. That is needed,
# because the residual stream only ever has things added to it, and grows. We follow one question with 25 passages
# through all layers.

# %%
q = question_tokens(model.config, reader.tokenizer, [question.text])[0]
some = [passages[i] for i in reader.retrieve(question.text, passages, 25)[0]]
ids = passage_tokens(model.config, reader.tokenizer, some)
run = reader.trace(q, [ids[i] for i in range(len(ids))])
stream = {
    name.removesuffix(".feed_forward.out").replace(".layer_", " "): array
    for name, array in run.items()
    if name.startswith(("memory", "live")) and name.endswith("feed_forward.out")
}
rms = {name: np.sqrt(np.mean(array**2, axis=1)) for name, array in stream.items()}
ones = np.ones(config.d_model, np.float32)
after = {name: ops.rms_norm(array, ones, config.layer_norm_epsilon) for name, array in stream.items()}
# The cosine between a row and the same row without its mean: 1 if subtracting does not change the direction.
cosine = {name: np.sqrt(1 - (array.mean(axis=1) / rms[name]) ** 2) for name, array in stream.items()}
for name in stream:
    print(
        f"after {name:10} mean length {rms[name].mean():6.2f}   cosine without the mean {cosine[name].mean():.3f}"
        f"   after the norm {np.sqrt(np.mean(after[name] ** 2)):.3f}"
    )

# %%
# Picture: lengths of the tokens' rows after each layer, which grow from left to right; after the norm they are all 1.
figure, axes = plt.subplots(figsize=(9, 3.2))
rng = np.random.default_rng(0)
for i, lengths in enumerate(rms.values()):
    x_at = i + rng.uniform(-0.28, 0.28, min(len(lengths), 400))
    axes.scatter(x_at, rng.permutation(lengths)[: len(x_at)], s=5, color="C3", alpha=0.5, linewidths=0)
    axes.plot([i - 0.36, i + 0.36], [lengths.mean()] * 2, color="C0", lw=2.5)
axes.axhline(1, color="C1", ls="--", lw=1.5)
axes.text(-0.45, 1.03, "every row after the norm", color="C1", fontsize=9, va="bottom")
axes.set_xticks(range(len(rms)), rms)
axes.set(
    yscale="log", ylabel="root of the mean square", title="Length of each token's row after each layer (bar: mean)"
)
axes.set_yticks([1, 2, 5, 10], ["1", "2", "5", "10"])
axes.minorticks_off()
plt.show()

# %% [markdown]
# The cosine shows why T5 can leave out the subtraction: the mean of a row is small compared with its length, so
# subtracting it would hardly change the row's direction. And every normalised row has length one, whatever the length
# in the stream was.
#
# ## Positions are buckets
#
# So far nothing depends on the order of the tokens. T5 does not add positions to the input. It adds a learnt number to
# each attention score, which depends only on the head and on the distance from query to key:
#
# $$s_{ij} = q_i \cdot k_j + b_h(\mathrm{bucket}(j - i))$$
#
# There are `relative_attention_num_buckets` buckets. Small distances have a bucket each. Larger ones share buckets,
# which get wider with the distance, and all distances beyond `relative_attention_max_distance` share the last one. An
# encoder looks both ways and uses half of its buckets for keys ahead. A decoder sees only the keys behind, so with the
# same number of buckets its buckets are narrower.

# %%
# Picture: bucket against distance as two staircases, flat where distances share a bucket.
size, far = config.relative_attention_num_buckets, config.relative_attention_max_distance
distance = np.arange(-160, 161)
figure, axes = plt.subplots(figsize=(9, 3.4))
for name, both, color, style in (("encoder", True, "C0", "-"), ("decoder", False, "C1", "--")):
    shown = distance if both else distance[distance <= 0]
    buckets = t5.relative_buckets(shown, both, size, far)
    axes.step(shown, buckets, where="mid", color=color, ls=style, lw=1.8)
    at = np.searchsorted(shown, -70)
    axes.text(-70, buckets[at] + 1, name, color=color, fontsize=10)
axes.text(70, t5.relative_buckets(np.array([70]), True, size, far)[0] - 2.6, "encoder, keys ahead", color="C0")
for edge in (-far, far):
    axes.axvline(edge, color="C7", lw=1, ls=":")
axes.text(far, 0.3, f" {far}", color="#666666", fontsize=9)
axes.set(xlabel="distance j - i from query to key, in tokens", ylabel="bucket", ylim=(-1, size + 1.5))
axes.set_title("Which bucket a distance falls into")
plt.show()

# %%
for both, name in ((True, "encoder"), (False, "decoder")):
    behind = t5.relative_buckets(-np.arange(400), both, size, far)
    widths = np.bincount(behind)
    alone, widest, last = np.sum(widths == 1), widths[:-1].max(), np.argmax(behind == behind.max())
    print(f"{name}: {alone} distances have their own bucket, up to {widest} share one, the last begins at {last}")

# %% [markdown]
# The table is shared by all layers of a stack. Below is what the bundled model has learnt, one line for each head.
# Where a line is high, the head attends to that distance, whatever token stands there. One nat more multiplies the
# weight by e.

# %%
# Picture: bias against distance for each head of the memory encoder, and the same as a matrix for the first head.
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), width_ratios=(1.5, 1))
shown = np.arange(-60, 61)
learnt = table[t5.relative_buckets(shown, True, size, far)]
for h, (style, marker) in enumerate(zip(("C0", "C1", "C2", "C3", "C4", "C5"), "os^Dv*", strict=True)):
    if h < config.num_heads:
        left.plot(shown, learnt[:, h], color=style, marker=marker, markevery=12, ms=5, lw=1.5, label=f"head {h}")
left.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
left.set(xlabel="distance j - i", ylabel="bias (nats)")
n = 40
square = np.arange(n)[None, :] - np.arange(n)[:, None]
image = right.imshow(bias_of := table[t5.relative_buckets(square.ravel(), True, size, far), 0].reshape(n, n))
right.set(xlabel="key j", ylabel="query i", title="head 0, as a matrix")
right.spines[:].set_visible(True)
figure.colorbar(image, ax=right, shrink=0.85)
plt.show()

# %% [markdown]
# ## Why the scores are not divided by the root of c
#
# The textbook's attention is $\mathrm{softmax}(q k^\top / \sqrt{c})$. If the numbers in q and k have variance 1, the
# product over c terms has variance c. With scores as large as that, softmax picks one key and its gradient vanishes. T5
# computes $\mathrm{softmax}(q k^\top + b)$ instead. The root is not missing: it is in the weights. Before training, T5
# draws the weights of q smaller than those of k by the factor $c^{-1/2}$. We draw weights in three ways and look at the
# scores of 256 random, normalised rows.

# %%
d, rows = 512, 256
rng = np.random.default_rng(0)
states = ops.rms_norm(rng.standard_normal((rows, d)), np.ones(d), 1e-6)
widths = [8, 16, 32, 64, 128, 256]
ways = {"usual weights, no division": [], "usual weights, divided": [], "T5's weights, no division": []}
for c in widths:
    k = states @ init_param(rng, "k", (d, c), c)
    usual = states @ init_param(rng, "k", (d, c), c)
    smaller = states @ init_param(rng, "q", (d, c), c)
    for name, q_, by in zip(ways, (usual, usual, smaller), (1, math.sqrt(c), 1), strict=True):
        scores = q_ @ k.T / by
        (probs,) = ops.attention_probs(
            q_ / by, k, None, SequenceLayout(*[np.array([rows])] * 2, *[np.arange(rows)] * 2), 1, False
        )
        ways[name].append((scores.std(), np.exp(-(probs * np.log(probs)).sum(axis=-1)).mean()))
for name, found in ways.items():
    print(f"{name:27}" + "".join(f" c={c}: {s:5.2f}" for c, (s, _) in zip(widths, found, strict=True)))

# %%
# Picture: left, the standard deviation of the scores, which grows with the root of c without the division; right, the
# effective number of keys attended to, which then falls to a few.
figure, panels = plt.subplots(1, 2, figsize=(9, 3.5))
looks = {name: look for name, look in zip(ways, (("C1", "s", "--"), ("C7", "o", "-"), ("C0", "D", ":")), strict=True)}
for part, axes in enumerate(panels):
    for name, found in ways.items():
        color, marker, style = looks[name]
        wide = 5 if style == "-" else 1.8
        axes.plot(widths, [pair[part] for pair in found], color=color, marker=marker, ls=style, lw=wide, label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(widths, widths)
    axes.set_xlabel("c, width of a head")
    axes.set_ylim(bottom=0)
panels[0].set_title("standard deviation of the scores")
panels[1].set_title(f"effective number of keys, of {rows}")
figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
plt.show()

# %% [markdown]
# The dotted line lies on the grey one: T5's weights do what the division does. (The right picture shows the effective
# number of keys, e to the power of the entropy of the attention weights. With equal weights it would be the number of
# all keys.) Training started from there, so the scores must not be divided a second time. This is a well-known bug of
# reimplementations, and it is hard to notice: nothing crashes, and the model still answers. We put it into the bundled
# model by scaling the weights of every q, and ask 150 questions.


# %%
def divided(by):
    """The reader, with all attention scores divided by a number."""
    other = map_named(lambda name, w: w / np.float32(by) if name.endswith(".q") else w, model)
    changed = copy(reader)
    changed.model = prepare_params(reader.ops, other)
    return changed


def exact_match(reader_, some):
    memory = reader_.memorize(passages)
    return evaluate(reader_, some, memory, "glimmer", 25, 5, lambda batches, *_: batches)[0]["exact_match"]


asked = questions[:: len(questions) // 150][:150]
factors = {"as trained": 1, "divided by 1.25": 1.25, "by 2": 2, "by the root of c": math.sqrt(config.d_kv)}
right_answers = {name: exact_match(divided(by), asked) for name, by in factors.items()}
for name, value in right_answers.items():
    print(f"{name:18} {value:5.1f}% of {len(asked)} questions answered right")

# %%
# Picture: bars of how many answers are right, falling as the scores are divided by more.
figure, axes = plt.subplots(figsize=(9, 2.2))
bars = axes.barh(list(right_answers), list(right_answers.values()), color=["C0", "C7", "C7", "C1"], height=0.6)
axes.bar_label(bars, fmt=" %.1f%%", fontsize=9)
axes.invert_yaxis()
axes.set(
    xlim=(0, 108),
    xticks=range(0, 101, 20),
    xlabel="exact match, %",
    title="The bundled model, its attention scores divided",
)
plt.show()

# %% [markdown]
# ## The gate
#
# The feed-forward block of T5.1.1 makes two products of its input, $a = n W_0$ and $b = n W_1$. One goes through GELU,
# and the other is multiplied with the result:
#
# $$\mathrm{hidden} = \mathrm{gelu}(a) \odot b, \qquad
# \mathrm{gelu}(a) = \frac{a}{2}\left(1 + \tanh\left(\sqrt{2/\pi}\,(a + 0.044715\,a^3)\right)\right)$$
#
# So a decides *whether* a number is written, and b decides *which* number, with either sign. The formula with tanh is
# itself an approximation of $a\,\Phi(a)$, but it is the one that T5.1.1 was trained with. With the exact formula the
# model is a slightly different one.

# %%
grid = np.linspace(-5, 5, 2001)
tanh_form = ops.gated_gelu(grid, np.ones_like(grid))
exact = grid * 0.5 * (1 + np.array([math.erf(v / math.sqrt(2)) for v in grid]))
here = trace.arrays["layer_0.attention.out"]
w = model.memory.layers[0].feed_forward
normed = ops.rms_norm(here, w.norm, config.layer_norm_epsilon)
a, b = ops.linear(normed, w.wi_0), ops.linear(normed, w.wi_1)
hidden = ops.gated_gelu(a, b)
assert np.array_equal(hidden, trace.arrays["layer_0.feed_forward.hidden"])
print(f"tanh form and exact GELU differ by at most {np.abs(tanh_form - exact).max():.5f}")
print(f"first layer, this passage: {100 * np.mean(np.abs(hidden) < 0.1):.0f}% of hidden numbers are below 0.1 in size")

# %%
# Picture: left, GELU's two forms and ReLU with the difference magnified; right, each hidden number of the passage as a
# point over a and b, on lines of equal gelu(a) b: left of 0 the products are close to 0.
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
left.plot(grid, ops.relu(grid), color="C7", lw=4, label="relu(a)")
left.plot(grid, tanh_form, color="C0", lw=1.8, label="gelu(a), tanh")
left.plot(grid, 2000 * (tanh_form - exact), color="C1", lw=1.3, ls="--", label="2000 x (tanh - exact)")
left.set(xlabel="a", xlim=(-4, 3), ylim=(-1.2, 3))
left.legend(loc="upper left")
reach = 1.05 * max(np.abs(a).max(), np.abs(b).max())
ga, gb = np.meshgrid(np.linspace(-reach, reach, 200), np.linspace(-reach, reach, 200))
levels = [-4, -2, -1, -0.3, 0.3, 1, 2, 4]
lines = right.contour(ga, gb, ops.gated_gelu(ga, gb), levels, colors="C1", linewidths=0.8)
right.clabel(lines, fmt="%g", fontsize=8)
right.scatter(a, b, s=4, color="C0", alpha=0.35, linewidths=0)
right.set(xlabel="a, what GELU lets through", ylabel="b, what it multiplies", title="the passage's hidden numbers")
plt.show()

# %% [markdown]
# ## One operation, written three times
#
# The model is written once, in terms of a few operations. The *op interface* defines each of them. The *reference
# backend* implements them in NumPy, for reading and for float64. The *fast backend* implements them as loops that Numba
# compiles. Here is RMSNorm in all three, from their sources. The last one is the loop over a row that every fused
# encoder and decoder layer runs. Note two differences: `dot` adds sixteen squares at once, in one vector register of
# the processor, and the loop multiplies each number by the inverse root, where the formula divides by the root. The
# order of the additions is the same for any number of threads.

# %%
backends = {
    "the op interface": interface.Operations.rms_norm,
    "the reference backend, NumPy": numpy_backend.rms_norm,
    "the loop over a row, Numba": normalize_row,
}
columns = [
    f'<div style="flex:1 1 19em;min-width:0"><b>{name}</b><pre style="overflow-x:auto;white-space:pre-wrap">'
    f"{escape(dedent(inspect.getsource(f)).strip())}</pre></div>"
    for name, f in backends.items()
]
HTML(f'<div style="display:flex;flex-wrap:wrap;gap:1em;text-align:left">{"".join(columns)}</div>')

# %% [markdown]
# The backends must agree. How well do they, in units of float32's epsilon, the gap between 1 and the next larger
# number? We compare both with the reference backend in float64.

# %%
rng = np.random.default_rng(0)
rows32 = rng.standard_normal((1000, config.d_model)).astype(np.float32) * 3
gain = model.final_norm
truth = numpy_backend.rms_norm(rows32.astype(np.float64), gain.astype(np.float64), 1e-6)
for name, backend in (("NumPy, float32", numpy_backend), ("Numba, float32", cpu_ops)):
    off = np.abs(backend.rms_norm(rows32, gain, 1e-6) - truth) / np.abs(truth)
    print(f"{name}: mean {off.mean() / np.finfo(np.float32).eps:.2f}, most {off.max() / np.finfo(np.float32).eps:.1f}")

# %% [markdown]
# ## What the machine allows
#
# An operation has to do its arithmetic and to move its operands. The quotient of the two, in FLOPs a byte, is its
# *intensity*. The intensity decides which of the machine's two limits applies: the bandwidth of the memory, which is
# the sloped line, or the speed of the arithmetic units, which is the flat roof. We take one layer of T5.1.1-base over
# five question-passage pairs. The limits are measured right before and right after the operations, and the larger ones
# count, because the speed of a machine changes with its load.

# %%
base = glimmer_ref.config.SIZES["base"]
lengths = np.full(5, 352)
at = token_positions(lengths)
rng = np.random.default_rng(0)


def normal(*shape):
    return rng.standard_normal(shape, np.float32)


N, width, inner = len(at), base.d_model, base.d_ff
x, up, gate = normal(N, width), normal(N, inner), normal(N, inner)
w_up, bias_rows = normal(width, inner) / 28, normal(2 * 352 - 1, base.num_heads)
pairs = SequenceLayout(lengths, lengths, at, at)


def work(o, weight):
    """Each operation as a function to call, with the arrays that it has to read and write at least."""
    return {
        "add": (lambda: o.add(x, x), (x, x, x)),
        "rms_norm": (lambda: o.rms_norm(x, x[0], 1e-6), (x, x)),
        "gated_gelu": (lambda: o.gated_gelu(up, gate), (up, gate, up)),
        "attention": (lambda: o.attention(x, x, x, bias_rows, pairs, base.num_heads, False), (x, x, x, x)),
        "linear": (lambda: o.linear(x, weight), (x, w_up, up)),
    }


count = MacCounter(ops)
flops = {"add": x.size, "rms_norm": 4 * x.size, "gated_gelu": 10 * up.size}  # counted in their formulas
for name in ("attention", "linear"):
    before = sum(count.macs.values())
    work(count, w_up)[name][0]()
    flops[name] = 2 * (sum(count.macs.values()) - before)  # two a multiply-add
intensity = {name: flops[name] / sum(a.nbytes for a in arrays) for name, (_, arrays) in work(ops, w_up).items()}
for name in flops:
    print(f"{name:10} {flops[name] / 1e9:8.4f} GFLOP   {intensity[name]:7.2f} FLOP a byte")

# %% tags=["varies"]
fast = bind("numba")
before = measure_peaks(1)
seconds = {}
with fast.limited(1):
    for backend, o, weight in (("NumPy", ops, w_up), ("Numba, 1 thread", fast, fast.pack(w_up, "float32"))):
        for name, (call, _) in work(o, weight).items():
            call()
            seconds[backend, name] = fastest(call, 1)
machine = max(before, measure_peaks(1), key=lambda peaks: peaks.float32)
print(f"one thread: at most {machine.float32 / 1e9:.0f} GFLOP/s, {machine.reads / 1e9:.1f} GB/s read from memory")
for (backend, name), took in seconds.items():
    print(f"{backend:16} {name:10} {1e3 * took:8.2f} ms  {flops[name] / took / 1e9:7.1f} GFLOP/s")

# %% tags=["varies"]
# Picture: the roofline, GFLOP/s against FLOPs a byte; norms and gates are low on the slope, products at the right under
# the roof, and Numba's marks are above NumPy's.
figure, axes = plt.subplots(figsize=(9, 4.6))
knee = machine.float32 / machine.reads
axes.plot([0.03, knee, 2000], np.array([0.03 * machine.reads, machine.float32, machine.float32]) / 1e9, color="#666666")
axes.text(3, 3.9 * machine.reads / 1e9, "memory", fontsize=9, color="#666666", ha="right")
axes.text(1900, machine.float32 / 0.9e9, "arithmetic, one thread", fontsize=9, color="#666666", ha="right")
for backend, color, marker, large in (("NumPy", "C2", "s", 110), ("Numba, 1 thread", "C0", "o", 40)):
    y = [flops[name] / seconds[backend, name] / 1e9 for name in flops]
    axes.scatter([intensity[name] for name in flops], y, s=large, color=color, marker=marker, label=backend, zorder=3)
for name in flops:
    reached = [flops[name] / seconds[backend, name] / 1e9 for backend in ("NumPy", "Numba, 1 thread")]
    if name == "add":  # the slope is below
        axes.text(intensity[name], max(reached) * 1.5, name, ha="center", fontsize=9)
    else:
        side = {"rms_norm": "right", "gated_gelu": "left"}.get(name, "center")  # these two are neighbours
        axes.text(intensity[name], min(reached) * 0.62, name, ha=side, va="top", fontsize=9)
axes.set(xscale="log", yscale="log", xlabel="FLOP per byte moved", ylabel="GFLOP/s", xlim=(0.03, 2000))
axes.set_ylim(bottom=0.15)
axes.xaxis.set_major_formatter("{x:g}")
axes.yaxis.set_major_formatter("{x:g}")
axes.legend(loc="upper left")
plt.show()

# %% [markdown]
# Read the picture from left to right. Operations that use each number once (`add`, `rms_norm`, `gated_gelu`) can never
# come near the roof. Better code inside them does not help. What helps is to not write their results to memory, by
# fusing them with a product. A backend may do that for whole blocks, and the fast one does. Points above the slope read
# from a cache, which is faster than memory. `linear` uses each number hundreds of times and lies under the roof: only
# better instructions or fewer bits help here. NumPy's products are its BLAS, which chooses its own number of threads.
# `attention` is where the two backends differ most: the reference backend writes out every score, and the fast one
# keeps a tile of them in cache.
#
# ## Exercises
#
# **Exercise 1.** A key stands 60 tokens behind its query in the encoder. Which other distances look the same to the
# model? And in the decoder? Use `t5.relative_buckets`.
#
# **Exercise 2.** RMSNorm multiplies by the gain g, and a product with weights follows. Fold the gain into these
# weights, so that a norm without a gain gives the same result, and check it on the q of the first layer. Why can the
# gain of a block not be folded the other way, into the product that came before?
#
# **Exercise 3.** Store two passages end to end and send them through the first layer. Show that the first one has the
# same states as alone. Then change a token of the second one and show that no bit of the first one changes. Where in
# `t5.attend` is the mask that does this?

# %% [markdown]
# ## Solutions

# %% tags=["solution"]
# Solution 1. All distances of the same bucket: a range of them in the encoder, a shorter one in the decoder.
for both, name in ((True, "encoder"), (False, "decoder")):
    buckets = t5.relative_buckets(-np.arange(400), both, size, far)
    same = np.flatnonzero(buckets == buckets[60])
    print(f"{name}: {same.min()} .. {same.max()} tokens behind")

# %% tags=["solution"]
# Solution 2. (n * g) W = n (diag(g) W): scale the rows of W. The input of the norm is the sum of the whole stream, and
# other blocks read it too. Dividing by the length would also undo a factor that all numbers have in common.
attention = model.memory.layers[0].attention
x0 = ops.embed(model.embedding, tokens.ids)
with_gain = ops.linear(ops.rms_norm(x0, attention.norm, config.layer_norm_epsilon), attention.q)
plain = ops.rms_norm(x0, ones, config.layer_norm_epsilon)
folded = ops.linear(plain, attention.norm[:, None] * attention.q)
print(f"largest difference: {np.abs(with_gain - folded).max() / np.abs(with_gain).max():.0e} of the largest number")

# %% tags=["solution"]
# Solution 3. There is no mask: `layout` holds which rows form a sequence, and attention runs for each sequence alone.
pair = passage_tokens(model.config, reader.tokenizer, some[:2])


def first_layer(tokens_):
    x_ = States(ops.embed(model.embedding, tokens_.ids), tokens_.lengths, token_positions(tokens_.lengths))
    return t5.encode(ops, config, model.memory, x_, stop=1)


changed = replace(pair, ids=np.where(np.arange(len(pair.ids)) == pair.lengths[0] + 2, 7, pair.ids).astype(np.int32))
alone, both, other = (first_layer(t)[0] for t in (Tokens.of([pair[0]]), pair, changed))
print(
    "as alone:",
    np.allclose(alone, both, rtol=0, atol=1e-4),
    "- same bits after the change:",
    np.array_equal(both, other),
)
