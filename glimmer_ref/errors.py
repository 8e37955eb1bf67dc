"""The error that bad input raises."""

from __future__ import annotations

import re

# Characters that change what a terminal shows (control characters, line ends, changes of the writing direction), and
# halves of surrogate pairs, which cannot be encoded.
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

MAX_LENGTH = 300  # characters of "got"


def escaped(text: str) -> str:
    r"""Text that is safe to show on a terminal: escapes such as `\x1b` replace characters that are `UNSAFE`."""
    return UNSAFE.sub(lambda found: ascii(found[0])[1:-1], text)


def shown(text: str) -> str:
    """Text as one line for a terminal: single spaces, and the rest `escaped`.

    Names in files may hold line breaks or control sequences.
    """
    return escaped(" ".join(text.split()))


def cut(text: str, most: int) -> str:
    """At most `most` characters of a text; the last two are dots if some were left out."""
    return text if len(text) <= most else text[: most - 2] + ".."


def brief(value: object, most: int = 60) -> str:
    """A value as Python writes it, in at most `most` characters."""
    return cut(repr(value), most)


class InputError(ValueError):
    """Bad input, described in one line: what, what was expected, what was given, and what to do.

    At most `MAX_LENGTH` characters of what was given are shown.
    """

    def __init__(self, what: str, expected: str, got: str, do: str = "") -> None:
        self.parts = (what, expected, got, do)
        super().__init__(
            shown(f"{what}: expected {expected}; got {cut(shown(str(got)), MAX_LENGTH)}" + (f"; {do}" if do else ""))
        )

    def at(self, place: str = "", do: str = "") -> InputError:
        """The same error, with the place where it occurred before it, and with more advice after it."""
        what, expected, got, old = self.parts
        return InputError(": ".join(filter(None, (place, what))), expected, got, "; ".join(filter(None, (old, do))))
