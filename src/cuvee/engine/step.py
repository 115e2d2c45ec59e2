"""One step: survey the inputs, apply the method's rule block by block, cast once, hand the bytes on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from blake3 import blake3

from cuvee.checkpoint.dtypes import NUMPY
from cuvee.engine.blocks import Block, Blocks
from cuvee.engine.surveys import Found, rounding_key, survey_step
from cuvee.errors import CheckpointError, CuveeError, MethodError
from cuvee.kernels import Kernels
from cuvee.method import Method
from cuvee.ops.arrays import sum_models
from cuvee.ops.gram import spread_over
from cuvee.ops.rounding import round_at_random
from cuvee.plan.make import as_arrays
from cuvee.plan.plan import MergeStep
from cuvee.recipe.recipe import Rounding

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
    with _its_place(step, context):
        return _merge(step, blocks, context, sink)


def measure_step(step: MergeStep, blocks: Blocks, context: Context) -> Norms:
    """Return the norms of the task vectors and of the merged change, in a pass of the method that writes nothing."""
    with _its_place(step, context):
        return _measure(step, blocks, context)


@contextmanager
def _its_place(step: MergeStep, context: Context) -> Iterator[None]:
    try:
        yield
    except CuveeError:
        raise
    except Exception as error:  # a rule may be foreign code: whatever it raises gets its place
        message = f"'{context.method.key}' failed: {error}"
        raise MethodError(message, where=step.name) from error


def _copy(step: MergeStep, blocks: Blocks, sink: Sink) -> str:
    """Pass on what all inputs agree on; integers and buffers are not averaged."""
    digest = blake3()
    for first, last in blocks.chunks():
        raw = blocks.raw(0, first, last)
        for which in range(1, len(step.all_inputs)):
            if not np.array_equal(raw, blocks.raw(which, first, last)):
                message = f"'{step.name}' holds {step.dtype}, which cannot be merged, and the inputs differ in it"
                raise CheckpointError(message, where=step.name)
        digest.update(raw.data)
        sink(first * NUMPY[step.dtype].itemsize, raw)
    return digest.hexdigest()


def _merge(step: MergeStep, blocks: Blocks, context: Context, sink: Sink) -> tuple[str, Loss]:
    found = survey_step(context.method, step, blocks, context.kernels, context.semantics, context.seed, context.known)
    rule = _Rule(step, context, found, blocks.wide)
    dtype = NUMPY[step.dtype]
    out = np.empty(blocks.chunk, dtype)
    digest, loss = blake3(), np.zeros(2)
    for first, last in blocks.chunks():
        for block in blocks.in_chunk(first, last):
            merged = rule.merged(block)
            cast = out[block.start - first : block.start - first + merged.size]
            if not _round(step, context, block.start, merged, cast) and not context.allow_nonfinite:
                message = f"the result does not fit {step.dtype}: it is not finite there"
                raise MethodError(message, where=step.name, hint="choose another out_dtype, or smaller weights")
            if block.base is not None and cast.dtype != merged.dtype:
                context.kernels.cast_loss(merged, block.base, cast, loss)
        raw = out[: last - first].view(np.uint8)
        digest.update(raw.data)
        sink(first * dtype.itemsize, raw)
    return digest.hexdigest(), Loss(*map(float, loss))


def _round(step: MergeStep, context: Context, start: int, merged: np.ndarray, cast: np.ndarray) -> bool:
    """Cast the numbers of a block as the recipe says; return whether all results are finite."""
    if context.rounding == "nearest" or cast.dtype == merged.dtype:
        return context.kernels.narrow(merged, cast)
    uniform = np.empty(merged.size, np.float32)
    context.kernels.uniform(rounding_key(step, context.seed), start, uniform)
    return round_at_random(merged, uniform, cast)


def _measure(step: MergeStep, blocks: Blocks, context: Context) -> Norms:
    found = survey_step(context.method, step, blocks, context.kernels, context.semantics, context.seed, context.known)
    rule = _Rule(step, context, found, blocks.wide)
    squares = np.zeros((len(step.inputs) + 2, 1, 1))
    for block in blocks:
        for numbers, square in zip((*block.stack, sum_models(block.stack), rule.change(block)), squares, strict=True):
            context.kernels.gram(np.ascontiguousarray(numbers).reshape(1, -1), square)
    *models, summed, merged = squares.reshape(-1).tolist()
    return Norms(tuple(models), summed, merged)


_NOTHING = np.empty((0, 0))


class _Rule:
    """The method's rule, ready for the blocks of one step."""

    def __init__(self, step: MergeStep, context: Context, found: Found, wide: np.dtype) -> None:
        self.step = step
        self.method = context.method
        self.kernels = context.kernels
        self.found = found
        self.settings = as_arrays(step.settings)
        self.spread = context.method.spread(context.semantics, step.settings)
        if context.method.takes_semantics:
            self.settings["semantics"] = context.semantics
        combines = context.method.kind == "coefficient"
        self.coefficients = self._coefficients() if combines and self.spread != "row" else None
        self._merged = np.empty(step.block, wide)

    def _coefficients(self, stack: np.ndarray = _NOTHING, start: int = 0) -> np.ndarray:
        return np.asarray(self.method.rule(**self.settings, **self._supplied(stack, start)), np.float64)

    def _supplied(self, stack: np.ndarray, start: int) -> dict[str, Any]:
        return {name: survey.at(stack, start) for name, survey in self.found.items()}

    def merged(self, block: Block) -> np.ndarray:
        """Return the merged tensor's numbers for a block, in the computing type."""
        change = self.change(block)
        if block.base is None:
            return change
        out = np.empty_like(block.base)
        self.kernels.add_scaled(block.base, change, self.step.scale, out)
        return out

    def change(self, block: Block) -> np.ndarray:
        """Return the merged task vector's numbers for a block, or the merged tensor's where there is no base."""
        stack, start = block.stack, block.start
        if self.method.kind == "element":
            return np.asarray(self.method.rule(stack, **self.settings, **self._supplied(stack, start)))
        coefficients = self._coefficients(stack, start) if self.coefficients is None else self.coefficients
        if self.spread == "tensor":
            out = self._merged[: stack.shape[1]]
            self.kernels.combine(stack, coefficients, out)
            return out
        factors = spread_over(coefficients, self.step.shape, self.spread, start, stack.shape[1])
        return np.asarray(sum_models(stack * factors.astype(stack.dtype)))
