"""glimmer-ref trace: write every named array of one run as safetensors."""

from __future__ import annotations

import argparse
import json
from typing import Any, cast

from ..disk.read import read_json
from ..disk.write import check_place
from ..errors import InputError, brief
from ..terminal import note, say
from . import options


def add(commands: Any) -> None:
    """The command's options."""
    parser = commands.add_parser(
        "trace",
        help="write every named array of one run",
        description='Run one question from token ids, {"question": [..], "passages": [[..], ..], "target": [..]}, '
        "and write every named array. Without a target, the decoder generates the answer.",
    )
    parser.add_argument("--inputs", required=True, metavar="IDS.json", help="file with the token ids")
    parser.add_argument("--out", required=True, metavar="TRACE.safetensors", help="file for the arrays")
    parser.add_argument(
        "--only",
        metavar="REGEX",
        help="regular expression for the beginning of a name: only these arrays are written, such as 'scores|live_a' "
        "(default: all)",
    )
    options.add_system(parser)
    options.add_model(parser)
    parser.set_defaults(run=run)


def read_inputs(path: str) -> dict[str, Any]:
    """Read the token ids of an inputs file.

    Raises:
        InputError: there is no such file, it is not JSON, or it has another form.
    """
    data = read_json(path, "a JSON file of token ids")

    def is_ids(x: Any) -> bool:
        return isinstance(x, list) and all(isinstance(i, int) and not isinstance(i, bool) for i in x)

    form = 'whole numbers in {"question": [..], "passages": [[..], ..]}, perhaps with "target": [..]'
    if not isinstance(data, dict) or not is_ids(data.get("question")) or not isinstance(data.get("passages"), list):
        raise InputError(path, form, brief(data))
    if not all(is_ids(p) for p in data["passages"]) or not is_ids(data.get("target") or []):
        raise InputError(path, form, brief(data))
    unknown = sorted(set(data) - {"question", "passages", "target"})
    if unknown:
        raise InputError(path, form, f"also {', '.join(unknown)}", "leave that out")
    return data


def run(args: argparse.Namespace) -> None:
    """Trace a run, write its arrays, and print a summary."""
    import numpy as np

    from ..inference.reader import Reader
    from ..params import checkpoint
    from ..params.safetensors_io import write_tensors

    check_place(args.out)
    data, no_tokenizer = read_inputs(args.inputs), cast(Any, None)  # token ids need no tokenizer
    model = checkpoint.load(options.weights_folder(args), args.dtype)
    reader = Reader(model, no_tokenizer, args.ops, args.precision, args.threads)
    options.note_precision(args.ops, args.precision, model.config.t5.d_model)
    arrays = reader.trace(data["question"], data["passages"], data.get("target"), args.system, args.m, args.only)
    if not arrays:
        raise InputError(
            "--only", "a pattern that some name matches", repr(args.only), "docs/golden-format.md lists the names"
        )
    not_finite = next((name for name, x in arrays.items() if x.dtype.kind == "f" and not np.isfinite(x).all()), None)
    if not_finite is not None:
        note(f"glimmer-ref: note: some values are NaN or infinite, first in {not_finite}")
    # The file format sorts its tensors, so the order of the run is written beside them.
    about = {"system": args.system, "ops": args.ops, "dtype": args.dtype, "precision": reader.precision}
    about["order"] = json.dumps(list(arrays))
    write_tensors(args.out, arrays, about)
    say(f"{args.out}: {len(arrays)} arrays of {args.system} in {args.ops} {reader.precision}")
