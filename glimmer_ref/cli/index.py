"""glimmer-ref index: make a corpus searchable by GTR's embeddings or by words, and show the facts of an index."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..ops import BACKENDS
from ..terminal import say, say_json
from . import options, workers
from .output import print_facts


def add(commands: Any) -> None:
    """The command's options."""
    parser = options.add_action(commands, "index", "make passages searchable")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = options.add_action(
        actions, "build", "index passages by embeddings or by words; the same command resumes a stopped build"
    )
    build.add_argument("passages", metavar="PASSAGES.jsonl", help=options.PASSAGES_HELP)
    build.add_argument("folder", metavar="DIR", help="a new folder, or one whose build was stopped")
    how = build.add_mutually_exclusive_group(required=True)
    how.add_argument(
        "--gtr",
        metavar="DIR",
        help=f"index by embeddings: folder of a GTR model of sentence-transformers, {options.NAMED}",
    )
    how.add_argument("--bm25", action="store_true", help="index by words, with BM25")
    options.add_hub(build)
    build.add_argument(
        "--store",
        choices=("float32", "float16"),
        default="float32",
        help="number format of the stored embeddings (default float32)",
    )
    build.add_argument("--shard-passages", type=int, metavar="N", help="passages in each file (default 16384)")
    workers.add(build, "embed")
    build.add_argument("--ops", choices=BACKENDS, default="numba", help=options.BACKEND_HELP)
    build.add_argument("--json", action="store_true", help="print JSON")
    build.epilog = (
        "With --bm25, the bundled model's 2,000 passages take less than a second. With --gtr, each passage goes "
        "through the encoder of a T5, which takes far longer."
    )
    build.set_defaults(run=run_build)
    info = options.add_action(actions, "info", "show what an index holds")
    info.add_argument("folder", metavar="DIR", help="folder of an index")
    info.add_argument("--verify", action="store_true", help="also read every byte and compare the checksums")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(run=run_info)


def run_build(args: argparse.Namespace) -> None:
    """Build or resume, and print the facts of the index."""
    from ..retrieval import bm25_index, dense

    if args.bm25:
        if args.download or args.revision is not None:
            name = "--download" if args.download else "--revision"
            raise InputError(name, "none with --bm25, which reads no model", "one", "leave it out")
        if args.store != "float32":
            raise InputError("--store", "none with --bm25, which stores no embeddings", args.store, "leave it out")
        if args.shard_passages is not None:
            raise InputError("--shard-passages", "none with --bm25", str(args.shard_passages), "leave it out")
        if spread := workers.chosen(args):
            raise InputError(spread, "none with --bm25, which reads no model", "one", "leave it out")
        bm25_index.build(args.passages, args.folder)
    else:
        workers.chosen(args)
        retriever = options.load_gtr(args)
        with workers.opened(args, options.gtr_folder(args)) as some:
            dense.build(
                args.passages, args.folder, retriever, args.store, shard_passages=args.shard_passages, workers=some
            )
    _print(args)


def run_info(args: argparse.Namespace) -> None:
    """Print the facts of an index; --verify checks its files first."""
    from ..retrieval.index_files import verify

    if args.verify:
        verify(args.folder)
    _print(args)
    if args.verify and not args.json:
        say(f"{'checksums':20}all equal")


def _print(args: argparse.Namespace) -> None:
    from ..retrieval.index_files import read_facts, read_files

    size = sum(entry["bytes"] for entry in read_files(args.folder).values())
    info = {"folder": str(Path(args.folder)), **read_facts(args.folder), "bytes_on_disk": size}
    if args.json:
        say_json(info)
        return
    print_facts(info)
