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
# # Memory and live: what can be computed before the question
#
# A reader that gets k passages with every question spends nearly all its time on passages that it could have encoded
# before. LUMEN cuts the encoder in two. The lower part encodes the passages in advance. The upper part, a share alpha
# of the layers, runs *live*, which means after the question has arrived. This notebook is for readers who know what an
# encoder and a decoder are (or have read [`01_one_question`](01_one_question.ipynb)). Afterwards you know why the cut
# is possible, what alpha gains and costs, how large the stored memory is, and at which stage answers get lost.
#
# *20 minutes to read, one minute to run.*

# %%
import sys
import tempfile
from dataclasses import replace
from fractions import Fraction

import numpy as np
from IPython.display import Markdown
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

import glimmer_ref
from glimmer_ref.config import SIZES
from glimmer_ref.costs import storage
from glimmer_ref.costs.breakeven import line
from glimmer_ref.costs.modes import TERA, full, total
from glimmer_ref.costs.parse import of_size
from glimmer_ref.costs.published.values import PAPER_RESULTS, values
from glimmer_ref.data.inputs import passage_tokens, question_tokens, read_passages, read_questions
from glimmer_ref.evaluation.evaluate import evaluate
from glimmer_ref.inference.answer import by_stage
from glimmer_ref.inference.reader import Reader, bundled
from glimmer_ref.instruments import Trace
from glimmer_ref.memory.build import build
from glimmer_ref.ops import bind
from glimmer_ref.paper import fid, lumen
from glimmer_ref.paper.systems import FROM_TEXT, SYSTEMS
from glimmer_ref.params import checkpoint
from glimmer_ref.params.model import Stack, random
from glimmer_ref.params.recut import recut
from glimmer_ref.progress import progress
from glimmer_ref.ragged import Tokens

plt.style.use("style.mplstyle")
OFFLINE, LIVE = "#f0c27a", "#14375e"  # computed before the question, and after it has arrived
reader = glimmer_ref.load()
model, ops = checkpoint.load(bundled(), "float32"), bind("numpy")  # the weights as plain arrays, for looking inside
config, tokenizer = model.config, reader.tokenizer
passages = list(read_passages(bundled() / "passages.jsonl"))
memory = reader.memorize(passages)
questions = list(read_questions(bundled() / "questions.jsonl"))
sample = questions[:: len(questions) // 400]  # questions of all kinds, few enough for a notebook
print(f"{len(passages)} passages, {len(sample)} of {len(questions)} questions")

# %% [markdown]
# ## What the cut is for: Figure 2
#
# The paper's main figure compares three systems by quality and by cost. FiD encodes every question-passage pair from
# the start. LUMEN cuts the encoder, as this notebook explains, and GLIMMER also reranks, which the next one explains.
# The cost is given as *samples per TFLOP*: how many questions $10^{12}$ multiply-adds answer. So a point further right
# is cheaper, and a higher one is better. The left picture is the paper's. The right one shows small models that this
# repository trained for each system in the made-up world, all from the same start and for the same number of steps. The
# number beside a point is k, the passages retrieved.


# %%
# Picture: left, Figure 2 as published: FiD, LUMEN and GLIMMER, each further right and higher than the one before;
# right, a line for each system from small models that were trained here, with k beside each point.
sys.path.append("../benchmarks")
from miniature.summary import trained, verdicts

LOOKS = {"FiD": ("FiD", "C2", "s"), "lumen": ("LUMEN", "C1", "^"), "glimmer": ("GLIMMER", "C0", "o")}
figure2 = trained("Figure 2")
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8))
for v in values(PAPER_RESULTS["Figure 2"]()):
    name, color, marker = LOOKS[v.series]
    left.plot(float(v.x), float(v.y), marker=marker, color=color, ms=9)
    left.annotate(f"{name}, k = {v.model['k']}", (float(v.x), float(v.y)), (-9, -3), textcoords="offset points",
                  color=color, fontsize=9, ha="right")  # fmt: skip
left.set(title="Figure 2, as published", xlabel="samples per TFLOP", ylabel="mean score, KILT dev")
left.margins(x=0.35, y=0.2)
for row in figure2.get("Figure 2", []):
    name, color, marker = LOOKS[row.name]
    known = [p for p in row.pairs if p.ours is not None]
    x, y, error = zip(*((p.ours.cost / 1000, p.ours.mean, p.ours.error) for p in known), strict=True)
    right.errorbar(x, y, error, color=color, marker=marker, capsize=3, label=name)
    for p in known:
        right.annotate(str(p.k), (p.ours.cost / 1000, p.ours.mean), (5, 5), textcoords="offset points", fontsize=8)
right.set(title="trained here", xlabel="1,000 samples per TFLOP", ylabel="exact match, test world, %")
right.margins(x=0.12, y=0.12)
if figure2:
    right.legend(loc="lower right")
else:
    right.text(0.5, 0.5, "not trained here yet:\nsee benchmarks/README.md", ha="center", transform=right.transAxes)
plt.show()

# %% [markdown]
# Are the paper's statements true of the small models too? A rule compares each with the measurements. "Same direction"
# means that both differences are larger than chance explains, and of the same sign.

# %%
Markdown("\n".join(f"- {sentence}" for sentence in verdicts("Figure 2")) or "Figure 2 has not been trained here yet.")

# %% [markdown]
# ## One encoder, cut in two
#
# alpha is the live share of the encoder's L layers. At alpha = 1 nothing is computed in advance: each question-passage
# pair goes through all layers. That is FiD. At alpha = 0 all of the encoder runs in advance: the passages are encoded
# without knowing the question, and only the decoder sees both. LUMEN covers everything in between.

# %%
# Picture: seven encoders as columns of layers for alpha from 0 to 1; the pale lower part is computed before the
# question; the dark upper part is live, and grows to the right until it is the whole column.
layers = SIZES["large"].num_layers
shares = [Fraction(x) for x in ("0", "1/24", "1/8", "1/4", "1/3", "1/2", "1")]
figure, axes = plt.subplots(figsize=(9, 3.6))
for x, share in enumerate(shares):
    cut = layers - int(share * layers)
    for layer in range(layers):
        axes.add_patch(Rectangle((x, layer), 0.62, 0.86, color=OFFLINE if layer < cut else LIVE))
    if 0 < cut < layers:
        axes.annotate("Q", (x, cut), (x - 0.22, cut), fontsize=9, ha="center", va="center")
        axes.plot([x - 0.14, x + 0.7], [cut - 0.07] * 2, color="#b03a48", lw=1.5)
axes.set_xticks(np.arange(len(shares)) + 0.31, [f"alpha = {share}" for share in shares])
axes.text(0.31, layers + 0.6, "no live layers", ha="center", fontsize=9)
axes.text(3.31, layers + 0.6, "LUMEN: the question joins at the red line", ha="center", fontsize=9)
axes.text(6.31, layers + 0.6, "FiD", ha="center", fontsize=9)
axes.text(6.75, 0.5, "earlier:\nstored", color="#8a5a00", fontsize=9)
axes.text(6.75, 18, "live: for\neach\nquestion", color=LIVE, fontsize=9)
axes.set(xlim=(-0.5, 7.5), ylim=(-0.2, layers + 2), ylabel=f"layer, of {layers} (T5.1.1-Large)")
axes.grid(visible=False)
axes.tick_params(axis="x", length=0)
plt.show()

# %% [markdown]
# ## Why the lower part can be computed in advance
#
# In FiD the tokens of a passage see the question from the first layer on, so every state depends on it. In LUMEN they
# cannot see it below the cut. We combine one passage with two different questions and measure, layer by layer, how much
# the states of the passage differ.

# %%
one = next(q for q in questions if q.gold and q.gold[0] in q.candidates)
other = next(q for q in questions if q.task != one.task)
passage = next(p for p in passages if p.id == one.gold[0])
tokens = passage_tokens(config, tokenizer, [passage])
n_p = int(tokens.lengths[0])


def by_layer(system, question):
    """The passage's states [n_p d] after each encoder layer, with this question."""
    trace = Trace(ops, only=r"(encoder\.)?(memory|live).*feed_forward\.out")
    q = question_tokens(config, tokenizer, [question.text])
    inputs = tokens if system in FROM_TEXT else lumen.encode_passages(trace, model, tokens)
    SYSTEMS[system](trace, model, q, inputs, np.array([1]), 1)
    return [x[-n_p:] for name, x in trace.arrays.items() if not name.endswith("lengths")]


difference = {}
for system in ("fid", "lumen"):
    pairs = zip(by_layer(system, one), by_layer(system, other), strict=True)
    difference[system] = [float(np.linalg.norm(a - b) / np.linalg.norm(a)) for a, b in pairs]
print(f"passage:  {passage.title}: {passage.text}")
print(f"first:    {one.text}\nsecond:   {other.text}\n")
for system, found in difference.items():
    print(f"{system:6} difference by layer: {'  '.join(f'{x:.3f}' for x in found)}")

# %%
# Picture: how much a passage's states differ between two questions after each layer: LUMEN's line lies on zero for all
# memory layers and rises in the live ones, FiD's rises from the first layer.
cut = config.num_memory_layers
figure, axes = plt.subplots(figsize=(9, 3))
axes.axvspan(0.5, cut + 0.5, color=OFFLINE, alpha=0.45, lw=0)
x = np.arange(1, len(difference["lumen"]) + 1)
axes.plot(x, difference["fid"], color="C2", marker="s", ls="--", label="FiD")
axes.plot(x, difference["lumen"], color="C1", marker="^", label="LUMEN")
axes.legend(loc="upper left", bbox_to_anchor=(0.12, 1))
axes.text(0.6, 0.02, "memory layers", fontsize=9, color="#8a5a00", transform=axes.get_xaxis_transform())
axes.text(cut + 0.6, 0.02, "live layers", fontsize=9, color=LIVE, transform=axes.get_xaxis_transform())
axes.set(xlabel="encoder layer", ylabel="relative difference", title="One passage, two questions", xticks=x)
axes.set_ylim(bottom=-0.2 * max(difference["fid"] + difference["lumen"]))
axes.set_yticks([y for y in axes.get_yticks() if 0 <= y <= axes.get_ylim()[1]])
plt.show()

# %% [markdown]
# LUMEN's zeros are exact: the numbers are the same, bit for bit. A number that does not depend on the question needs to
# be computed only once. FiD has no such number.
#
# ## Between the two ends
#
# How far is LUMEN from FiD when *the same weights* are cut at different layers? We can measure this without any
# training, on a T5 with random weights and the shapes of the bundled model. With all layers live, LUMEN must give the
# same numbers as FiD. With fewer live layers the question enters later, and the states differ more.

# %%
whole = random(replace(config, num_memory_layers=0, num_live_layers=config.t5.num_layers), seed=0)
every, table = whole.live.layers, whole.live.relative_attention_bias
L, counts = config.t5.num_layers, np.array([1])
q = question_tokens(config, tokenizer, [one.text])
n_q = int(q.lengths[0])


def cut_at(live):
    """The same T5 with its last `live` layers live."""
    shape = replace(config, num_memory_layers=L - live, num_live_layers=live, num_rerank_layers=0)
    return replace(whole, config=shape, memory=Stack(table, every[: L - live]), live=Stack(table, every[L - live :]))


def lumen_pair(live):
    """[Q; P] after LUMEN's encoder: [n_q+n_p d]."""
    cut_model = cut_at(live)
    joined = lumen.join(
        ops, cut_model, lumen.encode_question(ops, cut_model, q), lumen.encode_passages(ops, cut_model, tokens), counts
    )
    return lumen.live_encode(ops, cut_model, joined).states


exact = fid.encode_pairs(ops, cut_at(L), q, tokens, counts).states
off = [float(np.linalg.norm(lumen_pair(live) - exact) / np.linalg.norm(exact)) for live in range(L + 1)]
for live, x in enumerate(off):
    print(f"alpha = {Fraction(live, L)!s:4} relative difference from FiD {x:.3f}")

# %%
# Picture: the difference between LUMEN's and FiD's states falls from left, no live layers, to exactly zero at alpha 1.
figure, axes = plt.subplots(figsize=(9, 2.6))
axes.plot(np.arange(L + 1) / L, off, color="C1", marker="^")
axes.text(0.975, 0, "LUMEN = FiD", ha="right", va="center", fontsize=9)
axes.set_xticks(np.arange(L + 1) / L, [str(Fraction(live, L)) for live in range(L + 1)])
axes.set(xlabel="alpha", ylabel="relative difference", title="LUMEN's pair against FiD's, one T5 cut at each layer")
plt.show()

# %% [markdown]
# So alpha leads from one architecture to the other in small steps. How such a difference changes the *answers* does not
# follow from any formula. It takes training, once for every alpha, and the paper has done it.
#
# ## What alpha gains, and what it costs
#
# Figure 7 of the paper shows the exact match of LUMEN-Large on Natural Questions at nine values of alpha, trained once
# on that task only and once on all six tasks. Beside it we draw the cost of the same models, counted from their shapes.
# (The paper does not state k for this figure. We take 10 passages.)

# %%
seven = values(PAPER_RESULTS["Figure 7"]())
quality = {name: {v.model["alpha"]: float(v.y) for v in seven if v.series == name} for name in ("KILT", "NQ-only")}
start = replace(of_size("large"), k=10)
alphas = sorted(quality["KILT"])
PARTS = {"live encoder": ("live", LIVE), "cross keys and values": ("cross", "#e0a030"), "decoder": ("decoder", "C3")}


def parts(setting, system):
    """Tera multiply-adds of one question by stage, without those of the stored memory."""
    return {name: float(x / TERA) for name, x in by_stage(full(setting, system)).items() if name != "memory"}


costs = {alpha: parts(replace(start, alpha=alpha), "lumen") for alpha in alphas}
of_fid = float(total(start, "fid", "full") / TERA)
print(f"FiD over the same passages: {of_fid:.2f} tera multiply-adds a question")
for alpha in alphas:
    cost = sum(costs[alpha].values())
    print(
        f"alpha = {alpha!s:5} LUMEN {cost:.2f}, {100 * cost / of_fid:3.0f}% of FiD"
        f"   KILT {quality['KILT'][alpha]:.1f}   NQ only {quality['NQ-only'][alpha]:.1f}"
    )

# %%
# Picture: left, exact match against alpha for two trainings: a steep rise that ends at about one third; right, the cost
# as stacked areas, which rises in a straight line up to FiD's.
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.7))
for name, marker, style, color in (("KILT", "^", "-", "C1"), ("NQ-only", "v", "--", "C3")):
    left.plot([float(a) for a in alphas], [quality[name][a] for a in alphas], marker=marker, ls=style, color=color)
    label = {"KILT": "trained on all tasks", "NQ-only": "on Natural Questions only"}[name]
    left.text(1, quality[name][alphas[-1]] - 1.1, label, color=color, fontsize=9, ha="right")
left.axvline(1 / 3, color="#777777", ls=":", lw=1)
left.text(0.345, 45.5, "the paper's choice, 1/3", fontsize=9, color="#555555")
left.set(xlabel="alpha", title="quality (exact match, Figure 7)")
x, floor = [float(a) for a in alphas], np.zeros(len(alphas))
for name, (stage, color) in PARTS.items():
    height = np.array([costs[a].get(stage, 0) for a in alphas])
    right.fill_between(x, floor, floor + height, color=color, alpha=0.85, label=name, lw=0)
    floor = floor + height
right.axhline(of_fid, color="C2", ls="--")
right.text(0.02, of_fid * 1.02, "FiD", color="#9a6a00", fontsize=9)
right.axvline(1 / 3, color="#777777", ls=":", lw=1)
right.set(xlabel="alpha", title="cost (10¹² multiply-adds a question)", ylim=(0, of_fid * 1.15))
figure.legend(*right.get_legend_handles_labels(), loc="outside lower right", ncols=3)
plt.show()

# %%
third, least, most = Fraction(1, 3), alphas[0], alphas[-1]
gained = quality["KILT"][third] - quality["KILT"][least]
left_over = quality["KILT"][most] - quality["KILT"][third]
paid = sum(costs[third].values()) - sum(costs[least].values())
more = {alpha: quality["KILT"][alpha] - quality["NQ-only"][alpha] for alpha in alphas}
to_pay = sum(costs[most].values()) - sum(costs[third].values())
Markdown(
    f"With training on all tasks, making the last third of the layers live gains **{gained:.1f}** points for "
    f"{paid:.2f} tera multiply-adds. The other two thirds gain **{left_over:.1f}** for {to_pay:.2f} more. Training on "
    f"all tasks instead of one gains **{more[Fraction(1, 8)]:.1f}** points at alpha = 1/8 and **{more[most]:.1f}** at "
    f"alpha = 1: a small live part profits most."
)

# %% [markdown]
# Even at alpha = 0 a question is not free: the decoder computes keys and values for every token that it may attend to,
# and writes the answer. GLIMMER reduces this remaining cost by reading fewer passages
# ([`04_reranking`](04_reranking.ipynb)).
#
# ## The same curves, trained in miniature
#
# Here a small LUMEN was trained at every alpha of its 12 layers, and so were the models of the paper's Figure 6, which
# compares FiD and LUMEN at two alphas. All of them start from `weights/t5-mini`, which has never seen these tasks, and
# are tested on one task. One line is trained on all tasks, the other on that task only.


# %%
# Picture: left, Figure 7 from small models trained in this repository, exact match against alpha; right, Figure 6, a
# bar for each of three models and two trainings.
def trained_lines(axes, lines):
    """Results of the small models: means over the seeds, with bars of their standard errors."""
    for j, row in enumerate(lines):
        known = [p for p in row.pairs if p.ours is not None]
        style = {"color": f"C{j}", "label": row.name}
        if row.level:
            for p in known:
                axes.axhline(p.ours.mean, ls=":", lw=2, **style)
        elif known:
            x, y, error = zip(*((float(Fraction(p.x)), p.ours.mean, p.ours.error) for p in known), strict=True)
            axes.errorbar(x, y, error, marker="os^Dv"[j % 5], ls="-", capsize=3, **style)


figure7, figure6 = trained("Figure 7"), trained("Figure 6")
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.7), sharey=True)
if not (figure7 and figure6):
    left.text(0.5, 0.5, "not trained here yet:\nsee benchmarks/README.md", ha="center", transform=left.transAxes)
else:
    trained_lines(left, figure7["Figure 7"])
    bars = [row for row in figure6["Figure 6"] if row.paper_name]
    for j, row in enumerate(bars):
        known = [(i, p.ours) for i, p in enumerate(row.pairs) if p.ours is not None]
        right.bar(
            [i + 0.4 * j for i, _ in known], [ours.mean for _, ours in known], 0.38, color=f"C{j}",
            yerr=[ours.error for _, ours in known], capsize=3, hatch=("", "//")[j % 2], edgecolor="white",
        )  # fmt: skip
    names = [p.x.replace("L-", "LUMEN, ") for p in bars[0].pairs]
    right.set_xticks([i + 0.2 for i in range(len(names))], names)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
left.set(xlabel="alpha", ylabel="exact match, one task, %", title="Figure 7 in miniature")
right.set(title="Figure 6 in miniature")
left.set_ylim(bottom=0)
plt.show()

# %%
Markdown(
    "\n".join(f"- {sentence}" for name in ("Figure 7", "Figure 6") for sentence in verdicts(name))
    or "Figures 6 and 7 have not been trained here yet."
)

# %% [markdown]
# ## What is stored
#
# LUMEN saves computing and pays with storage. Each token of each passage becomes d numbers for every alpha: the cut
# decides how many layers computed these numbers, not how many numbers there are. Fewer bits for each number make the
# memory smaller. We store the memory of the bundled world in four number formats, and ask LUMEN the same questions with
# each. int8 stores one scale for each token beside its numbers.

# %%
stored, kept_size = {}, {}
with tempfile.TemporaryDirectory() as folder:
    for dtype in storage.WIDTHS:
        made = build(reader.ops, reader.model, tokenizer, bundled() / "passages.jsonl", f"{folder}/{dtype}", dtype)
        kept_size[dtype] = made.memory.info()["bytes_on_disk"] / made.memory.info()["tokens"]
        stored[dtype] = evaluate(reader, sample, made.memory, "lumen", config.m, None, progress)[0]["exact_match"]
text_size = sum(len(f"{p.title} {p.text}".encode()) for p in passages) / made.memory.info()["tokens"]
print(f"text: {text_size:.1f} bytes a token")
for dtype, size in kept_size.items():
    numbers = config.t5.d_model * storage.WIDTHS[dtype] + storage.SCALES[dtype]
    print(f"{dtype:9} {size:6.1f} bytes a token on disk, {numbers} of them states   exact match {stored[dtype]:.1f}")

# %%
# Picture: bytes a token as bars for text and four number formats, with the exact match from each beside it: int8's
# bar is about a quarter of float32's, and still many times the text's.
figure, axes = plt.subplots(figsize=(9, 2.5))
bars = {
    "the text itself": text_size,
    **{dtype: kept_size[dtype] for dtype in ("int8", "bfloat16", "float16", "float32")},
}
axes.barh(list(bars), list(bars.values()), color=["C7", *["C0"] * 4], height=0.62)
for y, (name, size) in enumerate(bars.items()):
    label = f" {size:.0f} bytes" + (f", exact match {stored[name]:.1f}" if name in stored else "")
    axes.text(size, y, label, va="center", fontsize=9)
axes.grid(visible=False)
axes.set(xlim=(0, 1.35 * max(bars.values())), xlabel="bytes a token", title="The stored memory of the bundled world")
plt.show()

# %% [markdown]
# Now at the scale of the paper: Wikipedia as 21 million passages of the paper's length. As text, a passage has up to
# 200 words of about 6 bytes each.

# %%
n = storage.CORPORA["21 M passages"]
text_bytes = n * 200 * 6  # words a passage, bytes a word
sizes = ("base", "large", "xl", "xxl")
tera = {
    dtype: [
        float(storage.corpus_bytes(of_size(y), storage.WIDTHS[dtype], n, storage.SCALES[dtype])) / 1e12 for y in sizes
    ]
    for dtype in ("float32", "bfloat16", "int8")
}
print(f"{n:,} passages of {of_size('xxl').n_p} tokens; as text {text_bytes / 1e9:.0f} GB")
for dtype, row in tera.items():
    print(f"{dtype:9} " + "   ".join(f"{y} {x:6.1f} TB" for y, x in zip(sizes, row, strict=True)))

# %%
# Picture: terabytes of memory for Wikipedia on a logarithmic axis, three formats for each of four model sizes, all far
# above the line of the text itself.
figure, axes = plt.subplots(figsize=(9, 3.2))
for j, (dtype, row) in enumerate(tera.items()):
    at = np.arange(len(sizes)) + 0.27 * (j - 1)
    shown = axes.bar(at, row, 0.25, label=dtype, color=("C0", "C5", "C2")[j], hatch=("", "", "//")[j], ec="white")
    axes.bar_label(shown, [f"{x:.0f}" for x in row], fontsize=8)
axes.axhline(text_bytes / 1e12, color="#555555", ls="--", lw=1.2)
axes.text(3.45, text_bytes / 1e12 * 1.15, "the text itself", fontsize=9, color="#555555")
axes.set_xticks(range(len(sizes)), [f"T5.1.1-{y}" for y in sizes])
axes.set(yscale="log", xlim=(-0.5, 4.1), ylim=(0.01, 300), ylabel="TB", title="Memory of 21 million passages")
axes.yaxis.set_major_formatter("{x:g}")
axes.legend(ncols=3, loc="upper left")
plt.show()

# %% [markdown]
# This is the trade: terabytes of disk, of which one question reads only its k passages, against multiply-adds for every
# question. The memory must also be built again whenever the memory encoder changes.
#
# ## Where the answer gets lost
#
# A wrong answer was lost at one of three stages. The **search** did not find a needed passage, the **selection**
# dropped it (in GLIMMER only), or all needed passages were there and the **reading** failed. We ask the bundled model
# the sample of questions, as GLIMMER, and count the errors by task and stage.

# %%
OUTCOMES = ("right", "lost in reading", "lost in selection", "lost in search")


def outcome_of(question, row):
    """The stage at which a question's answer was lost, or "right"."""
    if row["exact_match"]:
        return "right"
    if not set(question.gold) <= set(question.candidates[: config.k]):
        return "lost in search"
    return "lost in reading" if set(question.gold) <= set(row["selected"]) else "lost in selection"


results = {
    system: evaluate(reader, sample, memory, system, config.k, None, progress) for system in ("glimmer", "lumen")
}
tasks = list(dict.fromkeys(q.task for q in sample))
lost = {
    system: {
        task: [
            sum(outcome_of(q, r) == outcome for q, r in zip(sample, rows, strict=True) if q.task == task)
            for outcome in OUTCOMES
        ]
        for task in tasks
    }
    for system, (_, rows) in results.items()
}
for system, table_of in lost.items():
    sums = np.sum(list(table_of.values()), axis=0)
    print(f"{system:8}" + "   ".join(f"{outcome} {count}" for outcome, count in zip(OUTCOMES, sums, strict=True)))

# %%
# Picture: for each kind of question a bar of all questions, divided into right answers and those that were lost at each
# of the three stages.
figure, axes = plt.subplots(figsize=(9, 0.34 * len(tasks) + 1.2))
base = np.zeros(len(tasks))
HATCHES = ("", "", "\\\\", "//")
for j, (outcome, color, hatch) in enumerate(zip(OUTCOMES, ("C7", "C0", "C2", "C1"), HATCHES, strict=True)):
    share = np.array([100 * lost["glimmer"][task][j] / sum(lost["glimmer"][task]) for task in tasks])
    axes.barh(tasks, share, left=base, color=color, hatch=hatch, ec="white", label=outcome, height=0.7)
    for y, (x, wide) in enumerate(zip(base, share, strict=True)):
        if wide >= 6:
            ink = "white" if color in ("C0", "C1") else "black"
            axes.text(x + wide / 2, y, f"{wide:.0f}", ha="center", va="center", fontsize=8, color=ink,
                      bbox={"fc": color, "ec": "none", "pad": 1})  # fmt: skip
    base = base + share
axes.invert_yaxis()
axes.grid(visible=False)
axes.set(xlim=(0, 100), xlabel=f"% of each task's questions, GLIMMER, k = {config.k}, m = {config.m}")
figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=4)
plt.show()

# %%
gap = results["glimmer"][0]["exact_match"] - results["lumen"][0]["exact_match"]
error = 100 * np.sqrt(2 * 0.25 / len(sample))
worst = max(OUTCOMES[1:], key=lambda outcome: sum(row[OUTCOMES.index(outcome)] for row in lost["glimmer"].values()))
Markdown(
    f"Most wrong answers of GLIMMER were **{worst}**. LUMEN reads all k = {config.k} passages with the same weights. "
    f"It answers {results['lumen'][0]['exact_match']:.1f}% of the questions right, GLIMMER "
    f"{results['glimmer'][0]['exact_match']:.1f}%: a difference of {gap:+.1f} points, with a standard error of at "
    f"most {error:.1f} points for {len(sample)} questions."
)

# %% [markdown]
# LUMEN has no selection in which it could lose a passage. But it can lose the answer in reading, because more passages
# also distract.
#
# ## Can the cut be moved after training?
#
# The bundled model has learnt two cuts of its encoder: each step of its training was one of GLIMMER or LUMEN, at the
# model's alpha, or of FiD, where question and passage see each other from the first layer on. Now we cut the same
# layers elsewhere and ask LUMEN. Nothing is trained for that. (To be quick, we use only the best m passages of the
# search.)


# %%
def with_live(layers_):
    """The bundled model's layers with the last `layers_` live, as a reader."""
    lower = config.t5.num_layers - layers_
    shape = replace(config, num_memory_layers=lower, num_live_layers=layers_, num_rerank_layers=0)
    return Reader(recut(model, shape), tokenizer, adapter=reader.adapter)


moved = {}
for live in sorted({*range(0, config.t5.num_layers + 1, 2), config.num_live_layers}):
    there = with_live(live)
    moved[live] = evaluate(there, sample, there.memorize(passages), "lumen", config.m, None, progress)[0]["exact_match"]
for live, x in moved.items():
    print(f"LUMEN, {live:2} of {config.t5.num_layers} layers live: exact match {x:5.1f}")

# %%
# Picture: exact match as bars for the same layers cut at several places: next to nothing with fewer live layers than
# were learnt, and nearly as much as there with more.
figure, axes = plt.subplots(figsize=(9, 2.6))
learnt = (config.num_live_layers, config.t5.num_layers)
names = [f"{live} live" + {learnt[0]: ", learnt", learnt[1]: ", learnt as FiD"}.get(live, "") for live in moved]
shown = axes.barh(names, list(moved.values()), color=["C1" if live in learnt else "C7" for live in moved], height=0.65)
axes.bar_label(shown, fmt=" %.1f", fontsize=9)
axes.invert_yaxis()
axes.grid(visible=False)
axes.set(xlim=(0, 105), xlabel=f"exact match, k = {config.m}", title="The same layers, cut at several places")
plt.show()

# %% [markdown]
# With fewer live layers, layers that learnt to compare question and passage get passages alone, and what they should do
# is missing. With more, layers get states that a question has already changed, which they have met only in the steps as
# FiD. Layers of one encoder also share one position table, so here the lower layers have that of the live ones, with
# which they were not trained. So alpha is chosen before training, and the figures above train each model for itself.
#
# ## Exercises
#
# **Exercise 1.** LUMEN's cost is a straight line in k. How many passages can LUMEN-Large read at the cost of FiD over
# 10, for each alpha of Figure 7? Use `line` and `total`.
#
# **Exercise 2.** One word of one passage is corrected. How many rows of the stored memory have to be computed again,
# and how many change? Try it with the passage of the second section.
#
# **Exercise 3.** Does int8 change which passages are selected? Ask GLIMMER the sample with a float32 and with an int8
# memory, and count how many selections and how many answers differ.

# %% [markdown]
# ## Solutions

# %% tags=["solution"]
# Solution 1. cost(k) = a + b k, so k = (target - a) / b. (At alpha = 1 it is one passage fewer than in FiD, because the
# decoder of LUMEN also reads Q.)
target = total(start, "fid", "full")
for alpha in alphas:
    s = replace(start, alpha=alpha)
    a, b = line(lambda k: total(replace(s, k=k), "lumen", "full"))  # noqa: B023, called at once
    print(f"alpha = {alpha!s:5} LUMEN reads {int((target - a) / b)} passages")

# %% tags=["solution"]
# Solution 2. The rows of all tokens of this passage, since each token attends to all others; none of another passage.
changed = tokens.ids.copy()
changed[n_p // 2] = changed[0]
a, b = (lumen.encode_passages(ops, model, Tokens(ids, tokens.lengths)).states for ids in (tokens.ids, changed))
print(f"{int(np.any(a != b, axis=1).sum())} of {n_p} rows of this passage change")

# %% tags=["solution"]
# Solution 3. Passages whose scores are nearly equal may change their order; the answer mostly stays the same.
with tempfile.TemporaryDirectory() as folder:
    kept, predicted = {}, {}
    for dtype in ("float32", "int8"):
        made = build(reader.ops, reader.model, tokenizer, bundled() / "passages.jsonl", f"{folder}/{dtype}", dtype)
        rows = evaluate(reader, sample, made.memory, "glimmer", config.k, None, progress)[1]
        kept[dtype], predicted[dtype] = [set(r["selected"]) for r in rows], [r["prediction"] for r in rows]
for what, pair in (("selections", kept), ("answers", predicted)):
    print(
        what, "that differ:", sum(x != y for x, y in zip(pair["float32"], pair["int8"], strict=True)), "of", len(sample)
    )
