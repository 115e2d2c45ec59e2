"""A hub's facts of a model besides its files: dates, licence, tags, the models that it was made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cuvee.checkpoint.model_card import card_front
from cuvee.errors import CuveeError
from cuvee.hub.access import Hub
from cuvee.hub.repository import find_repository


@dataclass(frozen=True)
class HubFacts:
    """Facts of a model at a commit. Offline, from the cache, dates are not known."""

    name: str
    commit: str
    committed: datetime | None
    created: datetime | None
    licence: str | None
    gated: bool
    base_models: tuple[str, ...]
    relation: str | None
    tags: tuple[str, ...]
    files: Mapping[str, int]

    @property
    def is_merge(self) -> bool:
        """Say whether the card calls the model a merge."""
        tags = {tag.lower() for tag in self.tags}
        if tags & {"merge", "mergekit"}:
            return True
        return self.relation == "merge" or len(self.base_models) > 1


def hub_facts(hub: Hub, name: str, revision: str | None) -> HubFacts:
    """Ask a hub, or the cache, for the facts of a model. Raises CheckpointError."""
    if hub.is_offline:
        repository = find_repository(hub, name, revision)
        sizes = {file.name: file.size for file in repository.files.values()}
        return _facts(name, repository.commit, None, None, card_front(repository.folder), False, sizes)
    from huggingface_hub import HfApi, constants

    api = HfApi(endpoint=hub.endpoint)
    where = f"{name}@{revision}" if revision else name
    seconds = constants.HF_HUB_ETAG_TIMEOUT
    info = hub.patiently(lambda: api.model_info(name, revision=revision, files_metadata=True, timeout=seconds), where)
    commits = hub.patiently(lambda: list(api.list_repo_commits(name, revision=info.sha))[:1], where)
    card: dict[str, Any] = vars(info.card_data) if info.card_data is not None else {}
    card = {**card, "tags": [*_listed(card.get("tags")), *(info.tags or ())]}
    siblings = info.siblings or ()
    sizes = {sibling.rfilename: sibling.size or 0 for sibling in siblings}
    committed = commits[0].created_at if commits else None
    return _facts(name, info.sha or "", committed, info.created_at, card, bool(info.gated), sizes)


def is_absent(error: CuveeError) -> bool:
    """Say whether an error of the hub means that there is no such thing, and not that it could not be asked."""
    from huggingface_hub import errors

    absent = (
        errors.RepositoryNotFoundError,
        errors.RevisionNotFoundError,
        errors.EntryNotFoundError,
        errors.GatedRepoError,
        errors.HFValidationError,
    )
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, absent) and not isinstance(cause, errors.LocalEntryNotFoundError):
            return True
        cause = cause.__cause__
    return False


def is_away(error: CuveeError) -> bool:
    """Say whether an error means that the hub could not be asked, and nothing of the model's own."""
    from huggingface_hub import errors

    cause: BaseException | None = error.__cause__
    return isinstance(cause, errors.HTTPError | OSError) and not is_absent(error)


def _facts(
    name: str,
    commit: str,
    committed: datetime | None,
    created: datetime | None,
    card: Mapping[str, Any],
    gated: bool,
    files: Mapping[str, int],
) -> HubFacts:
    licence = card.get("license")
    if isinstance(licence, list):
        licence = ", ".join(map(str, licence))
    if licence == "other":
        licence = card.get("license_name") or licence
    relation = card.get("base_model_relation")
    return HubFacts(
        name=name,
        commit=commit,
        committed=committed,
        created=created,
        licence=str(licence) if licence else None,
        gated=gated,
        base_models=tuple(map(str, _listed(card.get("base_model")))),
        relation=str(relation) if relation else None,
        tags=tuple(dict.fromkeys(map(str, _listed(card.get("tags"))))),
        files=files,
    )


def _listed(value: Any) -> Sequence[Any]:
    if isinstance(value, list):
        return value
    return [value] if value else []
