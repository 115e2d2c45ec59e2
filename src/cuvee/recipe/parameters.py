"""Reads `parameters:` of the recipe, a slice or a model: a method's settings with gradients and filters."""

from collections.abc import Mapping
from typing import Any

from cuvee.documents.document import Path as Place
from cuvee.documents.shown import shown
from cuvee.errors import closest
from cuvee.recipe.keys import RecipeDocument
from cuvee.recipe.language import MethodSchema
from cuvee.recipe.problems import Notes
from cuvee.recipe.setting import Choice, Setting, Settings, Value, parse_value
from cuvee.recipe.slips import UNQUOTED, WITHOUT_QUOTES, plain_scalars


def read_settings(written: Any, place: Place, method: MethodSchema | None, notes: Notes, *, own: bool) -> Settings:
    """Read the settings written at a place; with `own` they are a model's."""
    if not isinstance(written, dict) or method is None:
        return {}
    settings = {}
    for name, entry in written.items():
        value = _value(name, entry, (*place, name), method, notes, own=own)
        if value is not None:
            settings[name] = value
    return settings


def _value(name: str, written: Any, place: Place, method: MethodSchema, notes: Notes, *, own: bool) -> Value | None:
    key = notes.document.data["merge_method"]
    setting = method.settings.get(name)
    if setting is None and name in notes.elsewhere:
        _pass_over(name, key, method.settings, place, notes)
        return None
    if setting is None:
        note_unknown(name, key, method.settings, place, notes)
        return None
    if own and not setting.per_model:
        hint = "set it under the recipe's own 'parameters'"
        notes.add(place, f"'{name}' is one number for the whole merge; a model cannot set its own", hint)
    plain, changed = plain_scalars(written, setting)
    if changed:
        _note_type(setting, key, place, notes)
    try:
        value = parse_value(plain)
    except ValueError as error:
        notes.add(place, f"'{name}': {error}")
        return None
    choices = []
    for choice in value:
        complaint = next(filter(None, map(setting.complaint, choice.stops)), None)
        if complaint:
            notes.add(place, f"'{name}' of '{key}': {complaint}")
            return None
        choices.append(Choice(tuple(map(setting.plain, choice.stops)), choice.filter))
    return tuple(choices)


def _pass_over(name: str, key: str, settings: Mapping[str, Setting], place: Place, notes: Notes) -> None:
    """Note that another method takes the parameter, and that it has no effect in this method."""
    guess = closest(name, list(settings))
    hint = f"did you mean '{guess}'?" if guess else "leave it out"
    notes.add_slip(place, f"'{key}' takes no parameter '{name}'", "it is ignored, as in mergekit", hint)


def _note_type(setting: Setting, key: str, place: Place, notes: Notes) -> None:
    """Note that a value was read as the setting's type, though it is written as another."""
    if setting.kind == "boolean":
        message, hint = f"'{setting.name}' of '{key}' is not written as true or false", "write true or false"
        notes.add_slip(place, message, "it is read as the one that it means, as in mergekit", hint)
        return
    notes.add_slip(place, f"'{setting.name}' of '{key}' is a number in quotes", UNQUOTED, WITHOUT_QUOTES)


def note_unknown(name: str, key: str, settings: Mapping[str, Setting], place: Place, notes: Notes) -> None:
    """Note that a method or addition, by its key, takes no parameter of that name, with the closest name."""
    guess = closest(name, list(settings))
    if guess is not None:
        hint = f"did you mean '{guess}'?"
    elif name in RecipeDocument.model_fields:
        hint = f"'{name}' is a key of the recipe: write it beside 'merge_method'"
    else:
        hint = f"it takes: {', '.join(settings) or 'none'}"
    notes.add(place, f"'{key}' takes no parameter {shown(name)}", hint)
