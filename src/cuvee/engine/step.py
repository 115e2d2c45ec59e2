"""One step: survey the inputs, apply the method's rule block by block, cast once, hand the bytes on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from blake3 import blake3

from cuvee.checkpoint.dtypes import NUMPY, kind_of
from cuvee.engine.blocks import Blocks
from cuvee.engine.rules import Context, Rule, change_of, rule_of
from cuvee.engine.surveys import rounding_key
from cuvee.errors import CheckpointError, CuveeError, MethodError
from cuvee.kernels import Block, Kept, block_of
from cuvee.ops.arrays import sum_models
from cuvee.ops.rounding import round_at_random
from cuvee.plan.plan import MergeStep
from cuvee.structure.roles import is_factor

Sink = Callable[[int, np.ndarray], None]
"""Takes the bytes of the output tensor from a byte position on."""


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
    """Compute an output tensor. Returns the BLAKE3 of its bytes and the loss of the cast.

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
    """Pass on the bytes that all inputs agree on; integers and buffers are not averaged."""
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
    rule = rule_of(step, blocks, context)
    if context.rounding == "nearest" or NUMPY[step.dtype] == blocks.dtype:
        return _Nearest(step, rule)
    return _AtRandom(step, rule, blocks.dtype, rounding_key(step, context.seed))


def _measure(step: MergeStep, blocks: Blocks, context: Context) -> Norms:
    rule = rule_of(step, blocks, context)
    models, both = np.zeros(len(step.inputs)), np.zeros(2)
    for block in blocks:
        context.kernels.squares(block, Kept(), models)
        pair = np.stack([sum_models(block.stack), change_of(rule, block)])
        context.kernels.squares(block_of(pair, block.start, context.kernels), Kept(), both)
    return Norms(tuple(models.tolist()), *both.tolist())


class _Writer(Protocol):
    """Makes the merged tensor's numbers."""

    def write(self, block: Block, cast: np.ndarray, loss: np.ndarray) -> None:
        """Write them for a block, rounded to the output's type."""


class _Average:
    """The weighted mean of the inputs, for a tensor that is no weight to a method."""

    def __init__(self, step: MergeStep) -> None:
        self.weight = np.asarray(step.settings["weight"], np.float64)

    def write(self, block: Block, cast: np.ndarray, loss: np.ndarray) -> None:
        block.kernels.combine(block, self.weight, 1.0, False, cast, loss)


class _Nearest:
    """The rule's numbers, each rounded to the nearest number of the output's type."""

    def __init__(self, step: MergeStep, rule: Rule) -> None:
        self.rule = rule
        self.scale = step.scale
        self.adds = step.base is not None

    def write(self, block: Block, cast: np.ndarray, loss: np.ndarray) -> None:
        self.rule.merged(block).write(self.scale, self.adds, cast, loss)


class _AtRandom:
    """The rule's numbers, each rounded up or down at random, more likely to the nearer neighbour."""

    def __init__(self, step: MergeStep, rule: Rule, dtype: np.dtype, key: tuple[int, int]) -> None:
        self.rule = rule
        self.scale = step.scale
        self.adds = step.base is not None
        self.dtype = dtype
        self.key = key

    def write(self, block: Block, cast: np.ndarray, loss: np.ndarray) -> None:
        merged, uniform = np.empty(block.size, self.dtype), np.empty(block.size, np.float32)
        self.rule.merged(block).write(self.scale, self.adds, merged, np.zeros(2))
        block.kernels.uniform(self.key, block.start, uniform)
        round_at_random(merged, uniform, cast)
        if self.adds:
            block.kernels.cast_loss(merged, block.base, cast, loss)
