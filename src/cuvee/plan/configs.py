"""Models whose config.json make them compute otherwise: each difference is said, with its effect on the output."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cuvee.errors import RecipeError
from cuvee.plan.cut import StackCut
from cuvee.plan.materials import Materials
from cuvee.plan.remarks import PlanNote, PlanWarning, Remark
from cuvee.structure.settings import differences

MOST_SHOWN = 12
"""Differences of each kind; more are counted."""

MOST_CHARACTERS = 80
"""Of a value."""


@dataclass(frozen=True)
class Unlike:
    """Sentences on settings that differ: `changing` change the computation, `others` may not."""

    changing: tuple[str, ...]
    others: tuple[str, ...]


def unlike(donor: str, configs: Mapping[str, Mapping[str, Any]], *, layers: bool = True) -> Unlike:
    """Compare the configs of models, by name, with that of the donor, whose config the output gets.

    `layers` says whether the kinds of layers are compared, too. Models without a config are passed over.
    """
    if not configs[donor]:
        return Unlike((), ())
    models: dict[tuple[bool, str, str, str], list[str]] = {}
    for model, config in configs.items():
        if model == donor or not config:
            continue
        for difference in differences(configs[donor], config, layers=layers):
            values = _shown(difference.own), _shown(difference.theirs)
            models.setdefault((difference.changes, difference.key, *values), []).append(model)
    sentences: dict[bool, list[str]] = {True: [], False: []}
    for (changes, key, own, theirs), others in models.items():
        sentences[changes].append(f"config.json: {key} is {own} in {donor}, and {theirs} in {', '.join(others)}")
    return Unlike(_few(sentences[True]), _few(sentences[False]))


def advice(donor: str) -> str:
    """Say how the output treats differences that change the computation, and how to avoid them."""
    return (
        f"the output keeps the settings of {donor}, with which the others were not trained: check what comes out, or "
        "merge models that agree"
    )


def config_differences(materials: Materials, cut: StackCut | None) -> Iterator[Remark]:
    """Yield every setting in which a model's config differs from the donor's; by the recipe it may be a problem."""
    recipe, donor = materials.recipe, str(materials.donor)
    configs = {str(model): source.config for model, source in materials.sources.items()}
    moves = cut is not None and cut.moves  # then the kinds of layers move, too: `moved_layers` has seen to them
    sentences = unlike(donor, configs, layers=not moves)
    for sentence in sentences.others:
        yield PlanNote(f"{sentence}; the output keeps the first")
    hint = f"leave the model out, or say `unlike_configs: keep` to go by the config.json of {donor}"
    for sentence in sentences.changing:
        if recipe.unlike_configs == "refuse":
            yield RecipeError(sentence, where=recipe.source, hint=hint)
        else:
            yield PlanWarning(sentence)
    if sentences.changing and recipe.unlike_configs != "refuse":
        yield PlanWarning(f"{advice(donor)} (`unlike_configs: refuse` makes this an error)")


def _few(sentences: list[str]) -> tuple[str, ...]:
    more = len(sentences) - MOST_SHOWN
    if more <= 0:
        return tuple(sentences)
    return (*sentences[:MOST_SHOWN], f"config.json: {more} more settings differ")


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, str) and value.isprintable():
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = json.dumps(value)
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}..."
