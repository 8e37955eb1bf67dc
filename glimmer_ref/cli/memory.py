"""glimmer-ref memory: compute and store MemEnc of a corpus, plan it, and show the facts of a memory."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from ..config import SIZES
from ..errors import InputError
from ..progress import progress
from ..terminal import note, say, say_json
from . import options, workers
from .output import binary, print_facts

MOST = 10**12  # a larger number is a typing error
STORED = ("float32", "float16", "bfloat16", "int8")


def add(commands: Any) -> None:
    """The command's options."""
    parser = options.add_action(commands, "memory", "compute and store the memory of passages")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = options.add_action(
        actions, "build", "encode passages and store the result; the same command resumes a stopped build"
    )
    build.add_argument("passages", metavar="PASSAGES.jsonl", help=options.PASSAGES_HELP)
    build.add_argument("folder", metavar="DIR", help="a new folder, or one whose build was stopped")
    build.add_argument(
        "--store",
        choices=STORED,
        default="float32",
        help="number format of the stored memory (default float32); int8 stores a scale for each token, and an "
        "error is at most half of the scale",
    )
    build.add_argument(
        "--shard-passages", type=int, metavar="N", default=512, help="passages in each file (default 512)"
    )
    workers.add(build, "encode")
    options.add_model(build)
    build.epilog = (
        "The bundled model encodes its 2,000 passages in about two seconds on two idle cores. glimmer-ref memory plan "
        "says how long other passages and models take."
    )
    build.set_defaults(run=run_build)
    plan = options.add_action(actions, "plan", "estimate the bytes, shards, multiply-adds and hours of a build")
    plan.add_argument(
        "passages",
        metavar="PASSAGES.jsonl",
        nargs="?",
        help=f"{options.PASSAGES_HELP}; with --passages, a sample of them",
    )
    plan.add_argument("--passages", dest="count", type=int, metavar="N", help="number of passages, such as 21000000")
    plan.add_argument(
        "--tokens",
        type=int,
        metavar="N",
        help="without PASSAGES.jsonl: tokens of each passage (default: the most that the model reads)",
    )
    plan.add_argument(
        "--size", choices=tuple(SIZES), help="with --passages: size of a T5.1.1, instead of a model's folder"
    )
    plan.add_argument("--alpha", help="with --size: live proportion of the encoder's layers (default 1/3)")
    plan.add_argument(
        "--rate",
        type=float,
        metavar="X",
        help="tokens a second that each worker encodes (default: measured, if there are passages)",
    )
    plan.add_argument("--workers", type=int, default=1, metavar="N", help="number of processes that encode (default 1)")
    plan.add_argument(
        "--store", choices=STORED, default="float32", help="number format of the stored memory (default float32)"
    )
    plan.add_argument(
        "--shard-passages", type=int, metavar="N", default=512, help="passages in each file (default 512)"
    )
    plan.add_argument("--json", action="store_true", help="print JSON")
    options.add_model(plan)
    plan.set_defaults(run=run_plan)
    info = options.add_action(actions, "info", "show what a memory holds")
    info.add_argument("folder", metavar="DIR", help="folder of a memory")
    info.add_argument("--verify", action="store_true", help="also read every byte and compare the checksums")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(run=run_info)


def run_build(args: argparse.Namespace) -> int:
    """Build or resume, and print the facts of the memory."""
    from ..memory.build import build

    workers.chosen(args)
    reader = options.load_reader(args)
    try:
        with reader.limited(), workers.opened(args, options.weights_folder(args)) as some:
            memory, encoded = build(
                reader.ops,
                reader.model,
                reader.tokenizer,
                args.passages,
                args.folder,
                args.store,
                args.shard_passages,
                workers=some,
            )
    except KeyboardInterrupt:
        note(f"glimmer-ref: stopped; {args.folder} keeps the finished shards, and the same command continues")
        return 130
    say(f"{encoded} passages encoded now, {len(memory) - encoded} were there before")
    print_facts(memory.info())
    return 0


def run_plan(args: argparse.Namespace) -> None:
    """Print the sizes and costs of a build; files and models that these do not need are not opened."""
    from ..memory.plan import plan

    if args.passages is None and args.count is None:
        raise InputError("memory plan", "PASSAGES.jsonl, or --passages N", "neither")
    for name in ("count", "tokens", "shard_passages", "workers"):
        value, option = getattr(args, name), "passages" if name == "count" else name.replace("_", "-")
        if value is not None and not 1 <= value <= MOST:
            raise InputError(f"--{option}", f"a whole number from 1 to {MOST:,}", str(value)[:40])
    if args.rate is not None and not 0 < args.rate < math.inf:
        raise InputError("--rate", "a number of tokens a second above 0", str(args.rate))
    if args.size and (args.weights or args.passages):
        got = "--weights" if args.weights else "PASSAGES.jsonl"
        raise InputError("--size", "--passages N, and no model or file beside it", got, f"leave out {got} or --size")
    if args.alpha is not None and args.size is None:
        raise InputError("--alpha", "--size beside it", "none", "give --size, or leave out --alpha")
    if args.tokens is not None and args.passages is not None:
        raise InputError("--tokens", "none with PASSAGES.jsonl", str(args.tokens), "leave it out")
    result = plan(*(_of_passages(args) if args.passages else _of_count(args)))
    if args.json:
        say_json(result)
        return
    for name, value in result.items():
        if isinstance(value, float):
            text = f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
        else:
            text = f"{value:,}" if isinstance(value, int) else value or "-"
        if name == "hours" and value is None:
            text = "give --rate, or passages to measure with"
        say(f"{name.replace('_', ' '):32}{text}{f'  ({binary(value)})' if name == 'bytes' else ''}")


def _of_passages(args: argparse.Namespace) -> tuple[Any, ...]:
    """The arguments of `plan` for a file of passages, or for more such ones; the rate is measured with the first."""
    from ..data.inputs import read_passages
    from ..disk.write import sha256
    from ..memory.manifest import build_facts
    from ..memory.plan import corpus_of, measured_rate, scaled

    reader, path = options.load_reader(args), Path(args.passages)
    lines = sum(1 for _ in read_passages(path))
    if not lines:
        raise InputError(str(path), "at least one passage", "none")
    passages = progress(read_passages(path), lines, "passages")
    corpus = corpus_of(reader.config, reader.tokenizer, passages, args.shard_passages)
    build = build_facts(
        reader.ops, reader.model, reader.tokenizer.digest, args.store, lines, sha256(path), args.shard_passages
    )
    rate = args.rate
    if rate is None:
        with reader.limited():
            rate = measured_rate(reader.ops, reader.model, reader.tokenizer, read_passages(path), args.store)
    if args.count is not None:
        corpus = scaled(corpus, args.count)
    return reader.config, corpus, build, args.workers, rate


def _of_count(args: argparse.Namespace) -> tuple[Any, ...]:
    """The arguments of `plan` if only the number of passages is known."""
    from ..config import GlimmerConfig
    from ..costs.flops import equal_lengths
    from ..disk.read import read_json
    from ..memory.plan import Corpus

    if args.size:
        config = GlimmerConfig.from_proportions(SIZES[args.size], args.alpha or "1/3", "1/4")
    else:
        config = GlimmerConfig.from_json(read_json(options.weights_folder(args) / "config.json"))
    build = {"encoder": {"d_model": config.t5.d_model}, "dtype": args.store, "shard_passages": args.shard_passages}
    corpus = Corpus(equal_lengths(args.count, args.tokens or config.passage_tokens))
    return config, corpus, build, args.workers, args.rate


def run_info(args: argparse.Namespace) -> None:
    """Print the contents of the manifest; --verify checks the files first."""
    from ..memory.store import Memory

    memory = Memory.open(args.folder)
    if args.verify:
        memory.verify()
    if args.json:
        say_json(memory.info())
    else:
        print_facts(memory.info())
        if args.verify:
            say(f"{'checksums':20}all equal")
