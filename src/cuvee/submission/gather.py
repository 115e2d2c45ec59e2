"""From a lock to the evidence that rules are checked by, and to folders that a merge can read."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from cuvee.checkpoint.hashes import sha256_of
from cuvee.documents.document import read_documents
from cuvee.errors import CheckpointError, CuveeError, PlatformError, SubmissionError
from cuvee.hub import (
    Hub,
    HubFacts,
    Repository,
    cached,
    download,
    find_repository,
    hub_facts,
    in_use,
    is_absent,
    is_away,
    make_room,
    note_use,
    open_repository,
)
from cuvee.progress import Progress
from cuvee.submission.competition import Competition, Tier
from cuvee.submission.evidence import Evidence, ModelFacts, TextFacts
from cuvee.submission.facts import (
    CONFIGS,
    MERGE_MARKS,
    bytes_of_weights,
    code_in,
    competition_facts,
    competition_model,
    configs_in,
    text_of,
    vocabulary_in,
)
from cuvee.submission.lock import Lock, LockedModel
from cuvee.submission.pack import RECIPE
from cuvee.tokenizers.read import FILES as TOKENIZER_FILES

GENERATIONS = 4
MOST_ANCESTORS = 40
"""How far a model's ancestors are followed: cards can name each other in circles."""


def gather(lock: Lock, tier: Tier, competition: Competition, hub: Hub, recipe: str = "") -> Evidence:
    """Gather the evidence of the rules; `recipe` is its text. Raises PlatformError if a hub cannot be asked."""
    asked = _Asked(hub)
    make_room(hub)
    with in_use(hub):
        models = tuple(_facts(locked, competition, asked) for locked in lock.models)
    chooses = tier == "program" or _says_tokenizer(recipe)
    texts = text_facts(lock.texts, competition)
    return Evidence(tier, lock.merge_method, models, datetime.now(UTC), chooses, texts)


def text_facts(hashes: Mapping[str, str], competition: Competition) -> tuple[TextFacts, ...]:
    """Say of each text, by its SHA-256, whether it is the competition's of this name."""
    known = {text.name: text.sha256 for text in competition.calibration}
    return tuple(TextFacts(name, known.get(name) == sha256) for name, sha256 in sorted(hashes.items()))


def _says_tokenizer(recipe: str) -> bool:
    if not recipe:
        return False
    stages = [document.data for document in read_documents(recipe, RECIPE)]
    keys = set(chain.from_iterable(stage for stage in stages if isinstance(stage, dict)))
    return not keys.isdisjoint(("tokenizer", "tokenizer_source"))


def _facts(locked: LockedModel, competition: Competition, asked: "_Asked") -> ModelFacts:
    facts = _facts_alone(locked, competition, asked)
    if locked.adapter is None:
        return facts
    adapter = _facts_alone(locked.adapter, competition, asked)
    if adapter.origin == "folder" or adapter.missing is not None:
        return replace(facts, adapter=adapter, origin=adapter.origin, missing=facts.missing or adapter.missing)
    return replace(facts, adapter=adapter)


def _facts_alone(locked: LockedModel, competition: Competition, asked: "_Asked") -> ModelFacts:
    own = competition_model(competition, locked)
    if own is not None:
        return competition_facts(competition, own, locked.reference)
    if locked.hub is None or locked.commit is None:
        return ModelFacts(locked.reference, "folder")
    if not competition.rules.hub:
        return ModelFacts(locked.reference, "hub", locked.commit)
    return asked.leaf(locked.reference, locked.hub, locked.commit)


class _Asked:
    """The answers of a hub so far: each model is asked for once."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._known: dict[str, HubFacts | None] = {}
        self._leaves: dict[tuple[str, str], ModelFacts] = {}

    def leaf(self, reference: str, name: str, commit: str) -> ModelFacts:
        """Return the facts of a model that a recipe names, headers and all."""
        key = (name, commit)
        if key not in self._leaves:
            self._leaves[key] = self._look(name, commit)
        return replace(self._leaves[key], reference=reference)

    def _look(self, name: str, commit: str) -> ModelFacts:
        said = self._ask(name, commit)
        if said is None:
            return ModelFacts(name, "hub", commit, missing="there is no such model or commit on the hub")
        facts = replace(self._as_facts(name, said, GENERATIONS), committed=said.committed)
        with _hub_asked(name):
            return _with_headers(facts, self._hub, find_repository(self._hub, name, commit))

    def _ancestor(self, name: str, generations: int) -> ModelFacts:
        said = self._ask(name, None) if len(self._known) < MOST_ANCESTORS else None
        if said is None:
            return ModelFacts(name, "hub", missing="it cannot be found on the hub")
        return self._as_facts(name, said, generations)

    def _as_facts(self, reference: str, said: HubFacts, generations: int) -> ModelFacts:
        named = []
        if generations:
            named = [name for name in said.base_models if name != said.name]
        return ModelFacts(
            reference,
            "hub",
            said.commit,
            created=said.created,
            licence=said.licence,
            gated=said.gated,
            files=said.files,
            is_merge=said.is_merge,
            looks_merged=tuple(mark for mark in MERGE_MARKS if mark in said.files),
            parents=tuple(self._ancestor(name, generations - 1) for name in named),
        )

    def _ask(self, name: str, revision: str | None) -> HubFacts | None:
        key = f"{name}@{revision or ''}"
        if key not in self._known:
            try:
                self._known[key] = hub_facts(self._hub, name, revision)
            except CheckpointError as error:
                if not is_absent(error):
                    raise PlatformError(f"the hub cannot be asked: {error.message}", where=error.where) from error
                self._known[key] = None
        return self._known[key]


def _with_headers(facts: ModelFacts, hub: Hub, repository: Repository) -> ModelFacts:
    """Count parameters and bytes from headers, which takes a few kilobytes, and look at the configs.

    Raises CheckpointError if the hub is away.
    """
    try:
        opened = open_repository(hub, repository)
        vocabulary = _vocabulary(hub, repository)
        for name in repository.files.keys() & set(CONFIGS):
            cached(hub, repository, name)
    except CheckpointError as error:
        if is_away(error):
            raise
        missing = None if _no_weights(error) else str(error)
        return replace(facts, remote_code=code_in(facts.files, {}), missing=missing)
    config = opened.checkpoint.config
    configs = {"config.json": config, **configs_in(repository.folder)}
    parameters = None
    if not opened.problems:
        parameters = sum(spec.elements for spec in opened.checkpoint.tensors.values())
    return replace(
        facts,
        model_type=text_of(config.get("model_type")),
        vocabulary=vocabulary,
        parameters=parameters,
        weight_bytes=bytes_of_weights(facts.files),
        remote_code=code_in(facts.files, configs),
    )


def _vocabulary(hub: Hub, repository: Repository) -> str | None:
    """Identify a model's tokens by the files of its tokenizer, which are downloaded."""
    for name in TOKENIZER_FILES:
        if name in repository.files:
            cached(hub, repository, name)
    return vocabulary_in(repository.folder)


def _no_weights(error: CuveeError) -> bool:
    return "found neither" in error.message


def _models_and_adapters(lock: Lock) -> Iterator[LockedModel]:
    for model in lock.models:
        yield model
        if model.adapter is not None:
            yield model.adapter


def places(lock: Lock, competition: Competition, hub: Hub, scratch: Path, progress: Progress) -> dict[str, Path]:
    """Return a folder for each locked model, its files checked against the lock.

    Models of a hub are downloaded by the trusted side; `scratch` takes a folder of links for each, so that nothing
    that the lock does not name is among its files. Raises SubmissionError for a file that differs from the lock.
    """
    found: dict[str, Path] = {}
    known: dict[tuple[str | None, str | None, frozenset[str]], Path] = {}
    for locked in _models_and_adapters(lock):
        same = (locked.hub, locked.commit, frozenset(file.sha256 for file in locked.files.values()))
        if same not in known:
            known[same] = _place(locked, competition, hub, scratch / f"{len(known):04d}", progress)
        found[locked.reference] = known[same]
    return found


def _place(locked: LockedModel, competition: Competition, hub: Hub, scratch: Path, progress: Progress) -> Path:
    own = competition_model(competition, locked)
    if own is not None:
        return _checked(competition.folder / own.folder, own.files, f"the competition's {own.name}")
    if locked.hub is None or locked.commit is None:
        raise SubmissionError("this is not one of the competition's models", where=locked.reference)
    with _hub_asked(locked.reference):
        repository = find_repository(hub, locked.hub, locked.commit)
    absent = sorted(set(locked.files) - set(repository.files))
    if absent:
        raise SubmissionError(f"{absent[0]} is not among its files at that commit", where=locked.reference)
    make_room(hub, repository, locked.files)
    with in_use(hub):
        with _hub_asked(locked.reference):
            download(hub, repository, locked.files, progress)
        note_use(hub, repository)
        return _copied(locked, repository.folder, scratch)


@contextmanager
def _hub_asked(reference: str) -> Iterator[None]:
    """Tell a hub that cannot be asked, which is our failure, from a model that has gone from it.

    What has arrived and is not what was promised stays an error of neither kind.
    """
    try:
        yield
    except CheckpointError as error:
        if is_absent(error):
            raise SubmissionError(f"the hub does not have it any more: {error.message}", where=reference) from error
        if is_away(error):
            raise PlatformError(f"the hub cannot be asked: {error.message}", where=error.where) from error
        raise


def _checked(folder: Path, files: Mapping[str, str], what: str) -> Path:
    """Raise PlatformError if the organiser's own files differ from those of the competition."""
    try:
        found = sha256_of([folder / name for name in files])
    except CheckpointError as error:
        raise PlatformError(f"{what} is not complete: {error}") from error
    changed = [name for name, sha256 in files.items() if found[folder / name] != sha256]
    if changed:
        raise PlatformError(f"{what} has changed: {changed[0]}", where=str(folder))
    return folder


def _copied(locked: LockedModel, cache: Path, target: Path) -> Path:
    """Make a folder of the locked files: hard links where the disk allows, else copies; each is checked."""
    target.mkdir(parents=True)
    for name in locked.files:
        source = (cache / name).resolve()
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target / name)
        except OSError:
            shutil.copyfile(source, target / name)
    hashes = sha256_of([target / name for name in locked.files])
    for name, file in locked.files.items():
        if hashes[target / name] != file.sha256:
            raise SubmissionError(f"{name} is not what the lock says", where=locked.reference)
    return target
