"""glimmer-ref train: train a model by a recipe."""

from __future__ import annotations

import argparse
import json
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..ops import BACKENDS
from ..terminal import note, say

if TYPE_CHECKING:
    from ..training.checkpoint import State
    from ..training.recipe import Recipe

WORLDS = "worlds"  # the folder in that of --out for worlds that are made


def add(commands: Any) -> None:
    """The command's options."""
    parser = commands.add_parser(
        "train",
        help="train a model by a recipe",
        description="Train a model by a recipe. The folder of --out gets the models `last` and `best`, which ask and "
        "evaluate read, log.jsonl, and curves.png, which is drawn anew after each evaluation. After Ctrl-C or a kill, "
        "--resume continues and gives the same numbers. `glimmer-ref train quick` needs nothing else: it makes small "
        "worlds, fine-tunes the bundled base t5-mini on their questions, and shows some answers.",
    )
    parser.add_argument(
        "recipe",
        metavar="RECIPE",
        help="a TOML file, or the name of a bundled recipe, such as quick or mini; "
        "glimmer_ref/training/recipe.py describes every key, docs/commands.md how to begin from a trained model",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="a new folder; with --resume, that of an earlier run (default: RECIPE-run, such as quick-run)",
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
        help="folder of the training data, for example made by glimmer-ref world (default: the recipe's data.root; for "
        "quick, small worlds that are made in the folder of --out)",
    )
    parser.add_argument(
        "--ops",
        choices=BACKENDS,
        default="numba",
        help="numpy: the reference backend; numba: the fast one (default); cuda cannot train",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="number of threads (default: all processors)")
    parser.epilog = "The recipe quick takes under two minutes, and mini about an hour on two cores."
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train; if it is stopped, print how to continue, else what was learnt."""
    from ..training.loop import LAST, train
    from ..training.recipe import DataTable
    from ..training.recipe_file import read_recipe

    out = Path(f"{Path(args.recipe).stem}-run" if args.out is None else args.out)
    changes = [*args.set, *([] if args.data is None else [f"data.root={json.dumps(args.data)}"])]
    recipe = read_recipe(args.recipe, changes)
    makes_worlds = recipe.data.small_worlds > 0 and recipe.data.root == DataTable.root
    if makes_worlds:
        recipe = replace(recipe, data=replace(recipe.data, root=str(out / WORLDS)))
    # A run without a checkpoint cannot continue, so it gets no worlds.
    make = partial(_make_worlds, recipe) if makes_worlds and (out / LAST).exists() == args.resume else None
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the training is saved, as after Ctrl-C
    try:
        state = train(recipe, out, args.ops, args.threads, args.resume, make_data=make)
        _report(out, state)
        if makes_worlds:
            _show_answers(args, out, recipe)
    except KeyboardInterrupt:
        saved = (out / LAST).exists()
        words = f"the same command with --resume continues: {out}" if saved else "nothing was saved yet"
        note("")
        note(f"glimmer-ref: stopped; {words}")
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _make_worlds(recipe: Recipe) -> None:
    """Make the small worlds of a recipe. A run that continues makes the same ones."""
    from ..world.generate import write

    write(recipe.data.root, recipe.top.seed, recipe.data.small_worlds, "small")
    say(f"{recipe.data.root}: small fictional worlds to train on, for dev and for test")


def _report(out: Path, state: State) -> None:
    """Print where the model is, and how good it is; also how good it was before, if it was evaluated then."""
    from ..training.log import CURVES, LOG, read_log
    from ..training.loop import BEST

    best = state.best
    if best is None:
        note(f"glimmer-ref: wrote {out}")
        return
    first = next((r for r in read_log(out / LOG) if "exact_match" in r), best)
    before = f" ({first['exact_match'] or 0:.1f} before training)" if first["step"] == 0 else ""
    say(f"{out / BEST}: step {best['step']}, exact match {best['exact_match'] or 0:.1f} on dev{before}")
    if (out / CURVES).exists():
        say(f"{out / CURVES}: how losses and exact match changed")


def _show_answers(args: argparse.Namespace, out: Path, recipe: Recipe) -> None:
    """Answer a question of each task of the test world, and print the command that asks one of them."""
    from ..data.inputs import read_passages, read_questions
    from ..evaluation.metrics import exact_match
    from ..inference.reader import load
    from ..training.loop import BEST
    from .examples import command

    test = Path(recipe.data.root) / "test"
    reader, passages = load(out / BEST, args.ops, threads=args.threads), test / "passages.jsonl"
    memory = reader.memorize(read_passages(passages))
    by_task = {q.task: q for q in reversed(list(read_questions(test / "questions.jsonl")))}
    answers = [(q, reader.ask(q.text, memory, recipe.top.system).text) for q in reversed(by_task.values())]
    right = [q for q, answer in answers if exact_match(answer, q.answers)]
    say("", "Questions about the test world, whose names do not occur in training, with the model's answers:", "")
    for q, answer in answers:
        say(q.text, f"    {answer} ({'right' if q in right else f'wrong: {q.answers[0]}'})")
    say("", "To ask a question yourself:", "")
    system = () if recipe.top.system == "glimmer" else ("--system", recipe.top.system)
    say(command((right or [answers[0][0]])[0].text, str(out / BEST), "--passages", str(passages), *system))
