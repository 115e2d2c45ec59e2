"""One step: survey the inputs, apply the method's rule block by block, cast once, hand the bytes on."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from blake3 import blake3

from cuvee.checkpoint.dtypes import NUMPY, kind_of
from cuvee.engine.blocks import Blocks
from cuvee.engine.rule import Rule, change_of
from cuvee.engine.rules import Context, rule_of
from cuvee.engine.surveys import rounding_key
from cuvee.errors import CheckpointError, CuveeError, MethodError
from cuvee.kernels import Block, Kept, block_of
from cuvee.ops.arrays import sum_models
from cuvee.ops.rounding import round_at_random
from cuvee.plan.plan import MergeStep
from cuvee.structure.roles import is_factor

Sink = Callable[[int, np.ndarray], None]
"""Takes the bytes of the output tensor from a byte position on."""


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Output:
    """An output tensor that is to be made: its step, and where its bytes go."""

    step: MergeStep
    context: Context
    sink: Sink


def run_step(step: MergeStep, blocks: Blocks, context: Context, sink: Sink) -> tuple[str, Loss]:
    """Compute an output tensor. Returns the BLAKE3 of its bytes and the loss of the cast.

    Raises MethodError that names method and tensor when the method fails.
    """
    return run_steps([Output(step, context, sink)], blocks)[0]


def run_steps(outputs: Sequence[Output], blocks: Blocks) -> list[tuple[str, Loss]]:
    """Compute outputs of the same blocks, as `run_step` does each. All are made of a chunk while it is at hand."""
    begun = [_begun(output, blocks) for output in outputs]
    room = np.empty(blocks.chunk * max(NUMPY[output.step.dtype].itemsize for output in outputs), np.uint8)
    for first, last in blocks.chunks():
        for writing in begun:
            writing.write(blocks, first, last, room)
    return [(writing.digest.hexdigest(), Loss(*map(float, writing.loss))) for writing in begun]


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


def _begun(output: Output, blocks: Blocks) -> "_Copy | _Merge":
    return _Copy(output) if output.step.action == "copy" else _Merge(output, blocks)


class _Copy:
    """Passes on the bytes that all inputs agree on; integers and buffers are not averaged."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self.digest, self.loss = blake3(), np.zeros(2)

    def write(self, blocks: Blocks, first: int, last: int, room: np.ndarray) -> None:
        position = first * NUMPY[self.output.step.dtype].itemsize
        for rows in blocks.raw(first, last):
            if (rows[1:] != rows[0]).any():
                raise _unequal(self.output.step)
            self.digest.update(rows[0].data)
            self.output.sink(position, rows[0])
            position += rows[0].size


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


class _Merge:
    """A merged tensor under way: its rule, and the digest and loss of the bytes that are written."""

    def __init__(self, output: Output, blocks: Blocks) -> None:
        self.output = output
        self.digest, self.loss = blake3(), np.zeros(2)
        with _its_place(output.step, blocks, output.context):
            self.writer = _writer(output.step, blocks, output.context)

    def write(self, blocks: Blocks, first: int, last: int, room: np.ndarray) -> None:
        """Make and write the numbers of the chunk that was read last; `room` are bytes for them."""
        with _its_place(self.output.step, blocks, self.output.context):
            self._write(blocks, first, last, room)

    def _write(self, blocks: Blocks, first: int, last: int, room: np.ndarray) -> None:
        step, context = self.output.step, self.output.context
        dtype = NUMPY[step.dtype]
        raw = room[: (last - first) * dtype.itemsize]
        out = raw.view(dtype)
        for block in blocks.in_chunk(first, last):
            cast = out[block.start - first : block.start - first + block.size]
            self.writer.write(block, cast, self.loss)
        if not context.allow_nonfinite and not context.kernels.finite(out):
            blocks.check_all()
            message = f"the result does not fit {step.dtype}: it is not finite there"
            raise MethodError(message, where=step.name, hint="choose another out_dtype, or smaller weights")
        self.digest.update(raw.data)
        self.output.sink(first * dtype.itemsize, raw)


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
