"""Merged matrices are coded in eight bits on their way to the file, for `out_dtype: fp8`.

Each tensor's bytes come in order, and whole rows of blocks are coded as soon as they are there. What is coded are the
numbers that a merge without `fp8` writes, so the files are those that `cuvee export fp8` makes of its output.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from blake3 import blake3

from cuvee.checkpoint.dtypes import NUMPY
from cuvee.engine.journal import Finished
from cuvee.engine.step import Loss
from cuvee.errors import MethodError
from cuvee.plan import MergeStep, Plan
from cuvee.plan.eight_bits import BLOCK, codes_of


class Encoder:
    """Codes what is written of some tensors. Each tensor is written by one thread; several are written at once.

    Codes and scales may lie in different files. Only what is among `wanted` is written: a part of a split merge may
    have but one of the two.
    """

    def __init__(
        self,
        plan: Plan,
        wanted: Collection[str],
        write: Callable[[str, int, np.ndarray], None],
        note: Callable[[str, Finished], None],
    ) -> None:
        self._wanted, self._write, self._note = wanted, write, note
        self._scales = plan.coded
        self._steps = {step.name: step for step in plan.steps if step.name in plan.coded}
        self._tensors: dict[str, _Tensor] = {}

    def write(self, name: str, start: int, data: np.ndarray) -> None:
        """Take bytes of a tensor from its byte `start` on."""
        if name not in self._steps:
            self._write(name, start, data)
            return
        if start == 0:
            self._tensors[name] = _Tensor(self._steps[name], self._scales[name])
        tensor = self._tensors[name]
        for band in tensor.bands(data):
            if not np.isfinite(band).all():
                message = "a number is not finite, and eight bits have one scale for its whole block"
                raise MethodError(message, where=name, hint="say bfloat16")
            codes = codes_of(band)
            tensor.count(band, codes.decoded())
            for own, part, digest in (
                (name, codes.numbers, tensor.codes),
                (self._scales[name], codes.scales, tensor.scales),
            ):
                raw = np.ascontiguousarray(part).reshape(-1).view(np.uint8)
                if own in self._wanted:
                    self._write(own, tensor.written[own], raw)
                tensor.written[own] += raw.size
                digest.update(raw.data)

    def note(self, name: str, finished: Finished) -> None:
        """Note a tensor whose last byte is written: its scales first, with what coding lost, then its codes."""
        tensor = self._tensors.pop(name, None)
        if tensor is None:
            self._note(name, finished)
            return
        for own, digest, loss in (
            (self._scales[name], tensor.scales, tensor.loss),
            (name, tensor.codes, finished.loss),
        ):
            if own in self._wanted:
                self._note(own, Finished(digest.hexdigest(), loss))


@dataclass
class _Tensor:
    """A tensor that is being coded: the rows that wait for the rest of their blocks, and what is written."""

    step: MergeStep
    scales_name: str
    waiting: list[np.ndarray] = field(default_factory=list)
    loss: Loss = field(default_factory=Loss)
    codes: Any = field(default_factory=blake3)
    scales: Any = field(default_factory=blake3)
    written: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.written = {self.step.name: 0, self.scales_name: 0}

    def bands(self, data: np.ndarray) -> Iterable[np.ndarray]:
        """Give the rows of whole blocks that are complete with these bytes, some blocks' worth at a time."""
        dtype, columns = NUMPY[self.step.dtype], self.step.shape[1]
        band_bytes = BLOCK * columns * dtype.itemsize
        data = data.reshape(-1).view(np.uint8)
        while sum(map(len, self.waiting)) + len(data) >= band_bytes:
            missing = band_bytes - sum(map(len, self.waiting))
            self.waiting.append(data[:missing])
            band = np.concatenate(self.waiting).view(dtype).reshape(BLOCK, columns)
            self.waiting, data = [], data[missing:]
            yield band.astype(np.float32)
        if len(data):
            self.waiting.append(data.copy())  # the caller uses its room again

    def count(self, band: np.ndarray, decoded: np.ndarray) -> None:
        wide = band.astype(np.float64)
        lost = self.loss.lost + float(((decoded - wide) ** 2).sum())
        moved = self.loss.moved + float((wide**2).sum())
        self.loss = Loss(lost, moved)


def steps_of(names: Collection[str], plan: Plan) -> list[MergeStep]:
    """Return the steps that some of the written tensors come from: codes and scales come from one."""
    return [step for step in plan.steps if step.name in names or plan.coded.get(step.name) in names]


def is_finished(step: MergeStep, plan: Plan, wanted: Collection[str], finished: Mapping[str, Finished]) -> bool:
    """Say whether all that is wanted of a step is there."""
    own = {step.name, plan.coded.get(step.name, step.name)}
    return own.intersection(wanted) <= finished.keys()


def coding_losses(coded: Mapping[str, str], finished: Mapping[str, Finished]) -> dict[str, float]:
    """Return, for each coded tensor, the norm of what coding changed over its own norm."""
    losses = {}
    for name, scales in coded.items():
        loss = finished[scales].loss
        losses[name] = (loss.lost / loss.moved) ** 0.5 if loss.moved else 0.0
    return losses


def told_loss(coded: Mapping[str, str], finished: Mapping[str, Finished]) -> str:
    """Say in a sentence what coding lost."""
    losses = coding_losses(coded, finished)
    parts = [finished[scales].loss for scales in coded.values()]
    moved = sum(part.moved for part in parts)
    lost = sum(part.lost for part in parts)
    whole = (lost / moved) ** 0.5 if moved else 0.0
    worst = max(coded, key=losses.__getitem__)
    return (
        f"eight bits lost {whole:.2%} of the norm of the {len(coded)} matrices in them; "
        f"most {losses[worst]:.2%}, of {worst}"
    )
