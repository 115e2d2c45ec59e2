"""The data that near copies are found by: a sketch of the judged model's task vector, and its wrong answers.

The sketch is a few hundred sums of the model's numbers minus those of the competition's first whole model, with signs
that only names and places decide (a count sketch: Charikar, Chen and Farach-Colton, 2002). It is linear, so the cosine
of two sketches estimates that of the two task vectors: near 1, where it matters, to about a tenth of what is missing.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import ConfigDict, Field, with_config

from cuvee.checkpoint import open_checkpoint
from cuvee.checkpoint.dtypes import MERGEABLE, NUMPY

if TYPE_CHECKING:
    from cuvee.checkpoint import Checkpoint

ROWS, COLUMNS = 16, 16
NUMBERS = ROWS * COLUMNS
MOST_OF_A_TENSOR = 1 << 20
"""So many numbers of each tensor are looked at, its first ones: a second or two for a model of billions."""

Key = Annotated[str, Field(max_length=16)]


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class Likeness:
    """For the organiser alone. `sketch` has length 1. It is empty where the competition has no whole model to subtract,
    where that has other tensors, and where nothing was changed.

    Sketches of one `layout`, a digest of the tensors' names and shapes, can be compared. `wrong` has for each public
    item, in order, the answer if that was wrong, and "" if it was right. `models` are sketches of the models that were
    merged, by the words of the recipe: so that a model is known under another name, and with a little noise. They are
    empty for a model that changes nothing, or that has other tensors, or an adapter.
    """

    layout: Annotated[str, Field(max_length=64)] = ""
    sketch: Annotated[tuple[float, ...], Field(max_length=NUMBERS)] = ()
    wrong: Mapping[str, tuple[Key, ...]] = field(default_factory=dict)
    models: Mapping[str, Annotated[tuple[float, ...], Field(max_length=NUMBERS)]] = field(default_factory=dict)


def likeness_of(
    model: Path,
    base: Path | None,
    wrong: Mapping[str, tuple[str, ...]],
    models: Mapping[str, Path] | None = None,
) -> Likeness:
    """Sketch a model, and the `models` that it was merged from, against a base; put its wrong answers beside."""
    if base is None:
        return Likeness(wrong=wrong)
    with open_checkpoint(base) as opened:
        ground = _Ground(_layout(opened), _sketch(opened))
    merged = {reference: sketch_of(place, ground) for reference, place in (models or {}).items()}
    sketch = sketch_of(model, ground)
    if not sketch:
        return Likeness(wrong=wrong, models=merged)
    return Likeness(ground.layout, sketch, wrong, merged)


@dataclass(frozen=True)
class _Ground:
    """The model that others are sketched against."""

    layout: str
    sketch: np.ndarray


def sketch_of(model: Path, ground: "_Ground") -> tuple[float, ...]:
    """Sketch a model against the ground, to length 1; empty where nothing is changed, or other tensors are there."""
    with open_checkpoint(model) as checkpoint:
        if _layout(checkpoint) != ground.layout:
            return ()
        change = (_sketch(checkpoint) - ground.sketch).reshape(-1)
    length = float(np.linalg.norm(change))
    if not 0 < length < np.inf:
        return ()
    return tuple(round(float(number), 7) for number in change / length)


def answer_key(prediction: int | str) -> str:
    """Write an answer short, so that equal answers are equal: the number of a choice, or a digest of a text."""
    if isinstance(prediction, int):
        return str(prediction)
    return hashlib.sha256(prediction.encode()).hexdigest()[:12]


def _layout(checkpoint: "Checkpoint") -> str:
    listed = sorted([spec.name, list(spec.shape)] for spec in checkpoint.tensors.values())
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def _sketch(checkpoint: "Checkpoint") -> np.ndarray:
    """Add up every tensor's first numbers: its name decides the row and the signs, the place the column."""
    sums = np.zeros((ROWS, COLUMNS))
    for spec in checkpoint.tensors.values():
        if spec.dtype not in MERGEABLE or not spec.elements:
            continue
        seed = int.from_bytes(hashlib.sha256(spec.name.encode()).digest()[:8], "little")
        dtype = NUMPY[spec.dtype]
        raw = np.empty(min(MOST_OF_A_TENSOR, spec.elements) * dtype.itemsize, np.uint8)
        checkpoint.read_into(spec.name, 0, [raw])
        values = np.nan_to_num(raw.view(dtype).astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        sums[seed % ROWS] += _signed_sums(values, seed)
    return sums


def _signed_sums(values: np.ndarray, seed: int) -> np.ndarray:
    bits = np.random.Philox(key=seed).random_raw(-(-len(values) // 64))
    signs = np.unpackbits(bits.astype("<u8").view(np.uint8))[: len(values)]
    signed = np.where(signs, values, -values)
    padded = np.concatenate([signed, np.zeros(-len(signed) % COLUMNS)])
    summed: np.ndarray = padded.reshape(-1, COLUMNS).sum(axis=0)
    return summed
