"""glimmer-ref memory: pre-compute MemEnc of a corpus, and look at what was stored."""

from __future__ import annotations

import argparse
from typing import Any

from . import options


def add(commands: Any) -> None:
    """The command's options."""
    parser = commands.add_parser("memory", help="pre-compute the memory of a corpus")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = actions.add_parser("build", help="encode passages into a folder; run again to resume")
    build.add_argument("passages", metavar="PASSAGES.jsonl", help='one {"id", "title", "text"} a line')
    build.add_argument("folder", metavar="DIR", help="a new folder, or one whose build was interrupted")
    build.add_argument(
        "--store",
        choices=("float32", "float16", "bfloat16", "int8"),
        default="float32",
        help="stored as; int8 has one scale a token, and is off by at most half of it",
    )
    build.add_argument("--shard-passages", type=int, default=512, help="passages a file (default 512)")
    options.add_model(build)
    build.set_defaults(run=run_build)
    info = actions.add_parser("info", help="what a memory holds")
    info.add_argument("folder", metavar="DIR")
    info.add_argument("--verify", action="store_true", help="read all of it and compare the checksums")
    info.add_argument("--json", action="store_true")
    info.set_defaults(run=run_info)


def run_build(args: argparse.Namespace) -> None:
    """Build or resume, and say what is there now."""
    from ..retrieval.memory_build import build

    reader = options.load_reader(args)
    with reader.limited():
        memory, encoded = build(
            reader.ops, reader.model, reader.tokenizer, args.passages, args.folder, args.store, args.shard_passages
        )
    print(f"{encoded} passages encoded now, {len(memory) - encoded} were there before")
    print_info(memory.info())


def run_info(args: argparse.Namespace) -> None:
    """Print what the manifest says, checked against the files if asked."""
    from ..retrieval.memory import Memory

    memory = Memory.open(args.folder)
    if args.verify:
        memory.verify()
    if args.json:
        options.print_json(memory.info())
    else:
        print_info(memory.info())
        if args.verify:
            print(f"{'checksums':20}all equal")


def print_info(info: dict[str, Any]) -> None:
    """A readable table of `Memory.info`."""
    for name, value in info.items():
        print(f"{name.replace('_', ' '):20}{f'{value:,}' if isinstance(value, int) else value}")
