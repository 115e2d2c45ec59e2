"""Reads `parameters:` of the recipe, a slice or a model: a method's settings with gradients and filters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cuvee.documents.document import Path as Place
from cuvee.documents.shown import shown
from cuvee.errors import closest
from cuvee.recipe.keys import RecipeDocument
from cuvee.recipe.problems import Mistake, Mistakes, SlipAt
from cuvee.recipe.setting import Choice, Setting, Settings, Value, parse_value
from cuvee.recipe.slips import UNQUOTED, WITHOUT_QUOTES, plain_scalars


@dataclass(frozen=True)
class Parameters:
    """The parameters that a recipe may have.

    - `key`: the method as the recipe names it; misspelt, the settings are those of the method that is meant.
    - `elsewhere`: parameters that other methods take and that mergekit passes over here.
    """

    key: str
    settings: Mapping[str, Setting]
    elsewhere: frozenset[str]


def read_settings(written: Any, place: Place, parameters: Parameters | None, *, own: bool) -> Mistakes[Settings]:
    """Read the settings written at a place; with `own` they are a model's."""
    if not isinstance(written, dict) or parameters is None:
        return {}
    settings = {}
    for name, entry in written.items():
        value = yield from _value(name, entry, (*place, name), parameters, own=own)
        if value is not None:
            settings[name] = value
    return settings


def _value(name: str, written: Any, place: Place, parameters: Parameters, *, own: bool) -> Mistakes[Value | None]:
    key = parameters.key
    setting = parameters.settings.get(name)
    if setting is None and name in parameters.elsewhere:
        yield _of_other_method(name, key, parameters.settings, place)
        return None
    if setting is None:
        yield unknown_parameter(name, key, parameters.settings, place)
        return None
    if own and not setting.per_model:
        hint = "set it under the recipe's own 'parameters'"
        yield Mistake(place, f"'{name}' is one number for the whole merge; a model cannot set its own", hint)
    plain, changed = plain_scalars(written, setting)
    if changed:
        yield _of_other_type(setting, key, place)
    try:
        value = parse_value(plain)
    except ValueError as error:
        yield Mistake(place, f"'{name}': {error}")
        return None
    choices = []
    for choice in value:
        complaint = next(filter(None, map(setting.complaint, choice.stops)), None)
        if complaint:
            yield Mistake(place, f"'{name}' of '{key}': {complaint}")
            return None
        choices.append(Choice(tuple(map(setting.plain, choice.stops)), choice.filter))
    return tuple(choices)


def _of_other_method(name: str, key: str, settings: Mapping[str, Setting], place: Place) -> SlipAt:
    """Return the slip that another method takes the parameter, and that it has no effect in this method."""
    guess = closest(name, list(settings))
    hint = f"did you mean '{guess}'?" if guess else "leave it out"
    return SlipAt(place, f"'{key}' takes no parameter '{name}'", "it is ignored, as in mergekit", hint)


def _of_other_type(setting: Setting, key: str, place: Place) -> SlipAt:
    """Return the slip that a value was read as the setting's type, though it is written as another."""
    if setting.kind == "boolean":
        message, hint = f"'{setting.name}' of '{key}' is not written as true or false", "write true or false"
        return SlipAt(place, message, "it is read as the one that it means, as in mergekit", hint)
    return SlipAt(place, f"'{setting.name}' of '{key}' is a number in quotes", UNQUOTED, WITHOUT_QUOTES)


def unknown_parameter(name: str, key: str, settings: Mapping[str, Setting], place: Place) -> Mistake:
    """Return that a method or addition, by its key, takes no parameter of that name, with the closest name."""
    guess = closest(name, list(settings))
    if guess is not None:
        hint = f"did you mean '{guess}'?"
    elif name in RecipeDocument.model_fields:
        hint = f"'{name}' is a key of the recipe: write it beside 'merge_method'"
    else:
        hint = f"it takes: {', '.join(settings) or 'none'}"
    return Mistake(place, f"'{key}' takes no parameter {shown(name)}", hint)
