"""The evidence of rules: facts of each model and of the merge, plain data in a verdict that anyone can re-read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

Origin = Literal["hub", "competition", "folder"]


@dataclass(frozen=True)
class ModelFacts:
    """A model as a recipe, or another model's card, names it.

    `parameters` and `weight_bytes` are counted from the headers of its files; None where nothing was looked at, as for
    the ancestors of a model. `committed` is when the pinned commit was made; `created` when the repository was.
    `model_type` and `remote_code` come from config.json; `vocabulary` is the SHA-256 of which token has which id.
    `parents` are the models that the card says it was made from, each again with its facts as far as they could be
    found; `is_merge` is the card's word, `looks_merged` are files in the repository that show it.
    """

    reference: str
    origin: Origin
    commit: str | None = None
    committed: datetime | None = None
    created: datetime | None = None
    licence: str | None = None
    gated: bool = False
    model_type: str | None = None
    vocabulary: str | None = None
    parameters: int | None = None
    weight_bytes: int | None = None
    files: Mapping[str, int] = field(default_factory=dict)
    remote_code: tuple[str, ...] = ()
    is_merge: bool = False
    looks_merged: tuple[str, ...] = ()
    parents: tuple["ModelFacts", ...] = ()
    adapter: "ModelFacts | None" = None
    missing: str | None = None

    def lineage(self) -> tuple["ModelFacts", ...]:
        """Return the model, its adapter and all known ancestors, each once."""
        found: dict[str, ModelFacts] = {self.reference: self}
        for relative in (*([self.adapter] if self.adapter else []), *self.parents):
            found.update({each.reference: each for each in relative.lineage()})
        return tuple(found.values())


@dataclass(frozen=True)
class TextFacts:
    """A text that a recipe calibrates by: whether it is the competition's file of this name."""

    name: str
    is_competitions: bool


@dataclass(frozen=True)
class Evidence:
    """All that the rules are told of a submission, and when it was gathered.

    `chooses_tokenizer` says whether it decides itself which vocabulary the output has, `texts` what it is tuned by.
    """

    tier: str
    method: str
    models: tuple[ModelFacts, ...]
    gathered: datetime | None = None
    chooses_tokenizer: bool = False
    texts: tuple[TextFacts, ...] = ()
