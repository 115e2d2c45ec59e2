"""A written model against its `cuvee.json`, its recipe, its parents, and transformers: one check after another."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cuvee.addition import language
from cuvee.checkpoint import Checkpoint, StoredFile, open_checkpoint
from cuvee.checkpoint.digest import digest_of_entries
from cuvee.checkpoint.hashes import sha256_of
from cuvee.checkpoint.stored_file import Recorded, are_at_hand, changed_files
from cuvee.errors import CheckpointError, RecipeError
from cuvee.foreign import readable
from cuvee.hub import Hub
from cuvee.plan import Parent, Plan, make_plan
from cuvee.plan.resolve import open_model
from cuvee.progress import Progress, Silent
from cuvee.recipe.load import read_recipe
from cuvee.recipe.reference import ModelRef
from cuvee.upcycle import read_upcycling
from cuvee.upcycle.run import KIND as MIXTURE
from cuvee.upcycle.run import mixture_again
from cuvee.verify.layers import layers
from cuvee.verify.load import loads
from cuvee.verify.numbers import Numbers, numbers_of

State = Literal["passed", "failed", "skipped"]

SMALLEST_RATIO, LARGEST_RATIO = 0.1, 10.0
"""A merged tensor that is so much shorter than the shortest parent's, or longer than the longest, is suspect."""

FEW_ENTRIES = 256
"""Of a tensor with fewer entries the parents' may cancel: opposite signs are then nothing unlikely."""


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
    planned = _plan_anew(folder, record, hub)
    with open_checkpoint(folder) as written:
        numbers = numbers_of(written, "read the model", progress)
        checks = [
            _digest(written, numbers, record),
            _finite(numbers, planned, progress),
            _counts(written, record),
            *_against_parents(written, numbers, record, planned, progress),
            *(Check(*found) for found in loads(folder, planned.folders)),
        ]
    digest = _digest_of(written, numbers)
    return Verification(folder, digest, tuple(checks))


def verify_layers(folder: Path | str, *, hub: Hub | None = None) -> Check:
    """Check only that the layers of a model that a merge wrote are of the kinds of their sources; reads no tensor."""
    folder = Path(folder)
    planned = _plan_anew(folder, _record(folder), hub or Hub())
    if planned.plan is None:
        return Check("layers", "skipped", planned.unplanned)
    return Check(*layers(folder, planned.plan))


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


def _finite(numbers: Mapping[str, Numbers], planned: "_Planned", progress: Progress) -> Check:
    """Look for what is no number; where all parents have some of it in a tensor too, it is theirs."""
    bad = [name for name, found in numbers.items() if not found.finite]
    if not bad:
        return Check("finite", "passed", f"no NaN and no infinity in {len(numbers)} tensors")
    own = [name for name in bad if not _is_so_in_all_parents(name, planned, progress)]
    if not own:
        return Check("finite", "passed", f"NaN or infinity only where all parents have it, too: {_some(bad)}")
    return Check("finite", "failed", f"NaN or infinity in {_some(own)}")


def _is_so_in_all_parents(name: str, planned: "_Planned", progress: Progress) -> bool:
    """Say whether there is NaN or infinity in all tensors that one is made of."""
    plan = planned.plan
    step = next((step for step in plan.steps if step.name == name), None) if plan is not None else None
    if plan is None or step is None:
        return False
    sources = [(plan.sources[given.model], given.tensor) for given in step.all_inputs]
    if not all(are_at_hand(source.files()) for source, _ in sources):
        return False
    found = [numbers_of(s, f"read {tensor}", progress, only=[tensor], digests=False)[tensor] for s, tensor in sources]
    return not any(numbers.finite for numbers in found)


def _counts(written: Checkpoint, record: Mapping[str, Any]) -> Check:
    tensors = len(written.tensors)
    parameters = sum(spec.elements for spec in written.tensors.values())
    if (tensors, parameters) == (record["tensors"], record["parameters"]):
        return Check("counts", "passed", f"{tensors} tensors, {parameters:,} parameters")
    said = f"{record['tensors']} tensors and {record['parameters']:,} parameters"
    return Check("counts", "failed", f"cuvee.json says {said}, there are {tensors} and {parameters:,}")


def _against_parents(
    written: Checkpoint,
    numbers: Mapping[str, Numbers],
    record: Mapping[str, Any],
    planned: "_Planned",
    progress: Progress,
) -> Iterator[Check]:
    """Compare with the parents and the plan, where they are; what is missing is said."""
    if planned.parents is None:
        yield Check("parents", "skipped", planned.unplanned)
    else:
        yield _parents(_recorded(record), planned.parents, progress)
    if planned.plan is None:
        for name in ("shapes", "layers", "norms"):
            yield Check(name, "skipped", planned.unplanned)
        return
    yield _shapes(written, planned.plan)
    yield Check(*layers(written.path, planned.plan))
    yield _norms(numbers, planned.plan, progress)


@dataclass(frozen=True)
class _Planned:
    """What made the model, as far as it is here: the plan, if one recipe says it, and the parents.

    `unplanned` says why there is no plan.
    """

    plan: Plan | None = None
    parents: tuple[Parent, ...] | None = None
    unplanned: str = ""

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of all parents, none if one is not in a folder of its own."""
        places = [parent.source.place for parent in self.parents or () if "+" not in parent.name]
        folders = tuple(place for place in places if place is not None and place.is_dir())
        return folders if len(folders) == len(self.parents or ()) else ()


def _plan_anew(folder: Path, record: Mapping[str, Any], hub: Hub) -> _Planned:
    try:
        if record.get("kind") == MIXTURE:
            recipe, text = read_upcycling(folder / "recipe.yaml")
            plan = mixture_again(recipe, text, _opened(recipe.models, folder, hub))
            return _Planned(plan, plan.parents)
        if "kind" in record or "stages" in record:
            made = record.get("command", "a recipe in stages")
            parents = tuple(_opened(list(_recorded(record)), folder, hub).values())
            return _Planned(None, parents, f"there is no recipe to plan anew: {made} made the model")
        plan = make_plan(read_recipe(folder / "recipe.yaml", language()), hub=hub)
        return _Planned(plan, plan.parents)
    except (CheckpointError, RecipeError) as error:
        missing = (error.problems[0] if error.problems else error).message
        return _Planned(unplanned=f"the recipe cannot be planned here: {missing}")


def _recorded(record: Mapping[str, Any]) -> dict[str, Recorded]:
    """Return the files of each parent as they were, of the parents of earlier stages, too."""
    stages = record.get("stages", [])
    made = {stage["name"] for stage in stages}
    entries = [entry for source in (*stages, record) for entry in source["inputs"]]
    return {str(entry["model"]): entry["files"] for entry in entries if entry["model"] not in made}


def _opened(names: Sequence[str], folder: Path, hub: Hub) -> dict[str, Parent]:
    return {name: Parent(name, readable(open_model(name, hub, folder), name)) for name in names}


def _shapes(written: Checkpoint, plan: Plan) -> Check:
    planned = {step.name: (step.dtype, step.shape) for step in plan.steps}
    there = {name: (spec.dtype, spec.shape) for name, spec in written.tensors.items()}
    wrong = [name for name in planned | there if planned.get(name) != there.get(name)]
    if wrong:
        return Check("shapes", "failed", f"not as planned: {_some(wrong)}")
    return Check("shapes", "passed", "names, shapes and types are those of the plan")


def _parents(before: Mapping[str, Recorded], parents: Sequence[Parent], progress: Progress) -> Check:
    """Compare what the inputs are now with what they were: headers and samples, and hashes where they are noted."""
    gone = set(before) - {parent.name for parent in parents}
    changed = [f"{name}, which is no longer a parent" for name in before if name in gone]
    compared = _Compared()
    for parent in parents:
        noted, files = before.get(parent.name, {}), parent.source.files()
        changed += [f"{parent.name}/{name}" for name in changed_files(noted, files)]
        for name in noted.keys() & files.keys():
            compared.add(noted[name], files[name])
    hashes = sha256_of(list(compared.whole), progress=progress) if compared.whole else {}
    changed += [str(file) for file, sha256 in compared.whole.items() if hashes[file] != sha256]
    if changed:
        return Check("parents", "failed", f"not those of the merge: {_some(changed)}")
    return Check("parents", "passed", f"{len(parents)} parents are those of the merge, {compared.means}")


@dataclass
class _Compared:
    """By what files are compared, as far as the record and the files have it; `whole` are still to be hashed."""

    whole: dict[Path, str] = field(default_factory=dict)
    sampled: int = 0
    hashed: int = 0
    weakly: int = 0

    def add(self, noted: Mapping[str, Any], file: StoredFile) -> None:
        sampled = noted.get("sampled_blake3") is not None and file.sample is not None
        hashed = noted.get("sha256") is not None
        if hashed and file.path is not None:
            self.whole[file.path] = noted["sha256"]
        elif file.sha256 is None:
            hashed = False
        self.sampled += sampled
        self.hashed += hashed
        self.weakly += not sampled and not hashed

    @property
    def means(self) -> str:
        means = ["sizes", "headers"]
        if self.sampled:
            means.append("sampled contents")
        if self.hashed:
            means.append(f"{self.hashed} hashes")
        text = f"by {', '.join(means[:-1])} and {means[-1]}"
        if self.weakly:
            text += f"; {self.weakly} of the files only by what all fine-tunes of one base share"
        return text


def _norms(numbers: Mapping[str, Numbers], plan: Plan, progress: Progress) -> Check:
    """Compare each merged tensor's length with those of the tensors that it is made of."""
    if not all(are_at_hand(source.files()) for source in plan.sources):
        return Check("norms", "skipped", "parents are on a hub")
    lengths: dict[tuple[ModelRef, str], float] = {}
    for i, (model, source) in enumerate(zip(plan.models, plan.sources, strict=True)):
        wanted = [g.tensor for s in plan.steps if s.action == "merge" for g in s.all_inputs if g.model == i]
        found = numbers_of(source, f"read {model}", progress, only=wanted, digests=False)
        lengths |= {(model, name): number.norm for name, number in found.items()}
    suspect, ratios, cancelled = [], [], 0
    for step in plan.steps:
        own = [lengths[plan.models[g.model], g.tensor] for g in step.all_inputs] if step.action == "merge" else []
        if not own or not max(own) or step.name not in numbers or not all(map(math.isfinite, own)):
            continue
        norm = numbers[step.name].norm
        ratios.append(norm / max(own))
        if norm < min(own) * SMALLEST_RATIO and step.elements < FEW_ENTRIES:
            cancelled += 1
        elif not min(own) * SMALLEST_RATIO <= norm <= max(own) * LARGEST_RATIO:
            suspect.append(f"{step.name} ({ratios[-1]:.2g} times)")
    if suspect:
        return Check("norms", "failed", f"far from the parents' lengths: {_some(suspect)}")
    span = f"{min(ratios):.3g} to {max(ratios):.3g} times the longest parent's" if ratios else "nothing is merged"
    tiny = f"; {cancelled} tiny ones nearly cancel" if cancelled else ""
    return Check("norms", "passed", f"the tensors' lengths are {span}{tiny}")


def _some(names: list[str]) -> str:
    return f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
