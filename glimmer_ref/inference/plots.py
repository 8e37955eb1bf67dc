"""Pictures of an answer: the scores of the passages, and the decoder's attention to them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import cut, shown
from ..paper.distillation import distribution
from ..pictures import picture
from .answer import Answer

KEPT, DROPPED = "#1f6f8b", "#8c8c8c"
STAR = "★"  # marks a passage that holds the words of the answer


def plot_answer(answer: Answer, question: str, sentences: Mapping[int, str], path: str) -> None:
    """Write a picture: the scores as points, if there are any, and a heat map of the answer tokens' attention.

    Args:
        sentences: from `evidence`: passages that hold the words of the answer, which get a star, with the sentence.

    Raises:
        InputError: the same as `pictures.picture`.
    """
    said = f"{shown(answer.text)}   ({answer.system}, log p {answer.log_probability:.2f})"
    ranked = answer.scores is not None
    rows = len(answer.passages) if ranked else len(answer.selected)
    size = (13.0 if ranked else 8.0, max(3.2, 0.24 * rows + 2.4))
    with picture(path, 1, 1 + ranked, size, dpi=110) as (figure, (axes,)):
        figure.suptitle(f"{shown(question)}\n{said}")
        if ranked:
            _scores(axes[0], answer, sentences)
        _attention(figure, axes[-1], answer, sentences)
        figure.supxlabel(_caption(answer, sentences, 150 if ranked else 90), fontsize=9)


def _label(answer: Answer, row: int, sentences: Mapping[int, str]) -> str:
    passage = answer.passages[row]
    star = f"{STAR} " if row in sentences else ""
    return f"{star}{cut(shown(passage.title or passage.text), 28)}  ({cut(shown(passage.id), 20)})"


def _caption(answer: Answer, sentences: Mapping[int, str], width: int) -> str:
    """The first starred passage's sentence, and what the right picture does not say."""
    lines = ["Attention shows where the decoder looked while it wrote, not why it wrote this."]
    for row, sentence in list(sentences.items())[:1]:
        where = f"{STAR} holds the words of the answer; {shown(answer.passages[row].id)}: “{shown(sentence)}”"
        lines = [*textwrap.wrap(where, width, max_lines=3), *lines]
    return "\n".join(lines)


def _scores(axes: Any, answer: Answer, sentences: Mapping[int, str]) -> None:
    """One point for each passage, the best on top, with its share of p_rank beside it."""
    scores = answer.scores
    assert scores is not None
    order, k = np.argsort(-scores, kind="stable"), len(scores)
    kept, p_rank = set(answer.selected), distribution(scores.astype(np.float64), np.array([k]))
    for y, i in enumerate(order):
        color, fill = (KEPT, KEPT) if i in kept else (DROPPED, "white")  # filled and hollow: greyscale keeps them apart
        axes.plot(scores[i], y, "o", color=color, markerfacecolor=fill)
        told = f"{p_rank[i]:.3f}" if p_rank[i] >= 0.0005 else "<0.001"
        axes.text(1.01, y, told, va="center", fontsize=8, color=color, transform=axes.get_yaxis_transform())
    axes.text(1.01, -1, "p_rank", va="center", fontsize=8, transform=axes.get_yaxis_transform())
    axes.set_yticks(range(k), [_label(answer, i, sentences) for i in order], fontsize=8)
    axes.set_ylim(k - 0.4, -0.6)
    axes.grid(axis="y", color="#e6e6e6")
    axes.set_axisbelow(True)
    axes.set_xlabel("score; p_rank: its softmax over these passages")
    axes.set_title(f"{len(kept)} of {k} passages go to the decoder (filled)", fontsize=10)


def _attention(figure: Any, axes: Any, answer: Answer, sentences: Mapping[int, str]) -> None:
    """Rows: the question and each kept pair; columns: the decoder's steps."""
    assert answer.attention is not None
    image = axes.imshow(answer.attention.T, aspect="auto", cmap="Greys", vmin=0, vmax=1)
    names = ["question", *(_label(answer, i, sentences) for i in answer.selected)]
    axes.set_yticks(range(answer.attention.shape[1]), names, fontsize=8)
    steps = answer.attention.shape[0]
    axes.set_xticks(range(steps), [*map(shown, answer.tokens), "end"][:steps], rotation=45, ha="right", fontsize=8)
    ranks = "" if answer.scores is not None else f"{answer.system} ranks nothing: all passages are read\n"
    axes.set_title(f"{ranks}share of cross-attention while each token is written", fontsize=10)
    figure.colorbar(image, ax=axes, label="mean over layers and heads")
