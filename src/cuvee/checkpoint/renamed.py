"""Tensors of a checkpoint under other names: some of them, or some more than once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cuvee.checkpoint.checkpoint import TensorSource
from cuvee.checkpoint.header import TensorSpec
from cuvee.checkpoint.stored_file import StoredFile


class Renamed:
    """Reads as a plain checkpoint does. `origins` has the name in `source` of each tensor."""

    def __init__(
        self, source: TensorSource, origins: Mapping[str, str], config: Mapping[str, Any] | None = None
    ) -> None:
        self.source = source
        self.config: dict[str, Any] = dict(source.config if config is None else config)
        self.place: Path | None = source.place
        self.notes: tuple[str, ...] = getattr(source, "notes", ())
        self._origins = origins
        stored: Mapping[str, str] = getattr(source, "meant", {})
        self.meant = {name: stored[origin] for name, origin in origins.items() if origin in stored}
        self.tensors: Mapping[str, TensorSpec] = {
            name: replace(source.tensors[origin], name=name) for name, origin in origins.items()
        }

    def read_into(self, name: str, start: int, out: Sequence[np.ndarray]) -> None:
        self.source.read_into(self._origins[name], start, out)

    def will_read(self, name: str, start: int, nbytes: int) -> None:
        self.source.will_read(self._origins[name], start, nbytes)

    def files(self) -> dict[str, StoredFile]:
        return self.source.files()
