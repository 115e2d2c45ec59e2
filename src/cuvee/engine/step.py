"""One step: survey the inputs, apply the method's rule block by block, cast once, hand the bytes on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from blake3 import blake3

from cuvee.checkpoint.dtypes import NUMPY, kind_of
from cuvee.device import TorchDevice
from cuvee.engine.blocks import Blocks
from cuvee.engine.definition import defined_change
from cuvee.engine.inputs import InputNumbers
from cuvee.engine.known_changes import ChangesOfPlan
from cuvee.engine.matrices import WholeTensor, merged_matrix, modified_matrix
from cuvee.engine.surveys import Found, rounding_key, survey_step
from cuvee.errors import CheckpointError, CuveeError, MethodError
from cuvee.kernels import Block, Kept, Kernels, block_of
from cuvee.method import Method
from cuvee.ops.arrays import Array, sum_models
from cuvee.ops.by_rank import Inverse
from cuvee.ops.gram import spread_over
from cuvee.ops.order import InOrder
from cuvee.ops.rounding import round_at_random
from cuvee.ops.stepwise import Stepwise, Sums, steps_of
from cuvee.ops.survey import FLOAT32
from cuvee.ops.task_vectors import Weights, task_vectors, weighted_sum
from cuvee.plan.matrices import fallback_factors
from cuvee.plan.plan import MergeStep
from cuvee.plan.settings import as_arrays
from cuvee.recipe.recipe import Chosen, Rounding
from cuvee.statistics import Statistics
from cuvee.structure.roles import is_factor

Sink = Callable[[int, np.ndarray], None]
"""Takes the bytes of the output tensor from a byte position on."""


@dataclass(frozen=True)
class Context:
    """What all steps of a merge share."""

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
    """What earlier merges of the same models made of whole matrices."""


@dataclass
class Loss:
    """How much of the merged change the final cast lost: squared lengths, in float64."""

    lost: float = 0.0
    moved: float = 0.0


@dataclass(frozen=True)
class Norms:
    """Squared norms: of each model's task vector, of their plain sum, and of the merged change before lambda."""

    models: tuple[float, ...]
    summed: float
    merged: float


def run_step(step: MergeStep, blocks: Blocks, context: Context, sink: Sink) -> tuple[str, Loss]:
    """Compute one output tensor. Returns the BLAKE3 of its bytes and what the cast lost.

    Raises MethodError that names method and tensor when the method fails.
    """
    if step.action == "copy":
        return _copy(step, blocks, sink), Loss()
    with _its_place(step, blocks, context):
        return _merge(step, blocks, context, sink)


def measure_step(step: MergeStep, blocks: Blocks, context: Context) -> Norms:
    """Return the norms of the task vectors and of the merged change, in a pass of the method that writes nothing."""
    with _its_place(step, blocks, context):
        return _measure(step, blocks, context)


@contextmanager
def _its_place(step: MergeStep, blocks: Blocks, context: Context) -> Iterator[None]:
    try:
        yield
    except CuveeError:
        raise
    except Exception as error:  # a rule may be foreign code: whatever it raises gets its place
        if not context.allow_nonfinite:
            blocks.check_all()  # an input may be to blame
        message = f"'{context.method.key}' failed: {error}"
        raise MethodError(message, where=step.name) from error


def _copy(step: MergeStep, blocks: Blocks, sink: Sink) -> str:
    """Pass on what all inputs agree on; integers and buffers are not averaged."""
    digest = blake3()
    for first, last in blocks.chunks():
        position = first * NUMPY[step.dtype].itemsize
        for rows in blocks.raw(first, last):
            if (rows[1:] != rows[0]).any():
                raise _unequal(step)
            digest.update(rows[0].data)
            sink(position, rows[0])
            position += rows[0].size
    return digest.hexdigest()


def _unequal(step: MergeStep) -> CheckpointError:
    if is_factor(step.name):
        message = f"'{step.name}' is a factor of an adapter inside the checkpoint, and the inputs differ in it"
        hint = (
            "fold the adapter into the weights before (PEFT's merge_and_unload), or save the model without it and name "
            "the adapter in the recipe as MODEL+ADAPTER"
        )
        return CheckpointError(message, where=step.name, hint=hint)
    holds = f"holds {step.dtype}, {kind_of(step.dtype)}"
    message = f"'{step.name}' {holds}, which cannot be merged, and the inputs differ in it"
    return CheckpointError(message, where=step.name)


def _merge(step: MergeStep, blocks: Blocks, context: Context, sink: Sink) -> tuple[str, Loss]:
    rule = _writer(step, blocks, context)
    dtype = NUMPY[step.dtype]
    out = np.empty(blocks.chunk, dtype)
    digest, loss = blake3(), np.zeros(2)
    for first, last in blocks.chunks():
        for block in blocks.in_chunk(first, last):
            cast = out[block.start - first : block.start - first + block.size]
            rule.write(block, cast, loss)
        raw = out[: last - first]
        if not context.allow_nonfinite and not context.kernels.finite(raw):
            blocks.check_all()
            message = f"the result does not fit {step.dtype}: it is not finite there"
            raise MethodError(message, where=step.name, hint="choose another out_dtype, or smaller weights")
        raw = raw.view(np.uint8)
        digest.update(raw.data)
        sink(first * dtype.itemsize, raw)
    return digest.hexdigest(), Loss(*map(float, loss))


def _writer(step: MergeStep, blocks: Blocks, context: Context) -> "_Writer":
    if step.action == "average":
        return _Average(step)
    return _Rule(step, context, _found(step, blocks, context), blocks)


def _measure(step: MergeStep, blocks: Blocks, context: Context) -> Norms:
    rule = _Rule(step, context, _found(step, blocks, context), blocks)
    models, both = np.zeros(len(step.inputs)), np.zeros(2)
    for block in blocks:
        context.kernels.squares(block, Kept(), models)
        pair = np.stack([sum_models(block.stack), rule.change(block)])
        context.kernels.squares(block_of(pair, block.start, context.kernels), Kept(), both)
    return Norms(tuple(models.tolist()), *both.tolist())


def _found(step: MergeStep, blocks: Blocks, context: Context) -> Found:
    if context.device is not None or _stepwise(blocks, context) is not None:
        return {}  # a definition or a stepwise rule finds out itself what it needs
    return survey_step(context.method, step, blocks, context.kernels, context.semantics, context.seed, context.known)


def _stepwise(blocks: Blocks, context: Context) -> Stepwise | None:
    """Return the rule that takes the place of the method's own where 16 bits are computed in, if there is one."""
    return context.method.stepwise if context.device is None and blocks.dtype.itemsize == 2 else None


class _Writer(Protocol):
    """Makes the merged tensor's numbers."""

    def write(self, block: Block, cast: np.ndarray, loss: np.ndarray) -> None:
        """Write them for a block, rounded to the output's type."""


class _Average:
    """The weighted mean of the inputs, for what is no weight that a method could merge."""

    def __init__(self, step: MergeStep) -> None:
        self.weight = np.asarray(step.settings["weight"], np.float64)

    def write(self, block: Block, cast: np.ndarray, loss: np.ndarray) -> None:
        block.kernels.combine(block, self.weight, 1.0, False, cast, loss)


class _Rule:
    """The method's rule, ready for one pass over the blocks of a step."""

    def __init__(self, step: MergeStep, context: Context, found: Found, blocks: Blocks) -> None:
        self.step = step
        self.method = context.method
        self.context = context
        self.dtype = blocks.dtype
        self.arguments = {name: survey.begin() for name, survey in found.items()}
        self.settings = as_arrays(step.settings)
        self.spread = context.method.spread(context.semantics, step.settings)
        if context.method.takes_semantics:
            self.settings["semantics"] = context.semantics
        self.coefficients: np.ndarray | Weights | None = None
        self.adds = step.base is not None
        # factors for each entry, not for each model, are for the rule itself to work with
        self.staged = context.method.staged and not any(isinstance(a, Inverse) for a in self.arguments.values())
        self.sums: Sums | None = None
        if (stepwise := _stepwise(blocks, context)) is not None:
            self.sums = Sums(partial(stepwise.rule, **self.settings))
            self.sums.find(lambda: (steps_of(block, step.shape) for block in blocks))
        self.whole: np.ndarray | None = None
        if step.whole:
            compute = partial(self._whole_change, blocks)
            self.whole = compute() if context.changes is None else context.changes.get(step, blocks.dtype, compute)

    def write(self, block: Block, cast: np.ndarray, loss: np.ndarray) -> None:
        """Write the merged tensor's numbers for a block, rounded to the output's type."""
        if self.context.rounding == "nearest" or cast.dtype == self.dtype:
            self._merged(block).write(self.step.scale, self.adds, cast, loss)
            return
        kernels = self.context.kernels
        merged, uniform = np.empty(block.size, self.dtype), np.empty(block.size, np.float32)
        self._merged(block).write(self.step.scale, self.adds, merged, np.zeros(2))
        kernels.uniform(rounding_key(self.step, self.context.seed), block.start, uniform)
        round_at_random(merged, uniform, cast)
        if self.adds:
            kernels.cast_loss(merged, block.base, cast, loss)

    def change(self, block: Block) -> np.ndarray:
        """Return the merged task vector's numbers for a block, or the merged tensor's where there is no base."""
        out = np.empty(block.size, self.dtype)
        self._merged(block).write(1.0, False, out, np.zeros(2))
        return out

    def _whole_change(self, blocks: Blocks) -> np.ndarray:
        """Return the merged change of the whole tensor, before it is scaled."""
        whole = self._whole(blocks)
        return whole.merged if self.step.cut is None else whole.merge(self.step.cut, self._matrix)

    def _whole(self, blocks: Blocks) -> WholeTensor:
        """Gather the task vectors of the whole tensor, and what a method that is not about matrices makes of them."""
        whole = WholeTensor(self.step.shape, [given.dtype for given in self.step.inputs], self.dtype)
        on_host = self.context.device is None and self.method.kind != "matrix"
        for block in blocks:
            whole.add(block)
            if on_host:
                whole.merged[block.start : block.start + block.size] = self.change(block)
        if self.context.device is not None and not (self.method.kind == "matrix" and self.step.cut):
            whole.merged[:] = self._on_device(self.context.device, whole.deltas).reshape(-1)
        return whole

    def _on_device(self, device: TorchDevice, deltas: np.ndarray) -> np.ndarray:
        """Merge a whole tensor on the device: one transfer there, one back."""
        taken = device.take(deltas.reshape(-1, *self.step.shape))
        change = defined_change(self.method, self.step, taken, semantics=self.context.semantics, seed=self.context.seed)
        return device.give(change)

    def _matrix(self, deltas: Array, rounding: Sequence[float], merged: Array) -> Array:
        device = self.context.device
        if device is not None:
            deltas, merged = device.take(deltas), device.take(merged)
        inputs = InputNumbers(self.step, self.context.statistics, device)
        if self.method.kind == "matrix":
            supplied = self.context.inputs or inputs.of_models(self.method.inputs)
            merged = merged_matrix(self.method, deltas, rounding, {**self.settings, **supplied})
        merged = modified_matrix(merged, deltas, self.context.post, inputs)
        return merged if device is None else device.give(merged)

    def _merged(self, block: Block) -> "_Merged":
        if self.whole is not None:
            return _Computed(block, self.whole[block.start : block.start + block.size])
        if self.sums is not None:
            return _Stepped(block, self.sums.merged(steps_of(block, self.step.shape)))
        if self.method.kind == "matrix":
            return _Combination(block, fallback_factors(self.settings, block.models))
        if self.method.kind == "coefficient":
            coefficients = self._coefficients(block)
            if isinstance(coefficients, Weights):
                stepwise: _Merged = weighted_sum(
                    task_vectors(block), coefficients.numbers, normalize=coefficients.normalize
                )
                return stepwise
            if block.dtype.itemsize == 2:  # what is calculated exactly is rounded once, when it is written
                block = replace(block, dtype=FLOAT32)
            if self.spread == "tensor":
                return _Combination(block, coefficients)
            factors = spread_over(coefficients, self.step.shape, self.spread, block.start, block.size)
            return _Computed(block, sum_models(block.stack * factors.astype(block.dtype)))
        if not self.staged:
            return _Computed(block, np.asarray(self.method.rule(block.stack, **self.settings, **self._supplied(block))))
        arguments = {
            name: argument.kept(block) if isinstance(argument, InOrder) else argument.at(block)
            for name, argument in self.arguments.items()
        }
        stages: _Merged = self.method.rule(task_vectors(block), **self.settings, **arguments)
        return stages

    def _supplied(self, block: Block) -> dict[str, Any]:
        return {name: argument.at(block) for name, argument in self.arguments.items()}

    def _coefficients(self, block: Block) -> np.ndarray | Weights:
        if self.coefficients is not None:
            return self.coefficients
        with np.errstate(invalid="ignore"):  # what comes of it is seen in the result
            found = self.method.rule(**self.settings, **self._supplied(block))
        every_step = isinstance(found, Weights) and self.dtype.itemsize == 2
        coefficients: np.ndarray | Weights = found if every_step else np.asarray(found, np.float64)
        if self.spread != "row":
            self.coefficients = coefficients
        return coefficients


class _Merged(Protocol):
    """What a rule makes of a block."""

    def write(self, scale: float, add: bool, out: np.ndarray, loss: np.ndarray) -> None:
        """Write it, or with `add` the base + scale x it, as `Kernels.combine` does."""


@dataclass(frozen=True)
class _Combination:
    """A linear combination, left to a kernel."""

    block: Block
    coefficients: np.ndarray

    def write(self, scale: float, add: bool, out: np.ndarray, loss: np.ndarray) -> None:
        self.block.kernels.combine(self.block, self.coefficients, scale, add, out, loss)


@dataclass(frozen=True)
class _Computed:
    """Numbers that the rule computed itself."""

    block: Block
    change: np.ndarray

    def write(self, scale: float, add: bool, out: np.ndarray, loss: np.ndarray) -> None:
        kernels = self.block.kernels
        if not add:
            kernels.narrow(self.change, out)
            return
        values = np.empty_like(self.block.base)
        kernels.add_scaled(self.block.base, self.change, scale, values)
        kernels.narrow(values, out)
        if out.dtype != values.dtype:
            kernels.cast_loss(values, self.block.base, out, loss)


@dataclass(frozen=True)
class _Stepped:
    """Merged numbers that a stepwise rule made of whole models."""

    block: Block
    merged: np.ndarray

    def write(self, scale: float, add: bool, out: np.ndarray, loss: np.ndarray) -> None:
        if not self.block.subtracts or (add and scale == 1):
            self.block.kernels.narrow(self.merged, out)
        else:
            change = (self.merged - self.block.base.astype(np.float32)).astype(self.block.dtype)
            _Computed(self.block, change).write(scale, add, out, loss)
