"""One step: the loss of a batch, its gradients, and the weights after Adafactor's update."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from ..config import GlimmerConfig
from ..errors import InputError
from ..instruments import Dropout, Tape
from ..ops import Ops
from ..paper.distillation import Loss, SelectionOverride
from ..paper.lumen import encode_passages
from ..paper.systems import FROM_TEXT, SYSTEMS, loss
from ..params.model import Model, from_arrays, leaves, prepare_params, shapes
from ..params.recut import cut
from ..ragged import Array, Ints, offsets
from .adafactor import Adafactor, Weights
from .batches import Batch, microbatches
from .recipe import Stage


class StepResult(NamedTuple):
    """The results of one step.

    Args:
        losses: the losses of the whole batch: "lm", and "pdist" times lambda.
        gradients: the gradients of the weights that are not frozen, by name.
        recall: share of the gold passages that have one of the m best scores; None if nothing is ranked.
    """

    losses: dict[str, float]
    gradients: Weights
    recall: float | None


def frozen_names(names: Iterable[str], patterns: Iterable[str], location: str) -> set[str]:
    """The names of the weights that a stage freezes, which means that they are not updated.

    Args:
        patterns: names, or beginnings of names up to a dot; both may contain *.

    Raises:
        InputError: a pattern matches no weight, or the patterns match all weights.
    """
    names, found = list(names), set()
    for pattern in patterns:
        some = {n for n in names if fnmatchcase(n, pattern) or fnmatchcase(n, f"{pattern}.*")}
        if not some:
            raise InputError(f"{location}.frozen", f"names of weights, such as {names[0]} or memory", pattern)
        found |= some
    if len(found) == len(names):
        raise InputError(f"{location}.frozen", "weights that are left to learn", "none")
    return found


def gold_in(batch: Batch, selected: list[Ints]) -> float:
    """The share of a question's gold passages that was selected, as a mean over the questions with gold passages."""
    shares = [len(set(g) & set(s.tolist())) / len(g) for g, s in zip(batch.gold, selected, strict=True) if g]
    return fmean(shares) if shares else 0.0


def force_gold(batch: Batch) -> SelectionOverride:
    """An override of the selection for forced examples.

    It selects all gold passages. The other passages with the best scores follow, until there are m.
    """

    def override(scores: np.ndarray, selected: list[Ints]) -> list[Ints]:
        starts, result = offsets(batch.counts), []
        for i, best in enumerate(selected):
            if batch.forced[i]:
                others = [s for s in best.tolist() if s not in batch.gold[i]]
                best = np.array([*batch.gold[i], *others[: max(0, len(best) - len(batch.gold[i]))]], np.int64)
                best = best[np.argsort(-scores[starts[i] + best], kind="stable")]
            result.append(best)
        return result

    return override


def any_system(rng: np.random.Generator) -> str:
    """A random system, GLIMMER twice as often as another, because only its steps teach to rank."""
    return str(rng.choice(["glimmer", "glimmer", "lumen", "fid"]))


def any_cut(model: Model, rng: np.random.Generator) -> tuple[str, Model]:
    """A random system, and the model at a random alpha and beta of whole layers; it shares the model's arrays."""
    system = str(rng.choice(list(SYSTEMS)))
    layers = model.config.t5.num_layers
    live = int(rng.integers(layers + 1))
    rerank = int(rng.integers(live + 1))
    config = replace(model.config, num_memory_layers=layers - live, num_live_layers=live, num_rerank_layers=rerank)
    return system, cut(model, config)


def _with_dropout(tape: Tape, rate: float, rng: np.random.Generator) -> Any:
    return Dropout(tape, rate, rng) if rate else tape


class StepContext(NamedTuple):
    """The context that all steps of a stage share.

    Args:
        ops: operations of a backend with gradients.
        frozen: names of the weights that are not updated.
    """

    ops: Ops
    config: GlimmerConfig
    system: str
    stage: Stage
    frozen: frozenset[str]

    def loss_and_gradients(self, weights: Weights, batch: Batch, rng: np.random.Generator) -> StepResult:
        """Losses and gradients of a batch, computed in `stage.accumulate` microbatches.

        Each microbatch is weighted by its share of the answers' tokens (lm) or of the questions (pdist), so that the
        sums equal the losses and gradients of the whole batch.

        Args:
            rng: for dropout.
        """
        model = prepare_params(self.ops, from_arrays(self.config, weights))
        trained = {name: x for name, x in leaves(model).items() if name not in self.frozen}
        system = self.system
        if self.stage.cuts == "systems":
            system = any_system(rng)
        if self.stage.cuts == "any":
            system, model = any_cut(model, rng)
        losses: dict[str, float] = {}
        gradients: Weights = {}
        recall = 0.0
        for piece in microbatches(batch, self.stage.accumulate):
            tape = Tape(self.ops)
            got, best = self._loss(_with_dropout(tape, self.stage.dropout, rng), system, model, piece)
            shares = {
                "lm": piece.target.ids.size / batch.target.ids.size,
                "pdist": len(piece.question) / len(batch.question),
            }
            for name, term in got.terms.items():
                losses[name] = losses.get(name, 0.0) + shares[name] * term.value
            output_grads = [(t.result, t.cotangent * shares[name]) for name, t in got.terms.items()]
            _add(gradients, tape.gradients(output_grads, trained))
            recall += gold_in(piece, best) * shares["pdist"]
        return StepResult(losses, gradients, None if got.scores is None else recall)

    def _loss(self, ops: Any, system: str, model: Any, batch: Batch) -> tuple[Loss, list[Ints]]:
        """The loss of a microbatch, and the passages with the m best scores, without any override."""
        stage, best = self.stage, []
        passages: Any = batch.passages
        if system not in FROM_TEXT:
            passages = encode_passages(ops.frozen() if self.memory_is_constant else ops, model, passages)

        def override(scores: np.ndarray, selected: list[Ints]) -> list[Ints]:
            best.extend(selected)
            return force_gold(batch)(scores, selected)

        got = loss(
            ops, model, system, batch.question, passages, batch.counts, batch.target, stage.m,
            stage.distillation(), override,
        )  # fmt: skip
        return got, best or got.selected

    @property
    def memory_is_constant(self) -> bool:
        """Whether all weights that compute the memory of a passage are frozen."""
        memory_weights = (name for name in shapes(self.config) if name == "embedding" or name.startswith("memory."))
        return all(name in self.frozen for name in memory_weights)


def _add(sums: dict[str, Array], more: Mapping[str, Array]) -> None:
    for name, x in more.items():
        sums[name] = sums[name] + x if name in sums else x


def first_not_finite(arrays: Mapping[str, np.ndarray]) -> str | None:
    """The name of the first array that holds an inf or nan."""
    return next((name for name, x in arrays.items() if not np.isfinite(x).all()), None)


def train_step(
    context: StepContext,
    optimizer: Adafactor,
    weights: Weights,
    moments: Weights,
    batch: Batch,
    rng: np.random.Generator,
    rate: float,
) -> tuple[Weights, Weights, StepResult]:
    """One update of the weights.

    Args:
        moments: the optimizer's state.
        rng: for dropout.
        rate: the learning rate.

    Returns:
        The weights and the optimizer's state after the update, and the losses and gradients of the batch.

    Raises:
        InputError: a loss, a gradient or a weight is not finite. The message names it.
    """
    with np.errstate(
        over="ignore", invalid="ignore", divide="ignore"
    ):  # numbers that are not finite are reported below
        result = context.loss_and_gradients(weights, batch, rng)
        bad = first_not_finite(result.gradients)
        if bad is not None or not np.isfinite(list(result.losses.values())).all():
            losses = ", ".join(f"{name} {value:g}" for name, value in result.losses.items())
            where = f"in the gradient of {bad}" if bad else "in a loss"
            raise InputError("loss and gradients", "finite numbers", f"inf or nan {where} ({losses})", "lower the rate")
        weights, moments = optimizer.update(weights, result.gradients, moments, rate)
        bad = first_not_finite({name: weights[name] for name in result.gradients})
    if bad is not None:
        raise InputError(f"weights after the update: {bad}", "finite numbers", "inf or nan", "lower the rate")
    return weights, moments, result
