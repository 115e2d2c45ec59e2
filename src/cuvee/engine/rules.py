"""The rule of a step: one class for each kind of rule, chosen once when the step starts, asked for each block."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from cuvee.device import TorchDevice
from cuvee.engine.blocks import Blocks
from cuvee.engine.definition import defined_change
from cuvee.engine.inputs import EntryNumbers, InputNumbers, entries_of_arrays
from cuvee.engine.known_changes import ChangesOfPlan
from cuvee.engine.matrices import WholeTensor, merged_matrix, modified_matrix
from cuvee.engine.rule import Computed, Merged, Rule, change_of
from cuvee.engine.surveys import Found, survey_step
from cuvee.kernels import Block, Kernels
from cuvee.method import Method
from cuvee.ops.arrays import Array, sum_models
from cuvee.ops.by_rank import Inverse
from cuvee.ops.gram import spread_over
from cuvee.ops.order import InOrder
from cuvee.ops.survey import FLOAT32, Argument, Scope
from cuvee.ops.task_vectors import Weights, task_vectors, weighted_sum
from cuvee.plan.matrices import fallback_factors
from cuvee.plan.plan import MergeStep
from cuvee.plan.settings import as_arrays
from cuvee.recipe.recipe import Chosen, Rounding
from cuvee.statistics import Statistics


@dataclass(frozen=True)
class Context:
    """The settings, kernels and findings that all steps of a merge share."""

    method: Method
    semantics: str
    seed: int
    kernels: Kernels
    allow_nonfinite: bool
    known: Found
    rounding: Rounding = "nearest"
    post: tuple[Chosen, ...] = ()
    device: TorchDevice | None = None
    statistics: tuple[Statistics | None, ...] = ()
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """Arguments that are statistics of the models' inputs, where they are given as arrays."""
    changes: ChangesOfPlan | None = None
    """Changes of whole matrices from earlier merges of the same models."""


def rule_of(step: MergeStep, blocks: Blocks, context: Context) -> Rule:
    """Choose the rule of a merge step. A rule reads the blocks for its surveys, and all of them for a whole tensor."""
    if step.whole:
        return _WholeTensor(step, blocks, context)
    return _rule_of_blocks(step, blocks, context)


def _rule_of_blocks(step: MergeStep, blocks: Blocks, context: Context) -> Rule:
    method, settings = context.method, _settings(step, context)
    if method.stepwise is not None and blocks.dtype.itemsize == 2:
        from cuvee.engine.in_steps import rule_in_steps  # of few merges, and every start would pay for it

        return rule_in_steps(step, method.stepwise, settings, blocks)
    found = survey_step(method, step, blocks, context.kernels, context.semantics, context.seed, context.known)
    arguments = {name: survey.begin() for name, survey in found.items()}
    if method.kind == "matrix":
        return _Fallback(settings)
    arguments |= _entry_numbers(step, context)
    if method.kind == "coefficient":
        return _Coefficients(step, method, settings, arguments, method.spread(context.semantics, step.settings))
    # arguments for each entry, not for each model, are for the rule itself to work with
    if method.staged and not any(isinstance(argument, Inverse) for argument in arguments.values()):
        return _Stages(method, settings, arguments)
    return _Elements(method, settings, arguments)


def _entry_numbers(step: MergeStep, context: Context) -> dict[str, EntryNumbers]:
    """Return the statistics of a tensor's entries that the method takes."""
    given = context.inputs
    if given:
        return {name: entries_of_arrays(step, arrays) for name, arrays in given.items()}
    return InputNumbers(step, context.statistics, context.device).of_entries(context.method.inputs)


def _settings(step: MergeStep, context: Context) -> dict[str, Any]:
    settings = as_arrays(step.settings)
    if context.method.takes_semantics:
        settings["semantics"] = context.semantics
    return settings


def _at(arguments: Mapping[str, Argument], block: Block) -> dict[str, Any]:
    return {name: argument.at(block) for name, argument in arguments.items()}


class _Fallback:
    """The fallback of a matrix method, for a tensor that is no matrix to it."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings

    def merged(self, block: Block) -> Merged:
        return _Combination(block, fallback_factors(self.settings, block.models))


class _Coefficients:
    """A weighted sum. Its coefficients are of the whole tensor, or of each row or column (`spread`)."""

    def __init__(
        self,
        step: MergeStep,
        method: Method,
        settings: Mapping[str, Any],
        arguments: Mapping[str, Argument],
        spread: Scope,
    ) -> None:
        self.shape = step.shape
        self.method = method
        self.settings = settings
        self.arguments = arguments
        self.spread = spread
        self.known: np.ndarray | Weights | None = None

    def merged(self, block: Block) -> Merged:
        coefficients = self._coefficients(block)
        if isinstance(coefficients, Weights):  # every step of the sum is rounded to 16 bits
            steps: Merged = weighted_sum(task_vectors(block), coefficients.numbers, normalize=coefficients.normalize)
            return steps
        if block.dtype.itemsize == 2:  # an exact sum is rounded once, when it is written
            block = replace(block, dtype=FLOAT32)
        if self.spread == "tensor":
            return _Combination(block, coefficients)
        factors = spread_over(coefficients, self.shape, self.spread, block.start, block.size)
        return Computed(block, sum_models(block.stack * factors.astype(block.dtype)))

    def _coefficients(self, block: Block) -> np.ndarray | Weights:
        """Return the coefficients for a block. Only those of rows differ from block to block."""
        if self.known is not None:
            return self.known
        coefficients = self._computed(block)
        if self.spread != "row":
            self.known = coefficients
        return coefficients

    def _computed(self, block: Block) -> np.ndarray | Weights:
        with np.errstate(invalid="ignore"):  # a coefficient that is not finite shows in the result
            coefficients = self.method.rule(**self.settings, **_at(self.arguments, block))
        if isinstance(coefficients, Weights) and block.dtype.itemsize == 2:
            return coefficients
        numbers: np.ndarray = np.asarray(coefficients, np.float64)
        return numbers


class _Elements:
    """A rule that computes the merged numbers of a block itself, on arrays."""

    def __init__(self, method: Method, settings: Mapping[str, Any], arguments: Mapping[str, Argument]) -> None:
        self.method = method
        self.settings = settings
        self.arguments = arguments

    def merged(self, block: Block) -> Merged:
        change = self.method.rule(block.stack, **self.settings, **_at(self.arguments, block))
        return Computed(block, np.asarray(change))


class _Stages:
    """A rule that passes task vectors through stages, which kernels do at once when the block is written."""

    def __init__(self, method: Method, settings: Mapping[str, Any], arguments: Mapping[str, Argument]) -> None:
        self.method = method
        self.settings = settings
        self.arguments = arguments

    def merged(self, block: Block) -> Merged:
        arguments = {name: self._argument(argument, block) for name, argument in self.arguments.items()}
        stages: Merged = self.method.rule(task_vectors(block), **self.settings, **arguments)
        return stages

    @staticmethod
    def _argument(argument: Argument, block: Block) -> Any:
        """Return an argument for a block. An order of entries goes to the kernels as the entries that it keeps."""
        return argument.kept(block) if isinstance(argument, InOrder) else argument.at(block)


class _WholeTensor:
    """The merged change of a whole tensor: computed when the step starts, handed out block by block."""

    def __init__(self, step: MergeStep, blocks: Blocks, context: Context) -> None:
        compute = partial(_whole_change, step, blocks, context)
        known = context.changes
        self.change = compute() if known is None else known.get(step, blocks.dtype, compute)

    def merged(self, block: Block) -> Merged:
        return Computed(block, self.change[block.start : block.start + block.size])


def _whole_change(step: MergeStep, blocks: Blocks, context: Context) -> np.ndarray:
    """Return the merged change of a whole tensor, before it is scaled."""
    whole = _gathered(step, blocks, context)
    if step.cut is None:
        return whole.merged
    return whole.merge(step.cut, _Matrices(step, context).merged)


def _gathered(step: MergeStep, blocks: Blocks, context: Context) -> WholeTensor:
    """Gather the task vectors of a tensor, and merge them by a method that is not about its matrices."""
    method, device = context.method, context.device
    whole = WholeTensor(step.shape, [given.dtype for given in step.inputs], blocks.dtype)
    if device is None and method.kind != "matrix":
        rule = _rule_of_blocks(step, blocks, context)
        for block in blocks:
            whole.add(block)
            whole.merged[block.start : block.start + block.size] = change_of(rule, block)
        return whole
    for block in blocks:
        whole.add(block)
    if device is not None and not (method.kind == "matrix" and step.cut):
        deltas = device.take(whole.deltas.reshape(-1, *step.shape))  # one transfer there, one back
        inputs = {name: device.take(numbers.whole()) for name, numbers in _entry_numbers(step, context).items()}
        change = defined_change(method, step, deltas, semantics=context.semantics, seed=context.seed, inputs=inputs)
        whole.merged[:] = device.give(change).reshape(-1)
    return whole


class _Matrices:
    """Merges the matrices of a tensor by a matrix method, then changes them by the modifiers that work on matrices."""

    def __init__(self, step: MergeStep, context: Context) -> None:
        self.context = context
        self.settings = _settings(step, context)
        self.inputs = InputNumbers(step, context.statistics, context.device)

    def merged(self, deltas: Array, rounding: Sequence[float], merged: Array) -> Array:
        """Return the merged change of a matrix, given the change by another method."""
        device = self.context.device
        if device is None:
            return self._merged(deltas, rounding, merged)
        return device.give(self._merged(device.take(deltas), rounding, device.take(merged)))

    def _merged(self, deltas: Array, rounding: Sequence[float], merged: Array) -> Array:
        method = self.context.method
        if method.kind == "matrix":
            supplied = self.context.inputs or self.inputs.of_models(method.inputs)
            merged = merged_matrix(method, deltas, rounding, {**self.settings, **supplied})
        return modified_matrix(merged, deltas, self.context.post, self.inputs)


@dataclass(frozen=True)
class _Combination:
    """A linear combination, left to a kernel."""

    block: Block
    coefficients: np.ndarray

    def write(self, scale: float, add: bool, out: np.ndarray, loss: np.ndarray) -> None:
        self.block.kernels.combine(self.block, self.coefficients, scale, add, out, loss)
