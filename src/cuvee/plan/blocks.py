"""Tensors outside the layers with a block for each layer, such as Gemma 3n's embeddings by layer, follow slices."""

from collections.abc import Mapping
from dataclasses import replace

from cuvee.checkpoint import TensorSource
from cuvee.checkpoint.recut import BlockOrder, RecutCheckpoint
from cuvee.errors import CuveeError, RecipeError
from cuvee.plan.cut import sliced
from cuvee.plan.resolve import Opening
from cuvee.recipe.recipe import Recipe
from cuvee.recipe.reference import ModelRef
from cuvee.structure import depth_said, text_config
from cuvee.structure.layer_rules import family_of


def with_blocks(opening: Opening, recipe: Recipe) -> Opening:
    """Return the models with the blocks of the layers that the recipe takes, in their order."""
    if not recipe.sliced:
        return opening
    models = recipe.models()
    blocks = [_blocks(source) for source in opening.sources]
    if not any(blocks):
        return opening
    orders = _orders(recipe)
    if isinstance(orders, CuveeError):
        return replace(opening, problems=(*opening.problems, orders))
    pairs = zip(models, opening.sources, blocks, strict=True)
    sources = tuple(_recut(source, axes, orders.get(model, ())) for model, source, axes in pairs)
    return replace(opening, sources=sources)


def _blocks(source: TensorSource) -> dict[str, int]:
    """Return the names of a model's tensors with a block for each layer, and the axis of each."""
    known = family_of(text_config(source.config)).blocks
    return {name: axis for name in source.tensors for suffix, axis in known.items() if name.endswith(suffix)}


def _orders(recipe: Recipe) -> Mapping[ModelRef, tuple[int, ...]] | CuveeError:
    """Return for each model the layers that are taken of it, one for each layer of the output."""
    listed = [tuple(source.model for source in part.sources) for part in sliced(recipe)]
    settings = [(part.settings, [source.settings for source in part.sources]) for part in sliced(recipe)]
    if any(models != listed[0] or len(set(models)) < len(models) for models in listed):
        message = "this family has tensors with a block for each layer: slices must name the same models, each once"
        return RecipeError(message, where=recipe.source, hint="stack layers of one model, or merge the models first")
    if any(other != settings[0] for other in settings):
        message = "this family has tensors with a block for each layer: slices must have the same parameters"
        return RecipeError(message, where=recipe.source)
    orders: dict[ModelRef, list[int]] = {}
    for part in sliced(recipe):
        for source in part.sources:
            orders.setdefault(source.model, []).extend(range(*source.layers) if source.layers else ())
    first = orders[listed[0][0]]
    return {model: tuple(orders.get(model, first)) for model in recipe.models()}


def _recut(source: TensorSource, axes: Mapping[str, int], order: tuple[int, ...]) -> TensorSource:
    depth = depth_said(text_config(source.config))
    if not axes or depth is None or max(order) >= depth:
        return source
    if any(source.tensors[name].shape[axis] % depth for name, axis in axes.items()):
        return source
    return RecutCheckpoint(source, {name: BlockOrder(axis, depth, order) for name, axis in axes.items()})
