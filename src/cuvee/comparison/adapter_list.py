"""The adapters of a folder, each on a line: its kind, size, base, and how much it changes."""

from dataclasses import dataclass
from pathlib import Path

from cuvee.adapters.adapter import Adapter, open_adapter
from cuvee.adapters.config import CONFIG
from cuvee.adapters.group import is_dense
from cuvee.errors import CheckpointError, CuveeError


@dataclass(frozen=True)
class ListedAdapter:
    """One adapter's folder. `energy` is the squared norm of its change, None where only the base would tell.

    An adapter that cannot be read has a `problem` and nothing else.
    """

    name: str
    kind: str = ""
    ranks: tuple[int, ...] = ()
    modules: int = 0
    base: str | None = None
    nbytes: int = 0
    energy: float | None = None
    problem: str | None = None


def list_adapters(folder: Path) -> tuple[ListedAdapter, ...]:
    """List the adapters in a folder, or the folder itself if it is an adapter. Raises CheckpointError where there is
    none."""
    places = sorted(file.parent for file in folder.glob(f"*/{CONFIG}"))
    if (folder / CONFIG).is_file():
        places = [folder]
    if not places:
        hint = f"an adapter is a folder with {CONFIG}"
        raise CheckpointError("expected adapters in folders, found none", where=str(folder), hint=hint)
    return tuple(map(_listed, places))


def _listed(place: Path) -> ListedAdapter:
    try:
        adapter = open_adapter(place, place.name)
        energy = None if is_dense(adapter) else _energy(adapter)
    except CuveeError as error:
        first = (error.problems or (error,))[0]
        return ListedAdapter(place.name, problem=first.message)
    kind = "DORA" if adapter.config.dora else "LORA"
    if adapter.config.kind is not None:
        kind = adapter.config.kind.name
    ranks = tuple(sorted({factors.rank for factors in adapter.factors.values()}))
    modules = len(adapter.factors) + len(adapter.changes)
    nbytes = sum(spec.nbytes for spec in adapter.source.tensors.values())
    return ListedAdapter(place.name, kind, ranks, modules, adapter.config.base, nbytes, energy)


def _energy(adapter: Adapter) -> float:
    """Return Σ ‖B A‖² over the modules and their experts, from small matrices."""
    total = 0.0
    for factors in adapter.factors.values():
        pairs = [adapter.pair(factors)] if factors.kind != "parameter" else adapter.expert_pairs(factors)
        for left, right in pairs:
            total += float(((left.T @ left) * (right @ right.T)).sum(dtype="float64"))
    return total
