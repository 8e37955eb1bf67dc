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
# # Counting FLOPs: Figure 2 from shapes
#
# GLIMMER claims more quality for less computing. The second part of this claim can be checked without a GPU and without
# the paper's models, because the cost of a Transformer follows from the shapes of its matrices. You will count one
# layer, then one question in FiD, LUMEN and GLIMMER. The result is the paper's Figure 2, to its last printed digit.
# After that you can change every number in it yourself.
#
# *25 minutes to read, half a minute to run.*

# %%
import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np
from ipywidgets import IntSlider, SelectionSlider, interact
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

import glimmer_ref
from glimmer_ref.costs import hardware, storage
from glimmer_ref.costs.breakeven import against, break_even
from glimmer_ref.costs.dry_run import traced_macs
from glimmer_ref.costs.flops import SYSTEMS, by_shapes, layer_weights, online
from glimmer_ref.costs.modes import TERA, full, samples_per_tflop, total
from glimmer_ref.costs.parse import of_size
from glimmer_ref.costs.published import figure2
from glimmer_ref.costs.published.values import PAPER_RESULTS, values
from glimmer_ref.costs.reports import NAMES, latency_report
from glimmer_ref.costs.sweep import sweep
from glimmer_ref.data.inputs import passage_tokens, question_tokens, read_passages, read_questions
from glimmer_ref.evaluation.evaluate import candidates
from glimmer_ref.inference.answer import by_stage
from glimmer_ref.inference.reader import bundled
from glimmer_ref.instruments import MacCounter
from glimmer_ref.ops import bind
from glimmer_ref.paper.decoding import greedy
from glimmer_ref.paper.lumen import encode_passages
from glimmer_ref.paper.systems import FROM_TEXT
from glimmer_ref.paper.systems import SYSTEMS as RUN

plt.style.use("style.mplstyle")
COLORS = {"fid": "C2", "lumen": "C1", "glimmer": "C0"}

# %% [markdown]
# ## The unit
#
# A product of a matrix [N a] and a matrix [a o] has N times o results, each a sum of a terms. That is N a o
# *multiply-adds*, or MACs. Hardware makers count two FLOPs for each MAC. The paper's "FLOP" is one MAC, as the numbers
# below will show. `MacCounter` is an instrument: it observes the operations that the model calls and adds up their
# MACs.

# %%
N, a, o = 7, 11, 13
count = MacCounter(bind("numpy"))
count.scope("example").linear(np.ones((N, a)), np.ones((a, o)))
print(f"counted {count.macs['example']}, by hand {N} x {a} x {o} = {N * a * o}")

# %% [markdown]
# So the cost of a token in a layer is the number of weights that it is multiplied with. Here are the seven matrices of
# an encoder layer of T5.1.1-XXL, the model of Figure 2, drawn to scale.

# %%
# Picture: the seven weight matrices of a layer as rectangles to scale, four squares for attention above three wider
# ones for the feed-forward block.
s = of_size("xxl")
figure, axes = plt.subplots(figsize=(9, 3.3))
for top, color, names, wide in (
    (s.d + 900, "#9cc0dd", ("q", "k", "v", "o"), s.hc),
    (0, "#f0d9a8", ("wi_0", "wi_1", "wo"), s.f),
):
    for i, name in enumerate(names):
        left = i * (wide + 500)
        axes.add_patch(Rectangle((left, top), wide, s.d, facecolor=color, edgecolor="#333333"))
        axes.text(left + wide / 2, top + s.d / 2, f"{name}\n{s.d} x {wide}", ha="center", va="center", fontsize=9)
axes.text(4 * (s.hc + 500), 1.5 * s.d + 900, f"attention: {4 * s.d * s.hc / 1e6:.0f} M weights", va="center")
axes.text(3 * (s.f + 500), s.d / 2, f"feed-forward:\n{3 * s.d * s.f / 1e6:.0f} M weights", va="center")
axes.set(xlim=(-100, 3 * (s.f + 500) + 6500), ylim=(-100, 2 * s.d + 1000), aspect="equal")
axes.axis("off")
plt.show()

# %%
print(f"T5.1.1-XXL: d = {s.d}, heads x c = {s.hc}, f = {s.f}, L = {s.L} layers")
print(f"weights of a layer {layer_weights(s):,} = {layer_weights(s) / s.d**2} d^2; the paper's formulas have 12 d^2")

# %% [markdown]
# The formulas printed in sections 2.1, 2.2 and 3.3 use 12 d², which corresponds to f = 8/3 d. That is fine as an
# estimate. But Figure 2 was made from the true shapes, so we need those.
#
# ## Counted in three ways, one of them by running
#
# A formula and its check can contain the same error if they were derived in the same way. So the package counts a
# question in two independent ways: from shapes by formula, and by running the model on arrays that have a shape but no
# numbers. For the bundled model there is a third way, to count the operations of a real run. All three must agree
# exactly.

# %%
reader = glimmer_ref.load()
config = reader.config
question = next(read_questions(bundled() / "questions.jsonl"))
memory = reader.memorize(read_passages(bundled() / "passages.jsonl"))
chosen = [memory.passage(int(row)) for row in candidates(reader, question, memory, config.k)]
q = question_tokens(config, reader.tokenizer, [question.text])
p = passage_tokens(config, reader.tokenizer, chosen)
n_q, lengths = int(q.lengths[0]), [int(n) for n in p.lengths]
print(f"a question of {n_q} tokens, {len(lengths)} passages of {min(lengths)} to {max(lengths)} tokens\n")
for system in SYSTEMS:
    run = MacCounter(reader.ops)
    known = p if system in FROM_TEXT else encode_passages(run, reader.model, p)
    got = RUN[system](run, reader.model, q, known, np.array([len(p)]), config.m)
    steps = len(greedy(run, reader.model, got.memory, config.answer_tokens)[0].ids) + 1
    selected = [int(i) for i in got.selected[0]]
    formula = by_shapes(config, system, n_q, lengths, steps, selected)
    ranked = [lengths[i] for i in (*selected, *sorted(set(range(len(p))) - set(selected)))]
    shapes = traced_macs(config, system, n_q, ranked, steps, config.m)
    assert formula == shapes == run.macs, "part by part"
    counts = "   ".join(
        f"{way} {online(macs):>11,}"
        for way, macs in (("by formula", formula), ("without numbers", shapes), ("real run", run.macs))
    )
    print(f"{NAMES[system]:8} {counts}")

# %% [markdown]
# ## Where a question's cost goes
#
# Now we take the paper's model and numbers of passages. FiD reads 5 passages and LUMEN 10. GLIMMER ranks 25 and reads
# the best 5 of them. A third of the layers is live, and a quarter of the live layers ranks. The bars do not include
# what LUMEN and GLIMMER compute before the question.

# %%
PARTS = {
    "encoder, all k": (("encoder", "live", "live_a", "score"), "#14375e", ""),
    "encoder, m best": (("live_b",), "#7fa8cf", "//"),
    "cross keys and values": (("cross",), "#e0a030", ""),
    "decoder": (("decoder",), "#b03a48", ""),
    "question, logits": (("question", "head"), "#c4c4c4", ""),
}


def parts_of(setting, system):
    """Multiply-adds of one question by the parts above."""
    stages = by_stage({name: x for name, x in full(setting, system).items() if not name.startswith("memory")})
    return {part: sum(stages.get(name, 0) for name in names) for part, (names, *_) in PARTS.items()}


def stacked(axes, settings, unit=TERA, digits=2):
    """Draws one bar for each system, stacked by part."""
    for y, (system, setting) in enumerate(settings.items()):
        at = 0.0
        for part, x in parts_of(setting, system).items():
            _, color, hatch = PARTS[part]
            wide = float(x / unit)
            axes.barh(y, wide, left=at, color=color, hatch=hatch, edgecolor="white", lw=0.5, label=None if y else part)
            at += wide
        axes.text(at, y, f" {at:.{digits}f}", va="center", fontsize=9)
    axes.set_yticks(range(len(settings)), [NAMES[system] for system in settings])
    axes.invert_yaxis()
    axes.margins(x=0.12)


settings = {system: figure2.setting(system) for system in SYSTEMS}
print(f"tera-MACs {''.join(f'{part:>22}' for part in list(PARTS)[:4])}")
for system, setting in settings.items():
    print(
        f"{NAMES[system]:10}"
        + "".join(f"{float(x / TERA):22.3f}" for x in list(parts_of(setting, system).values())[:4])
    )

# %%
# Picture: three stacked bars of tera-MACs a question; the encoder over all passages is most of FiD's bar and less than
# half of GLIMMER's.
figure, axes = plt.subplots(figsize=(9, 3))
stacked(axes, settings)
axes.set_xlabel("10¹² multiply-adds a question, T5.1.1-XXL")
axes.set_yticks(range(3), [f"{NAMES[y]}, k = {x.k}" for y, x in settings.items()])
figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=5)
plt.show()

# %% [markdown]
# GLIMMER ranks five times as many passages as FiD reads, and still costs less: 25 passages go through only a twelfth of
# the layers, and only 5 go through the other live layers. LUMEN saves by its memory. None of the three systems saves
# the decoder's keys and values, which are computed for every token that the decoder reads.
#
# ## Figure 2, to the last digit
#
# The figure shows samples per TFLOP. The source of its picture has them with ten digits. Two quantities that the cost
# depends on are not in the text: the real number of tokens in a pair, and the length of the answers. But the two
# published numbers of FiD and LUMEN give two equations for these two unknowns.

# %%
pair, steps = figure2.solved_lengths()
print(f"solved from FiD and LUMEN: {float(pair):.6f} tokens a pair, {float(steps):.6f} decoder steps\n")
found = figure2.samples()
for system, x in found.items():
    places = figure2.DECIMALS[system]
    print(
        f"{NAMES[system]:8} published {float(figure2.PUBLISHED[system]):.{places}f}   from shapes {float(x):.{places}f}"
    )

# %%
# Picture: Figure 2, quality against samples per TFLOP: FiD, LUMEN and GLIMMER on a rising line, the ring of each
# published value around the computed dot.
figure, axes = plt.subplots(figsize=(9, 3.2))
for value in values(PAPER_RESULTS["Figure 2"]()):
    y = value.model["system"]
    axes.plot(float(figure2.PUBLISHED[y]), float(value.y), "o", ms=16, mfc="none", mec=COLORS[y], mew=2)
    axes.plot(float(found[y]), float(value.y), "o", ms=6, color=COLORS[y])
    axes.text(float(found[y]) + 0.0015, float(value.y), NAMES[y], color=COLORS[y], va="center")
axes.set(xlim=(0.085, 0.14), ylim=(68, 74.5), xlabel="samples per TFLOP", ylabel="mean score, KILT dev")
axes.set_title("Figure 2: rings as published, dots from shapes (quality as published)")
plt.show()

# %% [markdown]
# The solutions are whole numbers, as they have to be if the count is right. GLIMMER's value was not used for the
# solution, and it agrees to the last digit. So Figure 2 was made with 384 tokens a pair and 64 tokens of answer, and
# its FLOP is a multiply-add. (384 and 64 are inferred, not stated. The text says 48 + 304.)
#
# A published quality has to be believed, but it can be tried at a smaller scale.
# [`03_memory_and_live`](03_memory_and_live.ipynb) begins with a Figure 2 of small models that were trained for it here.
# The same calculator gives their cost. Is the order of the costs the paper's, although these models have quite other
# shapes?

# %%
sys.path.append("../benchmarks")
from miniature.summary import trained

for row in trained("Figure 2").get("Figure 2", []):
    for p in (p for p in row.pairs if p.ours is not None and p.paper_cost is not None):
        here, there = f"{p.ours.cost:7,.0f} samples per TFLOP", f"{p.paper_cost:.4f}"
        print(f"{row.name:8} k = {p.k:2}, m = {p.m:2}: {here}; the paper's model {there}")

# %% [markdown]
# How much would other ways to count differ from the paper's numbers?

# %%
# Picture: for each way to count, the difference of its cost from Figure 2's in per cent; only the true shapes with 384
# tokens a pair lie on zero.
table = figure2.breakdown()
published = table["Figure 2, published"]
ways = {name: row for name, row in table.items() if not name.startswith(("Figure", "+"))}
figure, axes = plt.subplots(figsize=(9, 3.4))
for system, marker in zip(SYSTEMS, "s^o", strict=True):
    off = [100 * float(row[system] / published[system] - 1) for row in ways.values()]
    axes.plot(off, range(len(ways)), ls="", marker=marker, ms=8, color=COLORS[system], label=NAMES[system])
axes.axvline(0, color="#666666", lw=1)
axes.set_yticks(range(len(ways)), ways)
axes.invert_yaxis()
axes.grid(axis="x")
axes.set(xlabel="cost relative to Figure 2, %", title="Only one way to count gives Figure 2")
axes.legend(ncols=3, loc="lower left", bbox_to_anchor=(0.45, 1.0))
plt.show()

# %%
print("what Figure 2 leaves out, in % of its cost:")
for name, row in table.items():
    if name.startswith("+"):
        shares = "   ".join(f"{NAMES[y]} {100 * float(row[y] / published[y]):6.3f}" for y in SYSTEMS)
        print(f"  {name[2:]:26} {shares}")

# %% [markdown]
# None of these omissions changes the picture. From here on we count everything (mode *full*).
#
# ## How the cost grows
#
# Costs are linear in k, m, alpha and beta. So a question such as "how many passages can GLIMMER rank for the cost of
# LUMEN?" has an exact answer: two points define the line, and the line gives the answer as a fraction.

# %%
start = of_size("xxl")
ks = list(range(5, 61, 5))
curves = sweep(start, "k", ks, SYSTEMS, "full")
lines = {y: [float(row["macs"] / TERA) for row in curves if row["system"] == y] for y in SYSTEMS}
others = [("fid", 5), ("lumen", 10), ("lumen", 25)]
solved = {(y, k): against(start, y, k)["k"] for y, k in others}
for (y, k), b in solved.items():
    value = float(b.value)
    print(f"GLIMMER, m = {start.m}, costs as much as {NAMES[y]} over {k:2} at k = {value:6.2f}: {b.whole} passages")

# %%
# Picture: cost against the number of retrieved passages, three straight lines, GLIMMER's the flattest, with a ring
# at its intersection with the level of each other system.
figure, axes = plt.subplots(figsize=(9, 4))
for y, marker, style in (("fid", "s", "--"), ("lumen", "^", "-."), ("glimmer", "o", "-")):
    axes.plot(ks, lines[y], color=COLORS[y], marker=marker, ls=style, ms=4)
for y, at, place in (("fid", 1, "right"), ("lumen", 4, "right"), ("glimmer", -1, "left")):
    axes.text(ks[at] + (1 if place == "left" else -1.2), lines[y][at], NAMES[y], color=COLORS[y], va="center", ha=place)
for y, k, up, side in (("fid", 5, 0.8, "right"), ("lumen", 10, -2.2, "left")):
    b, level = solved[y, k], float(total(replace(start, k=k), y, "full") / TERA)
    axes.plot([k, float(b.value)], [level, level], color=COLORS[y], lw=1)
    axes.plot(float(b.value), level, "o", ms=10, mfc="none", mec="C0", mew=1.5)
    axes.text(float(b.value), level + up, f"{NAMES[y]} over {k} = GLIMMER over {b.whole}", fontsize=9, ha=side)
axes.set(xlim=(0, 68), ylim=(0, 30), xlabel="k, passages retrieved", ylabel="10¹² multiply-adds a question")
axes.grid(axis="y")
plt.show()

# %% [markdown]
# ## What if?
#
# In JupyterLab, the next cell shows sliders for the model size, k, m, the live layers, the number of these that rank,
# and the length of a passage. A static picture of some settings follows it. The same sliders, and those for storage and
# hardware, are on a page that `glimmer-ref flops page what-if.html` writes.


# %% tags=["widget"]
def what_if(size, k, m, live, live_a, n_p):
    """Draws the three systems at one setting."""
    s = of_size(size)
    live, live_a, m = min(live, s.L), min(live_a, live, s.L), min(m, k)
    s = replace(s, k=k, m=m, n_p=n_p, alpha=Fraction(live, s.L), beta=Fraction(live_a, live))
    _, axes = plt.subplots(figsize=(9, 2.6))
    stacked(axes, dict.fromkeys(SYSTEMS, s))
    axes.set_title(f"{size}: k = {k}, m = {m}, alpha = {s.alpha}, beta = {s.beta}, {n_p} tokens a passage")
    axes.set_xlabel("10¹² multiply-adds a question")
    axes.legend(ncols=5, loc="upper center", bbox_to_anchor=(0.45, -0.25))
    plt.show()
    bytes_ = storage.passage_bytes(s, storage.WIDTHS["bfloat16"])
    print("   ".join(f"{NAMES[y]} {float(samples_per_tflop(total(s, y, 'full'))):.4g} a TFLOP" for y in SYSTEMS))
    print(f"memory {bytes_:,} bytes a passage in bfloat16")


interact(
    what_if,
    size=SelectionSlider(options=["small", "base", "large", "xl", "xxl"], value="xxl"),
    k=IntSlider(25, 1, 100),
    m=IntSlider(5, 1, 100),
    live=IntSlider(8, 1, 24),
    live_a=IntSlider(2, 0, 24),
    n_p=IntSlider(304, 16, 1024, 16),
)

# %%
# Picture: six panels with three stacked bars each, one panel for each setting, in per cent of FiD over
# the same passages.
third = Fraction(1, 3)
cases = {
    "the paper's: 25 of which 5": {},
    "100 retrieved, 5 read": {"k": 100},
    "25 retrieved, 25 read": {"m": 25},
    "half of the layers live": {"alpha": Fraction(1, 2)},
    "half of the live ones rank": {"beta": Fraction(1, 2)},
    "passages of 100 tokens": {"n_p": 100},
}
figure, panels = plt.subplots(2, 3, figsize=(9, 4.6), sharex=True, sharey=True)
for axes, (name, change) in zip(panels.flat, cases.items(), strict=True):
    s = replace(start, **change)
    stacked(axes, dict.fromkeys(SYSTEMS, s), unit=total(s, "fid", "full") / Fraction(100), digits=0)
    axes.set_title(name, fontsize=10)
panels[0, 0].set_yticks(range(3), [NAMES[y] for y in SYSTEMS])
panels[0, 0].set_ylim(2.6, -0.6)
panels[1, 1].set_xlabel("% of what FiD would cost over the same k passages")
figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
plt.show()

# %% [markdown]
# With m = k there is nothing to rerank, and GLIMMER costs as much as LUMEN. The more passages it drops, the closer its
# cost is to that of its ranking layers alone. Twice as many ranking layers do not cost twice as much, because live-B
# does not repeat the layers that the kept passages have gone through in live-A.
#
# ## FLOPs are not seconds
#
# A multiply-add cannot start before its operands have arrived. Each stage takes at least the time of its arithmetic at
# the hardware's peak, and at least the time of its memory traffic at the memory's bandwidth. The longer of the two is
# the bound. The decoder has few multiply-adds, but at every step it reads all of its weights for one token of each
# question.

# %%
doc = latency_report("T5.1.1-xxl", start, ["glimmer"], hardware.accelerator("h100"), "bfloat16", [1, 8, 64])
for row in doc["batches"]:
    one = row["systems"]["glimmer"]
    print(f"batch {row['batch']:2}: at least {1e3 * one['seconds_per_question']:6.1f} ms a question")
    for name, stage in one["stages"].items():
        print(
            f"    {name:9} {float(stage['macs'] / row['batch'] / TERA):7.3f} tera-MACs   bound by {stage['bound_by']}"
        )

# %%
# Picture: shares of GLIMMER's stages, on top in multiply-adds, below in least time on an H100 at batch 1, 8 and 64: the
# decoder has a small share on top and most of the time at batch 1.
stage_colors = {
    "question": "#c4c4c4",
    "live_a": "#14375e",
    "live_b": "#7fa8cf",
    "cross": "#e0a030",
    "decoder": "#b03a48",
}
bars = {"multiply-adds": {n: float(x["macs"]) for n, x in doc["batches"][0]["systems"]["glimmer"]["stages"].items()}}
for row in doc["batches"]:
    bars[f"time, batch {row['batch']}"] = {n: x["seconds"] for n, x in row["systems"]["glimmer"]["stages"].items()}
figure, axes = plt.subplots(figsize=(9, 3))
for y, stages in enumerate(bars.values()):
    at, whole = 0.0, sum(stages.values())
    for name, x in stages.items():
        wide = 100 * x / whole
        hatch = "//" if name == "live_b" else ""
        axes.barh(y, wide, left=at, color=stage_colors[name], hatch=hatch, edgecolor="white", label=None if y else name)
        if wide > 9:
            ink = "black" if name in ("live_b", "cross", "question") else "white"
            axes.text(at + wide / 2, y, f"{wide:.0f}%", ha="center", va="center", fontsize=9, color=ink)
        at += wide
axes.set_yticks(range(len(bars)), bars)
axes.invert_yaxis()
axes.set(xlim=(0, 100), xlabel="share, %", title="GLIMMER-XXL on one H100, least time")
figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=5)
plt.show()

# %% [markdown]
# At batch 1 GLIMMER saves where little time is spent and not in the decoder, where most is. So Figure 2's count says
# little about the delay of a single question. It says much about a busy server, on which many questions share each
# reading of the weights.
#
# ## Exercises
#
# **Exercise 1.** Make half of the encoder live ($\alpha = 1/2$) and change nothing else. Up to which k does GLIMMER now
# cost no more than LUMEN over 10 passages? Solve it with `break_even`, then check by counting on both sides of the
# answer.
#
# **Exercise 2.** Attention's own products ($q k^\top$ and the weighted sum of v) grow with the square of the length,
# and the paper leaves them out. Which share of FiD's cost are they at 304 tokens a passage? And at 4000?
#
# **Exercise 3.** The memory of 21 million passages has to be stored and computed. How large is it in int8? After how
# many questions has computing it paid off, if the alternative is FiD over the same 25 passages?

# %% [markdown]
# ## Solutions

# %% tags=["solution"]
# Solution 1. The cost is a straight line in k; `whole` is the largest whole k at which GLIMMER costs no more.
s = replace(start, alpha=Fraction(1, 2))
target = total(replace(s, k=10), "lumen", "full")
b = break_even(s, "k", target)
print(f"k = {float(b.value):.2f}, so {b.whole} passages")
for k in (int(b.whole), int(b.whole) + 1):
    print(f"k = {k}: GLIMMER costs {float(total(replace(s, k=k), 'glimmer', 'full') / target):.4f} of LUMEN over 10")

# %% tags=["solution"]
# Solution 2. `full` counts them separately, under the stage's name and ".attention".
for n_p in (304, 4000):
    counted = full(replace(start, n_p=n_p), "fid")
    share = sum(x for name, x in counted.items() if name.endswith(".attention")) / online(counted)
    print(f"{n_p} tokens a passage: {100 * share:.1f}%")

# %% tags=["solution"]
# Solution 3. Each passage has n_p tokens of d numbers, int8 with a scale a token.
n = storage.CORPORA["21 M passages"]
stored = storage.corpus_bytes(start, storage.WIDTHS["int8"], n, storage.SCALES["int8"])
print(f"{stored / 1e12:.1f} TB, made by {float(storage.offline_macs(start, n)):.2e} multiply-adds")
print(f"paid off after {float(storage.repaid_after(start, n, 'glimmer')) / 1e6:.1f} million questions")
