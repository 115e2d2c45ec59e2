"""Reads `models:` and `slices:`: the models that take part, with their layers and their own settings."""

from dataclasses import replace
from typing import Any

from cuvee.documents.document import Path as Place
from cuvee.documents.shown import shown
from cuvee.errors import closest
from cuvee.recipe.language import MethodSchema
from cuvee.recipe.parameters import read_settings
from cuvee.recipe.problems import Notes
from cuvee.recipe.recipe import Slice, Source
from cuvee.recipe.reference import ModelRef, parse_reference
from cuvee.recipe.setting import Settings


def read_slices(data: dict[str, Any], method: MethodSchema | None, notes: Notes) -> tuple[Slice, ...]:
    """Read the slices of a recipe; `models` are a single slice over all layers, each of `modules` is a slice."""
    keys = [key for key in ("models", "slices", "modules") if data.get(key) is not None]
    if len(keys) != 1:
        written = " and ".join(map(repr, keys)) or "none"
        notes.add((), f"expected exactly one of 'models', 'slices' and 'modules', found {written}")
        return ()
    if keys == ["modules"]:
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
    """Read `modules`: of a model that has a single module, whatever its name, or of a model of several."""
    if not isinstance(data, dict):
        return ()
    modules = {name: _module(name, part, method, notes) for name, part in data.items()}
    if len(modules) == 1:
        return next(iter(modules.values()))
    slices: list[Slice] = []
    for name, parts in modules.items():
        module = MODULES.get(name, name)
        _check_module(name, module, parts, notes)
        slices += [replace(part, module=module) for part in parts]
    _check_models(slices, notes)
    return tuple(slices)


def _check_module(name: str, module: str, parts: tuple[Slice, ...], notes: Notes) -> None:
    """Note a module that is not known, and slices of layers in others than the language module."""
    if module not in OURS:
        guess = closest(name, [*OURS, *MODULES])
        hint = f"did you mean '{guess}'?" if guess else None
        notes.add(("modules", name), f"unknown module {shown(name)}: expected {', '.join(OURS)}", hint)
    if module != "language" and any(map(_takes_layers, parts)):
        message = f"'slices' cut the layers of the language part only, not of '{module}'"
        notes.add(("modules", name), message, "name whole 'models' here")


def _check_models(slices: list[Slice], notes: Notes) -> None:
    """Note modules that are merged of other models than the first."""
    models = set()
    for part in slices:
        if not _takes_layers(part):
            models.add(frozenset(source.model for source in part.sources))
    if len(models) > 1:
        hint = "take a module from one model with `vision: base` and the like, or give a model the weight 0 there"
        notes.add(("modules",), "every module needs the same models", hint)


def _takes_layers(part: Slice) -> bool:
    return any(source.layers for source in part.sources)


def _module(name: str, written: Any, method: MethodSchema | None, notes: Notes) -> tuple[Slice, ...]:
    data, place = written if isinstance(written, dict) else {}, ("modules", name)
    has_models, has_slices = data.get("models") is not None, data.get("slices") is not None
    if has_models == has_slices:
        notes.add(place, f"the module {shown(name)} needs exactly one of 'models' and 'slices'")
    shared = read_settings(data.get("parameters"), (*place, "parameters"), method, notes, own=False)
    parts = _parts(data, place, method, notes)
    keys = set(shared).union(*(part.settings for part in parts))
    return tuple(replace(part, settings=_together(part.settings, shared, keys)) for part in parts)


def _together(own: Settings, shared: Settings, keys: set[str]) -> Settings:
    """Put a slice's own choices before those of its module: the first that fits counts, as everywhere."""
    return {key: (*own.get(key, ()), *shared.get(key, ())) for key in sorted(keys)}


def _slice(part: Any, place: Place, method: MethodSchema | None, notes: Notes) -> Slice:
    data = part if isinstance(part, dict) else {}
    listed = data.get("sources")
    sources = _sources(listed if isinstance(listed, list) else [], (*place, "sources"), method, notes)
    ranges = [source.layers for source in sources if source.layers]
    lengths = sorted({last - first for first, last in ranges})
    if len(lengths) > 1:
        listed_lengths = ", ".join(map(str, lengths))
        notes.add(place, f"the sources of a slice need equally many layers, found {listed_lengths}")
    settings = read_settings(data.get("parameters"), (*place, "parameters"), method, notes, own=False)
    return Slice(sources, settings, read_model(data.get("base_model"), (*place, "base_model"), notes))


def _sources(listed: list[Any], place: Place, method: MethodSchema | None, notes: Notes) -> tuple[Source, ...]:
    sources = []
    for i, entry in enumerate(listed):
        source = _source(entry, (*place, i), method, notes)
        if source is not None:
            sources.append(source)
    return tuple(sources)


def _source(entry: Any, place: Place, method: MethodSchema | None, notes: Notes) -> Source | None:
    data = entry if isinstance(entry, dict) else {}
    model = read_model(data.get("model"), (*place, "model"), notes)
    settings = read_settings(data.get("parameters"), (*place, "parameters"), method, notes, own=True)
    layers = _layers(data.get("layer_range"), (*place, "layer_range"), notes)
    if model is None:
        return None
    return Source(model, settings, layers, data.get("name"), data.get("text"), data.get("statistics"))


def _layers(written: Any, place: Place, notes: Notes) -> tuple[int, int] | None:
    if not isinstance(written, list) or list(map(type, written)) != [int, int]:
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
