"""A recipe: what is trained, on what, how and how long."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ..ops.interface import DIRECTIONS
from ..paper.distillation import LIKELIHOODS, Distillation
from ..paper.systems import SYSTEMS
from .adafactor import Adafactor
from .schema import key, rule

SOURCES = ("candidates", "hard", "random")
OTHERS = "*"  # in a table of task weights: all tasks that it does not name


@dataclass(frozen=True)
class ModelTable:
    """[model]: the weights before the first step.

    Args:
        init: a T5 folder to cut (memory takes its first layers, live the last), or a folder of ours to go on
            from; none: weights are drawn.
        alpha, beta: where T5's encoder, or the drawn one, is cut.
        reranker_init: a separate reranker starts as live-A's "copy" or from "scratch" (Table 1).
        tied: a drawn model's head is its embedding.
        t5: sizes of a drawn model, as in T5's config.json; the vocabulary is the tokenizer's.
        glimmer: other settings of `GlimmerConfig`.
    """

    init: str = key("text", "")
    alpha: str = key("text", "")
    beta: str = key("text", "")
    reranker_init: str = key("text", "copy", choices=("copy", "scratch"))
    tied: bool = key("flag", False)
    t5: dict[str, Any] = field(default_factory=dict, metadata=rule("table"))
    glimmer: dict[str, Any] = field(default_factory=dict, metadata=rule("table"))


@dataclass(frozen=True)
class DataTable:
    """[data]: folders with passages.jsonl and questions, and what they share.

    Args:
        root: the folder that the others are in; as seen from where the command runs.
        train: folders to learn from; * stands for anything.
        dev: the folder to be judged on.
        tokenizer: its file; none: that of `model.init`.
        groups: a file of lists of interchangeable tokens; none: nothing can be renamed.
    """

    root: str = key("text", ".")
    train: tuple[str, ...] = key("texts", ("train-*",))
    dev: str = key("text", "dev")
    tokenizer: str = key("text", "")
    groups: str = key("text", "")


@dataclass(frozen=True)
class OptimizerTable:
    """[optimizer]: Adafactor's settings, see there."""

    decay: float = key("number", 0.8, least=0, most=1, open="below")
    clip: float = key("number", 1.0, least=0, open="below")
    parameter_scale: bool = key("flag", True)
    least_scale: float = key("number", 1e-3, least=0, open="below")
    momentum: float = key("number", 0.0, least=0, most=1, open="above")
    factor_from: int = key("whole", 128, least=1)

    def settings(self) -> Adafactor:
        """As the optimizer takes them."""
        return Adafactor(**asdict(self))


@dataclass(frozen=True)
class Stage:
    """One of [[stages]]; what [every_stage] says holds where a stage says nothing.

    Args:
        steps: updates.
        batch: questions of each.
        accumulate: parts that a batch is computed in, one after the other, to need less memory.
        k: passages of each question; all of its gold passages where these are more.
        m: passages that GLIMMER's decoder reads.
        gold: how often a question's gold passages are put among its k; else they come from the mix alone.
        force_gold: how often they also go to the decoder whatever their scores.
        negatives: shares of the other passages: the question's retrieved "candidates", its "hard" negatives, or
            "random" ones of the same folder, which also stand in where the others run out.
        tasks: weights of tasks; those that are not named have that of "*", or 1.
        rename: interchangeable tokens are swapped at random, otherwise in each example.
        dropout: T5's, everywhere.
        rate: the learning rate, after `warmup` steps up to it; in the last `decay` steps it falls to 0.
        frozen: weights that stay as they are: names, or their first words, or patterns with *.
        lambda_, tau, direction, likelihood, through_p_lm: see `Distillation`.
    """

    steps: int = key("whole", least=1)
    batch: int = key("whole", least=1)
    k: int = key("whole", least=1)
    m: int = key("whole", least=1)
    rate: float = key("number", least=0, open="below")
    name: str = key("text", "")
    accumulate: int = key("whole", 1, least=1)
    gold: float = key("number", 1.0, least=0, most=1)
    force_gold: float = key("number", 0.0, least=0, most=1)
    negatives: dict[str, float] = field(default_factory=lambda: {"candidates": 1.0}, metadata=rule("shares", least=0))
    tasks: dict[str, float] = field(default_factory=dict, metadata=rule("shares", least=0))
    rename: bool = key("flag", False)
    dropout: float = key("number", 0.0, least=0, most=1, open="above")
    warmup: int = key("whole", 0, least=0)
    decay: int = key("whole", 0, least=0)
    frozen: tuple[str, ...] = key("texts", ())
    lambda_: float = key("number", 1.0, least=0)
    tau: float = key("number", 1.0, least=0, open="below")
    direction: str = key("text", "printed", choices=tuple(DIRECTIONS))
    likelihood: str = key("text", "sum", choices=LIKELIHOODS)
    through_p_lm: bool = key("flag", False)

    def rate_at(self, step: int) -> float:
        """The learning rate of the stage's step 0, 1 ..."""
        up = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return self.rate * up * (min(1.0, (self.steps - step) / self.decay) if self.decay else 1.0)

    def distillation(self) -> Distillation:
        """As the loss takes it."""
        return Distillation(self.lambda_, self.tau, self.direction, self.likelihood, self.through_p_lm)


@dataclass(frozen=True)
class EvaluationTable:
    """[evaluation]: how dev questions are answered while it learns, and how often a checkpoint is written.

    Args:
        every: steps between two evaluations; one more comes at the end of each stage.
        questions: how many, evenly from the file; 0: all.
        k, m: as in `glimmer-ref evaluate`; 0: the model's own.
        save: steps between two checkpoints; one more comes with each evaluation.
    """

    every: int = key("whole", 500, least=1)
    questions: int = key("whole", 300, least=0)
    k: int = key("whole", 0, least=0)
    m: int = key("whole", 0, least=0)
    save: int = key("whole", 250, least=1)


@dataclass(frozen=True)
class Top:
    """What stands before the first table.

    Args:
        system: whose decoder's memory is learnt to be made and read.
        seed: of everything that is drawn.
    """

    system: str = key("text", "glimmer", choices=tuple(SYSTEMS))
    seed: int = key("whole", 0, least=0)


@dataclass(frozen=True)
class Recipe:
    """All of a recipe; `recipe_file.read_recipe` makes one."""

    top: Top
    model: ModelTable
    data: DataTable
    optimizer: OptimizerTable
    stages: tuple[Stage, ...]
    evaluation: EvaluationTable

    @property
    def steps(self) -> int:
        """Of all stages."""
        return sum(stage.steps for stage in self.stages)

    def place(self, step: int) -> tuple[int, int]:
        """Which stage the step 0, 1 .. belongs to, and which of its steps it is."""
        for i, stage in enumerate(self.stages):
            if step < stage.steps:
                return i, step
            step -= stage.steps
        raise IndexError(step)
