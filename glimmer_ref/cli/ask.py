"""glimmer-ref ask: one question, its answer, and why."""

from __future__ import annotations

import argparse
from typing import Any

from ..errors import Refused, shown
from ..terminal import note, say, say_json
from . import examples, options


def add(commands: Any) -> None:
    """The command's options."""
    parser = commands.add_parser("ask", help="answer a question")
    parser.add_argument("question", metavar="QUESTION", nargs="?")
    examples.add(parser)
    options.add_passages(parser)
    options.add_system(parser)
    options.add_model(parser)
    parser.add_argument("--explain", action="store_true", help="which passages were read, and what it cost")
    parser.add_argument("--plot", metavar="FILE.png", help="draw scores and the decoder's attention")
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Answer, and show as much of the reasons as was asked for."""
    if (args.question is None) == (args.examples is None):
        got = "neither" if args.question is None else "both"
        raise Refused("ask", "a QUESTION, or --examples", got, "--examples shows questions to begin with")
    if args.examples is not None:
        examples.run(args)
        return
    reader = options.load_reader(args)
    source = options.open_source(args, reader)
    answer = reader.ask(args.question, source, args.system, args.k, args.m, attention=bool(args.plot))
    print_notes(answer)
    if args.json:
        say_json(document(answer, args.question))
    else:
        say(answer.text)
        if args.explain:
            explain(reader, answer, args.question)
    if args.plot:  # last: an answer is not lost for a picture
        from ..plots import plot_answer

        plot_answer(answer, args.question, args.plot)


def print_notes(answer: Any) -> None:
    """On stderr, words that the vocabulary does not hold, and what became of them; and scores that say nothing."""
    for words, what in (
        (answer.borrowed, "not in the vocabulary, borrowed a name for"),
        (answer.unknown, "the model's vocabulary does not hold"),
    ):
        if words:
            note(f"glimmer-ref: note: {what}: {', '.join(words)}")
    if answer.undecided:
        note(f"glimmer-ref: note: all {len(answer.scores)} passages have the same score: retrieval's order chose")


def document(answer: Any, question: str) -> dict[str, Any]:
    """The answer as JSON."""
    rank = {row: place for place, row in enumerate(answer.selected)}
    return {
        "question": question,
        "answer": answer.text,
        "ids": answer.ids,
        "log_probability": answer.log_probability,
        "system": answer.system,
        "precision": answer.precision,
        "k": len(answer.passages),
        "m": len(answer.selected),
        "retrieval": answer.retrieval,
        "borrowed": answer.borrowed,
        "unknown": answer.unknown,
        "passages": [
            {
                "id": p.id,
                "title": p.title,
                "text": p.text,
                "score": None if answer.scores is None else float(answer.scores[i]),
                "kept": i in rank,
                "rank": rank.get(i),
            }
            for i, p in enumerate(answer.passages)
        ],
        "macs": answer.macs,
        "seconds": answer.seconds,
    }


def explain(reader: Any, answer: Any, question: str) -> None:
    """Two tables at 80 columns: the passages, and the cost of each stage beside the other systems'."""
    k, m = len(answer.passages), len(answer.selected)
    say("", f"log p {answer.log_probability:.3f}; {answer.system} read {m} of {k} passages, {answer.retrieval}")
    if answer.precision != "float32":
        say(f"products in {answer.precision}")
    say("")
    print_passages(answer)
    say("")
    print_costs(answer.system, reader.compare(answer, question), answer.seconds)


def print_passages(answer: Any) -> None:
    """Kept ones first, in the decoder's order, then the dropped ones by score."""
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


def print_costs(system: str, costs: dict[str, dict[str, int]], seconds: dict[str, float]) -> None:
    """Millions of multiply-adds of each stage; time of the system that ran."""
    names = list(costs)
    stages = {stage for macs in costs.values() for stage in macs} | {"read"} & set(seconds)
    say(f"{'million multiply-adds':24}" + "".join(f"{name:>12}" for name in names) + f"{system + ' ms':>14}")
    for stage in sorted(stages, key=STAGES.index):
        cells = "".join(f"{costs[n][stage] / 1e6:>12.3f}" if stage in costs[n] else f"{'-':>12}" for n in names)
        time = f"{1e3 * seconds[stage]:>14.2f}" if stage in seconds else f"{'':>14}"
        say(f"{TITLES[stage]:24}{cells}{time}")
    totals = {n: sum(v for stage, v in costs[n].items() if stage != "memory") for n in names}
    say(f"{'per question':24}" + "".join(f"{totals[n] / 1e6:>12.3f}" for n in names))
    say(f"{'share of fid':24}" + "".join(f"{totals[n] / totals['fid']:>12.3f}" for n in names))
    say("One multiply-add is two FLOPs; stored passages are not in the sum.")


TITLES = {
    "memory": "passages (stored)",
    "read": "waited for memory",
    "question": "question",
    "encoder": "encoder",
    "live": "live encoder",
    "live_a": "live-A",
    "reranker": "separate reranker",
    "score": "score",
    "live_b": "live-B",
    "cross": "cross keys and values",
    "decoder": "decoder",
    "head": "logits",
}
STAGES = list(TITLES)
