"""An adapter's changes by the names of its stored tensors: factors of LoRA, parts of another kind, rows of tokens."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from cuvee.adapters.factor_forms import PLAIN, Form

CONVOLUTIONS = (3, 4, 5)
"""Numbers of axes that weights of convolutions have."""

FactorKind = Literal["linear", "embedding", "parameter"]


@dataclass(frozen=True)
class Factors:
    """One module's factors: W + scale B A, with A [rank, in] and B [out, rank], by the names of the stored tensors.

    Those of an embedding are stored for its transpose; those of a stack of `experts` lie in A and B together. `nested`
    counts the parameters of the same module that were wrapped after this one. `diagonal` are numbers between B and A,
    and `start` names what the training took out of W. Those of a convolution have its `kernel`, the axes of W after its
    outputs: they are one axis of inputs here, as PEFT's B is a convolution of one element.
    """

    module: str
    kind: FactorKind
    rank: int
    scale: float
    first: str
    second: str
    bias: str | None = None
    magnitude: str | None = None
    experts: int = 1
    nested: int = 0
    form: Form = PLAIN
    diagonal: str | None = None
    start: str | None = None
    kernel: tuple[int, ...] = ()


@dataclass(frozen=True)
class Change:
    """What an adapter of another kind than LoRA holds for a module: parts by their stored names, and its settings."""

    module: str
    kind: str
    parts: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Tokens:
    """New rows of an embedding: those of some tokens."""

    module: str
    indices: tuple[int, ...]
    stored: str


def as_matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the shape of a tensor as a matrix, with all axes after the first as one."""
    return shape[0], math.prod(shape[1:])


def kernel_of(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes after the outputs in a convolution's weight, by the shapes of A and B; nothing for others."""
    is_convolution = len(first) in CONVOLUTIONS and len(second) == len(first)
    return first[1:] if is_convolution and set(second[2:]) <= {1} else ()
