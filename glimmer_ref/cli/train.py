"""glimmer-ref train: train a model by a recipe."""

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
        help="train a model by a recipe",
        description="Train a model by a recipe. The folder of --out gets the models `last` and `best`, which ask and "
        "evaluate read, and log.jsonl and curves.png. After Ctrl-C or a kill, --resume continues and gives the same "
        "numbers.",
    )
    parser.add_argument(
        "recipe",
        metavar="RECIPE",
        help="a TOML file, or the name of a bundled recipe, such as mini; "
        "glimmer_ref/training/recipe.py describes every key, docs/commands.md how to begin from a trained model",
    )
    parser.add_argument(
        "--out", metavar="DIR", required=True, help="a new folder; with --resume, that of an earlier run"
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue from the last checkpoint in the folder of --out"
    )
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="change a value of the recipe, such as stages.0.rate=1e-3; may be given several times",
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="folder of the training data, for example made by glimmer-ref world (default: the recipe's data.root)",
    )
    parser.add_argument(
        "--ops",
        choices=BACKENDS,
        default="numba",
        help="numpy: the reference backend; numba: the fast one (default); cuda cannot train",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="number of threads (default: all processors)")
    parser.epilog = "The recipe mini takes about an hour on two cores."
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train; if it is stopped, print how to continue."""
    from ..training.loop import LAST, train
    from ..training.recipe_file import read_recipe

    changes = [*args.set, *([] if args.data is None else [f"data.root={json.dumps(args.data)}"])]
    recipe = read_recipe(args.recipe, changes)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the training is saved, as after Ctrl-C
    try:
        state = train(recipe, args.out, args.ops, args.threads, args.resume)
    except KeyboardInterrupt:
        saved = (Path(args.out) / LAST).exists()
        words = f"the same command with --resume continues: {args.out}" if saved else "nothing was saved yet"
        note("")
        note(f"glimmer-ref: stopped; {words}")
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    best = state.best
    if best is None:
        note(f"glimmer-ref: wrote {args.out}")
    else:
        say(f"{args.out}/best: step {best['step']}, exact match {best['exact_match'] or 0:.1f} on dev")
    return 0
