"""The one error that a user's input can cause."""


def shown(text: str) -> str:
    r"""Text as one line of a terminal: white space squeezed, and what is not printable escaped, as `\x1b`.

    Names in files of others may hold line breaks, or sequences that a terminal would obey.
    """
    line = " ".join(text.split())
    return line if line.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


class Refused(ValueError):
    """Bad input, told in one line: what, what was expected, what came, what to do."""

    def __init__(self, what: str, expected: str, got: str, do: str = "") -> None:
        super().__init__(shown(f"{what}: {expected}; got {got}" + (f"; {do}" if do else "")))
