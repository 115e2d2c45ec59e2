"""Reads `models:` and `slices:`: which models take part, with which of their layers and their own settings."""

from typing import Any

from cuvee.recipe.document import Path as Place
from cuvee.recipe.language import MethodSchema
from cuvee.recipe.parameters import read_settings
from cuvee.recipe.problems import Notes
from cuvee.recipe.recipe import Slice, Source
from cuvee.recipe.reference import ModelRef, parse_reference


def read_slices(data: dict[str, Any], method: MethodSchema | None, notes: Notes) -> tuple[Slice, ...]:
    """Read the slices of a recipe; `models` are one slice over all layers."""
    models, slices = data.get("models"), data.get("slices")
    if "modules" in notes.document.data:
        return ()
    if (models is None) == (slices is None):
        found = "neither" if models is None else "both"
        notes.add((), f"expected exactly one of 'models' and 'slices', found {found}")
        return ()
    if isinstance(models, list):
        return (Slice(_sources(models, ("models",), method, notes), {}),)
    if not isinstance(slices, list):
        return ()
    return tuple(_slice(part, ("slices", i), method, notes) for i, part in enumerate(slices))


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
    return Source(model, settings, layers, data.get("name")) if model else None


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
