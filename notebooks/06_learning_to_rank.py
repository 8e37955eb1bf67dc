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
# # Learning to rank from the reader's perplexity
#
# GLIMMER's training data does not say which passages are good. The ranker learns that from its own reader: a passage is
# good if the reader, having read that passage, gives the right answer a high probability. This is perplexity
# distillation, section 3.2 of the paper. The notebook is for readers who know the path of a question through the model
# ([`01_one_question`](01_one_question.ipynb)). Afterwards you have computed the loss by hand, seen in which direction
# it moves each score, run a layer backward on a tape, checked a gradient against finite differences, and seen an
# untrained score layer become a good ranker.
#
# *30 minutes to read, one and a half to run.*

# %%
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import fill

import numpy as np
from IPython.display import Markdown
from matplotlib import pyplot as plt

import glimmer_ref
from glimmer_ref.data.inputs import passage_tokens, question_tokens, read_passages, read_questions
from glimmer_ref.inference.reader import bundled
from glimmer_ref.instruments import Tape, Trace
from glimmer_ref.ops import bind
from glimmer_ref.paper import glimmer, lumen
from glimmer_ref.paper.distillation import distribution, log_p_lm
from glimmer_ref.paper.t5 import encode
from glimmer_ref.params import checkpoint
from glimmer_ref.params.model import from_arrays, init_param, leaves, prepare_params
from glimmer_ref.ragged import States, Tokens, offsets, token_positions
from glimmer_ref.training.adafactor import Adafactor
from glimmer_ref.training.batches import sample_batch, task_shares
from glimmer_ref.training.dataset import Groups, answer_ids, read_corpus
from glimmer_ref.training.recipe import Stage
from glimmer_ref.training.step import StepContext, frozen_names, train_step
from glimmer_ref.world import generate

plt.style.use("style.mplstyle")
reader = glimmer_ref.load()  # the bundled model, fast
model, ops = checkpoint.load(bundled(), "float32"), bind("numpy")  # the same weights, and the reference backend
config, tokenizer = model.config, reader.tokenizer
memory_of_all = reader.memorize(read_passages(bundled() / "passages.jsonl"))
known = [q for q in read_questions(bundled() / "questions.jsonl") if q.gold]
Markdown(
    f"The score is read from one token's state through an RMSNorm and a projection: **{config.t5.d_model}** gains and "
    f"**{config.t5.d_model}** weights. This notebook trains these numbers only."
)

# %% [markdown]
# ## Reading one passage alone
#
# We take a question whose answer stands in one passage, which the search engine did *not* rank first. We give the
# reader two passages, one at a time: the search engine's first, and the right one. The reader does not write an answer.
# It gets the right answer, token by token, and we record the probability that it gives to each token.


# %%
fast = bind("numba")
counts = np.array([config.k])


def alone(backend, which, q):
    """A question with its candidates: ranked, and log p_LM of its answer [k] from each passage alone."""
    rows = memory_of_all.rows(q.candidates[: config.k])
    found = glimmer.rank(backend, which, question_tokens(config, tokenizer, [q.text]), memory_of_all.read(rows), counts)
    target = Tokens.of([answer_ids(config, tokenizer, q.answers[0])])  # its last token marks the end
    return found, target, log_p_lm(backend, which, found, counts, target, "sum")


def suits_the_lesson(q):
    """One gold passage, which is not the first; all words known; an answer of some tokens."""
    late = len(q.gold) == 1 and q.gold[0] in q.candidates[1 : config.k]
    return late and not reader.unknown_words(q.text) and len(answer_ids(config, tokenizer, q.answers[0])) > 2


def distance_from_11(q):
    """By how much the gap between the two log p_LM differs from 11; with about 11 a picture can show both."""
    log_p = alone(fast, reader.model, q)[2]
    return abs(log_p[q.candidates.index(q.gold[0])] - log_p[0] - 11)


question = min([q for q in known if suits_the_lesson(q)][::4], key=distance_from_11)
passages = [memory_of_all.passage(int(i)) for i in memory_of_all.rows(question.candidates[: config.k])]
k, right = len(passages), question.candidates.index(question.gold[0])
two, both = [0, right], np.array([2])
names = ["the first passage", "the right passage"]
print(f"{question.text}   ->   {question.answers[0]}\n")
for name, i in zip(names, two, strict=True):
    print(fill(f"{name}: {passages[i].title}: {passages[i].text}", 100, subsequent_indent="    "))

# %%
q, p = question_tokens(config, tokenizer, [question.text]), passage_tokens(config, tokenizer, passages)
trace = Trace(ops, only=r"decoder\.logits")
ranked, target, log_p = alone(trace, model, question)
t = len(target.ids)
each = ops.log_likelihood(trace.arrays["decoder.logits"], np.tile(target.ids, k), np.ones(k * t, np.int64))
each = each.reshape(k, t)  # log probability of every token of the answer
for name, i in zip(names, two, strict=True):
    print(f"{name}: " + " + ".join(f"({x:.3f})" for x in each[i]) + f" = {each[i].sum():.3f} = log p_LM")
assert np.allclose(each.sum(axis=1), log_p, atol=1e-4)

# %%
# Picture: for two passages, bars of the probability of each token of the right answer: one is tiny with the first
# passage, all are near one with the right one.
figure, panels = plt.subplots(1, 2, figsize=(9, 2.7), sharey=True)
for axes, name, i, color in zip(panels, names, two, ("C7", "C0"), strict=True):
    bars = axes.bar(tokenizer.pieces(target.ids.tolist()), np.exp(each[i]), color=color, width=0.6)
    axes.bar_label(bars, [f"{x:.0%}" if x > 0.01 else f"{100 * x:.1g}%" for x in np.exp(each[i])], fontsize=9)
    axes.set(title=f"{name}: log p_LM = {log_p[i]:.3f}", ylim=(0, 1.15))
panels[0].set_ylabel("probability, given\nthe tokens before")
plt.show()

# %% [markdown]
# The sum of the logarithms is $\log p_{LM}(\mathrm{Answer} \mid \mathrm{Passage}_k, Q)$. Its negative, divided by the
# number of tokens, is the logarithm of the *perplexity*. Look for the token that makes the difference. Tokens that
# occur in every answer are probable with both passages.
#
# ## Two distributions
#
# A softmax of these numbers over the passages gives the target distribution, $p^{LM}$. The same softmax of the scores
# gives the ranker's distribution, $p^{rank}$. We compute both by hand for the two passages, with temperature $\tau$ =
# 1:
#
# $$p_k = \frac{\exp(x_k / \tau)}{\sum_i \exp(x_i / \tau)}$$

# %%
scores = ranked.scores
for name, x in (("p_LM", log_p[two]), ("p_rank", scores[two])):
    weights = np.exp(x - x.max())  # subtracting the largest prevents overflow and cancels
    print(f"{name:6} of {np.round(x, 2)}: exp {weights[0]:.3g} and {weights[1]:.3g}", end=" -> ")
    print(f"{weights[0] / weights.sum():.3g} and {weights[1] / weights.sum():.3g}")
    assert np.allclose(weights / weights.sum(), distribution(x, both))

# %% [markdown]
# The bundled ranker is already trained. To have something to learn, we replace its score layer by a **fresh** one with
# random weights, as before any training. Everything else stays.


# %%
def with_fresh_score(seed):
    """The model with a random score layer, and its scores of our question's passages [k]."""
    rng = np.random.default_rng(seed)
    drawn = {
        name: init_param(rng, name, w.shape, config.t5.d_kv).astype(w.dtype) if name.startswith("score") else w
        for name, w in leaves(model).items()
    }
    which = from_arrays(config, drawn)
    return which, glimmer.score(ops, which, ranked.pairs)


# The right passage must not be among the best m by chance, so that its rank can improve.
random_layers = (with_fresh_score(seed) for seed in range(100))
fresh, fresh_scores = next((w, x) for w, x in random_layers if right not in glimmer.top_m(x, config.m))
for name, x in (("learnt", scores), ("fresh", fresh_scores)):
    rank = list(glimmer.top_m(x, k)).index(right) + 1
    print(f"{name:6} score of the right passage {x[right]:6.2f}, of the first {x[0]:6.2f}; its rank: {rank} of {k}")

# %% [markdown]
# ## The loss, and its two directions
#
# The loss is the Kullback-Leibler divergence of the two distributions, and it has a direction. The paper prints
# $KL(p^{rank} \,\|\, p^{LM})$. Atlas's code trains $KL(p^{LM} \,\|\, p^{rank})$, which we call the *reverse* direction.
# With two passages only the difference of their scores matters, so each loss is a curve. Look at its left end, where
# the ranker is wrong and very sure.

# %%
score_gaps = np.linspace(-20, 20, 401)  # score of the right passage minus that of the first
kl, slope = {}, {}
for direction in ("printed", "reverse"):
    curve, slopes = [], []
    for s in score_gaps:
        pair, log_p_lms = np.array([0.0, s]), log_p[two].astype(float)
        curve.append(ops.rank_kl(pair, log_p_lms, both, 1.0, direction)[0])
        slopes.append(-ops.backward["rank_kl"](np.ones(1), pair, log_p_lms, both, 1.0, direction)[0][1])
    kl[direction], slope[direction] = np.array(curve), np.array(slopes)
target_gap = log_p[right] - log_p[0]
print(f"minimum where the scores differ by {target_gap:.2f}, as log p_LM does")
for direction in kl:
    print(f"{direction}: at -10 the loss is {kl[direction][100]:.2f}, the push upwards {slope[direction][100]:.4f}")

# %%
# Picture: left, both losses against the difference of two scores: the printed one flattens out on the left, the
# reverse one keeps rising; right, the push of each on the right passage: on the left the printed one is near zero.
figure, (left, right_axes) = plt.subplots(1, 2, figsize=(9, 3.4))
for direction, color, style, name in (
    ("printed", "C1", "--", "as printed, KL(rank || LM)"),
    ("reverse", "C0", "-", "reverse, KL(LM || rank)"),
):
    left.plot(score_gaps, kl[direction], color=color, ls=style, lw=2, label=name)
    right_axes.plot(score_gaps, slope[direction], color=color, ls=style, lw=2)
for axes in (left, right_axes):
    axes.axvline(target_gap, color="#666666", lw=1, ls=":")
    axes.set_xlabel("score of the right passage - score of the first")
left.set(title="the loss", ylim=(0, 20))
left.legend(fontsize=8)
right_axes.set(title="its push on the right passage's score")
right_axes.text(target_gap + 0.4, right_axes.get_ylim()[1] * 0.9, "here p_rank\nis p_LM", fontsize=8, color="#666666")
plt.show()

# %% [markdown]
# Both losses have their minimum where the two distributions are equal. They differ where the ranker is wrong and very
# sure, at the left end. There the printed loss is large but nearly flat, because its slope contains $p^{rank}$ of the
# right passage as a factor, and that is nearly zero. So this direction hardly corrects the score. The slope of the
# reverse loss is $p^{LM} - p^{rank}$. It is at most one, and it is close to one at the left end, where a correction is
# most needed. (Between the left end and the minimum, the printed direction has the steeper slope, since it grows with
# $-\log p^{LM}$ of the wrong passage.) The bundled model was trained in the reverse direction, as its recipe
# `glimmer_ref/training/recipes/mini.toml` states.
#
# ## In which direction is each score moved?
#
# Now we look at all k passages at once, with the fresh score layer. The upper bars are the ranker's distribution and
# its target. The lower bars are minus the gradient of the loss: they show whether a training step moves a score up or
# down. We call this the push on the score.

# %%
should, does = distribution(log_p, counts), distribution(fresh_scores, counts)
push = {
    direction: -ops.backward["rank_kl"](np.ones(1, np.float32), fresh_scores, log_p, counts, 1.0, direction)[0]
    for direction in ("printed", "reverse")
}
assert np.allclose(push["reverse"], should - does, atol=1e-6)  # for tau = 1
for direction, x in push.items():
    print(f"{direction:8} push on the right passage {x[right]:+.3f}, sum of all pushes {abs(x.sum()):.3f}")

# %%
# Picture: above, for each passage two bars, the fresh ranker's probability and its target; below, the push of each
# direction on each score: the right passage's bar goes up, the others' go down.
figure, panels = plt.subplots(3, 1, figsize=(9, 5.2), sharex=True, height_ratios=(2, 1.5, 1.5))
bars_at = np.arange(k)
panels[0].bar(bars_at - 0.2, does, width=0.4, color="C7", label="p_rank of the fresh score layer")
panels[0].bar(bars_at + 0.2, should, width=0.4, color="C0", label="p_LM, the target", hatch="//", edgecolor="white")
panels[0].legend(loc="upper right")
for axes, (direction, values) in zip(panels[1:], push.items(), strict=True):
    axes.bar(bars_at, values, color=np.where(values > 0, "C0", "C1"), width=0.6)
    axes.axhline(0, color="#666666", lw=0.8)
    axes.set_ylabel(f"push,\n{direction}")
panels[2].set_xticks(bars_at, [f"{i}" if i != right else f"{i}\nright" for i in bars_at], fontsize=8)
panels[2].set_xlabel("passages, in the search engine's order")
plt.show()

# %% [markdown]
# In the reverse direction a push is exactly the difference of the two upper bars: one score goes up, and all others go
# down a little. In the printed direction, the push depends on the logarithms of the two distributions, and the smallest
# $p^{LM}$ have the largest logarithms in size. So the passages with which the answer is least probable dominate the
# loss. Other passages, which are also wrong but a little better than the average, are even pushed *up*. The order among
# wrong passages teaches little.
#
# ## The effect of the temperature
#
# $\tau$ divides the scores and $\log p_{LM}$. With a large $\tau$ both distributions are flat: all passages count a
# little, and so does the order of the wrong ones. With a small $\tau$ only the best passage counts. Table 3 of the
# paper tries 0.1 and 5.

# %%
for tau in (0.1, 1, 5):
    target_p = distribution(log_p, counts, tau)
    entropy = -(target_p * np.log(np.maximum(target_p, 1e-30))).sum()
    print(
        f"tau = {tau:3}: p_LM of the right passage {target_p[right]:.3f}, effectively {np.exp(entropy):5.2f} passages"
    )

# %%
# Picture: three panels of p_LM over the passages, for a small, a medium and a large temperature: one bar, one bar,
# then many.
figure, panels = plt.subplots(1, 3, figsize=(9, 2.5), sharey=True)
for axes, tau in zip(panels, (0.1, 1, 5), strict=True):
    bars = distribution(log_p, counts, tau)
    axes.bar(bars_at, bars, color=["C0" if i == right else "C7" for i in bars_at], width=0.8)
    axes.set(title=f"tau = {tau}", xlabel="passages", ylim=(0, 1.08))
panels[0].set_ylabel("p_LM")
plt.show()

# %% [markdown]
# ## The tape
#
# A push on the scores must become a change of the weights. `Tape` does this without a derivative of the whole model. It
# records every operation that is called, with its arguments and its result. Then it runs backward: for each operation,
# a rule of a few lines turns the gradient of the result (the *cotangent*) into the gradients of the arguments. If an
# array was used twice, its gradients are added. Here are live-A's last layer, the score and the loss, for the two
# passages.

# %%
Q, P = lumen.encode_question(ops, model, q), lumen.encode_passages(ops, model, Tokens.of([p[i] for i in two]))
last = config.num_rerank_layers - 1
before = encode(ops, config.t5, model.live, lumen.join(ops, model, Q, P, both), stop=last)


def layer_and_loss(backend, which, x, start=last):
    """KL of the two passages, computed from their states before a layer of live-A: [1]."""
    after = encode(backend, config.t5, which.live, x, start=start, stop=last + 1)
    constant = log_p[two].astype(x.states.dtype)  # not on the tape, so no gradient flows into the reader (D9)
    return backend.rank_kl(glimmer.score(backend, which, after), constant, both, 1.0, "reverse")


tape = Tape(ops)
loss = layer_and_loss(tape, fresh, before)
calls = list(tape.calls)
results = {f"{i}": call.result for i, call in enumerate(calls)}
cotangents = tape.gradients([(loss, np.ones(1, np.float32))], results)
print(f"{'':3}{'operation':13}{'arguments':34}{'result':10}  backward: root mean square")
for i, call in enumerate(calls):
    takes = " ".join(str(list(a.shape)) for a in call.operands() if a is not None).replace(", ", " ")
    size = np.sqrt(np.mean(cotangents[f"{i}"] ** 2))
    print(f"{i:2} {call.operation:13}{takes:34}{str(list(call.result.shape)).replace(', ', ' '):10}  {size:.2e}")

# %% [markdown]
# Read the table downward for the forward pass and upward for the backward pass. The residual stream is the result of
# the two `add` operations. Its cotangents show, for every token, how much the loss changes with the token's state. The
# score is computed from the first token alone, and the feed-forward block treats each token by itself. So after
# attention only the first token has a gradient. Before attention all tokens have one, because the first token attended
# to them: the gradient flows back through attention along the same connections as the information flowed forward.

# %%
stages = {"before the layer": before.states}
tape = Tape(ops)
loss = layer_and_loss(tape, fresh, before)
adds = [call.result for call in tape.calls if call.operation == "add"]
stages |= {"after attention": adds[0], "after feed-forward": adds[1]}
flow = tape.gradients([(loss, np.ones(1, np.float32))], stages)
for name, g in flow.items():
    print(f"{name:19} tokens with a gradient: {int((np.abs(g).max(axis=1) > 0).sum())} of {len(g)}")

# %%
# Picture: each token of the two pairs as a column, three stages of the layer as rows, dark where the loss depends on
# that token's state: below, only the first token of each pair; before attention, all of them.
cut = offsets(before.lengths)
figure, panels = plt.subplots(2, 1, figsize=(9, 5.6))
images = np.array([np.linalg.norm(g, axis=1) for g in flow.values()])
levels = np.log10(np.maximum(images, 1e-9))
for axes, name, i, a, b in zip(panels, names, two, cut[:-1], cut[1:], strict=True):
    words = [*tokenizer.pieces(q[0].tolist()), *tokenizer.pieces(p[i].tolist())]
    image = axes.imshow(levels[:, a:b], aspect="auto", vmin=-5, vmax=levels.max())
    axes.set_yticks(range(3), flow)
    axes.set_xticks(range(b - a), words, rotation=90, fontsize=8)
    axes.axvline(len(q.ids) - 0.5, color="#b03a48", lw=1.5)
    axes.set_title(f"{name}: question left of the red line")
    axes.grid(visible=False)
    axes.tick_params(length=0)
figure.colorbar(image, ax=panels, pad=0.01, label="size of the gradient, power of ten")
plt.show()

# %% [markdown]
# ## Is the gradient right?
#
# A gradient can be checked without trusting any of the rules. Take a small step h along some direction u in the space
# of all weights, and the same step back. $(L(w + hu) - L(w - hu)) / 2h$ must be equal to the product of the gradient
# and u. How small should h be? If it is too large, the loss is not linear over the step. If it is too small, rounding
# hides the difference of the two losses.

# %%
in_layer = [name for name in leaves(fresh) if name.startswith((f"live.layer_{last}", "live.relative", "score"))]
steps = 10.0 ** np.arange(-11, -0.4, 0.5)


def moved(named, u, h):
    """The weights, with those of the layer moved by a step along u."""
    return from_arrays(config, {n: w + (h * u[n]).astype(w.dtype) if n in in_layer else w for n, w in named.items()})


def difference_errors(dtype, seed):
    """Relative error of the central difference in a random direction, for each step length."""
    rng = np.random.default_rng(seed)
    named = {name: w.astype(dtype) for name, w in leaves(fresh).items()}
    u = {name: np.sqrt(np.mean(w**2)) * rng.standard_normal(w.shape) for name, w in named.items()}  # h is relative
    x = replace(before, states=before.states.astype(dtype))
    tape, which = Tape(ops), from_arrays(config, named)
    g = tape.gradients([(layer_and_loss(tape, which, x), np.ones(1, dtype))], leaves(which))
    share = sum(float((g[name] * u[name]).sum()) for name in in_layer)
    there, back = (
        np.array([layer_and_loss(ops, moved(named, u, s * h), x)[0] for h in steps]).astype(float) for s in (1, -1)
    )
    return np.abs((there - back) / (2 * steps) - share) / abs(share)


errors = {
    dtype: np.median([difference_errors(dtype, seed) for seed in range(7)], axis=0) for dtype in ("float64", "float32")
}
print(f"weights that are moved: {sum(leaves(fresh)[name].size for name in in_layer):,}")
print("float64's smallest error is below a millionth:", bool(errors["float64"].min() < 1e-6))

# %%
# Picture: relative error of the central difference against the step h on logarithmic axes, a V for each precision: it
# falls with h squared from the right, and rises with 1/h to the left; float64's V reaches much deeper.
figure, axes = plt.subplots(figsize=(9, 3.8))
for (dtype, off), color, marker in zip(errors.items(), ("C0", "C1"), "os", strict=True):
    axes.plot(steps, off, color=color, marker=marker, ms=4, label=dtype)
for power, first, last_, name in ((2, -8, -2, "h squared"), (-1, 1, 7, "1 / h")):
    guide = errors["float64"][first] * (steps[first:last_] / steps[first]) ** power / 8
    axes.plot(steps[first:last_], guide, color="#666666", ls=":", lw=1.2)
    axes.text(steps[first:last_][3], guide[3] / 20, name, fontsize=9, color="#666666", ha="center")
axes.set(xscale="log", yscale="log", xlabel="h, relative change of the weights", ylabel="relative error")
axes.legend(loc="upper right")
plt.show()

# %% [markdown]
# The low bottom of float64's V shows that the gradient is right: tape and finite differences agree to many digits, for
# all weights of the layer at once. With a wrong rule the error would stay large for every h. In float32 hardly any step
# is both small and large enough, so gradients are checked in float64. The package's tests do so for every operation and
# every weight of a model.
#
# ## Learning to rank again
#
# Now we train the fresh score layer. The training data is another made-up world, which the package generates here, so
# the bundled model has never seen it. In addition, names and things are substituted at random in each example. A step
# draws 8 questions with 8 passages each, computes the losses, runs the tape backward, and lets Adafactor change the
# weights. All weights except those of the score layer are *frozen*. The step is the package's own,
# `training.step.train_step`, and the loop around it follows.

# %%
quiet = {"show": lambda items, *_: items}
with TemporaryDirectory() as folder:
    generate.write(Path(folder) / "new", seed=7, train_worlds=1, size="small", **quiet)
    corpus = read_corpus(config, tokenizer, [Path(folder) / "new" / "train-0"])
    groups = Groups.read(Path(folder) / "new" / "groups.json", config.t5.vocab_size)
stage = Stage(
    steps=60, batch=8, k=8, m=5, rate=1e-2, direction="reverse", rename=True,
    negatives={"hard": 0.5, "candidates": 0.4, "random": 0.1},
)  # fmt: skip
shares = task_shares(corpus, {"correct": 0}, "tasks")  # without the correction task, which only training data has
print(f"training data: {len(corpus)} questions, {len(corpus.passages)} passages")

# %% [markdown]
# We measure recall on questions of the bundled test set, with all their candidates: the share of the gold passages
# among the best m. Live-A does not change, so we send every pair through it once and keep the state of its first token.
# Then scoring all pairs after every step costs almost nothing.

# %%
asked = known[::10]
gold = np.array([[c in one.gold for c in one.candidates] for one in asked])  # [questions k]


def first_tokens(params):
    """The first token's state after live-A, for every question with every candidate: [questions*k d]."""
    found = []
    for some in (asked[i : i + 16] for i in range(0, len(asked), 16)):
        rows = np.concatenate([memory_of_all.rows(one.candidates) for one in some])
        tokens = question_tokens(config, tokenizer, [one.text for one in some])
        got = glimmer.rank(fast, params, tokens, memory_of_all.read(rows), np.full(len(some), k))
        found.append(fast.first_token(got.pairs.states, got.pairs.lengths))
    return np.concatenate(found)


def recall(named, states):
    """Percent of the gold passages among the best m, by the score layer in `named`."""
    one_each = np.ones(len(states), np.int64)
    s = glimmer.score(ops, from_arrays(config, named), States(states, one_each, token_positions(one_each))).reshape(
        -1, k
    )
    best = np.array([glimmer.top_m(row, config.m) for row in s])
    return 100 * (np.take_along_axis(gold, best, axis=1).sum(axis=1) / gold.sum(axis=1).clip(1)).mean()


def train(named, stage_, learnt=("score",), watch=lambda named: None):
    """Trains; returns each step's loss, the results of `watch` before each and after the last, and the weights."""
    stage_ = replace(stage_, frozen=tuple(name for name in named if not name.startswith(learnt)))
    context = StepContext(fast, config, "glimmer", stage_, frozenset(frozen_names(named, stage_.frozen, "stage")))
    optimizer = Adafactor()
    moments, losses, seen = optimizer.start(named), [], [watch(named)]
    for step in range(stage_.steps):
        batch = sample_batch(corpus, stage_, shares, groups, np.random.default_rng([0, step]))
        named, moments, result = train_step(
            context, optimizer, named, moments, batch, np.random.default_rng(0), stage_.rate_at(step)
        )
        losses.append(result.losses["pdist"])
        seen.append(watch(named))
    return losses, seen, named


states = first_tokens(reader.model)
learnt_before = recall(leaves(model), states)
search = 100 * (gold[:, : config.m].sum(axis=1) / gold.sum(axis=1).clip(1)).mean()
kept = {}


def watch(named):
    kept[len(kept)] = named
    return recall(named, states)


losses, climbed, relearnt = train(leaves(fresh), stage, watch=watch)
print(f"{len(asked)} test questions; recall at m = {config.m} of k = {k}, %")
print(f"the search engine's first m {search:.1f}; the bundled score layer {learnt_before:.1f}")
for step in (0, 5, 10, 20, 40, stage.steps):
    print(f"after {step:2} steps {climbed[step]:.1f}")

# %%
# Picture: left, the loss of each step falls, with much noise; right, recall on the test questions rises from below
# the search engine's level to near that of the bundled score layer.
figure, (left, right_axes) = plt.subplots(1, 2, figsize=(9, 3.4))
left.plot(range(1, len(losses) + 1), losses, "o", color="C5", ms=4)
wide = np.convolve(losses, np.ones(9) / 9, mode="valid")
left.plot(np.arange(len(wide)) + 5, wide, color="C0", lw=2)
left.set(xlabel="step", title="pdist loss; the line: mean of 9 steps", ylim=(0, None))
right_axes.plot(climbed, color="C0", lw=2)
for level, name, style in ((learnt_before, "bundled score layer", "--"), (search, "search engine's first m", ":")):
    right_axes.axhline(level, color="C1", ls=style, lw=1.5)
    right_axes.text(len(losses), level + 0.6, name, ha="right", va="bottom", fontsize=8, color="C1")
right_axes.set(ylim=(None, learnt_before + 5), xlabel="step", title=f"recall at m = {config.m} on test questions, %")
plt.show()

# %% [markdown]
# Here is our own question: the ranker's distribution before, during and after the training.

# %%
# Picture: p_rank over the passages of our question at four moments of the training: spread at random at first, then
# concentrated on the right passage.
moments_ = (0, 5, 20, stage.steps)
figure, panels = plt.subplots(1, 4, figsize=(9, 2.4), sharey=True)
for axes, step in zip(panels, moments_, strict=True):
    then = from_arrays(config, kept[step])
    bars = distribution(glimmer.score(ops, then, ranked.pairs), counts)
    axes.bar(bars_at, bars, color=["C0" if i == right else "C7" for i in bars_at], width=0.8)
    axes.set(title=f"after {step} steps", xlabel="passages", ylim=(0, 1.05))
panels[0].set_ylabel("p_rank")
plt.show()

# %% [markdown]
# What did a minute of training teach? The score layer only had to find a direction in states that already distinguish
# good passages from bad ones. Live-A had learnt, in an hour of training, to collect in the first token how question and
# passage are related. The score layer only reads that off. What the minute does show is the method: the training data
# never marked a passage as right, and recall rose anyway. So the reader's perplexity is enough to identify the right
# passages.
#
# ## Does the direction matter here?
#
# We run the same steps again, from the same start and on the same batches, with other losses. Table 3 of the paper
# finds that other temperatures and loss weights are a little worse after a whole training. Look how far the lines
# differ here.

# %%
others = {"as printed": {"direction": "printed"}, "tau = 5": {"tau": 5.0}, "tau = 0.1": {"tau": 0.1}}
lines = {"reverse, tau = 1": climbed}
for name, change in others.items():
    lines[name] = train(leaves(fresh), replace(stage, **change), watch=lambda named: recall(named, states))[1]
for name, line in lines.items():
    print(f"{name:17} after 5 steps {line[5]:.1f}, 20 steps {line[20]:.1f}, {stage.steps} steps {line[-1]:.1f}")

# %%
# Picture: recall against the step for four losses: the lines lie close together.
figure, axes = plt.subplots(figsize=(9, 3.4))
for (name, line), look in zip(lines.items(), ("-", "--", "-.", ":"), strict=True):
    axes.plot(line, ls=look, lw=2, label=name)
axes.set(xlabel="step", ylabel="recall at m, %")
axes.legend(loc="lower right")
plt.show()

# %% [markdown]
# Lines that differ by a few points only cannot be distinguished with so few questions. They lie close together because
# this reader is good: its $p^{LM}$ is nearly all on one passage, and every one of these losses has its minimum there. A
# reader at the beginning of its training knows little. Its values of $\log p_{LM}$ are small and nearly equal, and it
# changes while the ranker learns. Direction and temperature can matter then, but a minute of training cannot show it.
#
# ## Whole trainings: Table 3
#
# Therefore the decisions of Table 3 were also compared by whole trainings here: each row is a small model that was
# fine-tuned for it, all from the same start, in which the score layer is drawn anew. The last four rows are not in the
# paper. The base has the reverse direction and scores the mean of a pair's tokens.

# %%
# Picture: a dot with a bar for each row of Table 3, trained here, beside a dotted line at the base.
sys.path.append("../benchmarks")
from miniature.summary import trained, verdicts

rows3 = [p for row in trained("Table 3").get("Table 3", []) for p in row.pairs if p.ours is not None]
rows3 = rows3 if len({p.training for p in rows3}) > 1 else []  # the base alone is nothing to compare
figure, axes = plt.subplots(figsize=(9, 4.4))
for y, p in enumerate(rows3):
    axes.errorbar(p.ours.mean, y, xerr=p.ours.error, marker="o", capsize=3, color="C1" if y else "C0")
    axes.text(p.ours.mean, y - 0.22, f"{p.ours.mean:.1f}", ha="center", fontsize=8)
if rows3:
    axes.axvline(rows3[0].ours.mean, color="C0", ls=":", lw=1.5)
else:
    axes.text(0.5, 0.5, "not trained here yet: see benchmarks/README.md", ha="center", transform=axes.transAxes)
axes.set_yticks(range(len(rows3)), [p.x for p in rows3])
axes.set_ylim(len(rows3) - 0.5, -0.7)
axes.set(xlabel="exact match, test world, %", title="Table 3 in miniature; bars are standard errors")
plt.show()

# %%
Markdown("\n".join(f"- {sentence}" for sentence in verdicts("Table 3")) or "Table 3 has not been trained here yet.")

# %% [markdown]
# ## Exercises
#
# **Exercise 1.** Two passages have log p_LM -1 and -3, and both scores are 0. What are p_LM and the push on each score
# in the reverse direction, for $\tau$ = 1 and for $\tau$ = 2? Compute it by hand first. How does the push fall with
# $\tau$?
#
# **Exercise 2.** Atlas takes the *mean* of the tokens' log probabilities, not their sum (D8). How does that change p_LM
# of our question? Which temperature has the same effect?
#
# **Exercise 3.** Make it harder: replace live-A's last layer by a random one too, and train that layer and the score
# for as many steps. Which recall is reached?

# %% [markdown]
# ## Solutions

# %% tags=["solution"]
# Solution 1. p_LM = 1 / (1 + exp(-2 / tau)), and the push is (p_LM - p_rank) / tau. It falls for two reasons: the
# division by tau, and the two distributions, which become more similar. Together it falls about as 1 / tau^2.
small = np.array([-1.0, -3.0])
for tau in (1.0, 2.0):
    (up, down), _ = ops.backward["rank_kl"](np.ones(1), np.zeros(2), small, both, tau, "reverse")
    print(f"tau = {tau:.0f}: p_LM {np.round(distribution(small, both, tau), 3)}, push {-up:+.3f} and {-down:+.3f}")

# %% tags=["solution"]
# Solution 2. The answer has t tokens with every passage, so the mean is the sum at t times the temperature: flatter.
mean = log_p_lm(ops, model, ranked, counts, target, "mean")
same = distribution(log_p, counts, float(t))
print(f"p_LM of the right passage: sum {should[right]:.3f}, mean {distribution(mean, counts)[right]:.3f}")
print(f"the sum at tau = {t} gives the same:", np.allclose(distribution(mean, counts), same, atol=1e-5))

# %% tags=["solution"]
# Solution 3. Recall rises, but a layer has much more to learn than a score layer, and does not learn all of it.
layer = f"live.layer_{last}."
rng = np.random.default_rng(0)
harder = {
    name: init_param(rng, name, w.shape, config.t5.d_kv).astype(w.dtype) if name.startswith((layer, "score")) else w
    for name, w in leaves(model).items()
}
_, _, found = train(harder, stage, learnt=("score", layer))
for name, named in (("random weights", harder), ("after as many steps", found)):
    params = prepare_params(fast, from_arrays(config, named))
    print(f"{name:19} recall {recall(named, first_tokens(params)):.1f}")
