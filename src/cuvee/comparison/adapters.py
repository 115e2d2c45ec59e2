"""Adapters side by side: how long their changes are, how they point, which directions they share. Nothing is dense."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from cuvee.adapters.adapted import PIECE
from cuvee.adapters.adapter import Adapter
from cuvee.adapters.group import Group, depends_on_base
from cuvee.adapters.low_rank import Product
from cuvee.adapters.over_base import Delta
from cuvee.arguments import as_reference, checks_options, refused
from cuvee.hub import Hub
from cuvee.plan.adapters import adapter_of
from cuvee.plan.resolve import model_to_read, named_base
from cuvee.progress import Progress, Silent


@dataclass(frozen=True)
class AdapterFigures:
    """One adapter: its modules, their ranks, its whole tensors, and the norm of its low-rank change."""

    name: str
    base: str | None
    modules: int
    ranks: tuple[int, ...]
    whole_tensors: int
    norm: float


@dataclass(frozen=True)
class AdapterPair:
    """Two adapters by their positions: the cosine between their changes, and how much of the directions they share.

    `outputs` and `inputs` are means over the modules that both change: 0 for directions at right angles, 1 where the
    directions of either are among those of the other. Undefined figures are None.
    """

    first: int
    second: int
    cosine: float | None
    shared_modules: int
    outputs: float | None
    inputs: float | None


@dataclass(frozen=True)
class ModuleFigures:
    """One module: each adapter's rank and norm in it, and the cosines of all pairs in order."""

    module: str
    ranks: tuple[int, ...]
    norms: tuple[float, ...]
    cosines: tuple[float | None, ...]


@dataclass(frozen=True)
class AdapterComparison:
    """Adapters of one base side by side, as a whole and by module."""

    adapters: tuple[AdapterFigures, ...]
    pairs: tuple[AdapterPair, ...]
    modules: tuple[ModuleFigures, ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON."""
        return asdict(self)


@checks_options
def compare_adapters(
    adapters: Sequence[Adapter | Path | str],
    *,
    base: Path | str = "",
    hub: Hub | None = None,
    progress: Progress | None = None,
) -> AdapterComparison:
    """Compare the changes of adapters, which are opened or named by folder or `org/name[@revision]`.

    The base is needed for DoRA, for other kinds than LoRA, and for experts; by default it is the base that the adapters
    name, if that is on a hub. Raises CheckpointError for those that are not of one base.
    """
    hub = hub or Hub()
    heard = progress or Silent()
    opened = _opened(adapters, hub, heard)
    source = model_to_read(as_reference(base, "base"), hub, heard) if base else None
    if source is None and any(map(depends_on_base, opened)):
        source = named_base(opened, hub, heard)
    group, count = Group(opened, source), len(opened)
    order = list(combinations(range(count), 2))
    total = np.zeros((count, count))
    shares: dict[tuple[int, int], list[tuple[float, float]]] = {pair: [] for pair in order}
    modules = []
    for module in group.modules:
        deltas = group.deltas(module)
        gram = inner_products(deltas)
        total += gram
        for i, j in order:
            first, second = deltas[i], deltas[j]
            if not isinstance(first, Product) or not isinstance(second, Product):
                continue
            if first.rank and second.rank:
                shares[i, j].append(_shared_directions(first, second))
        norms = tuple(math.sqrt(max(gram[i, i], 0.0)) for i in range(count))
        cosines = tuple(_cosine(gram, i, j) for i, j in order)
        modules.append(ModuleFigures(module, tuple(delta.rank for delta in deltas), norms, cosines))
    figures = tuple(_figures(adapter, float(total[i, i])) for i, adapter in enumerate(opened))
    pairs = tuple(_pair(i, j, _cosine(total, i, j), shares[i, j]) for i, j in order)
    return AdapterComparison(figures, pairs, tuple(modules))


def _opened(adapters: Sequence[Adapter | Path | str], hub: Hub, progress: Progress) -> list[Adapter]:
    if isinstance(adapters, str | Path):
        raise refused(adapters, "adapters", "a list of at least two adapters")
    opened = []
    for place, adapter in enumerate(adapters):
        if not isinstance(adapter, Adapter):
            adapter = adapter_of(as_reference(adapter, f"adapters[{place}]"), hub, progress).adapter
        opened.append(adapter)
    return opened


def inner_products(deltas: Sequence[Delta]) -> np.ndarray:
    """Return the inner products of matrices; of low-rank matrices from factors: tr((B₁A₁)ᵀ B₂A₂) = Σ (B₁ᵀB₂) ⊙
    (A₁A₂ᵀ)."""
    found = np.zeros((len(deltas), len(deltas)))
    for i, first in enumerate(deltas):
        for j, second in enumerate(deltas[: i + 1]):
            if isinstance(first, Product) and isinstance(second, Product):
                lefts, rights = first.left.T @ second.left, first.right @ second.right.T
                found[i, j] = found[j, i] = float((lefts * rights).sum())
            elif first.rank and second.rank:
                found[i, j] = found[j, i] = _by_rows(first, second)
    return found


def _by_rows(first: Delta, second: Delta) -> float:
    height, width = first.shape
    step = max(1, PIECE // width)
    total = 0.0
    for low in range(0, height, step):
        high = min(low + step, height)
        total += float((first.rows(low, high).astype(np.float64) * second.rows(low, high)).sum())
    return total


def _shared_directions(first: Product, second: Product) -> tuple[float, float]:
    """Return how much of the outputs, and of the inputs, two changes share."""
    return _shared(first.left, second.left), _shared(first.right.T, second.right.T)


def _shared(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean squared cosine of the principal angles between two spaces of columns."""
    bases = [np.linalg.qr(matrix)[0] for matrix in (first, second)]
    smaller = min(basis.shape[1] for basis in bases)
    return float(np.square(bases[0].T @ bases[1]).sum() / smaller)


def _figures(adapter: Adapter, square: float) -> AdapterFigures:
    ranks = sorted({factors.rank for factors in adapter.factors.values()})
    whole = len(adapter.full) + len(adapter.tokens)
    modules = len(adapter.factors) + len(adapter.changes)
    norm = math.sqrt(max(square, 0.0))
    return AdapterFigures(adapter.name, adapter.config.base, modules, tuple(ranks), whole, norm)


def _pair(i: int, j: int, cosine: float | None, shares: Sequence[tuple[float, float]]) -> AdapterPair:
    if not shares:
        return AdapterPair(i, j, cosine, 0, None, None)
    outputs, inputs = zip(*shares, strict=True)
    return AdapterPair(i, j, cosine, len(shares), float(np.mean(outputs)), float(np.mean(inputs)))


def _cosine(gram: np.ndarray, i: int, j: int) -> float | None:
    lengths = math.sqrt(max(gram[i, i], 0.0)) * math.sqrt(max(gram[j, j], 0.0))
    return float(np.clip(gram[i, j] / lengths, -1.0, 1.0)) if lengths else None
