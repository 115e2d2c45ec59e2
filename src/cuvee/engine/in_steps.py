"""The rule of a step where the merge computes in 16 bits, and a method then makes mergekit's many steps."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from cuvee.engine.blocks import Blocks
from cuvee.engine.rule import Computed, Merged, Rule
from cuvee.kernels import Block
from cuvee.ops.stepwise import Stepwise, Sums, steps_of
from cuvee.ops.traced import Passes, Untraceable
from cuvee.plan.plan import MergeStep


def rule_in_steps(step: MergeStep, stepwise: Stepwise, settings: Mapping[str, Any], blocks: Blocks) -> Rule:
    """Return the stepwise rule in compiled passes, or on arrays where no program can follow it."""
    try:
        return _Fused(step, stepwise, settings, blocks)
    except Untraceable:
        return _OnArrays(step, stepwise, settings, blocks)


class _Fused:
    """The rule in compiled passes over the blocks."""

    def __init__(self, step: MergeStep, stepwise: Stepwise, settings: Mapping[str, Any], blocks: Blocks) -> None:
        self.passes = Passes(partial(stepwise.rule, **settings), step.shape, step.elements, blocks.room)
        self.passes.find(blocks)

    def merged(self, block: Block) -> Merged:
        return _InPasses(block, self.passes)


class _OnArrays:
    """The rule on arrays, a step at a time."""

    def __init__(self, step: MergeStep, stepwise: Stepwise, settings: Mapping[str, Any], blocks: Blocks) -> None:
        self.shape = step.shape
        self.sums = Sums(partial(stepwise.rule, **settings))
        self.sums.find(lambda: (steps_of(block, step.shape) for block in blocks))

    def merged(self, block: Block) -> Merged:
        return _OfModels(block, self.sums.merged(steps_of(block, self.shape)))


@dataclass(frozen=True)
class _OfModels:
    """Merged numbers that a stepwise rule made of whole models, not of task vectors."""

    block: Block
    numbers: np.ndarray

    def write(self, scale: float, add: bool, out: np.ndarray, loss: np.ndarray) -> None:
        if not self.block.subtracts or (add and scale == 1):
            self.block.kernels.narrow(self.numbers, out)
            return
        change = (self.numbers - self.block.base.astype(np.float32)).astype(self.block.dtype)
        Computed(self.block, change).write(scale, add, out, loss)


@dataclass(frozen=True)
class _InPasses:
    """The result of a stepwise rule, left to its last pass."""

    block: Block
    passes: Passes

    def write(self, scale: float, add: bool, out: np.ndarray, loss: np.ndarray) -> None:
        if not self.block.subtracts or (add and scale == 1):
            self.passes.write(self.block, out)
            return
        numbers = np.empty(self.block.size, np.float32)
        self.passes.write(self.block, numbers)
        _OfModels(self.block, numbers).write(scale, add, out, loss)
