"""`Recipe`: what the author wrote, checked, with every shorthand expanded."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cuvee.recipe.groups import Group, Missing
from cuvee.recipe.reference import ModelRef
from cuvee.recipe.setting import Settings
from cuvee.recipe.slips import Slip
from cuvee.recipe.vocabulary import TokenizerChoice, canonical_choice

DType = Literal["float16", "bfloat16", "float32", "float64"]
ComputeDType = Literal["float32", "as_loaded"]
Semantics = Literal["mergekit", "paper"]
Rounding = Literal["nearest", "stochastic"]
UnknownLayers = Literal["refuse", "move"]
UnlikeConfigs = Literal["keep", "refuse"]


@dataclass(frozen=True)
class Chosen:
    """A weight rule or a modifier that the recipe names, with all its settings, the defaults among them."""

    key: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """One model that takes part, with its own settings. `layers` is a half-open range, None for all of them.

    `text` is what the merge is aligned with the model by: a file or a task's name. `statistics` is a folder with those
    of its inputs.
    """

    model: ModelRef
    settings: Settings
    layers: tuple[int, int] | None = None
    name: str | None = None
    text: str | None = None
    statistics: str | None = None

    @property
    def identity(self) -> str:
        """What random draws depend on: the name given in the recipe, or else the reference without revisions."""
        return self.name or self.model.without_revisions


@dataclass(frozen=True)
class Slice:
    """Sources whose layers are merged into the next layers of the output; or those of one module, all layers."""

    sources: tuple[Source, ...]
    settings: Settings
    base_model: ModelRef | None = None
    module: str | None = None


@dataclass(frozen=True)
class Recipe:
    """A merge as written. `models:` is one slice over all layers, with `sliced` false.

    `groups` are taken from one model as they are; `missing` says what becomes of a tensor that only some models have.
    `head` is the model that classifiers, value and reward heads are taken from; None merges them as the rest.
    `mtp` is what becomes of layers behind the last that predict tokens further ahead: None merges them as the rest.
    `unknown_layers` says whether slices may move layers that differ by a rule that is not known.
    `unlike_configs` says whether models may be merged whose configs compute otherwise.
    `align` is how the merge is repaired by the texts of its models: keys of `WrittenAlignment`; None for a plain merge.
    `prompt` is what it says of how the output is asked: keys of a task's prompt.
    `slips` are mistakes that change nothing: mergekit passes over them, and so does the merge, with a warning.
    `stages` are the models that are made by earlier recipes of the same file: each name with that recipe's digest.
    """

    merge_method: str
    slices: tuple[Slice, ...]
    sliced: bool
    settings: Settings
    base_model: ModelRef | None = None
    dtype: DType | None = None
    out_dtype: DType | None = None
    compute_dtype: ComputeDType = "float32"
    semantics: Semantics = "mergekit"
    seed: int = 0
    weights: Chosen | None = None
    post: tuple[Chosen, ...] = ()
    rounding: Rounding = "nearest"
    groups: Mapping[Group, ModelRef] = field(default_factory=dict)
    missing: Missing = "fail"
    head: ModelRef | Literal["keep"] | None = None
    mtp: ModelRef | Literal["drop"] | None = None
    unknown_layers: UnknownLayers = "refuse"
    unlike_configs: UnlikeConfigs = "keep"
    tokenizer: TokenizerChoice | None = None
    chat_template: str | None = None
    prompt: Mapping[str, Any] | None = None
    align: Mapping[str, Any] | None = None
    name: str | None = None
    stages: Mapping[str, str] = field(default_factory=dict)
    slips: tuple[Slip, ...] = ()
    text: str = ""
    source: str = "recipe"
    folder: Path | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical form: two recipes that mean the same have the same digest."""
        return hashlib.sha256(json.dumps(canonical(self), sort_keys=True).encode()).hexdigest()

    def models(self) -> tuple[ModelRef, ...]:
        """Every model named, base first, each once, in the order of the recipe."""
        named = [self.base_model] if self.base_model else []
        for part in self.slices:
            named += [part.base_model] if part.base_model else []
            named += [source.model for source in part.sources]
        return tuple(dict.fromkeys(named))


def canonical(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as plain data in which every shorthand is expanded."""
    vocabulary = {"tokenizer": canonical_choice(recipe.tokenizer), "chat_template": recipe.chat_template}
    used = {"prompt": recipe.prompt and dict(recipe.prompt), "stages": dict(recipe.stages) or None}
    used["align"] = None if recipe.align is None else dict(recipe.align)
    optional = vocabulary | _canonical_overlap(recipe) | used
    return {
        "merge_method": recipe.merge_method,
        "base_model": _text(recipe.base_model),
        "sliced": recipe.sliced,
        "slices": [_canonical_slice(part) for part in recipe.slices],
        "parameters": _canonical_settings(recipe.settings),
        "dtype": recipe.dtype,
        "out_dtype": recipe.out_dtype,
        "compute_dtype": recipe.compute_dtype,
        "semantics": recipe.semantics,
        "seed": recipe.seed,
        "weights": _canonical_choice(recipe.weights) if recipe.weights else None,
        "post": [_canonical_choice(chosen) for chosen in recipe.post],
        "rounding": recipe.rounding,
        **{key: value for key, value in optional.items() if value is not None},
    }


def _canonical_overlap(recipe: Recipe) -> dict[str, Any]:
    groups = {group: str(model) for group, model in sorted(recipe.groups.items())}
    return {
        "groups": groups or None,
        "missing": None if recipe.missing == "fail" else recipe.missing,
        "head": None if recipe.head is None else str(recipe.head),
        "mtp": None if recipe.mtp is None else str(recipe.mtp),
        "unknown_layers": None if recipe.unknown_layers == "refuse" else recipe.unknown_layers,
        "unlike_configs": None if recipe.unlike_configs == "keep" else recipe.unlike_configs,
    }


def _canonical_slice(part: Slice) -> dict[str, Any]:
    sources = [
        {
            "model": str(source.model),
            "name": source.name,
            "layer_range": list(source.layers) if source.layers else None,
            "parameters": _canonical_settings(source.settings),
            **({"text": source.text} if source.text is not None else {}),
            **({"statistics": source.statistics} if source.statistics is not None else {}),
        }
        for source in part.sources
    ]
    return {
        "sources": sources,
        "base_model": _text(part.base_model),
        "parameters": _canonical_settings(part.settings),
        **({"module": part.module} if part.module else {}),
    }


def _canonical_settings(settings: Settings) -> dict[str, Any]:
    return {
        name: [{"filter": choice.filter, "value": list(choice.stops)} for choice in value]
        for name, value in sorted(settings.items())
    }


def _canonical_choice(chosen: Chosen) -> dict[str, Any]:
    return {"key": chosen.key, "parameters": dict(chosen.settings)}


def _text(model: ModelRef | None) -> str | None:
    return str(model) if model else None
