"""Tensors outside the layers with a block for each layer, such as Gemma 3n's embeddings by layer, follow slices."""

from collections.abc import Mapping

from cuvee.checkpoint import TensorSource
from cuvee.checkpoint.recut import BlockOrder, RecutCheckpoint
from cuvee.errors import RecipeError
from cuvee.plan.cut import sliced
from cuvee.plan.resolve import Opening
from cuvee.recipe.recipe import Recipe, Slice
from cuvee.recipe.reference import ModelRef
from cuvee.structure import depth_said, text_config
from cuvee.structure.layer_rules import family_of


def with_blocks(opening: Opening, recipe: Recipe) -> Opening:
    """Return the models with the blocks of the layers that the recipe takes, in their order."""
    if not recipe.sliced:
        return opening
    axes = {model.reference: _axes(model.source) for model in opening.models}
    if not any(axes.values()):
        return opening
    try:
        orders = _orders(recipe)
    except RecipeError as error:
        return opening.with_problems(error)
    sources = []
    for model in opening.models:
        order = orders.get(model.reference, ())
        sources.append(_recut(model.source, axes[model.reference], order))
    return opening.with_sources(sources)


def _axes(source: TensorSource) -> dict[str, int]:
    """Return the axis of the blocks, for each of a model's tensors with a block for each layer."""
    suffixes = family_of(text_config(source.config)).blocks
    axes = {}
    for suffix, axis in suffixes.items():
        for name in source.tensors:
            if name.endswith(suffix):
                axes[name] = axis
    return axes


def _orders(recipe: Recipe) -> Mapping[ModelRef, tuple[int, ...]]:
    """Return for each model the layers that are taken of it, a layer for each layer of the output.

    Raises RecipeError where a tensor that has blocks of all layers would be merged of other models in each slice.
    """
    slices = sliced(recipe)
    models = [source.model for source in slices[0].sources]
    for part in slices:
        own = [source.model for source in part.sources]
        if own != models or len(set(own)) < len(own):
            message = "this family has tensors with a block for each layer: slices must name the same models, each once"
            hint = "stack layers of one model, or merge the models first"
            raise RecipeError(message, where=recipe.source, hint=hint)
    if any(_settings(part) != _settings(slices[0]) for part in slices):
        message = "this family has tensors with a block for each layer: slices must have the same parameters"
        raise RecipeError(message, where=recipe.source)

    layers: dict[ModelRef, list[int]] = {}
    for part in slices:
        for source in part.sources:
            own_layers = range(*source.layers) if source.layers else ()
            layers.setdefault(source.model, []).extend(own_layers)
    # A base that no slice names lends the same blocks as the first model.
    return {model: tuple(layers.get(model, layers[models[0]])) for model in recipe.models()}


def _settings(part: Slice) -> tuple[object, list[object]]:
    return part.settings, [source.settings for source in part.sources]


def _recut(source: TensorSource, axes: Mapping[str, int], order: tuple[int, ...]) -> TensorSource:
    if not axes:
        return source
    depth = depth_said(text_config(source.config))
    if depth is None or max(order) >= depth:
        return source
    orders = {}
    for name, axis in axes.items():
        if source.tensors[name].shape[axis] % depth:
            return source
        orders[name] = BlockOrder(axis, depth, order)
    return RecutCheckpoint(source, orders)
