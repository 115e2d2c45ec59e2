"""Which output tensors there are, and which tensor of which source each is made of: names only."""

from collections.abc import Sequence
from dataclasses import dataclass

from cuvee.checkpoint import TensorSource
from cuvee.errors import CheckpointError, CuveeError, RecipeError
from cuvee.recipe.recipe import Recipe, Slice
from cuvee.structure import is_before_layers, layer_of, stacks


@dataclass(frozen=True)
class Outline:
    """One output tensor: its slice, its relative depth, and the name that each of the slice's sources has for it.

    `base_name` is the base model's name for it. `source_layer` is the layer taken from the first source.
    """

    name: str
    part: Slice
    depth: float
    names: tuple[str, ...]
    base_name: str
    source_layer: int | None = None


def outline(recipe: Recipe, donor: TensorSource, problems: list[CuveeError]) -> list[Outline]:
    """List the output tensors in the order of the donor's. Notes problems of layer ranges."""
    if recipe.sliced:
        return _sliced(recipe, donor, problems)
    part = recipe.slices[0]
    depths = {stack.prefix: stack.depth for stack in stacks(donor.tensors)}
    result = []
    for name in donor.tensors:
        layer = layer_of(name)
        depth = relative_depth(layer.index, depths[layer.prefix]) if layer else depth_outside(name, recipe)
        result.append(Outline(name, part, depth, (name,) * len(part.sources), name))
    return result


def relative_depth(index: int, layers: int) -> float:
    """Return where the index-th of so many layers is in [0, 1]; 1 for the only one, as in mergekit."""
    return index / (layers - 1) if layers > 1 else 1.0


def depth_outside(name: str, recipe: Recipe) -> float:
    """Return the depth of a tensor outside the layers: in mergekit 0, even for the head; else where it is."""
    return 0.0 if recipe.semantics == "mergekit" or is_before_layers(name) else 1.0


def _sliced(recipe: Recipe, donor: TensorSource, problems: list[CuveeError]) -> list[Outline]:
    found = stacks(donor.tensors)
    if not found:
        problems.append(CheckpointError("'slices' needs a model with layers; none found in the tensor names"))
        return []
    main = found[0]
    others = [stack.prefix for stack in found[1:] if stack.depth > 1]
    if others:
        problems.append(
            CheckpointError(
                f"'slices' needs a model with one stack of layers, found {main.prefix} and {', '.join(others)}"
            )
        )
        return []
    _check_ranges(recipe.slices, main.depth, problems)
    outside = [name for name in donor.tensors if (la := layer_of(name)) is None or la.prefix != main.prefix]
    before = [name for name in outside if is_before_layers(name)]
    inside = [la for name in donor.tensors if (la := layer_of(name)) is not None and la.prefix == main.prefix]
    result = [_fixed(name, recipe.slices[0], recipe) for name in before]
    position = 0
    for part in recipe.slices:
        for k in range(_length(part)):
            first = part.sources[0].layers[0] + k if part.sources[0].layers else k
            rests = [layer.rest for layer in inside if layer.index == first]
            result += [_in_layer(main.prefix, rest, part, k, position, recipe) for rest in rests]
            position += 1
    return result + [_fixed(name, recipe.slices[-1], recipe) for name in outside if not is_before_layers(name)]


def _length(part: Slice) -> int:
    layers = part.sources[0].layers
    return layers[1] - layers[0] if layers else 0


def _fixed(name: str, part: Slice, recipe: Recipe) -> Outline:
    return Outline(name, part, depth_outside(name, recipe), (name,) * len(part.sources), name)


def _in_layer(prefix: str, rest: str, part: Slice, k: int, position: int, recipe: Recipe) -> Outline:
    firsts = [source.layers[0] if source.layers else 0 for source in part.sources]
    names = tuple(f"{prefix}.{first + k}.{rest}" for first in firsts)
    base = part.base_model or recipe.base_model
    listed = [i for i, source in enumerate(part.sources) if source.model == base]
    base_name = names[listed[0]] if listed else names[0]
    depth = relative_depth(k, _length(part))
    return Outline(f"{prefix}.{position}.{rest}", part, depth, names, base_name, firsts[0] + k)


def _check_ranges(slices: Sequence[Slice], depth: int, problems: list[CuveeError]) -> None:
    for i, part in enumerate(slices):
        for source in part.sources:
            if source.layers and source.layers[1] > depth:
                message = f"slice {i} takes layers {list(source.layers)} of {source.model}, which has {depth}"
                problems.append(RecipeError(message, hint="the second number is not included"))
