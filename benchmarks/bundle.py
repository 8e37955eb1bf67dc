"""The bundled model from a finished run: python benchmarks/bundle.py RUN WORLDS [--into weights/mini]

RUN was written by `glimmer-ref train mini`, WORLDS by `glimmer-ref world`. The run's best model is evaluated on the
test world, whose people and words it has never seen. The folder gets the model, that world's passages and questions,
the training curves, and a card with the measured values.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import results

import glimmer_ref
from glimmer_ref import tables
from glimmer_ref.data.inputs import Question, read_passages, read_questions
from glimmer_ref.errors import InputError
from glimmer_ref.evaluation.evaluate import answers, evaluate, summary
from glimmer_ref.inference.reader import Reader
from glimmer_ref.params import checkpoint
from glimmer_ref.params.model import leaves
from glimmer_ref.progress import progress
from glimmer_ref.training.recipe import OTHERS

ROOT = Path(__file__).resolve().parent.parent
CARD = Path(__file__).resolve().parent / "bundle.md"
OF_MODEL = ("config.json", "model.safetensors", "tokenizer.json")
OF_TEST = ("passages.jsonl", "questions.jsonl")
MEASURES = ("exact_match", "recall_at_m", "recall_at_m_of_retrieval")
SYSTEMS = (("glimmer", 25, 5), ("lumen", 10, None), ("fid", 10, None), ("fid", 5, None))
FOREIGN = (
    "who is the president of France?", "what is the capital of Italy?", "when was Albert Einstein born?",
    "who wrote Hamlet?", "how many legs has a spider?", "what is the longest river of Africa?",
    "who painted the Mona Lisa?", "why is the sky blue?", "what is two plus two?", "who won the world cup in 1998?",
    "how do I boil an egg?", "what language is spoken in Brazil?", "who invented the telephone?",
    "what is the weather today?", "where is Mount Everest?", "when did the second world war end?",
    "who sang Thriller?", "what does DNA stand for?", "who founded Microsoft?", "where was Mozart born?",
    "which company makes the iPhone?", "who wrote the novel Emma?", "in which year did Apollo 11 land on the moon?",
    "is the earth flat?",
)  # fmt: skip


def percent(values: Iterable[Any]) -> list[str]:
    """Cells of a table, in percent."""
    return ["-" if v is None else f"{v:.1f}" for v in values]


def reachable(questions: list[Question], k: int) -> set[str]:
    """Ids of the questions whose gold passages are all among the first k candidates."""
    return {q.id for q in questions if set(q.gold) <= set(q.candidates[:k])}


def inside(rows: Iterable[dict[str, Any]], questions: list[Question], k: int) -> dict[str, Any]:
    """The scores of the questions whose gold passages are all among the first k candidates."""
    found = reachable(questions, k)
    return summary(row for row in rows if row["id"] in found)


def by_task(reader: Reader, questions: list[Question], memory: Any) -> list[str]:
    """GLIMMER's table by task; one column has only the questions whose gold passages were all retrieved."""
    name, k, m = SYSTEMS[0]
    result, rows = evaluate(reader, questions, memory, name, k, m, progress)
    of_found = inside(rows, questions, k)
    found = f"where all gold passages are in the {k}"
    head = ["task", "questions", "exact match", found, f"recall@{m}", f"BM25's recall@{m}"]
    cells = []
    for task, scores in [*result["tasks"].items(), ("mean of tasks", result)]:
        within = of_found if scores is result else of_found["tasks"].get(task, {})
        shares = percent([scores["exact_match"], within.get("exact_match"), *(scores[n] for n in MEASURES[1:])])
        cells.append([task, f"{scores['questions']:,}", *shares])
    return tables.markdown(cells, head)


def beside(reader: Reader, questions: list[Question], memory: Any) -> list[str]:
    """A table of the three systems with the same weights."""
    cells = []
    for name, k, m in SYSTEMS:
        result, rows = evaluate(reader, questions, memory, name, k, m, progress)
        shares = percent([result["exact_match"], inside(rows, questions, k)["exact_match"]])
        cells.append([name, k, m or "", *shares])
    return tables.markdown(cells, ["system", "k", "m", "exact match", "where all gold passages are in the k"])


def refused(reader: Reader, questions: list[Question], memory: Any) -> str:
    """The share of questions that GLIMMER answers by its "no answer", in percent."""
    name, k, m = SYSTEMS[0]
    rows = list(answers(reader, questions, memory, name, k, m, progress))
    return f"{100 * sum(not answer.answered for _, answer in rows) / len(rows):.1f}"


def saying_no(reader: Reader, questions: list[Question], memory: Any) -> list[str]:
    """A table of how often GLIMMER says that it has no answer, to questions with and without one."""
    k = SYSTEMS[0][1]
    found = reachable(questions, k)
    removed = [replace(q, candidates=tuple(c for c in q.candidates if c not in q.gold)) for q in questions]
    foreign = [Question(str(i), "", text, (), (), ()) for i, text in enumerate(FOREIGN)]
    asked = {
        f"all gold passages are in the {k}": [q for q in questions if q.id in found],
        f"a gold passage is not in the {k}": [q for q in questions if q.id not in found],
        "the gold passages were taken out": removed,
        f"questions about our world, such as {FOREIGN[0]!r}": foreign,
    }
    cells = [[name, f"{len(some):,}", refused(reader, some, memory)] for name, some in asked.items()]
    return tables.markdown(cells, ["questions", "how many", f"answered {reader.config.no_answer!r}, in percent"])


def trained(run: Path, world: dict[str, Any], kept: str = "best") -> list[str]:
    """The weights, steps and stages of the run; `kept` is the model that is taken: "best" or "last"."""
    position = json.loads((run / "last" / "position.json").read_text())
    recipe = position["recipe"]
    size = sum(np.size(x) for x in leaves(checkpoint.load(run / "best")).values())
    lines = [
        f"- {size:,} weights in float32; seed {recipe['top']['seed']}; worlds of seed {world['seed']}.",
        f"- {position['step']:,} steps in {position['seconds'] / 60:.0f} minutes, evaluations included; the weights "
        + (f"are those of step {position['best']['step']:,}, the best on dev." if kept == "best" else "are the last."),
        "",
    ]
    head = ["stage", "steps", "questions a step", "k", "m", "gold forced", "lambda", "weights of tasks, else 1"]
    rows = []
    for stage in recipe["stages"]:
        cells = [stage[name] for name in ("name", "steps", "batch", "k", "m", "force_gold", "lambda_")]
        shares = {"others" if task == OTHERS else task: weight for task, weight in stage["tasks"].items()}
        cells.append(", ".join(f"{task} {weight:g}" for task, weight in shares.items()))
        rows.append(cells)
    return [*lines, *tables.markdown(rows, head)]


def put_together(run: Path, worlds: Path, out: Path) -> None:
    """Write all files of the bundled model into an empty folder."""
    test = worlds / "test"
    for folder, names in (
        (run / "best", OF_MODEL),
        (worlds, ("groups.json",)),
        (test, OF_TEST),
        (run, ("curves.png",)),
    ):
        for name in names:
            if not (folder / name).is_file():
                raise InputError(
                    str(folder / name), "a file of the run and its worlds", "none", "see benchmarks/README.md"
                )
            shutil.copy(folder / name, out / name)
    reader = glimmer_ref.load(out)
    memory = reader.memorize(read_passages(out / "passages.jsonl"))
    questions = list(read_questions(out / "questions.jsonl"))
    tables = {
        "trained": trained(run, json.loads((worlds / "world.json").read_text())),
        "tasks": by_task(reader, questions, memory),
        "systems": beside(reader, questions, memory),
        "no": saying_no(reader, questions, memory),
    }
    text = CARD.read_text()
    for name, lines in tables.items():
        text = text.replace(f"<!-- {name} -->", "\n".join(lines))
    (out / "README.md").write_text(text)


def main() -> int:
    """Make the new folder, and replace the old one by it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("worlds", type=Path)
    parser.add_argument("--into", type=Path, default=ROOT / "weights" / "mini")
    args = parser.parse_args()
    args.into.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.into.parent) as folder:
        made = Path(folder) / "made"
        made.mkdir()
        put_together(args.run, args.worlds, made)
        if args.into.exists():
            args.into.rename(Path(folder) / "before")
        made.rename(args.into)
    print((args.into / "README.md").read_text())
    return 0


if __name__ == "__main__":
    results.run(main, __file__)
