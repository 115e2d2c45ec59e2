"""Plan of models on a hub -> the same plan of models on the disk."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cuvee.adapters import Adapted
from cuvee.amounts import bytes_text
from cuvee.checkpoint import TensorSource
from cuvee.checkpoint.recut import RecutCheckpoint
from cuvee.checkpoint.write import partial_folder, refuse_existing
from cuvee.descriptors import allocated_bytes
from cuvee.errors import CheckpointError, OutOfBudget
from cuvee.foreign import readable
from cuvee.hub import download, missing_bytes, open_cached, refuse_small_disk, weight_names
from cuvee.plan import Plan
from cuvee.plan.adapters import fetched_adapter
from cuvee.plan.materials import unaligned
from cuvee.plan.plan import conflicts
from cuvee.progress import Progress
from cuvee.tokenizers.rows import AlignedCheckpoint


def fetched(plan: Plan, out: Path, progress: Progress, *, overwrite: bool) -> Plan:
    """Download files that the cache lacks, once there is room for them and the output. Raises CuveeError."""
    wanted = [
        (i, repository, repository.wanted(weight_names(plan.hub, repository)))
        for i, repository in enumerate(plan.repositories)
        if repository is not None
    ]
    adapters = [adapter for adapter in plan.adapters if adapter is not None]
    remote = [adapter for adapter in adapters if adapter.repository is not None]
    if not wanted and not remote:
        return plan
    missing = sum(missing_bytes(repository, names) for _, repository, names in wanted)
    missing += sum(adapter.missing_bytes for adapter in remote)
    if missing:
        refuse_existing(out, overwrite=overwrite)
        _refuse_small_disks(plan, out, missing)
    sources, places = [unaligned(source) for source in plan.sources], list(plan.places)
    for i, repository, names in wanted:
        if not plan.hub.is_offline:
            download(plan.hub, repository, names, progress)
        sources[i] = readable(open_cached(repository), repository.shown)
        places[i] = repository.folder
    for i, adapter in enumerate(plan.adapters):
        if adapter is not None:
            source = sources[i]
            base = source.base if isinstance(source, Adapted) else source
            sources[i] = Adapted(base, fetched_adapter(plan.hub, adapter, progress).adapter)
    here = replace(plan, sources=_as_planned(plan.sources, sources), places=tuple(places))
    if here.digest != plan.digest:
        hint = "remove the model from the cache, then try again"
        raise CheckpointError("what was downloaded is not what was planned with", hint=hint)
    return _with_licences(_with_doubts(here))


def _with_doubts(plan: Plan) -> Plan:
    """Warn of doubts that only the numbers of an adapter raise."""
    warnings = list(plan.warnings)
    for model, source in zip(plan.models, plan.sources, strict=True):
        for warning in getattr(unaligned(source), "warnings", ()):
            warnings.append(f"{model}: {warning}")
    return replace(plan, warnings=tuple(dict.fromkeys(warnings)))


def _with_licences(plan: Plan) -> Plan:
    """Warn of licences that do not go together, which the cards say that have come with the models."""
    new = [conflict for conflict in conflicts(plan.parents) if conflict not in plan.warnings]
    return replace(plan, warnings=(*plan.warnings, *new))


def _as_planned(planned: Sequence[TensorSource], own: Sequence[TensorSource]) -> tuple[TensorSource, ...]:
    """Read models with the blocks and the rows with which they were planned."""
    recut = list(map(_recut, planned, own))
    aligned: list[TensorSource] = []
    for before, source in zip(planned, recut, strict=True):
        aligned.append(before.over(recut) if isinstance(before, AlignedCheckpoint) else source)
    return tuple(aligned)


def _recut(planned: TensorSource, own: TensorSource) -> TensorSource:
    """Cut the blocks of a model as those of the planned model are cut."""
    inner = planned.source if isinstance(planned, AlignedCheckpoint) else planned
    return inner.over(own) if isinstance(inner, RecutCheckpoint) else own


def _refuse_small_disks(plan: Plan, out: Path, missing: int) -> None:
    """Raise OutOfBudget if cache or output has no room or, on a common disk, both together have none."""
    refuse_small_disk(plan.hub, missing)
    begun = [file for file in (partial_folder(out) / "model").glob("*") if file.is_file()]
    needed = max(0, plan.forecast.bytes_written - sum(allocated_bytes(file.stat()) for file in begun))
    together = _device(out) == _device(plan.hub.cache_folder)
    free = plan.hub.free_bytes(out.parent) - (missing if together else 0)
    if needed > free:
        besides = " besides the downloads" if together else ""
        message = f"the output takes {bytes_text(needed)}, and {out.parent} has {bytes_text(max(free, 0))}{besides}"
        raise OutOfBudget(message, where=str(out), hint="free some space, or write elsewhere")


def _device(place: Path) -> int:
    place = place.absolute()
    while not place.exists():
        place = place.parent
    return place.stat().st_dev
