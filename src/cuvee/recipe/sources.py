"""Reads `models:` and `slices:`: the models that take part, with their layers and their own settings."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cuvee.documents.document import Path as Place
from cuvee.documents.shown import shown
from cuvee.errors import closest
from cuvee.recipe.parameters import Parameters, read_settings
from cuvee.recipe.problems import Mistake, Mistakes
from cuvee.recipe.recipe import Slice, Source
from cuvee.recipe.reference import ModelRef, parse_reference
from cuvee.recipe.setting import Settings


def read_slices(data: dict[str, Any], parameters: Parameters | None) -> Mistakes[tuple[Slice, ...]]:
    """Read the slices of a recipe; `models` are a single slice over all layers, each of `modules` is a slice."""
    keys = [key for key in ("models", "slices", "modules") if data.get(key) is not None]
    if len(keys) != 1:
        written = " and ".join(map(repr, keys)) or "none"
        yield Mistake((), f"expected exactly one of 'models', 'slices' and 'modules', found {written}")
        return ()
    if keys == ["modules"]:
        return (yield from read_modules(data["modules"], parameters))
    return (yield from _parts(data, (), parameters))


def _parts(data: dict[str, Any], place: Place, parameters: Parameters | None) -> Mistakes[tuple[Slice, ...]]:
    models, slices = data.get("models"), data.get("slices")
    if isinstance(models, list):
        sources = yield from _sources(models, (*place, "models"), parameters)
        return (Slice(sources, {}),)
    if not isinstance(slices, list):
        return ()
    parts = []
    for i, written in enumerate(slices):
        part = yield from _slice(written, (*place, "slices", i), parameters)
        parts.append(part)
    return tuple(parts)


MODULES = {
    "text_decoder": "language", "vision_tower": "vision", "vision_encoder": "vision", "audio_tower": "audio",
    "audio_encoder": "audio", "multi_modal_projector": "projector", "vision_projection": "projector",
}  # fmt: skip
"""mergekit's words for modules that have others here."""

OURS = ("language", "vision", "audio", "projector", "encoder", "decoder")


def read_modules(data: Any, parameters: Parameters | None) -> Mistakes[tuple[Slice, ...]]:
    """Read `modules`: of a model that has a single module, whatever its name, or of a model of several."""
    if not isinstance(data, dict):
        return ()
    modules: dict[str, tuple[Slice, ...]] = {}
    for name, written in data.items():
        modules[name] = yield from _module(name, written, parameters)
    if len(modules) == 1:
        return next(iter(modules.values()))
    slices: list[Slice] = []
    for name, parts in modules.items():
        module = MODULES.get(name, name)
        yield from _module_mistakes(name, module, parts)
        slices += [replace(part, module=module) for part in parts]
    yield from _models_mistakes(slices)
    return tuple(slices)


def _module_mistakes(name: str, module: str, parts: tuple[Slice, ...]) -> Iterator[Mistake]:
    """Yield a module that is not known, and slices of layers in others than the language module."""
    if module not in OURS:
        guess = closest(name, [*OURS, *MODULES])
        hint = f"did you mean '{guess}'?" if guess else None
        yield Mistake(("modules", name), f"unknown module {shown(name)}: expected {', '.join(OURS)}", hint)
    if module != "language" and any(map(_takes_layers, parts)):
        message = f"'slices' cut the layers of the language part only, not of '{module}'"
        yield Mistake(("modules", name), message, "name whole 'models' here")


def _models_mistakes(slices: list[Slice]) -> Iterator[Mistake]:
    """Yield modules that are merged of other models than the first."""
    models = set()
    for part in slices:
        if not _takes_layers(part):
            models.add(frozenset(source.model for source in part.sources))
    if len(models) > 1:
        hint = "take a module from one model with `vision: base` and the like, or give a model the weight 0 there"
        yield Mistake(("modules",), "every module needs the same models", hint)


def _takes_layers(part: Slice) -> bool:
    return any(source.layers for source in part.sources)


def _module(name: str, written: Any, parameters: Parameters | None) -> Mistakes[tuple[Slice, ...]]:
    data, place = written if isinstance(written, dict) else {}, ("modules", name)
    has_models, has_slices = data.get("models") is not None, data.get("slices") is not None
    if has_models == has_slices:
        yield Mistake(place, f"the module {shown(name)} needs exactly one of 'models' and 'slices'")
    shared = yield from read_settings(data.get("parameters"), (*place, "parameters"), parameters, own=False)
    parts = yield from _parts(data, place, parameters)
    keys = set(shared).union(*(part.settings for part in parts))
    return tuple(replace(part, settings=_together(part.settings, shared, keys)) for part in parts)


def _together(own: Settings, shared: Settings, keys: set[str]) -> Settings:
    """Put a slice's own choices before those of its module: the first that fits counts, as everywhere."""
    return {key: (*own.get(key, ()), *shared.get(key, ())) for key in sorted(keys)}


def _slice(part: Any, place: Place, parameters: Parameters | None) -> Mistakes[Slice]:
    data = part if isinstance(part, dict) else {}
    listed = data.get("sources")
    if not isinstance(listed, list):
        listed = []
    sources = yield from _sources(listed, (*place, "sources"), parameters)
    ranges = [source.layers for source in sources if source.layers]
    lengths = sorted({last - first for first, last in ranges})
    if len(lengths) > 1:
        listed_lengths = ", ".join(map(str, lengths))
        yield Mistake(place, f"the sources of a slice need equally many layers, found {listed_lengths}")
    settings = yield from read_settings(data.get("parameters"), (*place, "parameters"), parameters, own=False)
    base_model = yield from read_model(data.get("base_model"), (*place, "base_model"))
    return Slice(sources, settings, base_model)


def _sources(listed: list[Any], place: Place, parameters: Parameters | None) -> Mistakes[tuple[Source, ...]]:
    sources = []
    for i, entry in enumerate(listed):
        source = yield from _source(entry, (*place, i), parameters)
        if source is not None:
            sources.append(source)
    return tuple(sources)


def _source(entry: Any, place: Place, parameters: Parameters | None) -> Mistakes[Source | None]:
    data = entry if isinstance(entry, dict) else {}
    model = yield from read_model(data.get("model"), (*place, "model"))
    settings = yield from read_settings(data.get("parameters"), (*place, "parameters"), parameters, own=True)
    layers = yield from _layers(data.get("layer_range"), (*place, "layer_range"))
    if model is None:
        return None
    return Source(model, settings, layers, data.get("name"), data.get("text"), data.get("statistics"))


def _layers(written: Any, place: Place) -> Mistakes[tuple[int, int] | None]:
    if not isinstance(written, list) or list(map(type, written)) != [int, int]:
        return None
    first, last = written
    if not 0 <= first < last:
        yield Mistake(place, f"expected [first, last) with 0 <= first < last, found {written}")
        return None
    return first, last


def read_model(written: Any, place: Place) -> Mistakes[ModelRef | None]:
    """Read a model reference."""
    if not isinstance(written, str):
        return None
    try:
        return parse_reference(written)
    except ValueError as error:
        yield Mistake(place, str(error))
        return None
