"""A written model against its `cuvee.json`, its recipe, its parents, and transformers: check by check."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cuvee.catalogue import language
from cuvee.checkpoint import Checkpoint, StoredFile, open_checkpoint
from cuvee.checkpoint.digest import digest_of_entries
from cuvee.checkpoint.hashes import sha256_of
from cuvee.checkpoint.stored_file import Recorded, are_at_hand, changed_files
from cuvee.errors import CheckpointError, RecipeError
from cuvee.foreign import readable
from cuvee.hub import Hub
from cuvee.plan import Parent, Plan, make_plan
from cuvee.plan.eight_bits import written_tensors
from cuvee.plan.plan import MergeStep, merged_steps
from cuvee.plan.resolve import open_model
from cuvee.progress import Progress, Silent
from cuvee.recipe.load import read_recipe
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
    """A check with its result."""

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

    Checks whose parents or libraries are missing here are skipped, with the reason. Raises
    CheckpointError for a folder that no merge wrote.
    """
    folder = Path(folder)
    hub = hub or Hub()
    progress = progress or Silent()
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
    """Look for NaN and infinity, except in tensors in which all parents have some, too."""
    bad = [name for name, number in numbers.items() if not number.finite]
    if not bad:
        return Check("finite", "passed", f"no NaN and no infinity in {len(numbers)} tensors")
    own = [name for name in bad if not _is_so_in_all_parents(name, planned, progress)]
    if not own:
        return Check("finite", "passed", f"NaN or infinity only where all parents have it, too: {_some(bad)}")
    return Check("finite", "failed", f"NaN or infinity in {_some(own)}")


def _is_so_in_all_parents(name: str, planned: "_Planned", progress: Progress) -> bool:
    """Say whether there is NaN or infinity in all tensors that a tensor is made of."""
    plan = planned.plan
    if plan is None:
        return False
    step = next((step for step in plan.steps if step.name == name), None)
    if step is None:
        return False
    sources = [plan.sources[used.model] for used in step.all_inputs]
    if not all(are_at_hand(source.files()) for source in sources):
        return False
    finite = []
    for source, used in zip(sources, step.all_inputs, strict=True):
        numbers = numbers_of(source, f"read {used.tensor}", progress, only=[used.tensor], digests=False)
        finite.append(numbers[used.tensor].finite)
    return not any(finite)


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
    """Compare with the parents and the plan, where they are; skipped checks say why."""
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
    """The model's origin, as far as it is here: the plan, if a single recipe says it, and the parents.

    `unplanned` says why there is no plan.
    """

    plan: Plan | None = None
    parents: tuple[Parent, ...] | None = None
    unplanned: str = ""

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of all parents, none if any parent is not in a folder of its own."""
        folders = []
        for parent in self.parents or ():
            place = parent.source.place
            if "+" in parent.name or place is None or not place.is_dir():
                return ()
            folders.append(place)
        return tuple(folders)


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
    of_stages = {stage["name"] for stage in stages}
    files = {}
    for merge in (*stages, record):
        for entry in merge["inputs"]:
            if entry["model"] not in of_stages:
                files[str(entry["model"])] = entry["files"]
    return files


def _opened(names: Sequence[str], folder: Path, hub: Hub) -> dict[str, Parent]:
    return {name: Parent(name, readable(open_model(name, hub, folder), name)) for name in names}


def _shapes(written: Checkpoint, plan: Plan) -> Check:
    planned = {tensor.name: (tensor.dtype, tensor.shape) for tensor in written_tensors(plan)}
    stored = {name: (spec.dtype, spec.shape) for name, spec in written.tensors.items()}
    names = planned | stored
    wrong = [name for name in names if planned.get(name) != stored.get(name)]
    if wrong:
        return Check("shapes", "failed", f"not as planned: {_some(wrong)}")
    return Check("shapes", "passed", "names, shapes and types are those of the plan")


def _parents(before: Mapping[str, Recorded], parents: Sequence[Parent], progress: Progress) -> Check:
    """Compare the inputs as they are now with the record: headers and samples, and hashes where they are noted."""
    former = before.keys() - {parent.name for parent in parents}
    changed = [f"{name}, which is no longer a parent" for name in sorted(former)]
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
    """The means by which files are compared, as the record and the files have them; `whole` are yet to be hashed."""

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


def _lengths(plan: Plan, merges: Sequence[MergeStep], progress: Progress) -> dict[tuple[int, str], float]:
    """Return the lengths of all merged tensors, by the model's number and the tensor's name."""
    tensors: list[list[str]] = [[] for _ in plan.models]
    for step in merges:
        for used in step.all_inputs:
            tensors[used.model].append(used.tensor)
    lengths: dict[tuple[int, str], float] = {}
    for i, model in enumerate(plan.models):
        numbers = numbers_of(plan.sources[i], f"read {model}", progress, only=tensors[i], digests=False)
        lengths |= {(i, name): number.norm for name, number in numbers.items()}
    return lengths


def _norms(numbers: Mapping[str, Numbers], plan: Plan, progress: Progress) -> Check:
    """Compare each merged tensor's length with those of the tensors that it is made of."""
    if not all(are_at_hand(source.files()) for source in plan.sources):
        return Check("norms", "skipped", "parents are on a hub")
    merges = merged_steps(plan.steps)
    lengths = _lengths(plan, merges, progress)
    suspect, ratios, cancelled = [], [], 0
    for step in merges:
        own = [lengths[used.model, used.tensor] for used in step.all_inputs]
        is_comparable = max(own) > 0 and all(map(math.isfinite, own))
        is_measured = step.name in numbers and step.name not in plan.coded
        if not is_comparable or not is_measured:
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
