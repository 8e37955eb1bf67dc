"""glimmer-ref: the command line. Each command has a file of its own here."""

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
    """argparse's own, whose errors are one line without the usage, and repeat what was typed escaped."""

    def error(self, message: str) -> NoReturn:
        terminal.note(f"{self.prog}: error: {shown(message)}; {self.prog} --help shows what there is")
        raise SystemExit(2)


def parser(first: str | None = None) -> argparse.ArgumentParser:
    """The commands with their options; only that of the first word, if it is one, to start faster."""
    top = Parser(
        prog="glimmer-ref", description="GLIMMER, LUMEN and FiD: ask, evaluate, trace, and count what it costs."
    )
    top.add_argument("--version", action="version", version=f"glimmer-ref {__version__}")
    commands = top.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for name in (first,) if first in COMMANDS else COMMANDS:
        import_module(f".{name}", __name__).add(commands)
    return top


def _refuse_empty(args: argparse.Namespace) -> None:
    """No option means anything where it is empty; a shell's variable that is not set makes one so."""
    for name, value in vars(args).items():
        if value == "" or (isinstance(value, list) and "" in value):
            raise InputError(name.replace("_", "-"), "a value", "an empty one", "is a shell variable not set?")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it did its work, 2 with one line on stderr if its input is bad."""
    gc.set_threshold(100_000)  # imports make many objects that stay: collecting among them took a tenth of start-up
    terminal.open_closed()
    try:
        words = sys.argv[1:] if argv is None else argv
        args = parser(words[0] if words else None).parse_args(words)
        _refuse_empty(args)
        return int(args.run(args) or 0)
    except InputError as error:
        message = str(error)
    except BrokenPipeError:  # whoever read our output has seen enough
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
