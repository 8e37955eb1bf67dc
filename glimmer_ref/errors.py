"""The one error that a user's input can cause."""

import re

# What a terminal would obey (control characters, ends of lines, changes of the direction of writing) or could not
# encode (halves of surrogate pairs).
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escaped(text: str) -> str:
    r"""Text that a terminal shows and does not obey: escapes such as `\x1b` in place of what is `UNSAFE`."""
    return UNSAFE.sub(lambda found: ascii(found[0])[1:-1], text)


def shown(text: str) -> str:
    """Text as one line of a terminal: white space squeezed, and the rest `escaped`.

    Names in files of others may hold line breaks, or sequences that a terminal would obey.
    """
    return escaped(" ".join(text.split()))


class Refused(ValueError):
    """Bad input, told in one line: what, what was expected, what came, what to do."""

    def __init__(self, what: str, expected: str, got: str, do: str = "") -> None:
        super().__init__(shown(f"{what}: {expected}; got {got}" + (f"; {do}" if do else "")))
