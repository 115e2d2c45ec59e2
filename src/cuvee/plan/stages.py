"""Plans of recipes that follow each other: a stage's plan describes its output before it is made."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cuvee.checkpoint import StoredFile, TensorSource, TensorSpec
from cuvee.errors import CheckpointError, RecipeError
from cuvee.hub import Hub
from cuvee.plan.make import make_plan
from cuvee.plan.plan import Plan
from cuvee.recipe.recipe import Recipe
from cuvee.recipe.reference import ModelRef
from cuvee.tokenizers.read import JSON


class PlannedCheckpoint:
    """The output of a plan as a checkpoint without numbers. `place` is where its tokenizer and card come from."""

    def __init__(self, plan: Plan) -> None:
        donor = plan.sources[plan.donor]
        self.plan = plan
        self.config: dict[str, Any] = {**donor.config, **plan.config_changes}
        made_anew = JSON in plan.vocabulary.texts
        self.place: Path | None = None if made_anew else plan.places[plan.vocabulary.donor]
        self.tensors: Mapping[str, TensorSpec] = {
            step.name: TensorSpec(step.name, step.dtype, step.shape, Path("planned"), 0) for step in plan.steps
        }

    def read_into(self, name: str, start: int, out: Sequence[np.ndarray]) -> None:
        raise CheckpointError(f"'{name}' is not made yet", where=self.plan.recipe.name)

    def will_read(self, name: str, start: int, nbytes: int) -> None:
        pass

    def files(self) -> dict[str, StoredFile]:
        return {"planned": StoredFile(self.plan.forecast.bytes_written, self.plan.digest)}


def plan_stages(
    recipes: Sequence[Recipe],
    *,
    places: Mapping[str, Path] | None = None,
    statistics: Mapping[str, Path] | None = None,
    hub: Hub | None = None,
    custom_code: bool = False,
) -> tuple[Plan, ...]:
    """Plan every stage, of which later stages use the planned outputs of earlier stages.

    Raises CuveeError with all problems of the first stage that has any.
    """
    outputs: dict[ModelRef, TensorSource] = {}
    plans: list[Plan] = []
    for recipe in recipes:
        plan = make_plan(
            recipe, stages=used(recipe, outputs), places=places, statistics=statistics, hub=hub, custom_code=custom_code
        )
        if plan.coded and recipe is not recipes[-1]:
            asked = f"'out_dtype: {recipe.out_dtype}'"
            message = f"{asked} is for the last recipe: later ones would merge what its codes lost"
            raise RecipeError(message, where=recipe.source, hint="say bfloat16")
        plans.append(plan)
        if recipe.name is not None:
            outputs[ModelRef(recipe.name)] = PlannedCheckpoint(plan)
    return tuple(plans)


def used(recipe: Recipe, made: Mapping[ModelRef, TensorSource]) -> dict[ModelRef, TensorSource]:
    """Return the stages that a recipe uses. Raises RecipeError if such a name is a folder's, too."""
    for name in recipe.stages:
        beside = recipe.folder / name if recipe.folder is not None else Path(name)
        if Path(name).exists() or beside.exists():
            message = f"'{name}' is both an earlier stage and a folder or file"
            raise RecipeError(message, where=recipe.source, hint="give the stage another name")
    return {ModelRef(name): made[ModelRef(name)] for name in recipe.stages}
