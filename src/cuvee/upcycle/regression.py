"""A router that chooses on each model's text as that model's own router does, by weighted least squares.

With inputs xₜ [width], the logits zₜ [experts] that are wanted for them and p = softmax of a router's logits there:

    min over W of Σ (W·x - z)ᵀ H(x) (W·x - z),    H(x) = diag(p) - p·pᵀ

H is the curvature of the cross entropy between the choices of routers, so that logits of experts which nobody would
choose count little (HARC, arXiv:2606.03391). The normal equations are solved by conjugate gradients without their
matrix, which would be [experts · width, experts · width]. Everything is float64.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

MOST_STEPS = 1000
TOLERANCE = 1e-8
"""Of the right side: how long what is left of the equations may be, as a Euclidean norm."""


@dataclass(frozen=True)
class Wanted:
    """The wish of a model's text to a router: inputs [n, width], logits [n, experts], p [n, experts], its weight."""

    inputs: np.ndarray
    logits: np.ndarray
    probabilities: np.ndarray
    weight: float = 1.0


@dataclass(frozen=True)
class Fit:
    """A router [experts, width], the steps that it took, the residual of the equations relative to the right side."""

    weight: np.ndarray
    steps: int
    residual: float


def wanted_of_router(router: np.ndarray, inputs: np.ndarray, weight: float = 1.0) -> Wanted:
    """Return the wish of a model's own router [experts, width] on inputs [n, width]."""
    wide = inputs.astype(np.float64)
    logits = wide @ router.astype(np.float64).T
    return Wanted(wide, logits, softmax(logits), weight)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: np.ndarray = powers / powers.sum(axis=-1, keepdims=True)
    return probabilities


def fit_router(start: np.ndarray, texts: Sequence[Wanted], *, ridge: float = 0.0, most_steps: int = MOST_STEPS) -> Fit:
    """Solve for the router from `start` [experts, width]; directions that no text decides stay as they are there.

    `ridge`, a part of the mean curvature, holds all of it at `start`. It ends after `most_steps` or at TOLERANCE.
    """
    start = start.astype(np.float64)
    held = ridge * _mean_curvature(texts, start.shape)

    def applied(change: np.ndarray) -> np.ndarray:
        total = held * change
        for text in texts:
            total += _pulled_back(text, text.inputs @ change.T)
        return total

    right = sum((_pulled_back(text, text.logits - text.inputs @ start.T) for text in texts), np.zeros_like(start))
    full = sum((_pulled_back(text, text.logits) for text in texts), np.zeros_like(start))
    change, steps, left = _conjugate_gradients(applied, right, float(np.linalg.norm(full)), most_steps)
    return Fit(start + change, steps, left)


def _pulled_back(text: Wanted, logits: np.ndarray) -> np.ndarray:
    """Return Σ H(x)·z·xᵀ / n, [experts, width], for logits z [n, experts]."""
    weighted = text.probabilities * logits
    weighted = weighted - text.probabilities * weighted.sum(axis=1, keepdims=True)
    pulled: np.ndarray = (text.weight / len(logits)) * (weighted.T @ text.inputs)
    return pulled


def _mean_curvature(texts: Sequence[Wanted], shape: tuple[int, ...]) -> float:
    """Return the mean of the diagonal of the equations' matrix."""
    total = 0.0
    for text in texts:
        own = text.probabilities * (1 - text.probabilities)
        total += text.weight * float((own.sum(axis=1) * (text.inputs**2).sum(axis=1)).mean())
    return total / float(np.prod(shape))


def _conjugate_gradients(
    applied: Callable[[np.ndarray], np.ndarray], right: np.ndarray, size: float, most_steps: int
) -> tuple[np.ndarray, int, float]:
    """Solve applied(x) = right from zero; return x, the steps, and the length of the residual relative to `size`."""
    solution, left = np.zeros_like(right), right.copy()
    direction, squared = left.copy(), float((left * left).sum())
    steps = 0
    while squared > (TOLERANCE * size) ** 2 and steps < most_steps:
        image = applied(direction)
        curvature = float((direction * image).sum())
        if curvature <= 0:  # a direction that no text decides: what is left of it is rounding
            break
        step = squared / curvature
        solution += step * direction
        left -= step * image
        before, squared = squared, float((left * left).sum())
        direction = left + (squared / before) * direction
        steps += 1
    return solution, steps, squared**0.5 / size if size else 0.0
