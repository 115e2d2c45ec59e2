"""A merge with some tensors replaced by solved tensors, read tensor by tensor like any checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cuvee.checkpoint import Checkpoint, StoredFile, TensorSource, TensorSpec

Solved = Mapping[str, tuple[Checkpoint, str]]
"""By a tensor's name: the file that holds it now, and its name there."""


class Repaired:
    """The merge with solved tensors in the place of its own; config and companions stay the merge's."""

    def __init__(self, merged: TensorSource, solved: Solved) -> None:
        self._merged, self._solved = merged, solved
        self.config = merged.config
        self.place: Path | None = merged.place
        self.tensors: Mapping[str, TensorSpec] = {name: self._spec(name, spec) for name, spec in merged.tensors.items()}

    def _spec(self, name: str, spec: TensorSpec) -> TensorSpec:
        if name not in self._solved:
            return spec
        file, own = self._solved[name]
        return replace(file.tensors[own], name=name)

    def read_into(self, name: str, start: int, out: Sequence[np.ndarray]) -> None:
        source, own = self._of(name)
        source.read_into(own, start, out)

    def will_read(self, name: str, start: int, nbytes: int) -> None:
        source, own = self._of(name)
        source.will_read(own, start, nbytes)

    def _of(self, name: str) -> tuple[TensorSource, str]:
        return self._solved.get(name, (self._merged, name))

    def files(self) -> dict[str, StoredFile]:
        return self._merged.files()
