"""Reads `models:` and `slices:`: which models take part, with which of their layers and their own settings."""

from dataclasses import replace
from typing import Any

from cuvee.errors import closest
from cuvee.recipe.document import Path as Place
from cuvee.recipe.language import MethodSchema
from cuvee.recipe.parameters import read_settings
from cuvee.recipe.problems import Notes
from cuvee.recipe.recipe import Slice, Source
from cuvee.recipe.reference import ModelRef, parse_reference
from cuvee.recipe.shown import shown


def read_slices(data: dict[str, Any], method: MethodSchema | None, notes: Notes) -> tuple[Slice, ...]:
    """Read the slices of a recipe; `models` are one slice over all layers, `modules` one slice each."""
    given = [key for key in ("models", "slices", "modules") if data.get(key) is not None]
    if len(given) != 1:
        found = " and ".join(f"'{key}'" for key in given) or "none"
        notes.add((), f"expected exactly one of 'models', 'slices' and 'modules', found {found}")
        return ()
    if given == ["modules"]:
        return read_modules(data["modules"], method, notes)
    return _parts(data, (), method, notes)


def _parts(data: dict[str, Any], place: Place, method: MethodSchema | None, notes: Notes) -> tuple[Slice, ...]:
    models, slices = data.get("models"), data.get("slices")
    if isinstance(models, list):
        return (Slice(_sources(models, (*place, "models"), method, notes), {}),)
    if not isinstance(slices, list):
        return ()
    return tuple(_slice(part, (*place, "slices", i), method, notes) for i, part in enumerate(slices))


MODULES = {
    "text_decoder": "language", "vision_tower": "vision", "vision_encoder": "vision", "audio_tower": "audio",
    "audio_encoder": "audio", "multi_modal_projector": "projector", "vision_projection": "projector",
}  # fmt: skip
"""mergekit's words for modules that have others here."""

OURS = ("language", "vision", "audio", "projector", "encoder", "decoder")


def read_modules(data: Any, method: MethodSchema | None, notes: Notes) -> tuple[Slice, ...]:
    """Read `modules`: of a model of one part, whatever its name, or of the parts of a model of several."""
    if not isinstance(data, dict):
        return ()
    read = [(name, _module(name, part, method, notes)) for name, part in data.items()]
    if len(read) == 1:
        return read[0][1]
    result = []
    for name, parts in read:
        known = MODULES.get(name, name)
        if known not in OURS:
            hint = f"did you mean '{guess}'?" if (guess := closest(name, [*OURS, *MODULES])) else None
            notes.add(("modules", name), f"unknown module {shown(name)}: expected {', '.join(OURS)}", hint)
        if known != "language" and any(source.layers for part in parts for source in part.sources):
            message = f"'slices' cut the layers of the language part only, not of '{known}'"
            notes.add(("modules", name), message, "name whole 'models' here")
        result += [replace(part, module=known) for part in parts]
    whole = [part for part in result if not any(source.layers for source in part.sources)]
    first = {source.model for source in (whole or result)[0].sources} if result else set()
    if any({source.model for source in part.sources} != first for part in whole):
        hint = "take a module from one model with `vision: base` and the like, or give a model the weight 0 there"
        notes.add(("modules",), "every module needs the same models", hint)
    return tuple(result)


def _module(name: str, written: Any, method: MethodSchema | None, notes: Notes) -> tuple[Slice, ...]:
    data, place = written if isinstance(written, dict) else {}, ("modules", name)
    if (data.get("models") is None) == (data.get("slices") is None):
        notes.add(place, f"the module {shown(name)} needs exactly one of 'models' and 'slices'")
    shared = read_settings(data.get("parameters"), (*place, "parameters"), method, notes, own=False)
    parts = _parts(data, place, method, notes)
    keys = {key for part in parts for key in part.settings} | set(shared)
    # of a slice's own choices and the module's the first that fits counts, as everywhere
    return tuple(
        replace(part, settings={key: part.settings.get(key, ()) + shared.get(key, ()) for key in sorted(keys)})
        for part in parts
    )


def _slice(part: Any, place: Place, method: MethodSchema | None, notes: Notes) -> Slice:
    data = part if isinstance(part, dict) else {}
    listed = data.get("sources")
    sources = _sources(listed if isinstance(listed, list) else [], (*place, "sources"), method, notes)
    lengths = {source.layers[1] - source.layers[0] for source in sources if source.layers}
    if len(lengths) > 1:
        found = ", ".join(map(str, sorted(lengths)))
        notes.add(place, f"the sources of a slice need equally many layers, found {found}")
    settings = read_settings(data.get("parameters"), (*place, "parameters"), method, notes, own=False)
    return Slice(sources, settings, read_model(data.get("base_model"), (*place, "base_model"), notes))


def _sources(listed: list[Any], place: Place, method: MethodSchema | None, notes: Notes) -> tuple[Source, ...]:
    found = [_source(entry, (*place, i), method, notes) for i, entry in enumerate(listed)]
    return tuple(source for source in found if source is not None)


def _source(entry: Any, place: Place, method: MethodSchema | None, notes: Notes) -> Source | None:
    data = entry if isinstance(entry, dict) else {}
    model = read_model(data.get("model"), (*place, "model"), notes)
    settings = read_settings(data.get("parameters"), (*place, "parameters"), method, notes, own=True)
    layers = _layers(data.get("layer_range"), (*place, "layer_range"), notes)
    if model is None:
        return None
    return Source(model, settings, layers, data.get("name"), data.get("text"), data.get("statistics"))


def _layers(written: Any, place: Place, notes: Notes) -> tuple[int, int] | None:
    if not (isinstance(written, list) and len(written) == 2 and all(type(n) is int for n in written)):
        return None
    first, last = written
    if not 0 <= first < last:
        notes.add(place, f"expected [first, last) with 0 <= first < last, found {written}")
        return None
    return first, last


def read_model(written: Any, place: Place, notes: Notes) -> ModelRef | None:
    """Read a model reference."""
    if not isinstance(written, str):
        return None
    try:
        return parse_reference(written)
    except ValueError as error:
        notes.add(place, str(error))
        return None
