"""How far two merges are apart, tensor by tensor, in the units of the number type that they were computed in."""

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from cuvee.checkpoint.dtypes import NAMES, NUMPY, promoted
from cuvee.plan import MergeStep, Plan
from parity.run import Tensors

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOAT32_BAR = 1e-6
"""Of the tensor's largest magnitude."""
BFLOAT16_BAR = 1
"""Units in the last place. An entry that is within float32's bar is equal."""


@dataclass(frozen=True)
class Compared:
    """One tensor: its worst difference from the reference, and which entries differ by more than the bar allows.

    `worst` is relative to the largest magnitude for float32, in units in the last place for bfloat16. `explained` are
    entries that differ from what mergekit makes of the recipe as it is, and do not differ from the reference.
    """

    name: str
    loaded: str
    worst: float
    over: np.ndarray
    explained: np.ndarray


def loaded_type(plan: Plan, step: MergeStep) -> str:
    """Return the type that mergekit computes a tensor in: that of the recipe, or what all inputs are promoted to."""
    return NAMES[plan.recipe.dtype] if plan.recipe.dtype else promoted([given.dtype for given in step.all_inputs])


def compared(plan: Plan, ours: Tensors, plain: Tensors, reference: Tensors) -> list[Compared]:
    """Compare a merge with mergekit's two."""
    assert set(ours) == set(plain) == set(reference), "both write the same tensors"
    return [
        _compared(step.name, loaded_type(plan, step), ours[step.name], plain[step.name], reference[step.name])
        for step in plan.steps
    ]


def _compared(name: str, loaded: str, ours: np.ndarray, plain: np.ndarray, reference: np.ndarray) -> Compared:
    in_steps = BFLOAT16 in (ours.dtype, NUMPY[loaded])
    bar, distance = (BFLOAT16_BAR, steps_apart) if in_steps else (FLOAT32_BAR, relative)
    # mergekit writes some results of bfloat16 models as float32
    apart, from_plain = (distance(ours, theirs.astype(ours.dtype)) for theirs in (reference, plain))
    over = apart > bar
    return Compared(name, loaded, float(apart.max(initial=0)), over, (from_plain > bar) & ~over)


def relative(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return |a - b| relative to the tensor's largest magnitude."""
    wide, other = a.astype(np.float64), b.astype(np.float64)
    largest = np.abs(other).max(initial=0)
    return np.asarray(np.abs(wide - other) / (largest if largest > 0 else 1))


def steps_apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return how many bfloat16 numbers lie between a and b, one of them included.

    None where the two are equal by float32's bar: what sums to nothing may be any tiny number, of either sign.
    """
    return np.where(relative(a, b) <= FLOAT32_BAR, 0, np.abs(_place(a) - _place(b)))


def _place(numbers: np.ndarray) -> np.ndarray:
    """Return the place of each number among all bfloat16 numbers, zero at 0."""
    bits = numbers.astype(BFLOAT16).view(np.int16).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFF), bits)


@dataclass
class Distance:
    """Distance to the exact result over many tensors: root of the mean of squared errors, each tensor's relative to its
    largest magnitude."""

    squares: float = 0.0
    count: int = 0

    def add(self, merged: np.ndarray, exact: np.ndarray) -> None:
        self.squares += float(np.square(relative(merged, exact)).sum())
        self.count += exact.size

    @property
    def value(self) -> float:
        return float(np.sqrt(self.squares / max(self.count, 1)))
