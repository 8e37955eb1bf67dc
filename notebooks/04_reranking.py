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
# # Reranking: score many passages, read few
#
# GLIMMER retrieves k passages. It runs the first layers of its live encoder, a share beta of them, over all k passages
# and gives each a score. Only the best m passages go through the rest of the model. Figures 3 to 5 of the paper vary
# one of these three numbers each. This notebook is for readers who know the path of a question through the model
# ([`01_one_question`](01_one_question.ipynb)). Afterwards you know the effect of each number, in the paper and measured
# on the bundled model, and which of the paper's curves can be measured without training a model.
#
# *25 minutes to read, one minute to run.*

# %%
import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np
from IPython.display import Markdown
from matplotlib import pyplot as plt

import glimmer_ref
from glimmer_ref.costs.modes import TERA
from glimmer_ref.costs.published import tradeoff
from glimmer_ref.costs.published.values import PAPER_RESULTS, values
from glimmer_ref.data.inputs import question_tokens, read_passages, read_questions
from glimmer_ref.evaluation.evaluate import BATCH, evaluate
from glimmer_ref.inference.reader import Reader, bundled
from glimmer_ref.instruments import Trace
from glimmer_ref.ops import numpy_backend
from glimmer_ref.paper import glimmer
from glimmer_ref.params import checkpoint
from glimmer_ref.progress import progress
from glimmer_ref.retrieval.bm25 import BM25

plt.style.use("style.mplstyle")
reader = glimmer_ref.load()
config = reader.config
passages = list(read_passages(bundled() / "passages.jsonl"))
memory = reader.memorize(passages)
search, DEPTH = BM25(passages), 40  # the search engine, which ranks by shared words; the length of its list
known = list(read_questions(bundled() / "questions.jsonl"))
sample = [
    replace(q, candidates=tuple(passages[row].id for row in search.rank(q.text, DEPTH)))
    for q in known[:: len(known) // 240]
]
tasks = list(dict.fromkeys(q.task for q in sample))
Markdown(
    f"The bundled model has k = **{config.k}** and m = **{config.m}**, and computes the score after "
    f"**{config.num_rerank_layers}** of its **{config.num_live_layers}** live layers, so beta = **{config.beta}**. "
    f"We ask **{len(sample)}** questions of {len(tasks)} kinds."
)

# %% [markdown]
# ## What there is to gain
#
# Each question of the bundled world has *gold* passages, those that hold the answer. **Recall** is the share of the
# gold passages that are among the passages kept. We compare three orders of the k passages: that of the search engine,
# that of GLIMMER's scores, and the best that any reranker of the same k passages could give. A reranker cannot find
# what was not retrieved, so even the best possible recall is limited by k.


# %%
def ask(k, m, system="glimmer", who=reader):
    """The exact match on the sample, and the predictions."""
    summary, rows = evaluate(who, sample, memory, system, k, m, progress)
    return summary["exact_match"], rows


_, ranked = ask(DEPTH, config.m)
scores = np.array([row["scores"] for row in ranked])  # [questions DEPTH], in the search engine's order
is_gold = np.array([[c in q.gold for c in q.candidates] for q in sample])
golds = np.array([len(q.gold) for q in sample])
asked = golds > 0


def recall(order, k):
    """Mean recall after 1 .. k passages of each question's order [questions k]."""
    hits = np.take_along_axis(is_gold, order, axis=1)[asked].cumsum(axis=1)
    return 100 * (hits / golds[asked, None]).mean(axis=0)


def best_first(x, k):
    """The first k passages of every question, by falling x."""
    return np.array([glimmer.top_m(row[:k], k) for row in x])


k = config.k
orders = {
    "by GLIMMER's score": best_first(scores, k),
    "the search engine's order": np.tile(np.arange(k), (len(sample), 1)),
    "best possible": best_first(is_gold.astype(float), k),
}
recalls = {name: recall(order, k) for name, order in orders.items()}
for m in (1, 2, config.m, 10, k):
    print(f"m = {m:2}  " + "   ".join(f"{name} {found[m - 1]:5.1f}" for name, found in recalls.items()))

# %%
# Picture: recall against the number of kept passages: GLIMMER's line rises steeply and joins the best possible within a
# few passages, the search engine's rises slowly.
figure, axes = plt.subplots(figsize=(9, 3.6))
looks = (("C0", "o", "-"), ("C7", "s", "--"), ("#555555", "", ":"))
for (name, found), (color, marker, style) in zip(recalls.items(), looks, strict=True):
    axes.plot(range(1, k + 1), found, color=color, marker=marker, ls=style, ms=4, lw=2, label=name)
axes.axvline(config.m, color="C1", lw=1, ls="--")
axes.text(config.m + 0.2, axes.get_ylim()[0] + 1, "m", color="C1", fontsize=10)
axes.set(xlabel=f"passages kept, of k = {k}", ylabel="recall, %", title="How many gold passages are among those kept")
axes.legend(loc="lower right")
plt.show()

# %%
first_m = {name: recalls[name][config.m - 1] for name in recalls}
ours, theirs, top = first_m.values()
Markdown(
    f"At m = {config.m} the search engine's order keeps {theirs:.1f}% of the gold passages and GLIMMER's {ours:.1f}%. "
    f"At most {top:.1f}% are possible, so the reranker closes **{100 * (ours - theirs) / (top - theirs):.0f}%** of "
    f"the gap."
)

# %% [markdown]
# The kinds of questions differ. The next picture shows the same three values for each kind. Look for a kind for which
# the dark dot is clearly left of the best possible. GLIMMER's training data did not say which passages are gold. Its
# scores were fitted to how much each passage helps the *reader* to write the answer. Some passages hardly change that:
# a claim is either true or false, and the reader can guess right half of the time. For such questions there is less to
# learn a ranking from.

# %%
# Picture: for each kind of question three marks on a line of recall at m: a pale square for the search engine, a dark
# dot for GLIMMER, a stroke for the best possible.
figure, axes = plt.subplots(figsize=(9, 0.4 * len(tasks) + 1.3))
kinds = np.array([q.task for q in sample])[asked]
for y, task in enumerate(tasks):
    at = []
    for order in orders.values():
        hits = np.take_along_axis(is_gold, order[:, : config.m], axis=1)[asked].sum(axis=1)
        at.append(100 * (hits / golds[asked])[kinds == task].mean())
    axes.plot([at[1], at[0]], [y, y], color="C5", lw=3, alpha=0.5, zorder=1)
    axes.plot(at[1], y, "s", ms=8, color="#9a9a9a", label=None if y else "search engine's first m")
    axes.plot(at[0], y, "o", ms=9, color="C0", label=None if y else "GLIMMER's best m")
    axes.plot(at[2], y, "|", ms=18, mew=2, color="#333333", label=None if y else "best possible")
axes.set_yticks(range(len(tasks)), tasks)
axes.invert_yaxis()
axes.set(xlabel=f"recall at m = {config.m} of k = {k}, %")
figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3)
plt.show()

# %% [markdown]
# ## k: retrieve more passages
#
# Now we measure answers instead of passages. *Exact match* is the share of questions whose answer is right to the
# letter. The left picture is the left half of the paper's Figure 3: GLIMMER-Large keeps 5 passages of more and more
# retrieved ones. Dotted lines are LUMEN, which does not rank and reads all passages that it gets. The right picture
# shows the same measurement on the bundled model. Bars are standard errors from the number of questions. The scales
# differ, because tasks and models differ.


# %%
def error(percent):
    """Standard error of a percentage over the sample; a little above 0 even if all are right."""
    share = (percent / 100 * len(sample) + 1) / (len(sample) + 2)
    return 100 * np.sqrt(share * (1 - share) / len(sample))


def room(axes, last):
    """Leaves room to the right of the last point for the names of levels."""
    axes.margins(y=0.15)
    axes.set_xlim(right=1.27 * last)
    axes.set_xticks([x for x in axes.get_xticks() if -1e-9 <= x <= last + 1e-9])


def level(axes, name, y, above=True):
    """Draws LUMEN's single value as a dotted line with its name at the right."""
    axes.axhline(y, color="C1", ls=":", lw=2)
    axes.annotate(name, (1, y), (0, 2 if above else -3), xycoords=axes.get_yaxis_transform(), color="C1", fontsize=8,
                  textcoords="offset points", ha="right", va="bottom" if above else "top")  # fmt: skip


def paper(axes, place, title, xlabel):
    """Draws a panel of a published figure: lines with marks, and LUMEN's levels dotted."""
    found = [v for name in ("Figure 3", "Figure 4", "Figure 5") for v in values(PAPER_RESULTS[name]())]
    found = [v for v in found if v.place == place]
    for j, name in enumerate(dict.fromkeys(v.series for v in found)):
        some = [v for v in found if v.series == name]
        if some[0].x is None:
            level(axes, name, float(some[0].y))
        else:
            look = {"marker": "os"[j % 2], "ls": "--", "color": "C5"} if name.startswith("2") else {"marker": "o"}
            axes.plot([float(v.x) for v in some], [float(v.y) for v in some], label=name, **look)
    axes.set(title=title, xlabel=xlabel, ylabel="mean score, KILT dev")
    room(axes, max(float(v.x) for v in found if v.x is not None))


def here(axes, points, levels, title, xlabel):
    """Draws measurements: points {x: percent} with standard errors, and LUMEN's levels dotted."""
    axes.errorbar(
        list(points), list(points.values()), [error(y) for y in points.values()], color="C0", marker="o", capsize=3
    )
    for j, (name, y) in enumerate(sorted(levels.items(), key=lambda pair: -pair[1])):
        level(axes, name, y, above=not j)
    axes.set(title=title, xlabel=xlabel, ylabel="exact match, %")
    room(axes, max(points))


of_k = {n: ask(n, config.m)[0] for n in (config.m, 10, config.k, DEPTH)}
of_lumen = {n: ask(n, None, "lumen")[0] for n in (config.m, config.k, DEPTH)}
for n, y in of_k.items():
    lumens = f"   LUMEN, which reads all of them, {of_lumen[n]:5.1f}" if n in of_lumen else ""
    print(f"k = {n:2}: GLIMMER {y:5.1f}{lumens}   (standard error {error(y):.1f})")

# %%
# Picture: left, the left half of Figure 3 as published, rising with k; right, exact match of the bundled
# model against k.
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
paper(left, "Figure 3, left", "Figure 3, left: GLIMMER-Large, m = 5", "k, passages retrieved")
levels = {f"lumen-{n}": of_lumen[n] for n in (config.m, DEPTH)}
here(right, of_k, levels, f"the bundled model, m = {config.m}", "k, passages retrieved")
plt.show()

# %% [markdown]
# At k = m nothing is dropped, so GLIMMER is LUMEN over the same passages: the first point lies on LUMEN's lower line,
# in the paper and here. As the search engine's list gets longer, the curve rises, although the decoder reads no more
# passages than before. The paper concludes that the bottleneck is whether the information is among the retrieved
# passages at all.
#
# ## m: keep few passages
#
# The right half of Figure 3 keeps k and varies m.

# %%
values_of_m = sorted({1, 2, 3, config.m, 10, config.k})
by_m = {n: ask(config.k, n) for n in values_of_m}
of_m = {n: found[0] for n, found in by_m.items()}
for n, y in of_m.items():
    print(f"m = {n:2} of {config.k}: GLIMMER {y:5.1f}   (standard error {error(y):.1f})")

# %%
# Picture: left, the right half of Figure 3 as published: a steep rise from one to five kept passages, then flat; right,
# the same for the bundled model.
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
paper(left, "Figure 3, right", "Figure 3, right: GLIMMER-Large, k = 25", "m, passages selected")
here(right, of_m, {f"lumen-{k}": of_lumen[config.k]}, f"the bundled model, k = {config.k}", "m, passages selected")
plt.show()

# %%
# Picture: for each kind of question a line of exact match against m, the number of kept passages.
figure, axes = plt.subplots(figsize=(9, 3.4))
for j, task in enumerate(tasks):
    of_task = [100 * np.mean([r["exact_match"] for r in by_m[n][1] if r["task"] == task]) for n in values_of_m]
    axes.plot(
        range(len(values_of_m)), of_task, marker="os^Dvx*P"[j % 8], ls=("-", "--")[j % 2], color=f"C{j % 7}", label=task
    )
axes.set_xticks(range(len(values_of_m)), values_of_m)
axes.set(xlabel=f"m, of k = {config.k} (steps are not even)", ylabel="exact match, %", title="Each kind of question")
figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
plt.show()

# %% [markdown]
# In the paper five passages are nearly as good as all. One passage is too few if an answer has to be combined from two,
# or if the ranker puts the gold passage second. A kind of question whose line is flat here has neither problem. What
# the curve lacks to 100% at the right end cannot be gained by any m: the search or the reading failed.
#
# ## More passages can even harm
#
# Figure 5 goes to 40 retrieved passages, and there the lines fall towards the right: passages that are not needed
# distract the reader. With more layers before the score (four instead of two) fewer passages are enough, because the
# ranking is better. The bundled model was trained with one number of layers only, and we show its curve for that
# number.

# %%
values_of_40 = sorted({config.m, 10, 20, DEPTH})
by_40 = {n: ask(DEPTH, n) for n in values_of_40 if n != config.m}
by_40 = {config.m: (of_k[DEPTH], ranked), **by_40}
of_40 = {n: found[0] for n, found in by_40.items()}
for n, y in of_40.items():
    print(f"m = {n:2} of {DEPTH}: GLIMMER {y:5.1f}   (standard error {error(y):.1f})")

# %%
# Picture: left, Figure 5 as published, two lines of two and four rerank layers that fall a little beyond their best m;
# right, the bundled model's exact match against m of 40.
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8))
paper(left, "Figure 5", "Figure 5: GLIMMER-Large, k = 40", "m, passages selected")
here(right, of_40, {f"lumen-{DEPTH}": of_lumen[DEPTH]}, f"the bundled model, k = {DEPTH}", "m, passages selected")
figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=2)
plt.show()

# %% [markdown]
# Our sample is too small to show differences of a few tenths of a point. But the *same* questions were asked each time.
# So we can count the questions whose answer changed, which is a more precise comparison than that of two averages.

# %%
few, many = (np.array([r["exact_match"] for r in by_40[n][1]], bool) for n in (config.m, DEPTH))
has_all = np.array([set(q.gold) <= set(r["selected"]) for q, r in zip(sample, by_40[config.m][1], strict=True)])
print(f"right with m = {config.m} only:  {int((few & ~many).sum()):3}")
print(f"right with m = {DEPTH} only: {int((~few & many).sum()):3}")
print(f"right with both:        {int((few & many).sum()):3}, with neither: {int((~few & ~many).sum())}")
distracted = int((few & ~many & has_all).sum())
Markdown(
    f"Of the questions that only the small m got right, **{distracted}** had all their gold passages among those "
    f"{config.m} already. For such questions the {DEPTH - config.m} more passages only distract."
)

# %% [markdown]
# ## beta: how many layers before the score
#
# For Figure 4, GLIMMER-Large was trained separately for several values of beta. At beta = 0 the score is computed from
# states in which question and passage have not attended to each other, so it cannot rank. With two of eight live layers
# (beta = 1/4) nearly the full quality is reached.
#
# The bundled model has one beta. Computing its score after another layer would only show that it was not trained there.
# But one thing can be measured without training a network: *how much about relevance the state of the first token
# contains* after each live layer. We fit a linear score to these states, by least squares on one half of the questions
# (is the passage gold?), and rank the passages of the other half with it. That is not Figure 4, but it shows the reason
# for its shape.

# %%
first_half = np.arange(len(sample)) % 2 == 0
deep = replace(reader.model, config=replace(config, num_rerank_layers=config.num_live_layers))
firsts = [[] for _ in range(config.num_live_layers)]
for start in range(0, len(sample), BATCH):
    some = sample[start : start + BATCH]
    q = question_tokens(config, reader.tokenizer, [x.text for x in some])
    rows = np.concatenate([memory.rows(x.candidates[:k]) for x in some])
    trace = Trace(reader.ops, only=r"live_a\.layer_\d+\.feed_forward\.out")
    glimmer.rank(trace, deep, q, memory.read(rows), np.full(len(some), k))
    for layer, found in enumerate(firsts):
        name = f"live_a.layer_{layer}.feed_forward.out"
        x = numpy_backend.first_token(trace.arrays[name], trace.arrays[f"{name}.lengths"])
        found.append(numpy_backend.rms_norm(x, np.ones(x.shape[1], np.float32), config.t5.layer_norm_epsilon))


def fitted(x):
    """Scores [questions k] of a linear layer that is fitted to the first half: x [questions k d]."""
    inside = x - x.mean(axis=1, keepdims=True)  # what differs between the passages of one question
    target = is_gold[:, :k] - is_gold[:, :k].mean(axis=1, keepdims=True)
    a, b = inside[first_half].reshape(-1, x.shape[2]), target[first_half].ravel()
    w = np.linalg.solve(a.T @ a + 10 * np.eye(x.shape[2]), a.T @ b)  # some ridge, against overfitting
    return inside @ w


def tested(x):
    """Recall at m on the other half, and its standard error."""
    order = best_first(x, k)[:, : config.m]
    some = ~first_half & asked
    each = 100 * np.take_along_axis(is_gold, order, axis=1)[some].sum(axis=1) / golds[some]
    return each.mean(), each.std() / np.sqrt(len(each))


by_depth = [tested(np.zeros((len(sample), k)))]  # no live layer: all scores equal, so the search engine's order stays
by_depth += [tested(fitted(np.concatenate(x).reshape(len(sample), k, -1).astype(np.float64))) for x in firsts]
own, _ = tested(scores[:, :k])
for layer, (mean, off) in enumerate(by_depth):
    beta = Fraction(layer, config.num_live_layers)
    print(f"beta = {beta!s:4} fitted score: recall at {config.m} {mean:5.1f}   (standard error {off:.1f})")
print(f"beta = {config.beta!s:4} the model's own score {own:5.1f}")

# %%
# Picture: left, Figure 4 as published: a steep rise up to a quarter of the live layers, then flat; right, recall of a
# score fitted to the first token after each live layer of the bundled model, with a star for its own score.
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
paper(left, "Figure 4", "Figure 4: GLIMMER-Large, trained at each beta", "beta")
x = np.arange(len(by_depth)) / config.num_live_layers
y, off = np.array(by_depth).T
right.errorbar(x, y, off, color="C4", marker="D", capsize=3, ls="--", label="linear score, fitted")
right.plot(float(config.beta), own, "*", ms=15, color="C0", label="the model's own score")
right.set_xticks(x, [str(Fraction(j, config.num_live_layers)) for j in range(len(x))])
right.set(title="the bundled model: relevance in the first token", xlabel="beta", ylabel=f"recall at m = {config.m}, %")
right.legend(loc="lower right")
plt.show()

# %% [markdown]
# The recall at the left end is that of the search engine, not of the model. A fitted score does not use that order, so
# it may fall below this value. The step that follows comes from live-A: question and passage attend to each other for a
# layer or two. That is *late interaction*, and it is the point of the paper: with a strong memory, a shallow ranker is
# enough.
#
# ## The same curves, trained in miniature
#
# To reproduce the paper's figures properly, one has to train a model for each point of Figure 4 and for each line of
# Figure 5. `benchmarks/miniature` does so with small models in the made-up world. Look for the same shapes: steep in
# $k$, soon flat in $m$, and low without live-A. These models score the mean of a pair's tokens, not the first one, and
# their start, the bundled model, already knew the tasks.


# %%
# Picture: Figures 3, 4 and 5 from small models that were trained for them, if there are results.
sys.path.append("../benchmarks")
from miniature.summary import trained, verdicts


def trained_lines(axes, lines):
    """Results of the small models: means over the seeds, bars of their standard errors, LUMEN's levels dotted."""
    solid = 0
    for row in lines:
        points = [p for p in row.pairs if p.ours is not None]
        if row.level:
            for p in points:
                level(axes, row.name, p.ours.mean)
        elif points:
            x, y, off = zip(*((float(Fraction(p.x)), p.ours.mean, p.ours.error) for p in points), strict=True)
            axes.errorbar(x, y, off, color=("C0", "C5")[solid % 2], marker="os"[solid % 2], capsize=3, label=row.name)
            room(axes, max(x))
            solid += 1


panels = [panel for name in ("Figure 3", "Figure 4", "Figure 5") for panel in trained(name).items()]
if not panels:
    print("Figures 3 to 5 in miniature have not been trained here yet:")
    print("python benchmarks/miniature/main.py train --figures 3,4,5 (see benchmarks/README.md) trains them.")
else:
    figure, grid = plt.subplots(-(-len(panels) // 2), 2, figsize=(9, 3.4 * -(-len(panels) // 2)), squeeze=False)
    for axes, (place, lines) in zip(grid.flat, panels, strict=False):
        trained_lines(axes, lines)
        what = {"Figure 3, left": "k", "Figure 4": "beta"}.get(place, "m")
        axes.set(title=f"{place}, in miniature", xlabel=what, ylabel="exact match, %")
        if len([row for row in lines if not row.level]) > 1:
            axes.legend(loc="lower left")
    for axes in grid.flat[len(panels) :]:
        axes.axis("off")
    plt.show()

# %% [markdown]
# The paper's Table 1 asks another question: must the ranking layers be the same as those that read? It compares
# GLIMMER with a *separate* reranker, which starts as a copy of the pre-trained layers or from random weights. A rule
# compares each of the paper's statements with these measurements.

# %%
Markdown(
    "\n".join(
        f"- {name}: {sentence}"
        for name in ("Figure 3", "Figure 4", "Figure 5", "Table 1")
        for sentence in verdicts(name)
    )
    or "Nothing has been trained here yet."
)

# %% [markdown]
# ## Quality against cost
#
# Quality is one half of the comparison. Here are all models of the paper's Figures 3 to 5, with the cost of a question
# counted from their shapes. The stairs are the *Pareto front*: the models for which no other model is both at least as
# cheap and at least as good.

# %%
models = tradeoff.retrieval()
best = tradeoff.front(models)
lumens = {p.model["k"]: p for p in tradeoff.lumens(models)}
for n, of in lumens.items():
    rivals = tradeoff.at_least_as_good(models, of)
    line = f"LUMEN over {n:2}: {float(of.quality):.2f} for {float(of.macs / TERA):.2f} tera multiply-adds"
    if rivals:
        cheap = rivals[0]
        line += f"; GLIMMER {cheap.model['k']} -> {cheap.model['m']} has {float(cheap.quality):.2f}"
        line += f" for {100 * float(cheap.macs / of.macs):.0f}% of it"
    print(line)

# %%
# Picture: quality against cost: LUMEN's three triangles on a slowly rising line, GLIMMER's circles above it and to the
# left, stairs through the best of all.
figure, axes = plt.subplots(figsize=(9, 4.2))
x, y = ([float(v) for v in row] for row in zip(*((p.macs / TERA, p.quality) for p in best), strict=True))
axes.step([*x, float(models[-1].macs / TERA)], [*y, y[-1]], where="post", color="#888888", lw=1.2, zorder=1)
for p in models:
    by_us = p.model["system"] == "glimmer"
    style = {"color": "C0" if by_us else "C1", "marker": "o" if by_us else "^", "ms": 8, "ls": ""}
    axes.plot(
        float(p.macs / TERA), float(p.quality), mfc="C0" if p in best and by_us else "none" if by_us else "C1", **style
    )
axes.plot(
    [float(p.macs / TERA) for p in lumens.values()], [float(p.quality) for p in lumens.values()], color="C1", ls=":"
)
for n, p in lumens.items():
    axes.annotate(f"LUMEN over {n}", (float(p.macs / TERA), float(p.quality)), (8, -12), textcoords="offset points",
                  fontsize=9, color="C1")  # fmt: skip
named = [p for p in models if p.model["system"] == "glimmer" and (p.model["k"], p.model["m"]) in ((25, 5), (40, 10))]
for p in {(p.model["k"], p.model["m"]): p for p in named if p in best}.values():
    axes.annotate(f"GLIMMER {p.model['k']} → {p.model['m']}", (float(p.macs / TERA), float(p.quality)), (-8, 7),
                  textcoords="offset points", fontsize=9, color="C0", ha="right")  # fmt: skip
axes.set(xlabel="10¹² multiply-adds a question, T5.1.1-Large", ylabel="mean score, KILT dev")
axes.set_xlim(0, 1.2 * float(models[-1].macs / TERA))
axes.margins(y=0.1)
plt.show()

# %% [markdown]
# A larger k is cheap, because all but m of the passages go through only a twelfth of the encoder's layers. A larger m
# is expensive, because each kept passage goes through a third of them and is read by the decoder.
# [`05_counting_flops`](05_counting_flops.ipynb) shows how these costs arise.
#
# ## Exercises
#
# **Exercise 1.** What would recall be if GLIMMER kept m of the k passages at random? Give a formula, and its value for
# the sample. How much better is the search engine's order?
#
# **Exercise 2.** The paper's Table 3 finds that a score from the *mean* of a pair's tokens does as well as one from the
# first token, if the model is trained so. Switch the bundled model's `pool` to "mean", without training. How much of
# its recall remains?
#
# **Exercise 3.** How well would this reader answer with a perfect ranker? Put the gold passages of each question first
# among its candidates and let LUMEN read the first m.

# %% [markdown]
# ## Solutions

# %% tags=["solution"]
# Solution 1. Each retrieved gold passage is kept with probability m/k, so recall is m/k of the recall at k.
found = 100 * (is_gold[asked, :k].sum(axis=1) / golds[asked]).mean()
print(
    f"of k = {k} {found:.1f}, so at random {found * config.m / k:.1f}; search engine {theirs:.1f}, GLIMMER {ours:.1f}"
)

# %% tags=["solution"]
# Solution 2. Score and layers were trained for the first token, not for the mean. Yet live-A writes what it finds into
# all tokens of a pair, so part of the order, or all of it, may remain.
host = checkpoint.load(bundled(), "float32")
pooled = Reader(replace(host, config=replace(config, pool="mean")), reader.tokenizer, adapter=reader.adapter)
_, rows = ask(config.k, config.m, who=pooled)
mean_recall = 100 * np.mean([r["recall_at_m"] for r in rows if r["recall_at_m"] is not None])
own_recall = 100 * np.mean([r["recall_at_m"] for r in by_m[config.m][1] if r["recall_at_m"] is not None])
print(f"recall at {config.m}: first token {own_recall:.1f}, mean {mean_recall:.1f}")

# %% tags=["solution"]
# Solution 3. What a perfect ranker leaves to gain is lost by the reader.
perfect = [
    replace(q, candidates=(*q.gold, *(c for c in q.candidates if c not in q.gold))[: max(config.m, len(q.gold))])
    for q in sample
    if q.gold
]
with_perfect = evaluate(reader, perfect, memory, "lumen", config.m, None, progress)[0]["exact_match"]
print(f"with a perfect ranker {with_perfect:.1f}, with its own {of_m[config.m]:.1f}")
