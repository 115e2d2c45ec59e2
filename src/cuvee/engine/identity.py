"""The identity of a merge, by which two runs are the same: recipe, inputs, layout and options that change bytes."""

import hashlib
from collections.abc import Sequence
from typing import Any

from cuvee.checkpoint.write import Shard
from cuvee.engine.journal import Identity
from cuvee.plan import Plan
from cuvee.version import __version__


def identity_of(plan: Plan, shards: Sequence[Shard], *, allow_nonfinite: bool) -> Identity:
    """Return a merge's identity, which its journal begins with. Inputs are known by `inputs_of`."""
    layout = hashlib.sha256()
    for shard in shards:
        layout.update(shard.file.encode() + shard.header)
    return {
        "cuvee": __version__,
        "recipe": plan.recipe_digest,
        "inputs": inputs_of(plan),
        "plan": plan.digest,
        "layout": layout.hexdigest(),
        "allow_nonfinite": allow_nonfinite,
    }


def difference(begun: Identity, now: Identity) -> str | None:
    """Say in which respect the merge that was begun differs from the merge asked for now; None if in none."""
    if begun.get("cuvee") != now["cuvee"]:
        return f"it was begun by cuvee {begun.get('cuvee')}, and this is {now['cuvee']}"
    if begun.get("recipe") != now["recipe"]:
        return "it is of another recipe"
    if begun.get("inputs") != now["inputs"]:
        return f"an input has changed since: {_changed(begun.get('inputs'), now['inputs'])}"
    if begun.get("layout") != now["layout"]:
        return "its files are laid out otherwise: is --shard-size the same?"
    if begun.get("allow_nonfinite") != now["allow_nonfinite"]:
        return "one has --allow-nonfinite, the other has not"
    return None if begun == now else "its steps are others"


def inputs_of(plan: Plan) -> dict[str, list[Any]]:
    """Return each input file's size, time of the last change, digest of the header and fingerprint of samples."""
    known: dict[str, list[Any]] = {}
    for model, source in zip(plan.models, plan.sources, strict=True):
        for name, file in source.files().items():
            known[f"{model}: {name}"] = [file.size, file.modified_ns, file.header_blake3, file.sampled_blake3]
    return known


def _changed(begun: Any, now: dict[str, list[Any]]) -> str:
    before = begun if isinstance(begun, dict) else {}
    names = [str(name) for name in {**now, **before} if before.get(name) != now.get(name)]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return names[0] + more
