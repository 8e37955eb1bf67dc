"""Parse and validate: a setting from a published size or a config folder, and its numbers from text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..config import whole_layers
from ..errors import InputError, brief
from .flops import SYSTEMS, Number, Setting, setting_of, shapes_of
from .models import config_of, model_named

PAPER: dict[str, Any] = {
    "alpha": Fraction(1, 3), "beta": Fraction(1, 4), "k": 25, "m": 5, "n_q": 48, "n_p": 304, "n_t": 64,
}  # fmt: skip
MOST = 10**12  # a larger number is a typing error
COUNTS = ("k", "m", "n_p", "n_q", "n_t")
PROPORTIONS = ("alpha", "beta")


def of_size(size: str, option: str = "size") -> Setting:
    """A published model, or T5.1.1 of a published size, with the paper's k, m, alpha, beta and lengths.

    In the paper a question has 48 tokens and a passage 304. The 64 decoder steps are inferred from its Figure 2.

    Raises:
        InputError: no such model.
    """
    return Setting(**shapes_of(*model_named(size, option)), **PAPER)


def of_folder(folder: str | Path) -> Setting:
    """The setting of a config folder: one of ours, or a T5's with the paper's k, m, alpha, beta and lengths.

    Raises:
        InputError: as `config_of`.
    """
    model, ours = config_of(folder)
    return Setting(**shapes_of(*model), **PAPER) if ours is None else setting_of(ours)


def count(name: str, value: object) -> int:
    """Check a whole number from 1 to 10^12, which may be given as text.

    Raises:
        InputError: anything else.
    """
    try:
        number = int(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= MOST:
        raise InputError(name, "a whole number from 1 to 10^12", brief(value, 40))
    return number


def fraction(text: object) -> Fraction | None:
    """An exact number from text like "1/3" or "0.25", or from a number; None if it is neither.

    Exponents are not allowed, because "1e999999999" would fill the memory.
    """
    if isinstance(text, str) and not re.fullmatch(r"\s*-?\d{0,18}(\.\d{1,18}|\d/\d{1,18}|\d)\s*", text):
        return None
    try:
        return Fraction(text)  # type: ignore[call-overload]
    except (ValueError, ZeroDivisionError, TypeError, OverflowError):
        return None


def proportion(name: str, value: object) -> Fraction:
    """Check an exact number in [0, 1], like "1/3" or "0.25".

    Raises:
        InputError: anything else.
    """
    share = fraction(value)
    if share is None or not 0 <= share <= 1:
        raise InputError(name, "a proportion between 0 and 1, like 1/3", brief(value, 40))
    return share


def number(name: str, value: object) -> Number:
    """Check a count or proportion of a setting, by its name."""
    return proportion(name, value) if name in PROPORTIONS else count(name, value)


def change(s: Setting, **values: object) -> Setting:
    """The setting with other values, each checked by itself; `size` changes T5's shapes."""
    more: dict[str, Any] = {}
    for name, value in values.items():
        if name == "size":
            more.update(shapes_of(*model_named(str(value))))
        else:
            more[name] = number(name, value)
    return replace(s, **more)


def checked(s: Setting, whole: bool = True, systems: Sequence[str] = SYSTEMS) -> Setting:
    """Check that a setting's numbers fit each other, and return it.

    Args:
        whole: alpha and beta must give whole layers (D12); the printed formulas do not need this.
        systems: only the numbers that these use are checked. FiD has no alpha, beta or m; LUMEN has no beta or m.

    Raises:
        InputError: m > k, no encoder layer, or layers that are not whole.
    """
    if s.L < 1:
        raise InputError("num_layers", "an encoder of at least 1 layer", str(s.L))
    if max(s.d, s.hc, s.f, s.v, s.L, s.decoder_layers) > MOST:
        raise InputError("config.json", f"sizes of at most {MOST}", "a larger one")
    if "glimmer" in systems and s.m > s.k:
        raise InputError("m", "a number of at most k", f"k={s.k}, m={s.m}", "lower m or raise k")
    if whole and set(systems) - {"fid"}:
        live = whole_layers("alpha", s.alpha, s.L)
        if live and "glimmer" in systems:
            whole_layers("beta", s.beta, live)
    return s
