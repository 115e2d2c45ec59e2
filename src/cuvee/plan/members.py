"""The models that a step combines, in the order in which the method sees them."""

from collections.abc import Iterator
from dataclasses import dataclass

from cuvee.errors import RecipeError
from cuvee.method import Method
from cuvee.plan.materials import Materials
from cuvee.plan.outline import Outline
from cuvee.recipe.recipe import Slice, Source
from cuvee.recipe.reference import ModelRef


@dataclass(frozen=True)
class Member:
    """A source that takes part in an output tensor."""

    model: ModelRef
    tensor: str
    source: Source | None


def members_of(part: Slice, out: Outline | None, materials: Materials) -> list[Member]:
    """List the models that a step of this slice combines; without an outline the names of tensors are empty."""
    base, use = materials.base_of(part), materials.method.base
    members = _sources_of(part, out)
    if base is None:
        return members
    if use in ("delta", "optional"):
        return [member for member in members if member.model != base]
    models = [member.model for member in members]
    if base in models:
        if use == "endpoint":
            first = members.pop(models.index(base))
            return [first, *members]
        return members
    unnamed = Member(base, out.base_name if out else "", None)
    if use == "endpoint":
        return [unnamed, *members]
    if materials.method.models == (1, 1):
        return members  # a base that no slice names only lends its config
    return [*members, unnamed]


def _sources_of(part: Slice, out: Outline | None) -> list[Member]:
    """List the sources of a slice that have the tensor."""
    if out is None:
        return [Member(source.model, "", source) for source in part.sources]
    members = []
    for source, name in zip(part.sources, out.names, strict=True):
        if name is not None:
            members.append(Member(source.model, name, source))
    return members


def member_problems(materials: Materials) -> Iterator[RecipeError]:
    """Every slice has as many models as the method merges."""
    method, recipe = materials.method, materials.recipe
    least, most = method.models
    for i, part in enumerate(recipe.slices):
        count = len(members_of(part, None, materials))
        if least <= count <= (most or count):
            continue
        where = "the recipe"
        if recipe.sliced:
            where = f"slice {i}"
        elif part.module:
            where = f"the module '{part.module}'"
        message = f"'{method.key}' merges {_expected(method)}; {where} names {count}"
        hint = "the base model counts as one of them" if method.base == "endpoint" else None
        yield RecipeError(message, where=recipe.source, hint=hint)


def _expected(method: Method) -> str:
    """Say how many models a method takes: `2 to 4 models besides the base model`."""
    least, most = method.models
    noun = "models"
    if least == 1 and most in (1, None):
        noun = "model"
    if most is None:
        number = f"at least {least}"
    elif least == most:
        number = f"{least}"
    else:
        number = f"{least} to {most}"
    besides = " besides the base model" if method.base in ("delta", "optional") else ""
    return f"{number} {noun}{besides}"
