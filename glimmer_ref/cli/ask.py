"""glimmer-ref ask: one question, its answer, and why."""

from __future__ import annotations

import argparse
import textwrap
from contextlib import suppress
from typing import Any

from ..errors import InputError, shown
from ..terminal import interactive, note, say, say_json
from . import examples, options
from .components import TITLES
from .output import write_after


def add(commands: Any) -> None:
    """The command's options."""
    parser = commands.add_parser(
        "ask",
        help="answer a question",
        description="Answer a question from passages. By default the bundled model answers from its own passages "
        "about a fictional world; --examples shows what you can ask it.",
    )
    parser.add_argument(
        "question",
        metavar="QUESTION",
        nargs="?",
        help="the question, in quotes; without it, type questions one after another",
    )
    examples.add(parser)
    options.add_passages(parser)
    options.add_system(parser)
    options.add_model(parser)
    parser.add_argument(
        "--explain",
        action="store_true",
        help="show the score of each passage, which ones the decoder read, and what the answer cost",
    )
    parser.add_argument(
        "--plot", metavar="FILE", help=f"plot the scores and the decoder's attention; {options.ENDINGS}"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Answer, and print or plot the reasons that were asked for."""
    typed = args.question is None and args.examples is None and interactive()
    if not typed and (args.question is None) == (args.examples is None):
        got = "neither" if args.question is None else "both"
        do = "leave one out" if args.question else "glimmer-ref ask --examples shows some questions"
        raise InputError("ask", "either a QUESTION or --examples", got, do)
    if args.examples is not None:
        examples.run(args)
        return
    if args.plot:
        from .. import pictures

        pictures.check_picture(args.plot)
    reader = options.load_reader(args)
    source = options.open_source(args, reader)
    if typed:
        _loop(args, reader, source)
    else:
        _one(args, reader, source, args.question)


def _loop(args: argparse.Namespace, reader: Any, source: Any) -> None:
    """Answer questions that are typed, until an empty line or the end of the input. A bad question ends nothing."""
    with suppress(ImportError):  # Windows has none; with it, `input` keeps a history
        import readline  # noqa: F401
    note("glimmer-ref: type a question; an empty line or Ctrl-D ends")
    while question := _typed():
        try:
            _one(args, reader, source, question)
        except InputError as error:
            note(f"glimmer-ref: error: {error}")


def _typed() -> str:
    """The next line, without space around it; nothing at the end of the input."""
    try:
        return input("> ").strip()
    except EOFError:
        say("")
        return ""


def _one(args: argparse.Namespace, reader: Any, source: Any, question: str) -> None:
    from ..inference.evidence import evidence

    answer = reader.ask(question, source, args.system, args.k, args.m, attention=bool(args.plot))
    sentences = evidence(reader, answer) if args.plot or args.explain else {}
    print_notes(answer)
    options.note_training(reader, args.system)
    with write_after(lambda: _plot(args.plot, answer, question, sentences)):
        if args.json:
            say_json(document(answer, question))
        else:
            say(answer.text)
            if args.explain:
                explain(reader, answer, sentences)


def _plot(path: str | None, answer: Any, question: str, sentences: dict[int, str]) -> None:
    if path:
        from ..inference.plots import plot_answer

        plot_answer(answer, question, sentences, path)
        note(f"glimmer-ref: wrote {path}")


def print_notes(answer: Any) -> None:
    """Print notes on stderr: words that are not in the vocabulary, no answer, or no best score."""
    for words, what in (
        (answer.substituted, "the vocabulary does not contain these names, so others replace them"),
        (answer.unknown, "the vocabulary does not contain these words, so the model cannot tell them apart"),
    ):
        if words:
            note(f"glimmer-ref: note: {what}: {', '.join(words)}")
    if not answer.answered:
        note("glimmer-ref: note: the model found the answer in none of the passages")
    if answer.undecided:
        note(
            f"glimmer-ref: note: all {len(answer.scores)} passages have the same score: the order of retrieval decided"
        )


def document(answer: Any, question: str) -> dict[str, Any]:
    """The answer for JSON, under the names of `Answer`, whose docstring explains each."""
    rank = {row: position for position, row in enumerate(answer.selected)}
    return {
        "question": question,
        "answer": answer.text,
        "answered": answer.answered,
        "ids": answer.ids,
        "log_probability": answer.log_probability,
        "system": answer.system,
        "precision": answer.precision,
        "k": len(answer.passages),
        "m": len(answer.selected),
        "retrieval": answer.retrieval,
        "borrowed": answer.substituted,
        "unknown": answer.unknown,
        "passages": [
            {
                "id": p.id,
                "title": p.title,
                "text": p.text,
                "score": None if answer.scores is None else float(answer.scores[i]),
                "tokens": answer.passage_tokens[i],
                "kept": i in rank,
                "rank": rank.get(i),
            }
            for i, p in enumerate(answer.passages)
        ],
        "question_tokens": answer.question_tokens,
        "stored": answer.stored,
        "macs": answer.macs,
        "macs_done": answer.macs_done,
        "seconds": answer.seconds,
    }


def explain(reader: Any, answer: Any, sentences: dict[int, str]) -> None:
    """Print two tables at 80 columns: the passages, and the cost of each stage beside that of the other systems."""
    k, m = len(answer.passages), len(answer.selected)
    say("", f"log p {answer.log_probability:.3f}; {answer.system} read {m} of {k} passages, {answer.retrieval}")
    if answer.precision != "float32":
        say(f"products in {answer.precision}")
    say("")
    print_passages(answer, sentences)
    say("")
    print_costs(answer, reader.compare(answer))


def print_passages(answer: Any, sentences: dict[int, str]) -> None:
    """Print the selected passages in the decoder's order, then the dropped ones by score.

    Below a passage that holds the words of the answer stands the sentence, from `evidence`.
    """
    dropped = [i for i in range(len(answer.passages)) if i not in answer.selected]
    if answer.scores is not None:
        dropped.sort(key=lambda i: -answer.scores[i])
    say(f"{'':8}{'score':>9}  passage")
    for i in [*answer.selected, *dropped]:
        score = "-" if answer.scores is None else f"{answer.scores[i]:.3f}"
        passage = answer.passages[i]
        text = shown(f"{passage.id}  {passage.title}: {passage.text}")
        text = text if len(text) <= 60 else text[:57] + "..."
        say(f"{'kept' if i in answer.selected else 'dropped':8}{score:>9}  {text}")
        if i in sentences:
            say(*textwrap.wrap(f"* {shown(sentences[i])}", 79, initial_indent=" " * 19, subsequent_indent=" " * 21))
    if sentences:
        say("* holds the words of the answer")


def _millions(macs: float | None) -> str:
    """Millions in eleven columns, with as many digits as fit."""
    if macs is None:
        return f"{'-':>11}"
    return f"{macs / 1e6:>11.3f}" if macs < 1e11 else f"{macs / 1e6:>11,.0f}"


def print_costs(answer: Any, costs: dict[str, dict[str, int]]) -> None:
    """Print millions of multiply-adds by stage: each system's algorithm, and what this run computed, with its time.

    The first sums include passages that were encoded for this answer; the last sums leave them out.
    """
    from ..inference.answer import by_stage

    done, seconds = by_stage(answer.macs_done), answer.seconds
    columns = [*costs.values(), done]
    stages = {*seconds, *(stage for macs in columns for stage in macs)}
    say(f"{'million multiply-adds':22}" + "".join(f"{name:>11}" for name in (*costs, "done")) + f"{'ms':>10}")
    titles = {**TITLES, "memory": "passages (stored)" if answer.stored else "passages (encoded)"}
    for stage in sorted(stages, key=list(TITLES).index):
        time = f"{1e3 * seconds[stage]:>10.2f}" if stage in seconds else ""
        say(f"{titles[stage]:22}{''.join(_millions(macs.get(stage)) for macs in columns)}{time}")
    totals = [("all of it", not answer.stored)] + ([] if answer.stored else [("were they stored", False)])
    for title, encoded in totals:
        sums = [sum(n for stage, n in macs.items() if encoded or stage != "memory") for macs in columns]
        time = f"{1e3 * sum(seconds.values()):>10.2f}" if encoded != answer.stored else ""
        say(f"{title:22}{''.join(map(_millions, sums))}{time}")
        say(f"{'  share of fid':22}" + "".join(f"{n / sums[list(costs).index('fid')]:>11.3f}" for n in sums))
    say(f"By the paper's algorithm and shapes; done: what this run of {answer.system} did.")
    say("One multiply-add is two FLOPs." + (" Stored passages are in no sum." if answer.stored else ""))
