"""A fine-tuned model and its base, tensor by tensor under the base's names: their changes, and how large those are."""

from collections.abc import Iterator

import numpy as np

from cuvee.adapters.adapted import read_rows
from cuvee.adapters.heads import head_name
from cuvee.checkpoint import TensorSource
from cuvee.checkpoint.dtypes import MERGEABLE
from cuvee.engine.model_parts import Parts
from cuvee.errors import CheckpointError, CuveeError, several
from cuvee.plan.names import View, view_as, view_of
from cuvee.structure import TensorPlace
from cuvee.structure.config import in_memory

MOST_SHOWN = 8


class Pair:
    """The two models. State: the energy of each change, once it is known.

    `tie` is that of the base. `head` is the model's name for a head of its own, where the base has only its embedding.
    Raises CheckpointError where the two differ in more than their numbers.
    """

    def __init__(self, base: TensorSource, model: TensorSource, names: tuple[str, str], parts: Parts) -> None:
        self.base: View = view_of(base)
        self.model: View = view_as(self.base, model)
        self.names = names
        self.parts = parts
        self.tie = next((t for t in self.base.structure.ties if t.state in ("tied", "stored twice")), None)
        self.called = dict(self.model.called)
        self._tie_anew()
        tied_head = None
        if self.tie is not None and self.tie.state == "tied":
            tied_head = head_name(self.tie, base.config)
        self.head: str | None = tied_head if tied_head in self.called else None
        self._energies: dict[str, float] = {}
        problems = list(self._differences())
        if problems:
            more = len(problems) - MOST_SHOWN
            raise several(problems[:MOST_SHOWN] + ([CheckpointError(f"and {more} more")] if more > 0 else []))
        parts.check(self.places())

    def _tie_anew(self) -> None:
        """Read the head of a model that ties it from its embedding, where the base has a head of its own."""
        own = next((tie for tie in self.model.structure.ties if tie.state == "tied"), None)
        if own is None:
            return
        for tie in self.base.structure.ties:
            if tie.head is not None and tie.embedding in self.called:
                self.called.setdefault(tie.head, self.called[tie.embedding])

    def _differences(self) -> Iterator[CuveeError]:
        base, model = self.base.source, self.model.source
        for name, spec in base.tensors.items():
            own = self.called.get(name)
            if own is None:
                yield CheckpointError(f"has no tensor '{name}', which the base has", where=self.names[0])
            elif model.tensors[own].shape != spec.shape:
                shapes = f"{list(model.tensors[own].shape)}, in the base {list(spec.shape)}"
                yield CheckpointError(f"'{name}' has shape {shapes}", where=self.names[0])
        for name in self.called:
            if name not in base.tensors and name != self.head:
                yield CheckpointError(f"has '{name}', which the base has not", where=self.names[0])

    def places(self) -> list[TensorPlace]:
        return [self.base.structure.of(name) for name in self.base.source.tensors]

    def in_memory(self, name: str) -> str:
        """Return the name that transformers has in memory for a module or tensor of the base."""
        return in_memory(name, self.base.source.config)

    def dtype(self, name: str) -> str:
        """Return the type that the model stores a tensor in."""
        return self.model.source.tensors[self.called[name]].dtype

    def numbers(self, name: str) -> np.ndarray:
        """Read a tensor's new numbers: the model's, or the base's where its change is not wanted."""
        wanted = name == self.head or self.parts.has(self.base.structure.of(name))
        return _numbers(self.model.source, self.called[name]) if wanted else _numbers(self.base.source, name)

    def change(self, place: TensorPlace) -> np.ndarray:
        """Read the change of a tensor, in float32; of a matrix as [out, in]."""
        change = self._change(place.name, place.name)
        is_turned = place.input_first and change.ndim == 2
        return change.T if is_turned else change

    def energy(self, place: TensorPlace) -> float:
        """Return the squared norm of a tensor's change, wanted or not."""
        name = place.name
        if name not in self._energies:
            is_number = self.dtype(name) in MERGEABLE and self.base.source.tensors[name].dtype in MERGEABLE
            self._energies[name] = float(np.square(self.change(place), dtype=np.float64).sum()) if is_number else 0.0
        return self._energies[name]

    def has_changed(self, place: TensorPlace) -> bool:
        """Say whether a tensor has changed, and its change is wanted."""
        return self.parts.has(place) and self.energy(place) > 0

    def has_new_head(self) -> bool:
        """Say whether the model's own head is other than the embedding that the base has for it."""
        if self.head is None or self.tie is None:
            return False
        return bool(self._change(self.head, self.tie.embedding).any())

    def _change(self, name: str, origin: str) -> np.ndarray:
        new, old = _numbers(self.model.source, self.called[name]), _numbers(self.base.source, origin)
        change: np.ndarray = new.astype(np.float32) - old.astype(np.float32)
        if not np.isfinite(change).all():
            raise CheckpointError(f"'{name}' holds numbers that are not finite", where=self.names[0])
        return change


def _numbers(source: TensorSource, name: str) -> np.ndarray:
    shape = source.tensors[name].shape
    width = shape[-1] if shape else 1
    count = int(np.prod(shape)) // max(width, 1)
    return read_rows(source, name, 0, count, width).reshape(shape)
