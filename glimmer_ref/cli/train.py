"""glimmer-ref train: learn as a recipe says."""

from __future__ import annotations

import argparse
import json
import signal
from pathlib import Path
from typing import Any

from ..ops import BACKENDS
from ..terminal import note, say


def add(commands: Any) -> None:
    """The command's options."""
    parser = commands.add_parser(
        "train",
        help="train a model as a recipe says",
        description="Train as a recipe says. OUT gets `last` and `best`, folders that ask and evaluate read, "
        "log.jsonl and curves.png. Stopped by Ctrl-C or a kill, it goes on with --resume to the same numbers.",
    )
    parser.add_argument("recipe", metavar="RECIPE", help="a TOML file, or the name of a bundled recipe, like mini")
    parser.add_argument("--out", metavar="DIR", required=True, help="a new folder; with --resume, an earlier run's")
    parser.add_argument("--resume", action="store_true", help="go on from DIR's last checkpoint")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="instead of the recipe's, as stages.0.rate=1e-3"
    )
    parser.add_argument("--data", metavar="DIR", help="where the recipe's data folders are, instead of data.root")
    parser.add_argument(
        "--ops", choices=BACKENDS, default="numba", help="numpy: the reference backend; numba: the fast one"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads to use (default: all processors)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train; where it was stopped, say how to go on."""
    from ..training.loop import LAST, train
    from ..training.recipe_file import read_recipe

    changes = [*args.set, *([] if args.data is None else [f"data.root={json.dumps(args.data)}"])]
    recipe = read_recipe(args.recipe, changes)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # asked to end, it saves as with Ctrl-C
    try:
        state = train(recipe, args.out, args.ops, args.threads, args.resume)
    except KeyboardInterrupt:
        saved = (Path(args.out) / LAST).exists()
        words = f"go on with the same command and --resume: {args.out}" if saved else "nothing was learnt yet"
        note("")
        note(f"glimmer-ref: stopped; {words}")
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    best = state.best
    if best is not None:
        say(f"{args.out}/best: step {best['step']}, exact match {best['exact_match'] or 0:.1f} on dev")
    return 0
