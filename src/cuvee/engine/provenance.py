"""`cuvee.json`: where an output came from."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from cuvee.checkpoint.hashes import sha256_of
from cuvee.checkpoint.stored_file import Recorded, recorded
from cuvee.plan import Parent, Plan
from cuvee.plan.eight_bits import written_tensors
from cuvee.progress import Progress
from cuvee.version import __version__
from cuvee.versions import installed_version

_LIBRARIES = ("numpy", "numba", "ml-dtypes", "blake3")


@dataclass(frozen=True)
class Figures:
    """The cost of a merge. `seconds` are without `compile_seconds`, in which kernels were compiled for this machine.

    `cast_loss` is the length of the final cast's error, relative to that of the change from the base; None where
    there is no base or no cast.
    """

    seconds: float
    bytes_read: int
    bytes_written: int
    peak_memory_bytes: int
    cast_loss: float | None
    compile_seconds: float = 0.0


@dataclass(frozen=True)
class ParentFiles:
    """A parent, and its files as `cuvee.json` lists them."""

    parent: Parent
    files: Recorded


def provenance(plan: Plan, inputs: Sequence[ParentFiles]) -> dict[str, Any]:
    """Return the content of cuvee.json, but for the weights' digest and the figures, which are known at the end."""
    making = plan.making.record if plan.making is not None else {}
    prompt = {"prompt": dict(plan.recipe.prompt)} if plan.recipe.prompt else {}
    statistics = {"statistics": _statistics(plan)} if any(plan.statistics) else {}
    written = written_tensors(plan)
    libraries = {name: installed_version(name) for name in _LIBRARIES}
    return {
        "cuvee": __version__,
        **making,
        "recipe_digest": plan.recipe_digest,
        **prompt,
        "plan_digest": plan.digest,
        "seed": plan.recipe.seed,
        "inputs": list(map(_as_json, inputs)),
        **statistics,
        "weights_digest": None,
        "reproducible": plan.reproducible,
        "tensors": len(written),
        "parameters": sum(tensor.elements for tensor in written),
        "warnings": list(plan.warnings),
        "notes": list(plan.notes),
        "versions": {"python": platform.python_version(), **libraries},
        "figures": None,
    }


def inputs_of(plan: Plan) -> list[ParentFiles]:
    """Return each parent with the identity of its files, sampled contents among it."""
    return [ParentFiles(parent, recorded(parent.source.files())) for parent in plan.parents]


def with_sha256(inputs: Sequence[ParentFiles], *, threads: int, progress: Progress) -> list[ParentFiles]:
    """Return the inputs with the SHA-256 of every file, which this reads where it is not known."""
    paths = [_unhashed(entry) for entry in inputs]
    wanted = list(chain.from_iterable(unhashed.values() for unhashed in paths))
    hashes = sha256_of(wanted, threads=threads, progress=progress)
    hashed = []
    for entry, unhashed in zip(inputs, paths, strict=True):
        own = {name: {**entry.files[name], "sha256": hashes[path]} for name, path in unhashed.items()}
        hashed.append(replace(entry, files={**entry.files, **own}))
    return hashed


def _unhashed(entry: ParentFiles) -> dict[str, Path]:
    paths = {name: file.path for name, file in entry.parent.source.files().items() if file.sha256 is None}
    return {name: path for name, path in paths.items() if path is not None}


def _statistics(plan: Plan) -> dict[str, Any]:
    """Return the origin of each model's statistics."""
    found = {}
    for model, own in zip(plan.models, plan.statistics, strict=True):
        if own is not None:
            found[str(model)] = {"digest": own.digest, "text": own.record.text.model_dump()}
    return found


def _as_json(entry: ParentFiles) -> dict[str, Any]:
    repository, adapter = entry.parent.repository, entry.parent.adapter_repository
    revision = repository.commit if repository is not None else None
    adapter_revision = {"adapter_revision": adapter.commit} if adapter is not None else {}
    return {"model": entry.parent.name, "revision": revision, "files": entry.files, **adapter_revision}
