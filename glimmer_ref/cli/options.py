"""Options that several commands share, and the functions that open the files that these options name."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import InputError, brief
from ..ops import BACKENDS, PRECISIONS
from ..terminal import note

Parser = argparse.ArgumentParser

NAMED = "or a model's name in Hugging Face's cache"
BACKEND_HELP = "numpy: the reference backend; numba: the fast one (default); cuda: on an NVIDIA GPU"
PASSAGES_HELP = 'passages: one {"id", "title", "text"} on each line'
QUESTION_HELP = "the question, in quotes"
ENDINGS = "the name ends in .png, .svg, .pdf, .jpg or .webp"


def add_action(actions: Any, name: str, text: str) -> Parser:
    """One action of a command; the same sentence is in the command's help and in the action's own."""
    parser: Parser = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    return parser


def add_hub(parser: Parser) -> None:
    """--download and --revision, for a model that has a name at Hugging Face."""
    parser.add_argument(
        "--download",
        action="store_true",
        help="fetch a model that is given by name if Hugging Face's cache does not have it",
    )
    parser.add_argument(
        "--revision", metavar="REV", help="branch, tag or commit of a model that is given by name (default: main)"
    )


def add_model(parser: Parser) -> None:
    """--weights, --download, --revision, --ops, --dtype, --precision, --threads."""
    parser.add_argument("--weights", metavar="DIR", help=f"folder of the model, {NAMED} (default: the bundled model)")
    add_hub(parser)
    parser.add_argument("--ops", choices=BACKENDS, default="numba", help=BACKEND_HELP)
    parser.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        default="float32",
        help="number format of the weights and of the computation (default float32)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="precision of matrix products (default float32); a lower one is less exact, and faster unless a note says "
        "otherwise",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="number of threads (default: all processors)")


def add_system(parser: Parser) -> None:
    """--system, --m."""
    parser.add_argument(
        "--system",
        choices=("glimmer", "lumen", "fid"),
        default="glimmer",
        help="the system that answers (default glimmer)",
    )
    parser.add_argument(
        "--m", type=int, metavar="M", help="passages that GLIMMER's decoder reads (default: the model's own m)"
    )


def add_passages(parser: Parser) -> None:
    """--passages or --memory, and --k."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--passages", metavar="FILE.jsonl", help=f"{PASSAGES_HELP} (default: the model's own)")
    source.add_argument("--memory", metavar="DIR", help="folder of stored passages, made by glimmer-ref memory build")
    parser.add_argument(
        "--k", type=int, metavar="K", help="passages retrieved for each question (default: the model's own k)"
    )


def add_index(parser: Parser) -> None:
    """--index, --gtr."""
    parser.add_argument(
        "--index", metavar="DIR", help="folder of the index that retrieves, made by glimmer-ref index build"
    )
    parser.add_argument(
        "--gtr",
        metavar="DIR",
        help=f"folder of the GTR model that made the index, {NAMED}; only for an index of embeddings",
    )


def find(args: argparse.Namespace, name: str, **needed: Any) -> Path:
    """The folder of a model that an option names; for one in Hugging Face's cache, a note names the commit."""
    from ..params import hub

    if not hub.is_name(name):
        named = [args.__dict__.get(option) for option in ("weights", "gtr", "t5")]
        if args.revision is not None and not any(x is not None and hub.is_name(x) for x in named):
            raise InputError("--revision", "the name of a model at Hugging Face", f"the folder {name}", "leave it out")
        if args.download:
            note(f"glimmer-ref: note: {name} is on this machine, so --download fetches nothing")
        return Path(name)
    folder = hub.find(name, args.download, args.revision, **needed)
    note(f"glimmer-ref: note: {name}: revision {args.revision or hub.REVISION} is commit {folder.name}")
    return folder


def weights_folder(args: argparse.Namespace) -> Path:
    """The folder that --weights names, or the bundled one; it is looked up once."""
    from ..inference.reader import bundled

    if "folder_of_weights" not in args:
        args.folder_of_weights = find(args, args.weights or str(bundled()))
    return args.folder_of_weights


def gtr_folder(args: argparse.Namespace) -> Path:
    """The folder that --gtr names; it is looked up once."""
    from ..retrieval import gtr

    if "folder_of_gtr" not in args:
        args.folder_of_gtr = find(args, args.gtr, needed=gtr.needed)
    return args.folder_of_gtr


def load_gtr(args: argparse.Namespace) -> Any:
    """The retriever that --gtr names."""
    from ..ops import bind
    from ..retrieval import gtr

    return gtr.load(gtr_folder(args), bind(args.ops))


def open_index(args: argparse.Namespace) -> Any:
    """The index that --index names; an index of embeddings is opened with the retriever of --gtr."""
    from ..retrieval import bm25_index, dense
    from ..retrieval.index_files import read_facts

    kind = read_facts(args.index)["kind"]
    if kind == bm25_index.KIND:
        if args.gtr:
            raise InputError("--gtr", "none with an index of words", args.gtr, "leave it out")
        return bm25_index.BM25Index(args.index)
    if kind != dense.KIND:
        raise InputError(args.index, f"an index of kind {dense.KIND} or {bm25_index.KIND}", brief(kind, 40))
    if not args.gtr:
        raise InputError("--gtr", "the folder or the name of the retriever that made the index", "none")
    return dense.DenseIndex(args.index, load_gtr(args))


def load_reader(args: argparse.Namespace) -> Any:
    """The reader that --weights, --ops, --dtype, --precision and --threads name."""
    from ..inference.reader import load

    reader = load(weights_folder(args), args.ops, args.dtype, args.precision, args.threads)
    note_precision(args.ops, args.precision, reader.config.t5.d_model)
    return reader


def note_precision(ops: str, precision: str, d_model: int) -> None:
    """Print a note if a precision is known to be slower than float32 on this processor."""
    if ops != "numba" or precision == "float32":
        return
    from ..ops import processor

    if (sentence := processor.slower(precision, d_model, processor.kind())) is not None:
        note(f"glimmer-ref: note: {sentence}")


def note_training(reader: Any, system: str) -> None:
    """Print a note if the weights were trained as another system than the one that reads them."""
    from ..config import EVERY_SYSTEM

    trained = reader.config.trained_as
    if trained not in (None, system, EVERY_SYSTEM):
        note(f"glimmer-ref: note: the weights were trained as {trained}, so this does not show how good {system} is")


def open_source(args: argparse.Namespace, reader: Any) -> Any:
    """The passages or the memory that an option names, else the passages beside the weights."""
    from ..data.inputs import read_passages
    from ..memory.store import Memory

    if args.memory is not None:
        memory = Memory.open(args.memory)
        memory.check(reader.ops, reader.model, reader.tokenizer.digest)
        return memory
    path = weights_folder(args) / "passages.jsonl" if args.passages is None else args.passages
    if args.passages is None and not Path(path).exists():
        raise InputError(f"{path}", "the model's own passages", "no such file", "name others by --passages or --memory")
    passages = list(read_passages(path))
    if not passages:
        raise InputError(str(path), "at least one passage", "none")
    return passages
