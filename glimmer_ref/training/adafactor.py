"""Adafactor (Shazeer and Stern 2018), the optimizer of T5 and of the paper's section 4.1, with the settings of t5x."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import InputError

Weights = dict[str, np.ndarray]
STEP = "step"  # the name of the number of updates in the state; no weight has this name


@dataclass(frozen=True)
class Adafactor:
    """The settings of the optimizer. Its methods take the weights and the state, and return new ones.

    Args:
        decay: at update t = 1, 2 .., the second moments decay by the factor 1 - t^-decay.
        clip: maximum root mean square of an update. A larger update is scaled down to it.
        parameter_scale: whether the learning rate is multiplied by the weight's root mean square.
        least_scale: lower bound of that root mean square, so that a weight of zeros can change.
        momentum: decay of the first moment; 0: there is no first moment.
        factor_from: for a matrix with at least so many rows and columns, the state keeps only the means of rows and of
            columns.
        tiny: is added to each squared gradient.

    Source: defaults are those of t5x's Adafactor for T5: factored from 128, decay 0.8, clipping at 1,
        parameter scale of at least 1e-3, 1e-30 beside the squares, no first moment.
    """

    decay: float = 0.8
    clip: float = 1.0
    parameter_scale: bool = True
    least_scale: float = 1e-3
    momentum: float = 0.0
    factor_from: int = 128
    tiny: float = 1e-30

    def start(self, weights: Mapping[str, np.ndarray]) -> Weights:
        """The state before the first update: the moments of each weight and the number of updates, all 0."""
        state = {STEP: np.zeros(1, np.int64)}
        for name, w in weights.items():
            for kind, shape in self._moments(w.shape).items():
                state[f"{name}.{kind}"] = np.zeros(shape, w.dtype)
        return state

    def check(self, weights: Mapping[str, np.ndarray], state: Mapping[str, np.ndarray]) -> None:
        """Check that a state that was read from a file fits the weights.

        Raises:
            InputError: an array that is missing, unknown, or of another shape or type. The message names it.
        """
        expected = self.start(weights)
        for name in sorted(expected.keys() | state.keys()):
            forms = [f"{x[name].dtype}{list(x[name].shape)}" if name in x else "none" for x in (expected, state)]
            if forms[0] != forms[1]:
                raise InputError(f"optimizer state: {name}", forms[0], forms[1], "it is another recipe's, or damaged")

    def update(
        self, weights: Weights, gradients: Mapping[str, np.ndarray], state: Weights, rate: float
    ) -> tuple[Weights, Weights]:
        """W_t = W_t-1 - rate max(least_scale, RMS(W)) U / max(1, RMS(U) / clip), U = G / sqrt(V).

        Args:
            weights: arrays by name. A weight without a gradient stays the same array, and so do its moments.
            gradients: the gradients of some of the weights, by name.
            rate: the learning rate of this update.

        Returns:
            All weights and the whole state after the update. The arguments are not changed.

        Paper: 4.1 Adafactor
        """
        step = state[STEP] + 1
        keep = 1 - float(step[0]) ** -self.decay
        weights, state = dict(weights), {**state, STEP: step}
        for name, g in gradients.items():
            w = weights[name]
            u = self._normalised(name, g, state, keep)
            scale = max(self.least_scale, _rms(w)) if self.parameter_scale else 1.0
            u *= rate * scale / max(1.0, _rms(u) / self.clip)
            if self.momentum:
                moment = state[f"{name}.first"] * self.momentum
                moment += u * (1 - self.momentum)
                state[f"{name}.first"] = u = moment
            weights[name] = w - u
        return weights, state

    def _moments(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """The arrays that the state holds for a weight: name -> shape."""
        factored = len(shape) == 2 and min(shape) >= self.factor_from
        second = {"rows": shape[:1], "columns": shape[1:]} if factored else {"squares": shape}
        return second | ({"first": shape} if self.momentum else {})

    def _normalised(self, name: str, g: np.ndarray, state: Weights, keep: float) -> np.ndarray:
        """G / sqrt(V) as a new array. Updates the second moments in `state`."""
        squares = np.square(g)
        squares += self.tiny
        if f"{name}.squares" in state:
            v = _moving_average(state, f"{name}.squares", squares, keep)
            return g / np.sqrt(v)
        rows = _moving_average(state, f"{name}.rows", squares.mean(axis=1), keep)
        columns = _moving_average(state, f"{name}.columns", squares.mean(axis=0), keep)
        # V = rows columns / mean(rows). Both factors are inverted before they are multiplied, since a product of two
        # small squares may be below the smallest float.
        u = g * (1 / np.sqrt(rows / rows.mean()))[:, None]
        u *= 1 / np.sqrt(columns)
        return u


def _moving_average(state: Weights, name: str, value: np.ndarray, keep: float) -> np.ndarray:
    """The moving average keep * old + (1 - keep) * value. It replaces the old average in the state."""
    moved = state[name] * keep
    value *= 1 - keep
    moved += value
    state[name] = moved
    return moved


def _rms(x: np.ndarray) -> float:
    """Root mean square. The order of summation does not depend on the number of threads."""
    return math.sqrt(float(np.square(x).mean()))
