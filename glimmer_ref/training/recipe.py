"""Recipes for training: the model, the data, the optimizer, the stages and the evaluation."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ..disk.toml import key, rule
from ..ops.interface import DIRECTIONS
from ..paper.distillation import LIKELIHOODS, Distillation
from ..paper.systems import SYSTEMS
from .adafactor import Adafactor

SOURCES = ("candidates", "hard", "random")
OTHERS = "*"  # in a table of task weights, this key stands for all tasks that the table does not name


@dataclass(frozen=True)
class ModelTable:
    """[model]: the weights before the first step.

    Args:
        init: a T5 folder, or a model folder of this package, of any system, alpha and beta; "t5-mini": the bundled
            base, if there is no such folder; "": a model with random weights. The encoder is cut: the memory encoder
            gets its first layers, the live encoder its last. The encoder stacks of a model folder are joined first
            (`params.recut`).
        alpha, beta: the proportions at which the encoder is cut; "": those of the model folder.
        score: whether the score layer of a model folder is kept: "keep", or "draw" for a random one. "auto" keeps it if
            the recipe has the folder's `pool` and `score_norm`. The score layer of a T5 is random.
        reranker_init: whether a separate reranker starts as a "copy" of live-A or from "scratch" (Table 1). With
            "copy", a model folder's own separate reranker is kept.
        tied: whether the embedding of a random model is also its logits head.
        residual_scale: factor on the random weights whose products are added to an encoder's residual stream. T5 has 1.
            With (2 layers)^-0.5 the embeddings are still visible above many layers, and copying is learnt (GPT-2).
        t5: sizes of a random model, as in T5's config.json. The vocabulary size is that of the tokenizer. Beside
            `init`, sizes are not needed, and must be those of the folder.
        glimmer: further settings of `GlimmerConfig`. Those that are not given are the model folder's.
    """

    init: str = key("text", "")
    alpha: str = key("text", "")
    beta: str = key("text", "")
    score: str = key("text", "auto", choices=("auto", "keep", "draw"))
    reranker_init: str = key("text", "copy", choices=("copy", "scratch"))
    tied: bool = key("flag", False)
    residual_scale: float = key("number", 1.0, above=0, at_most=1)
    t5: dict[str, Any] = field(default_factory=dict, metadata=rule("table"))
    glimmer: dict[str, Any] = field(default_factory=dict, metadata=rule("table"))


@dataclass(frozen=True)
class DataTable:
    """[data]: folders with passages.jsonl and questions, and the files that they share.

    Args:
        root: the folder that contains the others, relative to the current directory.
        train: the folders with training data; * stands for any characters.
        dev: the folder with the data for evaluation during training.
        tokenizer: file of the tokenizer; "": the tokenizer of `model.init`. If both are there, they must be equal.
        groups: file with lists of interchangeable tokens; "": no stage can have `rename`.
        small_worlds: how many small worlds for training `glimmer-ref train` makes in the folder of --out, with one for
            dev and one for test, if neither --data nor `root` is given; 0: none.
    """

    root: str = key("text", ".")
    train: tuple[str, ...] = key("texts", ("train-*",))
    dev: str = key("text", "dev")
    tokenizer: str = key("text", "")
    groups: str = key("text", "")
    small_worlds: int = key("whole", 0, at_least=0)


@dataclass(frozen=True)
class OptimizerTable:
    """[optimizer]: the settings of `Adafactor`."""

    decay: float = key("number", 0.8, above=0, at_most=1)
    clip: float = key("number", 1.0, above=0)
    parameter_scale: bool = key("flag", True)
    least_scale: float = key("number", 1e-3, above=0)
    momentum: float = key("number", 0.0, at_least=0, below=1)
    factor_from: int = key("whole", 128, at_least=1)

    def settings(self) -> Adafactor:
        """The optimizer."""
        return Adafactor(**asdict(self))


@dataclass(frozen=True)
class Stage:
    """One of [[stages]]. The values of [every_stage] hold for each key that a stage does not have.

    Args:
        steps: number of updates.
        batch: number of questions in one update.
        accumulate: number of microbatches into which a batch is divided. They are computed one after the other, which
            needs less memory.
        k: number of passages of each question; more if it has more gold passages.
        m: number of passages that GLIMMER's decoder reads.
        gold: probability that the k passages include the question's gold passages. Otherwise all k come from the mix.
        no_answer: probability that all k passages come from the mix, without any gold one, and that the answer to learn
            is the model's `no_answer`.
        force_gold: probability that the decoder reads the gold passages regardless of their scores.
        negatives: the mix of the other passages: shares of the question's retrieved "candidates", of its "hard"
            negatives, and of "random" passages from its folder. Random passages also replace those of which there are
            too few.
        tasks: weights of tasks. A task that is not named has the weight of "*", or 1.
        rename: whether interchangeable tokens are swapped at random, differently in each example.
        dropout: rate of T5's dropout.
        rate: the learning rate. It rises in the first `warmup` steps and falls to 0 in the last `decay` steps.
        cuts: "own"; or "systems": each step draws one of the three systems, GLIMMER twice as often as another, so that
            one model learns to serve as all of them; or "any": it draws a system, each as likely as another, and alpha
            and beta among all whole layers, so that the layers learn to work at any cut.
        frozen: weights that are not updated: names, beginnings of names up to a dot, or patterns with *.
        lambda_, tau, direction, likelihood, through_p_lm: see `Distillation`.
    """

    steps: int = key("whole", at_least=1)
    batch: int = key("whole", at_least=1)
    k: int = key("whole", at_least=1)
    m: int = key("whole", at_least=1)
    rate: float = key("number", above=0)
    name: str = key("text", "")
    accumulate: int = key("whole", 1, at_least=1)
    gold: float = key("number", 1.0, at_least=0, at_most=1)
    no_answer: float = key("number", 0.0, at_least=0, below=1)
    force_gold: float = key("number", 0.0, at_least=0, at_most=1)
    negatives: dict[str, float] = field(
        default_factory=lambda: {"candidates": 1.0}, metadata=rule("shares", at_least=0)
    )
    tasks: dict[str, float] = field(default_factory=dict, metadata=rule("shares", at_least=0))
    rename: bool = key("flag", False)
    dropout: float = key("number", 0.0, at_least=0, below=1)
    warmup: int = key("whole", 0, at_least=0)
    decay: int = key("whole", 0, at_least=0)
    cuts: str = key("text", "own", choices=("own", "systems", "any"))
    frozen: tuple[str, ...] = key("texts", ())
    lambda_: float = key("number", 1.0, at_least=0)
    tau: float = key("number", 1.0, above=0)
    direction: str = key("text", "printed", choices=tuple(DIRECTIONS))
    likelihood: str = key("text", "sum", choices=LIKELIHOODS)
    through_p_lm: bool = key("flag", False)

    def rate_at(self, step: int) -> float:
        """The learning rate at step 0, 1 .. of the stage."""
        up = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return self.rate * up * (min(1.0, (self.steps - step) / self.decay) if self.decay else 1.0)

    def distillation(self) -> Distillation:
        """The settings of the distillation loss."""
        return Distillation(self.lambda_, self.tau, self.direction, self.likelihood, self.through_p_lm)


@dataclass(frozen=True)
class EvaluationTable:
    """[evaluation]: how dev questions are answered during training, and how often a checkpoint is written.

    Args:
        every: steps between two evaluations. Each stage also ends with one.
        questions: number of dev questions, evenly spaced in the file; 0: all.
        tasks: only dev questions of these tasks; none: all questions.
        k, m: as in `glimmer-ref evaluate`; 0: the values in the model's config.
        save: steps between two checkpoints. Each evaluation also writes one.
        first: whether the model is also evaluated before the first step.
    """

    every: int = key("whole", 500, at_least=1)
    questions: int = key("whole", 300, at_least=0)
    tasks: tuple[str, ...] = key("texts", ())
    k: int = key("whole", 0, at_least=0)
    m: int = key("whole", 0, at_least=0)
    save: int = key("whole", 250, at_least=1)
    first: bool = key("flag", False)


@dataclass(frozen=True)
class Top:
    """The keys before the first table.

    Args:
        system: the system that is trained.
        seed: seed of all random numbers.
    """

    system: str = key("text", "glimmer", choices=tuple(SYSTEMS))
    seed: int = key("whole", 0, at_least=0)


@dataclass(frozen=True)
class Recipe:
    """A whole recipe. `recipe_file.read_recipe` reads one."""

    top: Top
    model: ModelTable
    data: DataTable
    optimizer: OptimizerTable
    stages: tuple[Stage, ...]
    evaluation: EvaluationTable

    @property
    def steps(self) -> int:
        """Number of steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def stage_and_step(self, step: int) -> tuple[int, int]:
        """For step 0, 1 .. of the whole recipe: the index of its stage, and the index of the step in this stage."""
        for i, stage in enumerate(self.stages):
            if step < stage.steps:
                return i, step
            step -= stage.steps
        raise IndexError(step)
