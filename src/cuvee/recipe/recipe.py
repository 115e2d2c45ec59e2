"""`Recipe`: a merge as its author wrote it, checked, with every shorthand expanded."""

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
OutDType = Literal["float16", "bfloat16", "float32", "float64", "fp8", "fp8-compressed-tensors"]
EIGHT_BITS = ("fp8", "fp8-compressed-tensors")
"""Types of the output that have codes and scales, in the form of DeepSeek and in that of compressed-tensors."""


ComputeDType = Literal["float32", "as_loaded"]
Semantics = Literal["mergekit", "paper"]
Rounding = Literal["nearest", "stochastic"]
UnknownLayers = Literal["refuse", "move"]
UnlikeConfigs = Literal["keep", "refuse"]


OF_COMPETITION = "competition:"
"""Before the name of a competition's text, where a recipe may name a text of its own."""

ONLY_IN_COMPETITION = "merge within the folder of `cuvee competition get`, where competition.yaml is"


@dataclass(frozen=True)
class Chosen:
    """A weight rule or a modifier that the recipe names, with all its settings, the defaults among them."""

    key: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """A model that takes part, with its own settings. `layers` is a half-open range, None for all of them.

    `text` is a file or a task's name by which the merge is aligned with the model. `statistics` is a folder of
    statistics of the model's inputs. Both may be `competition:NAME`, a text of a competition's.
    """

    model: ModelRef
    settings: Settings
    layers: tuple[int, int] | None = None
    name: str | None = None
    text: str | None = None
    statistics: str | None = None

    @property
    def identity(self) -> str:
        """The text on which random draws depend: the recipe's name for it, or else the reference without revisions."""
        return self.name or self.model.without_revisions


@dataclass(frozen=True)
class Slice:
    """Sources whose layers are merged into the next layers of the output; or the sources of a module, all layers."""

    sources: tuple[Source, ...]
    settings: Settings
    base_model: ModelRef | None = None
    module: str | None = None


@dataclass(frozen=True)
class Recipe:
    """A merge as written. `models:` is a single slice over all layers, with `sliced` false.

    - `groups`: groups of tensors that are taken from a single model as they are.
    - `missing`: the rule for tensors that only some models have.
    - `head`: the model that classifiers, value and reward heads are taken from; None merges them as the rest.
    - `mtp`: the rule for layers behind the last that predict tokens further ahead; None merges them as the rest.
    - `unknown_layers`: whether slices may move layers that differ by a rule that is not known.
    - `unlike_configs`: whether models may be merged whose configs compute otherwise.
    - `align`: how the merge is repaired by the texts of its models: keys of `WrittenAlignment`; None for a plain merge.
    - `prompt`: how the output is asked: keys of a task's prompt.
    - `slips`: mistakes that change nothing: mergekit passes over them, and so does the merge, with a warning.
    - `stages`: the models that earlier recipes of the same file make: each name with that recipe's digest.
    """

    merge_method: str
    slices: tuple[Slice, ...]
    sliced: bool
    settings: Settings
    base_model: ModelRef | None = None
    dtype: DType | None = None
    out_dtype: OutDType | None = None
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
        models = {self.base_model: None}
        for part in self.slices:
            models[part.base_model] = None
            models |= dict.fromkeys(source.model for source in part.sources)
        return tuple(model for model in models if model is not None)


def canonical(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as plain data in which every shorthand is expanded."""
    plain = {
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
    }
    return plain | _canonical_additions(recipe)


def _canonical_additions(recipe: Recipe) -> dict[str, Any]:
    """Return the keys that recipes without them lack, so that their digests stay as they were before the keys were."""
    additions: dict[str, Any] = {}
    if recipe.tokenizer is not None:
        additions["tokenizer"] = canonical_choice(recipe.tokenizer)
    if recipe.chat_template is not None:
        additions["chat_template"] = recipe.chat_template
    if recipe.groups:
        additions["groups"] = {group: str(model) for group, model in sorted(recipe.groups.items())}
    if recipe.missing != "fail":
        additions["missing"] = recipe.missing
    if recipe.head is not None:
        additions["head"] = str(recipe.head)
    if recipe.mtp is not None:
        additions["mtp"] = str(recipe.mtp)
    if recipe.unknown_layers != "refuse":
        additions["unknown_layers"] = recipe.unknown_layers
    if recipe.unlike_configs != "keep":
        additions["unlike_configs"] = recipe.unlike_configs
    if recipe.prompt is not None:
        additions["prompt"] = dict(recipe.prompt)
    if recipe.stages:
        additions["stages"] = dict(recipe.stages)
    if recipe.align is not None:
        additions["align"] = dict(recipe.align)
    return additions


def _canonical_slice(part: Slice) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "sources": [_canonical_source(source) for source in part.sources],
        "base_model": _text(part.base_model),
        "parameters": _canonical_settings(part.settings),
    }
    if part.module:
        plain["module"] = part.module
    return plain


def _canonical_source(source: Source) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "model": str(source.model),
        "name": source.name,
        "layer_range": list(source.layers) if source.layers else None,
        "parameters": _canonical_settings(source.settings),
    }
    if source.text is not None:
        plain["text"] = source.text
    if source.statistics is not None:
        plain["statistics"] = source.statistics
    return plain


def _canonical_settings(settings: Settings) -> dict[str, Any]:
    plain = {}
    for name, value in sorted(settings.items()):
        plain[name] = [{"filter": choice.filter, "value": list(choice.stops)} for choice in value]
    return plain


def _canonical_choice(chosen: Chosen) -> dict[str, Any]:
    return {"key": chosen.key, "parameters": dict(chosen.settings)}


def competition_text(reference: str | None) -> str | None:
    """Return the name of the competition's text that a reference to a text is of; None for anything else."""
    if reference is None or not reference.startswith(OF_COMPETITION):
        return None
    return reference.removeprefix(OF_COMPETITION)


def _text(model: ModelRef | None) -> str | None:
    return str(model) if model else None
