"""A very small world to train on: people with a job and a town, and a tokenizer made for their words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

GIVEN = [f"Ada{i}" for i in range(12)]
JOBS = [f"job{i}" for i in range(8)]
TOWNS = [f"Town{i}" for i in range(8)]
WORDS = [*"who does what where is of work lives in : . ?".split(), *GIVEN, *JOBS, *TOWNS]  # noqa: SIM905
GROUPS = {"names": GIVEN, "jobs": JOBS, "towns": TOWNS}
SPECIAL = ["<pad>", "</s>", "<unk>"]

RECIPE = """
seed = 3

[model]
alpha = "2/3"
beta = "1/2"

[model.t5]
d_model = 16
d_kv = 4
d_ff = 24
num_heads = 2
num_layers = 3
num_decoder_layers = 1

[model.glimmer]
k = 6
m = 2
score_norm = true
passage_eos = false
answer_tokens = 4
question_prefixes = []
passage_format = "{title} : {text}"

[data]
root = "ROOT"
tokenizer = "tokenizer.json"
groups = "groups.json"

[every_stage]
rename = true
rate = 1e-2

[[stages]]
name = "gold"
steps = 2
batch = 4
k = 1
m = 1
lambda = 0.0
force_gold = 1.0

[[stages]]
name = "rank"
steps = 4
batch = 4
k = 5
m = 2
dropout = 0.1
force_gold = 0.5
negatives = { hard = 0.5, candidates = 0.25, random = 0.25 }

[evaluation]
every = 4
questions = 8
save = 1
"""


def lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in records), "utf-8")


def tokenizer_json() -> str:
    vocab = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    added = [
        {"id": i, "content": word, "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for i, word in enumerate(SPECIAL)
    ]
    model = {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"}
    empty = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder"))
    return json.dumps(
        {"version": "1.0", **empty, "added_tokens": added, "pre_tokenizer": {"type": "WhitespaceSplit"}, "model": model}
    )


def folder(place: Path, shift: int) -> None:
    """Write twelve people, each with a passage about the job and one about the town, and a question about each."""
    passages, questions = [], []
    for i, name in enumerate(GIVEN):
        job, town = JOBS[(i + shift) % 8], TOWNS[(3 * i + shift) % 8]
        passages.append({"id": f"p{2 * i}", "title": name, "text": f"work of {name} is {job} ."})
        passages.append({"id": f"p{2 * i + 1}", "title": name, "text": f"{name} lives in {town} ."})
        for j, (task, text, answer) in enumerate(
            [("job", f"what does {name} work ?", job), ("town", f"where lives {name} ?", town)]
        ):
            gold = 2 * i + j
            same = [f"p{(gold + 2 * n) % 24}" for n in (1, 2, 3)]
            near = [f"p{(gold + n) % 24}" for n in (0, 1, 5, 7, 9)]
            questions.append(
                {"id": f"{task}{i}", "task": task, "input": text, "output": [{"answer": answer}], "gold": [f"p{gold}"],
                 "candidates": near, "hard_negatives": same}
            )  # fmt: skip
    lines(place / "passages.jsonl", passages)
    lines(place / "questions.jsonl", questions)


def write_world(root: Path) -> str:
    """Write two folders of training data and one for the evaluation; return a recipe for them."""
    for name, shift in (("train-0", 0), ("train-1", 3), ("dev", 5)):
        folder(root / name, shift)
    (root / "tokenizer.json").write_text(tokenizer_json(), "utf-8")
    ids = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    groups = {name: [ids[word] for word in words] for name, words in GROUPS.items()}
    (root / "groups.json").write_text(json.dumps({"groups": groups}), "utf-8")
    return RECIPE.replace("ROOT", str(root))
