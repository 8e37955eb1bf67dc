"""The training loop: steps through the stages of a recipe, evaluations, checkpoints, and resuming after a stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import fsum
from pathlib import Path
from typing import Any

import numpy as np

from ..config import EVERY_SYSTEM
from ..disk.folder import BEFORE, recover
from ..disk.lock import LOCK, lock_folder
from ..disk.write import NEW, clean_leftovers
from ..errors import InputError, brief
from ..inference.reader import Reader
from ..instruments import Tape
from ..ops import Ops, bind
from ..params.model import from_arrays, leaves
from ..terminal import say
from ..text.tokenizer import Tokenizer
from .adafactor import Adafactor
from .batches import check_folders, sample_batch, task_shares
from .checkpoint import State, open_checkpoint, save
from .dataset import Corpus, Groups, folders, read_corpus
from .dev_eval import DevSet, evaluate_dev, read_dev
from .init import first_model, first_tokenizer
from .log import Log, StatusLine, describe, plot_curves
from .recipe import Recipe, Stage
from .step import StepContext, StepResult, frozen_names, train_step

LAST, BEST = "last", "best"
BATCH, DROPOUT = 0, 1  # each step has one random generator for its batch and one for its dropout


@dataclass(eq=False)
class Run:
    """One run of a recipe: its settings, and its data. Only `state` changes.

    Args:
        out: the folder to which everything is written.
        name: name of the backend.
        threads: see `Reader`.
    """

    recipe: Recipe
    out: Path
    name: str
    threads: int | None
    ops: Ops
    tokenizer: Tokenizer
    corpus: Corpus
    groups: Groups | None
    dev: DevSet
    optimizer: Adafactor
    state: State
    say: Callable[[str], None]

    def contexts(self) -> list[tuple[StepContext, np.ndarray]]:
        """For each stage, the context of its steps and the probabilities of the tasks, checked against the data."""
        result = []
        for i, stage in enumerate(self.recipe.stages):
            location = f"stages.{i}"
            frozen = frozen_names(self.state.weights, stage.frozen, location)
            shares = task_shares(self.corpus, stage.tasks, f"{location}.tasks")
            check_folders(self.corpus, stage, location)
            self._check_no_answer(stage, location)
            if stage.cuts == "any" and frozen:
                raise InputError(f"{location}.frozen", 'no weights, beside cuts = "any"', ", ".join(stage.frozen))
            context = StepContext(self.ops, self.state.config, self.recipe.top.system, stage, frozenset(frozen))
            result.append((context, shares))
        return result

    def _check_no_answer(self, stage: Stage, location: str) -> None:
        word = self.state.config.no_answer
        if stage.no_answer and not word:
            raise InputError(f"{location}.no_answer", "0, or model.glimmer.no_answer beside it", str(stage.no_answer))
        if stage.no_answer and self.tokenizer.unknown_words(word):
            raise InputError("model.glimmer.no_answer", "words of the tokenizer", brief(word))

    def step(self, context: StepContext, shares: np.ndarray) -> StepResult:
        """Compute the next step. Its batch and its dropout depend only on (seed, stage, step)."""
        stage, i = self.recipe.stage_and_step(self.state.step)
        batches, dropout = (np.random.default_rng([self.recipe.top.seed, stage, i, use]) for use in (BATCH, DROPOUT))
        batch = sample_batch(self.corpus, context.stage, shares, self.groups, batches)
        rate = context.stage.rate_at(i)
        try:
            weights, moments, result = train_step(
                context, self.optimizer, self.state.weights, self.state.moments, batch, dropout, rate
            )
        except InputError as error:
            place = f"step {self.state.step + 1} (step {i + 1} of stage {stage_name(self.recipe, stage)})"
            raise error.at(place, f"{self.out / LAST} is the last good checkpoint") from None
        self.state = self.state.changed(weights=weights, moments=moments, step=self.state.step + 1)
        return result

    def save(self) -> None:
        """Write the checkpoint `last`, which replaces the previous one."""
        save(self.out / LAST, self.state, self.tokenizer.json, run_settings(self.recipe, self.name))

    def evaluate(self) -> dict[str, Any]:
        """Evaluate the model, write the checkpoint `best` if it is the best so far, and return a record for the log."""
        model = from_arrays(self.state.config, self.state.weights)
        reader = Reader(model, self.tokenizer, self.name, threads=self.threads)
        record = {"step": self.state.step, **evaluate_dev(reader, self.dev, self.recipe)}
        best = self.state.best
        self.state = self.state.changed(evaluated=self.state.step)
        if best is None or (record["exact_match"] or 0) > (best["exact_match"] or 0):
            self.state = self.state.changed(best=record)
            save(
                self.out / BEST, self.state, self.tokenizer.json, run_settings(self.recipe, self.name), resumable=False
            )
        return record


def run_settings(recipe: Recipe, ops: str) -> dict[str, Any]:
    """All settings that affect the weights: the recipe without the evaluation and without the place of the data."""
    settings = asdict(recipe)
    del settings["evaluation"], settings["data"]["root"], settings["data"]["small_worlds"]
    return {**settings, "ops": ops}


def stage_name(recipe: Recipe, i: int) -> str:
    """A stage's name, or its number."""
    return recipe.stages[i].name or str(i)


def _check_out(out: Path, resume: bool, made: str | None = None) -> None:
    """Check that a run may write in a folder.

    Args:
        made: name of the data in it that the run makes.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}", "a folder", "a file")
    killed = [LOCK, f".{LAST}{NEW}", f".{BEST}{NEW}"]  # files of a run that was killed before its first checkpoint
    killed += [] if made is None else [made, *(f".{made}{end}" for end in (LOCK, NEW, BEFORE))]
    if not resume and any(path.name not in killed for path in out.iterdir()):
        do = "--resume continues its run" if (out / LAST).exists() else "name another folder"
        raise InputError(f"{out}", "a new or empty folder", "one with files", do)


def _tidy(out: Path) -> None:
    """Remove the temporary files of a killed run. The caller holds the lock of the folder."""
    recover(out / LAST)
    recover(out / BEST)
    clean_leftovers(out)


def _trainable(name: str, threads: int | None) -> Ops:
    """The operations of a backend with gradients. It is checked before anything is written.

    Raises:
        InputError: the backend has no gradients, or cannot use so many threads.
    """
    ops = bind(name)
    with ops.limited(threads):
        Tape(ops)
    return ops


def prepare(recipe: Recipe, out: Path, ops: str, threads: int | None, resume: bool, say: Callable[[str], None]) -> Run:
    """Read and check everything that a run needs, and write its first checkpoint.

    The caller holds the lock of the folder `out`.

    Raises:
        InputError: data, weights or a checkpoint are missing or broken, or do not fit the recipe.
    """
    bound = _trainable(ops, threads)
    _tidy(out)
    root, optimizer = Path(recipe.data.root), recipe.optimizer.settings()
    if resume:
        state = open_checkpoint(out / LAST, run_settings(recipe, ops))
        optimizer.check(state.weights, state.moments)
        tokenizer = Tokenizer(out / LAST / "tokenizer.json")
    else:
        tokenizer = first_tokenizer(recipe, root)
        model = first_model(recipe.model, recipe.top.seed, tokenizer.size)
        weights = {name: np.array(x, np.float32) for name, x in leaves(model).items()}
        trained_as = recipe.top.system if recipe.stages[-1].cuts == "own" else EVERY_SYSTEM
        state = State(replace(model.config, trained_as=trained_as), weights, optimizer.start(weights))
    size = state.config.t5.vocab_size
    if tokenizer.size > size:
        raise InputError("data.tokenizer", f"at most the model's vocab_size={size} tokens", str(tokenizer.size))
    corpus = read_corpus(state.config, tokenizer, folders(root, recipe.data.train))
    groups = Groups.read(root / recipe.data.groups, size) if recipe.data.groups else None
    run = Run(
        recipe, out, ops, threads, bound, tokenizer, corpus, groups, read_dev(root, recipe), optimizer, state, say
    )  # fmt: skip
    run.contexts()
    if not resume:
        run.save()
    return run


def _is_due(run: Run) -> bool:
    """Whether an evaluation is due: after every `evaluation.every` steps, after each stage, and first if it says so."""
    if run.state.step == 0:
        return run.recipe.evaluation.first and run.state.evaluated < 0
    stage, i = run.recipe.stage_and_step(run.state.step - 1)
    due = run.state.step % run.recipe.evaluation.every == 0 or i + 1 == run.recipe.stages[stage].steps
    return due and run.state.evaluated < run.state.step


def _evaluate(run: Run, log: Log, line: StatusLine) -> None:
    """Evaluate, write the log, then save a checkpoint. In this order a checkpoint is never newer than the log."""
    start = time.monotonic()
    record = run.evaluate()
    run.state = run.state.changed(seconds=run.state.seconds + time.monotonic() - start)
    log.write({**record, "seconds": round(run.state.seconds, 1)})
    run.save()
    line.clear()
    try:
        plot_curves(run.out)
    except InputError as error:  # training continues without the picture
        run.say(f"no curves: {error}")
    words = describe(record)
    line.exact_match = record["exact_match"]
    run.say(f"step {run.state.step}  {words}  {run.state.seconds:.0f} s")


def _steps(run: Run, log: Log) -> None:
    contexts = run.contexts()
    line = StatusLine(run.recipe.steps)
    if _is_due(run):  # before the first step, or if the run was stopped between a step and its evaluation
        _evaluate(run, log, line)
    while run.state.step < run.recipe.steps:
        start = time.monotonic()
        stage, i = run.recipe.stage_and_step(run.state.step)
        context, shares = contexts[stage]
        result = run.step(context, shares)
        losses = {"loss": fsum(result.losses.values()), **result.losses}
        recall = {} if result.recall is None else {"recall": result.recall}
        record = {"step": run.state.step, "stage": stage, **losses, **recall, "rate": context.stage.rate_at(i)}
        log.write(record)
        line.update(record, stage_name(run.recipe, stage))
        run.state = run.state.changed(seconds=run.state.seconds + time.monotonic() - start)
        if _is_due(run):
            _evaluate(run, log, line)
        elif run.state.step % run.recipe.evaluation.save == 0:
            run.save()
    line.clear()


def _run(run: Run) -> None:
    log = Log(run.out, run.state.step, run.state.evaluated)
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
    make_data: Callable[[], object] | None = None,
) -> State:
    """Train a model by a recipe. `out` gets the checkpoints `last` and `best`, log.jsonl and curves.png.

    Args:
        ops: name of the backend.
        threads: see `Reader`. With "numba" the limit holds for the whole step, since no product uses BLAS.
        resume: whether to continue from the last checkpoint in `out`. The result has the same bits as that of an
            uninterrupted run on the same machine. With "numpy", the number of BLAS threads must also be the same.
        say: prints a message.
        make_data: makes the data in the recipe's `data.root`, which is then a folder in `out`. It runs once `out` is
            known to be free.

    Returns:
        The state after the last step.

    Raises:
        InputError: something in the recipe, the data or the folder is missing or broken, or does not fit; a number in a
            step is not finite; the disk is full. The last good checkpoint is kept.
        KeyboardInterrupt: Ctrl-C, after a checkpoint was written.
    """
    made = None if make_data is None else Path(recipe.data.root).name
    with lock_folder(out, partial(_check_out, resume=resume, made=made)):
        if make_data is not None:
            make_data()
        run = prepare(recipe, Path(out), ops, threads, resume, say)
        weights = sum(x.size for x in run.state.weights.values())
        say(
            f"{len(run.corpus):,} questions, {len(run.corpus.passages):,} passages, {weights:,} weights; "
            f"{run.state.step} of {recipe.steps} steps done"
        )
        _run(run)
    return run.state
