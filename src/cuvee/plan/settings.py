"""The numbers of each step: settings by model, filter and depth, and whether the method accepts them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cuvee.catalogue import weight_rules
from cuvee.ops.gram import gram
from cuvee.plan.materials import Materials
from cuvee.plan.members import Member
from cuvee.plan.outline import Outline
from cuvee.plan.plan import MergeStep
from cuvee.plan.remarks import LacksSetting, Refusal, Remarks
from cuvee.recipe.recipe import Chosen, Recipe
from cuvee.recipe.setting import Scalar, Setting, value_at


def settings_of(out: Outline, members: Sequence[Member], materials: Materials) -> Remarks[tuple[dict[str, Any], float]]:
    """Return the settings of the method's rule for a tensor, and the scale of its change."""
    resolved: dict[str, Any] = {}
    for name, setting in materials.method.settings.items():
        if name == "weight" and materials.recipe.weights is not None:
            resolved |= yield from _ruled_weights(materials.recipe.weights, out, members, materials)
        elif setting.per_model:
            values = []
            for member in members:
                value = yield from _value(setting, out, member, materials)
                values.append(value)
            resolved[name] = tuple(values)
        else:
            resolved[name] = yield from _value(setting, out, None, materials)
    scale = float(resolved.get("lambda", 1.0))
    own = {name: resolved[name] for name in materials.method.step_settings if name in resolved}
    return own, scale


def _ruled_weights(
    chosen: Chosen, out: Outline, members: Sequence[Member], materials: Materials
) -> Remarks[dict[str, Any]]:
    """Return the weights that a rule gives, or nothing if it has to measure the models first."""
    rule = weight_rules()[chosen.key]
    if rule.measures(chosen.settings):
        return {}
    models: Any = len(members)
    if rule.by_loss:
        models = [_loss(member, materials) for member in members]
    try:
        return {"weight": tuple(rule.rule(models, **chosen.settings))}
    except ValueError as error:
        yield Refusal(str(error), out.name)
        return {"weight": (1.0,) * len(members)}


def _loss(member: Member, materials: Materials) -> float:
    """Return a model's loss by its statistics; 0 where there is none, which is a problem by itself."""
    statistics = materials.statistics.get(member.model)
    if statistics is None or statistics.record.loss is None:
        return 0.0
    return statistics.record.loss


def _value(setting: Setting, out: Outline, member: Member | None, materials: Materials) -> Remarks[Scalar | None]:
    scopes = [out.part.settings, materials.recipe.settings]
    if member is not None and member.source is not None:
        scopes.insert(0, member.source.settings)
    # As in mergekit, filters of a setting by model look at that model's name for the tensor.
    tensor = member.tensor if member else out.name
    value = value_at(scopes, setting.name, tensor, out.depth)
    if value is not None:
        return setting.plain(value)
    if setting.required:
        yield LacksSetting(setting.name, str(member.model) if member else "")
        return 0.0
    return setting.default


def rule_refusal(step: MergeStep, materials: Materials) -> Refusal | None:
    """Try settings that alone decide the coefficients, so that bad settings are refused before a tensor is read."""
    method = materials.method
    needs_tensors = any(survey is not gram for survey in method.surveys.values())
    if method.kind != "coefficient" or needs_tensors:
        return None
    if step.action != "merge" or measures_weights(materials.recipe):
        return None
    settings = as_arrays(step.settings)
    settings |= dict.fromkeys(method.surveys, np.eye(len(step.inputs)))  # of unrelated models
    if method.takes_semantics:
        settings["semantics"] = materials.recipe.semantics
    try:
        method.rule(**settings)
    except ValueError as error:
        return Refusal(str(error), step.name)
    return None


def shares(settings: Mapping[str, Any], scale: float, models: int, *, has_base: bool) -> tuple[float, ...]:
    """Return the shares that models have in a plain mean, which add up to 1, by the weights that a method gives them.

    The share of a base comes last: the rest that the weights and the `scale` of the change leave of 1. Models share
    equally where a method has no weights, where they have yet to be measured, and where any weight is negative.
    """
    weights = _plain_weights(settings, models)
    total = weights.sum()
    if not has_base:
        return tuple((weights / total).tolist())
    # The merge is base + scale · Σ wᵢ (modelᵢ - base): the models' shares are scale · wᵢ, unless normalised.
    sum_of_weights = 1.0 if settings.get("normalize") else float(total)
    used = min(1.0, max(scale, 0.0) * sum_of_weights)
    return (*(weights / total * used).tolist(), 1.0 - used)


def _plain_weights(settings: Mapping[str, Any], models: int) -> np.ndarray:
    weights = settings.get("weight")
    if isinstance(weights, tuple):
        is_plain = min(weights) >= 0 and sum(weights) > 0
        if is_plain:
            return np.asarray(weights, np.float64)
    if "t" in settings and models == 2:
        return np.asarray([1.0 - settings["t"], settings["t"]])
    return np.full(models, 1.0 / models)


def measures_weights(recipe: Recipe) -> bool:
    """Say whether a rule finds the weights by measuring the models."""
    chosen = recipe.weights
    return chosen is not None and weight_rules()[chosen.key].measures(chosen.settings)


def as_arrays(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a step's settings as a rule takes them: numbers by model as an array."""
    arrays = {}
    for name, value in settings.items():
        arrays[name] = np.asarray(value) if isinstance(value, tuple) else value
    return arrays
