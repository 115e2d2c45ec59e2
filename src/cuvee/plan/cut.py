"""The layers that slices take, and of which stack: the cut that all else of a sliced merge follows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cuvee.errors import CheckpointError, RecipeError
from cuvee.plan.materials import Materials
from cuvee.plan.names import View
from cuvee.plan.remarks import Remarks
from cuvee.recipe.recipe import Recipe, Slice, Source
from cuvee.recipe.reference import ModelRef
from cuvee.structure import depth_said, stacks, text_part

MOST_LAYERS = 10_000
"""A recipe of a few lines could ask for millions, whose plan alone would fill the memory."""

Layers = tuple[tuple[ModelRef, int], ...]
"""The layers that a layer of the output is made of, by model and number."""


@dataclass(frozen=True)
class StackCut:
    """The layers of the output: for each the layers that it is made of, the base's among them.

    `prefix` is the stack's, `part` the key of the config that speaks of it, None for the whole config. `depths` are
    the models' numbers of layers, without layers stored behind them that predict tokens further ahead.
    """

    prefix: str
    part: str | None
    depths: Mapping[ModelRef, int]
    layers: tuple[Layers, ...]

    def config_of(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the part of a model's config that speaks of the stack."""
        part: Mapping[str, Any] = config if self.part is None else config.get(self.part, {})
        return part

    @property
    def moves(self) -> bool:
        """Whether a layer comes to another place, or the stack is of another depth."""
        if any(depth != len(self.layers) for depth in self.depths.values()):
            return True
        for index, layers in enumerate(self.layers):
            if any(layer != index for _, layer in layers):
                return True
        return not all(self.layers)


def cut_of(materials: Materials) -> Remarks[StackCut | None]:
    """Work out the cut of a recipe with slices; None without slices or with problems."""
    recipe, views, donor = materials.recipe, materials.views, materials.donor
    if not recipe.sliced:
        return None
    prefix = yield from _prefix(views[donor], donor)
    if prefix is None:
        return None
    part = text_part(views[donor].source.config)
    depths = {model: _depth(view, prefix, part) for model, view in views.items()}
    problems = list(_bad_ranges(recipe, depths))
    if problems:
        yield from problems
        return None
    return StackCut(prefix, part, depths, tuple(_layers(recipe)))


def sliced(recipe: Recipe) -> list[Slice]:
    """Return the slices of a recipe that take layers; besides them it may have whole modules."""
    return list(filter(length, recipe.slices))


def length(part: Slice) -> int:
    """Return how many layers a slice has."""
    layers = part.sources[0].layers
    return layers[1] - layers[0] if layers else 0


def indices(part: Slice, k: int) -> list[int]:
    """Return the layer that each source of a slice has for the slice's k-th layer."""
    return [_first_layer(source) + k for source in part.sources]


def _first_layer(source: Source) -> int:
    return source.layers[0] if source.layers else 0


def _prefix(view: View, donor: ModelRef) -> Remarks[str | None]:
    """Return the stack that slices cut: the only stack, or that of the language part; None with a problem."""
    all_stacks = stacks(view.called)
    others = [stack.prefix for stack in all_stacks[1:] if stack.depth > 1]
    if all_stacks and not others:
        return all_stacks[0].prefix
    language = [stack for stack in view.structure.stacks if stack.module == "language"]
    prefixes = [stack.prefix for stack in language if stack.depth > 1]
    if len(prefixes) == 1:
        return prefixes[0]
    names, hint = "none", None
    if all_stacks:
        names = f"{all_stacks[0].prefix} and {', '.join(others)}"
        hint = "merge whole 'models', or parts of them with 'modules'"
    message = f"'slices' needs a model with one stack of layers, or one for language, found {names} in the tensor names"
    yield CheckpointError(message, where=str(donor), hint=hint)
    return None


def _depth(view: View, prefix: str, part: str | None) -> int:
    """Count a model's layers: those of its config, if it stores more of them."""
    stored = {stack.prefix: stack.depth for stack in stacks(view.called)}.get(prefix, 0)
    config = view.source.config
    stated = depth_said(config if part is None else config.get(part, {}))
    return stored if stated is None else min(stated, stored)


def _bad_ranges(recipe: Recipe, depths: Mapping[ModelRef, int]) -> Iterator[RecipeError]:
    """Yield the slices that take layers which their model does not have, and a stack of too many layers."""
    total = sum(map(length, recipe.slices))
    if total > MOST_LAYERS:
        message = f"expected at most {MOST_LAYERS} layers in all, found {total}"
        yield RecipeError(message, where=recipe.source)
    for i, part in enumerate(recipe.slices):
        for source in part.sources:
            depth = depths[source.model]
            if source.layers and source.layers[1] > depth:
                message = f"slice {i} takes layers {list(source.layers)} of {source.model}, which has {depth}"
                hint = "the second number is not included, and layers that predict ahead (MTP) are not counted"
                yield RecipeError(message, where=recipe.source, hint=hint)


def _layers(recipe: Recipe) -> Iterator[Layers]:
    for part in recipe.slices:
        models = [source.model for source in part.sources]
        base = part.base_model or recipe.base_model
        for k in range(length(part)):
            layers = list(zip(models, indices(part, k), strict=True))
            if base is not None and base not in models:
                layers.append((base, layers[0][1]))
            yield tuple(layers)
