"""The models that classifiers, value and reward heads are taken from, and the config's changes that follow."""

from collections.abc import Mapping
from typing import Any

from cuvee.errors import RecipeError
from cuvee.plan.config import differing
from cuvee.plan.names import View
from cuvee.recipe.recipe import Recipe
from cuvee.recipe.reference import ModelRef
from cuvee.structure.labels import KEYS
from cuvee.structure.task_heads import has_tokens, task_head


def head_owners(recipe: Recipe, views: Mapping[ModelRef, View]) -> dict[str, ModelRef]:
    """Return for each head the model that it is taken from; nothing if heads are merged.

    Raises RecipeError where the recipe names a model without a head.
    """
    if recipe.head is None:
        return {}
    heads: dict[str, list[ModelRef]] = {}
    for model, view in views.items():
        tokens = has_tokens(view.source.config)
        for name in view.called:
            head = task_head(name, has_tokens=tokens)
            if head is not None and model not in heads.setdefault(head, []):
                heads[head].append(model)
    if recipe.head == "keep":
        return {head: models[0] for head, models in heads.items()}
    if not any(recipe.head in models for models in heads.values()):
        message = f"'head: {recipe.head}': this model has no classifier, value or reward head"
        hint = f"these heads are in other models: {', '.join(heads)}" if heads else "leave 'head' out"
        raise RecipeError(message, where=recipe.source, hint=hint)
    return dict.fromkeys(heads, recipe.head)


def changes_by_head(recipe: Recipe, views: Mapping[ModelRef, View], donor: ModelRef) -> dict[str, Any]:
    """Return how the donor's config changes with a head of another model: its labels and its architecture."""
    if recipe.head in (None, "keep", donor) or not views[donor].source.config:
        return {}
    own = views[donor].source.config
    theirs = views[recipe.head].source.config  # type: ignore[index]  # a model, not "keep"
    new = {"architectures": theirs["architectures"]} if theirs.get("architectures") else {}
    for key in KEYS:
        if key in theirs:
            new[key] = theirs[key]
        elif key in own:
            new[key] = _TWO_LABELS.get(key)
    return differing(new, own)


_TWO_LABELS: Mapping[str, Any] = {
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
    "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "num_labels": 2,
}
"""The labels of a config that states none: transformers leaves these out."""
