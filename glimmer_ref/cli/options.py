"""Options that several commands share, and how they open what these name."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..errors import Refused
from ..ops import PRECISIONS, TELLINGS

Parser = argparse.ArgumentParser


def add_model(parser: Parser) -> None:
    """--weights, --ops, --dtype, --precision, --threads."""
    parser.add_argument("--weights", metavar="DIR", help="model folder (default: the bundled model)")
    parser.add_argument("--ops", choices=TELLINGS, default="numba", help="numpy: the oracle; numba: the fast one")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="of all computation")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="float32", help="of matrix products; lower is faster, and less exact"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads to use (default: all processors)")


def add_system(parser: Parser) -> None:
    """--system, --m."""
    parser.add_argument("--system", choices=("glimmer", "lumen", "fid"), default="glimmer")
    parser.add_argument("--m", type=int, help="passages that GLIMMER's decoder reads (default: the model's own)")


def add_passages(parser: Parser) -> None:
    """--passages or --memory, and --k."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--passages", metavar="FILE.jsonl", help='one {"id", "title", "text"} a line')
    source.add_argument("--memory", metavar="DIR", help="a stored memory of passages (glimmer-ref memory build)")
    parser.add_argument("--k", type=int, help="passages considered for each question (default: the model's own)")


def load_reader(args: argparse.Namespace) -> Any:
    """The reader that --weights, --ops, --dtype, --precision and --threads name."""
    from ..reader import load

    return load(args.weights, args.ops, args.dtype, args.precision, args.threads)


def open_source(args: argparse.Namespace, reader: Any) -> Any:
    """The passages or the memory that were named; else those beside the weights."""
    from ..reader import bundled
    from ..retrieval.memory import Memory
    from ..text.inputs import read_passages

    if args.memory:
        memory = Memory.open(args.memory)
        memory.check(reader.ops, reader.model, reader.tokenizer.digest)
        return memory
    path = args.passages or Path(args.weights or bundled()) / "passages.jsonl"
    if not args.passages and not Path(path).exists():
        raise Refused("passages", f"--passages or --memory, for {args.weights} has none of its own", "neither")
    passages = list(read_passages(path))
    if not passages:
        raise Refused(str(path), "at least one passage", "none")
    return passages


def print_json(data: Any) -> None:
    """One JSON document on stdout, NumPy's numbers as numbers."""
    print(json.dumps(data, indent=1, ensure_ascii=False, default=_plain))


def _plain(x: Any) -> Any:
    return x.tolist()  # NumPy's arrays and numbers have it; anything else has no place in a document
