"""Pictures of an answer: the scores of the passages, and the decoder's attention to them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import shown
from ..pictures import picture
from .reader import Answer

KEPT, DROPPED = "#1f6f8b", "#c9c9c9"  # they differ in lightness too, so that greyscale keeps them apart


def _label(answer: Answer, row: int) -> str:
    passage = answer.passages[row]
    text = shown(passage.title or passage.text)
    return f"{text[:26]}{'..' if len(text) > 26 else ''}  ({shown(passage.id)})"


def plot_answer(answer: Answer, question: str, path: str) -> None:
    """Write a picture: bars of the scores, and a heat map of the answer tokens' attention.

    Raises:
        InputError: the same as `pictures.picture`.
    """
    said = f"{shown(answer.text)}   ({answer.system}, log p {answer.log_probability:.2f})"
    size = (13, max(3.2, 0.24 * len(answer.passages) + 1.8))
    with picture(path, 1, 2, size, dpi=110) as (figure, ((left, right),)):
        figure.suptitle(f"{shown(question)}\n{said}")
        _bars(left, answer)
        _attention(figure, right, answer)


def _bars(axes: Any, answer: Answer) -> None:
    """One bar for each passage, the best on top. Without scores, the bars are in the order of reading."""
    k = len(answer.passages)
    values = np.ones(k) if answer.scores is None else answer.scores
    order = np.argsort(-values, kind="stable")
    kept = set(answer.selected)
    axes.barh(range(k), values[order], color=[KEPT if i in kept else DROPPED for i in order])
    axes.set_yticks(range(k), [_label(answer, i) for i in order], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("score" if answer.scores is not None else f"{answer.system} ranks nothing: all passages are read")
    axes.set_title(f"{len(kept)} of {k} passages go to the decoder (dark)", fontsize=10)


def _attention(figure: Any, axes: Any, answer: Answer) -> None:
    """Rows: the question and each kept pair; columns: the decoder's steps."""
    assert answer.attention is not None
    image = axes.imshow(answer.attention.T, aspect="auto", cmap="Greys", vmin=0, vmax=1)
    axes.set_yticks(
        range(answer.attention.shape[1]), ["question", *(_label(answer, i) for i in answer.selected)], fontsize=8
    )
    steps = answer.attention.shape[0]
    axes.set_xticks(range(steps), [*map(shown, answer.tokens), "end"][:steps], rotation=45, ha="right", fontsize=8)
    axes.set_title("share of cross-attention while each token is written", fontsize=10)
    figure.colorbar(image, ax=axes, label="mean over layers and heads")
