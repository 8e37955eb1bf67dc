# PYTHON_ARGCOMPLETE_OK
"""glimmer-ref: the command line. Each command is a file of this folder."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NoReturn

from .. import __version__, terminal
from ..errors import InputError, brief, shown

COMMANDS = (
    "ask", "explore", "evaluate", "chunks", "index", "retrieve", "memory", "convert", "trace", "flops", "golden",
    "bench", "world", "train",
)  # fmt: skip


def _nearest(word: str, known: Sequence[str]) -> str:
    """The end of a message about an unknown word: the known one that is most similar, if any is."""
    similar = get_close_matches(word, known, 1, cutoff=0.7)
    return f"; did you mean {similar[0]}?" if similar else ""


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number; got {brief(text)}") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number; got {brief(text)}") from None


class Parser(argparse.ArgumentParser):
    """argparse's parser, whose errors show the usage of the command that was meant; the user's words are escaped."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.register("type", int, _whole)
        self.register("type", float, _number)

    def parse_known_args(self, *args: Any, **more: Any) -> Any:
        """As argparse, but each command refuses the words that it does not know, so that the error names its help."""
        known, rest = super().parse_known_args(*args, **more)
        if rest:
            names = [name for action in self._actions for name in action.option_strings]
            self.error(f"unknown: {' '.join(rest)}{_nearest(rest[0].partition('=')[0], names)}")
        return known, rest

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As argparse, with the nearest choice."""
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            message = f"expected one of {', '.join(choices)}; got {brief(value)}{_nearest(str(value), choices)}"
            raise argparse.ArgumentError(action, message)

    def error(self, message: str) -> NoReturn:
        """Show the usage, then the error in one line, and end with exit code 2."""
        for line in self.format_usage().splitlines():
            terminal.note(line)
        terminal.note(f"{self.prog}: error: {shown(message)}; {self.prog} --help lists all options")
        raise SystemExit(2)


def parser(first: str | None = None) -> argparse.ArgumentParser:
    """The commands with their options. If the first word is a command, only that one is loaded, to start faster."""
    top = Parser(
        prog="glimmer-ref",
        description="Ask GLIMMER, LUMEN and FiD questions, evaluate and train them, and count what they cost.",
    )
    top.add_argument("--version", action="version", version=f"glimmer-ref {__version__}")
    commands = top.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for name in (first,) if first in COMMANDS else COMMANDS:
        import_module(f".{name}", __name__).add(commands)
    return top


def _refuse_empty(args: argparse.Namespace) -> None:
    """Refuse options that are empty, which happens if a shell variable is not set."""
    for name, value in vars(args).items():
        if value == "" or (isinstance(value, list) and "" in value):
            raise InputError(name.replace("_", "-"), "a value", "an empty one", "perhaps a shell variable is not set")


def _complete() -> NoReturn:
    """Tell a shell how a command may go on, and end; the package argcomplete reads what the shell asks."""
    with suppress(ImportError):
        from argcomplete import autocomplete

        autocomplete(parser())
    raise SystemExit(1)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. The exit code is 0 if it succeeds, and 2 with one line on stderr if its input is bad."""
    gc.set_threshold(
        100_000
    )  # imports make many lasting objects; garbage collection among them took a tenth of the start-up time
    terminal.open_closed()
    if "_ARGCOMPLETE" in os.environ:
        _complete()
    try:
        words = sys.argv[1:] if argv is None else argv
        args = parser(words[0] if words else None).parse_args(words)
        _refuse_empty(args)
        return int(args.run(args) or 0)
    except InputError as error:
        message = str(error)
    except BrokenPipeError:  # the program that reads the output, such as `head`, has ended
        terminal.redirect_to_devnull()
        return 1
    except OSError as error:
        message = f"{error.filename or 'file'}: {error.strerror or error}"
    except MemoryError as error:
        message = f"there is not enough memory for this; {error}; use fewer passages or a smaller batch"
    except KeyboardInterrupt:
        terminal.note("glimmer-ref: interrupted")
        return 130
    terminal.note(f"glimmer-ref: error: {shown(message)}")
    return 2
