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
# # One question through GLIMMER
#
# This notebook sends one question, with the passages that a search engine found for it, through the model. It stops
# after every stage of the paper's Figure 1 and shows the array that the stage computes. It is for readers who know the
# abstract of the paper and nothing else yet. Afterwards you know what is computed before the question arrives, what the
# reranker sees, why most passages are dropped halfway, and where the words of the answer come from.
#
# *30 minutes to read, half a minute to run.*

# %%
from textwrap import fill

import numpy as np
from IPython.display import Markdown
from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch, Polygon, Rectangle

import glimmer_ref
from glimmer_ref.data.inputs import passage_tokens, question_tokens, read_passages, read_questions
from glimmer_ref.evaluation.evaluate import answers
from glimmer_ref.evaluation.metrics import exact_match
from glimmer_ref.inference import evidence
from glimmer_ref.inference.reader import bundled
from glimmer_ref.inference.tracing import attention_shares
from glimmer_ref.instruments import Trace
from glimmer_ref.ops import bind
from glimmer_ref.paper import decoding, distillation, glimmer, lumen
from glimmer_ref.params import checkpoint
from glimmer_ref.progress import progress
from glimmer_ref.ragged import Tokens, offsets

plt.style.use("style.mplstyle")
reader = glimmer_ref.load()  # the bundled model, with its tokenizer
model = checkpoint.load(bundled(), "float32")  # the same weights as plain NumPy arrays
ops = bind("numpy")  # the reference backend, which is written for reading
config, tokenizer = model.config, reader.tokenizer
memory_of_all = reader.memorize(read_passages(bundled() / "passages.jsonl"))
d = config.t5.d_model
Markdown(
    f"The bundled model's encoder has **{config.t5.num_layers}** layers: **{config.num_memory_layers}** of the memory "
    f"encoder and **{config.num_live_layers}** live ones. The first **{config.num_rerank_layers}** of these rank. "
    f"The decoder has **{config.t5.num_decoder_layers}**. A token's state is a row of d = **{d}** numbers. Of k = "
    f"**{config.k}** passages, m = **{config.m}** are kept."
)

# %% [markdown]
# ## Six words before we start
#
# A **token** is a word, or a piece of a word. The model knows it by a number, which is the token's row in a table. A
# **state** is a row of d numbers that describes one token at some point in the model. A **layer** turns the states of a
# sequence into as many new states. It does so by **attention**: each new state is a weighted mean over what the other
# tokens offer, and the weights sum to one. An **encoder** is a stack of layers that reads a text. A **decoder** writes
# the answer one token at a time, and attends to the states that the encoder computed.
#
# ## The map
#
# This is Figure 1 in our own words. The numbers are those of the sections below.


# %%
# Picture: the path of a question: passages go through the memory encoder in advance, are paired with the question,
# pass live-A and get a score; the best pass live-B and are read by the decoder, the others end at their score.
def box(axes, x, y, wide, high, text, color):
    axes.add_patch(FancyBboxPatch((x, y), wide, high, boxstyle="round,pad=0.06", facecolor=color, edgecolor="#14375e"))
    axes.text(x + wide / 2, y + high / 2, text, ha="center", va="center", fontsize=9)


OFFLINE, LIVE, PLAIN = "#f6deb4", "#cfdff0", "#f0f0f0"
figure, axes = plt.subplots(figsize=(9, 4))
rows, kept_rows = 5, (0, 3)
for i in range(rows):
    y, kept = 3.2 - 0.8 * i, i in kept_rows
    color = "#14375e" if kept else "#9a9a9a"
    axes.plot([1.2, 8.15], [y, y], color=color, lw=2.2 if kept else 1.2, ls="-" if kept else "--", zorder=0)
    box(axes, 0, y - 0.2, 1.2, 0.4, f"passage {i + 1}" if i < rows - 1 else "passage k", PLAIN)
    axes.text(8.2, y, "kept" if kept else "dropped", va="center", fontsize=8, color=color)
    if kept:
        axes.plot([8.85, 11.2], [y, y], color=color, lw=2.2, zorder=0)
axes.plot([1.2, 3.5, 3.5], [4.35, 4.35, 3.6], color="#14375e", lw=1.5, zorder=0)
box(axes, 0, 4.15, 1.2, 0.4, "question", PLAIN)
box(axes, 1.65, 4.0, 1.1, 0.7, "memory\nencoder", OFFLINE)
box(axes, 1.65, -0.3, 1.1, 3.9, "(2)\nmemory\nencoder\n\nearlier,\nstored", OFFLINE)
box(axes, 3.2, -0.3, 1.0, 3.9, "(3)\nbracket\n[Q; P]\n\nk pairs", PLAIN)
box(axes, 4.65, -0.3, 1.0, 3.9, "(4)\nlive-A\n\neach\npair", LIVE)
box(axes, 6.1, -0.3, 0.8, 3.9, "(5)\nscore\n\none\nnumber", LIVE)
axes.text(7.55, 4.0, "(6) keep m", ha="center", fontsize=9)
box(axes, 9.3, -0.3, 1.0, 3.9, "(7)\nlive-B\n\nm pairs", LIVE)
box(axes, 10.75, -0.3, 1.1, 3.9, "(8)\ndecoder\n\nreads all\nm pairs", LIVE)
axes.annotate("answer", (12.1, 1.65), (12.2, 1.65), fontsize=9, va="center")
axes.text(0.6, 4.85, "(1)", ha="center", fontsize=9)
axes.text(2.2, -0.85, "before the question", ha="center", fontsize=9, color="#8a5a00")
axes.text(7.5, -0.85, "live: after the question has arrived", ha="center", fontsize=9, color="#14375e")
axes.set(xlim=(-0.2, 12.9), ylim=(-1.1, 5.1))
axes.axis("off")
plt.show()

# %% [markdown]
# ## Choosing a question
#
# The world of the bundled model is made up, so the model knows only what it reads. We take the first question of its
# test set that has these properties: it needs **two** passages, the search engine ranked at least one of them too low,
# the model's answer is right, and the answer stands in one of the two passages. (The search engine is BM25, which ranks
# passages by the words that they share with the question.)


# %%
def suits_the_lesson(question, answer):
    """Two passages are needed and kept, the search ranked one low, and the answer is right and stands in one."""
    kept = {answer.passages[i].id for i in answer.selected}
    late = set(question.gold) - set(question.candidates[: config.m])
    known = not answer.unknown and not answer.substituted and tokenizer.unknown_id not in all_ids(answer.passages)
    stated = any(answer.text in memory_of_all.passage(int(i)).text for i in memory_of_all.rows(question.gold))
    return set(question.gold) <= kept and late and known and stated and exact_match(answer.text, question.answers)


def all_ids(passages):
    return set(passage_tokens(config, tokenizer, passages).ids.tolist())


def is_double(question):
    return len(question.gold) == 2 and set(question.gold) <= set(question.candidates)


doubles = [q for q in read_questions(bundled() / "questions.jsonl") if is_double(q)]
found = answers(reader, doubles, memory_of_all, "glimmer", config.k, config.m, progress)
question, expected = next((q, a) for q, a in found if suits_the_lesson(q, a))
passages = expected.passages
k, m = len(passages), len(expected.selected)
gold = [i for i, p in enumerate(passages) if p.id in question.gold]
print(f"{question.text}\n")
for i, p in enumerate(passages):
    print(fill(f"{i:2}  {p.title}: {p.text}", 100, subsequent_indent="    "))

# %% [markdown]
# Try to answer the question before you read on. No single passage is enough: the facts of two passages have to be
# combined. The other passages are there because they share words with the question.
#
# ## (1) Words become numbers
#
# The tokenizer cuts the text into tokens. It adds a last token to the question that marks its end. `Tokens` holds all
# sequences **end to end** in one array, with their lengths beside them. There is no padding and no batch dimension.

# %%
q = question_tokens(config, tokenizer, [question.text])
p = passage_tokens(config, tokenizer, passages)
counts = np.array([k])  # passages of each question; we have one question
q_words = tokenizer.pieces(q[0].tolist())
p_words = [tokenizer.pieces(p[i].tolist()) for i in range(k)]
print(f"question: ids {list(q.ids.shape)}, lengths {q.lengths.tolist()}")
print(f"passages: ids {list(p.ids.shape)}, lengths {p.lengths.tolist()}")

# %%
# Picture: the tokens of the question and of the first passages in boxes, each with its id below.
WIDE = 108  # characters in a line


def word_positions(words, start=0, high=1, least=1):
    """Positions (x, y) of words in lines of WIDE characters, and how many lines they fill."""
    x, y, at = start, 0, []
    for word in words:
        if x + len(word) > WIDE and x > start:
            x, y = start, y + high
        at.append((x, y))
        x += max(len(word), least) + 1.4
    return at, y + high


def show_words(rows, title, below=None, color="#1f6f8b", start=13):
    """Rows of (label, words, weights): a word's background is darker for a larger weight (1 at most)."""
    high, least = (2, 4) if below else (1, 1)  # an id may need more room than its word
    lines = sum(word_positions(words, start, high, least)[1] + 0.35 for _, words, _ in rows)
    _, axes = plt.subplots(figsize=(9, 0.185 * lines + 0.4))
    y = 0.0
    for r, (label, words, weights) in enumerate(rows):
        axes.text(0, y, label, fontsize=8, va="center", fontweight="bold")
        at, used = word_positions(words, start, high, least)
        for j, (word, weight, (px, py)) in enumerate(zip(words, weights, at, strict=True)):
            shade = float(np.clip(weight, 0, 1))
            ground = Rectangle((px - 0.5, y + py - 0.45), len(word) + 1, 0.9, facecolor=color, alpha=shade, lw=0)
            axes.add_patch(ground)
            ink = "white" if shade > 0.55 else "black"
            axes.text(px, y + py, word, fontsize=8, family="monospace", va="center", color=ink)
            if below:
                axes.text(px, y + py + 0.85, str(below[r][j]), fontsize=8, va="center", color="#777777")
        y += used + 0.35
    axes.set(xlim=(-1, WIDE + 3), ylim=(y - 0.4, -0.8), title=title)
    axes.axis("off")
    plt.show()


some = [("question", q_words, q[0])] + [(f"passage {i}", p_words[i], p[i]) for i in range(3)]
show_words(
    [(label, words, np.full(len(words), 0.15)) for label, words, _ in some],
    "Tokens and their ids",
    below=[ids for _, _, ids in some],
)

# %% [markdown]
# ## (2) Memory: what is computed before the question
#
# The **memory encoder** is the lower part of the encoder. It reads each passage by itself: P = MemEnc(passage). It does
# not need the question. So it can run once over a whole library of passages, and the results can be stored. This is
# LUMEN's idea, and GLIMMER keeps it. In the picture below each column is a token, and each row is one of its d numbers.
# Blue is positive, red is negative.

# %%
P = lumen.encode_passages(ops, model, p)
Q = lumen.encode_question(ops, model, q)
alone = lumen.encode_passages(ops, model, Tokens.of([p[gold[0]]]))
print(f"P: states {list(P.states.shape)} = [N d], {k} passages end to end")
print(f"Q: states {list(Q.states.shape)} = [n_q d]")
print(f"a passage alone, and among the others: largest difference {np.abs(alone[0] - P[gold[0]]).max():.0e}")


# %%
# Picture: the memory of all passages as one wide image, one column a token, with a line where a new passage begins.
def show_states(axes, states, names, bounds, reach):
    """Draws states [N d], one column a token, with the names of the sequences below."""
    image = axes.imshow(states.T, aspect="auto", cmap="RdBu", vmin=-reach, vmax=reach, interpolation="antialiased")
    for edge in bounds[1:-1]:
        axes.axvline(edge - 0.5, color="black", lw=0.8)
    axes.set_xticks((bounds[:-1] + bounds[1:]) / 2 - 0.5, names)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.set_ylabel("d")
    return image


figure, axes = plt.subplots(figsize=(9, 2.9))
reach = 3 * P.states.std()
image = show_states(axes, P.states, range(k), offsets(P.lengths), reach)
axes.set(xlabel="passages, end to end", title=f"P, the memory: {P.states.shape[0]} tokens, {d} numbers each")
figure.colorbar(image, ax=axes, pad=0.01)
plt.show()

# %% [markdown]
# Each token is now a column of numbers. It describes the word *and its neighbours in the passage*. It cannot depend on
# the question, because the question was not known yet. When the question arrives, it goes through the same memory
# encoder. Its states are therefore of the same kind as those of the passages.
#
# ## (3) The bracket [Q; P]
#
# Now question and passages are put together. A copy of Q is placed in front of each passage: $H_i = [Q; P_i]$.
# `lumen.join` only moves rows and computes nothing else. The positions continue from the question into the passage, so
# that the model knows that the passage comes after the question.

# %%
H = lumen.join(ops, model, Q, P, counts)
n_q, here = int(q.lengths[0]), gold[0]
assert np.array_equal(H[here], np.concatenate([Q.states, P[here]]))
print(f"H: states {list(H.states.shape)} in {len(H)} pairs of {H.lengths.tolist()} tokens")
print(f"positions of pair {here}: {H.positions[offsets(H.lengths)[here] :][: H.lengths[here]].tolist()}")

# %%
# Picture: one pair as an image with a row a token and the token's word beside it; the question's rows above a line,
# the passage's below.
words = [*q_words, *p_words[here]]
figure, axes = plt.subplots(figsize=(9, 0.128 * len(words) + 0.9))
axes.imshow(H[here], aspect="auto", cmap="RdBu", vmin=-reach, vmax=reach)
axes.axhline(n_q - 0.5, color="black", lw=2)
axes.set_yticks(range(len(words)), words, fontsize=8)
axes.tick_params(axis="y", length=0)
axes.grid(visible=False)
axes.text(d + 1, n_q / 2 - 0.5, "Q", fontsize=14, va="center")
axes.text(d + 1, n_q + len(p_words[here]) / 2 - 0.5, f"P of\npassage {here}", fontsize=10, va="center")
axes.set(xlabel="d", title=f"The pair of the question and passage {here}")
plt.show()

# %% [markdown]
# ## (4) Live-A: question and passage attend to each other
#
# The first live layers run over every pair. Here the tokens of the passage can attend to the question for the first
# time, and the tokens of the question to the passage. A `Trace` records the attention of one pair. Rows are the tokens
# that attend, columns are the tokens attended to, and a dark cell is a large weight. The two blocks on the diagonal are
# attention within the question and within the passage, which the memory encoder had too. The two other blocks are new.

# %%
trace = Trace(ops, only=r"live_a\.layer_\d+\.attention\.probs")
A = glimmer.live_a(trace.scope("live_a"), model, H)
last = config.num_rerank_layers - 1
look = {j: trace.arrays[f"live_a.layer_{j}.attention.probs.{here}"].mean(axis=0) for j in range(last + 1)}
print(f"A: states {list(A.states.shape)}, the same shape as H")
for j, weights in look.items():
    to_p, to_q = weights[:n_q, n_q:].sum(axis=1).mean(), weights[n_q:, :n_q].sum(axis=1).mean()
    print(f"layer {j}: the question's tokens give {100 * to_p:.0f}% of their attention to the passage,")
    print(f"         the passage's tokens give {100 * to_q:.0f}% of theirs to the question")

# %%
# Picture: attention within one pair in the last layer of live-A, mean over heads, with lines between the question's
# tokens and the passage's.
figure, axes = plt.subplots(figsize=(9, 0.128 * len(words) + 1.6))
image = axes.imshow(look[last], vmax=np.quantile(look[last], 0.99), aspect="auto")
axes.axhline(n_q - 0.5, color="#b03a48", lw=1.5)
axes.axvline(n_q - 0.5, color="#b03a48", lw=1.5)
axes.set_yticks(range(len(words)), words, fontsize=8)
axes.set_xticks(range(len(words)), words, fontsize=8, rotation=90)
axes.tick_params(length=0)
axes.grid(visible=False)
axes.set(
    ylabel="attending token",
    title=f"Passage {here}, last layer of live-A: question before, passage behind the red lines",
)
figure.colorbar(image, ax=axes, pad=0.01, label="attention, mean over heads")
plt.show()

# %% [markdown]
# Watch the **first token** of each pair, because the score is computed from its state. Before live-A it is a token of
# the question and does not depend on any passage, so all k rows are the same. In live-A it attends to its passage.
# After live-A its state therefore depends on both, question and passage, and one row is enough to describe how well
# they fit. Training makes sure that what the score needs is collected in this token.

# %%
# Picture: the first tokens of all pairs, one row a pair: before live-A all rows are the same, after it they differ.
before, after = ops.first_token(H.states, H.lengths), ops.first_token(A.states, A.lengths)
figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
for axes, rows, title in zip(panels, (before, after), ("before live-A: all the same", "after live-A"), strict=True):
    axes.imshow(rows, aspect="auto", cmap="RdBu", vmin=-reach, vmax=reach)
    axes.set(xlabel="d", title=title)
    axes.grid(visible=False)
panels[0].set_ylabel("pair")
plt.show()

# %%
print(f"before: largest difference between two pairs {np.abs(before - before[0]).max():.0e}")
print(f"after:  root of the mean square over the pairs {np.sqrt(np.mean((after - after.mean(axis=0)) ** 2)):.2f}")

# %% [markdown]
# ## (5) Scores
#
# The score needs only one product: the d numbers of the first token times d weights give one number for each passage,
# $\mathrm{Score}_i = w \cdot H'_{i,0}$. (The bundled model normalises the row first.) The training data did not say
# which passages are relevant. In training, the scores were fitted to how probable each passage, read alone, makes the
# right answer.

# %%
scores = glimmer.score(ops, model, A)
selected = glimmer.top_m(scores, m)
print(f"scores {list(scores.shape)}, best first: {[int(i) for i in selected]} are kept")


# %%
# Picture: the score of each passage as a point, best on top, kept ones filled and dropped ones hollow, with its share
# p_rank at the right; stars at the passages that were needed for the answer, and their text.
def title_of(i):
    return f"{'★ ' if i in gold else ''}{passages[i].title[:24]} ({i})"


order = np.argsort(-scores, kind="stable")
p_rank = distillation.distribution(scores, counts)
figure, axes = plt.subplots(figsize=(9, 0.17 * k + 0.9))
at_right = axes.get_yaxis_transform()
for y, i in enumerate(order):
    axes.plot(
        scores[i], y, "o", ms=5, color="C0" if i in selected else "#7a7a7a", mfc=None if i in selected else "white"
    )
    axes.text(1.01, y, f"{100 * p_rank[i]:.1f}%", va="center", fontsize=8, transform=at_right)
axes.text(1.01, -1, "p_rank", va="center", fontsize=8, transform=at_right)
axes.axhline(m - 0.5, color="#b03a48", lw=1.2, ls="--")
axes.text(0, m - 0.45, " kept above, dropped below", color="#b03a48", fontsize=8, va="top", transform=at_right)
axes.set_yticks(range(k), [title_of(i) for i in order], fontsize=8, family="DejaVu Sans")
axes.set_ylim(k - 0.4, -0.6)
axes.grid(visible=False, axis="x")
axes.set(xlabel="score", title="Title (the search engine's rank), ★ needed for the answer")
plt.show()

# %%
for i in sorted(gold, key=lambda i: -scores[i]):
    print(fill(f"★ {i:2}  {passages[i].title}: {passages[i].text}", 100, subsequent_indent="      "))
    holds = evidence.sentence_with(passages[i].text, expected.text)
    print(f"      the words of the answer: {holds}" if holds else "      the words of the answer are not in this text")

# %% [markdown]
# A score has no zero point: only the differences between the scores of one question mean something. Therefore the
# picture shows points and no bars. The softmax of the scores, $p_{rank}$, turns them into shares that sum to 100%.
# Training compares these shares with those of the right answer's probability.
#
# **Why were these passages kept?** We replace one word at a time by the tokenizer's token for unknown words, and
# measure how far the score falls. All passages with one replaced word are simply more passages, so one call of the
# ranker scores them all. In the picture, a word is dark if the score of the passage is much lower without it.


# %%
def without(ids):
    """The sequence once for each of its tokens, with this token replaced by the unknown one."""
    return [np.where(np.arange(len(ids)) == j, tokenizer.unknown_id, ids) for j in range(len(ids))]


def score_of(question_ids, passage_ids):
    """Scores of passages, either all for one question or each for its own."""
    b, some = Tokens.of(question_ids), Tokens.of(passage_ids)
    each = np.full(len(b), len(some) // len(b))
    ranked = glimmer.rank(ops, model, b, lumen.encode_passages(ops, model, some), each)
    return ranked.scores


falls = {int(i): scores[i] - score_of([q[0]], without(p[i])) for i in selected}
largest = max(fall.max() for fall in falls.values())
for i, fall in falls.items():
    best = int(np.argmax(fall))
    print(f"passage {i:2}, score {scores[i]:6.2f}: without '{p_words[i][best]}' it is {scores[i] - fall[best]:6.2f}")

# %%
# Picture: the words of the kept passages; the background of a word is darker, the more the score falls without it.
show_words(
    [(f"passage {i}", p_words[i], fall / largest) for i, fall in falls.items()],
    "How much the score depends on each word: kept passages, best first",
)

# %%
# Picture: the words of the question, once for each kept passage, dark where the passage's score falls without the word.
shorter = without(q[0])
of_question = scores[selected] - score_of(shorter, [p[i] for _ in shorter for i in selected]).reshape(n_q, m)
show_words(
    [(f"passage {i}", q_words, fall / of_question.max()) for i, fall in zip(selected, of_question.T, strict=True)],
    "The same for the words of the question",
    color="#7a5195",
)

# %% [markdown]
# Compare the dark words of the two pictures. A passage is kept for what it says *about this question*. Such a score
# cannot be computed before the question is known, because it depends on both sides. That is what live-A is for. (An
# unknown token also confuses the model. So a full stop may be dark too, if it separates two sentences.)
#
# ## (6) Keep m, drop the rest
#
# `top_m` sorts the scores, and `gather` copies the states of the best m pairs, best first. The other pairs take no part
# in anything that follows: they have cost live-A only. This is where GLIMMER saves, and why it can rank many passages.

# %%
R = glimmer.gather(ops, A, selected)
print(f"A: states {list(A.states.shape)} in {len(A)} pairs  ->  R: states {list(R.states.shape)} in {len(R)} pairs")

# %%
# Picture: all pairs end to end, each as a block as long as its tokens; bands lead from the kept ones to a shorter strip
# below, in which the best comes first.
figure, axes = plt.subplots(figsize=(9, 2.3))
starts, ends = offsets(H.lengths), offsets(R.lengths)
for i in range(k):
    kept = i in selected
    look_of = {"facecolor": "C0" if kept else "C7", "hatch": "" if kept else "//", "edgecolor": "white"}
    axes.add_patch(Rectangle((starts[i], 2), H.lengths[i], 0.5, **look_of))
    axes.text(starts[i] + H.lengths[i] / 2, 2.62, str(i), ha="center", fontsize=8)
for rank, i in enumerate(selected):
    a, b = starts[i], ends[rank]
    axes.add_patch(Rectangle((b, 0), R.lengths[rank], 0.5, facecolor="C0", edgecolor="white"))
    axes.text(b + R.lengths[rank] / 2, -0.1, f"R{rank + 1}\n({i})", ha="center", va="top", fontsize=8)
    corners = [(a, 2), (a + H.lengths[i], 2), (b + R.lengths[rank], 0.5), (b, 0.5)]
    axes.add_patch(Polygon(corners, facecolor="C5", alpha=0.35))
axes.text(ends[-1] + 8, 0.25, f"{R.states.shape[0]} tokens enter live-B", va="center", fontsize=9)
axes.set(xlim=(-2, starts[-1] + 2), ylim=(-0.9, 2.95), title=f"{H.states.shape[0]} tokens passed live-A")
axes.axis("off")
plt.show()

# %% [markdown]
# ## (7) Live-B, and what the decoder sees
#
# The other live layers run over the kept pairs only. Their results are then written one behind the other, with Q once
# more in front: $[Q; R_1; \ldots; R_m]$. The copy of Q gives the decoder the question by itself, unmixed with any
# passage. This flat sequence is all that the decoder sees. It does not get the scores, and it does not know which
# passages were dropped.

# %%
B = glimmer.live_b(ops, model, R)
D = lumen.decoder_memory(ops, model, Q, B, np.array([m]))
print(f"B: states {list(B.states.shape)} in {len(B)} pairs")
print(f"D: states {list(D.states.shape)} in {len(D)} sequence, positions 0 .. {D.positions[-1]}")

# %%
# Picture: what the decoder reads as one wide image: the question, then the kept pairs, best first.
figure, axes = plt.subplots(figsize=(9, 2.6))
parts = offsets(np.concatenate([q.lengths, B.lengths]))
image = show_states(axes, D.states, ["Q", *(f"R{j + 1}\n({i})" for j, i in enumerate(selected))], parts, 2)
axes.set_title(f"D, the decoder's input: {D.states.shape[0]} tokens, {d} numbers each")
figure.colorbar(image, ax=axes, pad=0.01)
plt.show()

# %% [markdown]
# ## (8) The decoder writes
#
# The decoder writes token by token. At each step it gives every token of the vocabulary a probability. The most
# probable token is taken (*greedy* decoding), and becomes the input of the next step. The answer is complete when the
# end token, `</s>`, is written. Here are the three most probable tokens of each step.

# %%
trace = Trace(ops, only=r"decoder\.step_\d+\.(logits|layer_\d+\.cross_attention\.probs)")
answer = decoding.greedy(trace, model, D, config.answer_tokens)[0]
steps = [*answer.ids, config.t5.eos_token_id][: config.answer_tokens]
written = tokenizer.pieces(steps)
for t, word in enumerate(written):
    logits = trace.arrays[f"decoder.step_{t}.logits"][0].astype(np.float64)
    chances = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    best = np.argsort(-chances, kind="stable")[:3]
    likeliest = "   ".join(f"{tokenizer.pieces([int(i)])[0]} {chances[i]:.3f}" for i in best)
    print(f"step {t} writes {word:16} most probable: {likeliest}")
Markdown(f"The answer: **{tokenizer.decode(answer.ids)}**. Accepted: {', '.join(question.answers)}.")

# %% [markdown]
# At each step the decoder attends to the tokens of D. The next picture sums its attention by passage: one column a
# step, one row a passage. The needed passages have a star; their text is printed in section (5).

# %%
# Picture: a table of shades: for each token of the answer, how much attention the question and each kept passage got.
probs = {name: x for name, x in trace.arrays.items() if ".probs." in name}
read = glimmer.DecoderInput(D, scores, [selected])
(shares,) = attention_shares(probs, q.lengths, p.lengths, counts, read)
figure, axes = plt.subplots(figsize=(9, 0.3 * (m + 1) + 1.1))
axes.imshow(shares.T, aspect="auto", vmin=0, vmax=1)
for t, row in enumerate(shares):
    for j, share in enumerate(row):
        axes.text(t, j, f"{share:.2f}", ha="center", va="center", color="white" if share > 0.5 else "black")
axes.set_xticks(range(len(written)), [f"writes {word}" for word in written])
axes.set_yticks(range(m + 1), ["question", *map(title_of, selected)], family="DejaVu Sans")
axes.tick_params(length=0)
axes.grid(visible=False)
axes.set_title("Share of the decoder's attention (★ needed for the answer)")
plt.show()

# %%
# Picture: for each step the words of the two passages with most attention, dark where the decoder attended to them.
attention = np.array([
    np.mean([x[:, 0].mean(axis=0) for name, x in probs.items() if name.startswith(f"decoder.step_{t}.")], axis=0)
    for t in range(len(written))
])  # fmt: skip
rows = []
for t, word in enumerate(written):
    for j in np.argsort(-shares[t, 1:], kind="stable")[:2]:
        weights = attention[t, parts[j + 1] : parts[j + 2]][n_q:]  # of the pair, the passage's own tokens
        rows.append((word if j == np.argmax(shares[t, 1:]) else "", p_words[selected[j]], weights / attention[t].max()))
show_words(rows, "What the decoder attends to while it writes the word to the left", color="#b03a48", start=16)

# %%
top = int(np.argmax(shares[:, 1:].sum(axis=0)))
in_pairs = shares[:, 1:].sum(axis=1).mean()
first = attention[0, parts[top + 1] : parts[top + 2]]
Markdown(
    f"Over the whole answer, passage **{selected[top]}** got the most attention, "
    f"**{100 * shares[:, top + 1].mean():.0f}%**. It is "
    f"{'one of the needed passages' if selected[top] in gold else 'not one of the needed passages'}. "
    f"When the decoder wrote its first word, the token of that pair with the most attention was "
    f"“{[*q_words, *p_words[selected[top]]][int(np.argmax(first))]}”. "
    f"All kept pairs together got {100 * in_pairs:.0f}% of the attention, and the question's own copy got the rest."
)

# %% [markdown]
# To write a name, the decoder attends to places where a name of the right kind stands, and copies it. The state of each
# token already includes the question, its neighbours and the rest of its pair. So a dark cell may also stand *beside*
# the word that is written.
#
# **What attention does not mean.** It shows where the decoder looked, and not why it wrote what it wrote. Attention
# adds up weights times *values*, so a small weight may bring in what decides, and a large one may change no word. A
# weight belongs to a state and not to the word at its place. A mean over layers and heads hides heads that differ.
# Exercise 1 tests the effect itself: it takes passages away and asks again.
#
# ## The whole way, and what it cost
#
# Here is every array again, in the order of the run. After that the same question goes through `reader.ask`, which runs
# all stages in one call.

# %%
journey = (
    ("question, tokens", "data.inputs.question_tokens", "n_q", q.ids),
    ("passages, tokens", "data.inputs.passage_tokens", "N", p.ids),
    ("P, memory (in advance)", "lumen.encode_passages", "N d", P.states),
    ("Q", "lumen.encode_question", "n_q d", Q.states),
    ("H, k pairs", "lumen.join", "N+k*n_q d", H.states),
    ("A, after live-A", "glimmer.live_a", "N+k*n_q d", A.states),
    ("scores", "glimmer.score", "k", scores),
    ("selected", "glimmer.top_m", "m", selected),
    ("R, the best pairs", "glimmer.gather", "N' d", R.states),
    ("B, after live-B", "glimmer.live_b", "N' d", B.states),
    ("D, for the decoder", "lumen.decoder_memory", "n_q+N' d", D.states),
    ("answer", "decoding.greedy", "t", np.array(answer.ids)),
)
for name, function, letters, array in journey:
    print(f"{name:22} {function:29} {'[' + letters + ']':14} {list(array.shape)}")
whole = reader.ask(question.text, passages, "glimmer", k, m)
assert whole.ids == answer.ids and whole.selected == selected.tolist()
print(f"\nreader.ask: {whole.text!r}, keeps {whole.selected}, log p {whole.log_probability:.3f}")
print(
    f"stage by stage: {tokenizer.decode(answer.ids)!r}, keeps {selected.tolist()}, log p {answer.log_probability:.3f}"
)

# %%
# Picture: multiply-adds of this question in three systems as stacked bars: FiD needs the most, LUMEN fewer, GLIMMER the
# fewest.
STAGES = {
    "question": (("question",), "#c4c4c4", ""),
    "all k pairs": (("encoder", "live", "live_a", "score"), "#14375e", ""),
    "m best pairs": (("live_b",), "#7fa8cf", "//"),
    "decoder and its keys": (("cross", "decoder", "head"), "#e0a030", ""),
}
costs = reader.compare(whole)
figure, axes = plt.subplots(figsize=(9, 2.3))
for y, system in enumerate(("fid", "lumen", "glimmer")):
    at = 0.0
    for part, (names, color, hatch) in STAGES.items():
        wide = sum(costs[system].get(name, 0) for name in names) / 1e6
        axes.barh(y, wide, left=at, color=color, hatch=hatch, ec="white", lw=0.5, label=None if y else part)
        at += wide
    axes.text(at, y, f" {at:.1f}", va="center", fontsize=9)
axes.set_yticks(range(3), ["FiD", "LUMEN", "GLIMMER"])
axes.invert_yaxis()
axes.margins(x=0.1)
axes.grid(visible=False)
axes.set(xlabel="million multiply-adds for this question, without the memory, which is stored")
figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=4)
plt.show()

# %% [markdown]
# FiD, the oldest of the three, sends the text of every pair through the whole encoder. LUMEN starts from the memory and
# sends every pair through the live part. GLIMMER sends every pair through live-A, and only the best m pairs through
# live-B. The picture shows the "low cost" of the abstract's claim to "drastically improve retrieval quality at low
# cost".
#
# ## Exercises
#
# **Exercise 1.** Remove the needed passages, one at a time and then both, and ask again. Does the model say that it
# does not know? What happens to the log-probability of its answer?
#
# **Exercise 2.** Reverse the order of the passages. What happens to the scores, to the selection, to D, and to the
# answer? Which stage of the map is the reason?
#
# **Exercise 3.** How small may m be for this question? Run stages (6) to (8) for every m from 1 to k with the scores
# that you have, and print the log-probability of the right answer.

# %% [markdown]
# ## Solutions

# %% tags=["solution"]
# Solution 1. The model always answers: greedy decoding has no "I don't know". The log-probability, which is 0 at most,
# may be as high for a wrong answer as for a right one.
for missing in ([], gold[:1], gold[1:], gold):
    rest = [x for i, x in enumerate(passages) if i not in missing]
    got = reader.ask(question.text, rest, "glimmer", len(rest), m)
    print(f"without {missing!s:10} -> {got.text:28} log p {got.log_probability:7.3f}")

# %% tags=["solution"]
# Solution 2. Pairs do not interact before the decoder. So each keeps its score, the same ones are selected, and D holds
# them best first, as before. Stage (6) replaces the search engine's order.
reversed_ = reader.ask(question.text, passages[::-1], "glimmer", k, m)
print("same scores:", np.allclose(reversed_.scores[::-1], whole.scores, rtol=0, atol=1e-4))
print("same selection:", [k - 1 - i for i in reversed_.selected] == whole.selected, "- answer:", reversed_.text)

# %% tags=["solution"]
# Solution 3. Once both needed passages are kept, a larger m costs more and can only distract.
needed = 1 + max(int(np.flatnonzero(order == i)[0]) for i in gold)
for n in range(1, k + 1):
    best = glimmer.live_b(ops, model, glimmer.gather(ops, A, glimmer.top_m(scores, n)))
    seen = lumen.decoder_memory(ops, model, Q, best, np.array([n]))
    log_p = float(decoding.log_likelihood(ops, model, seen, Tokens.of([steps]))[0])
    print(f"m = {n:2}  log p {log_p:8.3f}  {'<- both needed passages are kept' if n == needed else ''}".rstrip())
