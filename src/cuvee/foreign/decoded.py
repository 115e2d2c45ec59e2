"""A checkpoint some of whose tensors are decoded from stored codes, piece by piece, when they are read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cuvee.checkpoint import StoredFile, TensorSource, TensorSpec
from cuvee.checkpoint.dtypes import NUMPY

Decoder = Callable[[int, int], np.ndarray]
"""Gives the numbers of a flattened tensor from one element up to another, in float32."""


@dataclass(frozen=True)
class Decoding:
    """A tensor as it is seen, and how its numbers are worked out. They are rounded once, to the tensor's type."""

    spec: TensorSpec
    decode: Decoder


class Decoded:
    """Reads as a plain checkpoint does. `meant` are types to write tensors in that are decoded to another type."""

    def __init__(
        self,
        inner: TensorSource,
        decodings: Mapping[str, Decoding],
        *,
        hidden: frozenset[str],
        config: dict[str, Any],
        meant: Mapping[str, str],
        notes: tuple[str, ...],
    ) -> None:
        self.inner = inner
        self.config = config
        self.place: Path | None = inner.place
        self.meant = meant
        self.notes = notes
        self._decodings = decodings
        tensors = {name: spec for name, spec in inner.tensors.items() if name not in hidden}
        for name, decoding in decodings.items():
            tensors[name] = decoding.spec
        self.tensors: Mapping[str, TensorSpec] = tensors

    def read_into(self, name: str, start: int, out: Sequence[np.ndarray]) -> None:
        decoding = self._decodings.get(name)
        if decoding is None:
            self.inner.read_into(name, start, out)
            return
        dtype = NUMPY[decoding.spec.dtype]
        for part in out:
            numbers = decoding.decode(start // dtype.itemsize, (start + part.nbytes) // dtype.itemsize)
            with np.errstate(over="ignore"):
                part.view(np.uint8)[:] = numbers.astype(dtype, copy=False).reshape(-1).view(np.uint8)
            start += part.nbytes

    def will_read(self, name: str, start: int, nbytes: int) -> None:
        if name not in self._decodings:
            self.inner.will_read(name, start, nbytes)

    def files(self) -> dict[str, StoredFile]:
        return self.inner.files()
