"""The one error that a user's input can cause."""


class Refused(ValueError):
    """Bad input, told in one line: what, what was expected, what came, what to do."""

    def __init__(self, what: str, expected: str, got: str, do: str = "") -> None:
        line = f"{what}: {expected}; got {got}" + (f"; {do}" if do else "")
        super().__init__(" ".join(line.split()))  # names from hostile files may hold line breaks
