"""Makes small SentencePiece models with T5's settings, and what they make of some texts.

tiny_spiece.model has a few rules of its own. tiny_marks.model has the entries of T5's rules among `MARKS`.
"""

from __future__ import annotations

import io
import json
import os
import random
from pathlib import Path

import sentencepiece

HERE = Path(__file__).parent
WORDS = (HERE / "tiny_words.txt").read_text(encoding="utf-8").split()
SIGNS = list("  \t\n\u00a0\u200béüß—“½ﬁ\uff11東Пи☃😀▁")
ALPHABET = [chr(c) for c in range(32, 127) if chr(c) not in "<>"] + SIGNS + WORDS
# A small character map, from and to as code points, since the 240 KB of T5's are too many for a fixture.
RULES, MARK_RULES = "tiny_rules.tsv", "tiny_marks.tsv"
LETTERS = "aeuäéüǘạ½²ªﬁ\uff41\uff5e\u00b4¨ŀ\u00a0\u304b\uff76\u30ab"
STACKED = "\u0300\u0301\u0308\u0323\u0327\u3099\uff9e\u1100\u1161\u11a8\uac00"
MARKS = LETTERS + STACKED


def train(seed: int, vocab_size: int, **settings: object) -> bytes:
    """A model of T5's kind over random sentences."""
    rng = random.Random(seed)
    sentences = [" ".join(rng.choice(WORDS) for _ in range(rng.randrange(3, 15))) for _ in range(1500)]
    out = io.BytesIO()
    t5 = {"model_type": "unigram", "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "hard_vocab_limit": False}
    trainer = sentencepiece.SentencePieceTrainer.train
    trainer(sentence_iterator=iter(sentences), model_writer=out, vocab_size=vocab_size, minloglevel=2, **t5 | settings)
    return out.getvalue()


def texts(seed: int, count: int) -> list[str]:
    """Random strings of words, signs, blanks and characters that no model knows."""
    rng = random.Random(seed)
    return ["".join(rng.choice(ALPHABET) for _ in range(rng.randrange(15))) for _ in range(count)]


def stacked(seed: int, count: int, letters: str = LETTERS, marks: str = STACKED) -> list[str]:
    """Random strings in which a letter, or a space, often bears several marks."""
    rng = random.Random(seed)
    ways = (
        lambda: rng.choice(marks),
        lambda: rng.choice(marks),
        lambda: rng.choice(letters),
        lambda: rng.choice("ab "),
    )
    return ["".join(rng.choice(ways)() for _ in range(rng.randrange(1, 10))) for _ in range(count)]


def record(name: str, model: bytes, some: list[str]) -> None:
    """Write a model, and the ids that SentencePiece gives for some texts."""
    (HERE / f"{name}.model").write_bytes(model)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    known = {text: processor.encode(text) for text in some}
    lines = [json.dumps([text, ids], separators=(",", ":")) for text, ids in known.items()]
    (HERE / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    os.chdir(HERE)  # the model keeps the rules' path
    first = ["", " ", "  a  b ", "where was he born ?"]
    record("tiny_spiece", train(0, 200, normalization_rule_tsv=RULES), [*first, *texts(1, 300)])
    marks = train(0, 240, normalization_rule_tsv=MARK_RULES, required_chars=MARKS)
    record("tiny_marks", marks, stacked(2, 400))
