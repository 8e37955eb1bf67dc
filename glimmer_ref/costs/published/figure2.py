"""Figure 2's samples per TFLOP to every printed digit, and how far other ways of counting are from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from ..flops import SYSTEMS, Number, Setting, online
from ..modes import TERA, figure2, full, printed, samples_per_tflop
from ..parse import of_size

PUBLISHED = {
    "fid": Fraction("0.09272427067"),
    "lumen": Fraction("0.1067540778"),
    "glimmer": Fraction("0.1278586731"),
}
DECIMALS = {"fid": 11, "lumen": 10, "glimmer": 10}
K = {"fid": 5, "lumen": 10, "glimmer": 25}
PAIR, STEPS = 384, 64
Row = dict[str, Fraction]


def setting(system: str, n_q: int = 48, pair: int = PAIR, n_t: int = STEPS) -> Setting:
    """Figure 2's setting: T5.1.1-XXL, alpha 1/3, beta 1/4; k = 5, 10, or 25 of which 5 are selected.

    384 tokens per pair and 64 decoder steps are inferred. They are FiD-Light's input and output lengths, and the only
    lengths that give the published values (`solved_lengths`). The text has 48 + 304 tokens.
    """
    return replace(of_size("xxl"), k=K[system], m=5, n_q=n_q, n_p=pair - n_q, n_t=n_t)


def samples() -> Row:
    """Samples per TFLOP of the three systems by true shapes, exact.

    Paper: Figure 2
    """
    return {system: samples_per_tflop(online(figure2(setting(system), system))) for system in SYSTEMS}


def solved_lengths() -> tuple[Fraction, Fraction]:
    """Tokens per pair and decoder steps, solved from the published values of FiD and LUMEN alone.

    Both costs are a * pair + b * steps, which gives two equations with two unknowns. GLIMMER's value then checks them.
    """
    (a, b, c), (d, e, f) = (
        (
            Fraction(online(figure2(setting(system, 0, 1, 0), system))),
            Fraction(online(figure2(setting(system, 0, 0, 1), system))),
            TERA / PUBLISHED[system],
        )
        for system in ("fid", "lumen")
    )
    return (c * e - b * f) / (a * e - b * d), (a * f - c * d) / (a * e - b * d)


def omitted(s: Setting, system: str) -> dict[str, Number]:
    """The terms that mode full counts and mode figure2 leaves out; mode full is mode figure2 plus these terms."""
    macs, counted = full(s, system), figure2(s, system)
    attention = [x for name, x in macs.items() if name.endswith(".attention") and name != "memory.attention"]
    return {
        "question's own encoding": macs.get("question", 0),
        "its cross keys and values": macs["cross"] - counted["cross"],
        "score": macs.get("score", 0),
        "attention's products": sum(attention),
        "logits": macs["head"],
    }


def breakdown() -> dict[str, Row]:
    """Multiply-adds by system for each way to count, and for each term that Figure 2 leaves out."""

    def row(count: Callable[[Setting, str], dict[str, Number]], n_q: int, pair: int) -> Row:
        return {system: Fraction(online(count(setting(system, n_q, pair), system))) for system in SYSTEMS}

    terms = {system: omitted(setting(system), system) for system in SYSTEMS}
    return {
        "Figure 2, published": {system: TERA / PUBLISHED[system] for system in SYSTEMS},
        "true shapes, 384 a pair": row(figure2, 48, PAIR),
        "true shapes, 48 + 304": row(figure2, 48, 352),
        "printed formulas, 384 a pair": row(printed, 48, PAIR),
        "printed formulas, 48 + 304": row(printed, 48, 352),
        "printed formulas, 304 a pair": row(printed, 0, 304),
        **{f"+ {name}": {s: Fraction(terms[s][name]) for s in SYSTEMS} for name in terms["fid"]},
        "mode full, 48 + 336": row(full, 48, PAIR),
        "mode full, 48 + 304": row(full, 48, 352),
    }
