"""The one error that a user's input can cause."""

import re

# What a terminal would obey (control characters, ends of lines, changes of the direction of writing) or could not
# encode (halves of surrogate pairs).
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

MAX_LENGTH = 300  # characters of what came


def escaped(text: str) -> str:
    r"""Text that a terminal shows and does not obey: escapes such as `\x1b` in place of what is `UNSAFE`."""
    return UNSAFE.sub(lambda found: ascii(found[0])[1:-1], text)


def shown(text: str) -> str:
    """Text as one line of a terminal: white space squeezed, and the rest `escaped`.

    Names in files of others may hold line breaks, or sequences that a terminal would obey.
    """
    return escaped(" ".join(text.split()))


def cut(text: str, most: int) -> str:
    """Text of at most so many characters, the last two of them dots where more were left out."""
    return text if len(text) <= most else text[: most - 2] + ".."


def brief(value: object, most: int = 60) -> str:
    """A value as Python writes it, in at most so many characters."""
    return cut(repr(value), most)


class InputError(ValueError):
    """Bad input, told in one line: what, what was expected, what came (at most `MOST` characters), what to do."""

    def __init__(self, what: str, expected: str, got: str, do: str = "") -> None:
        super().__init__(
            shown(f"{what}: {expected}; got {cut(shown(str(got)), MAX_LENGTH)}" + (f"; {do}" if do else ""))
        )
