"""A written model against its `cuvee.json`, its recipe, its parents, and transformers: one check after another."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cuvee.addition import language
from cuvee.checkpoint import Checkpoint, open_checkpoint
from cuvee.checkpoint.digest import digest_of_entries
from cuvee.checkpoint.hashes import sha256_of
from cuvee.errors import CheckpointError, RecipeError
from cuvee.hub import Hub
from cuvee.plan import Plan, make_plan
from cuvee.progress import Progress, Silent
from cuvee.recipe.load import read_recipe
from cuvee.recipe.reference import ModelRef
from cuvee.verify.layers import layers
from cuvee.verify.load import loads
from cuvee.verify.numbers import Numbers, numbers_of

State = Literal["passed", "failed", "skipped"]

SMALLEST_RATIO, LARGEST_RATIO = 0.1, 10.0
"""A merged tensor that is so much shorter than the shortest parent's, or longer than the longest, is suspect."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, and what was found."""

    name: str
    state: State
    found: str


@dataclass(frozen=True)
class Verification:
    """All that was looked at. `digest` is that of the weights as they are now."""

    folder: Path
    digest: str
    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.state == "failed")


def verify(folder: Path | str, *, hub: Hub | None = None, progress: Progress | None = None) -> Verification:
    """Check a model that a merge wrote: digests, numbers, shapes, parents, loading, a sample.

    What cannot be checked here, because parents or libraries are missing, is skipped and says why. Raises
    CheckpointError for a folder that no merge wrote.
    """
    folder, hub, progress = Path(folder), hub or Hub(), progress or Silent()
    record = _record(folder)
    with open_checkpoint(folder) as written:
        numbers = numbers_of(written, "read the model", progress)
        plan, missing = _plan(folder, record, hub)
        checks = [
            _digest(written, numbers, record),
            _finite(numbers),
            _counts(written, record),
            *(_against_plan(written, numbers, record, plan, progress) if plan else _without_parents(missing)),
            *(Check(*found) for found in loads(folder)),
        ]
    digest = _digest_of(written, numbers)
    return Verification(folder, digest, tuple(checks))


def verify_layers(folder: Path | str, *, hub: Hub | None = None) -> Check:
    """Check only that the layers of a model that a merge wrote are of the kinds of their sources; reads no tensor."""
    folder = Path(folder)
    plan, missing = _plan(folder, {}, hub or Hub())
    if plan is None:
        return Check("layers", "skipped", f"the recipe cannot be planned here: {missing}")
    return Check(*layers(folder, plan))


def _record(folder: Path) -> Mapping[str, Any]:
    file = folder / "cuvee.json"
    if not file.is_file():
        hint = "verify takes the folder that a merge wrote; `cuvee inspect` shows any model"
        raise CheckpointError("there is no cuvee.json to verify against", where=str(folder), hint=hint)
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        _ = record["weights_digest"], record["plan_digest"], record["tensors"], record["parameters"], record["inputs"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"this is no cuvee.json of a merge: {error!r}", where=str(file)) from error
    found: Mapping[str, Any] = record
    return found


def _plan(folder: Path, record: Mapping[str, Any], hub: Hub) -> tuple[Plan | None, str]:
    """Plan the recipe anew, if the parents are where it says; or else say what is missing."""
    try:
        recipe = read_recipe(folder / "recipe.yaml", language())
        return make_plan(recipe, hub=hub), ""
    except (CheckpointError, RecipeError) as error:
        return None, (error.problems[0] if error.problems else error).message


def _digest_of(written: Checkpoint, numbers: Mapping[str, Numbers]) -> str:
    specs = written.tensors.values()
    return digest_of_entries((spec.name, spec.dtype, spec.shape, numbers[spec.name].digest) for spec in specs)


def _digest(written: Checkpoint, numbers: Mapping[str, Numbers], record: Mapping[str, Any]) -> Check:
    found, said = _digest_of(written, numbers), record["weights_digest"]
    if found == said:
        return Check("digest", "passed", f"the weights are those that were written, {found[:16]}")
    return Check(
        "digest", "failed", f"the weights have changed: cuvee.json says {str(said)[:16]}, they are {found[:16]}"
    )


def _finite(numbers: Mapping[str, Numbers]) -> Check:
    bad = [name for name, found in numbers.items() if not found.finite]
    if not bad:
        return Check("finite", "passed", f"no NaN and no infinity in {len(numbers)} tensors")
    return Check("finite", "failed", f"NaN or infinity in {_some(bad)}")


def _counts(written: Checkpoint, record: Mapping[str, Any]) -> Check:
    tensors = len(written.tensors)
    parameters = sum(spec.elements for spec in written.tensors.values())
    if (tensors, parameters) == (record["tensors"], record["parameters"]):
        return Check("counts", "passed", f"{tensors} tensors, {parameters:,} parameters")
    said = f"{record['tensors']} tensors and {record['parameters']:,} parameters"
    return Check("counts", "failed", f"cuvee.json says {said}, there are {tensors} and {parameters:,}")


def _without_parents(missing: str) -> Iterator[Check]:
    for name in ("parents", "shapes", "layers", "norms"):
        yield Check(name, "skipped", f"the recipe cannot be planned here: {missing}")


def _against_plan(
    written: Checkpoint, numbers: Mapping[str, Numbers], record: Mapping[str, Any], plan: Plan, progress: Progress
) -> Iterator[Check]:
    yield _parents(record, plan, progress)
    planned = {step.name: (step.dtype, step.shape) for step in plan.steps}
    there = {name: (spec.dtype, spec.shape) for name, spec in written.tensors.items()}
    wrong = [name for name in planned | there if planned.get(name) != there.get(name)]
    if wrong:
        yield Check("shapes", "failed", f"not as planned: {_some(wrong)}")
    else:
        yield Check("shapes", "passed", "names, shapes and types are those of the plan")
    yield Check(*layers(written.path, plan))
    yield _norms(numbers, plan, progress) if all(plan.places) else Check("norms", "skipped", "parents are on a hub")


def _parents(record: Mapping[str, Any], plan: Plan, progress: Progress) -> Check:
    """Compare what the inputs are now with what they were: sizes and headers, and hashes where they are known."""
    said = {given["model"]: given["files"] for given in record["inputs"]}
    changed, hashed = [], {}
    for model, source, place in zip(plan.models, plan.sources, plan.places, strict=True):
        files = said.get(str(model), {})
        for name, print_ in source.fingerprint().items():
            before = files.get(name, {})
            if any(before.get(key) != print_[key] for key in ("size", "header_blake3")):
                changed.append(f"{model}/{name}")
            elif before.get("sha256") and place is not None:
                hashed[place / name if place.is_dir() else place] = before["sha256"]
    found = sha256_of(list(hashed), progress=progress) if hashed else {}
    changed += [str(file) for file, digest in hashed.items() if found[file] != digest]
    if changed:
        return Check("parents", "failed", f"not those of the merge: {_some(changed)}")
    how = f"sizes, headers and {len(hashed)} hashes" if hashed else "sizes and headers"
    return Check("parents", "passed", f"{len(plan.models)} parents are those of the merge, by {how}")


def _norms(numbers: Mapping[str, Numbers], plan: Plan, progress: Progress) -> Check:
    """Compare each merged tensor's length with those of the tensors that it is made of."""
    lengths: dict[tuple[ModelRef, str], float] = {}
    for i, (model, source) in enumerate(zip(plan.models, plan.sources, strict=True)):
        wanted = [g.tensor for s in plan.steps if s.action == "merge" for g in s.all_inputs if g.model == i]
        found = numbers_of(source, f"read {model}", progress, only=wanted, digests=False)
        lengths |= {(model, name): number.norm for name, number in found.items()}
    suspect, ratios = [], []
    for step in plan.steps:
        own = [lengths[plan.models[g.model], g.tensor] for g in step.all_inputs] if step.action == "merge" else []
        if not own or not max(own) or step.name not in numbers:
            continue
        norm = numbers[step.name].norm
        ratios.append(norm / max(own))
        if not min(own) * SMALLEST_RATIO <= norm <= max(own) * LARGEST_RATIO:
            suspect.append(f"{step.name} ({ratios[-1]:.2g} times)")
    if suspect:
        return Check("norms", "failed", f"far from the parents' lengths: {_some(suspect)}")
    span = f"{min(ratios):.3g} to {max(ratios):.3g} times the longest parent's" if ratios else "nothing is merged"
    return Check("norms", "passed", f"the tensors' lengths are {span}")


def _some(names: list[str]) -> str:
    return f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
