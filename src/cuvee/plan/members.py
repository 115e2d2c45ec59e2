"""Which models a step combines, in the order in which the method sees them."""

from dataclasses import dataclass

from cuvee.errors import RecipeError
from cuvee.plan.draft import Draft
from cuvee.plan.outline import Outline
from cuvee.recipe.recipe import Slice, Source
from cuvee.recipe.reference import ModelRef


@dataclass(frozen=True)
class Member:
    """A source that takes part in one output tensor."""

    model: ModelRef
    tensor: str
    source: Source | None


def members_of(part: Slice, out: Outline | None, draft: Draft) -> list[Member]:
    """List the models that a step of this slice combines; without an outline only who they are."""
    base, wants = draft.base_of(part), draft.method.base
    names = out.names if out else ("",) * len(part.sources)
    members = [Member(s.model, n, s) for s, n in zip(part.sources, names, strict=True) if n is not None]
    if base is None:
        return members
    base_name = out.base_name if out else ""
    listed = [m for m in members if m.model == base]
    others = [m for m in members if m.model != base]
    if wants in ("delta", "optional"):
        return others
    first = listed[:1] or [Member(base, base_name, None)]
    if wants == "endpoint":
        return first + [m for m in members if m is not first[0]]
    if not listed and draft.method.models == (1, 1):
        return members  # the base only lends its config
    return members if listed else members + first


def check_members(draft: Draft) -> None:
    """Note every slice that has too few or too many models for the method."""
    method, recipe = draft.method, draft.recipe
    least, most = method.models
    for i, part in enumerate(recipe.slices):
        count = len(members_of(part, None, draft))
        if count < least or (most is not None and count > most):
            wanted = f"{least}" if least == most else f"at least {least}" if most is None else f"{least} to {most}"
            besides = " besides the base model" if method.base in ("delta", "optional") else ""
            where = f"slice {i}" if recipe.sliced else f"the module '{part.module}'" if part.module else "the recipe"
            noun = "model" if least == 1 and most in (1, None) else "models"
            message = f"'{method.key}' merges {wanted} {noun}{besides}; {where} names {count}"
            draft.problems.append(RecipeError(message, where=recipe.source))
