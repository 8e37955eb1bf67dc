"""The loop: steps through the stages of a recipe, evaluations, checkpoints, and going on after a stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from math import fsum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ..disk.folder import recover
from ..disk.lock import LOCK, held
from ..disk.write import NEW, clean_leftovers
from ..errors import InputError
from ..inference.reader import Reader
from ..instruments import Tape
from ..ops import Ops, bind
from ..params.model import from_arrays, leaves
from ..terminal import say
from ..text.sentencepiece import find_tokenizer_json
from ..text.tokenizer import Tokenizer
from .adafactor import Adafactor
from .batches import check_folders, draw, task_shares
from .checkpoint import State, open_checkpoint, save
from .dataset import Corpus, Groups, folders, read_corpus
from .dev_eval import Dev, judge, read_dev
from .init import first_model
from .log import Line, Log, draw_curves, evaluated
from .recipe import Recipe
from .step import Learner, Outcome, frozen_names, learn

LAST, BEST = "last", "best"
BATCHES, NOISE = 0, 1  # what a step's generators are for


@dataclass(eq=False)
class Run:
    """One run of a recipe: all that it was told and has read; only `state` changes.

    Args:
        out: the folder that everything is written to.
        name: of the operations; `threads` as `Reader` takes them.
    """

    recipe: Recipe
    out: Path
    name: str
    threads: int | None
    ops: Ops
    tokenizer: Tokenizer
    corpus: Corpus
    groups: Groups | None
    dev: Dev
    optimizer: Adafactor
    state: State
    say: Callable[[str], None]

    def learners(self) -> list[tuple[Learner, np.ndarray]]:
        """For each stage what its steps share, and how often each task is drawn; all held against the data."""
        result = []
        for i, stage in enumerate(self.recipe.stages):
            place = f"stages.{i}"
            frozen = frozen_names(self.state.weights, stage.frozen, place)
            shares = task_shares(self.corpus, stage.tasks, f"{place}.tasks")
            check_folders(self.corpus, stage, place)
            learner = Learner(self.ops, self.state.config, self.recipe.top.system, stage, frozenset(frozen))
            result.append((learner, shares))
        return result

    def step(self, learner: Learner, shares: np.ndarray) -> Outcome:
        """The next step; its batch and its dropout are drawn from (seed, stage, step) alone."""
        stage, i = self.recipe.place(self.state.step)
        batches, noise = (np.random.default_rng([self.recipe.top.seed, stage, i, use]) for use in (BATCHES, NOISE))
        batch = draw(self.corpus, learner.stage, shares, self.groups, batches)
        rate = learner.stage.rate_at(i)
        try:
            weights, moments, outcome = learn(
                learner, self.optimizer, self.state.weights, self.state.moments, batch, noise, rate
            )
        except InputError as error:
            raise InputError(
                f"step {self.state.step + 1} (stage {stage_name(self.recipe, stage)}, its step {i + 1})",
                "a step that can be taken",
                str(error),
                f"{self.out / LAST} is the last good checkpoint",
            ) from None
        self.state = self.state.moved(weights=weights, moments=moments, step=self.state.step + 1)
        return outcome

    def save(self) -> None:
        """The last checkpoint, in place of the one before."""
        save(self.out / LAST, self.state, self.tokenizer.json, facts(self.recipe, self.name))

    def judge(self) -> dict[str, Any]:
        """Evaluate, as a line of the log; a best one is kept apart."""
        model = from_arrays(self.state.config, self.state.weights)
        reader = Reader(model, self.tokenizer, self.name, threads=self.threads)
        record = {"step": self.state.step, **judge(reader, self.dev, self.recipe)}
        best = self.state.best
        self.state = self.state.moved(judged=self.state.step)
        if best is None or (record["exact_match"] or 0) > (best["exact_match"] or 0):
            self.state = self.state.moved(best=record)
            save(self.out / BEST, self.state, self.tokenizer.json, facts(self.recipe, self.name), whole=False)
        return record


def facts(recipe: Recipe, ops: str) -> dict[str, Any]:
    """What decides every bit of a run: all of the recipe but where the data lies and how often it is judged."""
    facts = asdict(recipe)
    del facts["evaluation"], facts["data"]["root"]
    return {**facts, "ops": ops}


def stage_name(recipe: Recipe, i: int) -> str:
    """A stage's name, or its number."""
    return recipe.stages[i].name or str(i)


def _tokenizer(recipe: Recipe, root: Path) -> Tokenizer:
    """The recipe's own, or that of the folder that it begins from, a T5's spiece.model included."""
    if recipe.data.tokenizer:
        path = root / recipe.data.tokenizer
        if not path.is_file():
            raise InputError(f"{path}", "the recipe's tokenizer", "no such file", "say where its data is: --data DIR")
        return Tokenizer(path)
    text = find_tokenizer_json(recipe.model.init)
    if text is None:
        raise InputError(
            f"{recipe.model.init}", "a folder with tokenizer.json or spiece.model", "neither", "model.init?"
        )
    with TemporaryDirectory() as place:
        path = Path(place) / "tokenizer.json"
        path.write_text(text, encoding="utf-8", newline="\n")
        return Tokenizer(path)


def _check_out(out: Path, resume: bool) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}", "a folder", "something else")
    killed = (LOCK, f".{LAST}{NEW}", f".{BEST}{NEW}")  # of a run that has not saved anything yet
    if not resume and any(path.name not in killed for path in out.iterdir()):
        raise InputError(f"{out}", "a new or empty folder", "something there already", "go on with it by --resume?")


def _tidy(out: Path) -> None:
    """What a kill has left goes, once the folder is held."""
    recover(out / LAST)
    recover(out / BEST)
    clean_leftovers(out)


def _learning(name: str, threads: int | None) -> Ops:
    """The operations, refused where they cannot learn or not with so many threads: before anything is written."""
    ops = bind(name)
    with ops.limited(threads):
        Tape(ops)
    return ops


def prepare(recipe: Recipe, out: Path, ops: str, threads: int | None, resume: bool, say: Callable[[str], None]) -> Run:
    """Read and check everything that a run needs, and write its first checkpoint into a folder that is held.

    Raises:
        InputError: data, weights or a checkpoint that are missing, broken or do not fit the recipe.
    """
    bound = _learning(ops, threads)
    _tidy(out)
    root, optimizer = Path(recipe.data.root), recipe.optimizer.settings()
    if resume:
        state = open_checkpoint(out / LAST, facts(recipe, ops))
        optimizer.check(state.weights, state.moments)
        tokenizer = Tokenizer(out / LAST / "tokenizer.json")
    else:
        tokenizer = _tokenizer(recipe, root)
        model = first_model(recipe.model, recipe.top.seed, tokenizer.size)
        weights = {name: np.array(x, np.float32) for name, x in leaves(model).items()}
        state = State(model.config, weights, optimizer.start(weights))
    size = state.config.t5.vocab_size
    if tokenizer.size > size:
        raise InputError("data.tokenizer", f"at most the model's vocab_size={size} tokens", str(tokenizer.size))
    corpus = read_corpus(state.config, tokenizer, folders(root, recipe.data.train))
    groups = Groups.read(root / recipe.data.groups, size) if recipe.data.groups else None
    run = Run(
        recipe, out, ops, threads, bound, tokenizer, corpus, groups, read_dev(root, recipe), optimizer, state, say
    )  # fmt: skip
    run.learners()
    if not resume:
        run.save()
    return run


def _is_due(run: Run) -> bool:
    """Is an evaluation to be made now: every so many steps, and after the last one of a stage?"""
    stage, i = run.recipe.place(run.state.step - 1)
    due = run.state.step % run.recipe.evaluation.every == 0 or i + 1 == run.recipe.stages[stage].steps
    return due and run.state.judged < run.state.step


def _judge(run: Run, log: Log, line: Line) -> None:
    """Evaluate, tell, and keep: the log's line first, so that a checkpoint is never ahead of its log."""
    start = time.monotonic()
    record = run.judge()
    run.state = run.state.moved(seconds=run.state.seconds + time.monotonic() - start)
    log.write({**record, "seconds": round(run.state.seconds, 1)})
    run.save()
    line.clear()
    try:
        draw_curves(run.out)
    except InputError as error:  # what was learnt is not given up for a picture
        run.say(f"no curves: {error}")
    words = evaluated(record)
    line.judged = f"  dev: {words}"
    run.say(f"step {run.state.step}  {words}  {run.state.seconds:.0f} s")


def _steps(run: Run, log: Log) -> None:
    learners = run.learners()
    line = Line(run.recipe.steps, run.state.step)
    if run.state.step and _is_due(run):  # stopped between a step and its evaluation
        _judge(run, log, line)
    while run.state.step < run.recipe.steps:
        start = time.monotonic()
        stage, i = run.recipe.place(run.state.step)
        learner, shares = learners[stage]
        outcome = run.step(learner, shares)
        losses = {"loss": fsum(outcome.losses.values()), **outcome.losses}
        found = {} if outcome.recall is None else {"recall": outcome.recall}
        record = {"step": run.state.step, "stage": stage, **losses, **found, "rate": learner.stage.rate_at(i)}
        log.write(record)
        line.draw(record, stage_name(run.recipe, stage))
        run.state = run.state.moved(seconds=run.state.seconds + time.monotonic() - start)
        if _is_due(run):
            _judge(run, log, line)
        elif run.state.step % run.recipe.evaluation.save == 0:
            run.save()
    line.clear()


def _go(run: Run) -> None:
    log = Log(run.out, run.state.step, run.state.judged)
    try:
        with run.ops.limited(run.threads):
            _steps(run, log)
    except KeyboardInterrupt:
        run.save()
        raise
    finally:
        log.close()


def train(
    recipe: Recipe,
    out: str | Path,
    ops: str = "numba",
    threads: int | None = None,
    resume: bool = False,
    say: Callable[[str], None] = say,
) -> State:
    """Train as a recipe says, writing checkpoints `last` and `best`, log.jsonl and curves.png into `out`.

    Args:
        ops: the operations' name.
        threads: see `Reader`; with "numba" all that a step computes keeps to them, since nothing of it is BLAS.
        resume: go on from `out`'s last checkpoint, to the numbers that an uninterrupted run gives, bit for bit (on
            the same machine; with "numpy", with as many threads of its BLAS).
        say: takes lines for people.

    Returns:
        The state after the last step.

    Raises:
        InputError: whatever in recipe, data or folder is missing, broken or does not fit; a step that gave a number
            that is not finite; a place that is full. The last good checkpoint is kept.
        KeyboardInterrupt: after a checkpoint was written.
    """
    with held(out, partial(_check_out, resume=resume)):
        run = prepare(recipe, Path(out), ops, threads, resume, say)
        weights = sum(x.size for x in run.state.weights.values())
        say(
            f"{len(run.corpus):,} questions, {len(run.corpus.passages):,} passages, {weights:,} weights; "
            f"{run.state.step} of {recipe.steps} steps done"
        )
        _go(run)
    return run.state
