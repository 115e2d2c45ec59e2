"""Which output tensors there are, and which tensor of which source each is made of: names only."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cuvee.errors import CheckpointError, CuveeError, RecipeError
from cuvee.plan.names import View
from cuvee.plan.overlap import Taking
from cuvee.recipe.recipe import Recipe, Slice
from cuvee.recipe.reference import ModelRef
from cuvee.structure import is_before_layers, layer_of, stacks

MOST_LAYERS = 10_000
"""A recipe of a few lines could ask for millions, whose plan alone would fill the memory."""


@dataclass(frozen=True)
class Outline:
    """One output tensor: its slice, its relative depth, and the name that each of the slice's sources has for it.

    A source that lacks it has None. `base_name` is the base model's name for it. `source_layer` is the layer taken
    from the first source. `taken` is the one model that it is taken from as it is, with that model's name for it.
    """

    name: str
    part: Slice
    depth: float
    names: tuple[str | None, ...]
    base_name: str
    source_layer: int | None = None
    taken: tuple[ModelRef, str] | None = None


@dataclass(frozen=True)
class _Shape:
    """What a model's names say: for each layer the names within it, and the names outside the layers."""

    layers: Mapping[int, tuple[str, ...]]
    outside: tuple[str, ...]

    @property
    def depth(self) -> int:
        return 1 + max(self.layers, default=-1)


def outline(
    recipe: Recipe,
    views: Mapping[ModelRef, View],
    donor: ModelRef,
    takings: Sequence[Taking],
    problems: list[CuveeError],
) -> list[Outline]:
    """List the output tensors in the order of the donor's. Notes problems of layer ranges."""
    if recipe.sliced:
        return _sliced(recipe, views, donor, problems)
    depths = {stack.prefix: stack.depth for stack in stacks(taking.name for taking in takings)}
    return [_whole(taking, recipe, views, depths) for taking in takings]


def _whole(taking: Taking, recipe: Recipe, views: Mapping[ModelRef, View], depths: Mapping[str, int]) -> Outline:
    name, layer = taking.name, layer_of(taking.name)
    part = next((p for p in recipe.slices if p.module == taking.place.module), recipe.slices[0])
    depth = relative_depth(layer.index, depths[layer.prefix]) if layer else depth_outside(name, recipe)
    names = tuple(None if s.model in taking.lacking else views[s.model].called.get(name, name) for s in part.sources)
    base = views[recipe.base_model].called.get(name, name) if recipe.base_model else name
    taken = (taking.taken, views[taking.taken].called[name]) if taking.taken else None
    return Outline(name, part, depth, names, base, taken=taken)


def relative_depth(index: int, layers: int) -> float:
    """Return where the index-th of so many layers is in [0, 1]; 1 for the only one, as in mergekit."""
    return index / (layers - 1) if layers > 1 else 1.0


def depth_outside(name: str, recipe: Recipe) -> float:
    """Return the depth of a tensor outside the layers: in mergekit 0, even for the head; else where it is."""
    return 0.0 if recipe.semantics == "mergekit" or is_before_layers(name) else 1.0


def _sliced(
    recipe: Recipe, views: Mapping[ModelRef, View], donor: ModelRef, problems: list[CuveeError]
) -> list[Outline]:
    found = stacks(views[donor].called)
    others = [stack.prefix for stack in found[1:] if stack.depth > 1]
    if not found or others:
        seen = f"{found[0].prefix} and {', '.join(others)}" if found else "none"
        message = f"'slices' needs a model with one stack of layers, found {seen} in the tensor names"
        problems.append(CheckpointError(message, where=str(donor)))
        return []
    prefix = found[0].prefix
    shapes = {model: _shape(view.called, prefix) for model, view in views.items()}
    if not _ranges_fit(recipe, shapes, problems):
        return []
    before = [name for name in shapes[donor].outside if is_before_layers(name)]
    after = [name for name in shapes[donor].outside if not is_before_layers(name)]
    _note_surplus_outside(recipe, shapes, donor, problems)
    result = [_fixed(name, recipe.slices[0], recipe, views) for name in before]
    position = 0
    for part in recipe.slices:
        for k in range(_length(part)):
            rests = _rests(recipe, part, k, shapes, prefix, problems)
            result += [_in_layer(prefix, rest, part, k, position, recipe, views) for rest in rests]
            position += 1
    return result + [_fixed(name, recipe.slices[-1], recipe, views) for name in after]


def _shape(names: Iterable[str], prefix: str) -> _Shape:
    layers: dict[int, list[str]] = {}
    outside = []
    for name in names:
        layer = layer_of(name)
        if layer is not None and layer.prefix == prefix:
            layers.setdefault(layer.index, []).append(layer.rest)
        else:
            outside.append(name)
    return _Shape({index: tuple(rests) for index, rests in layers.items()}, tuple(outside))


def _ranges_fit(recipe: Recipe, shapes: Mapping[ModelRef, _Shape], problems: list[CuveeError]) -> bool:
    total = sum(map(_length, recipe.slices))
    fit = total <= MOST_LAYERS
    if not fit:
        message = f"expected at most {MOST_LAYERS} layers in all, found {total}"
        problems.append(RecipeError(message, where=recipe.source))
    for i, part in enumerate(recipe.slices):
        for source in part.sources:
            depth = shapes[source.model].depth
            if source.layers and source.layers[1] > depth:
                fit = False
                message = f"slice {i} takes layers {list(source.layers)} of {source.model}, which has {depth}"
                hint = "the second number is not included"
                problems.append(RecipeError(message, where=recipe.source, hint=hint))
    return fit


def _note_surplus_outside(
    recipe: Recipe, shapes: Mapping[ModelRef, _Shape], donor: ModelRef, problems: list[CuveeError]
) -> None:
    """Embeddings come from the first slice, norm and head from the last: what the donor lacks of them would be lost."""
    known = set(shapes[donor].outside)
    for part, first in ((recipe.slices[0], True), (recipe.slices[-1], False)):
        for source in part.sources:
            for name in shapes[source.model].outside:
                if name not in known and is_before_layers(name) == first:
                    _note_surplus(source.model, name, donor, problems)


def _note_surplus(model: ModelRef, name: str, other: ModelRef, problems: list[CuveeError]) -> None:
    message = f"has a tensor '{name}', which {other} lacks: it would be lost"
    problems.append(CheckpointError(message, where=str(model)))


def _rests(
    recipe: Recipe,
    part: Slice,
    k: int,
    shapes: Mapping[ModelRef, _Shape],
    prefix: str,
    problems: list[CuveeError],
) -> tuple[str, ...]:
    """List the names within the k-th layer of a slice: the first source's. Notes what only others have."""
    indices = [(source.model, index) for source, index in zip(part.sources, _indices(part, k), strict=True)]
    base = part.base_model or recipe.base_model
    if base is not None and base not in dict(indices):
        indices.append((base, indices[0][1]))
    first, index = indices[0]
    rests = shapes[first].layers.get(index, ())
    for model, other in indices[1:]:
        for rest in shapes[model].layers.get(other, ()):
            if rest not in rests:
                _note_surplus(model, f"{prefix}.{other}.{rest}", first, problems)
    return rests


def _length(part: Slice) -> int:
    layers = part.sources[0].layers
    return layers[1] - layers[0] if layers else 0


def _indices(part: Slice, k: int) -> list[int]:
    return [(source.layers[0] if source.layers else 0) + k for source in part.sources]


def _fixed(name: str, part: Slice, recipe: Recipe, views: Mapping[ModelRef, View]) -> Outline:
    base = part.base_model or recipe.base_model
    names = tuple(_called(views, source.model, name) for source in part.sources)
    return Outline(name, part, depth_outside(name, recipe), names, _called(views, base, name) if base else name)


def _in_layer(
    prefix: str, rest: str, part: Slice, k: int, position: int, recipe: Recipe, views: Mapping[ModelRef, View]
) -> Outline:
    indices = _indices(part, k)
    shared = [f"{prefix}.{index}.{rest}" for index in indices]
    base = part.base_model or recipe.base_model
    listed = [i for i, source in enumerate(part.sources) if source.model == base]
    base_name = shared[listed[0]] if listed else shared[0]
    names = tuple(_called(views, source.model, name) for source, name in zip(part.sources, shared, strict=True))
    base_name = _called(views, base, base_name) if base else base_name
    return Outline(f"{prefix}.{position}.{rest}", part, relative_depth(k, _length(part)), names, base_name, indices[0])


def _called(views: Mapping[ModelRef, View], model: ModelRef, name: str) -> str:
    return views[model].called.get(name, name)
