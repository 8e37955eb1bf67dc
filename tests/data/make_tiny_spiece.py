"""Makes tiny_spiece.model, a small SentencePiece model with T5's settings, and what it makes of some texts."""

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
RULES = "tiny_rules.tsv"


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


if __name__ == "__main__":
    os.chdir(HERE)  # the model keeps the rules' path
    model = train(0, 200, normalization_rule_tsv=RULES)
    (HERE / "tiny_spiece.model").write_bytes(model)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    known = {text: processor.encode(text) for text in ["", " ", "  a  b ", "where was he born ?", *texts(1, 300)]}
    lines = [json.dumps([text, ids], separators=(",", ":")) for text, ids in known.items()]
    (HERE / "tiny_spiece.jsonl").write_text("\n".join(lines) + "\n")
