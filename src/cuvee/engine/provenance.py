"""`cuvee.json`: where an output came from."""

import platform
from dataclasses import dataclass
from typing import Any

from cuvee.checkpoint.hashes import sha256_of
from cuvee.plan import Plan
from cuvee.progress import Progress
from cuvee.version import __version__
from cuvee.versions import installed_version

_LIBRARIES = ("numpy", "numba", "ml-dtypes", "blake3")


@dataclass(frozen=True)
class Figures:
    """What a merge took. `seconds` are without `compile_seconds`, in which kernels were compiled for this machine.

    `cast_loss` is the length of what the final cast lost, relative to that of the change from the base; None where
    there is no base or no cast.
    """

    seconds: float
    bytes_read: int
    bytes_written: int
    peak_memory_bytes: int
    cast_loss: float | None
    compile_seconds: float = 0.0


def provenance(plan: Plan) -> dict[str, Any]:
    """Return what cuvee.json says, but for the weights' digest and the figures, which are known at the end."""
    inputs = [
        {"model": str(model), "revision": repository and repository.commit, "files": source.fingerprint()}
        for model, source, repository in zip(plan.models, plan.sources, plan.repositories, strict=True)
    ]
    for given, adapter in zip(inputs, plan.adapters, strict=False):
        if adapter is not None and adapter.repository is not None:
            given["adapter_revision"] = adapter.repository.commit
    return {
        "cuvee": __version__,
        "recipe_digest": plan.recipe.digest,
        **({"prompt": dict(plan.recipe.prompt)} if plan.recipe.prompt else {}),
        "plan_digest": plan.digest,
        "seed": plan.recipe.seed,
        "inputs": inputs,
        "weights_digest": None,
        "reproducible": plan.reproducible,
        "tensors": len(plan.steps),
        "parameters": plan.parameters,
        "warnings": list(plan.warnings),
        "notes": list(plan.notes),
        "versions": {"python": platform.python_version()} | {name: installed_version(name) for name in _LIBRARIES},
        "figures": None,
    }


def with_sha256(plan: Plan, inputs: list[dict[str, Any]], *, threads: int, progress: Progress) -> list[dict[str, Any]]:
    """Return `inputs` as `cuvee.json` lists them, with the SHA-256 of every file, which this reads."""
    files = [
        {spec.file.name: spec.file for spec in source.tensors.values()} if source.place is not None else {}
        for source in plan.sources
    ]
    unknown = [
        {name: path for name, path in paths.items() if given["files"][name]["sha256"] is None}
        for given, paths in zip(inputs, files, strict=True)
    ]
    found = sha256_of([path for paths in unknown for path in paths.values()], threads=threads, progress=progress)
    return [
        given
        | {"files": given["files"] | {n: given["files"][n] | {"sha256": found[path]} for n, path in paths.items()}}
        for given, paths in zip(inputs, unknown, strict=True)
    ]
