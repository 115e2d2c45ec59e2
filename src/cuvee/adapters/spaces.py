"""The spaces in which adapters are merged, and adapters in them as models that the planner and the engine know.

In each space an adapter's change of a module is a matrix, and so a tensor that any method can merge:
- `dense`: the change itself, B A;
- `knots`: its coordinates in the basis of all changes side by side (KnOTS, arXiv:2410.19735): tᵢ = Uᵀ Bᵢ Aᵢ;
- `core`: its coordinates in bases of both sides (core space, arXiv:2509.17786): Mᵢ = Uᵀ Bᵢ Aᵢ V.

Tensors that adapters hold whole are there as what they change in the base's.
"""

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cuvee.adapters.group import Group
from cuvee.adapters.low_rank import Basis, Kept, Product, Wanted, basis_of, compressed
from cuvee.adapters.over_base import Delta
from cuvee.checkpoint import StoredFile, TensorSpec

Space = Literal["dense", "knots", "core"]


@dataclass(frozen=True)
class Represented:
    """A module's changes in a space, and the bases that lead back: none where they are whole."""

    changes: tuple[Delta, ...]
    left: np.ndarray | None
    right: np.ndarray | None


class Merging:
    """The adapters of a group in one space. A module's bases are worked out when it is read and kept until lifted.

    `done` are modules that are merged otherwise.
    """

    def __init__(self, group: Group, space: Space, done: Collection[str] = ()) -> None:
        self.group = group
        self.space = space
        self.modules = tuple(module for module in group.modules if module not in done)
        self._known: dict[str, Represented] = {}
        self._locks = {module: threading.Lock() for module in self.modules}

    def shape(self, module: str) -> tuple[int, int]:
        """Return the shape of a module's changes in the space."""
        out, into = self.group.shape(module)
        ranks = sum(self.group.ranks(module))
        if self.space == "dense":
            return out, into
        return min(ranks, out), into if self.space == "knots" else min(ranks, into)

    def represented(self, module: str) -> Represented:
        """Return a module's changes in the space."""
        with self._locks[module]:
            if module not in self._known:
                self._known[module] = represent(self.group.deltas(module), self.space)
            return self._known[module]

    def lifted(self, module: str, merged: np.ndarray, wanted: Wanted) -> Kept:
        """Bring a merged matrix back, compressed; the module's bases are forgotten."""
        found = self.represented(module)
        self.forget(module)
        return compressed(merged, wanted, found.left, found.right)

    def forget(self, module: str) -> None:
        """Give back the memory of a module's bases."""
        with self._locks[module]:
            self._known.pop(module, None)


def represent(deltas: Sequence[Delta], space: Space) -> Represented:
    """Represent a module's changes in a space. Only the dense one has a place for what is of no low rank."""
    if space == "dense":
        return Represented(tuple(deltas), None, None)
    products = [delta for delta in deltas if isinstance(delta, Product)]
    assert len(products) == len(deltas), "checked before"
    lefts = basis_of([product.left for product in products])
    rights = basis_of([product.right.T for product in products])
    if space == "core":
        pairs = zip(lefts.coordinates, rights.coordinates, strict=True)
        changes = tuple(Product(left, right.T) for left, right in pairs)
        return Represented(changes, lefts.directions, rights.directions)
    return _aligned(products, lefts, rights)


def _aligned(products: Sequence[Product], lefts: Basis, rights: Basis) -> Represented:
    """Turn the left basis to the left singular vectors of all changes side by side."""
    cores = [left @ right.T for left, right in zip(lefts.coordinates, rights.coordinates, strict=True)]
    turn = np.linalg.svd(np.concatenate(cores, axis=1), full_matrices=False).U
    changes = tuple(
        Product(turn.T @ left, product.right) for left, product in zip(lefts.coordinates, products, strict=True)
    )
    return Represented(changes, lefts.directions @ turn, None)


class InSpace:
    """One adapter of a group as a model, or the base with None: float32 tensors made when they are read."""

    def __init__(self, merging: Merging, which: int | None) -> None:
        self.merging = merging
        self.which = which
        base = merging.group.base
        self.config: dict[str, Any] = dict(base.config) if base is not None else {}
        self.place: Path | None = None
        self.notes: tuple[str, ...] = ()
        shapes: dict[str, tuple[int, ...]] = {f"{m}.weight": merging.shape(m) for m in merging.modules}
        shapes |= {whole.name: whole.shape for whole in merging.group.wholes}
        self.tensors: Mapping[str, TensorSpec] = {
            name: TensorSpec(name, "F32", shape, Path("adapters"), 0) for name, shape in shapes.items()
        }

    def will_read(self, name: str, start: int, nbytes: int) -> None:
        pass

    def files(self) -> dict[str, StoredFile]:
        return {}

    def read_into(self, name: str, start: int, out: Sequence[np.ndarray]) -> None:
        for part in out:
            numbers = part.view(np.uint8).view(np.float32)
            numbers[:] = self.numbers(name, start // 4, start // 4 + numbers.size)
            start += part.nbytes

    def numbers(self, name: str, first: int, last: int) -> np.ndarray:
        """Return the entries from `first` up to `last` of a tensor, flat."""
        if self.which is None:
            return np.zeros(last - first, np.float32)
        whole = self.merging.group.whole(name)
        if whole is not None:
            return self.merging.group.read_change(whole, self.which, first, last)
        delta = self.merging.represented(name.removesuffix(".weight")).changes[self.which]
        width = delta.shape[1]
        low, high = first // width, -(-last // width)
        rows = delta.rows(low, high)
        return np.asarray(rows.reshape(-1)[first - low * width : last - low * width])
