"""Reads `weights:` and `post:`: the weight rule and the modifiers that a recipe names, with their settings."""

from typing import Any

from cuvee.documents.document import Path as Place
from cuvee.documents.shown import shown
from cuvee.errors import closest
from cuvee.recipe.language import Additions
from cuvee.recipe.parameters import unknown_parameter
from cuvee.recipe.problems import Mistake, Mistakes
from cuvee.recipe.recipe import Chosen
from cuvee.recipe.setting import Setting


def read_weights(written: Any, known: Additions) -> Mistakes[Chosen | None]:
    """Read `weights:`, a rule's name or {rule: name, and its settings}."""
    if written is None:
        return None
    if not isinstance(written, dict):
        return (yield from _chosen(written, {}, known, "weight rule", ("weights",)))
    if "rule" not in written:
        yield Mistake(("weights",), f"expected a rule's name or {{rule: name, ...}}, found {shown(written)}")
        return None
    settings = {name: value for name, value in written.items() if name != "rule"}
    return (yield from _chosen(written["rule"], settings, known, "weight rule", ("weights",)))


def read_post(written: Any, known: Additions) -> Mistakes[tuple[Chosen, ...]]:
    """Read `post:`, a list of modifiers: names, or {name: {settings}}."""
    if written is None:
        return ()
    if not isinstance(written, list):
        yield Mistake(("post",), f"expected a list of modifiers, found {shown(written)}")
        return ()
    modifiers = []
    for i, entry in enumerate(written):
        chosen = yield from _modifier(entry, known, ("post", i))
        if chosen is not None:
            modifiers.append(chosen)
    return tuple(modifiers)


def _modifier(entry: Any, known: Additions, place: Place) -> Mistakes[Chosen | None]:
    if not isinstance(entry, dict):
        return (yield from _chosen(entry, {}, known, "modifier", place))
    key, settings = next(iter(entry.items()), ("", None))
    if len(entry) != 1 or not isinstance(settings, dict | None):
        yield Mistake(place, f"expected a modifier's name or {{name: {{settings}}}}, found {shown(entry)}")
        return None
    return (yield from _chosen(key, settings or {}, known, "modifier", (*place, key)))


def _chosen(key: Any, written: dict[str, Any], known: Additions, kind: str, place: Place) -> Mistakes[Chosen | None]:
    """Check an addition's name and settings, and fill in the defaults."""
    if not isinstance(key, str) or key not in known:
        guess = closest(str(key).replace("-", "_").lower(), list(known))
        hint = f"did you mean '{guess}'?" if guess else f"there are: {', '.join(known)}"
        yield Mistake(place, f"unknown {kind} {shown(key)}", hint)
        return None
    settings = known[key].settings
    for name in settings:
        if settings[name].required and name not in written:
            yield Mistake(place, f"'{key}' needs a value for '{name}'")
    result = {name: setting.default for name, setting in settings.items()}
    for name, value in written.items():
        if name in settings:
            result[name] = yield from _setting(settings[name], key, value, (*place, name))
        else:
            yield unknown_parameter(name, key, settings, (*place, name))
    return Chosen(key, result)


def _setting(setting: Setting, key: str, value: Any, place: Place) -> Mistakes[Any]:
    """Check a setting of an addition, a value or a list as the setting says."""
    if setting.per_model and not isinstance(value, list):
        yield Mistake(place, f"'{setting.name}' of '{key}': expected a list, found {shown(value)}")
        return None
    values = value if setting.per_model else [value]
    complaint = next(filter(None, map(setting.complaint, values)), None)
    if complaint:
        yield Mistake(place, f"'{setting.name}' of '{key}': {complaint}")
        return None
    plain = tuple(map(setting.plain, values))
    return plain if setting.per_model else plain[0]
