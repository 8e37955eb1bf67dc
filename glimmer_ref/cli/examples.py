"""glimmer-ref ask --examples: some questions as commands, and how to ask about your own facts."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
from typing import TYPE_CHECKING

from ..disk.lock import WINDOWS
from ..errors import InputError
from ..terminal import say, say_json
from . import options

if TYPE_CHECKING:
    from ..data.inputs import Question

QUESTIONS = "questions.jsonl"
FACTS = (
    {"title": "Zaphod Beeblebrox", "text": "Zaphod Beeblebrox was born in Betelgeuse. He plays the banjo."},
    {"title": "Betelgeuse", "text": "Betelgeuse stands on the Gargle River. It is governed by Tricia McMillan."},
)
ABOUT_FACTS = "Where was Zaphod Beeblebrox born?"


def add(parser: argparse.ArgumentParser) -> None:
    """--examples, --seed."""
    parser.add_argument(
        "--examples",
        type=int,
        nargs="?",
        const=1,
        metavar="N",
        help="show N of the model's own questions for each task (default 1), and how to ask about facts of your "
        "own; with --explain, also show the answers",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the choice of examples (default 0)")


def run(args: argparse.Namespace) -> None:
    """Print the questions, as commands or as JSON."""
    chosen = choose(args)
    facts_command = command(ABOUT_FACTS, args.weights, "--passages", "facts.jsonl")
    facts = [json.dumps(fact, ensure_ascii=False) for fact in FACTS]
    if args.json:
        questions = [
            {
                "task": q.task,
                "id": q.id,
                "question": q.text,
                "answers": list(q.answers),
                "command": command(q.text, args.weights),
            }
            for q in chosen
        ]
        say_json({"seed": args.seed, "questions": questions, "own": {"facts": facts, "command": facts_command}})
        return
    for q in chosen:
        say(f"# {q.task}")
        say(command(q.text, args.weights))
        if args.explain:
            say(f"#   {' | '.join(q.answers) or 'answer not known'}")
    if not args.explain:
        say("", "# Add --explain to see the answers, or --seed 1 to see other questions.")
    say("", "# To ask about facts of your own, write them into a file facts.jsonl, in the style of the model's own:")
    say(*facts)
    say("# Then ask about them:")
    say(facts_command)


def command(question: str, weights: str | None, *more: str) -> str:
    """The command that asks a question, with further words of it, quoted for the system's shell."""
    words = ["glimmer-ref", "ask", question, *(["--weights", weights] if weights else []), *more]
    return subprocess.list2cmdline(words) if WINDOWS else shlex.join(words)


def choose(args: argparse.Namespace) -> list[Question]:
    """Some of the model's own questions for each task, always the same for a seed.

    Raises:
        InputError: there are no questions beside the weights, the number is below 1, or the seed below 0.
    """
    from ..data.inputs import read_questions
    from ..world.rng import PortableRng

    if args.examples < 1:
        raise InputError("--examples", "at least 1 of each task", str(args.examples))
    if args.seed < 0:
        raise InputError("--seed", "0 or more", str(args.seed))
    path = options.weights_folder(args) / QUESTIONS
    if not path.exists():
        raise InputError(
            str(path), "the model's own questions", "no such file", "add such a file, or leave out --weights"
        )
    tasks: dict[str, list[Question]] = {}
    for question in read_questions(path):
        tasks.setdefault(question.task, []).append(question)
    if not tasks:
        raise InputError(str(path), "at least one question", "none")
    rng = PortableRng(args.seed)
    return [question for some in tasks.values() for question in rng.sample(some, args.examples)]
