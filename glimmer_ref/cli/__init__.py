"""glimmer-ref: the command line. Each command is a file of this folder."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from .. import __version__, terminal
from ..errors import InputError, shown

COMMANDS = (
    "ask", "evaluate", "chunks", "index", "retrieve", "memory", "convert", "trace", "flops", "golden", "bench", "world",
    "train",
)  # fmt: skip


class Parser(argparse.ArgumentParser):
    """argparse's parser with errors in one line, without the usage; the user's words are escaped in it."""

    def error(self, message: str) -> NoReturn:
        terminal.note(f"{self.prog}: error: {shown(message)}; {self.prog} --help shows what there is")
        raise SystemExit(2)


def parser(first: str | None = None) -> argparse.ArgumentParser:
    """The commands with their options. If the first word is a command, only that one is loaded, to start faster."""
    top = Parser(
        prog="glimmer-ref", description="Ask GLIMMER, LUMEN and FiD, evaluate and train them, and count what they cost."
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
            raise InputError(name.replace("_", "-"), "a value", "an empty one", "is a shell variable not set?")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. The exit code is 0 if it succeeds, and 2 with one line on stderr if its input is bad."""
    gc.set_threshold(
        100_000
    )  # imports make many lasting objects; garbage collection among them took a tenth of the start-up time
    terminal.open_closed()
    try:
        words = sys.argv[1:] if argv is None else argv
        args = parser(words[0] if words else None).parse_args(words)
        _refuse_empty(args)
        return int(args.run(args) or 0)
    except InputError as error:
        message = str(error)
    except BrokenPipeError:  # the program that reads the output, such as `head`, has ended
        terminal.lead_nowhere()
        return 1
    except OSError as error:
        message = f"{error.filename or 'file'}: {error.strerror or error}"
    except MemoryError as error:
        message = f"memory: not enough for this; {error}; fewer passages or a smaller batch may fit"
    except KeyboardInterrupt:
        terminal.note("glimmer-ref: interrupted")
        return 130
    terminal.note(f"glimmer-ref: error: {shown(message)}")
    return 2
