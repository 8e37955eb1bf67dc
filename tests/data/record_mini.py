"""Records what the second GLIMMER of tests/test_golden_witness.py answers: run it where the witness extra is at hand.

Writes mini.predictions.jsonl.gz beside itself: of every second question of the bundled model's world, with its 25
candidates and m=5, the answer's ids, the selected passages and all scores, computed in float64. Ids of words are ours.
"""

from __future__ import annotations

import gzip
import json
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from test_golden_witness import Glimmer, exact_norm
from transformers.models.t5.modeling_t5 import T5LayerNorm

import glimmer_ref
from glimmer_ref.params.tree import leaves
from glimmer_ref.progress import progress
from glimmer_ref.reader import bundled
from glimmer_ref.text.inputs import passage_tokens, question_tokens, read_passages, read_questions

STEP, K = 2, 25


class Kept(Glimmer):
    """Each stack is built once, not for every question."""

    stack = lru_cache(maxsize=None)(Glimmer.stack)


@torch.no_grad()
def main() -> None:
    T5LayerNorm.forward = exact_norm
    reader = glimmer_ref.load(ops="numpy")
    config = reader.config
    model = Kept(json.loads((bundled() / "config.json").read_text()), dict(leaves(reader.model)))
    passages = list(read_passages(bundled() / "passages.jsonl"))
    places = {p.id: i for i, p in enumerate(passages)}
    embedding = model.w["embedding"]
    tokens = passage_tokens(config, reader.tokenizer, passages)
    embedded = [embedding[torch.tensor(ids)] for ids in split(tokens)]
    lines = []
    questions = list(read_questions(bundled() / "questions.jsonl"))[::STEP]
    for question in progress(questions, len(questions), "record"):
        (ids,) = split(question_tokens(config, reader.tokenizer, [question.text]))
        candidates = question.candidates[:K]
        out: dict[str, Any] = {}
        read = [embedded[places[c]] for c in candidates]
        answer = model.answer(model.read("glimmer", embedding[torch.tensor(ids)], read, out))
        lines.append(
            {
                "id": question.id,
                "prediction_ids": answer,
                "selected": [candidates[i] for i in out["selected"].tolist()],
                "scores": [round(s, 7) for s in out["scores"].tolist()],
            }
        )
    path = Path(__file__).with_name("mini.predictions.jsonl.gz")
    with gzip.GzipFile(path, "wb", mtime=0) as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines).encode())


def split(tokens: Any) -> list[list[int]]:
    ends = tokens.lengths.cumsum()
    return [tokens.ids[end - n : end].tolist() for n, end in zip(tokens.lengths, ends, strict=True)]


main()
