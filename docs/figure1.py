"""Draw docs/figure1.svg: one question through Figure 1 of the paper, with the bundled model's own numbers.

    python docs/figure1.py

It answers the question in float64 with the reference backend, so the file is the same on every machine.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from textwrap import shorten

import glimmer_ref
from glimmer_ref.data.inputs import Passage, read_passages

QUESTION = "Which person hoards bells and also calls Foxton home?"
OUT = Path(__file__).with_name("figure1.svg")
WIDTH, HEIGHT = 900, 650
KEPT, DROPPED, LINE, INK, SOFT = "#1f6f8b", "#c4c4c4", "#7a8794", "#1b2733", "#566370"
TIMES, MINUS = "\N{MULTIPLICATION SIGN}", "\N{MINUS SIGN}"
STORED, LIVE = "#eef2f5", "#dcedf3"  # fills: computed once and stored; computed for each question


def text(
    x: float, y: float, words: str, size: int = 13, color: str = INK, anchor: str = "start", more: str = ""
) -> str:
    """One line of text; `more` is for further attributes, such as a weight."""
    place = f'x="{x:g}" y="{y:g}" font-size="{size}" fill="{color}" text-anchor="{anchor}"'
    return f"<text {place}{more}>{escape(words)}</text>"


def box(x: float, y: float, width: float, height: float, lines: list[str], fill: str = "#ffffff") -> str:
    """A rounded box with a bold first line and plain lines below it, centred."""
    parts = [f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" fill="{fill}" stroke="{LINE}"/>']
    top = y + height / 2 - 8.5 * len(lines) + 13
    for i, line in enumerate(lines):
        weight = ' font-weight="bold"' if i == 0 else ""
        parts.append(text(x + width / 2, top + 17 * i, line, 13 if i == 0 else 12, INK, "middle", weight))
    return "\n".join(parts)


def arrow(*points: tuple[float, float]) -> str:
    """A line through the points with a head at the last; its last piece is horizontal or vertical."""
    (x0, y0), (x, y) = points[-2:]
    dx, dy = (x > x0) - (x < x0), (y > y0) - (y < y0)
    way = " ".join(f"{a:g},{b:g}" for a, b in [*points[:-1], (x - 6 * dx, y - 6 * dy)])
    left, right = (x - 9 * dx - 5 * dy, y - 9 * dy - 5 * dx), (x - 9 * dx + 5 * dy, y - 9 * dy + 5 * dx)
    head = " ".join(f"{a:g},{b:g}" for a, b in [(x, y), left, right])
    line = f'<polyline points="{way}" fill="none" stroke="{LINE}" stroke-width="1.5"/>'
    return f'{line}\n<polygon points="{head}" fill="{LINE}"/>'


def encoders(answer: glimmer_ref.Answer, reader: glimmer_ref.Reader, total: int) -> list[str]:
    """The upper part: question and passages through the memory encoder, and the pairs into live-A."""
    config, k, n = reader.config, len(answer.passages), answer.passage_tokens
    width = config.t5.d_model
    memory = layers(config.num_memory_layers)
    return [
        box(24, 62, 222, 62, ["Question Q", *halves(QUESTION)]),
        arrow((246, 93), (282, 93)),
        box(282, 62, 136, 62, ["Memory encoder", memory], LIVE),
        arrow((418, 93), (454, 93)),
        box(454, 62, 150, 62, ["MemEnc(Q)", f"{answer.question_tokens} tokens {TIMES} {width}"], LIVE),
        box(30, 150, 222, 62, []),
        box(24, 144, 222, 62, [f"k = {k} retrieved passages Pᵢ", f"of {total:,} in its world"]),
        arrow((252, 178), (282, 178)),
        box(282, 147, 136, 62, ["Memory encoder", memory], STORED),
        arrow((418, 178), (454, 178)),
        box(454, 147, 150, 62, ["MemEnc(Pᵢ), stored", f"{min(n)} to {max(n)} tokens {TIMES} {width}"], STORED),
        arrow((604, 93), (622, 93), (622, 126), (640, 126)),
        arrow((604, 178), (622, 178), (622, 145), (640, 145)),
        box(640, 104, 118, 62, [f"{k} pairs Hᵢ", "[MemEnc(Q);", "MemEnc(Pᵢ)]"], LIVE),
        arrow((758, 135), (784, 135)),
        box(784, 104, 92, 62, ["Live-A", layers(config.num_rerank_layers)], LIVE),
        arrow((830, 166), (830, 236)),
    ]


def halves(words: str) -> list[str]:
    """A sentence over two lines of about the same length."""
    middle = words.rfind(" ", 0, len(words) // 2 + 4)
    return [words[:middle], words[middle + 1 :]]


def scores(answer: glimmer_ref.Answer) -> list[str]:
    """The middle part: a bar for each passage in the order of retrieval, those that are kept in colour."""
    values = answer.scores
    assert values is not None
    left, zero, step, unit = 48, 345, 33, 9
    parts = [
        text(
            24,
            258,
            "Score(H\N{PRIME}ᵢ) of each passage, in the order in which it was retrieved",
            more=' font-weight="bold"',
        ),
        f'<line x1="{left - 24}" y1="{zero}" x2="{left + step * len(values)}" y2="{zero}" stroke="{LINE}"/>',
    ]
    for i, value in enumerate(values):
        kept = i in answer.selected
        height = round(abs(float(value)) * unit)
        x, y = left + step * i, zero - height if value > 0 else zero
        parts.append(f'<rect x="{x}" y="{y}" width="21" height="{height}" fill="{KEPT if kept else DROPPED}"/>')
        number, weight = signed(value, 1), ' font-weight="bold"' if kept else ""
        below = y + height + 14 if value < 0 else y - 5
        parts.append(text(x + 10.5, below, number, 11, INK if kept else SOFT, "middle", weight))
        place = zero - 5 if value < 0 else zero + 14
        parts.append(text(x + 10.5, place, str(i + 1), 10, INK if kept else SOFT, "middle", weight))
    return parts


def reading(answer: glimmer_ref.Answer, reader: glimmer_ref.Reader) -> list[str]:
    """The lower part: the m best passages, live-B, the decoder and the answer."""
    config, m = reader.config, len(answer.selected)
    assert answer.scores is not None
    top = 488
    parts = [
        f'<rect x="24" y="{top}" width="440" height="138" rx="6" fill="{LIVE}" stroke="{LINE}"/>',
        text(38, top + 22, f"The m = {m} best pairs go on (as live-A left them)", more=' font-weight="bold"'),
    ]
    for j, i in enumerate(answer.selected):
        passage, y = answer.passages[i], top + 44 + 20 * j
        parts.append(text(54, y, str(i + 1), 12, SOFT, "end"))
        parts.append(text(64, y, signed(answer.scores[i], 2), 12, SOFT))
        parts.append(text(100, y, passage.title, 12, KEPT, more=' font-weight="bold"'))
        parts.append(text(242, y, shorten(evidence(passage), 36, placeholder=" ..."), 12))
    decoder = ["Decoder", layers(config.t5.num_decoder_layers), "reads MemEnc(Q)", f"and {m} pairs"]
    answered = ["Answer", answer.text, f"log p = {signed(answer.log_probability, 2)}"]
    return [
        arrow((244, 456), (244, 488)),
        *parts,
        arrow((464, 555), (490, 555)),
        box(490, 524, 76, 62, ["Live-B", layers(config.num_live_layers - config.num_rerank_layers)], LIVE),
        arrow((566, 555), (592, 555)),
        box(592, 513, 104, 84, decoder, LIVE),
        arrow((696, 555), (722, 555)),
        box(722, 524, 154, 62, answered),
    ]


def signed(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", MINUS)


def layers(count: int) -> str:
    return f"{count} layer{'s' * (count > 1)}"


def evidence(passage: Passage) -> str:
    """The sentence of a passage that shares most capitalized words with the question."""
    names = {word.strip("?") for word in QUESTION.split() if word[0].isupper()}
    sentences = [f"{words.rstrip('.')}." for words in passage.text.split(". ")]
    return max(sentences, key=lambda words: len(names & set(words.rstrip(".").split())))


def draw() -> str:
    """The picture as SVG; its white ground is legible on a light and on a dark page."""
    reader = glimmer_ref.load(ops="numpy", dtype="float64")
    assert reader.folder is not None
    passages = list(read_passages(reader.folder / "passages.jsonl"))
    answer = reader.ask(QUESTION, passages)
    said = (
        f"The question '{QUESTION}' and {len(answer.passages)} retrieved passages go through the memory encoder. "
        f"Live-A reads each pair and scores it. The {len(answer.selected)} best go on to live-B and the decoder, "
        f"which answers '{answer.text}'."
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'role="img" font-family="Helvetica, Arial, Liberation Sans, sans-serif">',
        "<title>One question through GLIMMER</title>",
        f"<desc>{escape(said)}</desc>",
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="10" fill="#ffffff" stroke="#d4d9de"/>',
        text(24, 34, "One question through GLIMMER", 17, more=' font-weight="bold"'),
        text(300, 34, "The bundled model's numbers; its world is fictional.", 13, SOFT),
        f'<rect x="640" y="22" width="14" height="14" rx="3" fill="{STORED}" stroke="{LINE}"/>',
        text(660, 34, "stored once", 12, SOFT),
        f'<rect x="742" y="22" width="14" height="14" rx="3" fill="{LIVE}" stroke="{LINE}"/>',
        text(762, 34, "for each question", 12, SOFT),
        *encoders(answer, reader, len(passages)),
        *scores(answer),
        *reading(answer, reader),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    OUT.write_text(draw(), encoding="utf-8", newline="\n")
