"""Masks and scales beside a merged model (arXiv:2405.17461): a file a model, to rebuild it from the merged model.

A method asks for them with a mask rule. The merged change u is the written model less the base. The rule gives the
mask Mᵢ of model i, for EMR [τᵢ·u > 0], and the scale is cᵢ = Σ|τᵢ| / Σ|Mᵢ u| over all tensors (section 3.2; the
official code takes ratios of means instead). Then θ₀ + cᵢ Mᵢ u stands for model i. A mask is one bit an entry, the
lowest bit of a byte first.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cuvee.checkpoint import TensorSource
from cuvee.checkpoint.checkpoint import Checkpoint
from cuvee.checkpoint.dtypes import NUMPY
from cuvee.checkpoint.header import read_header
from cuvee.checkpoint.write import METADATA, CheckpointWriter, OutputTensor, Shard, lay_out_file, write_error
from cuvee.descriptors import BINARY, write_at
from cuvee.kernels import BLOCK, Block, Kernels, load
from cuvee.method import MaskRule
from cuvee.plan import MergeStep, Plan
from cuvee.plan.plan import merged_steps
from cuvee.progress import Progress

CHUNK = BLOCK
"""Elements at a time, of each model; a multiple of the eight bits of a byte."""


@dataclass(frozen=True)
class MaskFile:
    """A model's file: its name within the output, the model, its scale."""

    file: str
    model: str
    scale: float


def has_masks(plan: Plan) -> bool:
    """Say whether a plan's output comes with masks: its method has them, and no tensor moves or has other models."""
    if plan.method.masks is None:
        return False
    merges = merged_steps(plan.steps)
    stays = all(step.base is not None and step.base.tensor == step.name for step in merges)
    return stays and len(set(map(_models, merges))) == 1


def without_masks(plan: Plan, *, split: bool) -> tuple[str, ...]:
    """Warn of a merge that writes no masks although its method has them."""
    if plan.method.masks is None:
        return ()
    if has_masks(plan) and not split:
        return ()
    why = "it is split into parts" if split else "its slices move layers or merge different models"
    return (f"this merge writes the unified model and no masks of {plan.method.key.upper()}: {why}",)


def write_masks(plan: Plan, writer: CheckpointWriter, *, threads: int, progress: Progress) -> tuple[MaskFile, ...]:
    """Write each model's file beside the merged weights, which must be complete. Reads every input once more."""
    rule = plan.method.masks
    assert rule is not None, "only methods with masks come here"
    steps = merged_steps(plan.steps)
    models = _models(steps[0])
    shards = [_shard(plan, model, position, scale=0.0) for position, model in enumerate(models)]
    headers = tuple(read_header(writer.folder / shard.file).within(shard.folder) for shard in writer.shards)
    progress.start("masks", sum(step.elements for step in steps), "entries")
    with Checkpoint(writer.folder, headers, {}) as unified, _opened(writer, shards, plan.method.key) as files:
        masks = _Masks(rule, plan.sources, unified, files, load())
        totals = np.zeros((len(models), 2))
        with ThreadPoolExecutor(threads) as pool:
            for step, sums in zip(steps, pool.map(masks.write, steps), strict=True):
                totals += sums
                progress.advance(step.elements)
        scales = [float(changed / shared) if shared else 0.0 for changed, shared in totals]
        for position, (model, file, scale) in enumerate(zip(models, files, scales, strict=True)):
            file.put(_shard(plan, model, position, scale).header, 0)
    progress.finish()
    return tuple(
        MaskFile(shard.file, str(plan.models[model]), scale)
        for shard, model, scale in zip(shards, models, scales, strict=True)
    )


def _models(step: MergeStep) -> tuple[int, ...]:
    return tuple(given.model for given in step.inputs)


def _shard(plan: Plan, model: int, position: int, scale: float) -> Shard:
    """Lay out a model's file, in a folder called like the method. Its header is as long for every scale."""
    name = re.sub(r"[^\w.-]+", "-", Path(plan.models[model].path).name).strip("-.") or "model"
    metadata = {**METADATA, "model": str(plan.models[model]), "scale": f"{scale:.17e}".ljust(26)}
    tensors = [OutputTensor(step.name, "U8", (-(-step.elements // 8),)) for step in merged_steps(plan.steps)]
    return lay_out_file(f"{plan.method.key}/{position + 1}-{name}.safetensors", tensors, metadata)


class _File:
    """A mask file that is being written."""

    def __init__(self, path: Path, shard: Shard, writer: CheckpointWriter) -> None:
        self.starts: Mapping[str, int] = shard.starts
        self.writer = writer
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | BINARY, 0o644)

    def put(self, data: bytes, position: int) -> None:
        view = memoryview(data)
        try:
            while len(view):
                count = write_at(self.descriptor, view, position)
                view, position = view[count:], position + count
        except OSError as error:
            raise write_error(error, self.writer.out) from error


@contextmanager
def _opened(writer: CheckpointWriter, shards: Sequence[Shard], folder: str) -> Iterator[list[_File]]:
    try:
        (writer.folder / folder).mkdir(exist_ok=True)
        with ExitStack() as stack:
            files = []
            for shard in shards:
                files.append(_File(writer.folder / shard.file, shard, writer))
                stack.callback(os.close, files[-1].descriptor)
                os.ftruncate(files[-1].descriptor, shard.nbytes)
            yield files
    except OSError as error:
        raise write_error(error, writer.out) from error


class _Masks:
    """Writes the masks of single tensors, from several threads at once."""

    def __init__(
        self,
        rule: MaskRule,
        sources: Sequence[TensorSource],
        unified: TensorSource,
        files: Sequence[_File],
        kernels: Kernels,
    ) -> None:
        self.rule = rule
        self.sources = sources
        self.unified = unified
        self.files = files
        self.kernels = kernels

    def write(self, step: MergeStep) -> np.ndarray:
        """Write a tensor's masks; return Σ|τᵢ| and Σ|Mᵢ u| of each model."""
        sums = np.zeros((len(self.files), 2))
        assert step.base is not None, "has_masks asks for a base"
        for first in range(0, step.elements, CHUNK):
            n = min(CHUNK, step.elements - first)
            base = read_wide(self.sources[step.base.model], step.base.tensor, first, n, self.kernels)
            change = read_wide(self.unified, step.name, first, n, self.kernels) - base
            size = np.abs(change).astype(np.float64)
            for given, file, total in zip(step.inputs, self.files, sums, strict=True):
                delta = read_wide(self.sources[given.model], given.tensor, first, n, self.kernels) - base
                mask = np.asarray(self.rule(delta, change))
                total += np.abs(delta).sum(dtype=np.float64), (size * mask).sum()
                bits = np.packbits(mask, bitorder="little")
                file.put(bits.tobytes(), file.starts[step.name] + first // 8)
        return sums


def read_wide(source: TensorSource, name: str, first: int, n: int, kernels: Kernels) -> np.ndarray:
    """Read `n` elements from `first` on, as float64 where they are stored so, else as float32."""
    dtype = NUMPY[source.tensors[name].dtype]
    raw = np.empty(n, dtype)
    source.read_into(name, first * dtype.itemsize, [raw])
    wide = np.dtype(np.float64 if dtype == np.float64 else np.float32)
    numbers: np.ndarray = Block(raw.reshape(1, -1), 0, wide, False, kernels).stack[0]
    return numbers
