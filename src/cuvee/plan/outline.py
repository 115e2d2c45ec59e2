"""Which output tensors there are, and which tensor of which source each is made of: names only."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cuvee.errors import CheckpointError, CuveeError
from cuvee.plan.cut import StackCut, indices, length, sliced
from cuvee.plan.names import View
from cuvee.plan.overlap import Taking
from cuvee.recipe.recipe import Recipe, Slice
from cuvee.recipe.reference import ModelRef
from cuvee.structure import Layer, is_before_layers, layer_of, predicts_ahead, stacks
from cuvee.structure.structure import Module


@dataclass(frozen=True)
class Outline:
    """One output tensor: its slice, its relative depth, and the name that each of the slice's sources has for it.

    A source that lacks it has None. `base_name` is the base model's name for it. `taken` is the one model that it is
    taken from as it is, with that model's name for it.
    """

    name: str
    part: Slice
    depth: float
    names: tuple[str | None, ...]
    base_name: str
    taken: tuple[ModelRef, str] | None = None


@dataclass(frozen=True)
class _Shape:
    """What a model's names say: for each layer the names within it, the names outside the layers, those behind them.

    `behind` maps the names of what predicts tokens further ahead to the names that it would have with no layer before.
    """

    layers: Mapping[int, tuple[str, ...]]
    outside: tuple[str, ...]
    behind: Mapping[str, Layer | None]


def outline(
    recipe: Recipe,
    views: Mapping[ModelRef, View],
    donor: ModelRef,
    cut: StackCut | None,
    takings: Sequence[Taking],
    problems: list[CuveeError],
) -> list[Outline]:
    """List the output tensors in the order of the donor's: by the cut, if the recipe has slices, or by the takings."""
    if recipe.sliced:
        return _sliced(recipe, views, donor, cut, problems) if cut is not None else []
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
    recipe: Recipe, views: Mapping[ModelRef, View], donor: ModelRef, cut: StackCut, problems: list[CuveeError]
) -> list[Outline]:
    shapes = {model: _shape(view.called, cut, model) for model, view in views.items()}
    parts = sliced(recipe)
    modules = {name: _module(views[donor], name) for name in shapes[donor].outside}
    spoken = {stack.prefix: stack.module for stack in views[donor].structure.stacks}.get(cut.prefix, "language")
    own = [name for name, module in modules.items() if module == spoken]
    before = [name for name in own if is_before_layers(name)]
    after = [name for name in own if not is_before_layers(name)]
    _note_surplus_outside(parts, shapes, donor, problems)
    result = [_fixed(name, parts[0], recipe, views) for name in before]
    position = 0
    for part in parts:
        for k in range(length(part)):
            rests = _rests(recipe, part, k, shapes, cut.prefix, problems)
            result += [_in_layer(cut.prefix, rest, part, k, position, recipe, views) for rest in rests]
            position += 1
    result += [_fixed(name, parts[-1], recipe, views) for name in after]
    others = [name for name, module in modules.items() if module != spoken]
    result += [_fixed(name, _part_of(modules[name], recipe), recipe, views) for name in others]
    return result + _ahead(recipe, views, shapes, cut, problems)


def _module(view: View, name: str) -> Module:
    return view.structure.of(view.called[name]).module


def _part_of(module: Module, recipe: Recipe) -> Slice:
    """Return the part of a recipe that another module than the language's is merged by: its own, or the first slice."""
    return next((part for part in recipe.slices if part.module == module), sliced(recipe)[0])


def _shape(names: Iterable[str], cut: StackCut, model: ModelRef) -> _Shape:
    layers: dict[int, list[str]] = {}
    outside: list[str] = []
    behind: dict[str, Layer | None] = {}
    for name in names:
        layer = layer_of(name)
        in_stack = layer is not None and layer.prefix == cut.prefix
        if predicts_ahead(name):
            behind[name] = None
        elif layer is None or not in_stack:
            outside.append(name)
        elif layer.index < cut.depths[model]:
            layers.setdefault(layer.index, []).append(layer.rest)
        else:
            behind[name] = replace(layer, index=layer.index - cut.depths[model])
    return _Shape({index: tuple(rests) for index, rests in layers.items()}, tuple(outside), behind)


def _ahead(
    recipe: Recipe,
    views: Mapping[ModelRef, View],
    shapes: Mapping[ModelRef, _Shape],
    cut: StackCut,
    problems: list[CuveeError],
) -> list[Outline]:
    """List what predicts tokens further ahead: taken from one model, left out, or else of the last slice's models."""
    if recipe.mtp == "drop":
        return []
    part = sliced(recipe)[-1]
    first = recipe.mtp or part.sources[0].model
    lost = [model for model, shape in shapes.items() if len(shape.behind) > len(shapes[first].behind)]
    if lost:
        ahead = f"layers that predict ahead (MTP: {', '.join(list(shapes[lost[0]].behind)[:1])} ...)"
        message = f"has {ahead}, which {first} lacks: they would be lost"
        hint = f"say `mtp: {lost[0]}` to take them from there, or `mtp: drop`"
        problems.append(CheckpointError(message, where=str(lost[0]), hint=hint))
    base = part.base_model or recipe.base_model
    result = []
    for name, layer in shapes[first].behind.items():
        called = [_of_depth(name, layer, cut.depths[source.model]) for source in part.sources]
        names = tuple(_called(views, source.model, own) for source, own in zip(part.sources, called, strict=True))
        base_name = _called(views, base, _of_depth(name, layer, cut.depths[base])) if base else name
        taken = (recipe.mtp, _called(views, recipe.mtp, name)) if recipe.mtp else None
        depth = depth_outside(name, recipe)
        result.append(Outline(_of_depth(name, layer, len(cut.layers)), part, depth, names, base_name, taken))
    return result


def _of_depth(name: str, layer: Layer | None, depth: int) -> str:
    """Return the name that what lies behind the layers has in a model of so many layers."""
    return layer.at(depth + layer.index) if layer is not None else name


def _note_surplus_outside(
    parts: Sequence[Slice], shapes: Mapping[ModelRef, _Shape], donor: ModelRef, problems: list[CuveeError]
) -> None:
    """Embeddings come from the first slice, norm and head from the last: what the donor lacks of them would be lost."""
    known = set(shapes[donor].outside)
    for part, first in ((parts[0], True), (parts[-1], False)):
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
    layers = [(source.model, index) for source, index in zip(part.sources, indices(part, k), strict=True)]
    base = part.base_model or recipe.base_model
    if base is not None and base not in dict(layers):
        layers.append((base, layers[0][1]))
    first, index = layers[0]
    rests = shapes[first].layers.get(index, ())
    for model, other in layers[1:]:
        for rest in shapes[model].layers.get(other, ()):
            if rest not in rests:
                _note_surplus(model, f"{prefix}.{other}.{rest}", first, problems)
    return rests


def _fixed(name: str, part: Slice, recipe: Recipe, views: Mapping[ModelRef, View]) -> Outline:
    base = part.base_model or recipe.base_model
    names = tuple(_called(views, source.model, name) for source in part.sources)
    return Outline(name, part, depth_outside(name, recipe), names, _called(views, base, name) if base else name)


def _in_layer(
    prefix: str, rest: str, part: Slice, k: int, position: int, recipe: Recipe, views: Mapping[ModelRef, View]
) -> Outline:
    shared = [f"{prefix}.{index}.{rest}" for index in indices(part, k)]
    base = part.base_model or recipe.base_model
    listed = [i for i, source in enumerate(part.sources) if source.model == base]
    base_name = shared[listed[0]] if listed else shared[0]
    names = tuple(_called(views, source.model, name) for source, name in zip(part.sources, shared, strict=True))
    base_name = _called(views, base, base_name) if base else base_name
    return Outline(f"{prefix}.{position}.{rest}", part, relative_depth(k, length(part)), names, base_name)


def _called(views: Mapping[ModelRef, View], model: ModelRef, name: str) -> str:
    return views[model].called.get(name, name)
