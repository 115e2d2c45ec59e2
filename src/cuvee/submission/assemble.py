"""A participant's files -> an archive: locked, with the participant's measurements, without secrets."""

import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cuvee.api import load_stages
from cuvee.catalogue import registry
from cuvee.errors import RecipeError, SubmissionError
from cuvee.hub import Hub
from cuvee.progress import Progress, Silent
from cuvee.recipe.reference import parse_reference
from cuvee.submission.asked import load_asked
from cuvee.submission.claim import Claim, claim_weights
from cuvee.submission.competition import Competition, Tier
from cuvee.submission.evidence import Evidence
from cuvee.submission.gather import gather
from cuvee.submission.inside import PLUGIN, install_plugin
from cuvee.submission.leaks import refuse_leaks
from cuvee.submission.lock import Lock, code_digest, lock_asked, lock_model, make_lock, task_digests
from cuvee.submission.pack import CLAIM, LOCK, PLUGIN_FOLDER, PROGRAM_FOLDER, RECIPE, canonical_json, make_archive
from cuvee.submission.rules import check_rules
from cuvee.submission.verdict import Finding
from cuvee.version import __version__

SKIPPED = (".git", "__pycache__", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".ipynb_checkpoints")
PROGRAM_METHOD = "program"


@dataclass(frozen=True)
class Entry:
    """The files that a participant hands in: a recipe, or for the tier `program` a folder and the models that it reads.

    `method_file` defines the recipe's merge method; `merged` is the model as the participant has built it, `report` the
    folder of its evaluation on the public tasks.
    """

    recipe: Path | None = None
    method_file: Path | None = None
    program: Path | None = None
    models: tuple[str, ...] = ()
    merged: Path | None = None
    report: Path | None = None

    @property
    def tier(self) -> Tier:
        if self.program:
            return "program"
        return "plugin" if self.method_file else "recipe"


def lock_entry(entry: Entry, competition: Competition | None, hub: Hub, progress: Progress | None = None) -> Lock:
    """Pin all that an entry reads. Raises CuveeError."""
    if entry.program is not None:
        return _lock_of_program(entry, competition, hub, progress or Silent())
    if entry.recipe is None:
        raise RecipeError("expected a recipe, or a program with its models")
    if entry.method_file is None:
        return lock_asked(load_asked(entry.recipe), competition, hub=hub, progress=progress)
    with _known(entry.method_file):
        lock = make_lock(load_stages(entry.recipe), competition, hub=hub, progress=progress)
    return replace(lock, method=hashlib.sha256(entry.method_file.read_bytes()).hexdigest())


@contextmanager
def _known(method_file: Path) -> Iterator[None]:
    """Let a method file be known for a while: its author reads a recipe that names it."""
    modules, path = set(sys.modules), list(sys.path)
    with tempfile.TemporaryDirectory() as folder:
        install_plugin(method_file, Path(folder))
        registry.cache_clear()
        try:
            yield
        finally:
            sys.path[:] = path
            for name in set(sys.modules) - modules:
                if name.startswith(PLUGIN):
                    del sys.modules[name]
            registry.cache_clear()


def _lock_of_program(entry: Entry, competition: Competition | None, hub: Hub, progress: Progress) -> Lock:
    try:
        references = [parse_reference(model) for model in entry.models]
    except ValueError as error:
        raise RecipeError(str(error)) from error
    nothing = hashlib.sha256(b"").hexdigest()
    tasks = task_digests(competition) if competition else {}
    models = tuple(lock_model(model, None, hub, progress) for model in references)
    return Lock(nothing, PROGRAM_METHOD, None, code_digest(), __version__, tasks, models)


def check_entry(
    entry: Entry, competition: Competition, hub: Hub, progress: Progress | None = None
) -> tuple[Evidence, tuple[Finding, ...]]:
    """Return the findings of the rules on an entry, and their evidence. No weights are downloaded."""
    lock = lock_entry(entry, competition, hub, progress)
    recipe = entry.recipe.read_text(encoding="utf-8") if entry.recipe else ""
    evidence = gather(lock, entry.tier, competition, hub, recipe)
    return evidence, check_rules(competition.rules, evidence)


def pack_entry(
    entry: Entry,
    competition: Competition,
    *,
    name: str,
    hub: Hub,
    progress: Progress | None = None,
    secrets: Sequence[str] = (),
) -> bytes:
    """Return the archive of an entry. `secrets` are texts that must not be in it. Raises CuveeError."""
    lock = lock_entry(entry, competition, hub, progress)
    files = {LOCK: canonical_json(lock.to_json()), **_own_files(entry)}
    claim = claim_of(entry)
    if claim is not None:
        files[CLAIM] = canonical_json(claim.to_json())
    refuse_leaks(files, secrets)
    return make_archive(name, entry.tier, competition.name, files)


def _own_files(entry: Entry) -> dict[str, bytes]:
    files = {}
    if entry.recipe is not None:
        files[RECIPE] = _read(entry.recipe)
    if entry.method_file is not None:
        files[PLUGIN_FOLDER + entry.method_file.name] = _read(entry.method_file)
    if entry.program is not None:
        files |= {PROGRAM_FOLDER + name: data for name, data in _program_files(entry.program).items()}
    return files


def _is_left_out(part: str) -> bool:
    return part in SKIPPED or part.startswith(".")


def _program_files(folder: Path) -> dict[str, bytes]:
    """Read a program's files, without the leavings of tools. Links are refused: they would show another file."""
    found = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if any(map(_is_left_out, parts)):
            continue
        if path.is_symlink():
            raise SubmissionError("a link; put the file itself there", where=str(path))
        if path.is_file():
            found["/".join(parts)] = _read(path)
    return found


def claim_of(entry: Entry) -> Claim | None:
    """Return the participant's measurements, None if there are none."""
    if entry.merged is None and entry.report is None:
        return None
    claim = Claim() if entry.merged is None else claim_weights(entry.merged)
    return claim if entry.report is None else replace(claim, **_measured(entry.report))


def _measured(report: Path) -> dict[str, Any]:
    """Read scores and answers of an evaluation's folder."""
    try:
        content = json.loads(_read(report / "report.json"))
        scores = {name: next(iter(task["metrics"].values()))["value"] for name, task in content["tasks"].items()}
        predictions = {name: _answers(report / "samples" / f"{name}.jsonl") for name in content["tasks"]}
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise RecipeError("this is no report of an evaluation", where=str(report)) from error
    return {"scores": scores, "predictions": predictions}


def _answers(path: Path) -> Mapping[str, int | str]:
    lines = [json.loads(line) for line in _read(path).splitlines()]
    return {line["id"]: line["prediction"] for line in lines}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RecipeError(f"cannot read the file: {error.strerror}", where=str(path)) from error
