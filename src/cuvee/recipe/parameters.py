"""Reads `parameters:` of the recipe, a slice or a model: a method's settings with gradients and filters."""

from collections.abc import Mapping
from typing import Any

from cuvee.errors import closest
from cuvee.recipe.document import Path as Place
from cuvee.recipe.language import MethodSchema
from cuvee.recipe.problems import Notes
from cuvee.recipe.setting import Choice, Setting, Settings, Value, parse_value
from cuvee.recipe.shown import shown


def read_settings(written: Any, place: Place, method: MethodSchema | None, notes: Notes, *, own: bool) -> Settings:
    """Read the settings written at a place; with `own` they are one model's."""
    if not isinstance(written, dict) or method is None:
        return {}
    return {
        name: value
        for name, entry in written.items()
        if (value := _value(name, entry, (*place, name), method, notes, own=own)) is not None
    }


def _value(name: str, written: Any, place: Place, method: MethodSchema, notes: Notes, *, own: bool) -> Value | None:
    key = notes.document.data["merge_method"]
    setting = method.settings.get(name)
    if setting is None:
        note_unknown(name, key, method.settings, place, notes)
        return None
    if own and not setting.per_model:
        hint = "set it under the recipe's own 'parameters'"
        notes.add(place, f"'{name}' is one number for the whole merge; a model cannot set its own", hint)
    try:
        value = parse_value(written)
    except ValueError as error:
        notes.add(place, f"'{name}': {error}")
        return None
    for stop in (stop for choice in value for stop in choice.stops):
        if complaint := setting.complaint(stop):
            notes.add(place, f"'{name}' of '{key}': {complaint}")
            return None
    return tuple(Choice(tuple(map(setting.plain, choice.stops)), choice.filter) for choice in value)


def note_unknown(name: str, key: str, settings: Mapping[str, Setting], place: Place, notes: Notes) -> None:
    """Note that what has the key takes no parameter of that name, with the closest one."""
    guess = closest(name, list(settings))
    hint = f"did you mean '{guess}'?" if guess else f"it takes: {', '.join(settings) or 'none'}"
    notes.add(place, f"'{key}' takes no parameter {shown(name)}", hint)
