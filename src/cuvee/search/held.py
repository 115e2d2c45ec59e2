"""Models whose tensors stay in memory from one merge to the next, as far as there is room for them."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cuvee.adapters import Adapted
from cuvee.checkpoint import Checkpoint, StoredFile, TensorSource, TensorSpec
from cuvee.errors import SearchError
from cuvee.recipe.reference import ModelRef

Identity = Mapping[str, tuple[int, str, int | None]]
"""Size, digest of the header and time of the last change of each file of a model."""


class HeldModels:
    """The tensors of models by reference. `room_bytes` bounds them together; the rest is read from files.

    Whoever opens a model again reads the same tensors: a model whose files have changed since is refused.
    """

    def __init__(self, room_bytes: int) -> None:
        self._room = room_bytes
        self._identities: dict[ModelRef, Identity] = {}
        self._tensors: dict[tuple[ModelRef, str], np.ndarray] = {}
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """How much memory the tensors take."""
        return sum(tensor.nbytes for tensor in self._tensors.values())

    def hold(self, model: ModelRef, source: TensorSource) -> TensorSource:
        """Return the model with its tensors in memory. Raises SearchError if its files have changed.

        A model with other rows or another order than its files have is returned as it is: its tensors depend on the
        recipe.
        """
        identity = {name: (file.size, file.header_blake3, file.modified_ns) for name, file in source.files().items()}
        if self._identities.setdefault(model, identity) != identity:
            hint = "start the search anew, and leave the models alone while it runs"
            raise SearchError("the model's files have changed since the search began", where=str(model), hint=hint)
        if type(source) not in (Checkpoint, Adapted):
            return source
        return Held(model, source, self)

    def tensor(self, model: ModelRef, name: str, source: TensorSource) -> np.ndarray | None:
        """Return the bytes of a tensor, read at the first time; None if there is no room for it."""
        tensor = self._tensors.get((model, name))
        if tensor is not None:
            return tensor
        with self._lock:
            if self.nbytes + source.tensors[name].nbytes > self._room:
                return None
            tensor = np.empty(source.tensors[name].nbytes, np.uint8)
            source.read_into(name, 0, [tensor])
            self._tensors[model, name] = tensor
        return tensor


class Held:
    """A model as a source of tensors."""

    def __init__(self, model: ModelRef, source: TensorSource, models: HeldModels) -> None:
        self._model = model
        self._source = source
        self._models = models
        self.tensors: Mapping[str, TensorSpec] = source.tensors
        self.config: dict[str, Any] = source.config
        self.place: Path | None = source.place

    def read_into(self, name: str, start: int, out: Sequence[np.ndarray]) -> None:
        tensor = self._models.tensor(self._model, name, self._source)
        if tensor is None:
            self._source.read_into(name, start, out)
            return
        for part in out:
            part.view(np.uint8)[:] = tensor[start : start + part.nbytes]
            start += part.nbytes

    def will_read(self, name: str, start: int, nbytes: int) -> None:
        pass

    def files(self) -> dict[str, StoredFile]:
        return self._source.files()
