"""The output tensors, and the tensors of the sources that each is made of: names only."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from cuvee.errors import CheckpointError
from cuvee.plan.cut import StackCut, indices, length, sliced
from cuvee.plan.materials import Materials
from cuvee.plan.names import View
from cuvee.plan.overlap import Taking
from cuvee.plan.remarks import Remarks
from cuvee.recipe.recipe import Recipe, Slice
from cuvee.recipe.reference import ModelRef
from cuvee.structure import Layer, is_before_layers, layer_of, predicts_ahead, stacks
from cuvee.structure.structure import Module


@dataclass(frozen=True)
class Outline:
    """An output tensor: its slice, its relative depth, and the name that each of the slice's sources has for it.

    A source that lacks it has None. `base_name` is the base model's name for it. A tensor that is `taken` is copied
    from a single model, given with that model's name for it.
    """

    name: str
    part: Slice
    depth: float
    names: tuple[str | None, ...]
    base_name: str
    taken: tuple[ModelRef, str] | None = None


@dataclass(frozen=True)
class _Shape:
    """A model's names, sorted: those within each layer, those outside the layers, those behind the layers.

    `behind` are tensors that predict tokens further ahead, with the places that they would have with no layer before.
    """

    layers: Mapping[int, tuple[str, ...]]
    outside: tuple[str, ...]
    behind: Mapping[str, Layer | None]


def outline(materials: Materials, cut: StackCut | None, takings: Sequence[Taking]) -> Remarks[list[Outline]]:
    """List the output tensors in the order of the donor's: by the cut, if the recipe has slices, or by the takings."""
    recipe, views = materials.recipe, materials.views
    if recipe.sliced:
        if cut is None:
            return []
        return (yield from _sliced(recipe, views, materials.donor, cut))
    depths = {stack.prefix: stack.depth for stack in stacks(taking.name for taking in takings)}
    return [_whole(taking, recipe, views, depths) for taking in takings]


def _whole(taking: Taking, recipe: Recipe, views: Mapping[ModelRef, View], depths: Mapping[str, int]) -> Outline:
    name, layer = taking.name, layer_of(taking.name)
    part = _own_part(taking.place.module, recipe) or recipe.slices[0]
    depth = depth_outside(name, recipe)
    if layer is not None:
        depth = relative_depth(layer.index, depths[layer.prefix])
    names: list[str | None] = []
    for source in part.sources:
        is_lacking = source.model in taking.lacking
        names.append(None if is_lacking else _called(views, source.model, name))
    base_name = _called(views, recipe.base_model, name) if recipe.base_model else name
    taken = (taking.taken, views[taking.taken].called[name]) if taking.taken else None
    return Outline(name, part, depth, tuple(names), base_name, taken=taken)


def relative_depth(index: int, layers: int) -> float:
    """Return where the index-th of so many layers is in [0, 1]; 1 for the only layer, as in mergekit."""
    return index / (layers - 1) if layers > 1 else 1.0


def depth_outside(name: str, recipe: Recipe) -> float:
    """Return the depth of a tensor outside the layers: in mergekit 0, even for the head; else where it is."""
    if recipe.semantics == "mergekit":
        return 0.0
    return 0.0 if is_before_layers(name) else 1.0


def _sliced(recipe: Recipe, views: Mapping[ModelRef, View], donor: ModelRef, cut: StackCut) -> Remarks[list[Outline]]:
    shapes = {model: _shape(view.called, cut, model) for model, view in views.items()}
    parts = sliced(recipe)
    yield from _surplus_outside(parts, shapes, donor)
    before, after, of_modules = _sorted_outside(shapes[donor].outside, views[donor], cut.prefix)

    outlines = [_fixed(name, parts[0], recipe, views) for name in before]
    position = 0
    for part in parts:
        for k in range(length(part)):
            rests = yield from _rests(recipe, part, k, shapes, cut.prefix)
            outlines += [_in_layer(cut.prefix, rest, part, k, position, recipe, views) for rest in rests]
            position += 1
    outlines += [_fixed(name, parts[-1], recipe, views) for name in after]
    outlines += [_fixed(name, _part_of(module, recipe), recipe, views) for name, module in of_modules]
    outlines += yield from _ahead(recipe, views, shapes, cut)
    return outlines


def _sorted_outside(
    names: Sequence[str], view: View, prefix: str
) -> tuple[list[str], list[str], list[tuple[str, Module]]]:
    """Sort names outside the layers: before the stack, behind it, and those of other modules, with their module."""
    modules = {stack.prefix: stack.module for stack in view.structure.stacks}
    module_of_stack = modules.get(prefix, "language")
    before: list[str] = []
    after: list[str] = []
    of_modules: list[tuple[str, Module]] = []
    for name in names:
        module = view.structure.of(view.called[name]).module
        if module != module_of_stack:
            of_modules.append((name, module))
        elif is_before_layers(name):
            before.append(name)
        else:
            after.append(name)
    return before, after, of_modules


def _part_of(module: Module, recipe: Recipe) -> Slice:
    """Return the part of a recipe that another module than the language's is merged by: its own, or the first slice."""
    return _own_part(module, recipe) or sliced(recipe)[0]


def _own_part(module: Module, recipe: Recipe) -> Slice | None:
    return next((part for part in recipe.slices if part.module == module), None)


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
    recipe: Recipe, views: Mapping[ModelRef, View], shapes: Mapping[ModelRef, _Shape], cut: StackCut
) -> Remarks[list[Outline]]:
    """List tensors that predict further ahead: taken from a model, left out, or else of the last slice's models."""
    if recipe.mtp == "drop":
        return []
    part = sliced(recipe)[-1]
    first = recipe.mtp or part.sources[0].model
    yield from _lost_prediction(first, shapes)
    base = part.base_model or recipe.base_model
    outlines = []
    for name, layer in shapes[first].behind.items():
        names = []
        for source in part.sources:
            shared = _of_depth(name, layer, cut.depths[source.model])
            names.append(_called(views, source.model, shared))
        base_name = _called(views, base, _of_depth(name, layer, cut.depths[base])) if base else name
        taken = (recipe.mtp, _called(views, recipe.mtp, name)) if recipe.mtp else None
        own_name = _of_depth(name, layer, len(cut.layers))
        outlines.append(Outline(own_name, part, depth_outside(name, recipe), tuple(names), base_name, taken))
    return outlines


def _lost_prediction(first: ModelRef, shapes: Mapping[ModelRef, _Shape]) -> Iterator[CheckpointError]:
    """Yield that the output would lose a model's layers that predict ahead, as the first model has fewer."""
    for model, shape in shapes.items():
        if len(shape.behind) > len(shapes[first].behind):
            message = f"has layers that predict ahead (MTP: {next(iter(shape.behind))} ...), which {first} lacks"
            hint = f"say `mtp: {model}` to take them from there, or `mtp: drop`"
            yield CheckpointError(f"{message}: they would be lost", where=str(model), hint=hint)
            return


def _of_depth(name: str, layer: Layer | None, depth: int) -> str:
    """Return the name that a tensor behind the layers has in a model of so many layers."""
    return layer.at(depth + layer.index) if layer is not None else name


def _surplus_outside(
    parts: Sequence[Slice], shapes: Mapping[ModelRef, _Shape], donor: ModelRef
) -> Iterator[CheckpointError]:
    """Yield tensors outside the layers that the donor lacks: the output would lose them.

    Embeddings come from the first slice, norm and head from the last.
    """
    expected = set(shapes[donor].outside)
    for part, is_first in ((parts[0], True), (parts[-1], False)):
        for source in part.sources:
            surplus = [name for name in shapes[source.model].outside if name not in expected]
            for name in surplus:
                if is_before_layers(name) == is_first:
                    yield _surplus(source.model, name, donor)


def _surplus(model: ModelRef, name: str, other: ModelRef) -> CheckpointError:
    message = f"has a tensor '{name}', which {other} lacks: it would be lost"
    return CheckpointError(message, where=str(model))


def _rests(
    recipe: Recipe, part: Slice, k: int, shapes: Mapping[ModelRef, _Shape], prefix: str
) -> Remarks[tuple[str, ...]]:
    """List the names within the k-th layer of a slice: the first source's. Names that only others have are problems."""
    layers = [(source.model, index) for source, index in zip(part.sources, indices(part, k), strict=True)]
    base = part.base_model or recipe.base_model
    if base is not None and base not in dict(layers):
        layers.append((base, layers[0][1]))
    first, index = layers[0]
    rests = shapes[first].layers.get(index, ())
    for model, other in layers[1:]:
        for rest in shapes[model].layers.get(other, ()):
            if rest not in rests:
                yield _surplus(model, f"{prefix}.{other}.{rest}", first)
    return rests


def _fixed(name: str, part: Slice, recipe: Recipe, views: Mapping[ModelRef, View]) -> Outline:
    base = part.base_model or recipe.base_model
    names = tuple(_called(views, source.model, name) for source in part.sources)
    return Outline(name, part, depth_outside(name, recipe), names, _called(views, base, name) if base else name)


def _in_layer(
    prefix: str, rest: str, part: Slice, k: int, position: int, recipe: Recipe, views: Mapping[ModelRef, View]
) -> Outline:
    base = part.base_model or recipe.base_model
    shared_names = [f"{prefix}.{index}.{rest}" for index in indices(part, k)]
    base_name = shared_names[0]
    models = [source.model for source in part.sources]
    if base in models:
        base_name = shared_names[models.index(base)]
    if base is not None:
        base_name = _called(views, base, base_name)
    names = tuple(_called(views, model, name) for model, name in zip(models, shared_names, strict=True))
    return Outline(f"{prefix}.{position}.{rest}", part, relative_depth(k, length(part)), names, base_name)


def _called(views: Mapping[ModelRef, View], model: ModelRef, name: str) -> str:
    return views[model].called.get(name, name)
